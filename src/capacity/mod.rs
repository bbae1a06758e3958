//! Providers of workers: what makes them come and go as the control plane asks. Each is a way out of
//! the process; none decides anything.

mod args;
mod command;
mod process;
mod webhook;

pub(crate) use args::{CapacityArgs, WorkerCommandLine};
