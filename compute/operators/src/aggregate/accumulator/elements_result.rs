//! From all values of a group to a result.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, AsArray as _, Float64Array, Int32Array, ListArray, MapArray, StringArray,
        StringBuilder, StructArray, new_null_array,
    },
    buffer::{NullBuffer, OffsetBuffer},
    compute::cast,
    datatypes::{DataType, Field, Float64Type},
};
use engine::{codec::RowCodec, operator::OperatorError};

use super::elements::Group;

/// What becomes of the values.
pub(super) enum ElementsResult {
    /// FIRST_VALUE.
    First,
    /// LAST_VALUE.
    Last,
    /// SINGLE_VALUE.
    Single,
    /// LISTAGG: (value[, separator]).
    Text {
        /// Whether a separator is given.
        separated: bool,
    },
    /// ARRAY_AGG.
    Array(DataType),
    /// COLLECT.
    Multiset(DataType),
    /// PERCENTILE: (value, fraction or fractions).
    Percentile(DataType),
}

impl ElementsResult {
    /// Whether NULL is a value.
    pub(super) fn keeps_nulls(&self) -> bool {
        matches!(self, ElementsResult::Array(_) | ElementsResult::Single)
    }

    /// The results of groups whose rows are of `codec`.
    pub(super) fn array(
        &self,
        groups: &[&Group],
        codec: &RowCodec,
    ) -> Result<ArrayRef, OperatorError> {
        match self {
            ElementsResult::First => one(groups, codec, 0, |_| 0),
            ElementsResult::Last => one(groups, codec, 0, |group| group.len() - 1),
            ElementsResult::Single => {
                if groups.iter().any(|group| group.len() > 1) {
                    let message = "a scalar subquery gives more than one row";
                    return Err(OperatorError::Evaluate(message.to_owned()));
                }
                one(groups, codec, 0, |_| 0)
            }
            ElementsResult::Text { separated } => text(groups, codec, *separated),
            ElementsResult::Array(data_type) => list(groups, codec, data_type),
            ElementsResult::Multiset(data_type) => multiset(groups, codec, data_type),
            ElementsResult::Percentile(data_type) => percentile(groups, codec, data_type),
        }
    }
}

/// A column of one row of each group, NULL for groups without rows.
fn one(
    groups: &[&Group],
    codec: &RowCodec,
    column: usize,
    index: impl Fn(&Group) -> usize,
) -> Result<ArrayRef, OperatorError> {
    let filled: Vec<&[u8]> = groups
        .iter()
        .filter(|group| group.len() > 0)
        .map(|group| group.row(index(group)))
        .collect();
    let values = codec.decode_column(column, &filled)?;
    if filled.len() == groups.len() {
        return Ok(values);
    }
    let mut next = 0;
    let places: arrow::array::UInt32Array = groups
        .iter()
        .map(|group| {
            (group.len() > 0).then(|| {
                next += 1;
                next - 1
            })
        })
        .collect();
    if filled.is_empty() {
        return Ok(new_null_array(values.data_type(), groups.len()));
    }
    Ok(arrow::compute::take(&values, &places, None)?)
}

/// A column of all groups' rows, end to end.
fn column(groups: &[&Group], codec: &RowCodec, index: usize) -> Result<ArrayRef, OperatorError> {
    let rows: Vec<&[u8]> = groups.iter().flat_map(|group| group.iter()).collect();
    Ok(codec.decode_column(index, &rows)?)
}

fn text(groups: &[&Group], codec: &RowCodec, separated: bool) -> Result<ArrayRef, OperatorError> {
    let values = column(groups, codec, 0)?;
    let values: &StringArray = values.as_string();
    let separators = match separated {
        false => None,
        true => Some(column(groups, codec, 1)?),
    };
    let separator = |row: usize| match &separators {
        None => ",",
        Some(separators) => separators.as_string::<i32>().value(row),
    };
    let mut builder = StringBuilder::new();
    let mut list = String::new();
    let mut row = 0;
    for group in groups {
        list.clear();
        for index in 0..group.len() {
            if index > 0 {
                list.push_str(separator(row));
            }
            list.push_str(values.value(row));
            row += 1;
        }
        builder.append_option((group.len() > 0).then_some(&list));
    }
    Ok(Arc::new(builder.finish()))
}

fn list(
    groups: &[&Group],
    codec: &RowCodec,
    data_type: &DataType,
) -> Result<ArrayRef, OperatorError> {
    let offsets = OffsetBuffer::from_lengths(groups.iter().map(|group| group.len()));
    let nulls: NullBuffer = groups
        .iter()
        .map(|group| group.len() > 0)
        .collect::<Vec<_>>()
        .into();
    let values = column(groups, codec, 0)?;
    Ok(Arc::new(ListArray::try_new(
        element(data_type)?.clone(),
        offsets,
        values,
        Some(nulls),
    )?))
}

