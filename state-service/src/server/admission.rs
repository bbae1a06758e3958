//! How many bytes of requests and replies may be under way. Beyond it callers are told to try again:
//! a queue would only hold what they hold, too.

use futures::Stream;
use rpc::tonic::Status;
use state_client::StateError;
use state_wire::status_of;

use crate::budget::{Budget, Lease};

/// Bounds of what the service holds for its callers.
pub(super) struct Admission {
    /// Requests that are being answered, sections aside.
    requests: Budget,
    /// Sections that come in or wait to be written.
    sections: Budget,
    /// Replies on their way.
    replies: Budget,
}

/// Bytes for each purpose.
pub(super) struct Limits {
    pub(super) requests_bytes: usize,
    pub(super) sections_bytes: usize,
    pub(super) replies_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            requests_bytes: 64 << 20,
            sections_bytes: 256 << 20,
            replies_bytes: 256 << 20,
        }
    }
}

/// What any request costs beside what it carries.
const REQUEST_BYTES: usize = 1 << 10;

impl Admission {
    pub(super) fn new(limits: &Limits) -> Self {
        Admission {
            requests: Budget::new(limits.requests_bytes),
            sections: Budget::new(limits.sections_bytes),
            replies: Budget::new(limits.replies_bytes),
        }
    }

    pub(super) fn request(&self, bytes: usize) -> Result<Lease, Status> {
        let lease = self.requests.take(bytes + REQUEST_BYTES);
        lease.ok_or_else(|| full("too many requests are being answered"))
    }

    pub(super) fn sections(&self, bytes: usize) -> Result<Lease, Status> {
        let lease = self.sections.take(bytes);
        lease.ok_or_else(|| full("too much is being staged"))
    }

    pub(super) fn reply(&self, bytes: usize) -> Result<Lease, Status> {
        let lease = self.replies.take(bytes);
        lease.ok_or_else(|| full("too many replies wait for their readers"))
    }
}

fn full(why: &str) -> Status {
    status_of(StateError::Unavailable(why.to_owned()))
}

/// A reply in parts, which gives its bytes back when it is sent or nobody wants it any more.
pub(super) type Parts<T> = std::pin::Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The parts that `parts` makes, one whenever there is room for it.
pub(super) fn in_parts<T, I>(parts: I, lease: Lease) -> Parts<T>
where
    I: Iterator<Item = T> + Send + 'static,
    T: Send + 'static,
{
    // The lease goes with the iterator.
    Box::pin(futures::stream::iter(parts.map(move |part| {
        let _ = &lease;
        Ok(part)
    })))
}
