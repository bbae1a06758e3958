//! Reads of states that are kept: which files they are of goes with each request.

use proto::{
    state_control::{CommittedEpoch, InheritedEpoch, JobLine, ShardManifest},
    transfer::StateShape,
    types::{Epoch, Generation, JobId, KeyGroupCount, ShardId},
};
use rpc::state;
use state_client::{Incarnation, KeptShard, KeyRequest, ScanRequest};

use crate::{
    Malformed,
    read::{decode_keys, encode_keys},
    scan::{decode_scan_request, encode_scan_request},
    stage::{decode_object, encode_object},
};

/// A request for rows of keys.
#[must_use]
pub fn encode_read_kept(kept: KeptShard, keys: &[KeyRequest]) -> state::ReadKeptRequest {
    state::ReadKeptRequest {
        kept: Some(encode_kept(kept)),
        keys: encode_keys(keys),
    }
}

/// What [`encode_read_kept`] made.
///
/// # Errors
/// When it asks for more keys than may be asked for at once, or for a shard that cannot be.
pub fn decode_read_kept(
    request: state::ReadKeptRequest,
) -> Result<(KeptShard, Vec<KeyRequest>), Malformed> {
    Ok((decode_kept(request.kept)?, decode_keys(request.keys)?))
}

/// A request for the next rows of a key group.
#[must_use]
pub fn encode_scan_kept(kept: KeptShard, request: &ScanRequest) -> state::ScanKeptRequest {
    let nobody = Incarnation {
        job: JobId(0),
        generation: Generation(0),
    };
    state::ScanKeptRequest {
        kept: Some(encode_kept(kept)),
        scan: Some(encode_scan_request(nobody, request)),
    }
}

/// What [`encode_scan_kept`] made.
///
/// # Errors
/// When it names a key group, or a shard, that cannot be.
pub fn decode_scan_kept(
    request: state::ScanKeptRequest,
) -> Result<(KeptShard, ScanRequest), Malformed> {
    let scan = request.scan.ok_or_else(|| Malformed::new("no scan"))?;
    let (_, scan) = decode_scan_request(scan)?;
    Ok((decode_kept(request.kept)?, scan))
}

fn encode_kept(kept: KeptShard) -> state::KeptShard {
    let manifest = |manifest: ShardManifest| state::Manifest {
        job: manifest.of.job.0,
        line: manifest.of.line,
        epoch: manifest.epoch.0,
    };
    let logged = |logged: InheritedEpoch| {
        let objects = logged.committed.objects.into_iter();
        state::KeptEpoch {
            job: logged.job.0,
            epoch: logged.committed.epoch.0,
            objects: objects.map(encode_object).collect(),
        }
    };
    state::KeptShard {
        key_groups: kept.shape.key_groups.count(),
        shards: kept.shape.shards,
        shard: kept.shard.0,
        epoch: kept.shape.epoch.0,
        manifest: kept.manifest.map(manifest),
        log: kept.log.into_iter().map(logged).collect(),
    }
}

fn decode_kept(kept: Option<state::KeptShard>) -> Result<KeptShard, Malformed> {
    let kept = kept.ok_or_else(|| Malformed::new("no state"))?;
    let key_groups = KeyGroupCount::new(kept.key_groups);
    let key_groups = key_groups.filter(|groups| {
        let cut = kept.shards.is_power_of_two() && kept.shards <= groups.count();
        cut && kept.shard < kept.shards
    });
    let what = || {
        let (shard, shards, groups) = (kept.shard, kept.shards, kept.key_groups);
        Malformed::new(format!("shard {shard} of {shards}, of {groups} key groups"))
    };
    let key_groups = key_groups.ok_or_else(what)?;
    let manifest = |manifest: state::Manifest| ShardManifest {
        of: JobLine {
            job: JobId(manifest.job),
            line: manifest.line,
        },
        epoch: Epoch(manifest.epoch),
    };
    let logged = |logged: state::KeptEpoch| {
        let objects = logged.objects.into_iter();
        InheritedEpoch {
            job: JobId(logged.job),
            committed: CommittedEpoch {
                epoch: Epoch(logged.epoch),
                objects: objects.map(decode_object).collect(),
            },
        }
    };
    Ok(KeptShard {
        shape: StateShape {
            key_groups,
            shards: kept.shards,
            epoch: Epoch(kept.epoch),
        },
        shard: ShardId(kept.shard),
        manifest: kept.manifest.map(manifest),
        log: kept.log.into_iter().map(logged).collect(),
    })
}

#[cfg(test)]
mod tests {
    use proto::{
        log::{LogHolding, LogObject},
        types::{KeyGroup, TableId},
    };

    use super::*;

    fn kept() -> KeptShard {
        let object = LogObject {
            name: "1-19-a.rows".to_owned(),
            bytes: 7,
            holds: LogHolding::Rows(vec![ShardId(1), ShardId(3)]),
        };
        KeptShard {
            shape: StateShape {
                key_groups: KeyGroupCount::DEFAULT,
                shards: 4,
                epoch: Epoch(19),
            },
            shard: ShardId(3),
            manifest: Some(ShardManifest {
                of: JobLine {
                    job: JobId(5),
                    line: 6,
                },
                epoch: Epoch(17),
            }),
            log: vec![InheritedEpoch {
                job: JobId(8),
                committed: CommittedEpoch {
                    epoch: Epoch(19),
                    objects: vec![object],
                },
            }],
        }
    }

    #[test]
    fn requests_come_back() {
        let key = KeyRequest {
            table: TableId(1),
            namespace: -2,
            hash: 3,
            sub: Some(4),
        };
        let read = decode_read_kept(encode_read_kept(kept(), &[key]));
        assert_eq!(read, Ok((kept(), vec![key])));
        let scan = ScanRequest {
            min_epoch: Epoch(0),
            table: TableId(1),
            key_group: KeyGroup(2),
            namespace: None,
            cursor: None,
            bytes_max: 9,
        };
        let empty = KeptShard {
            manifest: None,
            log: Vec::new(),
            ..kept()
        };
        let came = decode_scan_kept(encode_scan_kept(empty.clone(), &scan)).expect("well-formed");
        assert_eq!(came.0, empty);
        assert_eq!(format!("{:?}", came.1), format!("{scan:?}"));
    }

    #[test]
    fn shards_that_cannot_be_are_refused() {
        let good = encode_kept(kept());
        type Spoil = fn(&mut state::KeptShard);
        let spoiled: [Spoil; 5] = [
            |kept| kept.key_groups = 3,
            |kept| kept.shards = 3,
            |kept| kept.shards = 0,
            |kept| kept.shards = 1 << 16,
            |kept| kept.shard = 4,
        ];
        for spoil in spoiled {
            let mut kept = good.clone();
            spoil(&mut kept);
            assert!(decode_kept(Some(kept.clone())).is_err(), "{kept:?}");
        }
        assert!(decode_kept(None).is_err());
        assert!(decode_scan_kept(state::ScanKeptRequest::default()).is_err());
    }
}
