//! Writes committed output to the outside: one loop per sink, epoch by epoch, oldest first.
//!
//! What is owed is read from the state store, so a publisher that starts after a crash goes on
//! where the last one stopped, and may repeat its last step: publishers are idempotent.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use engine::sink::{EpochOutput, Publisher, SinkError};
use proto::types::{Epoch, SinkId};
use state_client::{CommittedOutput, Incarnation, StateError, StateStore};
use tokio::sync::watch;

use crate::caps::{PUBLISH_ATTEMPTS_MAX, PUBLISH_BACKOFF_MS};

/// Why a publisher gave up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Sink(#[from] SinkError),
}

/// One sink's publisher.
pub(crate) struct PublishLoop {
    pub(crate) who: Incarnation,
    pub(crate) sink: SinkId,
    pub(crate) publisher: Box<dyn Publisher>,
    pub(crate) store: Arc<dyn StateStore>,
    /// Newest committed epoch.
    pub(crate) committed: watch::Receiver<Epoch>,
    /// Called with every epoch whose output is outside.
    pub(crate) published: Box<dyn FnMut(Epoch) + Send>,
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

    async fn publish_up_to(&mut self, done: Epoch, to: Epoch) -> Result<Epoch, PublishError> {
        let owed = self
            .store
            .committed_output(self.who, self.sink, done)
            .await?;
        for output in by_slot(owed.into_iter().filter(|output| output.epoch <= to)) {
            self.publish(output).await?;
        }
        Ok(to)
    }

    async fn publish(&mut self, output: EpochOutput) -> Result<(), PublishError> {
        let mut attempt = 0;
        loop {
            match self.publisher.publish(output.clone()).await {
                Ok(()) => return Ok(()),
                Err(error @ SinkError::Io { .. }) if attempt < PUBLISH_ATTEMPTS_MAX => {
                    let pause = PUBLISH_BACKOFF_MS << attempt;
                    tracing::warn!(%error, attempt, "publishing failed, trying again");
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                    attempt += 1;
                }
                Err(error) => return Err(error.into()),
            }
        }
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
