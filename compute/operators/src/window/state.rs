//! The state side of windows: slices are read whole when a job goes on, and what has fired is
//! known from the namespaces that are closed (for CUMULATE, whose windows fire while their slices
//! stay open, from a row of its own).

use engine::{
    TIMESTAMP_MIN,
    operator::{OperatorError, OperatorState, StateSize, TaskScope},
    state::{ScanJob, StateDelta},
};
use proto::types::{Epoch, KeyGroup};
use state_client::ScanReply;

use super::{
    aggregate::{WindowAggregateOperator, Windowing},
    fired,
};
use crate::aggregate::AggregateStore;

/// The freeze under way.
pub(super) struct Freeze {
    pub(super) is_open: bool,
    /// Closed after the freeze, before their rows were encoded.
    pub(super) closed: Vec<AggregateStore>,
    /// As of the freeze: windows fired.
    fired: i64,
    /// As of the freeze before.
    fired_before: i64,
}

impl Default for Freeze {
    fn default() -> Self {
        Freeze {
            is_open: false,
            closed: Vec::new(),
            fired: TIMESTAMP_MIN,
            fired_before: TIMESTAMP_MIN,
        }
    }
}

impl WindowAggregateOperator {
    /// Puts values whose group was read after them into place.
    pub(super) fn settle(&mut self) -> Result<(), OperatorError> {
        for (table, row) in std::mem::take(&mut self.early) {
            if let Some(store) = self.slices.get_mut(&row.namespace) {
                store.install(table, &row)?;
            }
        }
        Ok(())
    }

    /// The low-water marks and fired rows that the frozen epoch changes.
    fn marks(&mut self, delta: &mut StateDelta) {
        let fired = self.freeze.fired;
        if fired == self.freeze.fired_before {
            return;
        }
        self.freeze.fired_before = fired;
        let (open_from, keeps_fired) = match self.windowing {
            Windowing::Times { slices, .. } | Windowing::Partials { slices } => {
                (slices.open_from(fired), slices.is_cumulate())
            }
            Windowing::Attached { .. } => (fired.saturating_add(1), false),
        };
        for table in self.tables.used(&self.plan) {
            let mark = |group: KeyGroup| (table, group, open_from);
            delta
                .low_water_marks
                .extend(self.scope.owned.iter().map(mark));
        }
        if keeps_fired {
            let rows = fired::delta(self.tables.main, &self.scope, fired);
            delta.tables.push(rows);
        }
    }
}

impl OperatorState for WindowAggregateOperator {
    fn hydrate(&mut self, scope: &TaskScope) -> Vec<ScanJob> {
        fired::scans(&self.tables.used(&self.plan), scope)
    }

    fn hydrated(&mut self, job: &ScanJob, reply: &ScanReply) -> Result<(), OperatorError> {
        if let Some(open_from) = reply.open_from {
            let fired = match self.windowing {
                Windowing::Times { slices, .. } | Windowing::Partials { slices } => {
                    slices.fired_before(open_from)
                }
                Windowing::Attached { .. } => open_from - 1,
            };
            self.fired = self.fired.max(fired);
        }
        for row in &reply.rows {
            if let Some(fired) = fired::read(job.table, row)? {
                self.fired = self.fired.max(fired);
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
        Ok(())
    }

    fn freeze(&mut self, _epoch: Epoch) {
        self.slices.values_mut().for_each(AggregateStore::freeze);
        self.freeze.is_open = true;
        self.freeze.fired = self.fired;
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

    fn size(&self) -> StateSize {
        self.slices
            .values()
            .fold(StateSize::default(), |sum, store| {
                let size = store.size();
                StateSize {
                    rows: sum.rows + size.rows,
                    bytes: sum.bytes + size.bytes,
                }
            })
    }
}
