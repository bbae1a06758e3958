//! A model of a running job: fluid rows through stages with queues, tasks that cost time per row,
//! waits for state, hot keys, shared resources, moves that pause, and measurements that lag.

use std::collections::{BTreeMap, VecDeque};

use proto::{policy::AutoscalePolicy, types::Generation};

use crate::autoscale::{
    Autoscaler, Decision, DecisionKind, Pipeline, Sample, Slots, TaskTotals,
    pipeline::{Entry, Feed, Fragment, SourceNode},
};

/// Step of the model.
const STEP_S: f64 = 0.1;
const STEP_US: u64 = 100_000;
/// Figures are at most so many steps old when they are looked at.
const LAG_STEPS: usize = 5;
/// Time from a request to its pause, and the pause.
const MOVE_DELAY_STEPS: u32 = 3;
const MOVE_PAUSE_STEPS: u32 = 7;

/// What a fragment is like.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    /// Time that a row takes a task, in us.
    pub(super) cost_us: f64,
    /// Wait for state per row, in us.
    pub(super) wait_us: f64,
    /// Rows put out per row taken in.
    pub(super) selectivity: f64,
    /// Part of the rows that has one key.
    pub(super) hot: f64,
    /// Rows per second that all tasks together can do, whatever their number.
    pub(super) shared: Option<f64>,
    pub(super) singleton: bool,
    /// Stages whose rows come in; none: it is a source.
    pub(super) feeds: Vec<usize>,
    /// Rows per second that come into being at a source, by the time in s.
    pub(super) arrival: fn(f64) -> f64,
    /// Whether a source says how much waits.
    pub(super) tells: bool,
    /// By what part of it that is wrong at most: a guess.
    pub(super) guess: f64,
}

impl Stage {
    /// A source with so many rows per second.
    pub(super) fn source(cost_us: f64, arrival: fn(f64) -> f64) -> Stage {
        Stage {
            arrival,
            feeds: Vec::new(),
            ..Stage::after(&[], cost_us)
        }
    }

    /// A fragment behind others.
    pub(super) fn after(feeds: &[usize], cost_us: f64) -> Stage {
        Stage {
            cost_us,
            wait_us: 0.0,
            selectivity: 1.0,
            hot: 0.0,
            shared: None,
            singleton: false,
            feeds: feeds.to_vec(),
            arrival: |_| 0.0,
            tells: true,
            guess: 0.0,
        }
    }

    fn shares(&self, tasks: usize) -> Vec<f64> {
        let even = (1.0 - self.hot) / tasks as f64;
        let mut shares = vec![even; tasks];
        shares[0] += self.hot;
        shares
    }
}

#[derive(Clone, Debug, Default)]
struct Task {
    queue: f64,
    totals: TaskTotals,
    /// How much slower than on average it is just now.
    noise: f64,
    history: VecDeque<TaskTotals>,
    rows: f64,
    rows_out: f64,
}

/// A running job under its policy.
pub(super) struct World {
    stages: Vec<Stage>,
    tasks: Vec<Vec<Task>>,
    backlog: Vec<f64>,
    pub(super) scaler: Autoscaler,
    pub(super) policy: AutoscalePolicy,
    pub(super) step: u64,
    pub(super) slots: Slots,
    pub(super) generation: Generation,
    /// Whether changes are carried out at all.
    pub(super) obeys: bool,
    /// A stage of which one task says nothing.
    pub(super) hidden: Option<usize>,
    noise: f64,
    random: u64,
    moving: Option<(u32, BTreeMap<u32, u32>)>,
    /// Rows that were read, by stage.
    pub(super) done: Vec<f64>,
    /// The largest backlog since it was last looked at.
    pub(super) backlog_max: f64,
}

