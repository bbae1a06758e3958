//! Splits of the generated rows.

use std::sync::Arc;

use engine::source::{Source, SourceError, Split, SplitReader};
use futures::{FutureExt as _, future::BoxFuture};
use proto::{
    plan::{DatagenField, DatagenSpec},
    types::Field,
};

use super::{
    generator::{Generator, sequence_rows},
    reader::DatagenReader,
};
use crate::SourceContext;

/// Splits of a source that makes rows as fast as it can.
const SPLITS: u64 = 8;
/// Rows of a split that follow each other.
pub(super) const BLOCK_ROWS: u64 = 1024;
/// Time goes on by this rate where none is set.
const DEFAULT_ROWS_PER_SECOND: u64 = 10_000;

/// What all readers share.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) fields: Vec<Field>,
    pub(super) generators: Vec<Generator>,
    /// Rows in all.
    pub(super) rows: u64,
    rows_per_second: u64,
    base_time_ms: i64,
}

impl Table {
    /// Milliseconds from the first row to this one.
    pub(super) fn elapsed_ms(&self, row: u64) -> i64 {
        let rate = match self.rows_per_second {
            0 => DEFAULT_ROWS_PER_SECOND,
            rate => rate,
        };
        (u128::from(row) * 1000 / u128::from(rate)) as i64
    }

    /// Rows that are due after so many milliseconds.
    pub(super) fn due(&self, elapsed_ms: i64) -> u64 {
        let elapsed = u128::from(elapsed_ms.max(0).unsigned_abs());
        let due = elapsed * u128::from(self.rows_per_second) / 1000 + 1;
        u64::try_from(due).map_or(self.rows, |due| due.min(self.rows))
    }

    /// The row's time.
    pub(super) fn time_ms(&self, row: u64) -> i64 {
        self.base_time_ms + self.elapsed_ms(row)
    }
}

/// Generates rows.
#[derive(Debug)]
pub(crate) struct DatagenSource {
    table: Arc<Table>,
    context: SourceContext,
}

impl DatagenSource {
    pub(crate) fn new(
        spec: &DatagenSpec,
        produced: &[Field],
        context: &SourceContext,
    ) -> Result<DatagenSource, SourceError> {
        let default = DatagenField::default();
        let of = |field: &&DatagenField, name: &str| field.name == name;
        let mut rows = match spec.number_of_rows {
            // No job lives to see it.
            0 => 1 << 60,
            rows => rows,
        };
        let generators = produced
            .iter()
            .map(|field| {
                let place = spec.fields.iter().position(|known| of(&known, &field.name));
                let known = place.map_or(&default, |place| &spec.fields[place]);
                Generator::new(field, known, place.unwrap_or_default() as u64)
            })
            .collect::<Result<Vec<_>, String>>()
            .map_err(SourceError::Unsupported)?;
        // Also one that the query does not read ends the table.
        for field in &spec.fields {
            let length = sequence_rows(field).map_err(SourceError::Unsupported)?;
            rows = rows.min(length.unwrap_or(u64::MAX));
        }
        Ok(DatagenSource {
            table: Arc::new(Table {
                fields: produced.to_vec(),
                generators,
                rows,
                rows_per_second: spec.rows_per_second,
                base_time_ms: context.base_time_ms as i64,
            }),
            context: context.clone(),
        })
    }

    /// One split keeps the order and the rate; without a rate the rows are worth sharing out.
    fn split_count(&self) -> u64 {
        match self.table.rows_per_second {
            0 => (self.table.rows / (8 * BLOCK_ROWS)).clamp(1, SPLITS),
            _ => 1,
        }
    }
}

impl Source for DatagenSource {
    fn splits(&self, _parallelism: usize) -> BoxFuture<'_, Result<Vec<Split>, SourceError>> {
        let split = |index: u64| Split {
            id: format!("datagen-{index}"),
            descriptor: index.to_le_bytes().to_vec(),
        };
        async move { Ok((0..self.split_count()).map(split).collect()) }.boxed()
    }

    fn open(
        &self,
        split: &Split,
        offset: Option<&[u8]>,
    ) -> Result<Box<dyn SplitReader>, SourceError> {
        let foreign = |what: &str| SourceError::Refused {
            what: format!("split `{}`", split.id),
            cause: format!("its {what} is not one of a datagen table"),
        };
        let number = |bytes: &[u8]| bytes.try_into().ok().map(u64::from_le_bytes);
        let count = self.split_count();
        let index = number(&split.descriptor)
            .filter(|index| *index < count)
            .ok_or_else(|| foreign("descriptor"))?;
        let next = match offset {
            Some(bytes) => number(bytes).ok_or_else(|| foreign("offset"))?,
            None => index * BLOCK_ROWS,
        };
        let paced = self.table.rows_per_second > 0;
        let context = paced.then_some(&self.context);
        Ok(Box::new(DatagenReader::new(
            self.table.clone(),
            count,
            next,
            context,
        )))
    }
}
