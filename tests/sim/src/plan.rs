//! What happens to a cluster, drawn from the seed: what it is like, and which faults come when. All
//! are over while there is still something to do; then it must come to its end.

use std::time::Duration;

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng, seq::IndexedRandom as _};

use crate::{
    operation::{Operation, Pick, Scale, StateAt},
    room::Room,
    weather::StoreFault,
};

/// When the first fault may come: everything is up by then.
const FAULTS_BEGIN: Duration = Duration::from_secs(3);
/// When the last one is over.
const FAULTS_END: Duration = Duration::from_secs(24);
/// When the last one is over where the store browns out for a minute.
const FAULTS_END_LATE: Duration = Duration::from_secs(75);
/// The node of the control plane that joins later.
pub const NEWCOMER: u64 = 4;
/// A worker that has heard no node of the control plane for so long, and a little longer, has stopped
/// its tasks by itself.
const LEASE_MS: u64 = 10_000;
/// Keys that rows are counted by where memory is no matter.
const KEYS: i64 = 7;
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
    /// Keys that rows are counted by.
    pub keys: i64,
    /// What each worker has for the state of its tasks, where that is little.
    pub room: Option<Room>,
    /// Tasks per fragment.
    pub parallelism: u32,
    /// Time between checkpoints.
    pub checkpoint_ms: u64,
    /// Whether their barriers overtake, which they do at once then.
    pub overtakes: bool,
    /// Commits after which a shard is flushed.
    pub flush_epochs: u64,
    /// Time between searches for files that were left behind.
    pub sweep: Duration,
    /// When the last fault is over.
    pub faults_end: Duration,
}

/// Something that happens.
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
    /// Between a host and the store nothing goes; between it and all others everything does.
    CutStore {
        /// Host.
        host: String,
        /// Whether what is asked and answered is lost, or arrives later.
        lossy: bool,
    },
    /// That is over.
    HealStore {
        /// Host.
        host: String,
    },
    /// Something is wrong with the store.
    Store {
        /// What.
        fault: StoreFault,
        /// For how long.
        lasting: Duration,
    },
    /// A worker is told to leave: it does once its tasks run elsewhere, and comes back later.
    Leave {
        /// Host.
        host: String,
        /// How long it is away.
        away: Duration,
    },
    /// Something happens to whoever leads the control plane.
    Depose {
        /// What.
        how: Deposition,
        /// For how long at most.
        lasting: Duration,
        /// Not now, but as soon as the metadata have noted the next routing of a job: its barrier is
        /// about to leave, or under way.
        rerouting: bool,
    },
    /// Somebody asks something of the control plane.
    Ask(Operation),
}

/// What can happen to whoever leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deposition {
    /// Its process dies.
    Kill,
    /// Its machine loses power.
    Power,
    /// It is as if it slept.
    Pause,
    /// It is cut off from all others.
    Cut,
}

