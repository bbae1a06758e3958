//! Rows that are kept as they came in.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use engine::{
    codec::RowCodec,
    key::KeyEncoder,
    operator::OperatorError,
    schema::arrow_type,
    state::{KeyIndex, STAMP_BYTES},
};
use proto::{
    plan::{self, Changelog, StateTable},
    types::{Field, KeyGroupCount, KeyGroupSet, LogicalType},
};
use state_client::LoadedRow;

use super::{InspectedNode, InspectedTable, Layout, Stamp};
use crate::{
    over::stored_columns,
    rows::{columns, row_codec},
};

/// How rows lie in their table.
pub(super) struct Rows {
    content: Content,
    /// Bytes before a row: times that operators compare by, the number of its copies.
    before: usize,
    /// Bytes after it.
    after: usize,
    /// The number of copies stands right before the row.
    is_counted: bool,
    /// Columns of the input that a row has, those of its key first; `None`: all, as they are.
    columns: Option<Vec<usize>>,
}

enum Content {
    /// Whole rows.
    Row(RowCodec),
    /// Nothing but that the key is there.
    Key(KeyEncoder, KeyGroupCount),
}

/// Bytes of the number of copies.
const COPIES_BYTES: usize = 4;
/// Bytes of a time that an operator compares by.
const TIME_BYTES: usize = 8;

impl Rows {
    pub(super) fn decode(&self, rows: &[LoadedRow]) -> Result<Vec<ArrayRef>, OperatorError> {
        let codec = match &self.content {
            Content::Row(codec) => codec,
            Content::Key(keys, groups) => return decode_keys(keys, *groups, rows),
        };
        let mut bytes: Vec<&[u8]> = Vec::with_capacity(rows.len());
        let mut copies = Vec::new();
        for row in rows {
            let end = row.value.len().checked_sub(self.after);
            let whole = end.and_then(|end| row.value.get(self.before..end));
            let whole = whole.filter(|whole| whole.len() >= codec.fixed_bytes());
            bytes.push(whole.ok_or_else(|| OperatorError::Plan("a row is cut short".to_owned()))?);
            if self.is_counted
                && let Some(count) = row.value[..self.before].last_chunk::<COPIES_BYTES>()
            {
                copies.push(i64::from(u32::from_le_bytes(*count)));
            }
        }
        let mut columns = codec.decode(&bytes)?;
        if self.is_counted {
            columns.push(Arc::new(Int64Array::from(copies)));
        }
        Ok(columns)
    }
}

fn decode_keys(
    keys: &KeyEncoder,
    groups: KeyGroupCount,
    rows: &[LoadedRow],
) -> Result<Vec<ArrayRef>, OperatorError> {
    let mut index = KeyIndex::new(keys.width(), groups, &KeyGroupSet::all(groups), false);
    let mut slots = Vec::with_capacity(rows.len());
    for row in rows {
        let key = index.read_identity(&row.identity);
        let key = key.ok_or_else(|| OperatorError::Plan("a key is cut short".to_owned()))?;
        slots.push(index.find_or_insert_row(&key, 0, row.hash, &mut |_| {}));
    }
    Ok(keys.decode(&index.keys_of(&slots))?)
}

/// The tables of an updating join.
pub(super) fn of_join(
    node: &InspectedNode<'_>,
    spec: &plan::Join,
) -> Result<Vec<InspectedTable>, OperatorError> {
    let keys = [&spec.left_keys, &spec.right_keys];
    let unique = [&spec.left_unique_key, &spec.right_unique_key];
    let until = [&spec.left_until, &spec.right_until];
    let sides = node.tables.iter().zip(0..2);
    sides
        .map(|(table, side)| {
            let changelog = changelog(node, side)?;
            let by_key =
                unique[side].is_some() && changelog.update_after && !changelog.update_before;
            let rows = Rows {
                content: Content::Row(row_codec(input(node, side)?)?),
                before: match node.ttl.of_input(side).is_some() || !until[side].is_empty() {
                    true => STAMP_BYTES,
                    false => 0,
                },
                after: 0,
                is_counted: !changelog.is_append() && !by_key,
                columns: None,
            };
            let table = rows.table(node, table, (side, keys[side]), false)?;
            Ok(table.aged(node.ttl.of_input(side), Stamp::First))
        })
        .collect()
}

