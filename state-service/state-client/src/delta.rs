//! A delta: all that one task changed in one epoch, cut into sections by shard.

use std::collections::BTreeMap;

use proto::types::{Epoch, KeyGroup, KeyGroupCount, ShardId, TableId, TaskId};

use crate::{Block, Incarnation, Section, StagedOutput};

/// What one task changed in one epoch: a section for every shard that it changed, none where it
/// changed nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EpochDelta {
    /// Epoch.
    pub epoch: Epoch,
    /// Task that made it.
    pub task: TaskId,
    /// How many tasks of the job stage this epoch: whoever has heard of all need not wait for more.
    pub tasks: u32,
    /// Sections, by shard.
    pub sections: Vec<Section>,
}

/// How a job's key groups are cut into shards, and its tasks counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cut {
    /// Key groups of the job.
    pub key_groups: KeyGroupCount,
    /// Shards of the job.
    pub shards: u32,
    /// Tasks of the job.
    pub tasks: u32,
}

/// Changes before they are cut.
#[derive(Clone, Default, Debug)]
pub struct Changes {
    /// Runs, sorted by (table, key group, namespace).
    pub blocks: Vec<Block>,
    /// Namespaces of (table, key group) below the mark are closed.
    pub low_water_marks: Vec<(TableId, KeyGroup, i64)>,
    /// Output to publish after the commit.
    pub staged: Vec<StagedOutput>,
}

impl EpochDelta {
    /// Cuts what a task changed. Output belongs to no key: tasks spread theirs over the shards.
    #[must_use]
    pub fn new(who: Incarnation, epoch: Epoch, task: TaskId, cut: Cut, changes: Changes) -> Self {
        let mut sections: BTreeMap<ShardId, Section> = BTreeMap::new();
        let empty = |shard| Section {
            job: who.job,
            generation: who.generation,
            epoch,
            task,
            shard,
            blocks: Vec::new(),
            low_water_marks: Vec::new(),
            staged: Vec::new(),
        };
        let shard_of = |group: KeyGroup| ShardId(cut.key_groups.part_of(group, cut.shards));
        for block in changes.blocks {
            let shard = shard_of(block.key_group);
            let section = sections.entry(shard).or_insert_with(|| empty(shard));
            section.blocks.push(block);
        }
        for mark in changes.low_water_marks {
            let shard = shard_of(mark.1);
            let section = sections.entry(shard).or_insert_with(|| empty(shard));
            section.low_water_marks.push(mark);
        }
        if !changes.staged.is_empty() {
            let shard = ShardId(task.0 % cut.shards);
            let section = sections.entry(shard).or_insert_with(|| empty(shard));
            section.staged = changes.staged;
        }
        EpochDelta {
            epoch,
            task,
            tasks: cut.tasks,
            sections: sections.into_values().collect(),
        }
    }

    /// Whether the task changed nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sections.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proto::types::{Generation, JobId, SinkId};

    use super::*;
    use crate::page::RunBuilder;

    #[test]
    fn every_change_is_in_the_section_of_its_shard() {
        let who = Incarnation {
            job: JobId(1),
            generation: Generation(2),
        };
        let cut = Cut {
            key_groups: KeyGroupCount::DEFAULT,
            shards: 4,
            tasks: 3,
        };
        let block = |group: u16| Block {
            table: TableId(0),
            key_group: KeyGroup(group),
            namespace: 0,
            run: RunBuilder::default().finish(),
        };
        let changes = Changes {
            blocks: [0, 63, 64, 255].map(block).to_vec(),
            low_water_marks: vec![(TableId(0), KeyGroup(128), 7)],
            staged: vec![StagedOutput {
                sink: SinkId(0),
                slot: 0,
                bytes: Bytes::from_static(b"out"),
            }],
        };
        let delta = EpochDelta::new(who, Epoch(5), TaskId(6), cut, changes);
        let shape: Vec<_> = delta
            .sections
            .iter()
            .map(|s| {
                let counts = (s.blocks.len(), s.low_water_marks.len(), s.staged.len());
                (s.shard.0, counts)
            })
            .collect();
        let expected = [
            (0, (2, 0, 0)),
            (1, (1, 0, 0)),
            (2, (0, 1, 1)),
            (3, (1, 0, 0)),
        ];
        assert_eq!(shape, expected);
        let nothing = EpochDelta::new(who, Epoch(5), TaskId(6), cut, Changes::default());
        assert!(nothing.is_empty());
    }
}
