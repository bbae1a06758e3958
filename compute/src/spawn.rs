//! Lets the engine, which knows no runtime, put work on the worker's and wait on its timer.

use std::time::Duration;

use engine::clock::Timer;
use futures::{
    future::BoxFuture,
    task::{FutureObj, Spawn, SpawnError},
};
use tokio::runtime::Handle;

/// Spawns onto a tokio runtime.
#[derive(Clone, Debug)]
pub(crate) struct RuntimeSpawn(pub(crate) Handle);

impl Spawn for RuntimeSpawn {
    fn spawn_obj(&self, future: FutureObj<'static, ()>) -> Result<(), SpawnError> {
        self.0.spawn(future);
        Ok(())
    }
}

/// Waits on a tokio runtime.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RuntimeTimer;

impl Timer for RuntimeTimer {
    fn sleep(&self, ms: u64) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(Duration::from_millis(ms)))
    }
}
