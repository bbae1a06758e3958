//! What the control plane asks of the processes below it, as traits: whoever wires a process
//! together implements them.

use proto::{
    control::{JobMetrics, WorkerCommand},
    types::JobId,
};

/// The way to a worker. Events come back on a channel.
pub trait WorkerLink: Send + Sync {
    /// Sends a command; must not block. What cannot be sent shows up as a failure of the job.
    fn send(&self, command: WorkerCommand);
}

impl<F: Fn(WorkerCommand) + Send + Sync> WorkerLink for F {
    fn send(&self, command: WorkerCommand) {
        self(command);
    }
}

/// What a worker measures of jobs that it runs.
pub trait Figures: Send + Sync {
    /// Figures per operator; empty when nothing of the job runs.
    fn metrics(&self, job: JobId) -> JobMetrics;
}

impl<F: Fn(JobId) -> JobMetrics + Send + Sync> Figures for F {
    fn metrics(&self, job: JobId) -> JobMetrics {
        self(job)
    }
}
