//! The worker: turns plans into tasks and runs them on its runtime.
//!
//! A shell around `engine`: it owns the runtime, the clock and the channels between tasks, carries
//! out what the control plane decided ([`proto::control::WorkerCommand`]) and reports what
//! happened. It decides nothing about jobs and knows no SQL.

pub mod agent;
mod build;
mod caps;
mod clock;
mod exchange;
mod generation;
mod output;
mod publish;
mod report;
mod scratch;
mod spawn;
pub mod state_view;
mod task_spans;
mod wiring;
mod worker;

pub use clock::SystemClock;
pub use exchange::{ExchangeConfig, ExchangeServer};
pub use scratch::DiskScratch;
pub use worker::{Figures, Worker, WorkerConfig, WorkerHandle};
