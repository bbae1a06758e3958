//! The values that each group has, in order, with how many copies of each: MIN and MAX that can
//! forget.

use std::collections::{BTreeMap, HashSet};

use arrow::{
    array::{Array, ArrayRef, ArrowPrimitiveType, AsArray as _, BinaryArray, StringArray},
    compute::cast,
    datatypes::DataType,
};
use engine::{
    key::{hash_bytes, hash_u128, mix},
    operator::OperatorError,
    state::{Changes, FrozenRows, KeyIndex},
};
use proto::types::Epoch;

use super::{
    native::{Native, array_of, primitive, with_primitive},
    plan::OrderedPlan,
    rows::{Rows, Selection},
    sub_row,
};

/// The ordered values of one column, for all groups of one index.
#[derive(Debug)]
pub(crate) struct OrderedTable {
    number: usize,
    plan: OrderedPlan,
    /// (group, value) to entry.
    order: BTreeMap<(u32, Ordered), u32>,
    entries: Vec<Entry>,
    free: Vec<u32>,
    changes: Changes,
}

#[derive(Debug)]
struct Entry {
    group: u32,
    value: Ordered,
    copies: i64,
}

/// A value in its order.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Ordered {
    Number(i128),
    Bytes(Box<[u8]>),
}

impl Ordered {
    const LEAST: Ordered = Ordered::Number(i128::MIN);

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Ordered::Number(number) => out.extend_from_slice(&number.to_be_bytes()),
            Ordered::Bytes(bytes) => out.extend_from_slice(bytes),
        }
    }

    fn hash(&self) -> u64 {
        match self {
            Ordered::Number(number) => hash_u128(*number as u128),
            Ordered::Bytes(bytes) => hash_bytes(bytes),
        }
    }
}

impl OrderedTable {
    /// An empty table, the `number`-th of its aggregation.
    pub(crate) fn new(number: usize, plan: &OrderedPlan) -> Result<Self, OperatorError> {
        let is_simple = matches!(
            plan.data_type,
            DataType::Boolean | DataType::Utf8 | DataType::Binary
        );
        let has_order =
            is_simple || with_primitive!(&plan.data_type, T => is_ordered::<T>(), else false);
        if !has_order {
            let message = format!("MIN and MAX of {} are not supported", plan.data_type);
            return Err(OperatorError::Plan(message));
        }
        Ok(OrderedTable {
            number,
            plan: plan.clone(),
            order: BTreeMap::new(),
            entries: Vec::new(),
            free: Vec::new(),
            changes: Changes::default(),
        })
    }

    /// What it is of.
    pub(crate) fn plan(&self) -> &OrderedPlan {
        &self.plan
    }

    /// Takes rows in.
    pub(crate) fn update(
        &mut self,
        index: &KeyIndex,
        rows: &Rows<'_>,
        column: &ArrayRef,
    ) -> Result<(), OperatorError> {
        let nulls = column.logical_nulls();
        let mut selection = Selection::default();
        selection.clear(true);
        rows.for_each_valid(nulls.as_ref(), |group, row, add| {
            selection.push(group as u32, row as u32, add);
        });
        let rows = selection.rows();
        let mut change = |group: usize, value: Ordered, add: bool| {
            self.change(index, group as u32, value, if add { 1 } else { -1 });
        };
        match column.data_type() {
            DataType::Boolean => {
                let values = column.as_boolean();
                rows.for_each(|group, row, add| {
                    change(group, Ordered::Number(i128::from(values.value(row))), add);
                });
            }
            DataType::Utf8 => {
                let values: &StringArray = column.as_string();
                rows.for_each(|group, row, add| {
                    change(
                        group,
                        Ordered::Bytes(values.value(row).as_bytes().into()),
                        add,
                    );
                });
            }
            DataType::Binary => {
                let values: &BinaryArray = column.as_binary();
                rows.for_each(|group, row, add| {
                    change(group, Ordered::Bytes(values.value(row).into()), add);
                });
            }
            other => with_primitive!(other, T => {
                let values = primitive::<T>(column)?.values();
                rows.for_each(|group, row, add| {
                    change(group, Ordered::Number(values[row].ordered()), add);
                });
            }, else return Err(OperatorError::Plan(format!("MIN and MAX of {other} are not supported")))),
        }
        Ok(())
    }

