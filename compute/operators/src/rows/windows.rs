//! State by window: each window is a namespace of its tables, fires when the watermark passes its
//! end and is closed with that.

use std::collections::{BTreeMap, VecDeque};

use engine::{
    TIMESTAMP_MIN, Timestamp,
    operator::{OperatorError, Reassigned, StateSize, TaskScope},
    state::{ScanJob, StateDelta, TableDelta},
};
use proto::types::{Epoch, KeyGroup, KeyGroupCount, KeyGroupSet, TableId};
use state_client::{LoadedRow, ScanReply};

use super::RowTable;

/// The state of one window.
pub(crate) trait WindowState {
    /// Its tables.
    fn tables(&mut self) -> impl Iterator<Item = &mut RowTable>;

    /// Live rows and bytes.
    fn size(&self) -> StateSize;
}

/// Open windows by their end.
pub(crate) struct Windows<S> {
    tables: Vec<TableId>,
    owned: KeyGroupSet,
    key_groups: KeyGroupCount,
    /// Key groups whose windows have fired further than this task's, with another task: windows
    /// that end before are closed.
    ahead: BTreeMap<KeyGroup, i64>,
    open: BTreeMap<i64, S>,
    /// Ends of windows that the watermark has passed, oldest first.
    due: VecDeque<i64>,
    watermark: Timestamp,
    /// Windows that end before it are closed.
    open_from: i64,
    /// The mark as of the last barrier, and as it is to be saved.
    open_from_saved: i64,
    /// With the key groups as of then.
    open_from_frozen: Option<(i64, KeyGroupSet)>,
    last_barrier: Epoch,
    /// Frozen rows of windows that have closed since.
    retired: Vec<TableDelta>,
}

impl<S: WindowState> Windows<S> {
    /// No windows yet.
    pub(crate) fn new(tables: Vec<TableId>, scope: &TaskScope) -> Self {
        Windows {
            tables,
            owned: scope.owned.clone(),
            key_groups: scope.key_groups,
            ahead: BTreeMap::new(),
            open: BTreeMap::new(),
            due: VecDeque::new(),
            watermark: TIMESTAMP_MIN,
            open_from: i64::MIN,
            open_from_saved: i64::MIN,
            open_from_frozen: None,
            last_barrier: scope.restored,
            retired: Vec::new(),
        }
    }

    /// Whether the window that ends there has fired for the keys of this hash.
    pub(crate) fn is_late(&self, end: i64, hash: u64) -> bool {
        end.saturating_sub(1) <= self.watermark
            || end < self.open_from
            || self.is_late_elsewhere(end, hash)
    }

    /// The time that has passed the windows that are over for keys of this hash.
    pub(crate) fn passed(&self, hash: u64) -> Timestamp {
        let ahead = self.ahead.get(&self.key_groups.of_hash(hash)).copied();
        // A window that ends at 10 is over with a watermark of 9, and those that end from 11 on are open.
        let closed = self.open_from.max(ahead.unwrap_or(i64::MIN));
        self.watermark.max(closed.saturating_sub(2))
    }

    fn is_late_elsewhere(&self, end: i64, hash: u64) -> bool {
        if self.ahead.is_empty() {
            return false;
        }
        let group = self.key_groups.of_hash(hash);
        self.ahead
            .get(&group)
            .is_some_and(|open_from| end < *open_from)
    }

    /// The state of a window; `make` gets the barrier that it begins after.
    pub(crate) fn window(&mut self, end: i64, make: impl FnOnce(Epoch) -> S) -> &mut S {
        let last_barrier = self.last_barrier;
        self.open.entry(end).or_insert_with(|| make(last_barrier))
    }

    /// The watermark moves: windows become due.
    pub(crate) fn advance(&mut self, watermark: Timestamp) {
        self.watermark = self.watermark.max(watermark);
        let last_end = watermark.saturating_add(1);
        let ends = self.open.range(..=last_end).map(|(end, _)| *end);
        self.due.extend(ends);
    }

    /// Takes the oldest due window and closes it.
    pub(crate) fn take_due(&mut self) -> Option<S> {
        let end = self.due.pop_front()?;
        self.ahead
            .retain(|_, open_from| *open_from > end.saturating_add(1));
        let mut window = self.open.remove(&end)?;
        // What belongs to the epoch that is being saved is still saved with it.
        for table in window.tables() {
            table.encode(u32::MAX as usize);
            self.retired.extend(table.take_delta());
        }
        self.open_from = self.open_from.max(end.saturating_add(1));
        Some(window)
    }

