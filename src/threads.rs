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
#[cfg(target_os = "linux")]
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
    let mut builder = Builder::new_multi_thread();
    run_behind_others(&mut builder);
    builder
        .worker_threads(2)
        .thread_name("state")
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build()
        .context("failed to start the runtime of the state service")
}

/// The runtime's threads give way to the others of the process.
#[cfg(target_os = "linux")]
fn run_behind_others(builder: &mut Builder) {
    use rustix::process::{getpriority_process, setpriority_process};
    // Once: a thread begins with the priority of the one that makes it.
    let Ok(own) = getpriority_process(None) else {
        return;
    };
    builder.on_thread_start(move || {
        if let Err(error) = setpriority_process(None, own + STATE_NICENESS) {
            tracing::debug!(%error, "threads of state run as fast as others");
        }
    });
}

/// Elsewhere than on Linux a priority is of the whole process.
#[cfg(not(target_os = "linux"))]
fn run_behind_others(_builder: &mut Builder) {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::process::getpriority_process;

    use super::*;

    #[test]
    fn state_gives_way_to_tasks() {
        let own = getpriority_process(None).expect("a priority");
        let state = background_runtime().expect("a runtime");
        let of_threads = state.block_on(async {
            let of_both = async {
                let blocking = tokio::task::spawn_blocking(|| getpriority_process(None));
                [getpriority_process(None), blocking.await.expect("it ends")]
            };
            tokio::spawn(of_both).await.expect("it ends")
        });
        // No priority is lower than 19.
        let expected = (own + STATE_NICENESS).min(19);
        assert_eq!(of_threads, [Ok(expected); 2]);
        assert_eq!(
            getpriority_process(None),
            Ok(own),
            "this thread stays as it is"
        );
    }
}
