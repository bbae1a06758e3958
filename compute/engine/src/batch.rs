//! The unit of data flow: columns, and what each row does to the changelog.

use arrow::{
    array::{Array, BooleanArray, RecordBatch, UInt8Array, UInt32Array},
    compute::{filter, filter_record_batch, interleave_record_batch, take, take_record_batch},
    error::ArrowError,
};
use proto::types::RowKind;

/// One [`RowKind`] byte per row.
#[derive(Clone, Debug, PartialEq)]
pub struct Kinds(UInt8Array);

impl Kinds {
    /// Kinds of rows, in order.
    pub fn from_iter_kinds(kinds: impl IntoIterator<Item = RowKind>) -> Self {
        Kinds(
            kinds
                .into_iter()
                .map(|kind| kind as u8)
                .collect::<Vec<u8>>()
                .into(),
        )
    }

    /// From bytes that are [`RowKind`]s.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        debug_assert!(bytes.iter().all(|byte| RowKind::from_byte(*byte).is_some()));
        Kinds(bytes.into())
    }

    /// The bytes, one per row.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.0.values()
    }

    /// The kind of row `row`.
    #[inline]
    #[must_use]
    pub fn get(&self, row: usize) -> RowKind {
        RowKind::from_byte(self.0.value(row)).unwrap_or(RowKind::Insert)
    }

    /// The kinds as an array without NULLs.
    #[must_use]
    pub fn array(&self) -> &UInt8Array {
        &self.0
    }
}

/// Rows of a changelog. `kinds: None` means that all are inserts: the fast path.
#[derive(Clone, Debug)]
pub struct ChangeBatch {
    /// The columns.
    pub rows: RecordBatch,
    /// What each row does; `None`: all are `+I`.
    pub kinds: Option<Kinds>,
}

impl ChangeBatch {
    /// A batch of inserts.
    #[must_use]
    pub fn inserts(rows: RecordBatch) -> Self {
        ChangeBatch { rows, kinds: None }
    }

    /// A batch of changes.
    #[must_use]
    pub fn changes(rows: RecordBatch, kinds: Option<Kinds>) -> Self {
        debug_assert!(
            kinds
                .as_ref()
                .is_none_or(|kinds| kinds.bytes().len() == rows.num_rows())
        );
        ChangeBatch { rows, kinds }
    }

    /// Number of rows.
    #[must_use]
    pub fn num_rows(&self) -> usize {
        self.rows.num_rows()
    }

    /// Whether no row is taken back or replaced.
    #[must_use]
    pub fn is_append(&self) -> bool {
        let kinds = self.kinds.as_ref();
        kinds.is_none_or(|kinds| {
            kinds
                .bytes()
                .iter()
                .all(|kind| *kind == RowKind::Insert as u8)
        })
    }

    /// Bytes of memory that the batch holds on to.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.rows.get_array_memory_size() + self.kinds.as_ref().map_or(0, |kinds| kinds.0.len())
    }

    /// The kind of row `row`.
    #[inline]
    #[must_use]
    pub fn kind(&self, row: usize) -> RowKind {
        self.kinds
            .as_ref()
            .map_or(RowKind::Insert, |kinds| kinds.get(row))
    }

    /// The rows where `mask` is true.
    ///
    /// # Errors
    /// As arrow's filter kernel.
    pub fn filter(&self, mask: &BooleanArray) -> Result<ChangeBatch, ArrowError> {
        let rows = filter_record_batch(&self.rows, mask)?;
        let kinds = match &self.kinds {
            Some(kinds) => Some(Kinds(as_kinds(&*filter(&kinds.0, mask)?))),
            None => None,
        };
        Ok(ChangeBatch { rows, kinds })
    }

    /// The rows at `indices`, in that order.
    ///
    /// # Errors
    /// As arrow's take kernel.
    pub fn take(&self, indices: &UInt32Array) -> Result<ChangeBatch, ArrowError> {
        let rows = take_record_batch(&self.rows, indices)?;
        let kinds = match &self.kinds {
            Some(kinds) => Some(Kinds(as_kinds(&*take(&kinds.0, indices, None)?))),
            None => None,
        };
        Ok(ChangeBatch { rows, kinds })
    }

    /// Rows of several batches with the same columns: of each the batch and the row.
    ///
    /// # Errors
    /// As arrow's interleave kernel.
    pub fn interleave(
        batches: &[&ChangeBatch],
        places: &[(usize, usize)],
    ) -> Result<ChangeBatch, ArrowError> {
        let rows: Vec<&RecordBatch> = batches.iter().map(|batch| &batch.rows).collect();
        let rows = interleave_record_batch(&rows, places)?;
        let all_inserts = batches.iter().all(|batch| batch.kinds.is_none());
        let kind = |(batch, row): &(usize, usize)| batches[*batch].kind(*row);
        let kinds = (!all_inserts).then(|| Kinds::from_iter_kinds(places.iter().map(kind)));
        Ok(ChangeBatch { rows, kinds })
    }

    /// Rows `offset..offset + length`, without copying.
    #[must_use]
    pub fn slice(&self, offset: usize, length: usize) -> ChangeBatch {
        ChangeBatch {
            rows: self.rows.slice(offset, length),
            kinds: self
                .kinds
                .as_ref()
                .map(|kinds| Kinds(kinds.0.slice(offset, length))),
        }
    }
}

fn as_kinds(array: &dyn Array) -> UInt8Array {
    array
        .as_any()
        .downcast_ref::<UInt8Array>()
        .expect("a kernel keeps the type")
        .clone()
}
