//! One redb file: who this disk is, the vote, the log, the last snapshot.
//!
//! Every write is one transaction that is on the disk (fsync) when its function returns, or has not happened. After a
//! failed write redb refuses all further ones, so nothing is built on what may be missing.
//!
//! Invariants: `raft.redb` exists only with an identity in it (it is made under another name and renamed); log indexes
//! have no hole; the purged id is below the first entry.

use std::{
    fs::{self, File},
    path::Path,
    sync::{PoisonError, RwLock},
};

use redb::{Builder, Database, ReadableDatabase, ReadableTable, Table, TableDefinition};
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::{
    DiskId, StartError,
    types::{Entry, LogId, SnapshotMeta, Vote},
    wire::{self, Damaged, Reader, Writer},
};

/// Raised whenever the bytes below change their meaning.
const FORMAT: u64 = 1;
/// The file in the data directory.
const FILE: &str = "raft.redb";
/// redb may keep so much of the file in memory: the tail of the log is read back to be sent and applied.
const CACHE_BYTES_MAX: usize = 32 << 20;

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
const SNAPSHOT: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("snapshot");

const IDENTITY: &str = "identity";
const VOTE: &str = "vote";
const PURGED: &str = "purged";
const SNAPSHOT_META: &str = "meta";
const SNAPSHOT_DATA: &str = "data";

/// The disk failed; what was being done has not happened.
#[derive(Debug, Clone, thiserror::Error)]
#[error("failed to {doing}: {cause}")]
pub(crate) struct DiskError {
    doing: &'static str,
    cause: String,
}

/// Who a disk is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) cluster: String,
    pub(crate) node: u64,
    pub(crate) disk: DiskId,
    /// The forming of the cluster that it takes part in, once it does.
    pub(crate) incarnation: Option<u128>,
}

impl Identity {
    fn write(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.u64(FORMAT);
        writer.str(&self.cluster);
        writer.u64(self.node);
        writer.u128(self.disk.0);
        writer.option(self.incarnation, Writer::u128);
        writer.into_bytes()
    }

    /// The identity, or the version of the format if it is not this one.
    fn read(bytes: &[u8]) -> Result<Result<Self, u64>, Damaged> {
        let mut reader = Reader::new(bytes);
        let format = reader.u64()?;
        if format != FORMAT {
            return Ok(Err(format));
        }
        let identity = Self {
            cluster: reader.str()?,
            node: reader.u64()?,
            disk: DiskId(reader.u128()?),
            incarnation: reader.option(Reader::u128)?,
        };
        reader.end()?;
        Ok(Ok(identity))
    }
}

/// The disk of one node. Closing it makes every later use an error.
#[derive(Debug)]
pub(crate) struct Disk {
    database: RwLock<Option<Database>>,
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES_MAX);
    builder
}

fn damaged(cause: Damaged) -> redb::Error {
    redb::Error::Corrupted(cause.to_string())
}

/// Lets other tasks go on elsewhere while this one waits for the disk, where there is an elsewhere.
fn blocking<R>(work: impl FnOnce() -> R) -> R {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

fn write_identity(database: &Database, identity: &Identity) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction
        .open_table(META)?
        .insert(IDENTITY, identity.write().as_slice())?;
    transaction.open_table(LOG)?;
    transaction.open_table(SNAPSHOT)?;
    Ok(transaction.commit()?)
}

fn read_meta(database: &impl ReadableDatabase, key: &str) -> Result<Option<Vec<u8>>, redb::Error> {
    let table = database.begin_read()?.open_table(META)?;
    Ok(table.get(key)?.map(|value| value.value().to_vec()))
}

/// Makes the file of a new disk: whole, or not at all.
fn create(dir: &Path, identity: &Identity) -> Result<(), redb::Error> {
    fs::create_dir_all(dir)?;
    let making = dir.join(format!("{FILE}.new"));
    if making.exists() {
        fs::remove_file(&making)?;
    }
    let mut database = builder().create(&making)?;
    write_identity(&database, identity)?;
    // Shrinks the file to what it needs, before anybody relies on it.
    database
        .compact()
        .map_err(|error| redb::Error::Corrupted(error.to_string()))?;
    drop(database);
    fs::rename(&making, dir.join(FILE))?;
    Ok(File::open(dir)?.sync_all()?)
}

