//! The state of an operator for whoever looks at it from outside: what its tables hold, and reading
//! them from the state service. No task takes part: what was committed is read.

use arrow::array::RecordBatch;
use bytes::Bytes;
use engine::operator::OperatorError;
use operators::inspect::{InspectedNode, InspectedTable, inspect};
use proto::{
    plan::{Node, Plan, PlanError},
    types::{Epoch, KeyGroup, KeyGroupCount, TableId},
};
use state_client::{
    Incarnation, KeyRequest, LoadedRow, ReadRequest, ScanRequest, StateError, StateStore,
};

use crate::build::{input_fields, ttl_of, upstream};

/// Bytes of one piece of a scan.
const PIECE_BYTES: usize = 256 << 10;

/// Why state cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// The plan has no such operator.
    #[error("there is no operator `{0}`")]
    Unknown(String),
    /// It keeps nothing by key.
    #[error("operator `{0}` keeps no state that has keys")]
    Stateless(String),
    /// The plan cannot be read.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// What is stored does not fit it.
    #[error(transparent)]
    Decode(#[from] OperatorError),
    /// The state service does not answer.
    #[error(transparent)]
    State(#[from] StateError),
}

/// The tables of an operator.
///
/// # Errors
/// When there are none.
pub fn tables(plan: &Plan, operator: &str) -> Result<Vec<InspectedTable>, ViewError> {
    let fragments = plan.fragments.iter();
    let mut nodes = fragments.flat_map(|f| f.nodes.iter().map(move |node| (f, node)));
    let found = nodes.find(|(_, node)| node.id == operator);
    let (fragment, node) = found.ok_or_else(|| ViewError::Unknown(operator.to_owned()))?;
    let spec = node.operator.as_ref();
    let spec = spec.ok_or(PlanError::Missing("node.operator"))?;
    let inputs = 0..node.inputs.len();
    let fields = |input| input_fields(plan, &fragment.nodes, node, input);
    let changelog = |input| -> Result<_, PlanError> {
        let upstream: &Node = upstream(plan, &fragment.nodes, node, input)?;
        Ok(upstream.changelog.unwrap_or_default())
    };
    let tables = inspect(&InspectedNode {
        operator: spec,
        tables: &node.tables,
        inputs: inputs.clone().map(fields).collect::<Result<_, _>>()?,
        changelogs: inputs.map(changelog).collect::<Result<_, _>>()?,
        ttl: ttl_of(node),
        key_groups: KeyGroupCount::new(plan.key_groups).ok_or(PlanError::Missing("key_groups"))?,
    })?;
    match tables.is_empty() {
        true => Err(ViewError::Stateless(operator.to_owned())),
        false => Ok(tables),
    }
}

/// Ids and names of all tables of an operator.
///
/// # Errors
/// When there is no such operator.
pub fn all_tables(plan: &Plan, operator: &str) -> Result<Vec<(TableId, String)>, ViewError> {
    let mut nodes = plan.fragments.iter().flat_map(|fragment| &fragment.nodes);
    let node = nodes.find(|node| node.id == operator);
    let node = node.ok_or_else(|| ViewError::Unknown(operator.to_owned()))?;
    let tables = node.tables.iter();
    Ok(tables
        .map(|table| (TableId(table.id), table.name.clone()))
        .collect())
}

/// Rows of a table that are stored, and their bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StoredSize {
    /// Rows.
    pub rows: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
}

/// Counts what is stored of a table in one key group.
///
/// # Errors
/// When it cannot be read.
pub async fn measure(
    store: &dyn StateStore,
    who: Incarnation,
    as_of: Epoch,
    table: TableId,
    key_group: KeyGroup,
) -> Result<StoredSize, ViewError> {
    let mut size = StoredSize::default();
    let mut cursor = None;
    loop {
        let request = ScanRequest {
            min_epoch: as_of,
            table,
            key_group,
            namespace: None,
            cursor,
            bytes_max: 4 * PIECE_BYTES,
        };
        let reply = store.scan(who, request).await?;
        size.rows += reply.rows.len() as u64;
        let bytes = |row: &LoadedRow| 8 + row.identity.len() + row.value.len();
        size.bytes += reply.rows.iter().map(bytes).sum::<usize>() as u64;
        cursor = reply.cursor;
        if cursor.is_none() {
            return Ok(size);
        }
    }
}

/// A table of a job's state as of an epoch or later.
pub struct TableView<'a> {
    /// Which table.
    pub table: &'a InspectedTable,
    /// Where it is.
    pub store: &'a dyn StateStore,
    /// As whom it is read.
    pub who: Incarnation,
    /// As of when at least.
    pub as_of: Epoch,
}

/// Rows with what they were made of.
pub struct Piece {
    /// As they are stored.
    pub stored: Vec<LoadedRow>,
    /// As they are shown, in the same order.
    pub rows: RecordBatch,
    /// Where the scan goes on; `None`: this was the key group's end.
    pub cursor: Option<Bytes>,
}

impl TableView<'_> {
    /// All rows with the hash of a key, where they are not kept by window.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn key(&self, hash: u64) -> Result<Piece, ViewError> {
        let stored = self.read(vec![self.table.read(hash)]).await?;
        self.piece(stored, None).await
    }

    /// The next rows of a key group.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn scan(
        &self,
        key_group: KeyGroup,
        cursor: Option<Bytes>,
    ) -> Result<Piece, ViewError> {
        let request = ScanRequest {
            min_epoch: self.as_of,
            table: self.table.id(),
            key_group,
            namespace: None,
            cursor,
            bytes_max: PIECE_BYTES,
        };
        let reply = self.store.scan(self.who, request).await?;
        self.piece(reply.rows, reply.cursor).await
    }

    async fn piece(
        &self,
        mut stored: Vec<LoadedRow>,
        cursor: Option<Bytes>,
    ) -> Result<Piece, ViewError> {
        stored.retain(|row| self.table.is_row(row));
        let beside = self.read(self.table.reads_beside(&stored)).await?;
        Ok(Piece {
            rows: self.table.decode(&stored, &beside)?,
            stored,
            cursor,
        })
    }

    async fn read(&self, keys: Vec<KeyRequest>) -> Result<Vec<LoadedRow>, ViewError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let request = ReadRequest {
            min_epoch: self.as_of,
            keys,
        };
        let reply = self.store.read(self.who, request).await?;
        Ok(reply.rows.into_iter().flatten().collect())
    }
}
