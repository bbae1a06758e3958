//! The state side of rows that are kept, and how they come.

use std::collections::HashSet;

use engine::{
    ChangeBatch,
    key::KeyBatch,
    operator::{
        OperatorContext, OperatorError, OperatorState, Reassigned, StateSize, Step, TaskScope,
    },
    spill::Evicted,
    state::{Expiring, KeyIndex, KeyedLogic, ScanJob, StateDelta, Wanted, evict},
};
use proto::types::{Epoch, TableId};
use state_client::{KeyRequest, LoadedRow, ScanReply};

use super::kept::KeptOver;

impl KeyedLogic for KeptOver {
    fn keys(&mut self, _input: usize, batch: &ChangeBatch) -> Result<KeyBatch, OperatorError> {
        Ok(self.shape.keys.encode(&batch.rows)?)
    }

    fn is_resident(&self) -> bool {
        self.ranking.index.is_resident()
    }

    fn wanted(
        &mut self,
        _input: usize,
        _batch: &ChangeBatch,
        keys: &KeyBatch,
    ) -> Result<Wanted, OperatorError> {
        let ranking = &self.ranking;
        let rows = (0..).zip(&keys.hashes);
        let unknown = rows.filter(|(_, hash)| ranking.index.is_unknown(**hash));
        let request = |(row, hash): (u32, &u64)| {
            let request = KeyRequest {
                table: ranking.rows.id(),
                namespace: 0,
                hash: *hash,
                sub: None,
            };
            (row, request)
        };
        Ok(unknown.map(request).collect())
    }

    fn whole_tables(&self) -> Vec<TableId> {
        vec![self.ranking.rows.id()]
    }

    fn index(&self) -> &KeyIndex {
        &self.ranking.index
    }

    fn index_mut(&mut self) -> &mut KeyIndex {
        &mut self.ranking.index
    }

    fn evicted_as_of(&self, hash: u64) -> Epoch {
        self.ranking.index.evicted_as_of(hash)
    }

    fn install(&mut self, request: &KeyRequest, rows: &[LoadedRow]) -> Result<(), OperatorError> {
        self.ranking.install(&self.shape, rows)?;
        self.ranking.index.mark_loaded(request.hash);
        Ok(())
    }

    fn process(
        &mut self,
        _input: usize,
        batch: ChangeBatch,
        keys: KeyBatch,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        self.ranking.remove_expired(&keys);
        self.leaving = Some(self.apply(&batch, &keys)?);
        self.put_out(context)
    }

    fn resume(&mut self, context: &mut OperatorContext<'_>) -> Result<Step, OperatorError> {
        self.put_out(context)
    }

    fn state(&mut self) -> &mut dyn OperatorState {
        self
    }

    fn expiring(&mut self) -> Option<&mut dyn Expiring> {
        let expires = self.ranking.ages.is_some();
        expires.then_some(&mut self.ranking as &mut dyn Expiring)
    }

    fn roll_back(&mut self, restored: Epoch) {
        self.leaving = None;
        let mut dirty = HashSet::new();
        self.ranking.rows.roll_back(restored, &mut dirty);
        self.ranking.forget_left(&|hash| dirty.contains(&hash));
        self.ranking.index.roll_back(restored);
        self.ranking.index.mark_unknown(&dirty);
    }
}

impl OperatorState for KeptOver {
    /// Nothing: partitions are read as rows need them.
    fn hydrate(&mut self, _scope: &TaskScope) -> Vec<ScanJob> {
        Vec::new()
    }

    fn hydrated(&mut self, _job: &ScanJob, _reply: &ScanReply) -> Result<(), OperatorError> {
        Ok(())
    }

    fn freeze(&mut self, epoch: Epoch) {
        self.ranking.rows.freeze(epoch);
        self.ranking.index.freeze(epoch);
    }

    fn committed(&mut self, epoch: Epoch) {
        self.ranking.rows.committed(epoch);
        self.ranking.index.committed(epoch);
    }

    fn encode(&mut self, rows_max: usize) -> bool {
        self.ranking.rows.encode(rows_max)
    }

    fn take_delta(&mut self) -> StateDelta {
        StateDelta {
            tables: self.ranking.rows.take_delta().into_iter().collect(),
            ..StateDelta::default()
        }
    }

    fn reassign(&mut self, scope: &TaskScope, change: &Reassigned) -> Vec<ScanJob> {
        if !change.left.is_empty() {
            let left = |hash: u64| change.left.contains(scope.key_groups.of_hash(hash));
            self.ranking.forget_left(&left);
        }
        self.ranking.index.reassign(&change.left, &change.came);
        Vec::new()
    }

    fn size(&self) -> StateSize {
        self.ranking.size()
    }

    fn evict(&mut self, bytes: u64, evicted: &mut Evicted) -> u64 {
        evict(&mut self.ranking, bytes, evicted)
    }
}
