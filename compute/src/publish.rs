//! Writes committed output to the outside: one loop per sink, epoch by epoch, oldest first.
//!
//! What is owed is read from the state store, so a publisher that starts after a crash goes on
//! where the last one stopped, and may repeat its last step: publishers are idempotent. A sink
//! that is down is tried again for as long as the job's patience lasts; meanwhile the job runs on
//! until it owes too much, and then its sources wait.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use engine::{
    flow::OutputBudget,
    sink::{EpochOutput, Publisher, SinkError},
};
use proto::{
    control::Retry,
    types::{Epoch, SinkId},
};
use state_client::{CommittedOutput, Incarnation, OutputRequest, StateError, StateStore};
use tokio::{sync::watch, time::Instant};

use crate::caps::{PUBLISH_BACKOFF_MS, PUBLISH_BACKOFF_MS_MAX, PUBLISH_BYTES_MAX};

/// Why a publisher gave up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error("table `{table}`: {source}")]
    Sink { table: String, source: SinkError },
}

impl PublishError {
    /// Whether a new generation may fare better.
    pub(crate) fn retry(&self) -> Retry {
        match self {
            PublishError::State(error) => engine::task::retry_of(error),
            // It was tried for as long as the user wanted, or cannot succeed.
            PublishError::Sink { .. } => Retry::Never,
        }
    }
}

/// One sink's publisher.
pub(crate) struct PublishLoop {
    pub(crate) who: Incarnation,
    pub(crate) sink: SinkId,
    /// Name of its table.
    pub(crate) table: String,
    pub(crate) publisher: Box<dyn Publisher>,
    pub(crate) store: Arc<dyn StateStore>,
    /// Newest committed epoch.
    pub(crate) committed: watch::Receiver<Epoch>,
    /// What the job owes.
    pub(crate) budget: OutputBudget,
    /// How long a sink may be down; `None`: for ever.
    pub(crate) patience: Option<Duration>,
    /// Called with every epoch whose output is outside.
    pub(crate) published: Box<dyn FnMut(Epoch) + Send>,
    /// Called when a sink that was well fails.
    pub(crate) troubled: Box<dyn FnMut(String) + Send>,
}

impl PublishLoop {
    /// Publishes until the job stops (the sender of commits goes away).
    pub(crate) async fn run(mut self) -> Result<(), PublishError> {
        let mut done = Epoch::ZERO;
        loop {
            let committed = *self.committed.borrow_and_update();
            if committed > done {
                done = self.publish_up_to(done, committed).await?;
                (self.published)(done);
            }
            if self.committed.changed().await.is_err() {
                return Ok(());
            }
        }
    }

    async fn publish_up_to(&mut self, mut done: Epoch, to: Epoch) -> Result<Epoch, PublishError> {
        loop {
            let request = OutputRequest {
                sink: self.sink,
                after: done,
                up_to: to,
                bytes_max: PUBLISH_BYTES_MAX,
            };
            let owed = self.store.committed_output(self.who, request).await?;
            let Some(last) = owed.last().map(|output| output.epoch) else {
                return Ok(to);
            };
            // What an older generation left is new to this one's account.
            let of_older = |output: &&CommittedOutput| output.generation != self.who.generation;
            let inherited = owed.iter().filter(of_older);
            let inherited: usize = inherited.map(|output| output.bytes.len()).sum();
            self.budget.owe(inherited as u64);
            for output in by_slot(owed.into_iter()) {
                let bytes: usize = output.pieces.iter().map(|piece| piece.len()).sum();
                self.publish(output).await?;
                self.budget.settle(bytes as u64);
            }
            done = last;
        }
    }

    async fn publish(&mut self, output: EpochOutput) -> Result<(), PublishError> {
        let started = Instant::now();
        let mut pause_ms = PUBLISH_BACKOFF_MS;
        loop {
            let error = match self.publisher.publish(output.clone()).await {
                Ok(()) => return Ok(()),
                Err(error @ SinkError::Io { .. }) if self.is_patient(started) => error,
                Err(source) => {
                    let table = self.table.clone();
                    return Err(PublishError::Sink { table, source });
                }
            };
            tracing::warn!(%error, "publishing failed, trying again");
            if pause_ms == PUBLISH_BACKOFF_MS {
                (self.troubled)(format!("table `{}`: {error}", self.table));
            }
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
            pause_ms = (pause_ms * 2).min(PUBLISH_BACKOFF_MS_MAX);
        }
    }

