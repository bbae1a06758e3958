//! Metadata of one process that needs to be remembered no longer than it lives.

use std::sync::{Arc, Mutex, PoisonError};

use coordinator::meta::{Answer, Command, MetaState};
use futures::{FutureExt as _, future::BoxFuture};

use super::{Look, Metadata, MetadataError};

/// Metadata in memory.
#[derive(Clone, Debug, Default)]
pub struct LocalMetadata {
    state: Arc<Mutex<MetaState>>,
}

impl Metadata for LocalMetadata {
    fn propose(&self, command: Command) -> BoxFuture<'static, Result<Answer, MetadataError>> {
        let state = Arc::clone(&self.state);
        async move {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(state.apply(command))
        }
        .boxed()
    }

    fn read(&self, look: Look) -> BoxFuture<'static, Result<(), MetadataError>> {
        let state = Arc::clone(&self.state);
        async move {
            look(&state.lock().unwrap_or_else(PoisonError::into_inner));
            Ok(())
        }
        .boxed()
    }
}