    /// See `OperatorState::hydrate`: no window fires before all its rows are there.
    pub(crate) fn hydrate(&self, scope: &TaskScope) -> Vec<ScanJob> {
        let of_table = |table: TableId| {
            let groups = scope.owned.iter();
            groups.map(move |key_group| ScanJob::new(table, key_group))
        };
        self.tables.iter().flat_map(|id| of_table(*id)).collect()
    }

    /// See `OperatorState::reassign`. Rows of what left are forgotten by `purge`; windows of what
    /// came are read, and those fire at once that are due here.
    pub(crate) fn reassign(
        &mut self,
        scope: &TaskScope,
        change: &Reassigned,
        mut purge: impl FnMut(&mut S, &dyn Fn(u64) -> bool),
    ) -> Vec<ScanJob> {
        let left = |hash: u64| change.left.contains(self.key_groups.of_hash(hash));
        if !change.left.is_empty() {
            self.open
                .values_mut()
                .for_each(|window| purge(window, &left));
        }
        self.ahead.retain(|group, _| !change.left.contains(*group));
        self.owned = scope.owned.clone();
        let scope = TaskScope {
            owned: change.came.clone(),
            ..scope.clone()
        };
        self.hydrate(&scope)
    }

    /// Hands the rows of a scan to their windows, made by `make`.
    pub(crate) fn hydrated(
        &mut self,
        job: &ScanJob,
        reply: &ScanReply,
        make: impl Fn(i64, Epoch) -> S,
        mut install: impl FnMut(&mut S, &[LoadedRow]) -> Result<(), OperatorError>,
    ) -> Result<(), OperatorError> {
        if let Some(open_from) = reply.open_from {
            let known = self.ahead.entry(job.key_group).or_insert(open_from);
            *known = (*known).max(open_from);
            self.settle_marks();
        }
        for rows in reply.rows.chunk_by(|a, b| a.namespace == b.namespace) {
            let end = rows[0].namespace;
            let window = self.window(end, |barrier| make(end, barrier));
            install(window, rows)?;
        }
        Ok(())
    }

    /// What all key groups have in common is the task's own mark.
    fn settle_marks(&mut self) {
        if self.ahead.len() == self.owned.len() {
            let least = self.ahead.values().min().copied();
            self.open_from = self.open_from.max(least.unwrap_or(i64::MIN));
            self.open_from_saved = self.open_from;
        }
        let common = self.open_from;
        self.ahead.retain(|_, open_from| *open_from > common);
    }

    /// See `OperatorState::freeze`.
    pub(crate) fn freeze(&mut self, epoch: Epoch) {
        self.last_barrier = epoch;
        let windows = self.open.values_mut();
        windows
            .flat_map(S::tables)
            .for_each(|table| table.freeze(epoch));
        let has_moved = self.open_from > self.open_from_saved;
        self.open_from_frozen = has_moved.then(|| (self.open_from, self.owned.clone()));
        self.open_from_saved = self.open_from;
    }

    /// See `OperatorState::encode`.
    pub(crate) fn encode(&mut self, rows_max: usize) -> bool {
        let mut tables = self.open.values_mut().flat_map(S::tables);
        tables.all(|table| table.encode(rows_max))
    }

    /// See `OperatorState::take_delta`.
    pub(crate) fn take_delta(&mut self) -> StateDelta {
        let mut tables = std::mem::take(&mut self.retired);
        let open = self.open.values_mut().flat_map(S::tables);
        tables.extend(open.filter_map(RowTable::take_delta));
        let mut low_water_marks = Vec::new();
        if let Some((open_from, owned)) = self.open_from_frozen.take() {
            for table in &self.tables {
                let groups = owned.iter();
                low_water_marks.extend(groups.map(|group| (*table, group, open_from)));
            }
        }
        StateDelta {
            tables,
            low_water_marks,
            ..StateDelta::default()
        }
    }

    /// Live rows and bytes.
    pub(crate) fn size(&self) -> StateSize {
        let mut size = StateSize::default();
        for window in self.open.values() {
            let of_window = window.size();
            size.rows += of_window.rows;
            size.bytes += of_window.bytes;
        }
        size
    }
}

/// The scope for the key index of one window: it is hydrated whole, so its index need not tell
/// key groups apart.
pub(crate) fn window_index_scope(scope: &TaskScope) -> TaskScope {
    let one = KeyGroupCount::new(1).unwrap_or(KeyGroupCount::DEFAULT);
    TaskScope {
        key_groups: one,
        owned: KeyGroupSet::all(one),
        ..scope.clone()
    }
}
