//! Reads one split of generated rows.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};

use engine::source::{SourceError, SplitEvent, SplitReader};
use proto::types::RowKind;

use super::source::{BLOCK_ROWS, Table};
use crate::{SourceContext, column::Rows, pace::Pace};

/// Generates the rows of a split: every `count`-th block.
pub(super) struct DatagenReader {
    table: Arc<Table>,
    count: u64,
    next: u64,
    rows: Rows,
    pace: Option<Pace>,
}

impl DatagenReader {
    pub(super) fn new(
        table: Arc<Table>,
        count: u64,
        next: u64,
        context: Option<&SourceContext>,
    ) -> DatagenReader {
        let pace = context.map(|context| Pace::new(table.elapsed_ms(next), context));
        DatagenReader {
            rows: Rows::new(&table.fields),
            table,
            count,
            next,
            pace,
        }
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<u64> {
        let Some(pace) = &mut self.pace else {
            return Poll::Ready(self.table.rows);
        };
        loop {
            let due = self.table.due(pace.now_ms());
            if due > self.next || due == self.table.rows {
                return Poll::Ready(due);
            }
            ready!(pace.poll_until(cx, self.table.elapsed_ms(self.next)));
        }
    }

    fn push_row(&mut self) {
        let time_ms = self.table.time_ms(self.next);
        let (_, columns) = self.rows.parts();
        for (generator, column) in self.table.generators.iter().zip(columns) {
            generator.push(column, self.next, time_ms);
        }
        self.rows.complete(RowKind::Insert);
        self.next += 1;
        if self.next.is_multiple_of(BLOCK_ROWS) {
            self.next += (self.count - 1) * BLOCK_ROWS;
        }
    }
}

impl SplitReader for DatagenReader {
    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        max_rows: usize,
    ) -> Poll<Result<SplitEvent, SourceError>> {
        let end = ready!(self.poll_end(cx));
        while self.next < end && self.rows.len() < max_rows {
            self.push_row();
        }
        if self.rows.len() == 0 {
            return Poll::Ready(Ok(SplitEvent::Finished));
        }
        let batch = self.rows.finish().map_err(|error| SourceError::Refused {
            what: "generated rows".to_owned(),
            cause: error.to_string(),
        });
        Poll::Ready(batch.map(SplitEvent::Batch))
    }

    fn offset(&self) -> Vec<u8> {
        self.next.to_le_bytes().to_vec()
    }

    fn lag_rows(&self) -> Option<u64> {
        // As fast as it can, nothing ever waits: what there is is made when it is read.
        let pace = self.pace.as_ref()?;
        let due = self.table.due(pace.now_ms());
        Some(due.saturating_sub(self.next) / self.count)
    }
}
