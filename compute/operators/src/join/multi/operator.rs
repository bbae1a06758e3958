//! The operator: rows are kept, and those that meet rows of all other inputs come out.

use std::collections::BTreeMap;

use engine::{
    ChangeBatch,
    key::KeyBatch,
    operator::{
        Operator, OperatorContext, OperatorError, OperatorState, Reassigned, StateSize, Step,
        TaskScope,
    },
    spill::Evicted,
    state::{KeyIndex, Keyed, KeyedLogic, NO_SLOT, ScanJob, StateDelta, StateTtl, Wanted, evict},
};
use proto::{
    plan::{self, Changelog},
    types::{Epoch, Field, TableId},
};
use state_client::{KeyRequest, LoadedRow, ScanReply};

use super::{
    probe::{Event, Probe},
    shape::MultiShape,
    state::MultiState,
};

/// Builds the operator of a [`plan::MultiJoin`].
pub struct MultiJoinOperator {
    shape: MultiShape,
    state: MultiState,
    tables: Vec<TableId>,
    append_only: Vec<bool>,
    probe: Option<Probe>,
    /// Of hashes whose rows are being loaded: how many tables have come.
    half_loaded: BTreeMap<u64, usize>,
}

impl MultiJoinOperator {
    /// A join of `inputs`, each kept in one of `tables`.
    ///
    /// # Errors
    /// When the plan cannot be run.
    pub fn build(
        spec: &plan::MultiJoin,
        inputs: &[&[Field]],
        tables: &[TableId],
        changelogs: &[Changelog],
        ttl: &StateTtl,
        scope: &TaskScope,
    ) -> Result<Box<dyn Operator>, OperatorError> {
        let refused = |message: &str| Err(OperatorError::Plan(message.to_owned()));
        if [tables.len(), changelogs.len()] != [inputs.len(); 2] {
            return refused("a join of many inputs has a table for each");
        }
        if (0..inputs.len()).any(|input| ttl.of_input(input).is_some()) {
            return refused("rows of a join of many inputs have no lifetime");
        }
        let append_only: Vec<bool> = changelogs.iter().map(Changelog::is_append).collect();
        let shape = MultiShape::compile(spec, inputs, scope.batch_rows)?;
        Ok(Box::new(Keyed::new(MultiJoinOperator {
            state: MultiState::new(&shape, tables, &append_only, scope),
            shape,
            tables: tables.to_vec(),
            append_only,
            probe: None,
            half_loaded: BTreeMap::new(),
        })))
    }

    /// Keeps the rows of a batch that only come; those that meet others.
    fn append(
        &mut self,
        input: usize,
        batch: &ChangeBatch,
        keys: &KeyBatch,
    ) -> Result<Vec<Event>, OperatorError> {
        let (columns, rows) = (batch.rows.columns(), batch.num_rows());
        let bytes = self.shape.inputs[input].codec.encode(columns, rows)?;
        let null_keys = self.shape.null_keys(input, columns);
        let (mut events, mut found) = (Vec::new(), Vec::new());
        self.state.index.likely(keys, &mut found);
        for (row, found) in found.into_iter().enumerate() {
            if null_keys.as_ref().is_some_and(|nulls| nulls.value(row)) {
                continue;
            }
            let key_slot = self.state.likely_slot(found, keys, row);
            let hash = keys.hashes[row];
            self.state.append(input, key_slot, hash, bytes.row(row));
            if self.state.has_all_but(key_slot, input) {
                events.push(Event {
                    row: row as u32,
                    key_slot,
                    is_add: true,
                });
            }
        }
        Ok(events)
    }

    /// Keeps the rows of a batch that come and takes back those that go; those that meet others.
    fn change(
        &mut self,
        input: usize,
        batch: &ChangeBatch,
        keys: &KeyBatch,
    ) -> Result<Vec<Event>, OperatorError> {
        let (columns, rows) = (batch.rows.columns(), batch.num_rows());
        let bytes = self.shape.inputs[input].codec.encode(columns, rows)?;
        let ids = self.state.inputs[input].rows.ids(&bytes, columns)?;
        let null_keys = self.shape.null_keys(input, columns);
        let mut events = Vec::new();
        for row in 0..rows {
            if null_keys.as_ref().is_some_and(|nulls| nulls.value(row)) {
                continue;
            }
            let (hash, bytes, is_add) =
                (keys.hashes[row], bytes.row(row), batch.kind(row).is_add());
            let slot = self.state.inputs[input].rows.find(hash, &ids, row, bytes);
            if !is_add && slot == NO_SLOT {
                continue;
            }
            let key_slot = self.state.key_slot(keys, row);
            // Before its key goes with the last of its rows.
            if self.state.has_all_but(key_slot, input) {
                events.push(Event {
                    row: row as u32,
                    key_slot,
                    is_add,
                });
            }
            let table = &mut self.state.inputs[input].rows;
            match (is_add, slot) {
                (true, NO_SLOT) => {
                    let hashes = (hash, &ids);
                    self.state.insert(input, key_slot, hashes, row, bytes);
                }
                (true, slot) => table.add_copy(slot),
                (false, slot) if table.remove_copy(slot) => {}
                (false, slot) => self.state.remove(input, key_slot, slot),
            }
        }
        Ok(events)
    }

