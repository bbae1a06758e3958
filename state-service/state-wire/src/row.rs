//! A committed row as a message.

use rpc::state;
use state_client::LoadedRow;

use crate::caps::ROW_BYTES;

/// What rows take up on their way.
#[must_use]
pub fn rows_bytes(rows: &[LoadedRow]) -> usize {
    rows.iter().map(row_bytes).sum()
}

pub(crate) fn row_bytes(row: &LoadedRow) -> usize {
    ROW_BYTES + row.identity.len() + row.value.len()
}

pub(crate) fn encode_row(row: LoadedRow) -> state::Row {
    state::Row {
        namespace: row.namespace,
        hash: row.hash,
        identity: row.identity,
        value: row.value,
    }
}

pub(crate) fn decode_row(row: state::Row) -> LoadedRow {
    LoadedRow {
        namespace: row.namespace,
        hash: row.hash,
        identity: row.identity,
        value: row.value,
    }
}
