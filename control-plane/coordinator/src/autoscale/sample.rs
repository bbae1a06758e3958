//! What is measured of a job at one moment: totals per fragment and task since the tasks began.

use std::collections::BTreeMap;

use proto::{
    control::{JobMetrics, OperatorMetrics},
    types::Generation,
};

use super::pipeline::{Fragment, Pipeline};

/// A look at a job.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Sample {
    /// When, on the shell's clock, which never goes back.
    pub at_us: u64,
    /// The job's generation.
    pub generation: Generation,
    /// Whether its rows flow.
    pub running: bool,
    /// Tasks of each fragment, by id, as they are now.
    pub parallelism: BTreeMap<u32, u32>,
    /// Room for tasks.
    pub slots: Slots,
    /// Totals by fragment id and task index.
    pub tasks: BTreeMap<u32, BTreeMap<u32, TaskTotals>>,
}

/// Room for tasks, where it is counted. A slot takes one task of every fragment of a job, as
/// fragments' tasks of one index run together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Slots {
    /// That the job may use now.
    pub now: Option<u32>,
    /// That it could use if all capacity were there that may be.
    pub most: Option<u32>,
}

/// What a task has done since it began.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TaskTotals {
    /// Its life, in ns.
    pub total_ns: u64,
    /// Of it at work in any of its operators.
    pub busy_ns: u64,
    /// Without room downstream.
    pub blocked_ns: u64,
    /// Waiting for nothing but state.
    pub state_wait_ns: u64,
    /// Rows that came into the fragment: from other fragments, and from sources.
    pub rows_in: u64,
    /// Rows that left it, by the operators that send to other fragments.
    pub rows_out: Vec<u64>,
    /// Per source: rows read, and rows that wait to be read if it can tell.
    pub sources: Vec<(u64, Option<u64>)>,
}

impl Sample {
    /// Takes the figures of a job's operators together by task.
    #[must_use]
    pub fn with_metrics(mut self, pipeline: &Pipeline, metrics: &JobMetrics) -> Sample {
        for fragment in &pipeline.fragments {
            let tasks = self.tasks.entry(fragment.id).or_default();
            let known = fragment.nodes.iter().filter_map(|node| metrics.get(node));
            for index in known.flat_map(BTreeMap::keys) {
                if !tasks.contains_key(index) {
                    tasks.insert(*index, totals(fragment, metrics, *index));
                }
            }
        }
        self
    }
}

fn totals(fragment: &Fragment, metrics: &JobMetrics, index: u32) -> TaskTotals {
    let of = |node: &String| metrics.get(node).and_then(|tasks| tasks.get(&index));
    let rows_out = |node: &String| of(node).map_or(0, |figures| figures.rows_out);
    let mut totals = TaskTotals {
        rows_out: fragment.outs.iter().map(rows_out).collect(),
        ..TaskTotals::default()
    };
    for figures in fragment.nodes.iter().filter_map(of) {
        // Operators have their own work; waits and the whole are the task's.
        totals.busy_ns += figures.busy_ns;
        totals.total_ns = totals.total_ns.max(life_ns(figures));
        totals.blocked_ns = totals.blocked_ns.max(figures.blocked_ns);
        totals.state_wait_ns = totals.state_wait_ns.max(figures.state_wait_ns);
    }
    for entry in &fragment.entries {
        let all = of(&entry.node).map_or(0, |figures| figures.rows_in);
        let local: u64 = entry.local.iter().map(rows_out).sum();
        totals.rows_in += all.saturating_sub(local);
    }
    for source in &fragment.sources {
        let figures = of(&source.node);
        let rows = figures.map_or(0, |figures| figures.rows_out);
        let backlog = figures.and_then(|figures| figures.backlog_rows);
        totals.rows_in += rows;
        totals.sources.push((rows, backlog));
    }
    totals
}

fn life_ns(figures: &OperatorMetrics) -> u64 {
    let waits = figures.blocked_ns.saturating_add(figures.state_wait_ns);
    let own = figures.busy_ns.saturating_add(figures.idle_ns);
    own.saturating_add(waits)
}
