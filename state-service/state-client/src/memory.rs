//! The state of jobs in this process's memory: for tests, for benchmarks, and for jobs whose
//! results need not outlive the process. A small LSM: committed runs per namespace, merged when
//! the newer ones outgrow the older.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use proto::{
    log::{LogHolding, LogObject},
    types::{Epoch, Generation, JobId, KeyGroup, KeyGroupCount, ShardId, SinkId, TableId},
};

use crate::{
    Begun, CommittedOutput, Dropped, EpochDelta, Incarnation, LoadedRow, OutputRequest, ReadReply,
    ReadRequest, ScanReply, ScanRequest, Section, StateControl, StateError, StateStore,
    page::{Run, merge},
};

/// An in-process store.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    key_groups: KeyGroupCount,
    jobs: Arc<Mutex<BTreeMap<JobId, Job>>>,
    /// Reads that wait for a commit.
    waiting: Arc<Mutex<Vec<Waker>>>,
}

#[derive(Debug, Default)]
struct Job {
    generation: Generation,
    /// First epoch of the generation.
    first: Epoch,
    committed: Epoch,
    tables: BTreeMap<(TableId, KeyGroup), Group>,
    staged: BTreeMap<(Epoch, u32, ShardId), Section>,
    output: BTreeMap<(SinkId, Epoch, Generation, u32, u32), Bytes>,
}

/// What one table has in one key group.
#[derive(Debug, Default)]
struct Group {
    open_from: Option<i64>,
    /// Runs per namespace, oldest (and largest) first.
    namespaces: BTreeMap<i64, Vec<Run>>,
}

impl MemoryStore {
    /// An empty store for jobs of `key_groups` key groups.
    #[must_use]
    pub fn new(key_groups: KeyGroupCount) -> Self {
        MemoryStore {
            key_groups,
            jobs: Arc::default(),
            waiting: Arc::default(),
        }
    }

    /// Waits until `epoch` is committed, or `who` is fenced.
    async fn committed(&self, who: Incarnation, epoch: Epoch) -> Result<(), StateError> {
        let is_committed = || self.with(who, |job| Ok(job.committed >= epoch));
        std::future::poll_fn(|cx| {
            if is_committed()? {
                return Poll::Ready(Ok(()));
            }
            self.waiting().push(cx.waker().clone());
            // It may have come before the waker was there.
            match is_committed()? {
                true => Poll::Ready(Ok(())),
                false => Poll::Pending,
            }
        })
        .await
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something has changed that reads may wait for.
    fn wake(&self) {
        let waiting = std::mem::take(&mut *self.waiting());
        waiting.into_iter().for_each(Waker::wake);
    }

    fn jobs(&self) -> MutexGuard<'_, BTreeMap<JobId, Job>> {
        // A panic while holding the lock is a bug of ours; the maps are still whole.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(
        &self,
        who: Incarnation,
        act: impl FnOnce(&mut Job) -> Result<T, StateError>,
    ) -> Result<T, StateError> {
        let mut jobs = self.jobs();
        let job = jobs
            .get_mut(&who.job)
            .ok_or(StateError::UnknownJob(who.job))?;
        if who.generation != job.generation {
            return Err(StateError::Fenced {
                job: who.job,
                caller: who.generation,
                current: job.generation,
            });
        }
        act(job)
    }
}

impl StateStore for MemoryStore {
    fn read(
        &self,
        who: Incarnation,
        request: ReadRequest,
    ) -> BoxFuture<'static, Result<ReadReply, StateError>> {
        let store = self.clone();
        async move {
            store.committed(who, request.min_epoch).await?;
            store.with(who, |job| {
                let mut reply = ReadReply {
                    rows: Vec::with_capacity(request.keys.len()),
                };
                for key in &request.keys {
                    let group = (key.table, store.key_groups.of_hash(key.hash));
                    let prefix = key.sub.map(u64::to_be_bytes);
                    let rows = job.tables.get(&group).map_or_else(Vec::new, |group| {
                        group.read(key.namespace, key.hash, prefix.as_ref().map(|p| &p[..]))
                    });
                    reply.rows.push(rows);
                }
                Ok(reply)
            })
        }
        .boxed()
    }

    fn scan(
        &self,
        who: Incarnation,
        request: ScanRequest,
    ) -> BoxFuture<'static, Result<ScanReply, StateError>> {
        let store = self.clone();
        async move {
            store.committed(who, request.min_epoch).await?;
            store.with(who, |job| {
                match job.tables.get_mut(&(request.table, request.key_group)) {
                    Some(group) => Ok(group.scan(&request)),
                    None => Ok(ScanReply::default()),
                }
            })
        }
        .boxed()
    }

    fn stage(
        &self,
        who: Incarnation,
        delta: EpochDelta,
    ) -> BoxFuture<'static, Result<Vec<LogObject>, StateError>> {
        let store = self.clone();
        async move {
            store.with(who, |job| {
                let objects = objects(who, &delta);
                // Otherwise it is staged again after the commit: the reply was lost.
                if delta.epoch > job.committed {
                    for section in delta.sections {
                        let key = (section.epoch, section.task.0, section.shard);
                        job.staged.insert(key, section);
                    }
                }
                Ok(objects)
            })
        }
        .boxed()
    }

    fn committed_output(
        &self,
        who: Incarnation,
        request: OutputRequest,
    ) -> BoxFuture<'static, Result<Vec<CommittedOutput>, StateError>> {
        let store = self.clone();
        async move {
            store.committed(who, request.up_to).await?;
            store.with(who, |job| Ok(job.output_of(&request)))
        }
        .boxed()
    }
}