impl World {
    pub(super) fn new(
        stages: Vec<Stage>,
        tasks: &[u32],
        policy: AutoscalePolicy,
        seed: u64,
    ) -> World {
        let pipeline = pipeline(&stages);
        World {
            tasks: tasks
                .iter()
                .map(|count| vec![Task::default(); *count as usize])
                .collect(),
            backlog: vec![0.0; stages.len()],
            done: vec![0.0; stages.len()],
            scaler: Autoscaler::new(pipeline, policy),
            stages,
            policy,
            step: 0,
            slots: Slots::default(),
            generation: Generation(1),
            obeys: true,
            hidden: None,
            noise: 0.1,
            random: seed,
            moving: None,
            backlog_max: 0.0,
        }
    }

    pub(super) fn quiet(mut self) -> World {
        self.noise = 0.0;
        self
    }

    pub(super) fn now_s(&self) -> f64 {
        self.step as f64 * STEP_S
    }

    pub(super) fn counts(&self) -> Vec<u32> {
        self.tasks.iter().map(|tasks| tasks.len() as u32).collect()
    }

    pub(super) fn stage(&mut self, place: usize) -> &mut Stage {
        &mut self.stages[place]
    }

    pub(super) fn backlog(&self) -> f64 {
        self.backlog.iter().sum()
    }

    pub(super) fn add_backlog(&mut self, rows: f64) {
        self.backlog[0] += rows;
    }

    /// Changes that were decided, reverts apart, since decision `after`.
    pub(super) fn rescales(&self, after: u64) -> Vec<Decision> {
        let decisions = self
            .scaler
            .decisions()
            .filter(|decision| decision.number > after);
        let rescales = decisions.filter(|decision| decision.kind != DecisionKind::Advice);
        rescales.cloned().collect()
    }

    pub(super) fn last_decision(&self) -> u64 {
        let last = self.scaler.decisions().next_back();
        last.map_or(0, |decision| decision.number)
    }

    /// Lets so many seconds go by.
    pub(super) fn run(&mut self, seconds: u64) {
        for _ in 0..seconds * 10 {
            self.advance();
        }
    }

    fn advance(&mut self) {
        self.step += 1;
        self.arrive();
        let paused = matches!(&self.moving, Some((left, _)) if *left <= MOVE_PAUSE_STEPS);
        // Room is used up by whoever comes first: stages of one rank take turns.
        let mut order: Vec<usize> = (0..self.stages.len()).collect();
        let sources = self
            .stages
            .iter()
            .take_while(|stage| stage.feeds.is_empty());
        let sources = sources.count();
        let turn = self.step as usize % sources;
        order[..sources].rotate_left(turn);
        for place in order.into_iter().rev() {
            match paused {
                true => self.rest(place),
                false => self.work(place),
            }
        }
        self.move_on();
        self.backlog_max = self.backlog_max.max(self.backlog());
        if self.step.is_multiple_of(10) {
            let sample = self.sample();
            if let Some(rescale) = self.scaler.observe(&sample)
                && self.obeys
            {
                let steps = MOVE_DELAY_STEPS + MOVE_PAUSE_STEPS;
                self.moving = Some((steps, rescale.parallelism));
            }
        }
    }

    fn arrive(&mut self) {
        let now = self.now_s();
        for place in 0..self.stages.len() {
            let varied = 1.0 + self.noise * 0.5 * self.vary();
            self.backlog[place] += (self.stages[place].arrival)(now) * STEP_S * varied;
        }
    }

    /// A number between -1 and 1.
    fn vary(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }

    fn rest(&mut self, place: usize) {
        for task in &mut self.tasks[place] {
            task.totals.total_ns += (STEP_S * 1e9) as u64;
            task.keep();
        }
    }

