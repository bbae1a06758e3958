//! The policy as a state machine: samples in, at most one change of the parallelism at a time out,
//! and what was decided and why for whoever asks.

use std::collections::{BTreeMap, VecDeque};

use proto::{policy::AutoscalePolicy, types::Generation};

use super::{
    advice::{Advice, advice},
    decision::{Change, Decision, DecisionKind, Decisions, Outcome, wanted},
    demand::{Demand, Need, demand},
    figures::{Figures, FragmentFigures, Learned},
    flight::{Flight, NoHelp, Stage},
    memory::Memory,
    pipeline::Pipeline,
    sample::{Sample, Slots},
    text,
    watch::{Measured, Watch},
};
use crate::caps::{
    AUTOSCALE_CAPACITY_PATIENCE_US, AUTOSCALE_DOWN_WINDOWS, AUTOSCALE_HOLD_US,
    AUTOSCALE_MOVE_PATIENCE_US, AUTOSCALE_UP_WINDOWS, AUTOSCALE_WARM_UP_US,
};

/// A change to carry out: tasks by fragment id. Fragments that are not in it stay as they are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rescale {
    /// Number of the decision that is carried out.
    pub decision: u64,
    /// By fragment id.
    pub parallelism: BTreeMap<u32, u32>,
}

/// What the policy is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AutoscalerState {
    /// Looks whether something should change.
    Watching,
    /// Has decided; there is no room yet.
    WaitingForCapacity,
    /// What it decided is being carried out.
    Moving,
    /// Looks whether what was carried out helps.
    Verifying,
}

/// Follows the load of one job.
#[derive(Clone, Debug)]
pub struct Autoscaler {
    pipeline: Pipeline,
    policy: AutoscalePolicy,
    watch: Watch,
    /// By place in the pipeline, as `tracks`.
    learned: Vec<Learned>,
    tracks: Vec<Track>,
    memory: Memory,
    flight: Option<Flight>,
    /// What is measured until then is thrown away.
    warm_us: u64,
    /// Nothing is decided until then.
    hold_us: u64,
    generation: Option<Generation>,
    parallelism: BTreeMap<u32, u32>,
    slots: Slots,
    latest: Option<Figures>,
    advice: Advice,
    decisions: Decisions,
}

/// What the last windows said of a fragment.
#[derive(Clone, Debug, Default)]
struct Track {
    /// Windows in a row that asked for more tasks.
    ups: usize,
    /// Tasks that the last windows in a row could do with, all fewer than there are.
    downs: VecDeque<u32>,
}

impl Autoscaler {
    /// A policy over a plan. It begins without knowing anything.
    #[must_use]
    pub fn new(pipeline: Pipeline, policy: AutoscalePolicy) -> Autoscaler {
        let fragments = pipeline.fragments.len();
        Autoscaler {
            pipeline,
            policy,
            watch: Watch::default(),
            learned: vec![Learned::default(); fragments],
            tracks: vec![Track::default(); fragments],
            memory: Memory::default(),
            flight: None,
            warm_us: 0,
            hold_us: 0,
            generation: None,
            parallelism: BTreeMap::new(),
            slots: Slots::default(),
            latest: None,
            advice: Advice::default(),
            decisions: Decisions::default(),
        }
    }

    /// What it follows.
    #[must_use]
    pub fn policy(&self) -> AutoscalePolicy {
        self.policy
    }

    /// What samples are made with.
    #[must_use]
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// Follows another policy from now on. What did not help under the old one may be tried again.
    pub fn set_policy(&mut self, policy: AutoscalePolicy) {
        self.policy = policy;
        self.memory = Memory::default();
        self.hold_us = 0;
        self.tracks.fill(Track::default());
    }

    /// Takes a look at the job; a change to carry out, if there is one to begin with now. That it
    /// was carried out shows in later samples.
    pub fn observe(&mut self, sample: &Sample) -> Option<Rescale> {
        self.slots = sample.slots;
        self.follow(sample);
        if !sample.running || sample.at_us < self.warm_us {
            self.watch.restart();
        } else if let Some(measured) = self.watch.push(&self.pipeline, sample) {
            self.on_window(&measured, sample.at_us);
        }
        self.depart(sample.at_us)
    }

    /// The change that was asked for last is not carried out.
    pub fn refuse(&mut self, why: String, now_us: u64) {
        if let Some(flight) = self.flight.take() {
            self.fail(flight.number, why, now_us);
        }
    }

    /// What it is doing.
    #[must_use]
    pub fn state(&self) -> AutoscalerState {
        match self.flight.as_ref().map(|flight| flight.stage) {
            None => AutoscalerState::Watching,
            Some(Stage::Waiting(_)) => AutoscalerState::WaitingForCapacity,
            Some(Stage::Moving(_)) => AutoscalerState::Moving,
            Some(Stage::Done) => AutoscalerState::Verifying,
        }
    }