fn element(data_type: &DataType) -> Result<&Arc<Field>, OperatorError> {
    match data_type {
        DataType::List(field) | DataType::Map(field, _) => Ok(field),
        other => Err(OperatorError::Plan(format!(
            "a collection is planned as {other}"
        ))),
    }
}

fn multiset(
    groups: &[&Group],
    codec: &RowCodec,
    data_type: &DataType,
) -> Result<ArrayRef, OperatorError> {
    let mut rows: Vec<&[u8]> = Vec::new();
    let mut counts: Vec<i32> = Vec::new();
    let mut lengths = Vec::with_capacity(groups.len());
    for group in groups {
        let mut sorted: Vec<&[u8]> = group.iter().collect();
        sorted.sort_unstable();
        let before = rows.len();
        for copies in sorted.chunk_by(|a, b| a == b) {
            rows.push(copies[0]);
            counts.push(copies.len() as i32);
        }
        lengths.push(rows.len() - before);
    }
    let entries = element(data_type)?;
    let DataType::Struct(fields) = entries.data_type() else {
        return Err(OperatorError::Plan(
            "a multiset is not planned as a map".to_owned(),
        ));
    };
    let columns: Vec<ArrayRef> = vec![
        codec.decode_column(0, &rows)?,
        Arc::new(Int32Array::from(counts)),
    ];
    let pairs = StructArray::try_new(fields.clone(), columns, None)?;
    let offsets = OffsetBuffer::from_lengths(lengths);
    Ok(Arc::new(MapArray::try_new(
        entries.clone(),
        offsets,
        pairs,
        None,
        false,
    )?))
}

fn percentile(
    groups: &[&Group],
    codec: &RowCodec,
    data_type: &DataType,
) -> Result<ArrayRef, OperatorError> {
    let values = cast(&column(groups, codec, 0)?, &DataType::Float64)?;
    let values = values.as_primitive::<Float64Type>().values();
    let fractions = one(groups, codec, 1, |_| 0)?;
    let mut sorted = Vec::new();
    let mut start = 0;
    let mut groups_sorted = |group: &Group| {
        sorted.clear();
        sorted.extend_from_slice(&values[start..start + group.len()]);
        start += group.len();
        sorted.sort_unstable_by(f64::total_cmp);
        sorted.clone()
    };
    if let DataType::List(field) = data_type {
        let fractions = cast(&fractions, data_type)?;
        let fractions: &ListArray = fractions.as_list();
        let mut results = Vec::new();
        let mut lengths = Vec::new();
        for (row, group) in groups.iter().enumerate() {
            let sorted = groups_sorted(group);
            let before = results.len();
            if !sorted.is_empty() && fractions.is_valid(row) {
                let wanted = fractions.value(row);
                let wanted = wanted.as_primitive::<Float64Type>();
                results.extend(wanted.iter().map(|p| Some(interpolated(&sorted, p?))));
            }
            lengths.push(results.len() - before);
        }
        let nulls: NullBuffer = lengths
            .iter()
            .map(|length| *length > 0)
            .collect::<Vec<_>>()
            .into();
        let results: ArrayRef = Arc::new(Float64Array::from(results));
        let offsets = OffsetBuffer::from_lengths(lengths);
        return Ok(Arc::new(ListArray::try_new(
            field.clone(),
            offsets,
            results,
            Some(nulls),
        )?));
    }
    let fractions = cast(&fractions, &DataType::Float64)?;
    let fractions = fractions.as_primitive::<Float64Type>();
    let result = |(row, group): (usize, &&Group)| {
        let sorted = groups_sorted(group);
        let wanted = fractions.is_valid(row) && !sorted.is_empty();
        wanted.then(|| interpolated(&sorted, fractions.value(row)))
    };
    let results: Float64Array = groups.iter().enumerate().map(result).collect();
    Ok(Arc::new(results))
}

/// The value at fraction `p` of sorted values, between two by straight line.
fn interpolated(sorted: &[f64], p: f64) -> f64 {
    let place = (sorted.len() - 1) as f64 * p.clamp(0.0, 1.0);
    let (lower, upper) = (
        sorted[place.floor() as usize],
        sorted[place.ceil() as usize],
    );
    lower + (upper - lower) * (place - place.floor())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_lie_on_lines() {
        assert_eq!(interpolated(&[1.0, 2.0, 4.0], 0.5), 2.0);
        assert_eq!(interpolated(&[1.0, 2.0, 4.0], 0.75), 3.0);
        assert_eq!(interpolated(&[7.0], 0.9), 7.0);
        assert_eq!(interpolated(&[1.0, 2.0], 1.0), 2.0);
    }
}