    fn work(&mut self, place: usize) {
        let stage = self.stages[place].clone();
        let count = self.tasks[place].len();
        let is_source = stage.feeds.is_empty();
        let mut plans = Vec::with_capacity(count);
        for index in 0..count {
            if self.step.is_multiple_of(20) {
                self.tasks[place][index].noise = self.noise * self.vary();
            }
            let task = &self.tasks[place][index];
            let shared_us = stage.shared.map_or(0.0, |rate| count as f64 * 1e6 / rate);
            let cost_s = stage.cost_us.max(shared_us) * (1.0 + task.noise) / 1e6;
            let wait_s = stage.wait_us / 1e6;
            let there = match is_source {
                true => self.backlog[place] / count as f64,
                false => task.queue,
            };
            let can = there.min(STEP_S / (cost_s + wait_s));
            plans.push((can, cost_s, wait_s, there));
        }
        let all: f64 = plans.iter().map(|plan| plan.0).sum();
        let room = self.room(place);
        let part = if all * stage.selectivity > room {
            room / (all * stage.selectivity)
        } else {
            1.0
        };
        for (index, (can, cost_s, wait_s, there)) in plans.into_iter().enumerate() {
            let rows = can * part;
            let task = &mut self.tasks[place][index];
            task.take(rows, rows * stage.selectivity);
            let (busy, wait) = (rows * cost_s, rows * wait_s);
            let left = (STEP_S - busy - wait).max(0.0);
            let held = part < 1.0 && there > rows;
            let ns = |seconds: f64| (seconds * 1e9) as u64;
            task.totals.total_ns += ns(STEP_S);
            task.totals.busy_ns += ns(busy);
            task.totals.state_wait_ns += ns(wait);
            task.totals.blocked_ns += if held { ns(left) } else { 0 };
            task.keep();
            match is_source {
                true => self.backlog[place] -= rows,
                false => self.tasks[place][index].queue -= rows,
            }
            self.done[place] += rows;
        }
        self.pass(place, all * part * stage.selectivity);
    }

    /// Rows that stages behind this one have room for.
    fn room(&self, place: usize) -> f64 {
        let mut room = f64::INFINITY;
        for (behind, stage) in self.stages.iter().enumerate() {
            if stage.feeds.contains(&place) {
                let shares = stage.shares(self.tasks[behind].len());
                // A queue holds what a task does in half a second.
                let most = 0.5e6 / stage.cost_us;
                for (task, share) in self.tasks[behind].iter().zip(shares) {
                    room = room.min((most - task.queue).max(0.0) / share);
                }
            }
        }
        room
    }

    fn pass(&mut self, place: usize, rows: f64) {
        for behind in 0..self.stages.len() {
            if self.stages[behind].feeds.contains(&place) {
                let shares = self.stages[behind].shares(self.tasks[behind].len());
                for (task, share) in self.tasks[behind].iter_mut().zip(shares) {
                    task.queue += rows * share;
                }
            }
        }
    }

    fn move_on(&mut self) {
        let Some((left, to)) = &mut self.moving else {
            return;
        };
        *left -= 1;
        if *left > 0 {
            return;
        }
        let to = std::mem::take(to);
        self.moving = None;
        for (fragment, count) in to {
            self.resize(fragment as usize, count);
        }
    }

    pub(super) fn resize(&mut self, place: usize, count: u32) {
        let queued: f64 = self.tasks[place].iter().map(|task| task.queue).sum();
        let shares = self.stages[place].shares(count as usize);
        let task = |share: f64| Task {
            queue: queued * share,
            ..Task::default()
        };
        self.tasks[place] = shares.into_iter().map(task).collect();
    }

    pub(super) fn sample(&mut self) -> Sample {
        let mut sample = Sample {
            at_us: self.step * STEP_US,
            generation: self.generation,
            running: true,
            slots: self.slots,
            ..Sample::default()
        };
        for place in 0..self.stages.len() {
            let lag = ((self.vary() + 1.0) / 2.0 * LAG_STEPS as f64) as usize;
            let lag = if self.noise > 0.0 { lag } else { 0 };
            let count = self.tasks[place].len();
            let wrong = match self.stages[place].guess {
                guess if guess > 0.0 => guess * self.vary(),
                _ => 0.0,
            };
            let waiting = (self.backlog[place] * (1.0 + wrong)) as u64 / count as u64;
            let stage = &self.stages[place];
            let backlog = stage.tells.then_some(waiting);
            let totals = |task: &Task| {
                let mut totals = task
                    .history
                    .iter()
                    .rev()
                    .nth(lag)
                    .cloned()
                    .unwrap_or_default();
                if stage.feeds.is_empty() {
                    totals.sources = vec![(totals.rows_in, backlog)];
                }
                totals
            };
            let shown = count - usize::from(self.hidden == Some(place));
            let tasks = (0..)
                .zip(self.tasks[place].iter().take(shown).map(totals))
                .collect();
            sample.parallelism.insert(place as u32, count as u32);
            sample.tasks.insert(place as u32, tasks);
        }
        sample
    }