/// The tables of a join of many inputs.
pub(super) fn of_multi_join(
    node: &InspectedNode<'_>,
    spec: &plan::MultiJoin,
) -> Result<Vec<InspectedTable>, OperatorError> {
    let tables = node.tables.iter().zip(&spec.inputs).enumerate();
    tables
        .map(|(side, (table, of))| {
            let rows = Rows {
                is_counted: !changelog(node, side)?.is_append(),
                ..Rows::appended(input(node, side)?)?
            };
            rows.table(node, table, (side, &of.keys), false)
        })
        .collect()
}

/// The tables of a join in windows.
pub(super) fn of_window_join(
    node: &InspectedNode<'_>,
    spec: &plan::WindowJoin,
) -> Result<Vec<InspectedTable>, OperatorError> {
    let keys = [&spec.left_keys, &spec.right_keys];
    let sides = node.tables.iter().zip(0..2);
    sides
        .map(|(table, side)| {
            let rows = Rows::appended(input(node, side)?)?;
            rows.table(node, table, (side, keys[side]), true)
        })
        .collect()
}

/// The tables of an interval join.
pub(super) fn of_interval_join(
    node: &InspectedNode<'_>,
    spec: &plan::IntervalJoin,
) -> Result<Vec<InspectedTable>, OperatorError> {
    use plan::JoinType::{Anti, Full, Left, Right};
    let keys = [&spec.left_keys, &spec.right_keys];
    let outer: &[usize] = match spec.r#type() {
        Left | Anti => &[0],
        Right => &[1],
        Full => &[0, 1],
        _ => &[],
    };
    let sides = [0, 1].iter().chain(outer);
    let tables = node.tables.iter().zip(sides);
    tables
        .map(|(table, side)| {
            let rows = Rows {
                // The time that the row goes by.
                before: STAMP_BYTES,
                ..Rows::appended(input(node, *side)?)?
            };
            rows.table(node, table, (*side, keys[*side]), false)
        })
        .collect()
}

/// The tables of a temporal join: of versions also whether they say that the row was deleted.
pub(super) fn of_temporal_join(
    node: &InspectedNode<'_>,
    spec: &plan::TemporalJoin,
) -> Result<Vec<InspectedTable>, OperatorError> {
    let [lefts, versions, ..] = node.tables else {
        return Err(OperatorError::Plan("a join has two tables".to_owned()));
    };
    let mut fields = input(node, 1)?.to_vec();
    fields.push(Field::new("deleted", LogicalType::Boolean.not_null()));
    let rows = Rows::appended(input(node, 0)?)?;
    let lefts = rows.table(node, lefts, (0, &spec.left_keys), false)?;
    let keys = columns(&spec.right_keys, &fields)?;
    let rows = Layout::Rows(Rows::appended(&fields)?);
    let layout = (fields.clone(), keys.clone());
    let versions = InspectedTable::new(node, versions, &keys, &fields, layout, false, rows)?;
    Ok(vec![lefts, versions])
}

/// The table of a ranking.
pub(super) fn of_rank(
    node: &InspectedNode<'_>,
    spec: &plan::Rank,
) -> Result<Vec<InspectedTable>, OperatorError> {
    let keys = (0, &spec.partition_by);
    if spec.window.is_some() {
        return Rows::appended(input(node, 0)?)?.only_table(node, keys, true);
    }
    let rows = Rows {
        before: node.ttl.of_input(0).map_or(0, |_| STAMP_BYTES),
        is_counted: !changelog(node, 0)?.is_append(),
        ..Rows::appended(input(node, 0)?)?
    };
    rows.only_table(node, keys, false)
}

/// The table of a deduplication.
pub(super) fn of_deduplicate(
    node: &InspectedNode<'_>,
    spec: &plan::Deduplicate,
) -> Result<Vec<InspectedTable>, OperatorError> {
    let keys = (0, &spec.keys);
    if spec.window.is_some() {
        return Rows::appended(input(node, 0)?)?.only_table(node, keys, true);
    }
    let keeps_rows = spec.keep_last || spec.time_column.is_some();
    let content = match keeps_rows {
        true => Content::Row(row_codec(input(node, 0)?)?),
        false => Content::Key(key_encoder(node, &spec.keys)?, node.key_groups),
    };
    let rows = Rows {
        content,
        before: spec.time_column.map_or(0, |_| TIME_BYTES),
        after: node.ttl.of_input(0).map_or(0, |_| STAMP_BYTES),
        is_counted: false,
        columns: None,
    };
    let tables = rows.only_table(node, keys, false)?;
    Ok(aged(node, tables))
}

/// Rows that expire one by one, each with its time after it.
fn aged(node: &InspectedNode<'_>, tables: Vec<InspectedTable>) -> Vec<InspectedTable> {
    let ttl = node.ttl.of_input(0);
    let tables = tables.into_iter();
    tables.map(|table| table.aged(ttl, Stamp::Last)).collect()
}

