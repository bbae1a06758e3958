//! A disk in memory that can be killed, filled up and broken.

use std::{
    io,
    sync::{Arc, Mutex},
};

use rand::{Rng, SeedableRng, rngs::StdRng};

/// A disk: what survives a power loss, and what only the running system sees.
#[derive(Debug, Clone)]
pub(crate) struct SimDisk(Arc<Mutex<State>>);

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
    syncs: u64,
    random: StdRng,
}

impl SimDisk {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            durable: Vec::new(),
            current: Vec::new(),
            unsynced: Vec::new(),
            life: 0,
            bytes_max: usize::MAX,
            is_broken: false,
            syncs: 0,
            random: StdRng::seed_from_u64(seed),
        })))
    }

    pub(crate) fn open(&self) -> SimStorage {
        SimStorage {
            life: self.0.lock().unwrap().life,
            disk: self.clone(),
        }
    }

    /// Pulls the plug: of what was written since the last sync, any part may be on the disk.
    pub(crate) fn kill(&self) {
        let state = &mut *self.0.lock().unwrap();
        state.life += 1;
        for (offset, bytes) in std::mem::take(&mut state.unsynced) {
            if state.random.random_bool(0.5) {
                put(&mut state.durable, offset, &bytes);
            }
        }
        state.current = state.durable.clone();
    }

    /// No more room than there is now.
    pub(crate) fn fill(&self) {
        let mut state = self.0.lock().unwrap();
        state.bytes_max = state.current.len();
    }

    pub(crate) fn set_broken(&self, is_broken: bool) {
        self.0.lock().unwrap().is_broken = is_broken;
    }

    pub(crate) fn make_room(&self) {
        self.0.lock().unwrap().bytes_max = usize::MAX;
    }

    pub(crate) fn syncs(&self) -> u64 {
        self.0.lock().unwrap().syncs
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
        let mut state = self.disk.0.lock().unwrap();
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
            state.syncs += 1;
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
