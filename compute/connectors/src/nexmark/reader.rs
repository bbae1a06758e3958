//! Reads one split: as fast as asked, or at the pace of the events' times.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};

use engine::{
    ChangeBatch,
    source::{SourceError, SplitEvent, SplitReader},
};

use super::{
    config::Config,
    rows::BatchMaker,
    run::{Run, Walk},
};
use crate::pace::Pace;

/// Generates the events of a split.
pub(super) struct NexmarkReader {
    config: Arc<Config>,
    batches: Arc<BatchMaker>,
    walk: Walk,
    pace: Option<Pace>,
    runs: Vec<Run>,
}

impl NexmarkReader {
    pub(super) fn new(
        config: Arc<Config>,
        batches: Arc<BatchMaker>,
        walk: Walk,
        pace: Option<Pace>,
    ) -> NexmarkReader {
        NexmarkReader {
            config,
            batches,
            walk,
            pace,
            runs: Vec::new(),
        }
    }

    /// Up to which event there may be rows now.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<u64> {
        let Some(pace) = &mut self.pace else {
            return Poll::Ready(self.config.events);
        };
        loop {
            let due = first_after(&self.config, pace.now_ms());
            if self.walk.peek(&self.config, due).is_some() || due == self.config.events {
                return Poll::Ready(due);
            }
            // Which wanted event is next is found out when its epoch is due.
            ready!(pace.poll_until(cx, self.config.time_in_order(due)));
        }
    }
}

/// The first event after `time_ms`, or the number of events.
fn first_after(config: &Config, time_ms: i64) -> u64 {
    let (mut due, mut later) = (0, config.events);
    while due < later {
        let middle = due + (later - due) / 2;
        if config.time_in_order(middle) <= time_ms {
            due = middle + 1;
        } else {
            later = middle;
        }
    }
    due
}

impl SplitReader for NexmarkReader {
    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        max_rows: usize,
    ) -> Poll<Result<SplitEvent, SourceError>> {
        let end = ready!(self.poll_end(cx));
        self.runs.clear();
        let rows = self
            .walk
            .advance(&self.config, end, max_rows as u64, &mut self.runs);
        if rows == 0 {
            return Poll::Ready(Ok(SplitEvent::Finished));
        }
        let batch = self
            .batches
            .batch(&self.config, &self.runs, rows as usize)
            .map_err(|error| SourceError::Refused {
                what: format!("nexmark events from {}", self.runs[0].first),
                cause: error.to_string(),
            });
        Poll::Ready(batch.map(|rows| SplitEvent::Batch(ChangeBatch::inserts(rows))))
    }

    fn offset(&self) -> Vec<u8> {
        self.walk.next.to_le_bytes().to_vec()
    }

    fn lag_rows(&self) -> Option<u64> {
        // As fast as it can, nothing ever waits: what there is is made when it is read.
        let pace = self.pace.as_ref()?;
        let due = first_after(&self.config, pace.now_ms());
        let events = due.saturating_sub(self.walk.next) / self.walk.count;
        let wanted = u128::from(events) * u128::from(self.config.wanted_events());
        let rows = wanted / u128::from(self.config.epoch_events().max(1));
        Some(u64::try_from(rows).unwrap_or(u64::MAX))
    }
}
