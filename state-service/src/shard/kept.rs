//! A shard as of a committed epoch that is kept: the pages of a checkpoint, and the rows of the log
//! after it in a tail, just as whoever would go on from there had them. It is read only; nobody serves
//! it, and it never changes.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use proto::{
    state_control::InheritedEpoch,
    types::{Epoch, KeyGroupCount, KeyGroupRange},
};
use state_client::{KeptShard, KeyRequest, LoadedRow, ScanReply, ScanRequest, Section, StateError};

use super::{
    ReplayedTail, ShardContext, distinct_sections, page_config_of,
    read::{Over, told},
    scan::scan_unchanging,
};
use crate::{
    caps::EPOCHS_READ_AT_ONCE,
    pages::{KeptPages, PageScan},
};

/// A shard as of an epoch, open for reading.
pub(crate) struct OpenedKept {
    /// `None`: nothing was flushed before it.
    pages: Option<KeptPages>,
    tail: ReplayedTail,
    key_groups: KeyGroupCount,
    range: KeyGroupRange,
}

impl OpenedKept {
    /// Opens what is kept; it is up to the caller that its files stay.
    pub(crate) async fn open(
        context: &ShardContext,
        kept: &KeptShard,
    ) -> Result<OpenedKept, StateError> {
        let manifest = kept
            .manifest
            .filter(|manifest| manifest.epoch > Epoch::ZERO);
        let pages = match manifest {
            None => None,
            Some(manifest) => {
                let mut config = page_config_of(context, manifest.of, kept.shard, kept.shape);
                let cache = context.config.block_cache.clone();
                config.block_cache = cache.map(|cache| (cache, context.cache_scope()));
                let opened = KeptPages::open(config, manifest.epoch).await;
                Some(opened.map_err(told)?)
            }
        };
        let marks = pages.as_ref().map(KeptPages::marks).unwrap_or_default();
        let mut tail = ReplayedTail::new(&marks);
        let begin = manifest.map(|manifest| manifest.epoch).unwrap_or_default();
        let wanted = begin.next()..=kept.shape.epoch;
        let mut logged = kept.log.clone();
        logged.retain(|logged| wanted.contains(&logged.committed.epoch));
        let read = |logged: InheritedEpoch| async move {
            let sections = sections(context, kept, &logged).await?;
            Ok::<_, StateError>((logged.committed.epoch, sections))
        };
        let reading = stream::iter(logged).map(read);
        let mut reading = std::pin::pin!(reading.buffered(EPOCHS_READ_AT_ONCE));
        while let Some((epoch, sections)) = reading.try_next().await? {
            tail.apply(epoch, &sections).map_err(StateError::Damaged)?;
        }
        let key_groups = kept.shape.key_groups;
        Ok(OpenedKept {
            pages,
            tail,
            key_groups,
            range: key_groups.range(kept.shard.0, kept.shape.shards),
        })
    }

    /// Rows of keys.
    pub(crate) async fn read(
        &self,
        keys: &[KeyRequest],
    ) -> Result<Vec<Vec<LoadedRow>>, StateError> {
        let mut groups = keys.iter().map(|key| self.key_groups.of_hash(key.hash));
        if let Some(other) = groups.find(|group| !self.range.contains(*group)) {
            let why = format!("key group {} is not in this shard", other.0);
            return Err(StateError::Unavailable(why));
        }
        let over = Over::of(&self.tail.layers(), self.key_groups, keys);
        let rows = match &self.pages {
            Some(pages) => pages.read(keys).await.map_err(told)?,
            None => vec![Vec::new(); keys.len()],
        };
        Ok(over.laid_over(keys, rows))
    }

    /// The next rows of a key group.
    pub(crate) async fn scan(&self, request: &ScanRequest) -> Result<ScanReply, StateError> {
        let (table, key_group) = (request.table, request.key_group);
        let (namespace, bytes_max) = (request.namespace, request.bytes_max);
        let pages = |cursor| async move {
            match &self.pages {
                None => Ok(PageScan::default()),
                Some(pages) => {
                    let scan = pages.scan(table, key_group, namespace, cursor, bytes_max);
                    scan.await.map_err(told)
                }
            }
        };
        scan_unchanging(request, &self.tail.layers(), pages).await
    }
}

/// The shard's sections of an epoch.
async fn sections(
    context: &ShardContext,
    kept: &KeptShard,
    logged: &InheritedEpoch,
) -> Result<Vec<Section>, StateError> {
    let epoch = logged.committed.epoch;
    let mut sections = Vec::new();
    for object in &logged.committed.objects {
        let log = &context.log;
        let read = log.sections(logged.job, object, epoch, kept.shard).await;
        sections.extend(read?);
    }
    Ok(distinct_sections(sections))
}
