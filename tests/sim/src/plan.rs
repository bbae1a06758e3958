//! What happens to a cluster, drawn from the seed: what it is like, and which faults come when. All
//! are over while there is still something to do; then it must come to its end.

use std::time::Duration;

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng, seq::IndexedRandom as _};

use crate::weather::StoreFault;

/// When the first fault may come: everything is up by then.
const FAULTS_BEGIN: Duration = Duration::from_secs(3);
/// When the last one is over.
const FAULTS_END: Duration = Duration::from_secs(24);
/// When the last one is over where the store browns out for a minute.
const FAULTS_END_LATE: Duration = Duration::from_secs(75);
/// How long the store browns out then.
const BROWN_OUT: Duration = Duration::from_secs(60);

/// What a cluster is like.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Workers.
    pub workers: u64,
    /// Rows of each source, and how many come in a second.
    pub rows: i64,
    /// Rows that a source makes in a second.
    pub rows_per_second: i64,
    /// Tasks per fragment.
    pub parallelism: u32,
    /// Time between checkpoints.
    pub checkpoint_ms: u64,
    /// Commits after which a shard is flushed.
    pub flush_epochs: u64,
    /// Time between searches for files that were left behind.
    pub sweep: Duration,
    /// When the last fault is over.
    pub faults_end: Duration,
}

/// Something that happens. Whatever else may be done to a cluster (a savepoint, a fork) is one more
/// of them.
#[derive(Clone, PartialEq, Debug)]
pub enum Action {
    /// The host's process dies. Its connections end, or nobody hears of it (a loss of power).
    Kill {
        /// Host.
        host: String,
        /// Whether what was written and not synced may be lost, and nobody is told.
        power: bool,
    },
    /// Its process is started again.
    Start {
        /// Host.
        host: String,
    },
    /// Nothing comes from a host or goes to it, its requests to the store neither; what is said
    /// arrives when it is over. To others it is as if it slept.
    Pause {
        /// Host.
        host: String,
    },
    /// That is over.
    Resume {
        /// Host.
        host: String,
    },
    /// Between these hosts nothing goes. Connections are lost, or what is said arrives later.
    Cut {
        /// On one side.
        from: Vec<String>,
        /// On the other.
        to: Vec<String>,
        /// Whether what is said is lost.
        lossy: bool,
    },
    /// That is over.
    Heal {
        /// On one side.
        from: Vec<String>,
        /// On the other.
        to: Vec<String>,
    },
    /// Something is wrong with the store.
    Store {
        /// What.
        fault: StoreFault,
        /// For how long.
        lasting: Duration,
    },
    /// The operator wants all jobs to run with so many tasks per fragment.
    Rescale {
        /// So many.
        parallelism: u32,
    },
    /// A fourth node joins the control plane.
    AddNode,
    /// A node leaves the control plane for good.
    RemoveNode {
        /// Its number.
        id: u64,
    },
}

/// What happens when, in order.
pub type Schedule = Vec<(Duration, Action)>;

/// Draws a cluster and its faults.
#[must_use]
pub fn draw(seed: u64) -> (Shape, Schedule) {
    let mut random = SmallRng::seed_from_u64(seed ^ 0x0070_6c61_6e00);
    let is_long = random.random_ratio(1, 12);
    let faults_end = if is_long { FAULTS_END_LATE } else { FAULTS_END };
    let shape = Shape {
        workers: random.random_range(2..=3),
        rows: 0,
        rows_per_second: *[20, 40, 80].choose(&mut random).expect("some"),
        parallelism: random.random_range(1..=4),
        checkpoint_ms: *[200, 400, 900].choose(&mut random).expect("some"),
        flush_epochs: *[4, 12, 64].choose(&mut random).expect("some"),
        sweep: Duration::from_secs(random.random_range(2..=6)),
        faults_end,
    };
    // Jobs must not end before the faults do: what is asked of the store and comes too late could
    // not be told from what nobody tidies up.
    let seconds = faults_end.as_secs().cast_signed() + random.random_range(1..=6);
    let shape = Shape {
        rows: seconds * shape.rows_per_second,
        ..shape
    };
    let mut drawing = Drawing {
        hosts: hosts(shape.workers),
        faults_end,
        random,
        schedule: Vec::new(),
    };
    let incidents = drawing.random.random_range(3..=9);
    for _ in 0..incidents {
        drawing.incident();
    }
    if is_long {
        let lasting = BROWN_OUT;
        let begin = drawing.span(60_000, 60_000).0;
        let fault = StoreFault::BrownOut;
        drawing
            .schedule
            .push((begin, Action::Store { fault, lasting }));
    }
    if drawing.random.random_bool(0.25) {
        drawing.membership();
    }
    if drawing.random.random_bool(0.4) {
        drawing.rescales();
    }
    let mut schedule = drawing.schedule;
    schedule.sort_by_key(|(at, _)| *at);
    (shape, schedule)
}

/// Names of nodes of the control plane at first.
#[must_use]
pub fn control_hosts() -> Vec<String> {
    (1..=3).map(|id| format!("c{id}")).collect()
}

/// Names of state nodes.
#[must_use]
pub fn state_hosts() -> Vec<String> {
    (1..=2).map(|id| format!("s{id}")).collect()
}

/// Names of workers.
#[must_use]
pub fn worker_hosts(workers: u64) -> Vec<String> {
    (1..=workers).map(|id| format!("w{id}")).collect()
}

