//! What an operator's state means: its tables as rows of named columns, for whoever looks at it from
//! outside. Reads what operators write, by the same codecs; no operator runs.
//!
//! ```text
//! groups   accumulators by group, in windows or not
//! rows     rows as they came in: joins, rankings, deduplication, sorts, OVER
//! ```

mod groups;
#[cfg(test)]
mod inspect_test;
mod rows;

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, Scalar},
    compute::{cast, kernels::cmp::not_distinct},
};
use engine::{
    TIMESTAMP_MIN, Timestamp,
    key::KeyEncoder,
    operator::{OperatorError, TaskScope},
    schema::{arrow_schema, arrow_type},
    state::{STAMP_BYTES, StateTtl, TimeDomain, Ttl},
};
use proto::{
    plan::{Changelog, StateTable, node::Operator},
    types::{Epoch, Field, KeyGroup, KeyGroupCount, KeyGroupSet, LogicalType, TableId},
};
use state_client::{KeyRequest, LoadedRow};

use self::{groups::Groups, rows::Rows};
use crate::over;

/// A node of a plan, as far as its state depends on it.
pub struct InspectedNode<'a> {
    /// What it does.
    pub operator: &'a Operator,
    /// Its state tables.
    pub tables: &'a [StateTable],
    /// Columns of its inputs.
    pub inputs: Vec<Vec<Field>>,
    /// Changes that its inputs carry.
    pub changelogs: Vec<Changelog>,
    /// How long its state lives.
    pub ttl: StateTtl,
    /// Key groups of the job.
    pub key_groups: KeyGroupCount,
}

/// One of an operator's tables.
pub struct InspectedTable {
    name: String,
    id: TableId,
    keys: KeyEncoder,
    key_fields: Vec<Field>,
    columns: Vec<Field>,
    /// Where the key is among the columns.
    key_columns: Vec<usize>,
    is_windowed: bool,
    key_groups: KeyGroupCount,
    layout: Layout,
    /// How long each row lives, if each does so by itself, and where the time of its last change is.
    age: Option<(Ttl, Stamp)>,
}

/// Where a row's value has the time of its last change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stamp {
    First,
    Last,
}

enum Layout {
    Groups(Groups),
    Rows(Rows),
}

/// Name of the column that says which window a row is of.
const WINDOW_END: &str = "window_end";

/// The tables of a node that can be looked at; none if it has no state with keys.
///
/// # Errors
/// When the plan does not fit.
pub fn inspect(node: &InspectedNode<'_>) -> Result<Vec<InspectedTable>, OperatorError> {
    match node.operator {
        Operator::GroupAggregate(spec) => groups::of_groups(node, spec),
        Operator::WindowAggregate(spec) => groups::of_windows(node, spec),
        Operator::Join(spec) => rows::of_join(node, spec),
        Operator::MultiJoin(spec) => rows::of_multi_join(node, spec),
        Operator::WindowJoin(spec) => rows::of_window_join(node, spec),
        Operator::IntervalJoin(spec) => rows::of_interval_join(node, spec),
        Operator::TemporalJoin(spec) => rows::of_temporal_join(node, spec),
        Operator::Rank(spec) => rows::of_rank(node, spec),
        Operator::Deduplicate(spec) => rows::of_deduplicate(node, spec),
        Operator::ChangelogNormalize(spec) => rows::of_normalize(node, spec),
        Operator::OverAggregate(spec) if over::is_running(spec) => groups::of_over(node, spec),
        Operator::OverAggregate(spec) => rows::of_over(node, spec),
        Operator::Sort(spec) => rows::of_sort(node, spec),
        _ => Ok(Vec::new()),
    }
}

impl InspectedTable {
    fn new(
        node: &InspectedNode<'_>,
        table: &StateTable,
        keys: &[usize],
        input: &[Field],
        (mut columns, key_columns): (Vec<Field>, Vec<usize>),
        is_windowed: bool,
        layout: Layout,
    ) -> Result<InspectedTable, OperatorError> {
        let key_fields: Vec<Field> = keys.iter().map(|key| input[*key].clone()).collect();
        let types = key_fields.iter().map(|f| arrow_type(&f.data_type.logical));
        let keys = KeyEncoder::new((0..keys.len()).collect(), types.collect())?;
        if is_windowed {
            columns.push(Field::new(WINDOW_END, time()));
        }
        Ok(InspectedTable {
            name: table.name.clone(),
            id: TableId(table.id),
            keys,
            key_fields,
            columns,
            key_columns,
            is_windowed,
            key_groups: node.key_groups,
            layout,
            age: None,
        })
    }

    /// Its rows expire one by one.
    fn aged(mut self, ttl: Option<Ttl>, stamp: Stamp) -> InspectedTable {
        self.age = ttl.map(|ttl| (ttl, stamp));
        self
    }