impl Disk {
    /// Opens the disk in a directory, or makes a new one there for `fresh`. Refuses another's.
    pub(crate) fn open(dir: &Path, fresh: &Identity) -> Result<(Self, Identity), StartError> {
        let shown = dir.display().to_string();
        let failed = |error: redb::Error| StartError::Disk {
            dir: shown.clone(),
            cause: error.to_string(),
        };
        let path = dir.join(FILE);
        if !path.exists() {
            create(dir, fresh).map_err(failed)?;
        }
        if let Ok(database) = builder().open_read_only(&path) {
            // Opening it for writing leaves marks: another's file is not to have them. After a crash, or while it is
            // in use, this does not succeed; then the check below has to do.
            let bytes = read_meta(&database, IDENTITY).map_err(failed)?;
            Self::check(&shown, bytes.as_deref(), fresh)?;
        }
        let database = builder()
            .open(&path)
            .map_err(|error| failed(error.into()))?;
        let bytes = read_meta(&database, IDENTITY).map_err(failed)?;
        let identity = Self::check(&shown, bytes.as_deref(), fresh)?;
        Ok((
            Self {
                database: RwLock::new(Some(database)),
            },
            identity,
        ))
    }

    /// The same over any storage: new if it is empty.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn over(
        storage: impl redb::StorageBackend,
        fresh: &Identity,
    ) -> Result<(Self, Identity), StartError> {
        let shown = "memory".to_owned();
        let failed = |error: redb::Error| StartError::Disk {
            dir: shown.clone(),
            cause: error.to_string(),
        };
        let is_new = storage.len().map_err(|error| failed(error.into()))? == 0;
        let database = builder()
            .create_with_backend(storage)
            .map_err(|error| failed(error.into()))?;
        if is_new || read_meta(&database, IDENTITY).is_err() {
            write_identity(&database, fresh).map_err(failed)?;
        }
        let bytes = read_meta(&database, IDENTITY).map_err(failed)?;
        let identity = Self::check(&shown, bytes.as_deref(), fresh)?;
        Ok((
            Self {
                database: RwLock::new(Some(database)),
            },
            identity,
        ))
    }

    fn check(dir: &str, bytes: Option<&[u8]>, wanted: &Identity) -> Result<Identity, StartError> {
        let disk = |cause: String| StartError::Disk {
            dir: dir.to_owned(),
            cause,
        };
        let bytes =
            bytes.ok_or_else(|| disk(format!("{FILE} says of no node that it is its own")))?;
        let found = match Identity::read(bytes).map_err(|error| disk(error.to_string()))? {
            Ok(identity) => identity,
            Err(found) => {
                return Err(StartError::Format {
                    dir: dir.to_owned(),
                    found,
                    known: FORMAT,
                });
            }
        };
        if (&found.cluster, found.node) != (&wanted.cluster, wanted.node) {
            let name = |identity: &Identity| {
                format!("node {} of cluster `{}`", identity.node, identity.cluster)
            };
            return Err(StartError::Foreign {
                dir: dir.to_owned(),
                found: name(&found),
                wanted: name(wanted),
            });
        }
        Ok(found)
    }

    /// Lets go of the file. What is under way ends first. When it returns, to whomever, the file is free.
    pub(crate) fn close(&self) {
        blocking(|| {
            let mut database = self
                .database
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            // Under the lock: another that closes it waits until it is closed.
            drop(database.take());
        });
    }

    fn with<R>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Database) -> Result<R, redb::Error>,
    ) -> Result<R, DiskError> {
        let guard = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let Some(database) = guard.as_ref() else {
            return Err(DiskError {
                doing,
                cause: "the disk is closed".to_owned(),
            });
        };
        work(database).map_err(|error| DiskError {
            doing,
            cause: error.to_string(),
        })
    }

    fn write_meta(&self, doing: &'static str, key: &str, value: &[u8]) -> Result<(), DiskError> {
        self.with(doing, |database| {
            blocking(|| {
                let transaction = database.begin_write()?;
                transaction.open_table(META)?.insert(key, value)?;
                Ok(transaction.commit()?)
            })
        })
    }

    pub(crate) fn save_identity(&self, identity: &Identity) -> Result<(), DiskError> {
        self.write_meta("write who this disk is", IDENTITY, &identity.write())
    }

    pub(crate) fn save_vote(&self, vote: &Vote) -> Result<(), DiskError> {
        let mut writer = Writer::default();
        wire::put_vote(&mut writer, vote);
        self.write_meta("write the vote", VOTE, &writer.into_bytes())
    }

    pub(crate) fn vote(&self) -> Result<Option<Vote>, DiskError> {
        self.with("read the vote", |database| {
            let bytes = read_meta(database, VOTE)?;
            bytes
                .map(|bytes| wire::get_vote(&mut Reader::new(&bytes)).map_err(damaged))
                .transpose()
        })
    }

    /// The last purged log id, and the last one in the log.
    pub(crate) fn log_ends(&self) -> Result<(Option<LogId>, Option<LogId>), DiskError> {
        self.with("read the log", |database| {
            let purged = read_meta(database, PURGED)?;
            let purged = purged
                .map(|bytes| wire::get_log_id(&mut Reader::new(&bytes)).map_err(damaged))
                .transpose()?;
            let table = database.begin_read()?.open_table(LOG)?;
            let last = match table.last()? {
                Some((_, entry)) => Some(wire::read_entry(entry.value()).map_err(damaged)?.log_id),
                None => None,
            };
            Ok((purged, last))
        })
    }

    /// Appends entries in one transaction.
    pub(crate) fn append(&self, entries: impl Iterator<Item = Entry>) -> Result<(), DiskError> {
        self.with("write the log", |database| {
            blocking(|| {
                let transaction = database.begin_write()?;
                {
                    let mut table = transaction.open_table(LOG)?;
                    for entry in entries {
                        table.insert(entry.log_id.index, wire::write_entry(&entry).as_slice())?;
                    }
                }
                Ok(transaction.commit()?)
            })
        })
    }

    /// Entries of a range, from its start, as many as have `bytes_max` bytes together, but at least one if any.
    pub(crate) fn entries(
        &self,
        range: impl std::ops::RangeBounds<u64>,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, DiskError> {
        self.with("read the log", |database| {
            let table = database.begin_read()?.open_table(LOG)?;
            let (mut entries, mut bytes) = (Vec::new(), 0);
            for row in table.range(range)? {
                let (_, value) = row?;
                bytes += value.value().len();
                if bytes > bytes_max && !entries.is_empty() {
                    break;
                }
                entries.push(wire::read_entry(value.value()).map_err(damaged)?);
            }
            Ok(entries)
        })
    }

    /// Drops all entries from an index on.
    pub(crate) fn truncate(&self, from: u64) -> Result<(), DiskError> {
        self.with("cut the log's end", |database| {
            blocking(|| {
                let transaction = database.begin_write()?;
                drop_range(&mut transaction.open_table(LOG)?, from..)?;
                Ok(transaction.commit()?)
            })
        })
    }

    /// Drops all entries up to an id, and remembers it.
    pub(crate) fn purge(&self, upto: &LogId) -> Result<(), DiskError> {
        let mut writer = Writer::default();
        wire::put_log_id(&mut writer, upto);
        self.with("cut the log's start", |database| {
            blocking(|| {
                let transaction = database.begin_write()?;
                transaction
                    .open_table(META)?
                    .insert(PURGED, writer.into_bytes().as_slice())?;
                drop_range(&mut transaction.open_table(LOG)?, ..=upto.index)?;
                Ok(transaction.commit()?)
            })
        })
    }

    /// Replaces the snapshot, unless the one that is there is as new. Says whether it did.
    pub(crate) fn save_snapshot(
        &self,
        meta: &SnapshotMeta,
        data: &[u8],
    ) -> Result<bool, DiskError> {
        self.with("write a snapshot", |database| {
            blocking(|| {
                let transaction = database.begin_write()?;
                {
                    let mut table = transaction.open_table(SNAPSHOT)?;
                    let old = snapshot_meta(&table)?;
                    if old.is_some_and(|old| old.last_log_id >= meta.last_log_id) {
                        return Ok(false);
                    }
                    table.insert(SNAPSHOT_META, wire::encode(meta).as_slice())?;
                    table.insert(SNAPSHOT_DATA, data)?;
                }
                transaction.commit()?;
                Ok(true)
            })
        })
    }

    pub(crate) fn snapshot(&self) -> Result<Option<(SnapshotMeta, Vec<u8>)>, DiskError> {
        self.with("read the snapshot", |database| {
            let table = database.begin_read()?.open_table(SNAPSHOT)?;
            let (meta, data) = (snapshot_meta(&table)?, table.get(SNAPSHOT_DATA)?);
            Ok(meta.zip(data.map(|data| data.value().to_vec())))
        })
    }
}

fn drop_range(
    table: &mut Table<'_, u64, &[u8]>,
    range: impl std::ops::RangeBounds<u64>,
) -> Result<(), redb::Error> {
    Ok(table.retain_in(range, |_, _| false)?)
}

fn snapshot_meta(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
) -> Result<Option<SnapshotMeta>, redb::Error> {
    let bytes = table.get(SNAPSHOT_META)?;
    bytes
        .map(|bytes| wire::decode(bytes.value()).map_err(damaged))
        .transpose()
}