    /// The least or greatest value of each group; NULL where there is none.
    pub(crate) fn results(
        &self,
        groups: &[u32],
        greatest: bool,
    ) -> Result<ArrayRef, OperatorError> {
        let value = |group: &u32| {
            let range = (*group, Ordered::LEAST)..(*group + 1, Ordered::LEAST);
            // Copies below zero are of values taken back before they came.
            let mut present = self
                .order
                .range(range)
                .filter(|(_, entry)| self.entries[**entry as usize].copies > 0)
                .map(|((_, value), _)| value);
            if greatest {
                present.next_back()
            } else {
                present.next()
            }
        };
        let values: Vec<Option<&Ordered>> = groups.iter().map(value).collect();
        let number = |value: &Option<&Ordered>| match value {
            Some(Ordered::Number(number)) => *number,
            _ => 0,
        };
        let valid = values.iter().map(Option::is_some);
        Ok(match &self.plan.data_type {
            DataType::Utf8 => {
                std::sync::Arc::new(values.iter().copied().map(text).collect::<StringArray>())
            }
            DataType::Binary => {
                std::sync::Arc::new(values.iter().copied().map(bytes).collect::<BinaryArray>())
            }
            DataType::Boolean => {
                use arrow::datatypes::Int8Type;
                let numbers = values.iter().map(|value| number(value) as i8).collect();
                let numbers = array_of::<Int8Type>(&Int8Type::DATA_TYPE, numbers, valid);
                cast(&numbers, &DataType::Boolean)?
            }
            other => with_primitive!(other, T => {
                let natives = values.iter().map(|value| Native::from_ordered(number(value))).collect();
                array_of::<T>(other, natives, valid)
            }, else return Err(OperatorError::Plan(format!("MIN and MAX of {other} are not supported")))),
        })
    }

    /// Takes in another table's values for groups that `group_of` maps.
    pub(crate) fn merge(&mut self, index: &KeyIndex, other: &OrderedTable, group_of: &[u32]) {
        for ((group, value), entry) in &other.order {
            let copies = other.entries[*entry as usize].copies;
            self.change(index, group_of[*group as usize], value.clone(), copies);
        }
    }

    /// Adds the values of group `from` to those of `into`.
    pub(crate) fn merge_within(&mut self, index: &KeyIndex, into: u32, from: u32) {
        let range = (from, Ordered::LEAST)..(from + 1, Ordered::LEAST);
        let moved: Vec<(Ordered, i64)> = self
            .order
            .range(range)
            .map(|((_, value), entry)| (value.clone(), self.entries[*entry as usize].copies))
            .collect();
        for (value, copies) in moved {
            self.change(index, into, value, copies);
        }
        self.vanish(index, from);
    }

    /// Puts a committed row of `group` into memory. An entry that is there wins.
    pub(crate) fn install(
        &mut self,
        group: u32,
        value: &[u8],
        mut copies: &[u8],
    ) -> Result<(), String> {
        let is_bytes = matches!(self.plan.data_type, DataType::Utf8 | DataType::Binary);
        let value = match is_bytes {
            true => Ordered::Bytes(value.into()),
            false => {
                let bytes = value
                    .try_into()
                    .map_err(|_| "an ordered value has too few bytes")?;
                Ordered::Number(i128::from_be_bytes(bytes))
            }
        };
        if self.order.contains_key(&(group, value.clone())) {
            return Ok(());
        }
        let copies = i64::read(&mut copies).ok_or("an ordered value's count is cut short")?;
        let entry = self.insert(group, value);
        self.entries[entry as usize].copies = copies;
        Ok(())
    }

    /// A group vanishes, and with it what it has left.
    pub(crate) fn vanish(&mut self, index: &KeyIndex, group: u32) {
        let range = (group, Ordered::LEAST)..(group + 1, Ordered::LEAST);
        let left: Vec<u32> = self.order.range(range).map(|(_, entry)| *entry).collect();
        left.into_iter().for_each(|entry| self.remove(index, entry));
    }

    /// Forgets the values of groups that are another task's from now on; see [`Changes::forget`].
    pub(crate) fn forget(&mut self, index: &KeyIndex, left: &dyn Fn(u64) -> bool) {
        let (number, entries) = (self.number, &self.entries);
        self.order.retain(|(group, _), entry| {
            let stays = !left(index.hash(*group));
            if !stays {
                let encode = |entry, rows: &mut FrozenRows| {
                    encode_entry(index, number, entries, entry, rows);
                };
                self.changes.forget(*entry, encode);
                self.free.push(*entry);
            }
            stays
        });
    }

