//! ARRAY and ROW: made, read, searched, cut and put together.

use std::sync::Arc;

use arrow::{
    array::{Array as _, ArrayRef, BooleanArray, StructArray},
    buffer::{BooleanBuffer, NullBuffer},
    datatypes::{DataType as ArrowType, Int32Type},
};
use engine::schema::arrow_type;
use proto::{plan::ScalarFunction, types::LogicalType};

use super::{
    Kernel, Signature, array_set,
    gather::{Gather, Lists, comparable, item_field, null_of},
    kernel::{by_row, by_row_with_nulls, strings},
    map,
};
use crate::expr::{
    EvalError, ExprError,
    format::{Style, write_value},
    value::{Args, NullAt as _, is_valid},
};

/// Makes the kernel of an array function.
pub(super) fn build(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    use ScalarFunction as F;
    let is_list = |index: usize| {
        matches!(
            signature.args.get(index).map(|arg| &arg.logical),
            Some(LogicalType::Array(_))
        )
    };
    let result = arrow_type(&signature.result.logical);
    let count = signature.args.len();
    Ok(match signature.function {
        F::ArrayConstructor => constructor(signature)?,
        F::RowConstructor => row_constructor(signature)?,
        F::ElementAt if count == 2 && is_list(0) => Box::new(element_at),
        F::ElementAt if count == 2 => map::element_at(signature)?,
        F::Cardinality if count == 1 => cardinality(signature)?,
        _ if !is_list(0) => return Err(signature.unsupported()),
        F::Element if count == 1 => Box::new(element),
        F::ArrayContains if count == 2 => Box::new(contains),
        F::ArrayPosition if count == 2 => Box::new(position),
        F::ArrayMax | F::ArrayMin if count == 1 => extreme(signature.function == F::ArrayMax),
        F::ArrayJoin if matches!(count, 2 | 3) => join(signature)?,
        _ => {
            let item = item_field(&result).ok_or_else(|| signature.unsupported())?;
            match (signature.function, count) {
                (F::ArrayReverse, 1) => array_set::per_row(item, |_, range, gather| {
                    range.rev().for_each(|position| gather.push(0, position));
                }),
                (F::ArraySlice, 2 | 3) => array_set::per_row(item, slice),
                (F::ArraySort, 1..=3) => array_set::sort(item),
                (F::ArrayConcat, 1..) => array_set::concat(item),
                (F::ArrayAppend, 2) => array_set::extend(item, true),
                (F::ArrayPrepend, 2) => array_set::extend(item, false),
                _ => return Err(signature.unsupported()),
            }
        }
    })
}

fn constructor(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    let result = arrow_type(&signature.result.logical);
    let item = item_field(&result).ok_or_else(|| signature.unsupported())?;
    Ok(Box::new(move |args| {
        let null = null_of(item.data_type());
        let mut sources: Vec<&dyn arrow::array::Array> = args
            .values
            .iter()
            .map(|value| value.array().as_ref())
            .collect();
        sources.push(&null);
        let mut gather = Gather::new(sources);
        for row in 0..args.rows {
            for (source, value) in args.values.iter().enumerate() {
                gather.push(source, row * value.step());
            }
            gather.end_row();
        }
        gather.lists(&item, None)
    }))
}

fn row_constructor(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    let ArrowType::Struct(fields) = arrow_type(&signature.result.logical) else {
        return Err(signature.unsupported());
    };
    if fields.len() != signature.args.len() {
        return Err(signature.unsupported());
    }
    Ok(Box::new(move |args| {
        let mut columns = Vec::with_capacity(args.len());
        for value in args.values {
            columns.push(value.clone().into_array(args.rows)?);
        }
        let row = StructArray::try_new_with_length(fields.clone(), columns, None, args.rows)?;
        Ok(Arc::new(row))
    }))
}

fn cardinality(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    match signature.args[0].logical {
        LogicalType::Array(_) => Ok(Box::new(|args| {
            let lists = Lists::new(args.value(0));
            by_row::<Int32Type>(args, &ArrowType::Int32, |row| {
                Ok(Some(lists.range(row).len() as i32))
            })
        })),
        LogicalType::Map(..) | LogicalType::Multiset(_) => Ok(map::cardinality()),
        _ => Err(signature.unsupported()),
    }
}

/// A column of one element per row, NULL where `pick` finds none.
fn pick_elements(
    args: &Args<'_>,
    nulls: Option<&NullBuffer>,
    mut pick: impl FnMut(usize, std::ops::Range<usize>) -> Result<Option<usize>, EvalError>,
) -> Result<ArrayRef, EvalError> {
    let lists = Lists::new(args.value(0));
    let null = null_of(lists.elements().data_type());
    let mut gather = Gather::new(vec![lists.elements().as_ref(), null.as_ref()]);
    for row in 0..args.rows {
        let picked = if is_valid(nulls, row) {
            pick(row, lists.range(row))?
        } else {
            None
        };
        match picked {
            Some(position) => gather.push(0, position),
            None => gather.push(1, 0),
        }
    }
    gather.column()
}