impl StateControl for MemoryStore {
    fn keeps_checkpoints(&self) -> bool {
        false
    }

    fn begin(&self, who: Incarnation) -> BoxFuture<'static, Result<Begun, StateError>> {
        let store = self.clone();
        async move {
            let mut jobs = store.jobs();
            let job = jobs.entry(who.job).or_default();
            if who.generation < job.generation {
                return Err(StateError::Fenced {
                    job: who.job,
                    caller: who.generation,
                    current: job.generation,
                });
            }
            if who.generation > job.generation {
                job.generation = who.generation;
                job.first = Epoch::first_of_generation(job.committed, job.first, job.committed);
                job.staged.clear();
            }
            Ok(Begun {
                restored: job.committed,
                first: job.first,
            })
        }
        .boxed()
    }

    fn commit(
        &self,
        who: Incarnation,
        epoch: Epoch,
        _objects: Vec<LogObject>,
        _overtaken_bytes: u64,
    ) -> BoxFuture<'static, Result<(), StateError>> {
        let store = self.clone();
        async move {
            let committed = store.with(who, |job| job.commit(who.job, epoch));
            store.wake();
            committed
        }
        .boxed()
    }

    fn published(
        &self,
        who: Incarnation,
        sink: SinkId,
        epoch: Epoch,
    ) -> BoxFuture<'static, Result<(), StateError>> {
        let store = self.clone();
        async move {
            store.with(who, |job| {
                job.output.retain(|key, _| key.0 != sink || key.1 > epoch);
                Ok(())
            })
        }
        .boxed()
    }

    fn drop_job(&self, job: JobId) -> BoxFuture<'static, Result<Dropped, StateError>> {
        let store = self.clone();
        async move {
            store.jobs().remove(&job);
            store.wake();
            Ok(Dropped::Gone)
        }
        .boxed()
    }
}

/// Names for what a log would hold.
fn objects(who: Incarnation, delta: &EpochDelta) -> Vec<LogObject> {
    let (generation, epoch, task) = (who.generation, delta.epoch, delta.task);
    let object = |section: &Section| LogObject {
        name: format!("{generation}/{epoch}/{task}/{}", section.shard),
        bytes: section.payload_bytes() as u64,
        holds: LogHolding::Rows(vec![section.shard]),
    };
    delta.sections.iter().map(object).collect()
}

impl Job {
    fn output_of(&self, request: &OutputRequest) -> Vec<CommittedOutput> {
        let from = (request.sink, request.after.next(), Generation(0), 0, 0);
        let of_sink = self.output.range(from..);
        let of_sink =
            of_sink.take_while(|(key, _)| key.0 == request.sink && key.1 <= request.up_to);
        let mut outputs: Vec<CommittedOutput> = Vec::new();
        let mut bytes = 0;
        for ((_, epoch, generation, slot, task), piece) in of_sink {
            let last = outputs.last().map(|output| output.epoch);
            if bytes >= request.bytes_max && last != Some(*epoch) {
                break;
            }
            bytes += piece.len();
            outputs.push(CommittedOutput {
                generation: *generation,
                epoch: *epoch,
                slot: *slot,
                task: *task,
                bytes: piece.clone(),
            });
        }
        outputs
    }

    fn commit(&mut self, job: JobId, epoch: Epoch) -> Result<(), StateError> {
        if epoch <= self.committed {
            return Ok(());
        }
        let staged = |key: &(Epoch, u32, ShardId)| key.0;
        if let Some(other) = self
            .staged
            .keys()
            .map(staged)
            .find(|staged| *staged < epoch)
        {
            let why = format!("epoch {other} is staged and not committed");
            return Err(StateError::Epoch { job, epoch, why });
        }
        let later = self.staged.split_off(&(epoch.next(), 0, ShardId(0)));
        for section in std::mem::replace(&mut self.staged, later).into_values() {
            self.apply(section)?;
        }
        self.committed = epoch;
        Ok(())
    }

    fn apply(&mut self, section: Section) -> Result<(), StateError> {
        for block in section.blocks {
            let run = Run::open(block.run).map_err(crate::SectionError::Run)?;
            let group = self
                .tables
                .entry((block.table, block.key_group))
                .or_default();
            let runs = group.namespaces.entry(block.namespace).or_default();
            runs.push(run);
            compact(runs);
        }
        for (table, key_group, open_from) in section.low_water_marks {
            let group = self.tables.entry((table, key_group)).or_default();
            group.open_from = group.open_from.max(Some(open_from));
            group.namespaces = group.namespaces.split_off(&open_from);
        }
        for output in section.staged {
            let generation = section.generation;
            let key = (
                output.sink,
                section.epoch,
                generation,
                output.slot,
                section.task.0,
            );
            self.output.insert(key, output.bytes);
        }
        Ok(())
    }
}

