//! A row per key group that says up to where windows have fired, for state whose closed
//! namespaces do not say it.

use std::collections::BTreeMap;

use engine::{
    TIMESTAMP_MIN,
    operator::{OperatorError, TaskScope},
    state::{FrozenRows, ScanJob, TableDelta},
};
use proto::types::{Epoch, KeyGroup, KeyGroupCount, KeyGroupSet, TableId};
use state_client::LoadedRow;

/// Namespace of the rows: never closed.
const NAMESPACE: i64 = i64::MAX;
/// Identity of the rows.
const IDENTITY: &[u8] = b"fired";

/// Up to where windows have fired: one mark for the task, and others for key groups of which another
/// task had fired more before they came, or from which this one had before others came.
#[derive(Clone, Debug)]
pub(crate) struct Fired {
    upto: i64,
    ahead: BTreeMap<KeyGroup, i64>,
    /// Marks that were read and are not settled.
    read: BTreeMap<KeyGroup, i64>,
}

impl Default for Fired {
    fn default() -> Fired {
        Fired {
            upto: TIMESTAMP_MIN,
            ahead: BTreeMap::new(),
            read: BTreeMap::new(),
        }
    }
}

impl Fired {
    /// Windows of all key groups that end here or before have fired.
    #[inline]
    pub(crate) fn upto(&self) -> i64 {
        self.upto
    }

    /// Windows fire up to `upto`, if they have not.
    pub(crate) fn advance(&mut self, upto: i64) {
        self.upto = self.upto.max(upto);
        let common = self.upto;
        self.ahead.retain(|_, fired| *fired > common);
    }

    /// Whether all key groups have fired alike, as they mostly have.
    #[inline]
    pub(crate) fn is_even(&self) -> bool {
        self.ahead.is_empty()
    }

    /// Up to where a key group's windows have fired.
    pub(crate) fn of(&self, group: KeyGroup) -> i64 {
        self.ahead.get(&group).copied().unwrap_or(self.upto)
    }

    /// A key group has been read, perhaps in parts, with its mark.
    pub(crate) fn note(&mut self, group: KeyGroup, mark: Option<i64>) {
        let known = self.read.entry(group).or_insert(TIMESTAMP_MIN);
        *known = (*known).max(mark.unwrap_or(TIMESTAMP_MIN));
    }

    /// Key groups that were read and are not settled.
    pub(crate) fn is_settled(&self) -> bool {
        self.read.is_empty()
    }

    /// What was read counts from now on: the task's mark is that of the key group that has fired the
    /// least. Returns the key groups that were read.
    pub(crate) fn settle(&mut self, owned: &KeyGroupSet) -> KeyGroupSet {
        let read = std::mem::take(&mut self.read);
        if read.is_empty() {
            return KeyGroupSet::default();
        }
        let mark = |group: KeyGroup| read.get(&group).copied().unwrap_or_else(|| self.of(group));
        let marks: BTreeMap<KeyGroup, i64> =
            owned.iter().map(|group| (group, mark(group))).collect();
        self.upto = marks.values().min().copied().unwrap_or(self.upto);
        self.ahead = marks;
        self.advance(self.upto);
        read.into_keys().collect()
    }
}

/// The marks as of the last freeze, and what was saved of them before.
#[derive(Debug)]
pub(crate) struct FrozenMarks {
    fired: Fired,
    owned: KeyGroupSet,
    /// At the freeze before.
    before: i64,
}

impl Default for FrozenMarks {
    fn default() -> Self {
        FrozenMarks {
            fired: Fired::default(),
            owned: KeyGroupSet::default(),
            before: TIMESTAMP_MIN,
        }
    }
}

impl FrozenMarks {
    /// The marks as of now belong to the epoch.
    pub(crate) fn freeze(&mut self, fired: &Fired, owned: &KeyGroupSet) {
        self.fired = fired.clone();
        self.owned = owned.clone();
    }

    /// The rows in `table` that the frozen epoch changes, if it does.
    pub(crate) fn take_delta(
        &mut self,
        table: TableId,
        key_groups: KeyGroupCount,
    ) -> Option<TableDelta> {
        let fired = std::mem::take(&mut self.fired);
        if fired.upto() == self.before {
            return None;
        }
        self.before = fired.upto();
        let owned = std::mem::take(&mut self.owned);
        Some(delta(table, key_groups, &owned, &fired))
    }
}

/// The rows in `table` that say how far `owned` key groups have fired.
pub(crate) fn delta(
    table: TableId,
    key_groups: KeyGroupCount,
    owned: &KeyGroupSet,
    fired: &Fired,
) -> TableDelta {
    let shift = 64 - key_groups.count().trailing_zeros();
    let mut rows = FrozenRows::default();
    for group in owned.iter() {
        let hash = u64::from(group.0).checked_shl(shift).unwrap_or(0);
        let mark = fired.of(group).to_le_bytes();
        rows.push(
            hash,
            |out| out.extend_from_slice(IDENTITY),
            Some(|out: &mut Vec<u8>| out.extend_from_slice(&mark)),
        );
    }
    TableDelta {
        table,
        namespace: NAMESPACE,
        rows,
    }
}

/// What such a row says; `None`: it is another one.
pub(crate) fn read(table: TableId, row: &LoadedRow) -> Result<Option<i64>, OperatorError> {
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
pub(crate) fn scans(tables: &[TableId], scope: &TaskScope) -> Vec<ScanJob> {
    if scope.restored == Epoch::ZERO {
        return Vec::new();
    }
    scans_of(tables, &scope.owned)
}

/// Scans of all that some key groups have in some tables.
pub(crate) fn scans_of(tables: &[TableId], groups: &KeyGroupSet) -> Vec<ScanJob> {
    let of_table = |table: &TableId| {
        let table = *table;
        groups
            .iter()
            .map(move |key_group| ScanJob::new(table, key_group))
    };
    tables.iter().flat_map(of_table).collect()
}
