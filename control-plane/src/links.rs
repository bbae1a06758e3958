//! What the control plane asks of the processes below it, as traits: whoever wires a process
//! together, or serves the control streams, implements them.

use proto::{
    control::{JobMetrics, WorkerCommand},
    state_control::StateOrder,
    types::JobId,
};

/// The way to a worker. Events come back on a channel.
pub trait WorkerLink: Send + Sync {
    /// Sends a command; must not block. What cannot be sent shows up as the loss of the worker.
    fn send(&self, command: WorkerCommand);

    /// Tells the worker, which wants to leave, that nothing of it is needed any more.
    fn release(&self);

    /// Figures per operator of what it runs of a job; empty when that is nothing.
    fn metrics(&self, job: JobId) -> JobMetrics;
}

/// The way to a state node, as long as one stream to it lives. Reports come back through
/// [`crate::state_tier::StateTier::report`].
pub trait StateNodeLink: Send + Sync {
    /// Sends an order; must not block. Orders arrive in the order in which they are sent, or not at
    /// all: after the first that does not, none may. `false`: the node is not there any more, or so
    /// far behind that it counts as gone; whoever made the link ends the stream.
    fn order(&self, order: StateOrder) -> bool;
}

impl<F: Fn(StateOrder) -> bool + Send + Sync> StateNodeLink for F {
    fn order(&self, order: StateOrder) -> bool {
        self(order)
    }
}
