//! Committed epochs that are kept, for who reads them without going on from them: savepoints, and the
//! checkpoints that a job can still be taken back to.
//!
//! Such a state names files and nothing else: whoever has access to the store can read it, whether its
//! job runs or has ended. It is worth something only as long as the metadata hold it.

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use proto::{
    log::{LogHolding, LogObject},
    state_control::{CommittedEpoch, InheritedEpoch, ShardManifest},
    transfer::StateShape,
    types::ShardId,
};

use crate::{KeyRequest, ReadReply, ScanReply, ScanRequest, StateError};

/// All that a committed epoch consists of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeptState {
    /// How it is cut, and its epoch.
    pub shape: StateShape,
    /// Where each shard begins.
    pub manifests: BTreeMap<ShardId, ShardManifest>,
    /// The rows after that, oldest first.
    pub log: Vec<InheritedEpoch>,
}

/// One shard of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeptShard {
    /// How the state is cut, and its epoch.
    pub shape: StateShape,
    /// Which shard.
    pub shard: ShardId,
    /// Where it begins; `None`: with nothing.
    pub manifest: Option<ShardManifest>,
    /// The rows after that, oldest first.
    pub log: Vec<InheritedEpoch>,
}

impl KeptState {
    /// What one shard consists of.
    #[must_use]
    pub fn shard(&self, shard: ShardId) -> KeptShard {
        let of_shard = |object: &&LogObject| match &object.holds {
            LogHolding::Rows(shards) => shards.contains(&shard),
            LogHolding::Output(_) => false,
        };
        let manifest = self.manifests.get(&shard).copied();
        let is_newer = |logged: &&InheritedEpoch| {
            manifest.is_none_or(|manifest| logged.committed.epoch > manifest.epoch)
        };
        let log = self.log.iter().filter(is_newer);
        let log = log.filter_map(|logged| {
            let objects = logged.committed.objects.iter().filter(of_shard);
            let objects: Vec<LogObject> = objects.cloned().collect();
            (!objects.is_empty()).then_some(InheritedEpoch {
                job: logged.job,
                committed: CommittedEpoch {
                    epoch: logged.committed.epoch,
                    objects,
                },
            })
        });
        KeptShard {
            shape: self.shape,
            shard,
            manifest,
            log: log.collect(),
        }
    }

    /// The shard of a key by its hash.
    #[must_use]
    pub fn shard_of_hash(&self, hash: u64) -> ShardId {
        let key_groups = self.shape.key_groups;
        ShardId(key_groups.part_of(key_groups.of_hash(hash), self.shape.shards))
    }

    /// The shard of a scan.
    #[must_use]
    pub fn shard_of_scan(&self, request: &ScanRequest) -> ShardId {
        let key_groups = self.shape.key_groups;
        ShardId(key_groups.part_of(request.key_group, self.shape.shards))
    }
}

/// Who reads states that are kept. Requests say nothing of when: all is as of the state's epoch, and
/// [`ScanRequest::min_epoch`] means nothing.
pub trait KeptStates: Send + Sync {
    /// Rows of keys of one shard.
    fn read_kept(
        &self,
        kept: KeptShard,
        keys: Vec<KeyRequest>,
    ) -> BoxFuture<'static, Result<ReadReply, StateError>>;

    /// Rows of a key group of the shard.
    fn scan_kept(
        &self,
        kept: KeptShard,
        request: ScanRequest,
    ) -> BoxFuture<'static, Result<ScanReply, StateError>>;
}

#[cfg(test)]
mod tests {
    use proto::{
        state_control::JobLine,
        types::{Epoch, JobId, KeyGroupCount},
    };

    use super::*;

    #[test]
    fn a_shard_is_its_manifest_and_what_came_after_it() {
        let object = |name: &str, shards: &[u32]| LogObject {
            name: name.to_owned(),
            bytes: 1,
            holds: LogHolding::Rows(shards.iter().copied().map(ShardId).collect()),
        };
        let logged = |epoch: u64, objects: Vec<LogObject>| InheritedEpoch {
            job: JobId(1),
            committed: CommittedEpoch {
                epoch: Epoch(epoch),
                objects,
            },
        };
        let manifest = ShardManifest {
            of: JobLine {
                job: JobId(1),
                line: 0,
            },
            epoch: Epoch(17),
        };
        let state = KeptState {
            shape: StateShape {
                key_groups: KeyGroupCount::DEFAULT,
                shards: 2,
                epoch: Epoch(19),
            },
            manifests: [(ShardId(0), manifest)].into(),
            log: vec![
                logged(17, vec![object("a", &[0, 1])]),
                logged(18, vec![object("b", &[1])]),
                logged(19, vec![object("c", &[0]), object("d", &[1])]),
            ],
        };
        let names = |shard: u32| {
            let kept = state.shard(ShardId(shard));
            let objects = kept.log.iter().flat_map(|logged| &logged.committed.objects);
            objects
                .map(|object| object.name.clone())
                .collect::<String>()
        };
        assert_eq!((names(0), names(1)), ("c".to_owned(), "abd".to_owned()));
        assert_eq!(state.shard(ShardId(0)).manifest, Some(manifest));
        assert_eq!(state.shard(ShardId(1)).manifest, None);
        assert_eq!(state.shard_of_hash(0), ShardId(0));
        assert_eq!(state.shard_of_hash(u64::MAX), ShardId(1));
    }
}
