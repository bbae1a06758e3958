//! The state side of sessions: all of it is read when a job goes on.

use engine::{
    operator::{OperatorError, OperatorState, Reassigned, StateSize, TaskScope},
    state::{ScanJob, StateDelta},
};
use proto::types::{Epoch, KeyGroupSet};
use state_client::ScanReply;

use super::{processing_time::Alarm, session::SessionAggregateOperator};
use crate::rows::fired;

/// What was read and has not come into its place.
#[derive(Default)]
pub(super) struct Unsettled {
    /// Key groups whose sessions are not indexed yet.
    groups: KeyGroupSet,
    /// What was read does not decode; told when rows come.
    damage: Option<OperatorError>,
}

impl SessionAggregateOperator {
    /// Indexes the sessions that were read.
    pub(super) fn settle(&mut self) -> Result<(), OperatorError> {
        if let Some(damage) = self.unsettled.damage.take() {
            return Err(damage);
        }
        self.settle_fired();
        let groups = std::mem::take(&mut self.unsettled.groups);
        if groups.is_empty() {
            return Ok(());
        }
        for (table, row) in std::mem::take(&mut self.early) {
            self.store.install(table, &row)?;
        }
        let index = self.store.main.index();
        let mut sessions = index.slots_of(&groups);
        sessions.sort_unstable();
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

    fn settle_fired(&mut self) {
        if !self.fired.is_settled() {
            self.unsettled.groups = self.fired.settle(&self.scope.owned);
        }
    }
}

impl OperatorState for SessionAggregateOperator {
    fn hydrate(&mut self, scope: &TaskScope) -> Vec<ScanJob> {
        fired::scans(&self.tables.used(&self.plan), scope)
    }

    fn hydrated(&mut self, job: &ScanJob, reply: &ScanReply) -> Result<(), OperatorError> {
        self.fired.note(job.key_group, None);
        for row in &reply.rows {
            if let Some(fired) = fired::read(job.table, row)? {
                self.fired.note(job.key_group, Some(fired));
            } else if !self.store.install(job.table, row)? {
                self.early.push((job.table, row.clone()));
            }
        }
        self.alarm.iter_mut().for_each(Alarm::ring);
        Ok(())
    }

    fn committed(&mut self, epoch: Epoch) {
        self.store.committed(epoch);
    }

    fn freeze(&mut self, epoch: Epoch) {
        self.settle_fired();
        self.store.freeze(epoch);
        self.frozen.freeze(&self.fired, &self.scope.owned);
    }

    fn encode(&mut self, rows_max: usize) -> bool {
        self.store.encode(rows_max)
    }

    fn take_delta(&mut self) -> StateDelta {
        let mut delta = StateDelta::default();
        self.store.take_delta(&mut delta.tables);
        let marks = self
            .frozen
            .take_delta(self.tables.main, self.scope.key_groups);
        delta.tables.extend(marks);
        delta
    }

    fn reassign(&mut self, scope: &TaskScope, change: &Reassigned) -> Vec<ScanJob> {
        // What came last may leave before any row has come.
        self.unsettled.damage = self.settle().err();
        self.scope = scope.clone();
        for session in self.store.main.index().slots_of(&change.left) {
            let first = self.store.main.values.extent(session).0;
            self.index.remove(session, first);
        }
        self.index.reassign(change);
        self.store.reassign(change);
        fired::scans_of(&self.tables.used(&self.plan), &change.came)
    }

    fn size(&self) -> StateSize {
        let mut size = self.store.size();
        size.bytes += self.index.memory() as u64;
        size
    }
}
