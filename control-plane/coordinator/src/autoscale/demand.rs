//! DS2's step: from a window to the tasks that every fragment needs. Rates go from the sources
//! through the graph; what cannot be reached anyway (a fragment that state, a hot key or a bound
//! holds back) is not asked of the rest of the graph either.

use proto::policy::AutoscalePolicy;

use super::{
    figures::{Figures, FragmentFigures, Learned, SourceFigures},
    pipeline::{Fragment, Pipeline},
    watch::{FragmentDelta, Measured, SourceDelta, TaskDelta},
};
use crate::caps::{
    AUTOSCALE_BAND, AUTOSCALE_BLOCKED_SHARE, AUTOSCALE_HOT_GAIN, AUTOSCALE_HOT_TARGET,
    AUTOSCALE_LAG_ALLOWED_S, AUTOSCALE_SATURATED, AUTOSCALE_SKEW,
};

/// What one fragment needs, beside its figures.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Need {
    /// Tasks below which there are clearly too few: at the top of the band.
    pub(super) least: u32,
    /// Tasks at the target utilisation.
    pub(super) tasks: u32,
    /// Tasks above which there are clearly too many: at the bottom of the band.
    pub(super) most: u32,
    /// Why more tasks would not help, if that is so.
    pub(super) bound: Option<Bound>,
}

/// What more tasks do not help against.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Bound {
    /// Tasks wait for state more than they work.
    State,
    /// One task has more to do than it can, by rows that stay together.
    HotKey,
    /// Nobody knows what the source could bring.
    Unknown,
}

/// What a window says, and needs.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Demand {
    pub(super) figures: Figures,
    /// By place in the pipeline.
    pub(super) needs: Vec<Need>,
}

/// How many tasks a fragment may have; the rest of the graph needs no more than it can bring then.
pub(super) type Limits<'a> = &'a dyn Fn(usize) -> u32;

/// What a window needs.
pub(super) fn demand(
    pipeline: &Pipeline,
    policy: &AutoscalePolicy,
    learned: &[Learned],
    measured: &Measured,
    limits: Limits<'_>,
) -> Demand {
    let step = Step {
        pipeline,
        learned,
        target: f64::from(policy.target_percent) / 100.0,
    };
    let catch_up_s = policy.catch_up_ms as f64 / 1000.0;
    let sources: Vec<Vec<SourceFigures>> = pipeline
        .fragments
        .iter()
        .zip(&measured.fragments)
        .map(|(fragment, delta)| sources(fragment, delta, catch_up_s))
        .collect();
    let total = |of: fn(&SourceFigures) -> f64| -> Vec<f64> {
        let per_fragment = sources.iter().map(|sources| sources.iter().map(of).sum());
        per_fragment.collect()
    };
    let arrivals = step.flow(&total(|source| source.arrival_per_s));
    let wanted = total(|source| source.target_per_s);
    let unknown = |place: usize| {
        let of = sources.get(place);
        of.is_some_and(|of| of.iter().any(|source| source.backlog_rows.is_none()))
    };

    // What all of it would need, and how much of it can be had at all.
    let loads = step.loads(measured, &step.flow(&wanted), &arrivals, &unknown);
    let needs = loads.iter().map(|load| step.need(load));
    let first: Vec<Need> = needs.collect();
    let held = step.held(&loads, &first, limits);
    let reachable = wanted.iter().zip(&held).map(|(rate, part)| rate * part);
    let flow = step.flow(&reachable.collect::<Vec<f64>>());
    let loads = step.loads(measured, &flow, &arrivals, &unknown);
    let second = loads.iter().zip(&first).map(|(load, first)| Need {
        bound: first.bound,
        ..step.need(load)
    });
    let needs: Vec<Need> = second.collect();

    let fragments = loads.iter().zip(&first);
    let fragments = fragments.map(|(load, first)| FragmentFigures {
        needed: first.tasks,
        ..load.figures.clone()
    });
    let fragments: Vec<FragmentFigures> = fragments.collect();
    let catching_up = sources.iter().zip(&fragments).any(|(sources, fragment)| {
        sources.iter().any(|source| match source.backlog_rows {
            Some(_) => source.target_per_s > source.arrival_per_s,
            None => fragment.blocked > AUTOSCALE_BLOCKED_SHARE,
        })
    });
    Demand {
        figures: Figures {
            at_us: 0,
            catching_up,
            sources: sources.into_iter().flatten().collect(),
            fragments,
        },
        needs,
    }
}