/// All that faults come to.
#[must_use]
pub fn hosts(workers: u64) -> Vec<String> {
    [control_hosts(), worker_hosts(workers), state_hosts()].concat()
}

struct Drawing {
    hosts: Vec<String>,
    faults_end: Duration,
    random: SmallRng,
    schedule: Schedule,
}

impl Drawing {
    fn ms(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(self.random.random_range(least..=most))
    }

    /// When something begins and ends that lasts so long.
    fn span(&mut self, least_ms: u64, most_ms: u64) -> (Duration, Duration) {
        let lasting = self.ms(least_ms, most_ms);
        let latest = self.faults_end.saturating_sub(lasting).max(FAULTS_BEGIN);
        let (first, last) = (FAULTS_BEGIN.as_millis() as u64, latest.as_millis() as u64);
        let begin = self.ms(first, last);
        (begin, (begin + lasting).min(self.faults_end))
    }

    fn host(&mut self) -> String {
        self.hosts.choose(&mut self.random).expect("some").clone()
    }

    fn incident(&mut self) {
        match self.random.random_range(0..12) {
            0..=3 => {
                let (host, power) = (self.host(), self.random.random_bool(0.4));
                let (begin, end) = self.span(200, 9_000);
                let start = Action::Start { host: host.clone() };
                self.schedule.push((begin, Action::Kill { host, power }));
                self.schedule.push((end, start));
            }
            4 => {
                // Every process of a tier at once.
                let tiers = ['c', 'w', 's'];
                let tier = *tiers.choose(&mut self.random).expect("some");
                let hosts = self.hosts.clone();
                let hosts = hosts.into_iter().filter(|host| host.starts_with(tier));
                let power = self.random.random_bool(0.5);
                let (begin, end) = self.span(200, 4_000);
                for host in hosts {
                    let start = Action::Start { host: host.clone() };
                    self.schedule.push((begin, Action::Kill { host, power }));
                    self.schedule.push((end, start));
                }
            }
            5..=6 => {
                let host = self.host();
                let (begin, end) = self.span(500, 16_000);
                let resume = Action::Resume { host: host.clone() };
                self.schedule.push((begin, Action::Pause { host }));
                self.schedule.push((end, resume));
            }
            7 => {
                // A zombie: it runs, reaches the store, and nobody else.
                let host = self.host();
                let others = self.hosts.iter().filter(|other| **other != host);
                let others = others.cloned().collect();
                self.cut(vec![host], others, 1_000, 16_000);
            }
            8..=9 => {
                let (one, other) = (self.host(), self.host());
                if one != other {
                    self.cut(vec![one], vec![other], 300, 12_000);
                }
            }
            _ => {
                let fault = *StoreFault::ALL.choose(&mut self.random).expect("some");
                let (begin, end) = self.span(500, 12_000);
                let lasting = end - begin;
                self.schedule
                    .push((begin, Action::Store { fault, lasting }));
            }
        }
    }

    fn cut(&mut self, from: Vec<String>, to: Vec<String>, least_ms: u64, most_ms: u64) {
        let (begin, end) = self.span(least_ms, most_ms);
        let lossy = self.random.random_bool(0.5);
        let heal = Action::Heal {
            from: from.clone(),
            to: to.clone(),
        };
        self.schedule.push((begin, Action::Cut { from, to, lossy }));
        self.schedule.push((end, heal));
    }

    /// Up and down, while all else happens.
    fn rescales(&mut self) {
        for _ in 0..self.random.random_range(1..=5) {
            let at = self.span(0, 0).0;
            let parallelism = self.random.random_range(1..=6);
            self.schedule.push((at, Action::Rescale { parallelism }));
        }
    }

    /// A fourth node comes, and one of the first goes.
    fn membership(&mut self) {
        let add = self.ms(3_000, 12_000);
        let remove = add + self.ms(3_000, 9_000);
        let id = self.random.random_range(1..=3);
        self.schedule.push((add, Action::AddNode));
        self.schedule.push((remove, Action::RemoveNode { id }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_always_the_same_and_every_fault_ends() {
        for seed in 0..200 {
            let (_, schedule) = draw(seed);
            assert_eq!(schedule, draw(seed).1);
            assert!(schedule.is_sorted_by_key(|(at, _)| *at));
            let count = |wanted: fn(&Action) -> bool| {
                schedule.iter().filter(|(_, action)| wanted(action)).count()
            };
            let kills = count(|action| matches!(action, Action::Kill { .. }));
            assert_eq!(
                kills,
                count(|action| matches!(action, Action::Start { .. }))
            );
            let cuts = count(|action| matches!(action, Action::Cut { .. }));
            assert_eq!(cuts, count(|action| matches!(action, Action::Heal { .. })));
        }
    }

    #[test]
    fn every_kind_of_fault_is_drawn() {
        let schedules = (0..200).flat_map(|seed| draw(seed).1);
        let kinds = schedules.map(|(_, action)| match action {
            Action::Store { fault, .. } => format!("{fault:?}"),
            action => {
                let text = format!("{action:?}");
                text.split([' ', '{']).next().unwrap_or_default().to_owned()
            }
        });
        let kinds: std::collections::BTreeSet<String> = kinds.collect();
        // Seven of the store, nine others.
        assert_eq!(kinds.len(), 16, "{kinds:?}");
    }
}
