//! What the control plane asks of a worker, as a trait: whoever wires a process together, or
//! serves the workers' control stream, implements it.

use proto::{
    control::{JobMetrics, WorkerCommand},
    types::JobId,
};

/// The way to a worker. Events come back on a channel.
pub trait WorkerLink: Send + Sync {
    /// Sends a command; must not block. What cannot be sent shows up as the loss of the worker.
    fn send(&self, command: WorkerCommand);

    /// Figures per operator of what it runs of a job; empty when that is nothing.
    fn metrics(&self, job: JobId) -> JobMetrics;
}