impl Deposition {
    /// All of them.
    pub const ALL: [Deposition; 4] = [
        Deposition::Kill,
        Deposition::Power,
        Deposition::Pause,
        Deposition::Cut,
    ];
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
        keys: KEYS,
        room: None,
        parallelism: random.random_range(1..=4),
        checkpoint_ms: *[200, 400, 900].choose(&mut random).expect("some"),
        // Not drawn like the rest: what a seed does to a cluster stays what it was.
        overtakes: !seed.is_multiple_of(3),
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
    // Drawn by itself: what else a seed does to a cluster stays what it was.
    let mut apart = Drawing {
        hosts: hosts(shape.workers),
        faults_end,
        random: SmallRng::seed_from_u64(seed ^ 0x0061_7061_7274),
        schedule: Vec::new(),
    };
    let shape = apart.room(shape);
    apart.isolations();
    let mut drawing = Drawing {
        random,
        schedule: apart.schedule,
        ..apart
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
    if drawing.random.random_bool(0.3) {
        drawing.storm();
    }
    if drawing.random.random_bool(0.5) {
        drawing.states();
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

    fn host_of(&mut self, tier: char) -> String {
        let hosts = self.hosts.iter().filter(|host| host.starts_with(tier));
        let hosts: Vec<&String> = hosts.collect();
        (*hosts.choose(&mut self.random).expect("some")).clone()
    }

    fn incident(&mut self) {
        match self.random.random_range(0..14) {
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
            10 => {
                let host = self.host_of('w');
                let (at, away) = (self.span(0, 0).0, self.ms(500, 6_000));
                self.schedule.push((at, Action::Leave { host, away }));
            }
            11 => {
                let (at, end) = self.span(500, 8_000);
                let how = *Deposition::ALL.choose(&mut self.random).expect("some");
                let (lasting, rerouting) = (end - at, false);
                let depose = Action::Depose {
                    how,
                    lasting,
                    rerouting,
                };
                self.schedule.push((at, depose));
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

    /// In some clusters the state of the jobs is several times what workers have room for.
    fn room(&mut self, shape: Shape) -> Shape {
        if !self.random.random_bool(0.4) {
            return shape;
        }
        // Rows of a cluster whose faults last longer are many as it is.
        let times = if shape.faults_end > FAULTS_END { 1 } else { 4 };
        let shape = Shape {
            rows: shape.rows * times,
            rows_per_second: shape.rows_per_second * times,
            ..shape
        };
        // Each key comes again after so many seconds.
        let keys = shape.rows_per_second * self.random.random_range(2..=8);
        let room = Some(Room::draw(&mut self.random, &shape, keys));
        Shape {
            keys,
            room,
            ..shape
        }
    }

    /// Hosts that one tier does not see, and all others do.
    fn isolations(&mut self) {
        if self.random.random_bool(0.25) {
            // What a lease is for: its state and other workers are within a worker's reach.
            let host = self.host_of('w');
            let mut nodes = control_hosts();
            nodes.push(format!("c{NEWCOMER}"));
            self.cut(vec![host], nodes, LEASE_MS + 1_500, 16_000);
        }
        if self.random.random_bool(0.25) {
            // No other tier asks anything of the store.
            let host = self.host_of('s');
            let (begin, end) = self.span(500, 12_000);
            let lossy = self.random.random_bool(0.5);
            let heal = Action::HealStore { host: host.clone() };
            let cut = Action::CutStore { host, lossy };
            self.schedule.push((begin, cut));
            self.schedule.push((end, heal));
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

    fn ask(&mut self, at: Duration, operation: Operation) {
        self.schedule.push((at, Action::Ask(operation)));
    }

    fn pick(&mut self) -> Pick {
        self.random.random_range(0..60)
    }

    fn scale(&mut self) -> Scale {
        let tasks = self.random.random_range(1..=6);
        match self.random.random_bool(0.3) {
            true => Scale::Operator(self.pick(), tasks),
            false => Scale::All(tasks),
        }
    }

    /// Up and down, while all else happens.
    fn rescales(&mut self) {
        for _ in 0..self.random.random_range(1..=5) {
            let at = self.span(0, 0).0;
            let scale = self.scale();
            self.ask(at, Operation::Rescale(scale));
        }
    }

    /// Many wishes for other numbers of tasks, one right after the other, and maybe another leader in
    /// the midst of it.
    fn storm(&mut self) {
        let (mut at, end) = self.span(1_000, 5_000);
        if self.random.random_bool(0.6) {
            let how = *Deposition::ALL.choose(&mut self.random).expect("some");
            let lasting = self.ms(500, 8_000);
            let rerouting = self.random.random_bool(0.7);
            let depose = Action::Depose {
                how,
                lasting,
                rerouting,
            };
            let begin = at + self.ms(0, 500);
            self.schedule.push((begin, depose));
        }
        while at < end {
            let scale = self.scale();
            self.ask(at, Operation::Rescale(scale));
            at += self.ms(0, 900);
        }
    }

    fn state(&mut self) -> StateAt {
        match self.random.random_range(0..3) {
            0 => StateAt::Newest,
            1 => StateAt::Checkpoint(self.pick()),
            _ => StateAt::Savepoint(self.pick()),
        }
    }

    /// Savepoints, copies, jobs that go on under another number; and what is not needed goes.
    fn states(&mut self) {
        for _ in 0..self.random.random_range(1..=5) {
            let (at, gone) = self.span(100, 15_000);
            let (job, at_state) = (self.pick(), self.state());
            self.ask(at, Operation::Save { job, at: at_state });
            if self.random.random_bool(0.7) {
                let savepoint = self.pick();
                self.ask(gone, Operation::DropSavepoint { savepoint });
            }
        }
        for _ in 0..self.random.random_range(0..=2) {
            let (at, gone) = self.span(500, 12_000);
            let (job, at_state) = (self.pick(), self.state());
            self.ask(at, Operation::Fork { job, at: at_state });
            if self.random.random_bool(0.3) {
                let fork = self.pick();
                self.ask(gone, Operation::CancelFork { fork });
            }
        }
        for _ in 0..self.random.random_range(0..=2) {
            let (at, job) = (self.span(0, 0).0, self.pick());
            self.ask(at, Operation::StopAndRestore { job });
            let (at, job) = (self.faults_end, self.pick());
            self.ask(at, Operation::Forget { job });
        }
    }

    /// A fourth node comes, and one of the first goes.
    fn membership(&mut self) {
        let add = self.ms(3_000, 12_000);
        let remove = add + self.ms(3_000, 9_000);
        let id = self.random.random_range(1..=3);
        self.ask(add, Operation::AddNode { id: NEWCOMER });
        self.ask(remove, Operation::RemoveNode { id });
    }
}

#[cfg(test)]
mod tests {
    use control_stream::StreamTiming;

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
            let cuts = count(|action| matches!(action, Action::CutStore { .. }));
            let heals = count(|action| matches!(action, Action::HealStore { .. }));
            assert_eq!(cuts, heals);
        }
    }

    #[test]
    fn workers_lose_the_control_plane_alone_for_longer_than_their_lease() {
        let lease = StreamTiming::default().lease;
        assert_eq!(lease, Duration::from_millis(LEASE_MS));
        let (mut expire, mut seeds) = (0, 0);
        for (_, schedule) in (0..200).map(draw) {
            seeds += 1;
            let begun = schedule.iter().filter_map(|(at, action)| match action {
                Action::Cut { from, to, .. } if from[0].starts_with('w') && to.len() == 4 => {
                    let all = to.iter().all(|host| host.starts_with('c'));
                    all.then_some((*at, from, to))
                }
                _ => None,
            });
            for (at, worker, nodes) in begun {
                let (from, to) = (worker.clone(), nodes.clone());
                let heal = Action::Heal { from, to };
                let healed = schedule.iter().find(|(_, action)| *action == heal);
                let (end, _) = healed.expect("it ends");
                assert!(*end > at + lease);
                expire += 1;
            }
        }
        assert!(expire > seeds / 10, "{expire} of {seeds}");
    }

    #[test]
    fn in_some_clusters_state_is_larger_than_memory() {
        let shapes = || (0..200).map(|seed| draw(seed).0);
        let little = shapes().filter(|shape| shape.room.is_some()).count();
        assert!((50..150).contains(&little), "{little} of 200");
        let has_all = shapes().filter(|shape| shape.room.is_none());
        assert!(has_all.into_iter().all(|shape| shape.keys == KEYS));
    }

    #[test]
    fn every_kind_of_fault_is_drawn() {
        let schedules = (0..200).flat_map(|seed| draw(seed).1);
        let kinds = schedules.map(|(_, action)| match action {
            Action::Store { fault, .. } => format!("{fault:?}"),
            Action::Depose { how, rerouting, .. } => format!("{how:?} {rerouting}"),
            Action::Ask(Operation::Rescale(Scale::Operator(..))) => "Operator".to_owned(),
            Action::Ask(operation) => name(&format!("{operation:?}")),
            action => name(&format!("{action:?}")),
        });
        let kinds: std::collections::BTreeSet<String> = kinds.collect();
        // Seven of the store, eight that come to a leader, ten operations, nine others.
        assert_eq!(kinds.len(), 34, "{kinds:?}");
    }

    fn name(text: &str) -> String {
        let end = text.find([' ', '{', '(']).unwrap_or(text.len());
        text[..end].to_owned()
    }
}
