//! The driver of a shard: one task that opens it, takes committed epochs in, and closes it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use planted::Bug;
use proto::{
    state_control::{JobLine, ShardFiles, StateReport},
    types::{Epoch, KeyGroup, TableId},
};
use rpc::trace_context::span_with_parent;
use state_client::Section;
use tracing::{Instrument as _, Span, info_span};

use super::{
    Shard, database_at, database_path,
    shard::{close_pages, is_passing},
    state::{LogEntry, ShardState, Step},
    tail::{Marks, OpenSection},
};
use crate::{
    caps::{EPOCHS_READ_AT_ONCE, REOPEN_PAUSE, REOPEN_PAUSE_MAX},
    epoch_log::LogError,
    pages::{Opened, PageError, PageStore, PageStoreConfig},
};

/// Brings a shard to what it should be until it is not wanted any more.
pub(crate) async fn drive(shard: Arc<Shard>) {
    let flush_epochs = shard.context.config.limits.flush_epochs;
    let mut changed = shard.watch();
    loop {
        changed.mark_unchanged();
        match shard.look(|state| state.step(EPOCHS_READ_AT_ONCE, flush_epochs)) {
            Step::End => break,
            Step::Open => shard.open().await,
            Step::Apply(entries) => shard.take_in(entries).await,
            Step::Announce => shard.announce(),
            Step::ReportDurable(epoch) => shard.report_durable(epoch),
            // The sender lives as long as the shard.
            Step::Rest => drop(changed.changed().await),
        }
    }
    let open = shard.change(|state| state.open.take());
    if let Some(open) = open {
        close_pages(&open.pages).await;
    }
    shard.set_ended();
}

impl Shard {
    /// Sleeps unless the shard is to be closed.
    async fn pause(&self, failures: u32) {
        let objects = &self.context.objects;
        let pause: Duration = objects.pause(failures, REOPEN_PAUSE, REOPEN_PAUSE_MAX);
        let deadline = tokio::time::Instant::now() + pause;
        let unwanted = |state: &ShardState| (!state.wanted).then_some(());
        let (Some(()) | None) = self.when(deadline, unwanted).await;
    }

    async fn open(&self) {
        let failures = self.look(|state| state.failures);
        if failures > 0 {
            self.pause(failures).await;
            if !self.look(|state| state.wanted) {
                return;
            }
        }
        let config = self.page_config();
        if let Err(error) = self.clone_base(&config).await {
            return self.failed_to_open(&error, false);
        }
        // Whether the control plane could not be asked, which is no reason to give the shard up.
        let unasked = Arc::new(AtomicBool::new(false));
        let confirm = |_writer_epoch: u64| {
            let owns = self.context.control.owns(self.job, self.id);
            let unasked = unasked.clone();
            async move {
                match owns.await {
                    Ok(true) => Ok(()),
                    Ok(false) => Err("another node has it".to_owned()),
                    Err(why) => {
                        unasked.store(true, Ordering::Relaxed);
                        Err(format!("the control plane was not to be asked: {why}"))
                    }
                }
            }
        };
        match PageStore::open(config, confirm).await {
            Ok((pages, Opened { durable, marks })) => {
                let by_group =
                    |(table, group, mark): (TableId, KeyGroup, i64)| ((group, table), mark);
                let marks: Marks = marks.into_iter().map(by_group).collect();
                self.change(|state| state.opened(pages, durable, marks));
            }
            Err(error) => self.failed_to_open(&error, unasked.load(Ordering::Relaxed)),
        }
    }

    fn failed_to_open(&self, error: &PageError, unasked: bool) {
        if !is_passing(error) && !unasked {
            return self.lose(error.to_string());
        }
        tracing::warn!(job = %self.job, shard = %self.id, %error, "failed to open a shard");
        self.change(|state| state.failures += 1);
        self.report_failed(error.to_string(), true);
    }

    /// A shard that begins with another one's state, and whose database is not there yet, gets it.
    async fn clone_base(&self, config: &PageStoreConfig) -> Result<(), PageError> {
        let Some(base) = self.look(|state| state.base) else {
            return Ok(());
        };
        // What a former owner makes late might be for a job whose files are gone.
        let doing = "asking for the owner";
        match self.context.control.owns(self.job, self.id).await {
            Ok(true) => {}
            Ok(false) => return Err(PageError::NotOwner("another node has it".to_owned())),
            Err(why) => return Err(PageError::Unavailable { doing, why }),
        }
        let source = database_path(&self.context.root, base.of, self.id);
        PageStore::clone_once(config, source.as_ref(), base.epoch).await
    }

