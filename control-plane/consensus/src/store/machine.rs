//! The machine in memory with what openraft must know of it, and its snapshots on the disk.
//!
//! The lock around the machine is held while one batch of entries is applied, a snapshot is taken or a reader looks;
//! never across an await.

#![allow(
    clippy::result_large_err,
    reason = "the error is openraft's, and so are the signatures"
)]

use std::{
    io::Cursor,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use openraft::{
    AnyError, EntryPayload, RaftSnapshotBuilder, StorageIOError, storage::RaftStateMachine,
};
use tokio::sync::watch;

use super::{Disk, DiskError, Roster};
use crate::{
    Applied, Machine,
    types::{Entry, LogId, Snapshot, SnapshotMeta, StorageError, StoredMembership, Types},
    wire::{Damaged, Reader, Writer},
};

/// Raised whenever the bytes around the machine's own snapshot change their meaning.
const SNAPSHOT_FORMAT: u8 = 1;

/// The machine, shared with its readers.
#[derive(Debug)]
pub(crate) struct Shared<M> {
    state: Mutex<State<M>>,
    /// Beside the state, so that requests of other nodes do not wait for the machine.
    roster: Mutex<Arc<Roster>>,
    /// How many commands were applied, and up to which index of the log.
    applied: watch::Sender<u64>,
    applied_log: watch::Sender<u64>,
    /// Bytes of commands applied since the last snapshot.
    bytes: AtomicU64,
}

#[derive(Debug)]
struct State<M> {
    machine: M,
    /// How many commands were applied: the number of the last.
    commands: u64,
    last_applied: Option<LogId>,
    membership: StoredMembership,
}

/// A machine panicked in mid-change, so its state is worth nothing.
#[derive(Debug, thiserror::Error)]
#[error("the state machine panicked")]
struct Panicked;

#[derive(Debug, thiserror::Error)]
#[error("the snapshot cannot be restored: {0}")]
struct Unrestorable(String);

impl<M: Machine> State<M> {
    fn run(&mut self, commands: &[Vec<u8>]) -> Vec<Applied> {
        let run = |command: &Vec<u8>| {
            self.commands += 1;
            let response = self.machine.apply(self.commands, command);
            Applied {
                index: self.commands,
                response,
            }
        };
        commands.iter().map(run).collect()
    }
}

impl<M: Machine> Shared<M> {
    pub(crate) fn with<R>(&self, look: impl FnOnce(&M) -> R) -> R {
        look(
            &self
                .state
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .machine,
        )
    }

    pub(crate) fn roster(&self) -> Arc<Roster> {
        Arc::clone(&self.roster.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    pub(crate) fn applied_log(&self) -> watch::Receiver<u64> {
        self.applied_log.subscribe()
    }

    /// Bytes of commands applied since the last snapshot.
    pub(crate) fn bytes_since_snapshot(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn state(&self) -> Result<MutexGuard<'_, State<M>>, StorageError> {
        let panicked = |_| StorageIOError::write_state_machine(AnyError::new(&Panicked));
        Ok(self.state.lock().map_err(panicked)?)
    }

    fn set_roster(&self, roster: Roster) {
        *self.roster.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(roster);
    }

    fn learn(&self, membership: &StoredMembership) {
        let mut roster = (*self.roster()).clone();
        roster.learn(membership.membership());
        self.set_roster(roster);
    }

    /// Lets those who wait look. The log's index comes last: whoever waits for it may read the number.
    fn announce(&self, state: &State<M>) {
        self.applied.send_replace(state.commands);
        let index = state.last_applied.map_or(0, |id| id.index);
        self.applied_log.send_replace(index);
    }

    fn apply(&self, entry: Entry) -> Result<Vec<Applied>, StorageError> {
        let failed =
            |error: AnyError| StorageError::from(StorageIOError::apply(entry.log_id, error));
        let mut state = self.state()?;
        if state
            .last_applied
            .is_some_and(|last| last.index >= entry.log_id.index)
        {
            return Err(failed(AnyError::error("it was applied before")));
        }
        let responses = match entry.payload {
            EntryPayload::Blank => Vec::new(),
            EntryPayload::Normal(batch) => {
                let bytes: usize = batch.commands.iter().map(Vec::len).sum();
                self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
                // The node stops; the half-changed machine is never looked at as if it were whole.
                let apply = AssertUnwindSafe(|| state.run(&batch.commands));
                catch_unwind(apply).map_err(|_| failed(AnyError::new(&Panicked)))?
            }
            EntryPayload::Membership(membership) => {
                state.membership = StoredMembership::new(Some(entry.log_id), membership);
                self.learn(&state.membership);
                Vec::new()
            }
        };
        state.last_applied = Some(entry.log_id);
        self.announce(&state);
        Ok(responses)
    }

    fn restore(&self, meta: &SnapshotMeta, data: &[u8]) -> Result<(), StorageError> {
        let failed = |why: String| {
            let error = AnyError::new(&Unrestorable(why));
            StorageError::from(StorageIOError::read_snapshot(Some(meta.signature()), error))
        };
        let (commands, roster, machine) =
            open_snapshot(data).map_err(|error| failed(error.to_string()))?;
        {
            let mut state = self.state()?;
            state.machine.restore(machine).map_err(failed)?;
            state.commands = commands;
            state.last_applied = meta.last_log_id;
            state.membership = meta.last_membership.clone();
            self.bytes.store(0, Ordering::Relaxed);
            // Under the machine's lock, as in `apply`: a snapshot must find the two of the same index.
            self.set_roster(roster);
            self.announce(&state);
        }
        Ok(())
    }
}

fn seal_snapshot(commands: u64, roster: &Roster, machine: &[u8]) -> Vec<u8> {
    let mut writer = Writer::with_capacity(1024 + machine.len());
    writer.u8(SNAPSHOT_FORMAT);
    writer.u64(commands);
    roster.put(&mut writer);
    writer.rest(machine);
    writer.into_bytes()
}

fn open_snapshot(bytes: &[u8]) -> Result<(u64, Roster, &[u8]), Damaged> {
    let mut reader = Reader::new(bytes);
    if reader.u8()? != SNAPSHOT_FORMAT {
        return Err(Damaged("a snapshot of another version"));
    }
    Ok((reader.u64()?, Roster::get(&mut reader)?, reader.rest()))
}

/// The machine as openraft drives it.
#[derive(Debug)]
pub(crate) struct StateMachine<M> {
    shared: Arc<Shared<M>>,
    disk: Arc<Disk>,
    node: u64,
}

impl<M: Machine> StateMachine<M> {
    /// Takes a new machine, and brings it to the last snapshot on the disk.
    pub(crate) fn open(machine: M, disk: Arc<Disk>, node: u64) -> Result<Self, StorageError> {
        let membership = StoredMembership::default();
        let state = State {
            machine,
            commands: 0,
            last_applied: None,
            membership,
        };
        let shared = Shared {
            state: Mutex::new(state),
            roster: Mutex::default(),
            applied: watch::Sender::new(0),
            applied_log: watch::Sender::new(0),
            bytes: AtomicU64::new(0),
        };
        if let Some((meta, data)) = disk.snapshot().map_err(reading)? {
            shared.restore(&meta, &data)?;
        }
        Ok(Self {
            shared: Arc::new(shared),
            disk,
            node,
        })
    }

    pub(crate) fn shared(&self) -> Arc<Shared<M>> {
        Arc::clone(&self.shared)
    }
}

fn reading(error: DiskError) -> StorageError {
    StorageError::from(StorageIOError::read_snapshot(None, AnyError::new(&error)))
}

fn writing(error: DiskError) -> StorageError {
    StorageError::from(StorageIOError::write_snapshot(None, AnyError::new(&error)))
}

impl<M: Machine> RaftStateMachine<Types> for StateMachine<M> {
    type SnapshotBuilder = SnapshotBuilder<M>;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        let state = self.shared.state()?;
        Ok((state.last_applied, state.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Vec<Applied>>, StorageError>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        entries
            .into_iter()
            .map(|entry| self.shared.apply(entry))
            .collect()
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder<M> {
        SnapshotBuilder {
            shared: Arc::clone(&self.shared),
            disk: Arc::clone(&self.disk),
            node: self.node,
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError> {
        let data = snapshot.into_inner();
        // First into memory: a snapshot that this program cannot read must not become the one on the disk.
        self.shared.restore(meta, &data)?;
        self.disk.save_snapshot(meta, &data).map_err(writing)?;
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, StorageError> {
        current_snapshot(&self.disk)
    }
}

fn current_snapshot(disk: &Disk) -> Result<Option<Snapshot>, StorageError> {
    let found = disk.snapshot().map_err(reading)?;
    Ok(found.map(|(meta, data)| Snapshot {
        meta,
        snapshot: Box::new(Cursor::new(data)),
    }))
}

/// Takes a snapshot of the machine and writes it.
pub(crate) struct SnapshotBuilder<M> {
    shared: Arc<Shared<M>>,
    disk: Arc<Disk>,
    node: u64,
}

impl<M: Machine> RaftSnapshotBuilder<Types> for SnapshotBuilder<M> {
    async fn build_snapshot(&mut self) -> Result<Snapshot, StorageError> {
        let (meta, data) = {
            let state = self.shared.state()?;
            // Named after its builder: two nodes may write the same state as different bytes, and the pieces of one
            // must not be taken for those of the other.
            let name = state
                .last_applied
                .map_or_else(String::new, |id| id.to_string());
            let meta = SnapshotMeta {
                last_log_id: state.last_applied,
                last_membership: state.membership.clone(),
                snapshot_id: format!("{name}-by-{}", self.node),
            };
            self.shared.bytes.store(0, Ordering::Relaxed);
            (
                meta,
                seal_snapshot(
                    state.commands,
                    &self.shared.roster(),
                    &state.machine.snapshot(),
                ),
            )
        };
        if self.disk.save_snapshot(&meta, &data).map_err(writing)? {
            return Ok(Snapshot {
                meta,
                snapshot: Box::new(Cursor::new(data)),
            });
        }
        // One as new came from the leader meanwhile.
        let current = current_snapshot(&self.disk)?;
        Ok(current.unwrap_or(Snapshot {
            meta,
            snapshot: Box::new(Cursor::new(data)),
        }))
    }
}
