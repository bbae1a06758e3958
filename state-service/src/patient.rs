//! A store whose node may be out of reach for a while: what is worth another try is tried again.
//!
//! As `remote-store` does it for nodes of other processes: staging goes on for as long as it takes,
//! since a job whose object store is down falls behind and does not fail; reads end after a while.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use proto::log::LogObject;
use state_client::{
    CommittedOutput, EpochDelta, Incarnation, OutputRequest, ReadReply, ReadRequest, ScanReply,
    ScanRequest, StateError, StateStore,
};
use tokio::time::Instant;

use crate::caps::{PATIENT_PAUSES, READ_PATIENCE};

/// A store that tries again what another store could not do at the moment.
#[derive(Clone)]
pub struct PatientStore<S> {
    store: S,
    seed: Arc<AtomicU64>,
}

impl<S: StateStore + Clone> PatientStore<S> {
    /// `seed` varies the pauses.
    #[must_use]
    pub fn new(store: S, seed: u64) -> Self {
        PatientStore {
            store,
            seed: Arc::new(seed.into()),
        }
    }

    fn retried<T: Send + 'static>(
        &self,
        patience: Option<Duration>,
        attempt: impl Fn(&S) -> BoxFuture<'static, Result<T, StateError>> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StateError>>
    where
        S: 'static,
    {
        let store = self.store.clone();
        let seed = self.seed.fetch_add(1, Ordering::Relaxed);
        async move {
            let deadline = patience.map(|patience| Instant::now() + patience);
            let mut pauses = PATIENT_PAUSES.backoff(seed);
            loop {
                let error = match attempt(&store).await {
                    Err(error) if error.is_retryable() => error,
                    answer => return answer,
                };
                let in_time = |pause: &Duration| {
                    deadline.is_none_or(|deadline| Instant::now() + *pause <= deadline)
                };
                match pauses.next().filter(in_time) {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => return Err(error),
                }
            }
        }
        .boxed()
    }
}

impl<S: StateStore + Clone + 'static> StateStore for PatientStore<S> {
    fn read(
        &self,
        who: Incarnation,
        request: ReadRequest,
    ) -> BoxFuture<'static, Result<ReadReply, StateError>> {
        self.retried(Some(READ_PATIENCE), move |store| {
            store.read(who, request.clone())
        })
    }

    fn scan(
        &self,
        who: Incarnation,
        request: ScanRequest,
    ) -> BoxFuture<'static, Result<ScanReply, StateError>> {
        self.retried(Some(READ_PATIENCE), move |store| {
            store.scan(who, request.clone())
        })
    }

    fn stage(
        &self,
        who: Incarnation,
        delta: EpochDelta,
    ) -> BoxFuture<'static, Result<Vec<LogObject>, StateError>> {
        // Rows are shared, not copied, by clones of a delta.
        self.retried(None, move |store| store.stage(who, delta.clone()))
    }

    fn committed_output(
        &self,
        who: Incarnation,
        request: OutputRequest,
    ) -> BoxFuture<'static, Result<Vec<CommittedOutput>, StateError>> {
        self.retried(None, move |store| store.committed_output(who, request))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use proto::types::{Epoch, Generation, JobId, SinkId, TaskId};

    use super::*;

    const WHO: Incarnation = Incarnation {
        job: JobId(1),
        generation: Generation(1),
    };

    /// Out of reach for so many requests, then of another opinion.
    #[derive(Clone)]
    struct Away {
        left: Arc<AtomicU32>,
        then: Option<StateError>,
    }

    impl Away {
        fn answer<T: Send + 'static>(&self, value: T) -> BoxFuture<'static, Result<T, StateError>> {
            let less = |left: u32| left.checked_sub(1);
            let away = self
                .left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
            let then = self.then.clone();
            async move {
                match (away, then) {
                    (Ok(_), _) => Err(StateError::Unavailable("away".to_owned())),
                    (Err(_), Some(error)) => Err(error),
                    (Err(_), None) => Ok(value),
                }
            }
            .boxed()
        }
    }

    impl StateStore for Away {
        fn read(
            &self,
            _: Incarnation,
            _: ReadRequest,
        ) -> BoxFuture<'static, Result<ReadReply, StateError>> {
            self.answer(ReadReply { rows: Vec::new() })
        }

        fn scan(
            &self,
            who: Incarnation,
            _: ScanRequest,
        ) -> BoxFuture<'static, Result<ScanReply, StateError>> {
            self.answer(())
                .map(move |_| Err(StateError::UnknownJob(who.job)))
                .boxed()
        }

        fn stage(
            &self,
            _: Incarnation,
            _: EpochDelta,
        ) -> BoxFuture<'static, Result<Vec<LogObject>, StateError>> {
            self.answer(Vec::new())
        }

        fn committed_output(
            &self,
            _: Incarnation,
            _: OutputRequest,
        ) -> BoxFuture<'static, Result<Vec<CommittedOutput>, StateError>> {
            self.answer(Vec::new())
        }
    }

    fn away(left: u32, then: Option<StateError>) -> PatientStore<Away> {
        let left = Arc::new(AtomicU32::new(left));
        PatientStore::new(Away { left, then }, 7)
    }

    #[tokio::test(start_paused = true)]
    async fn staging_and_output_outlast_an_outage_and_reads_end_after_a_while() {
        let delta = || EpochDelta {
            epoch: Epoch(1),
            task: TaskId(0),
            tasks: 1,
            sections: Vec::new(),
        };
        let request = ReadRequest {
            min_epoch: Epoch(0),
            keys: Vec::new(),
        };
        // An hour.
        assert!(away(2400, None).stage(WHO, delta()).await.is_ok());
        let output = OutputRequest {
            sink: SinkId(0),
            after: Epoch(0),
            up_to: Epoch(1),
            bytes_max: 1,
        };
        assert!(away(2400, None).committed_output(WHO, output).await.is_ok());
        assert!(away(10, None).read(WHO, request.clone()).await.is_ok());
        let begun = Instant::now();
        let answer = away(2400, None).read(WHO, request).await;
        assert!(matches!(answer, Err(StateError::Unavailable(_))));
        assert!(begun.elapsed() <= READ_PATIENCE);
        // What no other try would change is said at once.
        let fenced = StateError::Fenced {
            job: WHO.job,
            caller: WHO.generation,
            current: Generation(2),
        };
        let answer = away(1, Some(fenced.clone())).stage(WHO, delta()).await;
        assert_eq!(answer, Err(fenced));
    }
}
