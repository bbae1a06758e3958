//! The streams between the control plane's leader and the processes that it directs: what is said
//! on them, and how such a process finds the leader.
//!
//! ```text
//! worker, state node                         control-plane node
//!   Dialer ── Hello ──────────────────────▶  not the leader: NotLeader(who is)
//!          ── Hello ──────────────────────▶  the leader: Welcome
//!   Session ◀═ items, beats ═▶ items, beats
//! ```
//! Invariants
//! - What is said on one stream arrives in order, or the stream ends; nothing is said again on the
//!   next one. Whoever opens a stream says anew what must be known.
//! - A worker that runs tasks may keep its name ([`Hello::former`]) where another leadership than that
//!   which gave it takes the stream; it then tells first what it runs ([`WorkerSays::Told`]). On a
//!   second stream to one leadership it is another worker, which runs nothing.
//! - Both sides hear from each other every [`StreamTiming::beat`]; a side that has not for
//!   [`StreamTiming::silence`] ends the stream.
//! - Nobody waits to say something: a side that does not read is cut off ([`Outbox`]).

mod caps;
mod codec;
mod contact;
mod dial;
mod message;
mod outbox;
mod session;
mod timing;

pub use codec::{Malformed, decode, encode};
pub use contact::Contact;
pub use dial::{DialConfig, DialError, Dialer, Purpose};
pub use message::{
    Answer, FormerId, Hear, Hello, JobOwners, NodeHears, NodeSays, Question, Say, ShardOwner,
    VERSION, Welcome, WorkerHears, WorkerSays,
};
pub use outbox::{Outbox, OutboxStream, Put, outbox};
pub use session::Session;
pub use timing::StreamTiming;
