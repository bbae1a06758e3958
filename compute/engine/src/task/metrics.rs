//! What a task measures: rows and time per operator.
//!
//! A task's life is divided without rest: at work in one of its operators, waiting for input
//! (idle), for room downstream (blocked) or for state reads (state-wait). An operator's idle time
//! is all that is not its own work and neither of the two waits, so its four times add up too.

use std::sync::{Mutex, MutexGuard, PoisonError};

use proto::control::OperatorMetrics;

use super::graph::Graph;
use crate::{ChangeBatch, Element, TIMESTAMP_MAX, TIMESTAMP_MIN};

/// Rows and time of one operator.
#[derive(Clone, Debug, Default)]
pub(super) struct NodeMetrics {
    pub(super) rows_in: u64,
    pub(super) rows_out: u64,
    pub(super) batches_in: u64,
    pub(super) busy_ns: u64,
    /// Keys that were looked for in scratch files.
    pub(super) scratch_reads: u64,
}

impl NodeMetrics {
    pub(super) fn take_in(&mut self, batch: &ChangeBatch) {
        self.rows_in += batch.num_rows() as u64;
        self.batches_in += 1;
    }

    pub(super) fn put_out(&mut self, element: &Element) {
        if let Element::Batch(batch) = element {
            self.rows_out += batch.num_rows() as u64;
        }
    }
}

/// How a task spent its life, in ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeSplit {
    /// Since the task began.
    pub total: u64,
    /// No room downstream.
    pub blocked: u64,
    /// Waiting for state reads with nothing else to do.
    pub state_wait: u64,
}

/// The figures of a task, for whoever asks.
#[derive(Debug, Default)]
pub struct TaskMetrics {
    operators: Mutex<Vec<(String, OperatorMetrics)>>,
}

impl TaskMetrics {
    fn lock(&self) -> MutexGuard<'_, Vec<(String, OperatorMetrics)>> {
        self.operators
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Figures by node id.
    #[must_use]
    pub fn read(&self) -> Vec<(String, OperatorMetrics)> {
        self.lock().clone()
    }

    /// Brings the figures up to date.
    pub(super) fn update(&self, graph: &mut Graph, time: TimeSplit, dead_letters: u64) {
        let mut sizes = vec![None; graph.len()];
        for (index, _, state) in graph.states() {
            sizes[index] = Some(state.size());
        }
        let mut operators = self.lock();
        operators.clear();
        for ((id, node, counters, watermark), size) in graph.metrics().zip(sizes) {
            let waits = time.blocked + time.state_wait;
            let known = watermark > TIMESTAMP_MIN && watermark < TIMESTAMP_MAX;
            operators.push((
                id.to_owned(),
                OperatorMetrics {
                    rows_in: node.rows_in,
                    rows_out: node.rows_out,
                    batches_in: node.batches_in,
                    busy_ns: node.busy_ns,
                    idle_ns: time.total.saturating_sub(node.busy_ns + waits),
                    blocked_ns: time.blocked,
                    state_wait_ns: time.state_wait,
                    late_rows: counters.late_rows,
                    state_misses: counters.state_misses,
                    evicted_keys: counters.evicted_keys,
                    scratch_reads: node.scratch_reads,
                    hydrated_keys: counters.hydrated_keys,
                    state_rows: size.map_or(0, |size| size.rows),
                    state_bytes: size.map_or(0, |size| size.bytes),
                    watermark_ms: known.then_some(watermark),
                    backlog_rows: counters.backlog_rows,
                    dead_letters: if node.batches_in == 0 {
                        dead_letters
                    } else {
                        0
                    },
                },
            ));
        }
    }
}