/// The table of a normalisation.
pub(super) fn of_normalize(
    node: &InspectedNode<'_>,
    spec: &plan::ChangelogNormalize,
) -> Result<Vec<InspectedTable>, OperatorError> {
    let rows = Rows {
        after: node.ttl.of_input(0).map_or(0, |_| STAMP_BYTES),
        ..Rows::appended(input(node, 0)?)?
    };
    let tables = rows.only_table(node, (0, &spec.keys), false)?;
    Ok(aged(node, tables))
}

/// The table of a sort.
pub(super) fn of_sort(
    node: &InspectedNode<'_>,
    spec: &plan::Sort,
) -> Result<Vec<InspectedTable>, OperatorError> {
    Rows::appended(input(node, 0)?)?.only_table(node, (0, &spec.partition_by), false)
}

/// The table of OVER calls whose rows are kept, all of them or as long as others look back at them.
pub(super) fn of_over(
    node: &InspectedNode<'_>,
    spec: &plan::OverAggregate,
) -> Result<Vec<InspectedTable>, OperatorError> {
    let whole = input(node, 0)?;
    let (stored, is_stamped) = stored_columns(spec, whole, &node.ttl)?;
    let fields: Vec<Field> = match &stored {
        Some(stored) => stored.iter().map(|column| whole[*column].clone()).collect(),
        None => whole.to_vec(),
    };
    let rows = Rows {
        before: if is_stamped { STAMP_BYTES } else { 0 },
        is_counted: !changelog(node, 0)?.is_append(),
        columns: stored,
        ..Rows::appended(&fields)?
    };
    rows.only_table(node, (0, &spec.partition_by), false)
}

impl Rows {
    /// Rows with nothing around them.
    fn appended(input: &[Field]) -> Result<Rows, OperatorError> {
        Ok(Rows {
            content: Content::Row(row_codec(input)?),
            before: 0,
            after: 0,
            is_counted: false,
            columns: None,
        })
    }

    fn only_table(
        self,
        node: &InspectedNode<'_>,
        keys: (usize, &Vec<u32>),
        is_windowed: bool,
    ) -> Result<Vec<InspectedTable>, OperatorError> {
        let table = node.tables.first();
        let table = table.ok_or_else(|| OperatorError::Plan("an operator has no table".into()))?;
        self.table(node, table, keys, is_windowed)
            .map(|table| vec![table])
    }

    fn table(
        mut self,
        node: &InspectedNode<'_>,
        table: &StateTable,
        (side, keys): (usize, &Vec<u32>),
        is_windowed: bool,
    ) -> Result<InspectedTable, OperatorError> {
        let input = input(node, side)?;
        let keys = columns(keys, input)?;
        if self.is_counted {
            self.before += COPIES_BYTES;
        }
        let stored = match (&self.content, self.columns.take()) {
            (_, Some(columns)) => Some(columns),
            (Content::Key(..), None) => Some(keys.clone()),
            (Content::Row(_), None) => None,
        };
        let mut fields = match &stored {
            Some(columns) => columns.iter().map(|at| input[*at].clone()).collect(),
            None => input.to_vec(),
        };
        let key_columns = match stored {
            Some(_) => (0..keys.len()).collect(),
            None => keys.clone(),
        };
        if self.is_counted {
            fields.push(Field::new("copies", LogicalType::BigInt.not_null()));
        }
        let layout = (fields, key_columns);
        let rows = Layout::Rows(self);
        InspectedTable::new(node, table, &keys, input, layout, is_windowed, rows)
    }
}

fn key_encoder(node: &InspectedNode<'_>, keys: &[u32]) -> Result<KeyEncoder, OperatorError> {
    let input = input(node, 0)?;
    let keys = columns(keys, input)?;
    let types = keys
        .iter()
        .map(|key| arrow_type(&input[*key].data_type.logical));
    Ok(KeyEncoder::new((0..keys.len()).collect(), types.collect())?)
}

fn input<'a>(node: &'a InspectedNode<'_>, side: usize) -> Result<&'a [Field], OperatorError> {
    let input = node.inputs.get(side).map(Vec::as_slice);
    input.ok_or_else(|| OperatorError::Plan("an operator has no such input".to_owned()))
}

fn changelog<'a>(node: &'a InspectedNode<'_>, side: usize) -> Result<&'a Changelog, OperatorError> {
    let changelog = node.changelogs.get(side);
    changelog.ok_or_else(|| OperatorError::Plan("an operator has no such input".to_owned()))
}