fn sources(fragment: &Fragment, delta: &FragmentDelta, catch_up_s: f64) -> Vec<SourceFigures> {
    let lives = delta.tasks.iter().map(|task| task.life);
    let seconds = lives.sum::<f64>() / (delta.tasks.len().max(1) as f64);
    let blocked: f64 = delta.tasks.iter().map(|task| task.blocked).sum();
    let life: f64 = delta.tasks.iter().map(|task| task.life).sum();
    let free = 1.0 - share(blocked, life);
    let one = |(source, of): (&super::pipeline::SourceNode, &SourceDelta)| {
        let rows_per_s = share(of.rows, seconds);
        let (arrival_per_s, waiting) = match of.backlog {
            Some((before, after)) => {
                let grown = share(after - before, seconds);
                ((rows_per_s + grown).max(0.0), Some(after))
            }
            // What it would bring without being held up, at most ten times what it brings.
            None => (rows_per_s / free.max(0.1), None),
        };
        let allowed = arrival_per_s * AUTOSCALE_LAG_ALLOWED_S;
        let excess = waiting.map_or(0.0, |waiting| (waiting - allowed).max(0.0));
        SourceFigures {
            fragment: fragment.id,
            table: source.table.clone(),
            rows_per_s,
            arrival_per_s,
            backlog_rows: waiting.map(|rows| rows as u64),
            target_per_s: arrival_per_s + excess / catch_up_s,
        }
    };
    fragment
        .sources
        .iter()
        .zip(&delta.sources)
        .map(one)
        .collect()
}

fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

struct Step<'a> {
    pipeline: &'a Pipeline,
    learned: &'a [Learned],
    target: f64,
}

/// A fragment with what it must do.
struct Load {
    figures: FragmentFigures,
    rate: Option<f64>,
    waiting_rate: Option<f64>,
    bound: Option<Bound>,
}

impl Step<'_> {
    /// Rows per second into every fragment, where sources bring so many.
    fn flow(&self, from_sources: &[f64]) -> Vec<f64> {
        let mut rates: Vec<f64> = Vec::with_capacity(self.pipeline.fragments.len());
        for (place, fragment) in self.pipeline.fragments.iter().enumerate() {
            let fed = fragment.feeds.iter().map(|feed| {
                let rate = rates.get(feed.from).copied().unwrap_or_default();
                let learned = self.learned.get(feed.from);
                rate * learned.map_or(0.0, |learned| learned.selectivity(feed.out))
            });
            let own = from_sources.get(place).copied().unwrap_or_default();
            let rate = own + fed.sum::<f64>();
            rates.push(rate);
        }
        rates
    }

    fn loads(
        &self,
        measured: &Measured,
        targets: &[f64],
        arrivals: &[f64],
        unknown: &dyn Fn(usize) -> bool,
    ) -> Vec<Load> {
        let fragments = self.pipeline.fragments.iter().enumerate();
        let parts = fragments.zip(&measured.fragments).zip(targets);
        let parts = parts.zip(arrivals).zip(self.learned);
        parts
            .map(
                |(((((place, fragment), delta), target), arrival), learned)| {
                    let mut load = load(fragment, delta, learned);
                    load.figures.target_per_s = *target;
                    load.figures.arrival_per_s = *arrival;
                    if self.is_state_bound(&load, learned) {
                        load.bound = Some(Bound::State);
                    } else if unknown(place) {
                        load.bound = Some(Bound::Unknown);
                    }
                    load
                },
            )
            .collect()
    }

    /// Whether tasks wait for state more than they work, and have no time left.
    fn is_state_bound(&self, load: &Load, learned: &Learned) -> bool {
        let figures = &load.figures;
        learned.is_waiting() && figures.busy + figures.state_wait >= self.target
    }

    fn need(&self, load: &Load) -> Need {
        let tasks = load.figures.tasks;
        let stays = |bound| Need {
            least: tasks,
            tasks,
            most: tasks,
            bound,
        };
        let (Some(rate), Some(waiting_rate)) = (load.rate, load.waiting_rate) else {
            return stays(load.bound);
        };
        if load.bound.is_some() {
            return stays(load.bound);
        }
        let at = |rate: f64, slack: f64| self.tasks_for(&load.figures, rate, slack);
        let (exact, hot) = at(rate, 1.0);
        Need {
            least: at(rate, 1.0 + AUTOSCALE_BAND).0,
            tasks: exact,
            // Waits are no work, but with fewer tasks there must be time for them too.
            most: at(waiting_rate, 1.0 - AUTOSCALE_BAND).0.max(exact),
            bound: hot.then_some(Bound::HotKey),
        }
    }

    /// Tasks so that each has time for its part, and whether the busiest never has. Against a hot
    /// key the last tasks help little: what has piled up is no reason for them.
    fn tasks_for(&self, figures: &FragmentFigures, rate: f64, slack: f64) -> (u32, bool) {
        let (wanted, behind) = self.tasks_at(figures, figures.target_per_s, rate, slack);
        let arriving = figures.arrival_per_s;
        if behind || figures.hot <= 0.0 || arriving >= figures.target_per_s {
            return (wanted, behind);
        }
        let (needed, _) = self.tasks_at(figures, arriving, rate, slack);
        (wanted.min(needed.max(relieving(figures.hot))), false)
    }

    fn tasks_at(&self, figures: &FragmentFigures, rows: f64, rate: f64, slack: f64) -> (u32, bool) {
        let hot = rows * figures.hot;
        let room = rate * self.target * slack;
        let spread = |rest: f64| ceil(rest / room);
        if hot <= 0.0 {
            return (spread(rows), false);
        }
        let busiest = rate * (AUTOSCALE_HOT_TARGET * slack).min(1.0).max(self.target);
        if hot < busiest {
            let rest = rows - hot;
            return (spread(rest).max(ceil(rest / (busiest - hot))), false);
        }
        // It is behind whatever is done, and no more of the other rows come by than it lets by.
        let rest = busiest * (1.0 - figures.hot) / figures.hot;
        (spread(rest).max(relieving(figures.hot)), true)
    }

    /// For every fragment, the part of what it is to take in that it or something behind it can
    /// work off: what stands before a bottleneck waits for it.
    fn held(&self, loads: &[Load], needs: &[Need], limits: Limits<'_>) -> Vec<f64> {
        let mut parts: Vec<f64> = Vec::with_capacity(loads.len());
        for (place, (load, need)) in loads.iter().zip(needs).enumerate() {
            let reach = self.reach(load, need, limits(place));
            let wanted = load.figures.target_per_s;
            parts.push(if wanted > reach { reach / wanted } else { 1.0 });
        }
        for (place, fragment) in self.pipeline.fragments.iter().enumerate().rev() {
            let part = parts.get(place).copied().unwrap_or(1.0);
            for feed in &fragment.feeds {
                if let Some(before) = parts.get_mut(feed.from) {
                    *before = before.min(part);
                }
            }
        }
        parts
    }

    /// Rows per second that a fragment can take in with the tasks that it needs and may have.
    fn reach(&self, load: &Load, need: &Need, limit: u32) -> f64 {
        let figures = &load.figures;
        let Some(rate) = load.rate else {
            return f64::INFINITY;
        };
        match need.bound {
            // What it does now, at its best.
            Some(Bound::State) => {
                let used = figures.busy + figures.state_wait;
                return share(figures.rows_per_s, used.max(0.01));
            }
            Some(Bound::Unknown) => return f64::INFINITY,
            Some(Bound::HotKey) | None => {}
        }
        let tasks = match figures.singleton {
            true => 1,
            false => need.tasks.min(limit).max(1),
        };
        if tasks >= need.tasks && need.bound.is_none() {
            return f64::INFINITY;
        }
        let of_busiest = figures.hot + (1.0 - figures.hot) / f64::from(tasks);
        let part = match figures.hot > 0.0 {
            true => AUTOSCALE_HOT_TARGET.max(self.target),
            false => self.target,
        };
        rate * part / of_busiest
    }
}

