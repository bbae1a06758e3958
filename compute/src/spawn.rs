//! Lets the engine, which knows no runtime, put work on the worker's.

use futures::task::{FutureObj, Spawn, SpawnError};
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