fn element_at(args: &Args<'_>) -> Result<ArrayRef, EvalError> {
    let indices = args.numbers::<Int32Type>(1);
    pick_elements(args, args.nulls().as_ref(), |row, range| {
        let index = usize::try_from(indices.at(row)).ok();
        Ok(index
            .and_then(|index| index.checked_sub(1))
            .filter(|index| *index < range.len())
            .map(|index| range.start + index))
    })
}

fn element(args: &Args<'_>) -> Result<ArrayRef, EvalError> {
    pick_elements(args, args.nulls().as_ref(), |_, range| match range.len() {
        0 => Ok(None),
        1 => Ok(Some(range.start)),
        more => Err(EvalError::function(
            "ELEMENT",
            format!("the array has {more} elements"),
        )),
    })
}

fn extreme(max: bool) -> Kernel {
    Box::new(move |args| {
        let lists = Lists::new(args.value(0));
        let elements = lists.elements();
        let rows = comparable(&[elements])?;
        pick_elements(args, args.nulls().as_ref(), |_, range| {
            let valid = range.filter(|position| !elements.is_null_at(*position));
            Ok(if max {
                valid.max_by_key(|position| rows[0].row(*position))
            } else {
                valid.min_by_key(|position| rows[0].row(*position))
            })
        })
    })
}

/// Position within the list of the first element equal to the second operand, if any.
fn find(args: &Args<'_>) -> Result<Vec<Option<usize>>, EvalError> {
    let lists = Lists::new(args.value(0));
    let needles = args.value(1);
    let rows = comparable(&[lists.elements(), needles.array()])?;
    let nulls = args.nulls_of(0..1);
    Ok((0..args.rows)
        .map(|row| {
            if !is_valid(nulls.as_ref(), row) {
                return None;
            }
            let needle = rows[1].row(row * needles.step());
            lists
                .range(row)
                .position(|position| rows[0].row(position) == needle)
        })
        .collect())
}

fn contains(args: &Args<'_>) -> Result<ArrayRef, EvalError> {
    let found = find(args)?;
    let values = BooleanBuffer::collect_bool(args.rows, |row| found[row].is_some());
    Ok(Arc::new(BooleanArray::new(values, args.nulls_of(0..1))))
}

fn position(args: &Args<'_>) -> Result<ArrayRef, EvalError> {
    let found = find(args)?;
    by_row_with_nulls::<Int32Type>(args.rows, args.nulls(), &ArrowType::Int32, |row| {
        Ok(Some(found[row].map_or(0, |position| position as i32 + 1)))
    })
}

/// ARRAY_SLICE(a, from[, to]): from 1, negative counts from the end, both ends included.
fn slice(row: &super::array_set::Row<'_>, range: std::ops::Range<usize>, gather: &mut Gather<'_>) {
    let length = range.len() as i64;
    let bound = |index: usize| {
        row.integer(index)
            .map(|at| if at < 0 { at + length + 1 } else { at })
    };
    let from = bound(1).unwrap_or(1).max(1);
    let to = match bound(2) {
        None => length,
        Some(0) => 1,
        Some(to) => to.min(length),
    };
    for position in from..=to {
        gather.push(0, range.start + position as usize - 1);
    }
}

fn join(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    let LogicalType::Array(element) = &signature.args[0].logical else {
        return Err(signature.unsupported());
    };
    let element = element.logical.clone();
    Ok(Box::new(move |args| {
        let lists = Lists::new(args.value(0));
        let elements = lists.elements();
        let separators = args.strings(1);
        let null_texts = (args.len() > 2).then(|| args.strings(2));
        let mut text = String::new();
        let nulls = args.nulls_of(0..2);
        strings(args.rows, nulls.as_ref(), args.rows * 16, |row, out| {
            text.clear();
            let null_text = null_texts.and_then(|texts| texts.get(row));
            let mut first = true;
            for position in lists.range(row) {
                let is_null = elements.is_null_at(position);
                if is_null && null_text.is_none() {
                    continue;
                }
                if !first {
                    text.push_str(separators.at(row));
                }
                first = false;
                match null_text {
                    Some(null_text) if is_null => text.push_str(null_text),
                    _ => write_value(elements, position, &element, Style::Cast, &mut text),
                }
            }
            std::fmt::Write::write_str(out, &text).unwrap_or_default();
            Ok(true)
        })
    }))
}
