//! Taking a copy in: each shard becomes a database of the job that the copy is for, with one
//! checkpoint, as if it had been flushed there.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use proto::{
    state_control::JobLine,
    transfer::{Exported, ImportWork},
    types::{Epoch, ShardId},
};
use state_client::Section;

use super::{
    PERSIST_BYTES, SHARDS_AT_ONCE, TransferError,
    depot::Depot,
    fatal,
    files::{FileList, LIST, PartFile, part_name, read},
    part::{self, Kind, PartEnd},
    run::Progress,
};
use crate::{
    pages::{Opened, PageStore, Record},
    shard::{ReplayedTail, ShardContext, page_config_of},
};

/// Flushed files of a shard before they are compacted. They do not overlap, so they do no harm.
const FILES_MAX: usize = 96;

/// What is at a place, if it is whole and this build can read it.
pub(super) async fn inspect(context: &ShardContext, from: &str) -> Result<Exported, TransferError> {
    let depot = open(context, from)?;
    let (list, checksum) = list(&depot, from).await?;
    list.check(&depot, &depot.list("shards").await?)?;
    Ok(list.exported(checksum))
}

fn open(context: &ShardContext, from: &str) -> Result<Depot, TransferError> {
    let config = &context.config;
    Depot::open(
        &config.places,
        from,
        false,
        &config.store,
        config.limits.attempt_deadline,
        config.seed.wrapping_add(4),
    )
}

async fn list(depot: &Depot, from: &str) -> Result<(FileList, u32), TransferError> {
    let found = read::<FileList>(depot, LIST).await?;
    found.ok_or_else(|| {
        fatal(format!(
            "there is no whole copy of a savepoint at {from}: it has no `{LIST}`, which an export makes \
             last"
        ))
    })
}

/// A copy that is being taken in.
struct Import {
    context: Arc<ShardContext>,
    work: ImportWork,
    depot: Depot,
    list: FileList,
    progress: Progress,
    copied: AtomicU64,
}

/// Takes a copy in; how many bytes it had.
pub(super) async fn import(
    context: Arc<ShardContext>,
    work: ImportWork,
    progress: Progress,
) -> Result<u64, TransferError> {
    let depot = open(&context, &work.from)?;
    let (list, checksum) = list(&depot, &work.from).await?;
    if checksum != work.checksum {
        let from = &work.from;
        return Err(fatal(format!("what is at {from} has changed meanwhile")));
    }
    let import = Import {
        context,
        work,
        depot,
        list,
        progress,
        copied: AtomicU64::new(0),
    };
    import.progress.copied(0, import.list.bytes);
    let shards = (0..import.work.shape.shards).map(ShardId);
    let import = &import;
    let taken = stream::iter(shards).map(|shard| import.take_shard(shard));
    let mut taken = std::pin::pin!(taken.buffer_unordered(SHARDS_AT_ONCE));
    let mut first_error = None;
    // Each lets go of its shard by itself before the end is told.
    while let Some(ended) = taken.next().await {
        if let Err(error) = ended {
            import.progress.stop();
            first_error.get_or_insert(error);
        }
    }
    match first_error {
        Some(error) => Err(error),
        None => Ok(import.list.bytes),
    }
}

impl Import {
    async fn take_shard(&self, shard: ShardId) -> Result<(), TransferError> {
        let files = self.files(shard);
        let (mut store, opened) = self.open(shard).await?;
        let taken = self.take_pages(shard, &mut store, opened.durable).await;
        // Opened anew, it knows its pages.
        close(&store).await;
        let first_of_log = taken?;
        let (store, opened) = self.open(shard).await?;
        let flushed = match opened.durable < self.work.shape.epoch {
            true => self.take_log(shard, first_of_log, &store, &opened).await,
            false => Ok(()),
        };
        close(&store).await;
        for file in &files[first_of_log..] {
            self.tell(file.bytes);
        }
        flushed
    }

    fn files(&self, shard: ShardId) -> &[PartFile] {
        self.list.parts.get(&shard.0).map_or(&[], Vec::as_slice)
    }

    async fn open(&self, shard: ShardId) -> Result<(PageStore, Opened), TransferError> {
        let of = JobLine {
            job: self.work.job,
            line: 0,
        };
        let config = page_config_of(&self.context, of, shard, self.work.shape);
        // Nobody else is given it: whose attempt this is not any more is fenced by the next one.
        Ok(PageStore::open(config, |_| async { Ok(()) }).await?)
    }