    /// What the last window said.
    #[must_use]
    pub fn figures(&self) -> Option<&Figures> {
        self.latest.as_ref()
    }

    /// The last decisions, oldest first.
    pub fn decisions(&self) -> impl DoubleEndedIterator<Item = &Decision> {
        self.decisions.iter()
    }

    /// What more tasks do not help against, as it is now, for people.
    pub fn notes(&self) -> impl Iterator<Item = &str> {
        self.advice.iter()
    }

    /// Slots that the job has use for: as many as its largest fragment has tasks, or is to have.
    #[must_use]
    pub fn slots_wanted(&self) -> u32 {
        let flight = self.flight.iter().flat_map(|flight| &flight.changes);
        let coming = flight.map(|change| change.to);
        let there = self.parallelism.values().copied();
        there.chain(coming).max().unwrap_or(1)
    }

    /// Looks what has changed about the job itself.
    fn follow(&mut self, sample: &Sample) {
        let same = self.generation == Some(sample.generation);
        if !same || !sample.running || self.parallelism != sample.parallelism {
            self.warm_us = sample.at_us.saturating_add(AUTOSCALE_WARM_UP_US);
        }
        for (place, fragment) in self.pipeline.fragments.iter().enumerate() {
            let tasks = sample.parallelism.get(&fragment.id);
            if self.parallelism.get(&fragment.id) != tasks {
                let learned = self.learned.get_mut(place);
                learned.into_iter().for_each(Learned::forget_rate);
                let track = self.tracks.get_mut(place);
                track
                    .into_iter()
                    .for_each(|track| *track = Track::default());
            }
        }
        self.generation = Some(sample.generation);
        self.parallelism.clone_from(&sample.parallelism);
        let Some(flight) = &mut self.flight else {
            return;
        };
        let arrived = (flight.changes.iter())
            .all(|change| sample.parallelism.get(&change.fragment) == Some(&change.to));
        match flight.stage {
            Stage::Moving(_) if arrived => {
                flight.stage = Stage::Done;
                let number = flight.number;
                let verify = flight.verify;
                let outcome = match verify {
                    true => Outcome::Verifying,
                    false => Outcome::Kept,
                };
                self.decisions.set_outcome(number, outcome);
                if !verify {
                    self.flight = None;
                }
            }
            // Somebody else has changed it meanwhile: there is nothing left to look at.
            Stage::Done if !arrived => {
                self.decisions.set_outcome(flight.number, Outcome::Kept);
                self.flight = None;
            }
            Stage::Moving(since_us) => {
                if sample.at_us.saturating_sub(since_us) >= AUTOSCALE_MOVE_PATIENCE_US {
                    let seconds = AUTOSCALE_MOVE_PATIENCE_US / 1_000_000;
                    let why = format!("it was not carried out within {seconds} s");
                    self.refuse(why, sample.at_us);
                }
            }
            Stage::Waiting(_) | Stage::Done => {}
        }
    }

    fn on_window(&mut self, measured: &Measured, now_us: u64) {
        if !measured.is_complete() {
            return;
        }
        self.learn(measured);
        let demand = self.demand(measured, now_us);
        self.memory.compare(&demand.figures);
        self.advise(&demand);
        self.track(&demand);
        match self.flight.as_mut().map(|flight| flight.stage) {
            None => self.consider(&demand, now_us),
            Some(Stage::Waiting(_)) => self.reconsider(&demand, now_us),
            Some(Stage::Moving(_)) => {}
            Some(Stage::Done) => self.verify(&demand, now_us),
        }
        self.latest = Some(demand.figures);
    }

    fn learn(&mut self, measured: &Measured) {
        for (learned, delta) in self.learned.iter_mut().zip(&measured.fragments) {
            let mut rows_out: Vec<f64> = Vec::new();
            for task in &delta.tasks {
                rows_out.resize(rows_out.len().max(task.rows_out.len()), 0.0);
                let sums = rows_out.iter_mut().zip(&task.rows_out);
                sums.for_each(|(sum, rows)| *sum += rows);
            }
            let rows_in = delta.tasks.iter().map(|task| task.rows_in).sum();
            let busy = delta.tasks.iter().map(|task| task.busy).sum();
            let state_wait = delta.tasks.iter().map(|task| task.state_wait).sum();
            learned.learn(rows_in, &rows_out, busy, state_wait);
        }
    }

