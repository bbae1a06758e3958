//! Copying a savepoint out of the store. Reads what the savepoint holds and nothing else: neither the
//! job nor whoever serves its shards takes part in it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::{BufMut as _, Bytes, BytesMut};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use proto::{
    state_control::InheritedEpoch,
    transfer::ExportWork,
    types::{Epoch, ShardId},
};

use super::{
    ENDS_AT_ONCE, SHARDS_AT_ONCE, TransferError,
    depot::{Depot, Made},
    fatal,
    files::{
        CLAIM, Claim, FORMAT, FileList, LIST, PartFile, encode, part_name, read, shard_folder,
    },
    part::{Kind, PartBuilder, PartEnd},
    run::Progress,
};
use crate::{
    pages::{PageStore, Record},
    shard::{ShardContext, distinct_sections, page_config_of},
};

/// A copy that is being made.
pub(super) struct Export {
    context: Arc<ShardContext>,
    work: ExportWork,
    depot: Depot,
    progress: Progress,
    copied: AtomicU64,
    /// As far as is known.
    total: AtomicU64,
}

/// Where a shard's copy goes on.
struct Resumed {
    files: Vec<PartFile>,
    /// The last part that is there.
    end: Option<PartEnd>,
}

/// The parts of a shard as they come.
struct Parts<'a> {
    export: &'a Export,
    shard: ShardId,
    files: Vec<PartFile>,
    part: PartBuilder,
}

/// Copies a savepoint; how many bytes it has.
pub(super) async fn export(
    context: Arc<ShardContext>,
    work: ExportWork,
    progress: Progress,
) -> Result<u64, TransferError> {
    let config = &context.config;
    let depot = Depot::open(
        &config.places,
        &work.to,
        true,
        &config.store,
        config.limits.attempt_deadline,
        config.seed.wrapping_add(3),
    )?;
    let export = Export {
        context,
        work,
        depot,
        progress,
        copied: AtomicU64::new(0),
        total: AtomicU64::new(0),
    };
    export.run().await
}

impl Export {
    async fn run(&self) -> Result<u64, TransferError> {
        if let Some(done) = self.claim().await? {
            return Ok(done.bytes);
        }
        self.progress.copied(0, 0);
        let shards = (0..self.work.shape.shards).map(ShardId);
        let copy = |shard: ShardId| async move {
            let files = self.copy_shard(shard).await?;
            Ok::<_, TransferError>((shard.0, files))
        };
        let copied = stream::iter(shards).map(copy);
        let copied = copied.buffer_unordered(SHARDS_AT_ONCE);
        let parts: BTreeMap<u32, Vec<PartFile>> = copied.try_collect().await?;
        let job = serde_json::from_str(&self.work.job);
        let list = FileList {
            format: FORMAT,
            millstream: env!("CARGO_PKG_VERSION").to_owned(),
            source: self.work.source.clone(),
            shape: self.work.shape,
            bytes: parts.values().flatten().map(|part| part.bytes).sum(),
            parts,
            job: job.map_err(|error| fatal(format!("the job's description is none: {error}")))?,
        };
        let (bytes, _) = encode(&list);
        self.depot.put(LIST, bytes).await?;
        Ok(list.bytes)
    }

    /// Takes the place, unless somebody else has it; the list of files if all was done before.
    async fn claim(&self) -> Result<Option<FileList>, TransferError> {
        let to = &self.work.to;
        let whose = |claim: &Claim| {
            let source = &claim.source;
            let (savepoint, job, cluster) = (&source.savepoint, source.job, &source.cluster);
            format!("savepoint `{savepoint}` of {job} of cluster {cluster}")
        };
        let ours = Claim {
            format: FORMAT,
            source: self.work.source.clone(),
            shape: self.work.shape,
        };
        let check = |found: &Claim| match *found == ours {
            true => Ok(()),
            false => Err(fatal(format!(
                "{to} has a copy of {} already: choose another place, or delete it",
                whose(found)
            ))),
        };
        if let Some((found, _)) = read::<Claim>(&self.depot, CLAIM).await? {
            check(&found)?;
            let list = read::<FileList>(&self.depot, LIST).await?;
            return Ok(list.map(|(list, _)| list));
        }
        if let Some(name) = self.depot.list("").await?.into_keys().next() {
            return Err(fatal(format!(
                "{to} is not empty (it has `{name}`): choose another place"
            )));
        }
        let (bytes, _) = encode(&ours);
        if self.depot.make(CLAIM, bytes).await? == Made::Before {
            // Somebody was faster: us, in an attempt whose answer was lost, or another one.
            match read::<Claim>(&self.depot, CLAIM).await? {
                Some((found, _)) => check(&found)?,
                None => return Err(fatal(format!("{to} lets nobody make `{CLAIM}`"))),
            }
        }
        Ok(None)
    }

