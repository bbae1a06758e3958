//! A shard's parts for who works on its files without serving it: where they are, and what the log
//! adds to them.

use std::sync::Arc;

use proto::{
    state_control::JobLine,
    transfer::StateShape,
    types::{Epoch, KeyGroup, ShardId, TableId},
};
use state_client::{Block, Section};

use super::{
    ShardContext, database_path,
    state::ShardState,
    tail::{Layers, Marks, OpenSection, Tail},
};
use crate::pages::{FlushBatch, PageStoreConfig};

/// The database of a shard, for somebody who needs no caches.
pub(crate) fn page_config_of(
    context: &ShardContext,
    of: JobLine,
    shard: ShardId,
    shape: StateShape,
) -> PageStoreConfig {
    let node = &context.config;
    PageStoreConfig {
        path: database_path(&context.root, of, shard).into(),
        store: node.store.store.clone(),
        key_groups: shape.key_groups,
        range: shape.key_groups.range(shard.0, shape.shards),
        block_cache: None,
        page_cache: None,
        seed: node.seed ^ of.job.0.rotate_left(32) ^ u64::from(shard.0),
        clock: node.clock.clone(),
        runtime: node.runtime.clone(),
        limits: node.page_limits.clone(),
    }
}

/// Which of an epoch's sections count: each task's once.
pub(crate) fn distinct_sections(sections: Vec<Section>) -> Vec<Section> {
    ShardState::distinct(sections)
}

/// Rows of the log that come on top of a shard's pages.
pub(crate) struct ReplayedTail {
    tail: Tail,
    marks: Marks,
}

impl ReplayedTail {
    /// None yet; these are the pages' first open namespaces.
    pub(crate) fn new(marks: &[(TableId, KeyGroup, i64)]) -> Self {
        let by_group = |(table, group, mark): &_| ((*group, *table), *mark);
        ReplayedTail {
            tail: Tail::default(),
            marks: marks.iter().map(by_group).collect(),
        }
    }

    /// Takes an epoch in; `Err`: why it is damaged.
    pub(crate) fn apply(&mut self, epoch: Epoch, sections: &[Section]) -> Result<(), String> {
        let opened: Result<Vec<OpenSection>, _> = sections.iter().map(OpenSection::new).collect();
        let opened = opened.map_err(|error| error.to_string())?;
        self.tail.apply(epoch, 0, opened, &mut self.marks);
        Ok(())
    }

    /// What lies over the pages.
    pub(super) fn layers(&self) -> Layers<'_> {
        Layers {
            marks: &self.marks,
            tails: vec![&self.tail],
        }
    }

    /// What is to be flushed, so that the shard has everything up to the epoch.
    pub(crate) fn batch(&self, epoch: Epoch) -> FlushBatch {
        let blocks = self.tail.all().map(|(key_group, table, namespace, runs)| {
            let runs: &Arc<_> = runs;
            Block {
                table,
                key_group,
                namespace,
                run: runs.merged().bytes().clone(),
            }
        });
        FlushBatch {
            epoch,
            blocks: blocks.collect(),
            low_water_marks: self.tail.moved().collect(),
        }
    }
}
