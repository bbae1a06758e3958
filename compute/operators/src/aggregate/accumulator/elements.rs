//! Calls that keep every value of a group: LISTAGG, ARRAY_AGG, COLLECT, PERCENTILE, SINGLE_VALUE,
//! and FIRST_VALUE and LAST_VALUE where values may be taken back.

use arrow::{
    array::{Array, ArrayRef},
    compute::concat,
    datatypes::DataType,
};
use engine::{codec::RowCodec, operator::OperatorError};

use super::{
    Accumulator,
    bytes::{read_bytes, write_bytes},
    elements_result::ElementsResult,
    short,
    variance::encoded,
};
use crate::aggregate::{native::Native as _, rows::Rows, steps::Steps};

/// The arguments of a group's rows in order of arrival, as the codec's rows.
pub(super) struct Elements {
    groups: Vec<Group>,
    /// Bytes of memory of all groups' rows: adding them up takes long.
    heap: usize,
    codec: RowCodec,
    result: ElementsResult,
}

/// Rows of bytes, end to end.
#[derive(Clone, Debug, Default)]
pub(super) struct Group {
    data: Vec<u8>,
    ends: Vec<u32>,
}

impl Group {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn row(&self, index: usize) -> &[u8] {
        &self.data[self.start(index)..self.ends[index] as usize]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|index| self.row(index))
    }

    fn start(&self, index: usize) -> usize {
        if index == 0 {
            0
        } else {
            self.ends[index - 1] as usize
        }
    }

    fn memory(&self) -> usize {
        self.data.capacity() + self.ends.capacity() * 4
    }

    fn push(&mut self, row: &[u8]) {
        self.data.extend_from_slice(row);
        self.ends.push(self.data.len() as u32);
    }

    /// Adds a row, or takes one away; `heap` counts bytes of memory.
    fn change(&mut self, row: &[u8], add: bool, heap: &mut usize) {
        let before = self.memory();
        if add {
            self.push(row);
        } else {
            self.remove(row);
        }
        *heap = *heap + self.memory() - before;
    }

    /// Takes the first copy of a row away.
    fn remove(&mut self, row: &[u8]) {
        let Some(index) = (0..self.len()).find(|index| self.row(*index) == row) else {
            return;
        };
        let start = self.start(index);
        self.data.drain(start..start + row.len());
        self.ends.remove(index);
        self.ends[index..]
            .iter_mut()
            .for_each(|end| *end -= row.len() as u32);
    }
}

impl Elements {
    /// For arguments of these types; `result` makes the result.
    pub(super) fn new(args: &[DataType], result: ElementsResult) -> Result<Self, OperatorError> {
        // A global aggregate that merges partials knows their type only, which is enough.
        let codec = RowCodec::new(args)?;
        Ok(Elements {
            groups: Vec::new(),
            heap: 0,
            codec,
            result,
        })
    }
}

impl Accumulator for Elements {
    fn reserve(&mut self, slots: usize) {
        if self.groups.len() < slots {
            self.groups.resize(slots, Group::default());
        }
    }

    fn reset(&mut self, slot: u32) {
        self.heap -= std::mem::take(&mut self.groups[slot as usize]).memory();
    }

    fn update(&mut self, rows: &Rows<'_>, args: &[ArrayRef]) -> Result<(), OperatorError> {
        let encoded = self.codec.encode(args, args[0].len())?;
        let nulls = match self.result.keeps_nulls() {
            true => None,
            false => args[0].logical_nulls(),
        };
        let (groups, heap) = (&mut self.groups[..], &mut self.heap);
        rows.for_each_valid(nulls.as_ref(), |slot, row, add| {
            groups[slot].change(encoded.row(row), add, heap);
        });
        Ok(())
    }

    /// A result has all values of its group, so that it may well be made by itself.
    fn run(&mut self, steps: &Steps<'_>, args: &[ArrayRef]) -> Result<ArrayRef, OperatorError> {
        let encoded = self.codec.encode(args, args[0].len())?;
        let nulls = match self.result.keeps_nulls() {
            true => None,
            false => args[0].logical_nulls(),
        };
        let (result, codec) = (&self.result, &self.codec);
        let told: Vec<Result<ArrayRef, OperatorError>> = Vec::with_capacity(steps.results.len());
        let mut state = (&mut self.groups[..], &mut self.heap, told);
        steps.run(
            nulls.as_ref(),
            &mut state,
            |(groups, heap, _), slot, row, comes| {
                groups[slot].change(encoded.row(row), comes, heap)
            },
            |(groups, _, told), slot| told.push(result.array(&[&groups[slot]], codec)),
        );
        let told = state.2.into_iter().collect::<Result<Vec<_>, _>>()?;
        let told: Vec<&dyn Array> = told.iter().map(AsRef::as_ref).collect();
        match told.is_empty() {
            true => self.results(&[]),
            false => Ok(concat(&told)?),
        }
    }

    fn update_partial(
        &mut self,
        rows: &Rows<'_>,
        partials: &[ArrayRef],
    ) -> Result<(), OperatorError> {
        super::variance::merge_bytes(rows, &partials[0], |slot, bytes| {
            let group = &mut self.groups[slot];
            let before = group.memory();
            let read = read_group(group, bytes).ok();
            self.heap = self.heap + group.memory() - before;
            read
        })
    }

    fn partials(&self, slots: &[u32]) -> Result<Vec<ArrayRef>, OperatorError> {
        Ok(vec![encoded(self, slots)])
    }

    fn results(&self, slots: &[u32]) -> Result<ArrayRef, OperatorError> {
        let groups: Vec<&Group> = slots
            .iter()
            .map(|slot| &self.groups[*slot as usize])
            .collect();
        self.result.array(&groups, &self.codec)
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        let group = &self.groups[slot as usize];
        (group.len() as i32).write(out);
        group.iter().for_each(|row| write_bytes(row, out));
    }

    fn decode(&mut self, slot: u32, bytes: &mut &[u8]) -> Result<(), String> {
        self.reset(slot);
        let group = &mut self.groups[slot as usize];
        let read = read_group(group, bytes);
        self.heap += group.memory();
        read
    }

    fn truncate(&mut self, slots: usize) {
        self.groups.truncate(slots);
        self.groups.shrink_to_fit();
    }

    fn memory(&self) -> usize {
        self.groups.len() * size_of::<Group>() + self.heap
    }

    fn heap_memory(&self) -> (usize, usize) {
        (self.heap, 0)
    }
}

/// Appends the rows that [`Elements::encode`] wrote.
fn read_group(group: &mut Group, bytes: &mut &[u8]) -> Result<(), String> {
    let rows = i32::read(bytes).ok_or_else(short)?;
    for _ in 0..rows {
        group.push(read_bytes(bytes)?);
    }
    Ok(())
}
