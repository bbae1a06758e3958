//! The metadata, asked until it answers. What may have happened is asked for again under the same
//! number, so that in the end its fate is known; only the end of this process's leadership ends it.

use std::{sync::Arc, time::Duration};

use coordinator::meta::{Answer, Change, Command, MetaState};
use futures::{FutureExt as _, future::BoxFuture};
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use rpc::RetryPolicy;
use tokio::time::timeout;

use crate::{
    caps::{METADATA_ATTEMPT, METADATA_PAUSE, METADATA_PAUSE_MAX},
    metadata::{Metadata, MetadataError, look},
};

/// The pauses grow; the number of attempts ends with the leadership.
const RETRY: RetryPolicy = RetryPolicy {
    attempts: u32::MAX,
    pause_min: METADATA_PAUSE,
    pause_max: METADATA_PAUSE_MAX,
};

pub(super) struct PatientMetadata {
    metadata: Arc<dyn Metadata>,
    random: SmallRng,
}

impl PatientMetadata {
    /// Two processes, or two leaderships of one, must not have the same seed.
    pub(super) fn new(metadata: Arc<dyn Metadata>, seed: u64) -> Self {
        PatientMetadata {
            metadata,
            random: SmallRng::seed_from_u64(seed),
        }
    }

    /// A number at random.
    pub(super) fn draw(&mut self) -> u64 {
        self.random.random()
    }

    /// A number between half of a time and all of it.
    pub(super) fn jitter(&mut self, time: Duration) -> Duration {
        time.mul_f64(self.random.random_range(0.5..=1.0))
    }

    /// Makes a change, or hears why it cannot be. An error ends the leadership.
    pub(super) fn propose(
        &mut self,
        change: Change,
    ) -> BoxFuture<'static, Result<Answer, MetadataError>> {
        let command = Command {
            request: self.random.random(),
            change,
        };
        let metadata = self.metadata.clone();
        until_answered(self.random.random(), move || {
            metadata.propose(command.clone())
        })
    }

    /// Looks at the state. An error ends the leadership.
    pub(super) fn look<T: Send + 'static>(
        &mut self,
        see: impl Fn(&MetaState) -> T + Clone + Send + Sync + 'static,
    ) -> BoxFuture<'static, Result<T, MetadataError>> {
        let metadata = self.metadata.clone();
        until_answered(self.random.random(), move || {
            let (metadata, see) = (metadata.clone(), see.clone());
            async move { look(&*metadata, see).await }.boxed()
        })
    }
}

fn until_answered<T: Send + 'static>(
    seed: u64,
    mut attempt: impl FnMut() -> BoxFuture<'static, Result<T, MetadataError>> + Send + 'static,
) -> BoxFuture<'static, Result<T, MetadataError>> {
    async move {
        let mut pauses = RETRY.backoff(seed);
        loop {
            let why = match timeout(METADATA_ATTEMPT, attempt()).await {
                Ok(Err(MetadataError::Unavailable { why, .. })) => why,
                Ok(answer) => return answer,
                Err(_) => "it takes too long".to_owned(),
            };
            tracing::warn!(why, "metadata is unavailable, trying again");
            let Some(pause) = pauses.next() else {
                let indeterminate = true;
                return Err(MetadataError::Unavailable { why, indeterminate });
            };
            tokio::time::sleep(pause).await;
        }
    }
    .boxed()
}
