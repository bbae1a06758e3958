//! From totals to what happened in a window: differences, whatever tasks came, went or began anew.

use std::collections::BTreeMap;

use super::{
    pipeline::Pipeline,
    sample::{Sample, TaskTotals},
};
use crate::caps::AUTOSCALE_WINDOW_US;

/// How much older than the last sample a task may look that has begun since: figures travel.
const YOUNG_SLACK_NS: u64 = 1_000_000_000;

/// Gathers samples into windows.
#[derive(Clone, Debug, Default)]
pub(super) struct Watch {
    begun: Option<Sample>,
    /// When the last sample was taken.
    last_us: u64,
    /// The newest totals of every task that was ever seen: one whose worker was silent for a while
    /// comes back with all that it did meanwhile.
    seen: BTreeMap<(u32, u32), TaskTotals>,
    tasks: BTreeMap<(u32, u32), TaskDelta>,
}

/// What happened in a window.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Measured {
    /// By place in the pipeline.
    pub(super) fragments: Vec<FragmentDelta>,
}

/// What a fragment did.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct FragmentDelta {
    /// Tasks that it has.
    pub(super) count: u32,
    /// Those that said what they did.
    pub(super) tasks: Vec<TaskDelta>,
    pub(super) sources: Vec<SourceDelta>,
}

/// What a source brought.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct SourceDelta {
    pub(super) rows: f64,
    /// Rows that waited at the window's beginning and end; `None`: some task could not tell.
    pub(super) backlog: Option<(f64, f64)>,
}

/// What a task did. Times in seconds.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct TaskDelta {
    pub(super) life: f64,
    pub(super) busy: f64,
    pub(super) blocked: f64,
    pub(super) state_wait: f64,
    pub(super) rows_in: f64,
    pub(super) rows_out: Vec<f64>,
    pub(super) source_rows: Vec<f64>,
}

impl Measured {
    /// Whether every task has said what it did. A part of them would look like the whole.
    pub(super) fn is_complete(&self) -> bool {
        let complete = |fragment: &FragmentDelta| fragment.tasks.len() == fragment.count as usize;
        self.fragments.iter().all(complete)
    }
}

impl Watch {
    /// Forgets the window that has begun.
    pub(super) fn restart(&mut self) {
        *self = Watch::default();
    }

    /// Takes a sample. What happened, when it ends a window; the next one begins with it.
    pub(super) fn push(&mut self, pipeline: &Pipeline, sample: &Sample) -> Option<Measured> {
        let first = self.begun.is_none();
        let pause_ns = sample
            .at_us
            .saturating_sub(self.last_us)
            .saturating_mul(1000);
        for (fragment, tasks) in &sample.tasks {
            for (index, totals) in tasks {
                let task = (*fragment, *index);
                let before = self.seen.insert(task, totals.clone());
                // Of one that is older than that it is not known when it did what it has done.
                let young = totals.total_ns <= pause_ns.saturating_add(YOUNG_SLACK_NS);
                if !first && (before.is_some() || young) {
                    let delta = self.tasks.entry(task).or_default();
                    delta.add(before.as_ref(), totals);
                }
            }
        }
        self.last_us = sample.at_us;
        let Some(begun) = &self.begun else {
            self.begun = Some(sample.clone());
            return None;
        };
        let elapsed_us = sample.at_us.saturating_sub(begun.at_us);
        if elapsed_us < AUTOSCALE_WINDOW_US {
            return None;
        }
        let measured = Measured {
            fragments: fragments(pipeline, &self.tasks, begun, sample),
        };
        self.begun = Some(sample.clone());
        self.tasks.clear();
        Some(measured)
    }
}

fn fragments(
    pipeline: &Pipeline,
    tasks: &BTreeMap<(u32, u32), TaskDelta>,
    begun: &Sample,
    ended: &Sample,
) -> Vec<FragmentDelta> {
    let of = |fragment: &super::pipeline::Fragment| {
        let range = tasks.range((fragment.id, 0)..=(fragment.id, u32::MAX));
        let own: Vec<TaskDelta> = range.map(|(_, delta)| delta.clone()).collect();
        let source = |place: usize| {
            let rows = own.iter().filter_map(|task| task.source_rows.get(place));
            let waiting = |sample: &Sample| backlog(sample, fragment.id, place);
            SourceDelta {
                rows: rows.sum(),
                backlog: waiting(begun).zip(waiting(ended)),
            }
        };
        FragmentDelta {
            count: ended.parallelism.get(&fragment.id).copied().unwrap_or(1),
            sources: (0..fragment.sources.len()).map(source).collect(),
            tasks: own,
        }
    };
    pipeline.fragments.iter().map(of).collect()
}

/// Rows that wait before a source, over all tasks.
fn backlog(sample: &Sample, fragment: u32, place: usize) -> Option<f64> {
    let tasks = sample.tasks.get(&fragment)?;
    let waiting = tasks.values().map(|totals| {
        let (_, waiting) = totals.sources.get(place).copied()?;
        Some(waiting? as f64)
    });
    waiting.sum::<Option<f64>>().filter(|_| !tasks.is_empty())
}

impl TaskDelta {
    /// Adds what was done between two totals. Of a task that is new, or began anew in between, that
    /// is all that it has done.
    fn add(&mut self, before: Option<&TaskTotals>, now: &TaskTotals) {
        let zero = TaskTotals::default();
        let same =
            |before: &&TaskTotals| before.total_ns <= now.total_ns && before.rows_in <= now.rows_in;
        let before = before.filter(same).unwrap_or(&zero);
        let seconds = |now: u64, before: u64| now.saturating_sub(before) as f64 / 1e9;
        self.life += seconds(now.total_ns, before.total_ns);
        self.busy += seconds(now.busy_ns, before.busy_ns);
        self.blocked += seconds(now.blocked_ns, before.blocked_ns);
        self.state_wait += seconds(now.state_wait_ns, before.state_wait_ns);
        self.rows_in += now.rows_in.saturating_sub(before.rows_in) as f64;
        let rows = |rows: &[u64], place| rows.get(place).copied().unwrap_or_default();
        add_all(&mut self.rows_out, now.rows_out.len(), |place| {
            rows(&now.rows_out, place).saturating_sub(rows(&before.rows_out, place))
        });
        let read =
            |totals: &TaskTotals, place| totals.sources.get(place).map_or(0, |(rows, _)| *rows);
        add_all(&mut self.source_rows, now.sources.len(), |place| {
            read(now, place).saturating_sub(read(before, place))
        });
    }
}

fn add_all(sums: &mut Vec<f64>, count: usize, of: impl Fn(usize) -> u64) {
    sums.resize(sums.len().max(count), 0.0);
    for (place, sum) in sums.iter_mut().enumerate().take(count) {
        *sum += of(place) as f64;
    }
}