/// Tasks that take most of the other rows off the one with the hot key.
fn relieving(hot: f64) -> u32 {
    let part = (1.0 - hot) / hot;
    ceil(part * AUTOSCALE_HOT_GAIN / (1.0 - AUTOSCALE_HOT_GAIN))
}

fn ceil(tasks: f64) -> u32 {
    // What is a whole number but for the last digits is one.
    let tasks = (tasks - 1e-9).ceil().clamp(1.0, f64::from(u32::MAX));
    tasks as u32
}

fn load(fragment: &Fragment, delta: &FragmentDelta, learned: &Learned) -> Load {
    let tasks = &delta.tasks;
    let rate = |task: &TaskDelta| share(task.rows_in, task.life);
    let mean = |of: &dyn Fn(&TaskDelta) -> f64| {
        let all: f64 = tasks.iter().map(of).sum();
        share(all, tasks.len() as f64)
    };
    let most = |of: &dyn Fn(&TaskDelta) -> f64| tasks.iter().map(of).fold(0.0, f64::max);
    let busy = |task: &TaskDelta| share(task.busy, task.life);
    let used = |task: &TaskDelta| share(task.busy + task.state_wait, task.life);
    let figures = FragmentFigures {
        fragment: fragment.id,
        name: fragment.name.clone(),
        tasks: delta.count,
        singleton: fragment.singleton,
        rows_per_s: tasks.iter().map(rate).sum(),
        arrival_per_s: 0.0,
        target_per_s: 0.0,
        per_task_per_s: learned.rate(),
        busy: mean(&busy),
        busiest: most(&busy),
        blocked: mean(&|task| share(task.blocked, task.life)),
        state_wait: mean(&|task| share(task.state_wait, task.life)),
        hot: hot(tasks),
        needed: 0,
    };
    // Who has no time left loses rows by waits as by work.
    let saturated = most(&used) >= AUTOSCALE_SATURATED;
    Load {
        rate: match saturated {
            true => learned.waiting_rate(),
            false => learned.rate(),
        },
        waiting_rate: learned.waiting_rate(),
        bound: None,
        figures,
    }
}

/// The part of the rows that one task has beyond its share, and that more tasks would not take off
/// it: a hot key.
fn hot(tasks: &[TaskDelta]) -> f64 {
    let all: f64 = tasks.iter().map(|task| task.rows_in).sum();
    let most = tasks.iter().map(|task| task.rows_in).fold(0.0, f64::max);
    if tasks.len() < 2 || all <= 0.0 {
        return 0.0;
    }
    let others = (all - most) / (tasks.len() - 1) as f64;
    match most > others * (1.0 + AUTOSCALE_SKEW) {
        true => (most - others) / all,
        false => 0.0,
    }
}