    fn page_config(&self) -> PageStoreConfig {
        let node = &self.context.config;
        let of = JobLine {
            job: self.job,
            line: self.line,
        };
        let (key_groups, shards) = self.look(|state| (state.key_groups, state.shards));
        PageStoreConfig {
            path: database_path(&self.context.root, of, self.id).into(),
            store: node.store.store.clone(),
            key_groups,
            range: key_groups.range(self.id.0, shards),
            block_cache: (node.block_cache.clone())
                .map(|cache| (cache, self.context.cache_scope())),
            page_cache: node.page_cache.clone(),
            seed: node.seed ^ self.job.0.rotate_left(32) ^ u64::from(self.id.0),
            clock: node.clock.clone(),
            runtime: node.runtime.clone(),
            limits: node.page_limits.clone(),
        }
    }

    /// Takes committed epochs in, the next ones in order; with none, only the news that no rows of
    /// the shard are in what was committed.
    async fn take_in(&self, entries: Vec<LogEntry>) {
        let read = |entry: LogEntry| async move {
            let span = self.apply_span(&entry);
            let sections = self.sections(&entry).instrument(span.clone()).await?;
            Ok::<_, LogError>(((entry, sections), span))
        };
        let reading = stream::iter(entries)
            .map(read)
            .buffered(EPOCHS_READ_AT_ONCE);
        match reading.try_collect::<Vec<_>>().await {
            Ok(epochs) => {
                // Spans end when what they are about is seen.
                let (epochs, spans): (Vec<_>, Vec<Span>) = epochs.into_iter().unzip();
                self.change(|state| state.apply(epochs));
                drop(spans);
                self.context.grown.notify_one();
            }
            Err(LogError::Damaged(why)) => self.lose(why),
            Err(error) => {
                tracing::warn!(job = %self.job, shard = %self.id, %error, "the epoch log was not read");
                self.pause(1).await;
            }
        }
    }

    /// From here to where the epoch is seen by reads. An epoch that is replayed has no trace.
    fn apply_span(&self, entry: &LogEntry) -> Span {
        if entry.trace.is_none() {
            return Span::none();
        }
        let (job, shard, epoch) = (self.job, self.id, entry.epoch);
        let span = info_span!("shard.apply", %job, %shard, %epoch);
        span_with_parent(span, entry.trace.as_deref())
    }

    /// The shard's sections of an epoch: from memory where this node wrote them.
    async fn sections(&self, entry: &LogEntry) -> Result<Vec<OpenSection>, LogError> {
        let mut sections: Vec<Section> = Vec::new();
        for (object, kept) in &entry.objects {
            match kept {
                Some(kept) => {
                    let of_shard = kept.parts.iter().filter(|section| section.shard == self.id);
                    sections.extend(of_shard.cloned());
                }
                None => {
                    let log = &self.context.log;
                    let read = log
                        .sections(entry.job, object, entry.epoch, self.id)
                        .await?;
                    let left_out = usize::from(planted::is(Bug::ReplaySkipsSection));
                    sections.extend(read.into_iter().skip(left_out));
                }
            }
        }
        let open = |section: &Section| {
            OpenSection::new(section).map_err(|error| LogError::Damaged(error.to_string()))
        };
        ShardState::distinct(sections).iter().map(open).collect()
    }

    fn announce(&self) {
        let files = self.files();
        let (generation, applied, durable) = self.change(|state| {
            state.announce = false;
            let durable = state.durable();
            state.set_reported(durable);
            state.parents.clone_from(&files.parents);
            let applied = state.open.as_ref().map_or(Epoch::ZERO, |open| open.applied);
            (state.generation, applied, durable)
        });
        self.context.reports.send(StateReport::Opened {
            job: self.job,
            shard: self.id,
            generation,
            applied,
            durable,
            files,
        });
    }

    /// What the database is made of.
    fn files(&self) -> ShardFiles {
        let open = self.look(|state| {
            let open = state.open.as_ref();
            open.map(|open| (open.pages.clone(), open.durable))
        });
        let (manifest, parents) = match open {
            Some((pages, durable)) => (durable, pages.parents()),
            None => (Epoch::ZERO, Vec::new()),
        };
        let parents = parents.iter().filter_map(|path| database_at(path));
        ShardFiles {
            line: self.line,
            manifest,
            parents: parents.map(|(of, _)| of).collect(),
        }
    }

    /// Reports what the database is made of if it refers to other files of others than it last did.
    pub(crate) fn report_parents(&self) {
        let parents = self.files().parents;
        let durable = self.look(|state| {
            let differ = state.open.is_some() && state.parents != parents;
            differ.then(|| state.durable())
        });
        if let Some(durable) = durable {
            self.report_durable(durable);
        }
    }

    fn report_durable(&self, epoch: Epoch) {
        let files = self.files();
        self.change(|state| {
            state.set_reported(epoch);
            state.parents.clone_from(&files.parents);
        });
        self.context.reports.send(StateReport::Durable {
            job: self.job,
            shard: self.id,
            epoch,
            files,
        });
    }
}
