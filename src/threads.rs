//! The threads of a process.

use anyhow::Context as _;
use tokio::runtime::{Builder, Runtime};

/// Threads for calls that block, such as reads of files. Many more only keep each other from running:
/// with tokio's 512 a process that read its state from a directory spent a third of its time on
/// switching between them.
const BLOCKING_THREADS: usize = 32;
/// How much less of a busy processor threads of state get than those that tasks, requests and checkpoints
/// run on: about a third (nice 5). Flushes and compactions are as much work as tasks make; they may take
/// longer, up to bounds that hold tasks up, but what checkpoints wait for should not.
const STATE_NICENESS: i32 = 5;

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
        .on_thread_start(run_behind_others)
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build()
        .context("failed to start the runtime of the state service")
}

/// The thread that calls gives way to the others of the process.
fn run_behind_others() {
    // Elsewhere than on Linux this would be of the whole process.
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{getpriority_process, setpriority_process};
        let lower = |nice| setpriority_process(None, nice + STATE_NICENESS);
        if let Err(error) = getpriority_process(None).and_then(lower) {
            tracing::debug!(%error, "threads of state run as fast as others");
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::process::getpriority_process;

    use super::*;

    #[test]
    fn state_gives_way_to_tasks() {
        let own = getpriority_process(None).expect("a priority");
        let state = background_runtime().expect("a runtime");
        let of_threads = state.block_on(async {
            let worker = tokio::spawn(async { getpriority_process(None) });
            let blocking = tokio::task::spawn_blocking(|| getpriority_process(None));
            (worker.await, blocking.await)
        });
        // No priority is lower than 19.
        let expected = (own + STATE_NICENESS).min(19);
        for priority in [of_threads.0, of_threads.1] {
            let priority = priority.expect("it ends").expect("a priority");
            assert_eq!(priority, expected);
        }
        assert_eq!(
            getpriority_process(None),
            Ok(own),
            "this thread stays as it is"
        );
    }
}