    fn run(&mut self, context: &mut OperatorContext<'_>) -> Result<Step, OperatorError> {
        let Some(probe) = &mut self.probe else {
            return Ok(Step::Done);
        };
        if !probe.run(&self.shape, &self.state, context.out)? {
            return Ok(Step::More);
        }
        self.probe = None;
        Ok(Step::Done)
    }
}

impl KeyedLogic for MultiJoinOperator {
    fn keys(&mut self, input: usize, batch: &ChangeBatch) -> Result<KeyBatch, OperatorError> {
        Ok(self.shape.inputs[input].keys.encode(&batch.rows)?)
    }

    fn is_resident(&self) -> bool {
        self.state.index.is_resident()
    }

    fn wanted(
        &mut self,
        input: usize,
        batch: &ChangeBatch,
        keys: &KeyBatch,
    ) -> Result<Wanted, OperatorError> {
        let null_keys = self.shape.null_keys(input, batch.rows.columns());
        let mut wanted = Wanted::new();
        for (row, hash) in keys.hashes.iter().enumerate() {
            let is_null = null_keys.as_ref().is_some_and(|nulls| nulls.value(row));
            if is_null || !self.state.index.is_unknown(*hash) {
                continue;
            }
            wanted.extend(self.tables.iter().map(|table| {
                let request = KeyRequest {
                    table: *table,
                    namespace: 0,
                    hash: *hash,
                    sub: None,
                };
                (row as u32, request)
            }));
        }
        Ok(wanted)
    }

    fn whole_tables(&self) -> Vec<TableId> {
        self.tables.clone()
    }

    fn index(&self) -> &KeyIndex {
        &self.state.index
    }

    fn index_mut(&mut self) -> &mut KeyIndex {
        &mut self.state.index
    }

    fn evicted_as_of(&self, hash: u64) -> Epoch {
        self.state.index.evicted_as_of(hash)
    }

    fn install(&mut self, request: &KeyRequest, rows: &[LoadedRow]) -> Result<(), OperatorError> {
        let mut tables = self.tables.iter();
        let Some(input) = tables.position(|table| *table == request.table) else {
            return Ok(());
        };
        self.state.install(&self.shape.inputs[input], input, rows)?;
        // All tables of a key are asked for together; it is there when they all are.
        let loaded = self.half_loaded.entry(request.hash).or_default();
        *loaded += 1;
        if *loaded == self.tables.len() {
            self.half_loaded.remove(&request.hash);
            self.state.index.mark_loaded(request.hash);
        }
        Ok(())
    }

    fn process(
        &mut self,
        input: usize,
        batch: ChangeBatch,
        keys: KeyBatch,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        let events = match self.append_only[input] {
            false => self.change(input, &batch, &keys)?,
            true if batch.is_append() => self.append(input, &batch, &keys)?,
            true => {
                let message = "an append-only input of a join takes rows back";
                return Err(OperatorError::Plan(message.to_owned()));
            }
        };
        if !events.is_empty() {
            let columns = batch.rows.columns().to_vec();
            self.probe = Some(Probe::new(input, columns, events));
        }
        self.run(context)
    }

    fn resume(&mut self, context: &mut OperatorContext<'_>) -> Result<Step, OperatorError> {
        self.run(context)
    }

    fn state(&mut self) -> &mut dyn OperatorState {
        self
    }

    fn roll_back(&mut self, restored: Epoch) {
        self.state.roll_back(restored);
        self.half_loaded.clear();
        self.probe = None;
    }
}

impl OperatorState for MultiJoinOperator {
    fn hydrate(&mut self, _scope: &TaskScope) -> Vec<ScanJob> {
        Vec::new()
    }

    fn hydrated(&mut self, _job: &ScanJob, _reply: &ScanReply) -> Result<(), OperatorError> {
        Ok(())
    }

    fn freeze(&mut self, epoch: Epoch) {
        self.state.freeze(epoch);
    }

    fn encode(&mut self, rows_max: usize) -> bool {
        self.state.encode(rows_max)
    }

    fn take_delta(&mut self) -> StateDelta {
        self.state.take_delta()
    }

    fn committed(&mut self, epoch: Epoch) {
        self.state.committed(epoch);
    }

    fn reassign(&mut self, _scope: &TaskScope, change: &Reassigned) -> Vec<ScanJob> {
        self.state.reassign(change);
        Vec::new()
    }

    fn size(&self) -> StateSize {
        self.state.size()
    }

    fn evict(&mut self, bytes: u64, evicted: &mut Evicted) -> u64 {
        evict(&mut self.state, bytes, evicted)
    }
}
