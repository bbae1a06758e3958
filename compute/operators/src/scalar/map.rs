//! MAP and MULTISET: made, read and put together. A later entry of a key replaces an earlier one.

use std::{collections::HashMap, ops::Range, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray as _, ListArray, MapArray, StructArray},
    buffer::NullBuffer,
    datatypes::{ArrowNativeType as _, DataType as ArrowType, FieldRef, Int32Type},
};
use engine::schema::arrow_type;
use proto::{plan::ScalarFunction, types::LogicalType};

use super::{
    Kernel, Signature,
    gather::{Gather, Lists, comparable, item_field, null_of},
    kernel::by_row,
};
use crate::expr::{
    EvalError, ExprError,
    value::{Value, is_valid},
};

/// Makes the kernel of a map function.
pub(super) fn build(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    use ScalarFunction as F;
    let result = arrow_type(&signature.result.logical);
    let is_map = |arg: &proto::types::DataType| matches!(arg.logical, LogicalType::Map(..));
    match (signature.function, signature.args.len()) {
        (F::MapConstructor, count) if count % 2 == 0 => constructor(signature, result),
        (F::MapFromArrays, 2) => from_arrays(signature, result),
        (F::MapUnion, 1..) if signature.args.iter().all(is_map) => union(signature, result),
        (F::MapKeys | F::MapValues | F::MapEntries, 1) if is_map(&signature.args[0]) => {
            parts(signature, &result)
        }
        _ => Err(signature.unsupported()),
    }
}

struct Maps<'a> {
    map: &'a MapArray,
    step: usize,
}

impl<'a> Maps<'a> {
    fn new(value: &'a Value) -> Self {
        Maps {
            map: value.array().as_map(),
            step: value.step(),
        }
    }

    fn range(&self, row: usize) -> Range<usize> {
        let offsets = self.map.offsets();
        let row = row * self.step;
        offsets[row].as_usize()..offsets[row + 1].as_usize()
    }
}

/// CARDINALITY: entries of a MAP, elements of a MULTISET that differ.
pub(super) fn cardinality() -> Kernel {
    Box::new(|args| {
        let maps = Maps::new(args.value(0));
        by_row::<Int32Type>(args, &ArrowType::Int32, |row| {
            Ok(Some(maps.range(row).len() as i32))
        })
    })
}

/// The value of a key, NULL without it.
pub(super) fn element_at(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    if !matches!(signature.args[0].logical, LogicalType::Map(..)) {
        return Err(signature.unsupported());
    }
    Ok(Box::new(|args| {
        let maps = Maps::new(args.value(0));
        let keys = args.value(1);
        let values = maps.map.values();
        let rows = comparable(&[maps.map.keys(), keys.array()])?;
        let null = null_of(values.data_type());
        let mut gather = Gather::new(vec![values.as_ref(), null.as_ref()]);
        let nulls = args.nulls();
        for row in 0..args.rows {
            let found = is_valid(nulls.as_ref(), row)
                .then(|| {
                    let key = rows[1].row(row * keys.step());
                    maps.range(row).find(|entry| rows[0].row(*entry) == key)
                })
                .flatten();
            match found {
                Some(entry) => gather.push(0, entry),
                None => gather.push(1, 0),
            }
        }
        gather.column()
    }))
}

fn entries_field(result: &ArrowType) -> Option<(FieldRef, ArrowType)> {
    match result {
        ArrowType::Map(entries, _) => Some((Arc::clone(entries), entries.data_type().clone())),
        _ => None,
    }
}

fn assemble(
    result: &ArrowType,
    keys: Gather<'_>,
    values: Gather<'_>,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef, EvalError> {
    let Some((field, ArrowType::Struct(fields))) = entries_field(result) else {
        return Err(EvalError::function(
            "a MAP function",
            "its result is no MAP",
        ));
    };
    let (offsets, keys) = keys.into_parts()?;
    if keys.null_count() > 0 {
        return Err(EvalError::function("a MAP function", "a key is NULL"));
    }
    let (_, values) = values.into_parts()?;
    let entries = StructArray::try_new(fields, vec![keys, values], None)?;
    Ok(Arc::new(MapArray::try_new(
        field, offsets, entries, nulls, false,
    )?))
}

/// Entries of one row in order of first appearance, as (source, position), by key.
struct Entries<'k> {
    by_key: HashMap<&'k [u8], usize>,
    entries: Vec<((usize, usize), (usize, usize))>,
}

impl<'k> Entries<'k> {
    fn new() -> Self {
        Entries {
            by_key: HashMap::new(),
            entries: Vec::new(),
        }
    }

    fn put(&mut self, bytes: &'k [u8], key: (usize, usize), value: (usize, usize)) {
        match self.by_key.get(bytes) {
            Some(index) => self.entries[*index].1 = value,
            None => {
                self.by_key.insert(bytes, self.entries.len());
                self.entries.push((key, value));
            }
        }
    }

    fn write(self, keys: &mut Gather<'_>, values: &mut Gather<'_>) {
        for (key, value) in self.entries {
            keys.push(key.0, key.1);
            values.push(value.0, value.1);
        }
    }
}

