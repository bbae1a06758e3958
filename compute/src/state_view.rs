//! The state of an operator for whoever looks at it from outside: what its tables hold, and reading
//! them from the state service. No task takes part: what was committed is read.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use bytes::Bytes;
use engine::operator::OperatorError;
use operators::inspect::{InspectedNode, InspectedTable, inspect};
use proto::{
    plan::{Node, Plan, PlanError},
    types::{Epoch, KeyGroup, KeyGroupCount, ShardId, TableId},
};
use state_client::{
    CountReply, Incarnation, KeptState, KeptStates, KeyRequest, LoadedRow, ReadRequest, ScanReply,
    ScanRequest, StateError, StateStore,
};

use crate::build::{input_fields, ttl_of, upstream};

/// Bytes of one piece of a scan.
const PIECE_BYTES: usize = 256 << 10;
/// Bytes that are counted at once.
const COUNTED_BYTES: usize = 1 << 20;

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

/// Where state is read.
#[derive(Clone, Copy)]
pub enum StateSource<'a> {
    /// As of an epoch or later, of a job that runs.
    Live {
        /// Where it is.
        store: &'a dyn StateStore,
        /// As whom it is read.
        who: Incarnation,
        /// As of when at least.
        as_of: Epoch,
    },
    /// As of an epoch that is kept.
    Kept {
        /// Who reads it.
        states: &'a dyn KeptStates,
        /// What it consists of.
        state: &'a KeptState,
    },
}

impl StateSource<'_> {
    /// Rows of keys, in the order of keys that are in one shard.
    async fn read(&self, keys: Vec<KeyRequest>) -> Result<Vec<LoadedRow>, StateError> {
        match self {
            StateSource::Live { store, who, as_of } => {
                let min_epoch = *as_of;
                let request = ReadRequest { min_epoch, keys };
                let reply = store.read(*who, request).await?;
                Ok(reply.rows.into_iter().flatten().collect())
            }
            StateSource::Kept { states, state } => {
                let mut by_shard: BTreeMap<ShardId, Vec<KeyRequest>> = BTreeMap::new();
                for key in keys {
                    let shard = state.shard_of_hash(key.hash);
                    by_shard.entry(shard).or_default().push(key);
                }
                let mut rows = Vec::new();
                for (shard, keys) in by_shard {
                    let reply = states.read_kept(state.shard(shard), keys).await?;
                    rows.extend(reply.rows.into_iter().flatten());
                }
                Ok(rows)
            }
        }
    }

    async fn scan(&self, request: ScanRequest) -> Result<ScanReply, StateError> {
        match self {
            StateSource::Live { store, who, .. } => store.scan(*who, request).await,
            StateSource::Kept { states, state } => {
                let shard = state.shard(state.shard_of_scan(&request));
                states.scan_kept(shard, request).await
            }
        }
    }

    /// A scan of all namespaces.
    fn request(
        &self,
        (table, key_group): (TableId, KeyGroup),
        cursor: Option<Bytes>,
        bytes_max: usize,
    ) -> ScanRequest {
        ScanRequest {
            min_epoch: match self {
                StateSource::Live { as_of, .. } => *as_of,
                StateSource::Kept { state, .. } => state.shape.epoch,
            },
            table,
            key_group,
            namespace: None,
            cursor,
            bytes_max,
        }
    }
}

/// Counts a part of what is stored of a table in one key group.
///
/// # Errors
/// When it cannot be read.
pub async fn count(
    source: StateSource<'_>,
    table: TableId,
    key_group: KeyGroup,
    cursor: Option<Bytes>,
) -> Result<CountReply, ViewError> {
    let request = source.request((table, key_group), cursor, COUNTED_BYTES);
    Ok(match source {
        StateSource::Live { store, who, .. } => store.count(who, request).await?,
        StateSource::Kept { .. } => source.scan(request).await?.into(),
    })
}

/// A table of a job's state.
pub struct TableView<'a> {
    /// Which table.
    pub table: &'a InspectedTable,
    /// Where it is read.
    pub source: StateSource<'a>,
    /// The wall clock, by which rows may have expired; `None`: nothing has, since it is as it was.
    pub wall_ms: Option<i64>,
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
        let of = (self.table.id(), key_group);
        let request = self.source.request(of, cursor, PIECE_BYTES);
        let reply = self.source.scan(request).await?;
        self.piece(reply.rows, reply.cursor).await
    }

    async fn piece(
        &self,
        mut stored: Vec<LoadedRow>,
        cursor: Option<Bytes>,
    ) -> Result<Piece, ViewError> {
        let has_expired = |row: &LoadedRow| {
            let now = self.wall_ms;
            now.is_some_and(|now| self.table.has_expired(row, now))
        };
        stored.retain(|row| self.table.is_row(row) && !has_expired(row));
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
        Ok(self.source.read(keys).await?)
    }
}
