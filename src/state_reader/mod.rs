//! Reads the state of operators for the API: from the state service, by the plan, as rows.
//!
//! ```text
//! key     a key as a client writes it → columns
//! page    which rows an answer has, and where the next one goes on
//! ```

mod hex;
mod key;
mod page;

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use compute::{
    SystemClock,
    state_view::{StateSource, ViewError, all_tables, count, tables},
};
use control_plane::api::{
    KeyQuery, Piece, StateAt, StateOf, StateQueries, StateQuery, StateQueryError, StateRows,
    StateSizes,
};
use control_stream::{JobOwners, ShardOwner};
use engine::clock::Clock as _;
use futures::{FutureExt as _, future::BoxFuture};
use operators::inspect::InspectedTable;
use proto::types::{Epoch, Field, KeyGroup, KeyGroupCount};
use remote_store::{JobRoute, Owner, RemoteConfig, RemoteKept, RemoteStore, Routes};
use state_client::{CountReply, Incarnation, KeptState, KeptStates, StateError, StateStore};
use tokio::{sync::Semaphore, time::Instant};

use self::page::Page;

/// Questions that are answered at the same time; more are refused.
const QUERIES_MAX: usize = 16;
/// How long counting may take.
const MEASURE_MAX: Duration = Duration::from_secs(5);

/// Reads state for clients. Cheap to clone.
#[derive(Clone)]
pub struct StateReader {
    source: Arc<Source>,
    queries: Arc<Semaphore>,
    clock: Arc<SystemClock>,
}

/// Where state is.
enum Source {
    /// In this process; not known before it has started.
    Here(OnceLock<Here>),
    /// At state nodes.
    There(Routes, RemoteStore, RemoteKept),
}

/// State in this process.
struct Here {
    store: Arc<dyn StateStore>,
    /// `None`: nothing is kept.
    kept: Option<Arc<dyn KeptStates>>,
}

/// What a question is answered from.
enum Opened {
    Live(Arc<dyn StateStore>, Incarnation, Epoch),
    Kept(Arc<dyn KeptStates>, Arc<KeptState>),
}

impl Opened {
    fn source(&self) -> StateSource<'_> {
        match self {
            Opened::Live(store, who, as_of) => StateSource::Live {
                store: &**store,
                who: *who,
                as_of: *as_of,
            },
            Opened::Kept(states, state) => StateSource::Kept {
                states: &**states,
                state,
            },
        }
    }
}

impl StateReader {
    /// Of a process that has all state itself, as soon as [`StateReader::serve`] says where.
    #[must_use]
    pub fn here() -> StateReader {
        StateReader::of(Source::Here(OnceLock::new()))
    }

    /// Of a process that asks state nodes.
    #[must_use]
    pub fn there(config: RemoteConfig) -> StateReader {
        let routes = Routes::default();
        let store = RemoteStore::new(routes.clone(), config.clone());
        let kept = RemoteKept::new(config);
        StateReader::of(Source::There(routes, store, kept))
    }

    fn of(source: Source) -> StateReader {
        StateReader {
            source: Arc::new(source),
            queries: Arc::new(Semaphore::new(QUERIES_MAX)),
            clock: Arc::default(),
        }
    }

    /// By which time rows may have expired: what is kept is as it was.
    fn wall_ms(&self, at: &StateAt) -> Option<i64> {
        matches!(at, StateAt::Committed { .. }).then(|| self.clock.wall_ms())
    }

    /// From now on state is read here, and what is kept of it, if anything is.
    pub fn serve(&self, store: Arc<dyn StateStore>, kept: Option<Arc<dyn KeptStates>>) {
        if let Source::Here(here) = &*self.source {
            let _ = here.set(Here { store, kept });
        }
    }

    fn open(&self, at: &StateAt) -> Result<Opened, StateQueryError> {
        let missing = |why: &str| StateQueryError::Unavailable(why.to_owned());
        match (&*self.source, at) {
            (Source::Here(here), at) => {
                let here = here.get();
                let here = here.ok_or_else(|| missing("the process is starting"))?;
                match at {
                    StateAt::Committed { who, committed, .. } => {
                        Ok(Opened::Live(Arc::clone(&here.store), *who, *committed))
                    }
                    StateAt::Kept { state, .. } => {
                        let kept = here.kept.as_ref();
                        let kept = kept.ok_or_else(|| missing("no state is kept here"))?;
                        Ok(Opened::Kept(Arc::clone(kept), Arc::clone(state)))
                    }
                }
            }
            (
                Source::There(routes, store, _),
                StateAt::Committed {
                    who,
                    committed,
                    owners,
                },
            ) => {
                let nobody = || missing("nobody serves the job's state at the moment");
                let owners = owners.as_ref().ok_or_else(nobody)?;
                routes.set(who.job, route(owners));
                Ok(Opened::Live(Arc::new(store.clone()), *who, *committed))
            }
            (Source::There(_, _, kept), StateAt::Kept { state, nodes }) => {
                kept.set_nodes(nodes.iter().map(owner));
                Ok(Opened::Kept(Arc::new(kept.clone()), Arc::clone(state)))
            }
        }
    }
}

fn owner(owner: &ShardOwner) -> Owner {
    Owner {
        node: owner.node,
        address: owner.address.clone(),
    }
}

fn route(owners: &JobOwners) -> JobRoute {
    JobRoute {
        key_groups: owners.key_groups,
        shards: owners.shards,
        owners: owners
            .owners
            .iter()
            .map(|(shard, node)| (*shard, owner(node)))
            .collect(),
    }
}

