//! The groups of an aggregation with all that belongs to them, in one namespace: accumulators in
//! the table "main", distinct values in "distinct", ordered values in "values".

use std::{collections::HashSet, sync::Arc};

use arrow::array::{ArrayRef, RecordBatch};
use engine::{
    key::{KeyBatch, KeyWidth},
    operator::{OperatorError, Reassigned, StateSize, TaskScope},
    spill::Evicted,
    state::{Evict, FrozenRows, KeyIndex, MapTable, NO_SLOT, Stamped, TableDelta, Ttl},
};
use proto::types::{Epoch, TableId};
use state_client::LoadedRow;

use super::{
    distinct::{DistinctKeys, DistinctTable},
    ordered::OrderedTable,
    plan::{AggregatePlan, Output},
    rows::{Rows, Selection, selected},
    sub_row,
    values::Accumulators,
};

/// The state tables of an aggregation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StateTables {
    /// Accumulators by group.
    pub(crate) main: TableId,
    /// Distinct values.
    pub(crate) distinct: TableId,
    /// Ordered values.
    pub(crate) values: TableId,
}

impl StateTables {
    /// From a node's tables in their reserved order.
    pub(crate) fn new(tables: &[TableId], plan: &AggregatePlan) -> Result<Self, OperatorError> {
        let needed = match (plan.ordereds.is_empty(), plan.distincts.is_empty()) {
            (false, _) => 3,
            (true, false) => 2,
            (true, true) => 1,
        };
        if tables.len() < needed {
            let message = format!("an aggregate has {} of {needed} state tables", tables.len());
            return Err(OperatorError::Plan(message));
        }
        let table = |index: usize| tables[index.min(tables.len() - 1)];
        Ok(StateTables {
            main: table(0),
            distinct: table(1),
            values: table(2),
        })
    }

    /// The tables that `plan` uses.
    pub(crate) fn used(&self, plan: &AggregatePlan) -> Vec<TableId> {
        let mut used = vec![self.main];
        if !plan.distincts.is_empty() {
            used.push(self.distinct);
        }
        if !plan.ordereds.is_empty() {
            used.push(self.values);
        }
        used
    }
}

/// Groups and their values.
pub(crate) struct AggregateStore {
    pub(super) plan: Arc<AggregatePlan>,
    tables: StateTables,
    namespace: i64,
    /// Accumulators; change a group only after touching it.
    pub(crate) main: MapTable<Stamped<Accumulators>>,
    pub(super) distincts: Vec<DistinctTable>,
    ordereds: Vec<OrderedTable>,
    news: Vec<Selection>,
}

impl AggregateStore {
    /// An empty store.
    pub(crate) fn new(
        plan: Arc<AggregatePlan>,
        tables: StateTables,
        namespace: i64,
        width: KeyWidth,
        scope: &TaskScope,
        partial: bool,
        ttl: Option<Ttl>,
    ) -> Result<Self, OperatorError> {
        let values = Accumulators::new(plan.accumulators()?, plan.retracts());
        let values = Stamped::new(values, ttl);
        let retracts = plan.retracts();
        let distincts = plan.distincts.iter().enumerate();
        let ordereds = plan.ordereds.iter().enumerate();
        Ok(AggregateStore {
            main: MapTable::new(tables.main, namespace, width, scope, partial, values),
            distincts: distincts
                .map(|(number, plan)| DistinctTable::new(number, plan, retracts))
                .collect::<Result<_, _>>()?,
            ordereds: ordereds
                .map(|(number, plan)| OrderedTable::new(number, plan))
                .collect::<Result<_, _>>()?,
            news: Vec::new(),
            plan,
            tables,
            namespace,
        })
    }

    /// See [`MapTable::keep_undo`]; not if groups have values of their own.
    pub(crate) fn keep_undo(&mut self) {
        if self.distincts.is_empty() && self.ordereds.is_empty() {
            self.main.keep_undo();
        }
    }

