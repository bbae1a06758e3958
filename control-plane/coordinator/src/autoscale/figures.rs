//! What a window says about a job: rates, shares of time, what is needed. The inputs of decisions.

use serde::{Deserialize, Serialize};

/// What a window said.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Figures {
    /// When it ended, on the shell's clock.
    pub at_us: u64,
    /// Whether rows wait before some source, beyond what is on its way at any time.
    pub catching_up: bool,
    /// What comes in.
    pub sources: Vec<SourceFigures>,
    /// What is done with it, in the order of the data.
    pub fragments: Vec<FragmentFigures>,
}

/// A source in a window.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct SourceFigures {
    /// The fragment that reads it.
    pub fragment: u32,
    /// Its table.
    pub table: String,
    /// Rows read per second.
    pub rows_per_s: f64,
    /// Rows that came into being per second: what was read and what was added to those that wait.
    /// Where the source cannot tell what waits: what it would bring if nothing held it up.
    pub arrival_per_s: f64,
    /// Rows that waited at the end.
    pub backlog_rows: Option<u64>,
    /// Rows that must be read per second, so that what waits is worked off in time.
    pub target_per_s: f64,
}

/// A fragment in a window. Shares are parts of tasks' time, between 0 and 1.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct FragmentFigures {
    /// Its number in the plan.
    pub fragment: u32,
    /// What it does, in a word.
    pub name: String,
    /// Its tasks.
    pub tasks: u32,
    /// Runs once, whatever the load.
    pub singleton: bool,
    /// Rows taken in per second.
    pub rows_per_s: f64,
    /// Rows that sources' new rows make for it per second.
    pub arrival_per_s: f64,
    /// Rows that it must take in per second for all that is wanted.
    pub target_per_s: f64,
    /// Rows that one task takes in per second at work; `None`: it had none yet.
    pub per_task_per_s: Option<f64>,
    /// At work, on average.
    pub busy: f64,
    /// At work, of the busiest task.
    pub busiest: f64,
    /// Without room downstream, on average.
    pub blocked: f64,
    /// Waiting for state, on average.
    pub state_wait: f64,
    /// Part of its rows that goes to one task whatever the number of tasks, as far as can be seen.
    pub hot: f64,
    /// Tasks that it needs, without regard to bounds.
    pub needed: u32,
}

/// What is learned of a fragment over windows, newer ones weighing more.
#[derive(Clone, Debug, Default)]
pub(super) struct Learned {
    rows_in: f64,
    rows_out: Vec<f64>,
    rows: f64,
    busy: f64,
    state_wait: f64,
}

/// Weight of what is known about selectivities against the newest window: a window aggregate puts
/// out nothing for a while and then much.
const SELECTIVITY_WEIGHT: f64 = 0.8;
/// The same of rates: they change when tasks move, and when what they do changes.
const RATE_WEIGHT: f64 = 0.7;

impl Learned {
    /// Takes a window in.
    pub(super) fn learn(&mut self, rows_in: f64, rows_out: &[f64], busy: f64, state_wait: f64) {
        self.rows_in = self.rows_in * SELECTIVITY_WEIGHT + rows_in;
        self.rows_out.resize(rows_out.len(), 0.0);
        for (known, new) in self.rows_out.iter_mut().zip(rows_out) {
            *known = *known * SELECTIVITY_WEIGHT + new;
        }
        // A window without rows says nothing of how fast they are worked off.
        if rows_in > 0.0 && busy > 0.0 {
            self.rows = self.rows * RATE_WEIGHT + rows_in;
            self.busy = self.busy * RATE_WEIGHT + busy;
            self.state_wait = self.state_wait * RATE_WEIGHT + state_wait;
        }
    }

    /// It has other tasks now: how fast they are is to be seen.
    pub(super) fn forget_rate(&mut self) {
        (self.rows, self.busy, self.state_wait) = (0.0, 0.0, 0.0);
    }

    /// Rows put out per row taken in.
    pub(super) fn selectivity(&self, out: usize) -> f64 {
        let rows_out = self.rows_out.get(out).copied().unwrap_or_default();
        match self.rows_in > 0.0 {
            true => rows_out / self.rows_in,
            false => 0.0,
        }
    }

    /// Rows per second at work: the true processing rate.
    pub(super) fn rate(&self) -> Option<f64> {
        (self.busy > 0.0).then(|| self.rows / self.busy)
    }

    /// The same if waits for state count as work.
    pub(super) fn waiting_rate(&self) -> Option<f64> {
        (self.busy > 0.0).then(|| self.rows / (self.busy + self.state_wait))
    }

    /// Whether it waits for state more than it works.
    pub(super) fn is_waiting(&self) -> bool {
        self.busy > 0.0 && self.state_wait >= self.busy
    }
}
