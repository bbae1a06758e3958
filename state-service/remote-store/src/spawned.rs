//! Requests run on the runtime, whatever the task that made them is busy with: replies that nobody
//! takes off a connection would hold up those of all others on it.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::FutureExt as _;
use state_client::StateError;
use tokio::task::JoinHandle;
use tracing::Instrument as _;

/// Work on the runtime, which ends when this is dropped.
struct Spawned<T>(JoinHandle<Result<T, StateError>>);

/// Runs `work` on the runtime once it is polled, in the span in which this is called.
pub(crate) fn spawned<T: Send + 'static>(
    work: impl Future<Output = Result<T, StateError>> + Send + 'static,
) -> impl Future<Output = Result<T, StateError>> + Send + 'static {
    let work = work.in_current_span();
    async move { Spawned(tokio::spawn(work)).await }
}

impl<T> Future for Spawned<T> {
    type Output = Result<T, StateError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match ready!(self.0.poll_unpin(cx)) {
            Ok(ended) => ended,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(StateError::Unavailable("the process is ending".to_owned())),
            },
        })
    }
}

impl<T> Drop for Spawned<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