    fn demand(&self, measured: &Measured, now_us: u64) -> Demand {
        let limits = |place: usize| {
            let limit = self.limit(place);
            let fragment = self.pipeline.fragments.get(place);
            let ceiling = fragment.and_then(|fragment| self.memory.ceiling(fragment.id));
            ceiling.map_or(limit, |ceiling| ceiling.min(limit))
        };
        let learned = &self.learned;
        let mut demand = demand(&self.pipeline, &self.policy, learned, measured, &limits);
        demand.figures.at_us = now_us;
        demand
    }

    /// Tasks that a fragment may have.
    fn limit(&self, place: usize) -> u32 {
        let fragment = self.pipeline.fragments.get(place);
        let tasks_max = fragment.map_or(1, |fragment| fragment.tasks_max);
        let slots = self.slots.most.unwrap_or(u32::MAX);
        self.policy.max.min(tasks_max).min(slots).max(1)
    }

    /// Counts what windows in a row say.
    fn track(&mut self, demand: &Demand) {
        for place in 0..self.pipeline.fragments.len() {
            let Some((fragment, need)) = at(demand, place) else {
                continue;
            };
            let (more, fewer) = (
                self.more(place, fragment, need),
                self.fewer(place, fragment, need),
            );
            let Some(track) = self.tracks.get_mut(place) else {
                continue;
            };
            track.ups = if more.is_some() { track.ups + 1 } else { 0 };
            match fewer.filter(|_| !demand.figures.catching_up) {
                Some(tasks) => {
                    track.downs.push_back(tasks);
                    if track.downs.len() > AUTOSCALE_DOWN_WINDOWS {
                        track.downs.pop_front();
                    }
                }
                None => track.downs.clear(),
            }
        }
    }

    /// The tasks that a fragment should have if it has clearly too few.
    fn more(&self, place: usize, fragment: &FragmentFigures, need: Need) -> Option<u32> {
        let limit = self.limit(place);
        let ceiling = self.memory.ceiling(fragment.fragment);
        let most = ceiling.map_or(limit, |ceiling| ceiling.min(limit));
        let clearly = need.least.min(most) > fragment.tasks;
        (clearly && !fragment.singleton).then(|| need.tasks.min(most))
    }

    /// The tasks that it should have if it has clearly too many.
    fn fewer(&self, place: usize, fragment: &FragmentFigures, need: Need) -> Option<u32> {
        let least = self.policy.min.min(self.limit(place));
        let floor = self.memory.floor(fragment.fragment).unwrap_or_default();
        let least = least.max(floor);
        let clearly = need.most.max(least) < fragment.tasks;
        (clearly && !fragment.singleton).then(|| need.tasks.max(least))
    }

    /// Decides whether something changes now.
    fn consider(&mut self, demand: &Demand, now_us: u64) {
        if now_us < self.hold_us {
            return;
        }
        let mut changes = Vec::new();
        // Once one fragment must change, all that need more change with it: one step is enough.
        let ready = self
            .tracks
            .iter()
            .any(|track| track.ups >= AUTOSCALE_UP_WINDOWS);
        for place in 0..self.pipeline.fragments.len() {
            let Some((fragment, need)) = at(demand, place) else {
                continue;
            };
            let Some((to, reason)) = self.resize(demand, place, fragment, need, ready) else {
                continue;
            };
            changes.push(Change {
                fragment: fragment.fragment,
                from: fragment.tasks,
                to,
                reason,
            });
        }
        if changes.is_empty() {
            return;
        }
        for change in &changes {
            let arrival = arrival(&demand.figures, change.fragment);
            match change.to > change.from {
                true => self.memory.raise(change.fragment, change.to),
                false => self.memory.lower(change.fragment, change.from, arrival),
            }
        }
        self.begin(DecisionKind::Rescale, changes, &demand.figures);
    }

    /// Another number of tasks for a fragment, and why.
    fn resize(
        &self,
        demand: &Demand,
        place: usize,
        fragment: &FragmentFigures,
        need: Need,
        ready: bool,
    ) -> Option<(u32, String)> {
        let from = fragment.tasks;
        let limit = self.limit(place);
        let least = self.policy.min.min(limit);
        if !fragment.singleton && !(least..=limit).contains(&from) {
            let to = from.clamp(least, limit);
            return Some((to, text::bounds(fragment, (from, to))));
        }
        let track = self.tracks.get(place)?;
        let to = match self.more(place, fragment, need).filter(|_| ready) {
            Some(to) => to,
            None if track.downs.len() >= AUTOSCALE_DOWN_WINDOWS => *track.downs.iter().max()?,
            None => return None,
        };
        let percent = self.policy.target_percent;
        let reason = text::resize(&demand.figures, fragment, percent, (from, to));
        Some((to, reason))
    }