/// Merges the newest runs while they are at least half as large as the one before, so that a row
/// is merged a logarithmic number of times.
fn compact(runs: &mut Vec<Run>) {
    let mut from = runs.len();
    let mut bytes = 0;
    while from > 0 && (from == runs.len() || bytes * 2 >= runs[from - 1].encoded_len()) {
        from -= 1;
        bytes += runs[from].encoded_len();
    }
    if runs.len() - from < 2 {
        return;
    }
    let newest = runs.split_off(from);
    let merged = merge(&newest, runs.is_empty());
    runs.push(Run::open(merged).expect("merge writes runs"));
}

impl Group {
    fn read(&self, namespace: i64, hash: u64, prefix: Option<&[u8]>) -> Vec<LoadedRow> {
        if self
            .open_from
            .is_some_and(|open_from| namespace < open_from)
        {
            return Vec::new();
        }
        let Some(runs) = self.namespaces.get(&namespace) else {
            return Vec::new();
        };
        // Identity to its newest epoch and, unless deleted then, the (run, row) it is in.
        let mut newest: BTreeMap<&[u8], (u64, Option<Place>)> = BTreeMap::new();
        for (index, run) in runs.iter().enumerate() {
            for row_index in run.rows_of(hash) {
                let row = run.row(row_index);
                if !prefix.is_none_or(|prefix| row.identity.starts_with(prefix)) {
                    continue;
                }
                let found = newest.entry(row.identity).or_insert((0, None));
                if row.epoch >= found.0 {
                    *found = (row.epoch, row.value.map(|_| (index, row_index)));
                }
            }
        }
        let live = newest.into_values().filter_map(|(_, place)| place);
        live.map(|(run, row)| loaded(&runs[run], row, namespace))
            .collect()
    }

    /// Merges what it scans, so that paging through it reads one run.
    fn scan(&mut self, request: &ScanRequest) -> ScanReply {
        let mut reply = ScanReply {
            open_from: self.open_from,
            rows: Vec::new(),
            cursor: None,
        };
        let (mut namespace, mut row) = read_cursor(request.cursor.as_ref());
        if let Some(only) = request.namespace {
            namespace = namespace.max(only);
        }
        // What was written below the mark after it was set is as closed as what it closed.
        if let Some(open_from) = self.open_from.filter(|open_from| *open_from > namespace) {
            (namespace, row) = (open_from, 0);
        }
        let mut bytes = 0;
        for (at, runs) in self.namespaces.range_mut(namespace..) {
            if request.namespace.is_some_and(|only| only != *at) {
                break;
            }
            if runs.len() > 1 {
                let merged = merge(runs, true);
                *runs = vec![Run::open(merged).expect("merge writes runs")];
            }
            let Some(run) = runs.first() else { continue };
            let start = if *at == namespace { row } else { 0 };
            for index in start..run.len() {
                if bytes >= request.bytes_max {
                    reply.cursor = Some(write_cursor(*at, index));
                    return reply;
                }
                if run.row(index).value.is_some() {
                    let loaded = loaded(run, index, *at);
                    bytes += loaded.identity.len() + loaded.value.len() + 32;
                    reply.rows.push(loaded);
                }
            }
            row = 0;
        }
        reply
    }
}

/// A run of a namespace and a row of it.
type Place = (usize, usize);

fn loaded(run: &Run, row: usize, namespace: i64) -> LoadedRow {
    LoadedRow {
        namespace,
        hash: run.row(row).hash,
        identity: run.identity_bytes(row),
        value: run.value_bytes(row),
    }
}

fn write_cursor(namespace: i64, row: usize) -> Bytes {
    [namespace.to_le_bytes(), (row as u64).to_le_bytes()]
        .concat()
        .into()
}

fn read_cursor(cursor: Option<&Bytes>) -> (i64, usize) {
    let word = |bytes: &[u8]| <[u8; 8]>::try_from(bytes).ok();
    let read = |cursor: &Bytes| {
        let (namespace, row) = cursor.split_at_checked(8)?;
        Some((
            i64::from_le_bytes(word(namespace)?),
            u64::from_le_bytes(word(row)?) as usize,
        ))
    };
    cursor.and_then(read).unwrap_or((i64::MIN, 0))
}

impl MemoryStore {
    /// Bytes of committed rows of a job, for reports.
    #[must_use]
    pub fn committed_bytes(&self, job: JobId) -> usize {
        let jobs = self.jobs();
        let runs = jobs
            .get(&job)
            .into_iter()
            .flat_map(|job| job.tables.values());
        runs.flat_map(|group| group.namespaces.values().flatten())
            .map(Run::encoded_len)
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_the_conformance_suite() {
        futures::executor::block_on(crate::conformance::all(|| {
            let store = MemoryStore::new(KeyGroupCount::DEFAULT);
            (
                Arc::new(store.clone()) as Arc<dyn StateStore>,
                Arc::new(store) as _,
            )
        }));
    }
}
