//! A worker's disk for scratch files: it is as slow as disks are, and at times it fails. Gone with its
//! process.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use engine::spill::{FileId, MemoryScratch, Piece, Scratch, ScratchError};
use futures::{FutureExt as _, future::BoxFuture};
use rand::{Rng as _, rngs::SmallRng};

/// One in so many reads and writes fails.
const FAILURE_PART: u32 = 200;
/// One in so many takes long.
const LONG_PART: u32 = 20;

/// The disk.
#[derive(Debug)]
pub struct SlowScratch {
    files: MemoryScratch,
    random: Mutex<SmallRng>,
}

impl SlowScratch {
    /// Room for so many files of this size.
    #[must_use]
    pub fn new(file_bytes: u64, files_max: usize, random: SmallRng) -> SlowScratch {
        SlowScratch {
            files: MemoryScratch::new(file_bytes, files_max),
            random: Mutex::new(random),
        }
    }

    /// Gives the outcome later, or an error in its place.
    fn delay<T: Send + 'static>(
        &self,
        done: BoxFuture<'static, Result<T, ScratchError>>,
    ) -> BoxFuture<'static, Result<T, ScratchError>> {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        let ms = match random.random_ratio(1, LONG_PART) {
            true => random.random_range(10..=300),
            false => random.random_range(0..=4),
        };
        let fails = random.random_ratio(1, FAILURE_PART);
        async move {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            match fails {
                true => Err(ScratchError("the disk has failed".to_owned())),
                false => done.await,
            }
        }
        .boxed()
    }
}

impl Scratch for SlowScratch {
    fn file_bytes(&self) -> u64 {
        self.files.file_bytes()
    }

    fn create(&self) -> Option<FileId> {
        self.files.create()
    }

    fn write(
        &self,
        file: FileId,
        at: u64,
        bytes: Bytes,
    ) -> BoxFuture<'static, Result<(), ScratchError>> {
        self.delay(self.files.write(file, at, bytes))
    }

    fn read(&self, pieces: Vec<Piece>) -> BoxFuture<'static, Result<Vec<Bytes>, ScratchError>> {
        self.delay(self.files.read(pieces))
    }

    fn remove(&self, file: FileId) {
        self.files.remove(file);
    }
}