    fn begin(&mut self, kind: DecisionKind, changes: Vec<Change>, figures: &Figures) {
        let reasons: Vec<&str> = changes
            .iter()
            .map(|change| change.reason.as_str())
            .collect();
        let reason = reasons.join("; ");
        let verify = kind == DecisionKind::Rescale;
        let number = self
            .decisions
            .push(kind, changes.clone(), reason, figures.clone());
        self.flight = Some(Flight::new(number, changes, figures, verify));
        self.tracks.fill(Track::default());
    }

    /// While there is no room: whether the decision is still a good one.
    fn reconsider(&mut self, demand: &Demand, now_us: u64) {
        let flight = self.flight.as_ref();
        if flight.is_some_and(|flight| flight.verify && !flight.is_wanted(demand)) {
            self.refuse("it was not needed any more".to_owned(), now_us);
            self.hold_us = now_us;
        }
    }

    fn verify(&mut self, demand: &Demand, now_us: u64) {
        let Some(flight) = &mut self.flight else {
            return;
        };
        let Some(no_help) = flight.verify(demand) else {
            return;
        };
        let number = flight.number;
        self.flight = None;
        if no_help.is_empty() {
            self.decisions.set_outcome(number, Outcome::Kept);
            // What the windows meanwhile have shown counts.
            return self.consider(demand, now_us);
        }
        self.decisions.set_outcome(number, Outcome::DidNotHelp);
        let back = no_help.iter().filter_map(|NoHelp { change, gain }| {
            let mut fragments = demand.figures.fragments.iter();
            let fragment = fragments.find(|fragment| fragment.fragment == change.fragment)?;
            Some(Change {
                fragment: change.fragment,
                from: change.to,
                to: change.from,
                reason: text::no_help(fragment, (change.from, change.to), *gain),
            })
        });
        let back: Vec<Change> = back.collect();
        for change in &back {
            let arrival = arrival(&demand.figures, change.fragment);
            self.memory
                .did_not_help(change.fragment, change.to, arrival);
        }
        self.begin(DecisionKind::Revert, back, &demand.figures);
    }

    /// Has the decision carried out as soon as there is room.
    fn depart(&mut self, now_us: u64) -> Option<Rescale> {
        let flight = self.flight.as_mut()?;
        let Stage::Waiting(since_us) = flight.stage else {
            return None;
        };
        let largest = self.parallelism.values().copied().max().unwrap_or_default();
        let coming = flight.changes.iter().map(|change| change.to).max();
        let needed = coming.unwrap_or_default();
        if let Some(there) = self.slots.now
            && needed > largest
            && needed > there
        {
            if now_us.saturating_sub(since_us) >= AUTOSCALE_CAPACITY_PATIENCE_US {
                let why =
                    format!("there is room for {there} tasks of a fragment, not for {needed}");
                self.refuse(why, now_us);
            }
            return None;
        }
        flight.stage = Stage::Moving(now_us);
        let parallelism = wanted(&flight.changes);
        let number = flight.number;
        self.decisions.set_outcome(number, Outcome::Moving);
        Some(Rescale {
            decision: number,
            parallelism,
        })
    }

    /// Says what no number of tasks helps against.
    fn advise(&mut self, demand: &Demand) {
        let pairs = demand.figures.fragments.iter().zip(&demand.needs);
        let of = |(place, (fragment, need)): (usize, (&FragmentFigures, &Need))| {
            let limit = if fragment.singleton {
                1
            } else {
                self.limit(place)
            };
            let ceiling = self.memory.ceiling(fragment.fragment);
            let (kind, text) = advice(fragment, *need, limit, ceiling)?;
            Some(((fragment.fragment, kind), text))
        };
        let now = pairs.enumerate().filter_map(of).collect();
        for text in self.advice.update(now) {
            let (kind, figures) = (DecisionKind::Advice, demand.figures.clone());
            self.decisions.push(kind, Vec::new(), text, figures);
        }
    }

    fn fail(&mut self, number: u64, why: String, now_us: u64) {
        self.decisions.set_outcome(number, Outcome::Failed { why });
        self.hold_us = now_us.saturating_add(AUTOSCALE_HOLD_US);
    }
}

fn at(demand: &Demand, place: usize) -> Option<(&FragmentFigures, Need)> {
    let fragment = demand.figures.fragments.get(place)?;
    Some((fragment, *demand.needs.get(place)?))
}

fn arrival(figures: &Figures, fragment: u32) -> f64 {
    let mut known = figures.fragments.iter();
    let of = known.find(|known| known.fragment == fragment);
    of.map_or(0.0, |of| of.arrival_per_s)
}