    /// See [`Changes::freeze`].
    pub(crate) fn freeze(&mut self, epoch: Epoch) {
        self.changes.freeze(epoch);
    }

    /// See [`Changes::committed`].
    pub(crate) fn committed(&mut self, epoch: Epoch) {
        self.changes.committed(epoch);
    }

    /// See [`Changes::roll_back`].
    pub(crate) fn roll_back(
        &mut self,
        index: &KeyIndex,
        restored: Epoch,
        dirty: &mut HashSet<u64>,
    ) {
        let entries = &self.entries;
        self.changes.roll_back(
            restored,
            |entry| index.hash(entries[entry as usize].group),
            dirty,
        );
    }

    /// See [`Changes::encode`].
    pub(crate) fn encode(&mut self, index: &KeyIndex, rows_max: usize) -> bool {
        let (number, entries) = (self.number, &self.entries);
        self.changes.encode(rows_max, |entry, rows| {
            encode_entry(index, number, entries, entry, rows)
        })
    }

    /// See [`Changes::take`].
    pub(crate) fn take_frozen(&mut self) -> FrozenRows {
        self.changes.take()
    }

    /// Live entries.
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    /// Bytes of memory.
    pub(crate) fn memory(&self) -> usize {
        // A node of a B-tree is two thirds full.
        self.order.len() * 96 + self.entries.len() * size_of::<Entry>() + self.changes.memory()
    }

    fn change(&mut self, index: &KeyIndex, group: u32, value: Ordered, copies: i64) {
        let entry = match self.order.get(&(group, value.clone())) {
            Some(entry) => *entry,
            None => self.insert(group, value),
        };
        let (number, entries) = (self.number, &self.entries);
        self.changes.touch(entry, |entry, rows| {
            encode_entry(index, number, entries, entry, rows)
        });
        self.entries[entry as usize].copies += copies;
        if self.entries[entry as usize].copies == 0 {
            self.remove(index, entry);
        }
    }

    fn insert(&mut self, group: u32, value: Ordered) -> u32 {
        let new = Entry {
            group,
            value: value.clone(),
            copies: 0,
        };
        let entry = match self.free.pop() {
            Some(entry) => {
                self.entries[entry as usize] = new;
                entry
            }
            None => {
                self.entries.push(new);
                (self.entries.len() - 1) as u32
            }
        };
        self.changes.reserve(self.entries.len());
        self.order.insert((group, value), entry);
        entry
    }

    fn remove(&mut self, index: &KeyIndex, entry: u32) {
        let (number, entries) = (self.number, &self.entries);
        let Entry { group, value, .. } = &entries[entry as usize];
        self.changes.delete(
            entry,
            index.hash(*group),
            |out| write_identity(index, number, *group, value, out),
            |entry, rows| encode_entry(index, number, entries, entry, rows),
        );
        self.order.remove(&(*group, value.clone()));
        self.free.push(entry);
    }
}

fn bytes(value: Option<&Ordered>) -> Option<&[u8]> {
    match value {
        Some(Ordered::Bytes(bytes)) => Some(bytes),
        _ => None,
    }
}

fn text(value: Option<&Ordered>) -> Option<&str> {
    bytes(value).map(|bytes| std::str::from_utf8(bytes).unwrap_or_default())
}

/// Every type that has primitive accumulators has an order.
fn is_ordered<T: ArrowPrimitiveType>() -> bool
where
    T::Native: Native,
{
    true
}

fn write_identity(index: &KeyIndex, number: usize, group: u32, value: &Ordered, out: &mut Vec<u8>) {
    let sub = mix(value.hash(), number as u64);
    sub_row::write_identity(index, group, sub, number, |out| value.write(out), out);
}

fn encode_entry(
    index: &KeyIndex,
    number: usize,
    entries: &[Entry],
    entry: u32,
    rows: &mut FrozenRows,
) {
    let entry = &entries[entry as usize];
    rows.push(
        index.hash(entry.group),
        |out| write_identity(index, number, entry.group, &entry.value, out),
        Some(|out: &mut Vec<u8>| entry.copies.write(out)),
    );
}