fn constructor(signature: &Signature<'_>, result: ArrowType) -> Result<Kernel, ExprError> {
    if signature.args.is_empty() {
        return Err(signature.unsupported());
    }
    Ok(Box::new(move |args| {
        let key_values: Vec<&Value> = args.values.iter().step_by(2).collect();
        let value_values: Vec<&Value> = args.values.iter().skip(1).step_by(2).collect();
        let key_arrays: Vec<&ArrayRef> = key_values.iter().map(|value| value.array()).collect();
        let rows = comparable(&key_arrays)?;
        let mut keys = Gather::new(key_arrays.iter().map(|array| array.as_ref()).collect());
        let mut values = Gather::new(
            value_values
                .iter()
                .map(|value| value.array().as_ref())
                .collect(),
        );
        for row in 0..args.rows {
            let mut entries = Entries::new();
            for (source, (key, value)) in key_values.iter().zip(&value_values).enumerate() {
                let at = row * key.step();
                let bytes = rows[source].row(at).data();
                entries.put(bytes, (source, at), (source, row * value.step()));
            }
            entries.write(&mut keys, &mut values);
            keys.end_row();
            values.end_row();
        }
        assemble(&result, keys, values, None)
    }))
}

fn from_arrays(signature: &Signature<'_>, result: ArrowType) -> Result<Kernel, ExprError> {
    let is_array = |arg: &proto::types::DataType| matches!(arg.logical, LogicalType::Array(_));
    if !signature.args.iter().all(is_array) {
        return Err(signature.unsupported());
    }
    Ok(Box::new(move |args| {
        let (left, right) = (Lists::new(args.value(0)), Lists::new(args.value(1)));
        let rows = comparable(&[left.elements()])?;
        let mut keys = Gather::new(vec![left.elements().as_ref()]);
        let mut values = Gather::new(vec![right.elements().as_ref()]);
        let nulls = args.nulls();
        for row in 0..args.rows {
            if is_valid(nulls.as_ref(), row) {
                let (key_range, value_range) = (left.range(row), right.range(row));
                if key_range.len() != value_range.len() {
                    return Err(EvalError::function(
                        "MAP_FROM_ARRAYS",
                        "the arrays have different lengths",
                    ));
                }
                let mut entries = Entries::new();
                for (key, value) in key_range.zip(value_range) {
                    entries.put(rows[0].row(key).data(), (0, key), (0, value));
                }
                entries.write(&mut keys, &mut values);
            }
            keys.end_row();
            values.end_row();
        }
        assemble(&result, keys, values, nulls)
    }))
}

fn union(signature: &Signature<'_>, result: ArrowType) -> Result<Kernel, ExprError> {
    let same = |arg: &proto::types::DataType| arrow_type(&arg.logical) == result;
    if !signature.args.iter().all(same) {
        return Err(signature.unsupported());
    }
    Ok(Box::new(move |args| {
        let maps: Vec<Maps<'_>> = args.values.iter().map(Maps::new).collect();
        let key_arrays: Vec<&ArrayRef> = maps.iter().map(|maps| maps.map.keys()).collect();
        let rows = comparable(&key_arrays)?;
        let mut keys = Gather::new(key_arrays.iter().map(|array| array.as_ref()).collect());
        let mut values = Gather::new(maps.iter().map(|maps| maps.map.values().as_ref()).collect());
        let nulls = args.nulls();
        for row in 0..args.rows {
            if is_valid(nulls.as_ref(), row) {
                let mut entries = Entries::new();
                for (source, maps) in maps.iter().enumerate() {
                    for entry in maps.range(row) {
                        let bytes = rows[source].row(entry).data();
                        entries.put(bytes, (source, entry), (source, entry));
                    }
                }
                entries.write(&mut keys, &mut values);
            }
            keys.end_row();
            values.end_row();
        }
        assemble(&result, keys, values, nulls)
    }))
}

/// MAP_KEYS, MAP_VALUES and MAP_ENTRIES share the map's offsets and entries.
fn parts(signature: &Signature<'_>, result: &ArrowType) -> Result<Kernel, ExprError> {
    let item = item_field(result).ok_or_else(|| signature.unsupported())?;
    let function = signature.function;
    Ok(Box::new(move |args| {
        let map = args.value(0).array().as_map();
        let elements: ArrayRef = match (function, item.data_type()) {
            (ScalarFunction::MapKeys, _) => Arc::clone(map.keys()),
            (ScalarFunction::MapValues, _) => Arc::clone(map.values()),
            (_, ArrowType::Struct(fields)) => Arc::new(StructArray::try_new(
                fields.clone(),
                vec![Arc::clone(map.keys()), Arc::clone(map.values())],
                None,
            )?),
            _ => return Err(EvalError::function("MAP_ENTRIES", "its result is no ROW")),
        };
        debug_assert!(args.value(0).is_scalar() || map.len() == args.rows);
        let nulls = map.nulls().cloned();
        Ok(Arc::new(ListArray::try_new(
            Arc::clone(&item),
            map.offsets().clone(),
            elements,
            nulls,
        )?))
    }))
}