    async fn copy_shard(&self, shard: ShardId) -> Result<Vec<PartFile>, TransferError> {
        let resumed = self.resumed(shard).await?;
        if resumed.end.as_ref().is_some_and(|end| end.last) {
            return Ok(resumed.files);
        }
        let after = resumed.end.map(|end| (end.kind, end.last_key));
        let begin = after.as_ref().map_or(Kind::Meta, |(kind, _)| *kind);
        let last_key = |kind: Kind| {
            let after = after.as_ref().filter(|(known, _)| *known == kind);
            after.map(|(_, key)| key.clone())
        };
        let mut parts = Parts {
            export: self,
            shard,
            files: resumed.files,
            part: PartBuilder::new(begin),
        };
        let manifest = self.work.manifests.get(&shard);
        let manifest = manifest.filter(|manifest| manifest.epoch > Epoch::ZERO);
        if let Some(manifest) = manifest.filter(|_| begin < Kind::Log) {
            let config = page_config_of(&self.context, manifest.of, shard, self.work.shape);
            let reader = PageStore::read_checkpoint(&config, manifest.epoch).await?;
            self.total.fetch_add(reader.file_bytes(), Ordering::Relaxed);
            for kind in [Kind::Meta, Kind::Pages] {
                if kind < begin {
                    continue;
                }
                let pages = kind == Kind::Pages;
                let mut records = reader.records(pages, last_key(kind).as_ref()).await?;
                while let Some(record) = records.next().await? {
                    parts.push(kind, record).await?;
                }
            }
            reader.close().await;
        }
        let begin = manifest.map(|manifest| manifest.epoch).unwrap_or_default();
        let last_key = last_key(Kind::Log);
        for entry in &self.work.log {
            if entry.committed.epoch <= begin {
                continue;
            }
            for record in self.sections(shard, entry).await? {
                if last_key.as_ref().is_none_or(|last| record.0 > *last) {
                    parts.push(Kind::Log, record).await?;
                }
            }
        }
        parts.finish().await
    }

    /// A shard's sections of an epoch.
    async fn sections(
        &self,
        shard: ShardId,
        entry: &InheritedEpoch,
    ) -> Result<Vec<Record>, TransferError> {
        let epoch = entry.committed.epoch;
        let mut sections = Vec::new();
        for object in &entry.committed.objects {
            let log = &self.context.log;
            sections.extend(log.sections(entry.job, object, epoch, shard).await?);
        }
        let numbered = (0_u32..).zip(distinct_sections(sections));
        let record = |(number, section): (u32, state_client::Section)| {
            let mut key = BytesMut::with_capacity(12);
            key.put_u64(epoch.0);
            key.put_u32(number);
            (key.freeze(), section.encode())
        };
        Ok(numbered.map(record).collect())
    }

    /// What is there of a shard, by an attempt before.
    async fn resumed(&self, shard: ShardId) -> Result<Resumed, TransferError> {
        let listed = self.depot.list(&shard_folder(shard.0)).await?;
        let there = (0_u64..).map_while(|number| {
            let name = part_name(shard.0, number);
            listed.get(&name).map(|bytes| (name, *bytes))
        });
        let there: Vec<(String, u64)> = there.collect();
        let read = |(name, bytes): (String, u64)| async move {
            let end = self.depot.end(&name, bytes).await?;
            Ok::<_, TransferError>((bytes, end))
        };
        let ends = stream::iter(there).map(read).buffered(ENDS_AT_ONCE);
        let mut resumed = Resumed {
            files: Vec::new(),
            end: None,
        };
        let mut ends = std::pin::pin!(ends);
        while let Some((bytes, end)) = ends.try_next().await? {
            let crc32 = end.crc32;
            resumed.files.push(PartFile { bytes, crc32 });
            self.copied.fetch_add(bytes, Ordering::Relaxed);
            resumed.end = Some(end);
        }
        Ok(resumed)
    }

    fn tell(&self, bytes: u64) {
        let copied = self.copied.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let total = self.total.load(Ordering::Relaxed).max(copied);
        self.progress.copied(copied, total);
    }
}

impl Parts<'_> {
    async fn push(&mut self, kind: Kind, (key, value): Record) -> Result<(), TransferError> {
        // Whoever takes them in wants to know when pages begin, and when they end.
        let part_bytes = self.export.context.config.limits.part_bytes;
        let is_full = self.part.len() >= part_bytes || self.part.kind() != kind;
        if is_full && !self.part.is_empty() {
            self.write(kind, false).await?;
        } else if self.part.kind() != kind {
            self.part = PartBuilder::new(kind);
        }
        self.part.push(key, &value);
        Ok(())
    }

    async fn write(&mut self, next: Kind, last: bool) -> Result<(), TransferError> {
        let part = std::mem::replace(&mut self.part, PartBuilder::new(next));
        let (bytes, end) = part.finish(last);
        let file = PartFile {
            bytes: bytes.len() as u64,
            crc32: end.crc32,
        };
        let name = part_name(self.shard.0, self.files.len() as u64);
        self.export.depot.put(&name, Bytes::clone(&bytes)).await?;
        self.files.push(file);
        self.export.tell(file.bytes);
        Ok(())
    }

    async fn finish(mut self) -> Result<Vec<PartFile>, TransferError> {
        let kind = self.part.kind();
        self.write(kind, true).await?;
        Ok(self.files)
    }
}