    /// The least tasks that would do at this many rows per second, as the policy means it.
    pub(super) fn optimum(&self, place: usize, rows_per_s: f64) -> u32 {
        let stage = &self.stages[place];
        let target = f64::from(self.policy.target_percent) / 100.0;
        let load = |rows: f64| rows * stage.cost_us / 1e6;
        let hot = load(rows_per_s * stage.hot);
        let rest = load(rows_per_s * (1.0 - stage.hot));
        let fits = |tasks: &u32| {
            let others = rest / f64::from(*tasks);
            let busiest = if stage.hot > 0.0 { 0.95 } else { target };
            others <= target && hot + others <= busiest
        };
        if let Some(tasks) = (1..1000).find(fits) {
            return tasks;
        }
        // The hot key is behind: most of what it allows at all.
        let most = |tasks: u32| 1.0 / (stage.hot + (1.0 - stage.hot) / f64::from(tasks));
        let passing = 0.95 * (1.0 - stage.hot) / stage.hot;
        let good =
            |tasks: &u32| most(*tasks) >= 0.8 / stage.hot && passing / f64::from(*tasks) <= target;
        (1..1000).find(good).expect("some number is good")
    }

    /// Rows per second into a stage when all that arrives now is worked off.
    pub(super) fn rate(&self, place: usize) -> f64 {
        let stage = &self.stages[place];
        if stage.feeds.is_empty() {
            return (stage.arrival)(self.now_s());
        }
        let feeds = stage.feeds.iter();
        feeds
            .map(|from| self.rate(*from) * self.stages[*from].selectivity)
            .sum()
    }

    pub(super) fn optima(&self) -> Vec<u32> {
        let best = |place| {
            self.optimum(place, self.rate(place))
                .clamp(self.policy.min, self.policy.max)
        };
        (0..self.stages.len()).map(best).collect()
    }

    pub(super) fn is_near_optimum(&self) -> bool {
        let counts = self.counts().into_iter().zip(self.optima());
        counts.into_iter().all(|(is, best)| is.abs_diff(best) <= 1)
    }
}

impl Task {
    fn take(&mut self, rows: f64, rows_out: f64) {
        self.rows += rows;
        self.rows_out += rows_out;
        self.totals.rows_in = self.rows as u64;
        self.totals.rows_out = vec![self.rows_out as u64];
    }

    fn keep(&mut self) {
        self.history.push_back(self.totals.clone());
        if self.history.len() > LAG_STEPS + 1 {
            self.history.pop_front();
        }
    }
}

fn pipeline(stages: &[Stage]) -> Pipeline {
    let fragment = |(id, stage): (usize, &Stage)| Fragment {
        id: id as u32,
        name: format!("Stage{id}"),
        singleton: stage.singleton,
        tasks_max: 256,
        nodes: vec![format!("n{id}")],
        sources: match stage.feeds.is_empty() {
            true => vec![SourceNode {
                node: format!("n{id}"),
                table: format!("t{id}"),
            }],
            false => Vec::new(),
        },
        entries: match stage.feeds.is_empty() {
            true => Vec::new(),
            false => vec![Entry {
                node: format!("n{id}"),
                local: Vec::new(),
            }],
        },
        outs: vec![format!("n{id}")],
        feeds: stage
            .feeds
            .iter()
            .map(|from| Feed {
                from: *from,
                out: 0,
            })
            .collect(),
    };
    Pipeline {
        fragments: stages.iter().enumerate().map(fragment).collect(),
    }
}
