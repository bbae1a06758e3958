//! Reads one split of generated rows.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};

use engine::source::{SourceError, SplitEvent, SplitReader};
use proto::types::RowKind;

use super::source::{BLOCK_ROWS, Table};
use crate::{SourceContext, column::Rows, pace::Pace};

/// How far a split has been read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    /// The next row.
    pub(super) next: u64,
    /// Time of the first row of all.
    pub(super) first_ms: i64,
}

impl Place {
    /// Out of an offset, for a job that was created at `created_ms`. Where rows catch up, the times of
    /// those that come are the ones that they had in the job that wrote it: what lies between is late.
    pub(super) fn read(bytes: &[u8], created_ms: i64, table: &Table) -> Option<Place> {
        let (next, rest) = bytes.split_first_chunk()?;
        let next = u64::from_le_bytes(*next);
        let first_ms = match (table.catch_up, rest) {
            (false, [] | [_, _, _, _, _, _, _, _]) => created_ms,
            // They did not there: they go on now as if nothing was late.
            (true, []) => created_ms.saturating_sub(table.rate.elapsed_ms(next)),
            (true, rest) => i64::from_le_bytes(rest.try_into().ok()?),
            (false, _) => return None,
        };
        Some(Place { next, first_ms })
    }
}

/// Generates the rows of a split: every `count`-th block.
pub(super) struct DatagenReader {
    table: Arc<Table>,
    count: u64,
    place: Place,
    rows: Rows,
    pace: Option<Pace>,
}

impl DatagenReader {
    pub(super) fn new(
        table: Arc<Table>,
        count: u64,
        place: Place,
        context: Option<&SourceContext>,
    ) -> DatagenReader {
        let pace = context.map(|context| match table.catch_up {
            true => Pace::since(place.first_ms, context),
            false => Pace::new(table.rate.elapsed_ms(place.next), context),
        });
        DatagenReader {
            rows: Rows::new(&table.fields),
            table,
            count,
            place,
            pace,
        }
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<u64> {
        let Some(pace) = &mut self.pace else {
            return Poll::Ready(self.table.rows);
        };
        loop {
            let due = self.table.due(pace.now_ms());
            if due > self.place.next || due == self.table.rows {
                return Poll::Ready(due);
            }
            ready!(pace.poll_until(cx, self.table.rate.elapsed_ms(self.place.next)));
        }
    }

    fn push_row(&mut self) {
        let elapsed_ms = self.table.rate.elapsed_ms(self.place.next);
        let time_ms = self.place.first_ms.saturating_add(elapsed_ms);
        let (_, columns) = self.rows.parts();
        for (generator, column) in self.table.generators.iter().zip(columns) {
            generator.push(column, self.place.next, time_ms);
        }
        self.rows.complete(RowKind::Insert);
        self.place.next += 1;
        if self.place.next.is_multiple_of(BLOCK_ROWS) {
            self.place.next += (self.count - 1) * BLOCK_ROWS;
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
        while self.place.next < end && self.rows.len() < max_rows {
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
        let mut offset = self.place.next.to_le_bytes().to_vec();
        if self.table.catch_up {
            offset.extend_from_slice(&self.place.first_ms.to_le_bytes());
        }
        offset
    }

    fn lag_rows(&self) -> Option<u64> {
        // As fast as it can, nothing ever waits: what there is is made when it is read.
        let pace = self.pace.as_ref()?;
        let due = self.table.due(pace.now_ms());
        Some(due.saturating_sub(self.place.next) / self.count)
    }
}
