//! The state side of frames that move along, and how rows come to them.

use engine::{
    ChangeBatch, Timestamp,
    key::KeyBatch,
    operator::{
        OperatorContext, OperatorError, OperatorState, Reassigned, StateSize, Step, TaskScope,
    },
    spill::Evicted,
    state::{Evict, Expiring, KeyIndex, KeyedLogic, ScanJob, StateDelta, Ttl, Wanted, evict},
};
use proto::types::{Epoch, TableId};
use state_client::{KeyRequest, LoadedRow, ScanReply};

use super::framed::FramedOver;

impl FramedOver {
    /// Forgets the values of partitions that are about to go; what goes wrong is told later.
    fn release_all(&mut self, partitions: &[u32]) {
        if let Err(damage) = self.release(partitions) {
            self.damage = Some(damage);
        }
    }

    fn remove(&mut self, partitions: &[u32]) -> Result<(), OperatorError> {
        self.release(partitions)?;
        partitions
            .iter()
            .for_each(|slot| self.history.remove(*slot));
        Ok(())
    }

    fn forget(&mut self, left: &dyn Fn(u64) -> bool) {
        let partitions = self.history.leaving(left);
        self.release_all(&partitions);
        self.history.forget_left(left);
    }
}

impl KeyedLogic for FramedOver {
    fn keys(&mut self, _input: usize, batch: &ChangeBatch) -> Result<KeyBatch, OperatorError> {
        Ok(self.shape.keys.encode(&batch.rows)?)
    }

    fn is_resident(&self) -> bool {
        self.history.index.is_resident()
    }

    fn wanted(
        &mut self,
        _input: usize,
        _batch: &ChangeBatch,
        keys: &KeyBatch,
    ) -> Result<Wanted, OperatorError> {
        let history = &self.history;
        let rows = (0..).zip(&keys.hashes);
        let unknown = rows.filter(|(_, hash)| history.index.is_unknown(**hash));
        let request = |(row, hash): (u32, &u64)| {
            let request = KeyRequest {
                table: history.rows.id(),
                namespace: 0,
                hash: *hash,
                sub: None,
            };
            (row, request)
        };
        Ok(unknown.map(request).collect())
    }

    fn whole_tables(&self) -> Vec<TableId> {
        vec![self.history.rows.id()]
    }

    fn index(&self) -> &KeyIndex {
        &self.history.index
    }

    fn index_mut(&mut self) -> &mut KeyIndex {
        &mut self.history.index
    }

    fn evicted_as_of(&self, hash: u64) -> Epoch {
        self.history.index.evicted_as_of(hash)
    }

    fn install(&mut self, request: &KeyRequest, rows: &[LoadedRow]) -> Result<(), OperatorError> {
        let partitions = self.history.install(rows)?;
        self.refill(&partitions, true)?;
        self.history.index.mark_loaded(request.hash);
        Ok(())
    }

    fn process(
        &mut self,
        _input: usize,
        batch: ChangeBatch,
        keys: KeyBatch,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        if let Some(damage) = self.damage.take() {
            return Err(damage);
        }
        let expired = self.history.expired(&keys);
        self.remove(&expired)?;
        let rows = self.apply(&batch, &keys, context)?;
        context.out.batch(ChangeBatch::inserts(rows));
        Ok(Step::Done)
    }

    fn state(&mut self) -> &mut dyn OperatorState {
        self
    }

    fn expiring(&mut self) -> Option<&mut dyn Expiring> {
        self.history.expires().then_some(self)
    }

    fn roll_back(&mut self, restored: Epoch) {
        let dirty = self.history.roll_back(restored);
        self.forget(&|hash| dirty.contains(&hash));
        self.history.mark_unknown(restored, &dirty);
    }
}

impl Expiring for FramedOver {
    fn ttl(&self) -> Ttl {
        self.history.ttl()
    }

    fn set_now(&mut self, now: Timestamp) {
        self.history.set_now(now);
    }

    fn expire(
        &mut self,
        keys_max: usize,
        _wanted: &mut Vec<KeyRequest>,
    ) -> Result<bool, OperatorError> {
        let mut due = Vec::new();
        let more = self.history.take_due(keys_max, &mut due);
        self.remove(&due)?;
        Ok(more)
    }

    fn partial_tables(&self) -> Vec<TableId> {
        let is_partial = !self.history.index.is_resident();
        Vec::from_iter(is_partial.then_some(self.history.rows.id()))
    }

    fn overdue(&self, table: TableId, rows: &[LoadedRow]) -> Vec<KeyRequest> {
        self.history.overdue(table, rows)
    }
}

impl OperatorState for FramedOver {
    /// Nothing: partitions are read as rows need them.
    fn hydrate(&mut self, _scope: &TaskScope) -> Vec<ScanJob> {
        Vec::new()
    }

    fn hydrated(&mut self, _job: &ScanJob, _reply: &ScanReply) -> Result<(), OperatorError> {
        Ok(())
    }

    fn freeze(&mut self, epoch: Epoch) {
        self.history.rows.freeze(epoch);
        self.history.index.freeze(epoch);
    }

    fn committed(&mut self, epoch: Epoch) {
        self.history.rows.committed(epoch);
        self.history.index.committed(epoch);
    }

    fn encode(&mut self, rows_max: usize) -> bool {
        self.history.rows.encode(rows_max)
    }

    fn take_delta(&mut self) -> StateDelta {
        StateDelta {
            tables: self.history.rows.take_delta().into_iter().collect(),
            ..StateDelta::default()
        }
    }

    fn reassign(&mut self, scope: &TaskScope, change: &Reassigned) -> Vec<ScanJob> {
        if !change.left.is_empty() {
            self.forget(&|hash| change.left.contains(scope.key_groups.of_hash(hash)));
        }
        self.history.reassign(change);
        Vec::new()
    }

    fn size(&self) -> StateSize {
        Evict::size(self)
    }

    fn evict(&mut self, bytes: u64, evicted: &mut Evicted) -> u64 {
        evict(self, bytes, evicted)
    }
}

impl Evict for FramedOver {
    fn size(&self) -> StateSize {
        let mut size = self.history.size();
        size.bytes += self.calls.memory() as u64;
        size
    }

    fn find_old(&mut self, most: usize) -> Vec<u32> {
        self.history.index.find_old(most)
    }

    fn index(&self) -> &KeyIndex {
        &self.history.index
    }

    fn evict(&mut self, slots: &[u32], evicted: &mut Evicted) {
        self.release_all(slots);
        self.history.evict(slots, evicted);
    }
}
