//! Takes the streams of other workers and hands each to the generation that waits for it.

use std::{fmt, sync::Arc, time::Duration};

use proto::types::{Generation, JobId, WorkerId};
use rpc::{
    exchange::{Open, ReceiverMessage, SenderMessage, exchange_server::Exchange, sender_message},
    to_status,
    tonic::{Request, Response, Status, Streaming, async_trait},
};
use state_client::Incarnation;
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::{Instant, timeout_at},
};
use tokio_stream::wrappers::ReceiverStream;

use super::{
    Expected, Links,
    error::Refusal,
    receive::Attached,
    registry::{Found, Registry},
};
use crate::caps::{EXCHANGE_CREDITS_WAITING_MAX, EXCHANGE_OPEN_WAIT, EXCHANGE_OPENS_WAITING_MAX};

/// The service `Exchange` of one worker; clones are the same. To be served by whoever starts the
/// worker: `rpc::exchange_server(server.clone())`.
#[derive(Clone)]
pub struct ExchangeServer {
    registry: Arc<Registry>,
    waiting: Arc<Semaphore>,
    open_wait: Duration,
}

impl Default for ExchangeServer {
    fn default() -> Self {
        ExchangeServer::new(EXCHANGE_OPEN_WAIT)
    }
}

impl fmt::Debug for ExchangeServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExchangeServer").finish_non_exhaustive()
    }
}

impl ExchangeServer {
    /// A server that keeps a stream waiting for its generation no longer than `open_wait`.
    #[must_use]
    pub fn new(open_wait: Duration) -> ExchangeServer {
        ExchangeServer {
            registry: Arc::default(),
            waiting: Arc::new(Semaphore::new(EXCHANGE_OPENS_WAITING_MAX)),
            open_wait,
        }
    }

    /// A generation begins, or another routing of it, which waits for these streams.
    pub(crate) fn begin(
        &self,
        who: Incarnation,
        routing: u32,
        here: WorkerId,
        links: &Links,
    ) -> Expected {
        let incoming = links.incoming.iter();
        let wirings = incoming.map(|(from, incoming)| (*from, incoming.names.hash()));
        self.registry.begin(who, routing, here, wirings)
    }

    /// The job is gone from this worker.
    pub(crate) fn forget(&self, job: JobId) {
        self.registry.forget(job);
    }

    /// The place of a stream, once its generation has begun.
    async fn place(
        &self,
        open: &Open,
        deadline: Instant,
    ) -> Result<oneshot::Sender<Attached>, Refusal> {
        let _permit = self.waiting.try_acquire().map_err(|_| Refusal::Busy)?;
        loop {
            // Before the look, so that a beginning right after it is noticed.
            let mut begun = std::pin::pin!(self.registry.begun.notified());
            begun.as_mut().enable();
            match self.registry.find(open) {
                Found::Place(place) => return Ok(place),
                Found::Refused(refusal) => return Err(refusal),
                Found::Wait => {}
            }
            if timeout_at(deadline, begun).await.is_err() {
                return Err(Refusal::NotStarted {
                    job: JobId(open.job),
                    generation: Generation(open.generation),
                });
            }
        }
    }
}

#[async_trait]
impl Exchange for ExchangeServer {
    type TransferStream = ReceiverStream<Result<ReceiverMessage, Status>>;

    async fn transfer(
        &self,
        request: Request<Streaming<SenderMessage>>,
    ) -> Result<Response<Self::TransferStream>, Status> {
        let deadline = Instant::now() + self.open_wait;
        let mut frames = request.into_inner();
        let no_open = || to_status(&Refusal::Protocol("it does not begin as one".to_owned()));
        let first = timeout_at(deadline, frames.message()).await;
        let first = first
            .map_err(|_| no_open())??
            .and_then(|first| first.message);
        let Some(sender_message::Message::Open(open)) = first else {
            return Err(no_open());
        };
        let place = self.place(&open, deadline).await;
        let place = place.map_err(|refusal| to_status(&refusal))?;
        let (replies, receiver) = mpsc::channel(EXCHANGE_CREDITS_WAITING_MAX);
        if place.send(Attached { frames, replies }).is_err() {
            return Err(to_status(&Refusal::Ended {
                job: JobId(open.job),
                generation: Generation(open.generation),
                from: WorkerId(open.from_worker),
            }));
        }
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}
