//! A disk in memory that can be killed, filled up and broken.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rand::{Rng, SeedableRng, rngs::StdRng};

/// A disk: what survives a power loss, and what only the running system sees.
#[derive(Debug, Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    durable: Vec<u8>,
    current: Vec<u8>,
    unsynced: Vec<(usize, Vec<u8>)>,
    /// Storage opened before the last kill is dead.
    life: u64,
    /// Writes that grow the disk over this fail.
    bytes_max: usize,
    is_broken: bool,
    #[cfg(test)]
    syncs: u64,
    random: StdRng,
}

impl SimDisk {
    /// An empty one. Which writes a loss of power leaves is drawn from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            durable: Vec::new(),
            current: Vec::new(),
            unsynced: Vec::new(),
            life: 0,
            bytes_max: usize::MAX,
            is_broken: false,
            #[cfg(test)]
            syncs: 0,
            random: StdRng::seed_from_u64(seed),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn open(&self) -> SimStorage {
        SimStorage {
            life: self.lock().life,
            disk: self.clone(),
        }
    }

    /// The process dies: what it has written is there, synced or not.
    pub fn let_go(&self) {
        self.lock().life += 1;
    }

    /// Pulls the plug: of what was written since the last sync, any part may be on the disk.
    pub fn kill(&self) {
        let state = &mut *self.lock();
        state.life += 1;
        for (offset, bytes) in std::mem::take(&mut state.unsynced) {
            if state.random.random_bool(0.5) {
                put(&mut state.durable, offset, &bytes);
            }
        }
        state.current = state.durable.clone();
    }

    /// No more room than there is now.
    #[cfg(test)]
    pub(crate) fn fill(&self) {
        let mut state = self.lock();
        state.bytes_max = state.current.len();
    }

    #[cfg(test)]
    pub(crate) fn set_broken(&self, is_broken: bool) {
        self.lock().is_broken = is_broken;
    }

    #[cfg(test)]
    pub(crate) fn make_room(&self) {
        self.lock().bytes_max = usize::MAX;
    }

    #[cfg(test)]
    pub(crate) fn syncs(&self) -> u64 {
        self.lock().syncs
    }
}

fn put(image: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if image.len() < end {
        image.resize(end, 0);
    }
    image[offset..end].copy_from_slice(bytes);
}

/// The disk as redb uses it.
#[derive(Debug)]
pub(crate) struct SimStorage {
    disk: SimDisk,
    life: u64,
}

impl SimStorage {
    fn with<R>(&self, work: impl FnOnce(&mut State) -> io::Result<R>) -> io::Result<R> {
        let mut state = self.disk.lock();
        if state.life != self.life {
            return Err(io::Error::other("the machine is off"));
        }
        work(&mut state)
    }
}

fn full() -> io::Error {
    io::Error::new(io::ErrorKind::StorageFull, "no space left on device")
}

impl redb::StorageBackend for SimStorage {
    fn len(&self) -> io::Result<u64> {
        self.with(|state| Ok(state.current.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.with(|state| {
            let offset = offset as usize;
            out.copy_from_slice(&state.current[offset..offset + out.len()]);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(|state| {
            let len = len as usize;
            if len > state.bytes_max {
                return Err(full());
            }
            state.current.resize(len, 0);
            state.durable.resize(len, 0);
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|state| {
            if state.is_broken {
                return Err(io::Error::other("input/output error"));
            }
            #[cfg(test)]
            {
                state.syncs += 1;
            }
            for (offset, bytes) in std::mem::take(&mut state.unsynced) {
                put(&mut state.durable, offset, &bytes);
            }
            Ok(())
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.with(|state| {
            let offset = offset as usize;
            if offset + data.len() > state.bytes_max {
                return Err(full());
            }
            put(&mut state.current, offset, data);
            state.unsynced.push((offset, data.to_vec()));
            Ok(())
        })
    }
}