    /// Takes everything in but the log; the number of the log's first part.
    async fn take_pages(
        &self,
        shard: ShardId,
        store: &mut PageStore,
        durable: Epoch,
    ) -> Result<usize, TransferError> {
        let files = self.files(shard);
        let progress = store.imported().await?;
        if progress.is_none() && durable > Epoch::ZERO {
            let first_of_log = self.first_of_log(shard).await?;
            for file in &files[..first_of_log] {
                self.tell(file.bytes);
            }
            return Ok(first_of_log);
        }
        let begun = usize::try_from(progress.unwrap_or_default()).unwrap_or(usize::MAX);
        let begun = begun.min(files.len());
        for file in &files[..begun] {
            self.tell(file.bytes);
        }
        let mut unflushed = 0;
        let mut outdated = false;
        let mut number = begun;
        while let Some(file) = files.get(number) {
            self.progress.check()?;
            let (end, records) = self.part(shard, number).await?;
            if end.kind == Kind::Log {
                break;
            }
            if end.kind == Kind::Pages && outdated {
                // Opened anew, it knows how its pages lie.
                store.persist_import().await?;
                close(store).await;
                *store = self.open(shard).await?.0;
                (outdated, unflushed) = (false, 0);
            }
            outdated |= end.kind == Kind::Meta;
            store.import(records, number as u64).await?;
            self.tell(file.bytes);
            unflushed += file.bytes;
            number += 1;
            if unflushed >= PERSIST_BYTES {
                store.persist_import().await?;
                unflushed = 0;
                if store.stats().l0_files >= FILES_MAX {
                    store.compact().await?;
                }
            }
        }
        store.complete_import().await?;
        Ok(number)
    }

    /// The number of the first part with sections of the log.
    async fn first_of_log(&self, shard: ShardId) -> Result<usize, TransferError> {
        let files = self.files(shard);
        let mut first = files.len();
        for (number, file) in files.iter().enumerate().rev() {
            let name = part_name(shard.0, number as u64);
            if self.depot.end(&name, file.bytes).await?.kind != Kind::Log {
                break;
            }
            first = number;
        }
        Ok(first)
    }

    /// Flushes the rows of the log, which begins with this part.
    async fn take_log(
        &self,
        shard: ShardId,
        first: usize,
        store: &PageStore,
        opened: &Opened,
    ) -> Result<(), TransferError> {
        let mut tail = ReplayedTail::new(&opened.marks);
        let mut epoch: Option<(Epoch, Vec<Section>)> = None;
        for number in first..self.files(shard).len() {
            self.progress.check()?;
            let damaged = |why: String| {
                let name = self.depot.name(&part_name(shard.0, number as u64));
                fatal(format!("{name} is damaged: {why}. Export again"))
            };
            let (_, records) = self.part(shard, number).await?;
            for (_, bytes) in records {
                let section = Section::decode(bytes).map_err(|error| damaged(error.to_string()))?;
                if section.shard != shard || section.epoch <= opened.durable {
                    return Err(damaged("a section of another shard or epoch".to_owned()));
                }
                if let Some((same, sections)) = &mut epoch
                    && *same == section.epoch
                {
                    sections.push(section);
                    continue;
                }
                if let Some((before, sections)) = epoch.replace((section.epoch, vec![section])) {
                    tail.apply(before, &sections).map_err(damaged)?;
                }
            }
        }
        if let Some((last, sections)) = epoch {
            let damaged = |why| fatal(format!("a section of the copy is damaged: {why}"));
            tail.apply(last, &sections).map_err(damaged)?;
        }
        Ok(store.flush(tail.batch(self.work.shape.epoch)).await?)
    }

    /// A part, compared with the list.
    async fn part(
        &self,
        shard: ShardId,
        number: usize,
    ) -> Result<(PartEnd, Vec<Record>), TransferError> {
        let files = self.files(shard);
        let name = part_name(shard.0, number as u64);
        let damaged = |why: &str| {
            let name = self.depot.name(&name);
            fatal(format!("{name} is damaged: {why}. Export again"))
        };
        let bytes: Option<Bytes> = self.depot.get(&name).await?;
        let bytes = bytes.ok_or_else(|| damaged("it is missing"))?;
        let file = files
            .get(number)
            .ok_or_else(|| damaged("it is not in the list"))?;
        if bytes.len() as u64 != file.bytes {
            return Err(damaged("it has another length than it had"));
        }
        let (end, records) = part::read(&bytes).map_err(damaged)?;
        if end.crc32 != file.crc32 {
            return Err(damaged("it is another one than was exported"));
        }
        if end.last != (number + 1 == files.len()) {
            return Err(damaged("it is not the part that it should be"));
        }
        Ok((end, records))
    }

    fn tell(&self, bytes: u64) {
        let copied = self.copied.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.progress.copied(copied, self.list.bytes);
    }
}

async fn close(store: &PageStore) {
    if let Err(error) = store.close().await {
        tracing::debug!(%error, "a shard that is being imported did not close in time");
    }
}
