//! The state side of windows: slices are read whole when a job goes on, and what has fired is
//! known from the namespaces that are closed (for CUMULATE, whose windows fire while their slices
//! stay open, from a row of its own).

use engine::{
    TIMESTAMP_MIN,
    operator::{OperatorError, OperatorState, Reassigned, StateSize, TaskScope},
    state::{ScanJob, StateDelta},
};
use proto::types::{Epoch, KeyGroup, KeyGroupSet};
use state_client::ScanReply;

use super::{aggregate::WindowAggregateOperator, processing_time::Alarm, slices::Slices};
use crate::{
    aggregate::AggregateStore,
    rows::fired::{self, Fired},
};

/// The freeze under way.
pub(super) struct Freeze {
    pub(super) is_open: bool,
    /// Closed after the freeze, before their rows were encoded.
    pub(super) closed: Vec<AggregateStore>,
    /// As of the freeze: windows fired, and the key groups that they are of.
    fired: Fired,
    owned: KeyGroupSet,
    /// As of the freeze before.
    fired_before: i64,
}

impl Default for Freeze {
    fn default() -> Self {
        Freeze {
            is_open: false,
            closed: Vec::new(),
            fired: Fired::default(),
            owned: KeyGroupSet::default(),
            fired_before: TIMESTAMP_MIN,
        }
    }
}

impl WindowAggregateOperator {
    /// Puts values whose group was read after them into place.
    pub(super) fn settle(&mut self) -> Result<(), OperatorError> {
        self.settle_fired();
        for (table, row) in std::mem::take(&mut self.early) {
            if let Some(store) = self.slices.get_mut(&row.namespace) {
                store.install(table, &row)?;
            }
        }
        Ok(())
    }

    fn settle_fired(&mut self) {
        if !self.fired.is_settled() {
            self.fired.settle(&self.scope.owned);
            self.growing = None;
        }
    }

    /// The low-water marks and fired rows that the frozen epoch changes.
    fn marks(&mut self, delta: &mut StateDelta) {
        let fired = std::mem::take(&mut self.freeze.fired);
        if fired.upto() == self.freeze.fired_before {
            return;
        }
        self.freeze.fired_before = fired.upto();
        let owned = std::mem::take(&mut self.freeze.owned);
        for table in self.tables.used(&self.plan) {
            let mark = |group: KeyGroup| (table, group, self.open_from(fired.of(group)));
            delta.low_water_marks.extend(owned.iter().map(mark));
        }
        if self.keeps_fired() {
            let rows = fired::delta(self.tables.main, self.scope.key_groups, &owned, &fired);
            delta.tables.push(rows);
        }
    }

    /// The first slice that is open when windows have fired so far.
    fn open_from(&self, fired: i64) -> i64 {
        match self.windowing.slices() {
            Some(slices) => slices.open_from(fired),
            None => fired.saturating_add(1),
        }
    }

    /// Whether rows say how far windows have fired, since closed slices do not.
    fn keeps_fired(&self) -> bool {
        self.windowing.slices().is_some_and(Slices::is_cumulate)
    }
}

impl OperatorState for WindowAggregateOperator {
    fn hydrate(&mut self, scope: &TaskScope) -> Vec<ScanJob> {
        fired::scans(&self.tables.used(&self.plan), scope)
    }

    fn hydrated(&mut self, job: &ScanJob, reply: &ScanReply) -> Result<(), OperatorError> {
        let fired = reply
            .open_from
            .map(|open_from| match self.windowing.slices() {
                Some(slices) => slices.fired_before(open_from),
                None => open_from - 1,
            });
        self.fired.note(job.key_group, fired);
        for row in &reply.rows {
            if let Some(fired) = fired::read(job.table, row)? {
                self.fired.note(job.key_group, Some(fired));
                continue;
            }
            if !self.slices.contains_key(&row.namespace) {
                let store = self.new_store(row.namespace)?;
                self.slices.insert(row.namespace, store);
            }
            if let Some(store) = self.slices.get_mut(&row.namespace)
                && !store.install(job.table, row)?
            {
                self.early.push((job.table, row.clone()));
            }
        }
        self.alarm.iter_mut().for_each(Alarm::ring);
        Ok(())
    }

    fn freeze(&mut self, epoch: Epoch) {
        self.settle_fired();
        let stores = self.slices.values_mut();
        stores.for_each(|store| store.freeze(epoch));
        self.freeze.is_open = true;
        self.freeze.fired = self.fired.clone();
        self.freeze.owned = self.scope.owned.clone();
    }

    fn reassign(&mut self, scope: &TaskScope, change: &Reassigned) -> Vec<ScanJob> {
        self.scope = scope.clone();
        let stores = self.slices.values_mut();
        stores.for_each(|store| store.reassign(change));
        // It is made again of what the slices have now.
        self.growing = None;
        fired::scans_of(&self.tables.used(&self.plan), &change.came)
    }

    fn encode(&mut self, rows_max: usize) -> bool {
        let mut stores = self.slices.values_mut().chain(&mut self.freeze.closed);
        stores.all(|store| store.encode(rows_max))
    }

    fn take_delta(&mut self) -> StateDelta {
        let mut delta = StateDelta::default();
        for store in self.slices.values_mut().chain(&mut self.freeze.closed) {
            store.take_delta(&mut delta.tables);
        }
        self.freeze.closed.clear();
        self.freeze.is_open = false;
        self.marks(&mut delta);
        delta
    }

    fn committed(&mut self, epoch: Epoch) {
        let stores = self.slices.values_mut();
        stores.for_each(|store| store.committed(epoch));
    }

    fn size(&self) -> StateSize {
        self.slices
            .values()
            .fold(StateSize::default(), |sum, store| {
                let size = store.size();
                StateSize {
                    rows: sum.rows + size.rows,
                    bytes: sum.bytes + size.bytes,
                    free_bytes: sum.free_bytes + size.free_bytes,
                    changed_bytes: sum.changed_bytes + size.changed_bytes,
                }
            })
    }
}
