//! Maps as lists of their entries, and back: arrow's row format has no maps.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray as _, ListArray, MapArray, NullArray},
    buffer::NullBuffer,
    datatypes::{DataType, Field},
};

/// The type with every map replaced by the list of its entries.
pub(super) fn lists_for_maps(data_type: &DataType) -> DataType {
    let field = |field: &Arc<Field>| {
        let inner = lists_for_maps(field.data_type());
        Arc::new(field.as_ref().clone().with_data_type(inner))
    };
    match data_type {
        DataType::Map(entries, _) => DataType::List(field(entries)),
        DataType::List(item) => DataType::List(field(item)),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(field).collect()),
        other => other.clone(),
    }
}

/// The array of that type.
pub(super) fn maps_as_lists(array: &ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Map(..) => {
            let map = array.as_map();
            let entries = maps_as_lists(&(Arc::new(map.entries().clone()) as ArrayRef));
            let DataType::List(item) = lists_for_maps(array.data_type()) else {
                return Arc::clone(array);
            };
            let nulls = map.nulls().cloned();
            Arc::new(ListArray::new(item, map.offsets().clone(), entries, nulls))
        }
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let DataType::List(item) = lists_for_maps(array.data_type()) else {
                return Arc::clone(array);
            };
            let values = maps_as_lists(list.values());
            Arc::new(ListArray::new(
                item,
                list.offsets().clone(),
                values,
                list.nulls().cloned(),
            ))
        }
        DataType::Struct(_) => {
            let (_, columns, nulls) = array.as_struct().clone().into_parts();
            let columns: Vec<ArrayRef> = columns.iter().map(maps_as_lists).collect();
            struct_array(
                &lists_for_maps(array.data_type()),
                columns,
                array.len(),
                nulls,
            )
        }
        _ => Arc::clone(array),
    }
}

/// The array of the type `wanted`, of which it is the array with lists for maps.
pub(super) fn restore_maps(array: &ArrayRef, wanted: &DataType) -> ArrayRef {
    match wanted {
        DataType::Map(entries_field, sorted) => {
            let list = array.as_list::<i32>();
            let entries = restore_maps(list.values(), entries_field.data_type());
            let entries = entries.as_struct().clone();
            let (offsets, nulls) = (list.offsets().clone(), list.nulls().cloned());
            Arc::new(MapArray::new(
                Arc::clone(entries_field),
                offsets,
                entries,
                nulls,
                *sorted,
            ))
        }
        DataType::List(item) => {
            let list = array.as_list::<i32>();
            let values = restore_maps(list.values(), item.data_type());
            let (offsets, nulls) = (list.offsets().clone(), list.nulls().cloned());
            Arc::new(ListArray::new(Arc::clone(item), offsets, values, nulls))
        }
        DataType::Struct(fields) => {
            let (_, columns, nulls) = array.as_struct().clone().into_parts();
            let columns = columns
                .iter()
                .zip(fields)
                .map(|(column, field)| restore_maps(column, field.data_type()))
                .collect();
            struct_array(wanted, columns, array.len(), nulls)
        }
        _ => Arc::clone(array),
    }
}

fn struct_array(
    data_type: &DataType,
    columns: Vec<ArrayRef>,
    len: usize,
    nulls: Option<NullBuffer>,
) -> ArrayRef {
    let DataType::Struct(fields) = data_type else {
        return Arc::new(NullArray::new(len));
    };
    if fields.is_empty() {
        return Arc::new(arrow::array::StructArray::new_empty_fields(len, nulls));
    }
    Arc::new(arrow::array::StructArray::new(
        fields.clone(),
        columns,
        nulls,
    ))
}
