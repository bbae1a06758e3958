//! Requests to the state service on behalf of jobs, in flight beside the event loop. Each ends in
//! an event for its job; a panic inside the store ends in one too.

use std::{panic::AssertUnwindSafe, sync::Arc};

use coordinator::{Effect, Event};
use futures::{FutureExt as _, future::BoxFuture};
use proto::types::{Generation, JobId};
use state_client::{Begun, Incarnation, StateControl, StateError};
use tokio::task::JoinSet;
use tracing::Instrument as _;

/// Requests in flight.
pub(super) struct StateRequests {
    store: Arc<dyn StateControl>,
    in_flight: JoinSet<Option<(JobId, Event)>>,
}

impl StateRequests {
    pub(super) fn new(store: Arc<dyn StateControl>) -> Self {
        StateRequests {
            store,
            in_flight: JoinSet::new(),
        }
    }

    /// Starts the request of an effect, in the current span; other effects are not for the store.
    pub(super) fn start(&mut self, job: JobId, effect: &Effect) {
        let who = |generation: Generation| Incarnation { job, generation };
        let request: BoxFuture<'static, Result<Option<Event>, StateError>> = match effect.clone() {
            Effect::BeginGeneration { generation } => {
                let reply = self.store.begin(who(generation));
                let event = move |begun: Begun| Event::StateBegun {
                    generation,
                    restored: begun.restored,
                    first: begun.first,
                };
                reply.map(move |reply| reply.map(event).map(Some)).boxed()
            }
            Effect::Commit {
                generation,
                epoch,
                objects,
            } => {
                let reply = self.store.commit(who(generation), epoch, objects);
                let event = Event::EpochCommitted { generation, epoch };
                reply.map(move |reply| reply.map(|()| Some(event))).boxed()
            }
            Effect::RecordPublished {
                generation,
                sink,
                epoch,
            } => {
                let reply = self.store.published(who(generation), sink, epoch);
                reply.map(|reply| reply.map(|()| None)).boxed()
            }
            Effect::DropState => {
                let reply = self.store.drop_job(job);
                reply.map(|reply| reply.map(|()| None)).boxed()
            }
            _ => return,
        };
        let generation = answered_generation(effect);
        let request = AssertUnwindSafe(request).catch_unwind();
        let answer = async move {
            let (error, retryable) = match request.await {
                Ok(Ok(event)) => return event.map(|event| (job, event)),
                Ok(Err(error)) => (error.to_string(), error.is_retryable()),
                Err(_) => ("the state store panicked".to_owned(), false),
            };
            let Some(generation) = generation else {
                // What is left over costs memory only.
                tracing::warn!(%job, error, "failed to tidy up state");
                return None;
            };
            let event = Event::StateFailed {
                generation,
                error,
                retryable,
            };
            Some((job, event))
        };
        self.in_flight.spawn(answer.in_current_span());
    }

    /// The next answer; pending while nothing is in flight.
    pub(super) async fn next(&mut self) -> Option<(JobId, Event)> {
        match self.in_flight.join_next().await {
            Some(answer) => answer.ok().flatten(),
            None => std::future::pending().await,
        }
    }
}

/// The generation that waits for the answer; `None` where nobody does.
fn answered_generation(effect: &Effect) -> Option<Generation> {
    match effect {
        Effect::BeginGeneration { generation } | Effect::Commit { generation, .. } => {
            Some(*generation)
        }
        _ => None,
    }
}
