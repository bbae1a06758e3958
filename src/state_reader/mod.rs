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

use compute::state_view::{ViewError, all_tables, measure, tables};
use control_plane::api::{
    KeyQuery, StateOf, StateQueries, StateQuery, StateQueryError, StateRows, StateSizes,
};
use control_stream::JobOwners;
use futures::{FutureExt as _, future::BoxFuture};
use operators::inspect::InspectedTable;
use proto::types::{Field, KeyGroup, KeyGroupCount};
use remote_store::{JobRoute, Owner, RemoteConfig, RemoteStore, Routes};
use state_client::{StateError, StateStore};
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
}

/// Where state is.
enum Source {
    /// In this process; not known before it has started.
    Here(OnceLock<Arc<dyn StateStore>>),
    /// At state nodes.
    There(Routes, RemoteStore),
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
        let store = RemoteStore::new(routes.clone(), config);
        StateReader::of(Source::There(routes, store))
    }

    fn of(source: Source) -> StateReader {
        StateReader {
            source: Arc::new(source),
            queries: Arc::new(Semaphore::new(QUERIES_MAX)),
        }
    }

    /// From now on state is read here.
    pub fn serve(&self, store: Arc<dyn StateStore>) {
        if let Source::Here(here) = &*self.source {
            let _ = here.set(store);
        }
    }

    fn store(&self, of: &StateOf) -> Result<Arc<dyn StateStore>, StateQueryError> {
        let missing = |why: &str| Err(StateQueryError::Unavailable(why.to_owned()));
        match &*self.source {
            Source::Here(store) => match store.get() {
                Some(store) => Ok(Arc::clone(store)),
                None => missing("the process is starting"),
            },
            Source::There(routes, store) => {
                let Some(owners) = &of.owners else {
                    return missing("nobody serves the job's state at the moment");
                };
                routes.set(of.who.job, route(owners));
                Ok(Arc::new(store.clone()))
            }
        }
    }
}

fn route(owners: &JobOwners) -> JobRoute {
    let owner = |owner: &control_stream::ShardOwner| Owner {
        node: owner.node,
        address: owner.address.clone(),
    };
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
            let store = reader.store(&of)?;
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
                store: &*store,
                table: &table,
                key: &key,
                is_whole,
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
            let store = reader.store(&of)?;
            sizes(&of, &*store).await
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

async fn sizes(of: &StateOf, store: &dyn StateStore) -> Result<StateSizes, StateQueryError> {
    let known = all_tables(&of.plan, &of.operator).map_err(|error| view_error(error, of))?;
    let groups = key_groups(of)?;
    let deadline = Instant::now() + MEASURE_MAX;
    let mut counted: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
    let mut complete = true;
    'all: for group in groups.iter() {
        for (index, (table, _)) in known.iter().enumerate() {
            if Instant::now() >= deadline {
                complete = false;
                break 'all;
            }
            let size = measure(store, of.who, of.committed, *table, group).await;
            let size = size.map_err(|error| view_error(error, of))?;
            let sum = counted.entry(index).or_default();
            *sum = (sum.0 + size.rows, sum.1 + size.bytes);
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
        ViewError::State(StateError::Fenced { .. }) => StateQueryError::Fenced,
        ViewError::State(error) if error.is_damage() => StateQueryError::Damaged(error.to_string()),
        ViewError::State(error) => StateQueryError::Unavailable(error.to_string()),
        error @ (ViewError::Plan(_) | ViewError::Decode(_)) => {
            StateQueryError::Damaged(error.to_string())
        }
    }
}