    fn is_patient(&self, started: Instant) -> bool {
        self.patience
            .is_none_or(|patience| started.elapsed() < patience)
    }
}

/// Pieces of several tasks become one output per (epoch, generation, slot), in that order.
fn by_slot(pieces: impl Iterator<Item = CommittedOutput>) -> Vec<EpochOutput> {
    let mut outputs: BTreeMap<_, EpochOutput> = BTreeMap::new();
    for piece in pieces {
        let key = (piece.epoch, piece.generation, piece.slot);
        let empty = EpochOutput {
            generation: piece.generation,
            epoch: piece.epoch,
            slot: piece.slot,
            pieces: Vec::new(),
        };
        outputs.entry(key).or_insert(empty).pieces.push(piece.bytes);
    }
    outputs.into_values().collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures::{FutureExt as _, future::BoxFuture};
    use proto::types::{Generation, JobId, KeyGroupCount, TaskId};
    use state_client::{Changes, Cut, EpochDelta, MemoryStore, StagedOutput, StateControl as _};

    use super::*;

    /// Fails so many times, then writes.
    struct Flaky {
        failures: usize,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Publisher for Flaky {
        fn publish(&mut self, output: EpochOutput) -> BoxFuture<'_, Result<(), SinkError>> {
            async move {
                if self.failures > 0 {
                    self.failures -= 1;
                    return Err(SinkError::Io {
                        what: "`out`".to_owned(),
                        cause: "no space left".to_owned(),
                    });
                }
                let mut written = self.written.lock().expect("not poisoned");
                output
                    .pieces
                    .iter()
                    .for_each(|piece| written.extend_from_slice(piece));
                Ok(())
            }
            .boxed()
        }
    }

    /// Publishes one epoch to a sink that fails so many times; what it wrote, its troubles, its end.
    async fn publish(
        failures: usize,
        patience: Option<Duration>,
    ) -> (Vec<u8>, Vec<String>, Result<(), String>) {
        let who = Incarnation {
            job: JobId(1),
            generation: Generation(1),
        };
        let store = MemoryStore::new(KeyGroupCount::DEFAULT);
        store.begin(who).await.expect("begun");
        let staged = StagedOutput {
            sink: SinkId(0),
            slot: 0,
            bytes: b"rows".to_vec().into(),
        };
        let cut = Cut {
            key_groups: KeyGroupCount::DEFAULT,
            shards: 4,
            tasks: 1,
        };
        let changes = Changes {
            staged: vec![staged],
            ..Changes::default()
        };
        let delta = EpochDelta::new(who, Epoch(16), TaskId(0), cut, changes);
        let objects = store.stage(who, delta).await.expect("staged");
        let committed = store.commit(who, Epoch(16), objects, 0).await;
        committed.expect("committed");
        let (written, troubles) = (Arc::<Mutex<Vec<u8>>>::default(), Arc::default());
        let publisher = Flaky {
            failures,
            written: Arc::clone(&written),
        };
        let (commits, committed) = watch::channel(Epoch(16));
        let heard = Arc::clone(&troubles);
        let publish = PublishLoop {
            who,
            sink: SinkId(0),
            table: "o".to_owned(),
            publisher: Box::new(publisher),
            store: Arc::new(store),
            committed,
            budget: OutputBudget::new(1),
            patience,
            published: Box::new(|_| {}),
            troubled: Box::new(move |error| {
                let heard: &Mutex<Vec<String>> = &heard;
                heard.lock().expect("not poisoned").push(error);
            }),
        };
        drop(commits);
        let result = publish.run().await.map_err(|error| error.to_string());
        let written = written.lock().expect("not poisoned").clone();
        let troubles = troubles.lock().expect("not poisoned").clone();
        (written, troubles, result)
    }

    #[tokio::test(start_paused = true)]
    async fn a_sink_that_is_down_for_an_hour_loses_nothing() {
        let (written, troubles, result) = publish(400, None).await;
        assert_eq!(result, Ok(()));
        assert_eq!(written, b"rows");
        assert_eq!(
            troubles,
            ["table `o`: failed to write `out`: no space left"]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends() {
        let (written, _, result) = publish(400, Some(Duration::from_secs(5))).await;
        assert!(written.is_empty());
        let error = "table `o`: failed to write `out`: no space left".to_owned();
        assert_eq!(result, Err(error));
    }
}
