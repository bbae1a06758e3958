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
    rate::Rate,
    reader::{DatagenReader, Place},
};
use crate::SourceContext;

/// Splits of a source that makes rows as fast as it can.
const SPLITS: u64 = 8;
/// Rows of a split that follow each other.
pub(super) const BLOCK_ROWS: u64 = 1024;

/// What all readers share.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) fields: Vec<Field>,
    pub(super) generators: Vec<Generator>,
    /// Rows in all.
    pub(super) rows: u64,
    pub(super) rate: Rate,
    /// Whether rows are due by the time of the job's creation, whatever holds them up meanwhile.
    pub(super) catch_up: bool,
}

impl Table {
    /// Rows that are due after so many milliseconds.
    pub(super) fn due(&self, elapsed_ms: i64) -> u64 {
        self.rate.due(elapsed_ms).min(self.rows)
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
                rate: Rate::new(spec)
                    .map_err(|cause| SourceError::Unsupported(format!("datagen: {cause}")))?,
                catch_up: spec.catch_up,
            }),
            context: context.clone(),
        })
    }

    /// One split keeps the order and the rate; without a rate the rows are worth sharing out.
    fn split_count(&self) -> u64 {
        match self.table.rate.is_paced() {
            false => (self.table.rows / (8 * BLOCK_ROWS)).clamp(1, SPLITS),
            true => 1,
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
        let descriptor = split.descriptor.as_slice().try_into().ok();
        let count = self.split_count();
        let index = descriptor
            .map(u64::from_le_bytes)
            .filter(|index| *index < count)
            .ok_or_else(|| foreign("descriptor"))?;
        let created_ms = self.context.base_time_ms as i64;
        let place = match offset {
            Some(bytes) => {
                let place = Place::read(bytes, created_ms, &self.table);
                place.ok_or_else(|| foreign("offset"))?
            }
            None => Place {
                next: index * BLOCK_ROWS,
                first_ms: created_ms,
            },
        };
        let context = self.table.rate.is_paced().then_some(&self.context);
        Ok(Box::new(DatagenReader::new(
            self.table.clone(),
            count,
            place,
            context,
        )))
    }
}
