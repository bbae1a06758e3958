//! Rows that an operator drops because they came too late, as it puts them out: beside its output, in
//! batches of their own, with what was known of the time when they were found to be late.

use std::sync::Arc;

use arrow::{
    array::{RecordBatch, StringArray, TimestampMillisecondArray, UInt32Array},
    datatypes::{Field, Schema},
    error::ArrowError,
};

use crate::{ChangeBatch, Timestamp};

/// Times outside of the years 1 to 9999 are none that SQL can say: of an input that has ended, or of
/// which nothing is known.
const SAYABLE_MS: std::ops::Range<Timestamp> = -62_135_596_800_000..253_402_300_800_000;

/// Which rows of a batch came too late, and the time that had passed them. Costs nothing while it is
/// empty.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct LateRows {
    rows: Vec<u32>,
    watermarks: Vec<Timestamp>,
}

impl LateRows {
    /// Row `row` came when `watermark` had passed it, in milliseconds of event time.
    pub fn push(&mut self, row: usize, watermark: Timestamp) {
        self.rows.push(row as u32);
        self.watermarks.push(watermark);
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows as inserts: the columns of `batch`, then the watermark (TIMESTAMP(3), NULL where it is no
    /// time) and what each row was to do (STRING: `+I`, `-U`, `+U` or `-D`).
    ///
    /// # Errors
    /// When `batch` does not have the rows.
    pub fn batch(&self, batch: &ChangeBatch) -> Result<ChangeBatch, ArrowError> {
        let taken = batch.take(&UInt32Array::from(self.rows.clone()))?;
        let kinds = (0..taken.num_rows()).map(|row| Some(taken.kind(row).symbol()));
        let kinds: StringArray = kinds.collect();
        let watermarks = self.watermarks.iter();
        let watermarks: TimestampMillisecondArray = watermarks
            .map(|watermark| Some(*watermark).filter(|time| SAYABLE_MS.contains(time)))
            .collect();
        let (schema, mut columns, _) = taken.rows.into_parts();
        let mut fields: Vec<Arc<Field>> = schema.fields().to_vec();
        let mut append = |name: &str, column: arrow::array::ArrayRef| {
            fields.push(Arc::new(Field::new(name, column.data_type().clone(), true)));
            columns.push(column);
        };
        append("$watermark", Arc::new(watermarks));
        append("$row_kind", Arc::new(kinds));
        let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
        Ok(ChangeBatch::inserts(rows))
    }
}

#[cfg(test)]
mod tests {
    use arrow::{
        array::{Int32Array, cast::AsArray as _},
        datatypes::{Int32Type, TimestampMillisecondType},
    };
    use proto::types::RowKind;

    use super::*;
    use crate::{Kinds, TIMESTAMP_MAX, TIMESTAMP_MIN};

    #[test]
    fn late_rows_are_inserts_with_what_was_known_of_time() {
        let fields = vec![Field::new("n", arrow::datatypes::DataType::Int32, true)];
        let numbers = Arc::new(Int32Array::from(vec![1, 2, 3]));
        let rows =
            RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![numbers]).expect("rows");
        let kinds = [RowKind::Insert, RowKind::UpdateBefore, RowKind::UpdateAfter];
        let batch = ChangeBatch::changes(rows, Some(Kinds::from_iter_kinds(kinds)));
        let mut late = LateRows::default();
        assert!(late.is_empty());
        late.push(2, 7);
        late.push(1, TIMESTAMP_MAX);
        late.push(0, TIMESTAMP_MIN);
        let found = late.batch(&batch).expect("rows that are there");
        assert!(found.is_append());
        let columns = found.rows.columns();
        assert_eq!(columns[0].as_primitive::<Int32Type>().values(), &[3, 2, 1]);
        let times = columns[1].as_primitive::<TimestampMillisecondType>();
        assert_eq!(times.iter().collect::<Vec<_>>(), [Some(7), None, None]);
        let kinds: Vec<_> = columns[2].as_string::<i32>().iter().collect();
        assert_eq!(kinds, [Some("+U"), Some("-U"), Some("+I")]);
    }
}
