//! Point reads: rows of the tails, taken at one point, laid over rows of the pages.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
    sync::Arc,
};

use bytes::Bytes;
use proto::types::{Epoch, KeyGroup, KeyGroupCount, TableId};
use state_client::{KeyRequest, LoadedRow, StateError, page::Run};
use tokio::time::Instant;

use super::{Shard, runs::Runs, state::OpenState, tail::Layers};
use crate::{
    caps::{READ_RESTARTS_MAX, RUNS_READ_MAX},
    pages::{PageError, PageRow, PageStore},
};

/// The pages of an opening and how far flushes had come.
#[derive(Clone)]
pub(super) struct PageView {
    pub(super) pages: PageStore,
    opening: u64,
    freezes: u64,
}

impl PageView {
    pub(super) fn of(open: &OpenState) -> Self {
        PageView {
            pages: open.pages.clone(),
            opening: open.opening,
            freezes: open.freezes,
        }
    }
}

type Namespace = (KeyGroup, TableId, i64);

impl Shard {
    /// Rows of keys, as of `min_epoch` or newer.
    pub(crate) async fn read(
        &self,
        min_epoch: Epoch,
        keys: &[KeyRequest],
    ) -> Result<Vec<Vec<LoadedRow>>, StateError> {
        let deadline = self.request_deadline();
        let key_groups = self.look(|state| state.key_groups);
        let mut restarts = 0;
        loop {
            let (view, over) = self
                .serving(min_epoch, deadline, |open| {
                    let over = Over::of(&open.layers(), key_groups, keys);
                    (PageView::of(open), over)
                })
                .await?;
            let found = view.pages.read(keys).await;
            let Some(pages) = self.unless_stale(&view, found, &mut restarts)? else {
                continue;
            };
            return Ok(over.laid_over(keys, pages));
        }
    }

    pub(super) fn request_deadline(&self) -> Instant {
        Instant::now() + self.context.config.limits.request_wait
    }

    /// What the pages answered, unless a flush began since the tails were taken: it might have
    /// brought some newer rows and not yet others. Then all is read again, a few times: rows that are
    /// newer than asked for are right, too.
    pub(super) fn unless_stale<T>(
        &self,
        view: &PageView,
        found: Result<T, PageError>,
        restarts: &mut usize,
    ) -> Result<Option<T>, StateError> {
        match found {
            Ok(found) => {
                *restarts += 1;
                let (opening, freezes) = (view.opening, view.freezes);
                let fresh = self.look(|state| {
                    let open = state.open.as_ref();
                    open.is_some_and(|open| open.opening == opening && open.freezes == freezes)
                });
                Ok((fresh || *restarts > READ_RESTARTS_MAX).then_some(found))
            }
            // Asking again waits until the shard is served again.
            Err(error @ (PageError::Fenced | PageError::NotOwner(_) | PageError::Reopen(_))) => {
                self.fail(view.opening, &error);
                Ok(None)
            }
            Err(error) => Err(told(error)),
        }
    }
}

/// What those who read are told of pages that cannot be read.
pub(super) fn told(error: PageError) -> StateError {
    match error {
        PageError::Unavailable { doing, why } => {
            let why = format!("object store is unavailable while {doing}: {why}");
            StateError::Unavailable(why)
        }
        PageError::Damaged(why) => StateError::Damaged(why),
        PageError::Invalid(why) => StateError::Unavailable(why),
        error => StateError::Unavailable(error.to_string()),
    }
}

/// What lies over the pages of some keys, as of one point.
pub(super) struct Over {
    key_groups: KeyGroupCount,
    /// Runs of the tails by namespace, older ones first; `None`: the namespace is closed.
    tails: HashMap<Namespace, Option<Vec<Arc<Runs>>>>,
}

