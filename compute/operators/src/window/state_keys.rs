//! Keys of state whose rows are kept apart by more than the key: by the start of a window. Their
//! hash is the key's alone, because that is what brought the row to this task.

use arrow::{
    array::{Array, ArrayRef},
    datatypes::DataType,
};
use engine::{
    ChangeBatch,
    key::{KeyBatch, KeyEncoder, KeyWidth, Keys},
    operator::OperatorError,
    schema::arrow_type,
};
use proto::types::Field;

use crate::aggregate::key_encoder;

/// Makes keys of key columns and, maybe, one more.
#[derive(Debug)]
pub(crate) struct StateKeys {
    by_key: KeyEncoder,
    whole: Option<KeyEncoder>,
}

impl StateKeys {
    /// For columns at these positions.
    pub(crate) fn new(
        keys: &[usize],
        more: Option<usize>,
        input: &[Field],
    ) -> Result<Self, OperatorError> {
        let whole: Vec<usize> = keys.iter().copied().chain(more).collect();
        Ok(StateKeys {
            by_key: key_encoder(keys, input)?,
            whole: match more {
                Some(_) => Some(key_encoder(&whole, input)?),
                None => None,
            },
        })
    }

    /// For columns at these positions, and a BIGINT that is no column.
    pub(crate) fn with_number(keys: &[usize], input: &[Field]) -> Result<Self, OperatorError> {
        let types = keys
            .iter()
            .map(|column| arrow_type(&input[*column].data_type.logical))
            .chain([DataType::Int64]);
        Ok(StateKeys {
            by_key: key_encoder(keys, input)?,
            whole: Some(KeyEncoder::new(
                (0..=keys.len()).collect(),
                types.collect(),
            )?),
        })
    }

    /// Which keys it makes.
    pub(crate) fn width(&self) -> KeyWidth {
        self.whole.as_ref().unwrap_or(&self.by_key).width()
    }

    /// Which keys it makes of the key columns alone.
    pub(super) fn key_width(&self) -> KeyWidth {
        self.by_key.width()
    }

    /// The keys of a batch.
    pub(super) fn encode(&self, batch: &ChangeBatch) -> Result<KeyBatch, OperatorError> {
        let mut keys = self.by_key.encode(&batch.rows)?;
        if let Some(whole) = &self.whole {
            keys.keys = whole.encode(&batch.rows)?.keys;
        }
        Ok(keys)
    }

    /// The keys of a batch by the key columns alone.
    pub(super) fn encode_key(
        &self,
        columns: &[ArrayRef],
        rows: usize,
    ) -> Result<KeyBatch, OperatorError> {
        Ok(self.by_key.encode_arrays(columns, rows)?)
    }

    /// The keys of key columns and the one more, with the hashes of the keys.
    pub(super) fn encode_whole(
        &self,
        hashes: Vec<u64>,
        columns: &[ArrayRef],
    ) -> Result<KeyBatch, OperatorError> {
        let whole = self.whole.as_ref().unwrap_or(&self.by_key);
        let keys = whole.encode_arrays(columns, hashes.len())?.keys;
        Ok(KeyBatch { hashes, keys })
    }

    /// The key columns of keys, and the one more.
    pub(crate) fn decode(
        &self,
        keys: &Keys,
    ) -> Result<(Vec<ArrayRef>, Option<ArrayRef>), OperatorError> {
        let mut columns = self.whole.as_ref().unwrap_or(&self.by_key).decode(keys)?;
        let more = self.whole.as_ref().and_then(|_| columns.pop());
        debug_assert!(more.as_ref().is_none_or(|more| more.null_count() == 0));
        Ok((columns, more))
    }
}
