//! A row per key group that says up to where windows have fired, for windows whose closed
//! namespaces do not say it.

use engine::{
    operator::{OperatorError, TaskScope},
    state::{FrozenRows, ScanJob, TableDelta},
};
use proto::types::{Epoch, TableId};
use state_client::LoadedRow;

/// Namespace of the rows: never closed.
const NAMESPACE: i64 = i64::MAX;
/// Identity of the rows.
const IDENTITY: &[u8] = b"fired";

/// The rows in `table`.
pub(super) fn delta(table: TableId, scope: &TaskScope, fired: i64) -> TableDelta {
    let shift = 64 - scope.key_groups.count().trailing_zeros();
    let mut rows = FrozenRows::default();
    for group in scope.owned.iter() {
        let hash = u64::from(group.0).checked_shl(shift).unwrap_or(0);
        rows.push(
            hash,
            |out| out.extend_from_slice(IDENTITY),
            Some(|out: &mut Vec<u8>| out.extend_from_slice(&fired.to_le_bytes())),
        );
    }
    TableDelta {
        table,
        namespace: NAMESPACE,
        rows,
    }
}

/// What such a row says; `None`: it is another one.
pub(super) fn read(table: TableId, row: &LoadedRow) -> Result<Option<i64>, OperatorError> {
    if row.namespace != NAMESPACE {
        return Ok(None);
    }
    match row.value[..].try_into() {
        Ok(bytes) => Ok(Some(i64::from_le_bytes(bytes))),
        Err(_) => Err(OperatorError::Decode {
            table: table.to_string(),
            cause: "a fired row has too few bytes".to_owned(),
        }),
    }
}

/// Scans of all that a task owns of some tables, if it goes on from anything.
pub(super) fn scans(tables: &[TableId], scope: &TaskScope) -> Vec<ScanJob> {
    if scope.restored == Epoch::ZERO {
        return Vec::new();
    }
    let of_table = |table: &TableId| {
        let table = *table;
        (scope.owned.iter()).map(move |key_group| ScanJob { table, key_group })
    };
    tables.iter().flat_map(of_table).collect()
}