    /// The values that the distinct tables will look up for a batch.
    pub(crate) fn distinct_keys(
        &self,
        batch: &RecordBatch,
    ) -> Result<Vec<DistinctKeys>, OperatorError> {
        self.distincts
            .iter()
            .map(|table| table.keys(batch))
            .collect()
    }

    /// The hashes of the distinct values of a row that the store may have.
    pub(crate) fn subs<'a>(
        &'a self,
        keys: &'a [DistinctKeys],
        row: usize,
    ) -> impl Iterator<Item = u64> + 'a {
        self.distincts
            .iter()
            .zip(keys)
            .filter_map(move |(table, keys)| table.sub(keys, row))
    }

    /// Takes in the rows of a batch, row `i` into group `slots[i]`, all of them touched.
    pub(crate) fn update(
        &mut self,
        batch: &RecordBatch,
        adds: Option<&[bool]>,
        slots: &[u32],
    ) -> Result<(), OperatorError> {
        let plan = &*self.plan;
        let rows = Rows {
            slots,
            indices: None,
            adds,
        };
        self.main.values.count_rows(slots, adds);
        let mut selections = Vec::new();
        self.main
            .values
            .update(plan, &rows, batch, &mut selections)?;
        let mut args: Vec<ArrayRef> = Vec::new();
        for (number, table) in self.distincts.iter_mut().enumerate() {
            let values = table.keys(batch)?;
            table.update(self.main.index(), &rows, batch, &values, &mut self.news);
            for (accumulator, call) in self.main.values.list.iter_mut().zip(&plan.accumulators) {
                if let Some((_, filter)) = call.distinct.filter(|(table, _)| *table == number) {
                    args.clear();
                    args.extend(
                        call.columns
                            .iter()
                            .map(|column| batch.column(*column).clone()),
                    );
                    accumulator.update(&self.news[filter].rows(), &args)?;
                }
            }
        }
        for table in &mut self.ordereds {
            let column = batch.column(table.plan().column);
            match table.plan().filter {
                None => table.update(self.main.index(), &rows, column)?,
                Some(filter) => {
                    let selection = selected(&mut selections, filter, &rows, batch);
                    table.update(self.main.index(), &selection.rows(), column)?;
                }
            }
        }
        Ok(())
    }

    /// Takes in all groups of another store.
    pub(crate) fn merge(&mut self, other: &AggregateStore) -> Result<(), OperatorError> {
        let from = other.live();
        if from.is_empty() {
            return Ok(());
        }
        let index = other.main.index();
        let keys = KeyBatch {
            hashes: from.iter().map(|slot| index.hash(*slot)).collect(),
            keys: index.keys_of(&from),
        };
        let mut into = Vec::new();
        self.main.find_or_insert(&keys, &mut into);
        let plan = self.plan.clone();
        self.main
            .values
            .merge_counts(&into, &other.main.values, &from);
        let lists = self
            .main
            .values
            .list
            .iter_mut()
            .zip(&other.main.values.list);
        for ((accumulator, other), call) in lists.zip(&plan.accumulators) {
            if call.distinct.is_none() {
                accumulator.update_partial(&Rows::all(&into), &other.partials(&from)?)?;
            }
        }
        let mut group_of = vec![NO_SLOT; index.slots()];
        for (into, from) in into.iter().zip(&from) {
            group_of[*from as usize] = *into;
        }
        for (number, (table, other)) in self.distincts.iter_mut().zip(&other.distincts).enumerate()
        {
            let (columns, news) = table.merge(self.main.index(), other, &group_of)?;
            for (accumulator, call) in self.main.values.list.iter_mut().zip(&plan.accumulators) {
                if let Some((_, filter)) = call.distinct.filter(|(table, _)| *table == number) {
                    accumulator.update(&news[filter].rows(), &columns)?;
                }
            }
        }
        for (table, other) in self.ordereds.iter_mut().zip(&other.ordereds) {
            table.merge(self.main.index(), other, &group_of);
        }
        Ok(())
    }

    /// Adds the rows of group `from`, which goes, to those of `into`, which is touched.
    pub(crate) fn merge_within(&mut self, into: u32, from: u32) -> Result<(), OperatorError> {
        let plan = self.plan.clone();
        self.main.values.merge_within(&plan, into, from)?;
        for (number, table) in self.distincts.iter_mut().enumerate() {
            let (columns, news) = table.merge_within(self.main.index(), into, from)?;
            for (accumulator, call) in self.main.values.list.iter_mut().zip(&plan.accumulators) {
                if let Some((_, filter)) = call.distinct.filter(|(table, _)| *table == number) {
                    accumulator.update(&news[filter].rows(), &columns)?;
                }
            }
        }
        for table in &mut self.ordereds {
            table.merge_within(self.main.index(), into, from);
        }
        Ok(())
    }

    /// The calls' results for groups.
    pub(crate) fn results(&self, slots: &[u32]) -> Result<Vec<ArrayRef>, OperatorError> {
        let result = |output: &Output| match output {
            Output::Accumulator(index) => self.main.values.list[*index].results(slots),
            Output::Ordered { table, greatest } => self.ordereds[*table].results(slots, *greatest),
        };
        self.plan.outputs.iter().map(result).collect()
    }

    /// Groups, in the order in which their slots were made.
    pub(crate) fn live(&self) -> Vec<u32> {
        let index = self.main.index();
        if index.len() == index.slots() {
            return (0..index.slots() as u32).collect();
        }
        let mut live: Vec<u32> = index.iter().collect();
        live.sort_unstable();
        live
    }

    /// Deletes a group and what is left of its values.
    pub(crate) fn remove(&mut self, slot: u32) {
        let index = self.main.index();
        self.distincts
            .iter_mut()
            .for_each(|table| table.vanish(index, slot));
        self.ordereds
            .iter_mut()
            .for_each(|table| table.vanish(index, slot));
        self.main.remove(slot);
        self.main.values.clear_age(slot);
    }

    /// Forgets groups that are another task's from now on, with their values; those that came are to
    /// be read.
    pub(crate) fn reassign(&mut self, change: &Reassigned) {
        let index = self.main.index();
        let groups = index.key_groups();
        if !change.left.is_empty() {
            self.forget_values(&|hash| change.left.contains(groups.of_hash(hash)));
        }
        // What expires, and what has values of its own, is found by its slot.
        let is_alone = self.distincts.is_empty() && self.ordereds.is_empty();
        if is_alone && self.main.values.ttl().is_none() {
            self.main.let_go(change);
        } else {
            self.main.reassign(change);
        }
    }

    /// Puts a committed row of any of the tables into memory. A value's group must have been put
    /// there before it; `false`: it has not.
    pub(crate) fn install(
        &mut self,
        table: TableId,
        row: &LoadedRow,
    ) -> Result<bool, OperatorError> {
        if table == self.tables.main {
            self.main.install(row)?;
            return Ok(true);
        }
        let decode = |cause: String| OperatorError::Decode {
            table: table.to_string(),
            cause,
        };
        let parts = sub_row::read_identity(&row.identity).map_err(decode)?;
        let index = self.main.index();
        let key = index
            .read_identity(parts.key)
            .ok_or_else(|| decode("a value's key has too few bytes".to_owned()))?;
        let group = index.find_row(&key, 0, row.hash);
        if group == NO_SLOT {
            return Ok(false);
        }
        let unknown = || decode(format!("there is no value table {}", parts.table));
        if table == self.tables.distinct && parts.table < self.distincts.len() {
            self.distincts[parts.table]
                .install(group, parts.sub, parts.value, &row.value)
                .map_err(decode)?;
        } else {
            self.ordereds
                .get_mut(parts.table)
                .ok_or_else(unknown)?
                .install(group, parts.value, &row.value)
                .map_err(decode)?;
        }
        Ok(true)
    }

    /// See [`engine::state::Changes::freeze`].
    pub(crate) fn freeze(&mut self, epoch: Epoch) {
        self.main.freeze(epoch);
        let (distincts, ordereds) = (self.distincts.iter_mut(), self.ordereds.iter_mut());
        distincts.for_each(|table| table.freeze(epoch));
        ordereds.for_each(|table| table.freeze(epoch));
    }

    /// See [`engine::state::Changes::committed`].
    pub(crate) fn committed(&mut self, epoch: Epoch) {
        self.main.committed(epoch);
        let (distincts, ordereds) = (self.distincts.iter_mut(), self.ordereds.iter_mut());
        distincts.for_each(|table| table.committed(epoch));
        ordereds.for_each(|table| table.committed(epoch));
    }

    /// Forgets the groups that were changed after `restored`, with all their values.
    pub(crate) fn roll_back(&mut self, restored: Epoch) {
        let mut dirty = HashSet::new();
        let index = self.main.index();
        for table in &mut self.distincts {
            table.roll_back(index, restored, &mut dirty);
        }
        for table in &mut self.ordereds {
            table.roll_back(index, restored, &mut dirty);
        }
        self.main.roll_back(restored, &mut dirty);
        self.forget_values(&|hash| dirty.contains(&hash));
        self.main.forget_dirty(&dirty);
    }

    fn forget_values(&mut self, of: &dyn Fn(u64) -> bool) {
        let index = self.main.index();
        let (distincts, ordereds) = (self.distincts.iter_mut(), self.ordereds.iter_mut());
        distincts.for_each(|table| table.forget(index, of));
        ordereds.for_each(|table| table.forget(index, of));
    }

    /// See [`engine::state::Changes::encode`].
    pub(crate) fn encode(&mut self, rows_max: usize) -> bool {
        let index: &KeyIndex = self.main.index();
        let mut done = self
            .distincts
            .iter_mut()
            .all(|table| table.encode(index, rows_max));
        done = done
            && self
                .ordereds
                .iter_mut()
                .all(|table| table.encode(index, rows_max));
        done && self.main.encode(rows_max)
    }

    /// Appends the frozen rows.
    pub(crate) fn take_delta(&mut self, tables: &mut Vec<TableDelta>) {
        tables.extend(self.main.take_delta());
        let mut distinct = FrozenRows::default();
        self.distincts
            .iter_mut()
            .for_each(|table| distinct.append(table.take_frozen()));
        let mut values = FrozenRows::default();
        self.ordereds
            .iter_mut()
            .for_each(|table| values.append(table.take_frozen()));
        for (table, rows) in [
            (self.tables.distinct, distinct),
            (self.tables.values, values),
        ] {
            if !rows.is_empty() {
                tables.push(TableDelta {
                    table,
                    namespace: self.namespace,
                    rows,
                });
            }
        }
    }

    /// As [`MapTable::shrink`], if no values of groups are kept that are found by the group's slot.
    pub(crate) fn shrink(&mut self) {
        if self.distincts.is_empty() && self.ordereds.is_empty() {
            self.main.shrink();
        }
    }

    /// Live rows and bytes.
    pub(crate) fn size(&self) -> StateSize {
        let mut size = self.main.size();
        for table in &self.distincts {
            size.rows += table.len() as u64;
            size.bytes += table.memory() as u64;
            size.free_bytes += table.free_memory() as u64;
        }
        for table in &self.ordereds {
            size.rows += table.len() as u64;
            size.bytes += table.memory() as u64;
        }
        size
    }
}

impl Evict for AggregateStore {
    fn size(&self) -> StateSize {
        AggregateStore::size(self)
    }

    fn find_old(&mut self, most: usize) -> Vec<u32> {
        self.main.find_old(most)
    }

    fn index(&self) -> &KeyIndex {
        self.main.index()
    }

    fn evict(&mut self, slots: &[u32], evicted: &mut Evicted) {
        if !self.distincts.is_empty() || !self.ordereds.is_empty() {
            let index = self.main.index();
            let hashes: HashSet<u64> = slots.iter().map(|slot| index.hash(*slot)).collect();
            self.forget_values(&|hash| hashes.contains(&hash));
        }
        // Of values only some may be in memory: they are read from the store.
        self.main.evict(slots, evicted);
    }
}