impl Over {
    pub(super) fn of(layers: &Layers<'_>, key_groups: KeyGroupCount, keys: &[KeyRequest]) -> Over {
        let mut over = Over {
            key_groups,
            tails: HashMap::new(),
        };
        for key in keys {
            let place = over.place(key);
            over.tails.entry(place).or_insert_with(|| {
                let (key_group, table, namespace) = place;
                let mark = layers.marks.get(&(key_group, table));
                if mark.is_some_and(|mark| namespace < *mark) {
                    return None;
                }
                let tails = layers.tails.iter();
                let runs = tails.filter_map(|tail| tail.runs(key_group, table, namespace));
                Some(runs.cloned().collect())
            });
        }
        over
    }

    fn place(&self, key: &KeyRequest) -> Namespace {
        let key_group = self.key_groups.of_hash(key.hash);
        (key_group, key.table, key.namespace)
    }

    /// Rows of the keys: those that the pages have, with what lies over them.
    pub(super) fn laid_over(
        &self,
        keys: &[KeyRequest],
        pages: Vec<Vec<PageRow>>,
    ) -> Vec<Vec<LoadedRow>> {
        let mut runs: HashMap<Namespace, Option<Vec<Run>>> = HashMap::new();
        let rows = |(key, rows): (&KeyRequest, Vec<PageRow>)| {
            let place = self.place(key);
            let runs = runs.entry(place).or_insert_with(|| self.runs(&place));
            match runs {
                Some(runs) => lay_over(key, runs, rows),
                None => Vec::new(),
            }
        };
        keys.iter().zip(pages).map(rows).collect()
    }

    /// Runs of a namespace, older ones first; `None`: it is closed.
    fn runs(&self, place: &Namespace) -> Option<Vec<Run>> {
        let tails = self.tails[place].as_ref()?.iter();
        Some(tails.flat_map(|runs| runs.at_most(RUNS_READ_MAX)).collect())
    }
}

/// Rows of a key: those of the pages with those of the tails over them.
fn lay_over(key: &KeyRequest, runs: &[Run], pages: Vec<PageRow>) -> Vec<LoadedRow> {
    let found: Vec<(&Run, Range<usize>)> = runs
        .iter()
        .map(|run| (run, rows_with(run, key.hash, key.sub)))
        .filter(|(_, rows)| !rows.is_empty())
        .collect();
    let loaded = |identity: Bytes, value: Bytes| LoadedRow {
        namespace: key.namespace,
        hash: key.hash,
        // Whoever waits for a few rows of a page must not hold on to all of it.
        identity: Bytes::copy_from_slice(&identity),
        value: Bytes::copy_from_slice(&value),
    };
    if found.is_empty() {
        let live = pages.into_iter();
        return live
            .filter_map(|row| Some(loaded(row.identity, row.value?)))
            .collect();
    }
    let mut newest: BTreeMap<Bytes, (u64, Option<Bytes>)> = BTreeMap::new();
    for row in pages {
        newest.insert(row.identity, (row.epoch.0, row.value));
    }
    for (run, rows) in found {
        for row in rows {
            let epoch = run.epoch(row);
            let known = newest.get(run.identity(row));
            if known.is_none_or(|known| epoch >= known.0) {
                let value = run.has_value(row).then(|| run.value_bytes(row));
                newest.insert(run.identity_bytes(row), (epoch, value));
            }
        }
    }
    let live = newest.into_iter();
    live.filter_map(|(identity, (_, value))| Some(loaded(identity, value?)))
        .collect()
}

/// Rows of a hash, or those of them whose identity begins with `sub`.
fn rows_with(run: &Run, hash: u64, sub: Option<u64>) -> Range<usize> {
    let of_hash = run.rows_of(hash);
    let Some(sub) = sub else {
        return of_hash;
    };
    let sub = sub.to_be_bytes();
    let (mut low, mut high) = (of_hash.start, of_hash.end);
    while low < high {
        let middle = low + (high - low) / 2;
        if run.identity(middle) < &sub[..] {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    let begins = |row: &usize| run.identity(*row).starts_with(&sub);
    low..low + (low..of_hash.end).take_while(begins).count()
}
