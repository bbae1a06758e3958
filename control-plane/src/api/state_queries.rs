//! Who reads the state of operators for the API: bytes become rows where columns are known, which is
//! not here. State is read as a job has it, or as a checkpoint or a savepoint keeps it.

use std::sync::Arc;

use control_stream::{JobOwners, ShardOwner};
use coordinator::census::Piece;
use futures::{FutureExt as _, future::BoxFuture};
use proto::{
    plan::Plan,
    types::{Epoch, Field},
};
use serde_json::Value;
use state_client::{CountReply, Incarnation, KeptState};

use crate::results::ResultRow;

/// Whose state is wanted.
#[derive(Clone, Debug)]
pub struct StateOf {
    /// The job's plan.
    pub plan: Arc<Plan>,
    /// The operator.
    pub operator: String,
    /// As of when.
    pub at: StateAt,
}

/// As of when state is wanted.
#[derive(Clone, Debug)]
pub enum StateAt {
    /// As of the last commit, or of a later one.
    Committed {
        /// As whom it is read: the job as it runs.
        who: Incarnation,
        /// Its last committed epoch.
        committed: Epoch,
        /// Who serves its shards, where they are served by other processes.
        owners: Option<Arc<JobOwners>>,
    },
    /// As it is kept.
    Kept {
        /// What it consists of.
        state: Arc<KeptState>,
        /// Who can read that, where other processes do.
        nodes: Vec<ShardOwner>,
    },
}

/// Which rows are wanted.
#[derive(Clone, Debug)]
pub struct StateQuery {
    /// Of which table; `None`: the operator's only one.
    pub table: Option<String>,
    /// The key, or the first columns of it; `None`: all rows.
    pub key: Option<KeyQuery>,
    /// So many rows at most.
    pub limit: usize,
    /// Where an earlier answer ended.
    pub after: Option<String>,
}

/// A key as a client wrote it: an array, an object by column, or the value of the only column.
#[derive(Clone, PartialEq, Debug)]
pub enum KeyQuery {
    /// All columns of it.
    Whole(Value),
    /// The first ones.
    Prefix(Value),
}

/// Rows of a table.
#[derive(Clone, Debug)]
pub struct StateRows {
    /// The table's name.
    pub table: String,
    /// The columns of its key.
    pub key: Vec<Field>,
    /// All columns.
    pub columns: Vec<Field>,
    /// The rows.
    pub rows: Vec<ResultRow>,
    /// For [`StateQuery::after`]; `None`: there are no more.
    pub next: Option<String>,
}

/// What is stored of an operator.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StateSizes {
    /// Name, rows and bytes of each table.
    pub tables: Vec<(String, u64, u64)>,
    /// Whether all was counted; else it took too long.
    pub complete: bool,
}

/// Why there is no answer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StateQueryError {
    /// The plan has no such operator.
    #[error("there is no operator `{operator}`; operators with state are {}", .known.join(", "))]
    UnknownOperator {
        /// What was asked for.
        operator: String,
        /// What there is.
        known: Vec<String>,
    },
    /// It keeps nothing by key.
    #[error("operator `{0}` keeps no state that has keys")]
    Stateless(String),
    /// It has several tables, or no such one.
    #[error("{why}: the operator's tables are {}", .tables.join(", "))]
    Table {
        /// What is wrong.
        why: String,
        /// What there is.
        tables: Vec<String>,
    },
    /// The key does not fit.
    #[error("{why}; the key is ({columns})")]
    Key {
        /// What is wrong.
        why: String,
        /// Columns with their types.
        columns: String,
    },
    /// The place to go on from is not one.
    #[error("`after` is not where an answer has ended")]
    After,
    /// The job runs with another generation by now.
    #[error("the job is being restarted")]
    Fenced,
    /// It cannot be read now.
    #[error("{0}")]
    Unavailable(String),
    /// What is stored cannot be understood.
    #[error("{0}")]
    Damaged(String),
}

/// Who reads state.
pub trait StateQueries: Send + Sync {
    /// Rows of an operator's state.
    fn rows(
        &self,
        of: StateOf,
        query: StateQuery,
    ) -> BoxFuture<'static, Result<StateRows, StateQueryError>>;

    /// How much is stored of an operator.
    fn sizes(&self, of: StateOf) -> BoxFuture<'static, Result<StateSizes, StateQueryError>>;

    /// Counts a piece of what is stored.
    fn count(
        &self,
        at: StateAt,
        piece: Piece,
    ) -> BoxFuture<'static, Result<CountReply, StateQueryError>>;
}

/// A process that cannot read state.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoStateQueries;

fn unable<T: Send + 'static>() -> BoxFuture<'static, Result<T, StateQueryError>> {
    let why = "this process cannot read state".to_owned();
    async { Err(StateQueryError::Unavailable(why)) }.boxed()
}

impl StateQueries for NoStateQueries {
    fn rows(
        &self,
        _of: StateOf,
        _query: StateQuery,
    ) -> BoxFuture<'static, Result<StateRows, StateQueryError>> {
        unable()
    }

    fn sizes(&self, _of: StateOf) -> BoxFuture<'static, Result<StateSizes, StateQueryError>> {
        unable()
    }

    fn count(
        &self,
        _at: StateAt,
        _piece: Piece,
    ) -> BoxFuture<'static, Result<CountReply, StateQueryError>> {
        unable()
    }
}