impl StateQueries for StateReader {
    fn rows(
        &self,
        of: StateOf,
        query: StateQuery,
    ) -> BoxFuture<'static, Result<StateRows, StateQueryError>> {
        let reader = self.clone();
        async move {
            let _permit = reader.admit()?;
            let opened = reader.open(&of.at)?;
            let found = tables(&of.plan, &of.operator).map_err(|error| view_error(error, &of))?;
            let table = pick(found, query.table.as_deref())?;
            let (key, is_whole) = match &query.key {
                None => (Vec::new(), false),
                Some(KeyQuery::Whole(value)) => {
                    (key::columns(table.key_fields(), value, true)?, true)
                }
                Some(KeyQuery::Prefix(value)) => {
                    (key::columns(table.key_fields(), value, false)?, false)
                }
            };
            let page = Page {
                of: &of,
                source: opened.source(),
                table: &table,
                key: &key,
                is_whole,
                wall_ms: reader.wall_ms(&of.at),
                limit: query.limit,
            };
            page.rows(query.after.as_deref()).await
        }
        .boxed()
    }

    fn sizes(&self, of: StateOf) -> BoxFuture<'static, Result<StateSizes, StateQueryError>> {
        let reader = self.clone();
        async move {
            let _permit = reader.admit()?;
            let opened = reader.open(&of.at)?;
            sizes(&of, opened.source()).await
        }
        .boxed()
    }

    /// Whoever counts asks one question at a time, and takes nobody's place.
    fn count(
        &self,
        at: StateAt,
        piece: Piece,
    ) -> BoxFuture<'static, Result<CountReply, StateQueryError>> {
        let reader = self.clone();
        async move {
            let opened = reader.open(&at)?;
            let cursor = piece.cursor.map(Bytes::from);
            let counted = count(opened.source(), piece.table, piece.key_group, cursor);
            counted.await.map_err(count_error)
        }
        .boxed()
    }
}

impl StateReader {
    fn admit(&self) -> Result<tokio::sync::OwnedSemaphorePermit, StateQueryError> {
        let permit = Arc::clone(&self.queries).try_acquire_owned();
        permit.map_err(|_| {
            let why = format!("{QUERIES_MAX} questions about state are being answered");
            StateQueryError::Unavailable(why)
        })
    }
}

async fn sizes(of: &StateOf, source: StateSource<'_>) -> Result<StateSizes, StateQueryError> {
    let known = all_tables(&of.plan, &of.operator).map_err(|error| view_error(error, of))?;
    let groups = key_groups(of)?;
    let deadline = Instant::now() + MEASURE_MAX;
    let mut counted: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
    let mut complete = true;
    'all: for group in groups.iter() {
        for (index, (table, _)) in known.iter().enumerate() {
            let mut cursor = None;
            loop {
                if Instant::now() >= deadline {
                    complete = false;
                    break 'all;
                }
                let part = count(source, *table, group, cursor).await;
                let part = part.map_err(|error| view_error(error, of))?;
                let sum = counted.entry(index).or_default();
                *sum = (sum.0 + part.rows, sum.1 + part.bytes);
                cursor = part.cursor;
                if cursor.is_none() {
                    break;
                }
            }
        }
    }
    let tables = known.into_iter().enumerate().map(|(index, (_, name))| {
        let (rows, bytes) = counted.get(&index).copied().unwrap_or_default();
        (name, rows, bytes)
    });
    Ok(StateSizes {
        tables: tables.collect(),
        complete,
    })
}

fn key_groups(of: &StateOf) -> Result<KeyGroupCount, StateQueryError> {
    let damaged = || StateQueryError::Damaged("the plan has no key groups".to_owned());
    KeyGroupCount::new(of.plan.key_groups).ok_or_else(damaged)
}

/// The first key group after another one.
fn next_group(of: &StateOf, group: KeyGroup) -> Result<Option<KeyGroup>, StateQueryError> {
    let mut groups = key_groups(of)?.iter();
    Ok(groups.find(|next| *next > group))
}

fn pick(found: Vec<InspectedTable>, name: Option<&str>) -> Result<InspectedTable, StateQueryError> {
    let tables: Vec<String> = found.iter().map(|table| table.name().to_owned()).collect();
    let error = |why: String| StateQueryError::Table {
        why,
        tables: tables.clone(),
    };
    match name {
        None if found.len() > 1 => Err(error("it has several tables".to_owned())),
        None => found
            .into_iter()
            .next()
            .ok_or_else(|| error("it has none".to_owned())),
        Some(name) => {
            let mut found = found.into_iter();
            let table = found.find(|table| table.name() == name);
            table.ok_or_else(|| error(format!("there is no table `{name}`")))
        }
    }
}

fn columns_text(fields: &[Field]) -> String {
    let columns = fields.iter();
    let columns: Vec<String> = columns
        .map(|field| format!("{} {}", field.name, field.data_type))
        .collect();
    columns.join(", ")
}

fn view_error(error: ViewError, of: &StateOf) -> StateQueryError {
    match error {
        ViewError::Unknown(operator) => {
            let nodes = of
                .plan
                .fragments
                .iter()
                .flat_map(|fragment| &fragment.nodes);
            let known = nodes.filter(|node| !node.tables.is_empty());
            StateQueryError::UnknownOperator {
                operator,
                known: known.map(|node| node.id.clone()).collect(),
            }
        }
        ViewError::Stateless(operator) => StateQueryError::Stateless(operator),
        error => count_error(error),
    }
}

/// What is wrong with state, or the way to it.
fn count_error(error: ViewError) -> StateQueryError {
    match error {
        ViewError::State(StateError::Fenced { .. }) => StateQueryError::Fenced,
        ViewError::State(error) if error.is_damage() => StateQueryError::Damaged(error.to_string()),
        ViewError::State(error) => StateQueryError::Unavailable(error.to_string()),
        error => StateQueryError::Damaged(error.to_string()),
    }
}
