//! CAST among ARRAY, MAP, MULTISET and ROW: element by element.

use std::sync::Arc;

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, ListArray, MapArray, StructArray},
    datatypes::{DataType as ArrowType, Fields},
};
use engine::schema::arrow_type;
use proto::types::LogicalType;

use super::{Cast, Convert, Mode};
use crate::expr::ExprError;

/// Makes the conversion of a nested type from those of its parts.
type Assemble = fn(Vec<Convert>, ArrowType) -> Convert;

/// The cast between two nested types, if they have the same shape.
pub(super) fn build(
    from: &LogicalType,
    to: &LogicalType,
    mode: Mode,
) -> Result<Option<Cast>, ExprError> {
    use LogicalType as T;
    let (parts, convert): (Vec<Cast>, Assemble) = match (from, to) {
        (T::Array(from), T::Array(to)) => {
            (vec![super::build(&from.logical, &to.logical, mode)?], array)
        }
        (T::Map(key, value), T::Map(to_key, to_value)) => {
            let key = super::build(&key.logical, &to_key.logical, mode)?;
            let value = super::build(&value.logical, &to_value.logical, mode)?;
            (vec![key, value], map)
        }
        (T::Multiset(from), T::Multiset(to)) => {
            let element = super::build(&from.logical, &to.logical, mode)?;
            (vec![element, super::identity()], map)
        }
        (T::Row(from), T::Row(to)) if from.len() == to.len() => {
            let fields = from.iter().zip(to);
            let casts =
                fields.map(|(f, t)| super::build(&f.data_type.logical, &t.data_type.logical, mode));
            (casts.collect::<Result<_, _>>()?, row)
        }
        _ => return Ok(None),
    };
    let can_fail = parts.iter().any(|part| part.can_fail);
    let cost = parts.iter().map(|part| part.cost).sum::<u32>() + 2;
    let converts = parts.into_iter().map(|part| part.convert).collect();
    Ok(Some(Cast {
        convert: convert(converts, arrow_type(to)),
        can_fail,
        cost,
    }))
}

fn fields_of(data_type: &ArrowType) -> Fields {
    match data_type {
        ArrowType::Struct(fields) => fields.clone(),
        ArrowType::List(item) => Fields::from(vec![Arc::clone(item)]),
        ArrowType::Map(entries, _) => fields_of(entries.data_type()),
        _ => Fields::empty(),
    }
}

fn array(converts: Vec<Convert>, data_type: ArrowType) -> Convert {
    let fields = fields_of(&data_type);
    Box::new(move |array| {
        let list = array.as_list::<i32>();
        let items = converts[0](list.values())?;
        let item = Arc::clone(&fields[0]);
        let list = ListArray::try_new(item, list.offsets().clone(), items, list.nulls().cloned())?;
        Ok(Arc::new(list))
    })
}

fn map(converts: Vec<Convert>, data_type: ArrowType) -> Convert {
    Box::new(move |array| {
        let map = array.as_map();
        let keys = converts[0](map.keys())?;
        let values = converts[1](map.values())?;
        let entries = StructArray::try_new(fields_of(&data_type), vec![keys, values], None)?;
        let ArrowType::Map(field, sorted) = &data_type else {
            return Ok(array.clone());
        };
        let offsets = map.offsets().clone();
        let nulls = map.nulls().cloned();
        Ok(Arc::new(MapArray::try_new(
            Arc::clone(field),
            offsets,
            entries,
            nulls,
            *sorted,
        )?))
    })
}

fn row(converts: Vec<Convert>, data_type: ArrowType) -> Convert {
    let fields = fields_of(&data_type);
    Box::new(move |array| {
        let row = array.as_struct();
        let columns: Vec<ArrayRef> = converts
            .iter()
            .zip(row.columns())
            .map(|(convert, column)| convert(column))
            .collect::<Result<_, _>>()?;
        let row = StructArray::try_new_with_length(
            fields.clone(),
            columns,
            row.nulls().cloned(),
            row.len(),
        )?;
        Ok(Arc::new(row))
    })
}
