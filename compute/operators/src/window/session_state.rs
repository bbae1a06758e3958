//! The state side of sessions: all of it is read when a job goes on.

use engine::{
    operator::{OperatorError, OperatorState, StateSize, TaskScope},
    state::{ScanJob, StateDelta},
};
use proto::types::Epoch;
use state_client::ScanReply;

use super::{fired, session::SessionAggregateOperator};

impl SessionAggregateOperator {
    /// Indexes the sessions that were read.
    pub(super) fn settle(&mut self) -> Result<(), OperatorError> {
        if !std::mem::take(&mut self.is_restoring) {
            return Ok(());
        }
        for (table, row) in std::mem::take(&mut self.early) {
            self.store.install(table, &row)?;
        }
        let sessions = self.store.live();
        let index = self.store.main.index();
        let (columns, _) = self.encoder.decode(&index.keys_of(&sessions))?;
        let keys = self.encoder.encode_key(&columns, sessions.len())?;
        let mut numbers = Vec::new();
        self.index.keys(&keys, &mut numbers);
        for (session, key) in sessions.iter().zip(numbers) {
            let (first, _) = self.store.main.values.extent(*session);
            self.index
                .insert(key, first, *session, self.end_of(*session));
        }
        Ok(())
    }
}

impl OperatorState for SessionAggregateOperator {
    fn hydrate(&mut self, scope: &TaskScope) -> Vec<ScanJob> {
        fired::scans(&self.tables.used(&self.plan), scope)
    }

    fn hydrated(&mut self, job: &ScanJob, reply: &ScanReply) -> Result<(), OperatorError> {
        for row in &reply.rows {
            if let Some(fired) = fired::read(job.table, row)? {
                self.fired = self.fired.max(fired);
            } else if !self.store.install(job.table, row)? {
                self.early.push((job.table, row.clone()));
            }
        }
        Ok(())
    }

    fn freeze(&mut self, _epoch: Epoch) {
        self.store.freeze();
        self.frozen_fired = (self.fired, self.frozen_fired.0);
    }

    fn encode(&mut self, rows_max: usize) -> bool {
        self.store.encode(rows_max)
    }

    fn take_delta(&mut self) -> StateDelta {
        let mut delta = StateDelta::default();
        self.store.take_delta(&mut delta.tables);
        let (fired, before) = self.frozen_fired;
        if fired != before {
            let rows = fired::delta(self.tables.main, &self.scope, fired);
            delta.tables.push(rows);
        }
        delta
    }

    fn size(&self) -> StateSize {
        let mut size = self.store.size();
        size.bytes += self.index.memory() as u64;
        size
    }
}