    /// Whether a stored row has expired by the wall clock, so that its operator would take it for absent.
    /// What ages by a watermark, or not row by row, is not judged here: it is there until it is removed.
    #[must_use]
    pub fn has_expired(&self, row: &LoadedRow, wall_ms: Timestamp) -> bool {
        let Some((ttl, stamp)) = self.age else {
            return false;
        };
        let bytes = match stamp {
            Stamp::First => row.value.first_chunk::<STAMP_BYTES>(),
            Stamp::Last => row.value.last_chunk::<STAMP_BYTES>(),
        };
        let stamp = bytes.map_or(TIMESTAMP_MIN, |bytes| Timestamp::from_le_bytes(*bytes));
        ttl.domain == TimeDomain::Processing && stamp > TIMESTAMP_MIN && ttl.due(stamp) <= wall_ms
    }

    /// Its name in the plan.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> TableId {
        self.id
    }

    /// The columns that make the key.
    #[must_use]
    pub fn key_fields(&self) -> &[Field] {
        &self.key_fields
    }

    /// The columns of its rows.
    #[must_use]
    pub fn columns(&self) -> &[Field] {
        &self.columns
    }

    /// Whether rows are kept by window, so that those of a key are in several places.
    #[must_use]
    pub fn is_windowed(&self) -> bool {
        self.is_windowed
    }

    /// The hash of a key, given as columns of one row.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn hash(&self, key: &[ArrayRef]) -> Result<u64, OperatorError> {
        Ok(self.keys.encode_arrays(key, 1)?.hashes[0])
    }

    /// The key group of a hash.
    #[must_use]
    pub fn key_group(&self, hash: u64) -> KeyGroup {
        self.key_groups.of_hash(hash)
    }

    /// The read of all rows of a key, where they are not kept by window.
    #[must_use]
    pub fn read(&self, hash: u64) -> KeyRequest {
        request(self.id, 0, hash)
    }

    /// Whether a stored row is one of the table's, and not something that the operator keeps beside.
    #[must_use]
    pub fn is_row(&self, row: &LoadedRow) -> bool {
        row.namespace < i64::MAX
    }

    /// What must be read beside some rows to tell their values.
    #[must_use]
    pub fn reads_beside(&self, rows: &[LoadedRow]) -> Vec<KeyRequest> {
        let Layout::Groups(groups) = &self.layout else {
            return Vec::new();
        };
        let Some(values) = groups.values() else {
            return Vec::new();
        };
        let mut reads: Vec<KeyRequest> = rows
            .iter()
            .map(|row| request(values, row.namespace, row.hash))
            .collect();
        reads.dedup();
        reads
    }

    /// Rows of the table, in order, with what was read beside them.
    ///
    /// # Errors
    /// When they do not decode.
    pub fn decode(
        &self,
        rows: &[LoadedRow],
        beside: &[LoadedRow],
    ) -> Result<RecordBatch, OperatorError> {
        let mut columns = match &self.layout {
            Layout::Groups(groups) => groups.decode(&self.scope(), rows, beside)?,
            Layout::Rows(layout) => layout.decode(rows)?,
        };
        if self.is_windowed {
            let ends = rows.iter().map(|row| row.namespace);
            let ends: ArrayRef = Arc::new(arrow::array::Int64Array::from_iter_values(ends));
            columns.push(cast(&ends, &arrow_type(&time().logical))?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let schema = arrow_schema(&self.columns);
        Ok(RecordBatch::try_new_with_options(
            schema, columns, &options,
        )?)
    }

    /// Which rows of a decoded batch have these values in the first columns of their key.
    ///
    /// # Errors
    /// When they cannot be compared.
    pub fn matching(
        &self,
        batch: &RecordBatch,
        key: &[ArrayRef],
    ) -> Result<Vec<u32>, OperatorError> {
        let mut kept = vec![true; batch.num_rows()];
        for (column, value) in self.key_columns.iter().zip(key) {
            let equal: BooleanArray =
                not_distinct(batch.column(*column), &Scalar::new(value.clone()))?;
            let pairs = kept.iter_mut().zip(equal.values());
            pairs.for_each(|(kept, equal)| *kept &= equal);
        }
        let rows = (0..).zip(kept);
        Ok(rows.filter(|(_, kept)| *kept).map(|(row, _)| row).collect())
    }

    fn scope(&self) -> TaskScope {
        TaskScope {
            index: 0,
            parallelism: 1,
            owned: KeyGroupSet::all(self.key_groups),
            key_groups: self.key_groups,
            batch_rows: 1,
            restored: Epoch::ZERO,
            came: None,
        }
    }
}

fn request(table: TableId, namespace: i64, hash: u64) -> KeyRequest {
    KeyRequest {
        table,
        namespace,
        hash,
        sub: None,
    }
}

/// `TIMESTAMP(3)`
fn time() -> proto::types::DataType {
    LogicalType::Timestamp(3).nullable()
}
