//! The threads of a process.

use anyhow::Context as _;
use tokio::runtime::{Builder, Runtime};

/// Threads for calls that block, such as reads of files. Many more only keep each other from running:
/// with tokio's 512 a process that read its state from a directory spent a third of its time on
/// switching between them.
const BLOCKING_THREADS: usize = 32;

/// The runtime that serves requests and runs tasks.
///
/// # Errors
/// When the system has no threads left.
pub(crate) fn main_runtime() -> anyhow::Result<Runtime> {
    Builder::new_multi_thread()
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build()
        .context("failed to start the runtime")
}

/// A runtime where state is flushed and tidied up; requests are not served there.
pub(crate) fn background_runtime() -> anyhow::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("state")
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build()
        .context("failed to start the runtime of the state service")
}
