//! Tasks of a node, counted, so that whoever stops the node can wait for all of them.

use std::future::Future;

use tokio::{runtime::Handle, sync::watch};

/// Running tasks.
#[derive(Clone)]
pub(crate) struct Tasks {
    runtime: Handle,
    running: watch::Sender<usize>,
}

struct Running(watch::Sender<usize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.send_modify(|running| *running -= 1);
    }
}

impl Tasks {
    /// None yet; they run where this is called.
    pub(crate) fn new() -> Self {
        Tasks {
            runtime: Handle::current(),
            running: watch::channel(0).0,
        }
    }

    /// Starts a task.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.running.send_modify(|running| *running += 1);
        let running = Running(self.running.clone());
        self.runtime.spawn(async move {
            task.await;
            drop(running);
        });
    }

    /// Waits until none runs.
    pub(crate) async fn all_ended(&self) {
        // The sender is ours.
        drop(
            self.running
                .subscribe()
                .wait_for(|running| *running == 0)
                .await,
        );
    }
}
