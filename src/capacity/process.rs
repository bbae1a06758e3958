//! Worker processes on this machine. Each holds on to the standard input that it is given: when that
//! ends, because it is to leave or because this process is gone, it leaves.

use std::{
    process::{ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use control_plane::capacity::CapacityProvider;
use coordinator::capacity::Want;
use futures::{FutureExt as _, future::BoxFuture};
use tokio::{
    process::{Child, Command},
    sync::{Mutex, Notify, oneshot},
    time::{Instant, timeout},
};

use super::WorkerCommandLine;

/// How long a worker may take to leave before it is killed. Others take over its tasks first, which
/// takes as long as their checkpoints.
const LEAVE_PATIENCE: Duration = Duration::from_secs(75);

/// A worker that ends by itself sooner than this would not live longer if it were started again.
const LIFE_MIN: Duration = Duration::from_secs(5);

/// Starts workers, and lets them leave.
pub(super) struct ProcessProvider {
    worker: WorkerCommandLine,
    state: Mutex<State>,
    /// A worker has ended by itself.
    lost: Arc<Notify>,
}

#[derive(Default)]
struct State {
    /// The newest last: it is the first to leave.
    running: Vec<Running>,
}

/// A worker that was started. Dropped, it leaves.
struct Running {
    leave: oneshot::Sender<()>,
    end: Arc<End>,
}

/// How a worker ended by itself.
#[derive(Default)]
struct End {
    ended: AtomicBool,
    /// Why, if it was too soon.
    soon: std::sync::Mutex<Option<String>>,
}

impl ProcessProvider {
    pub(super) fn new(worker: WorkerCommandLine) -> ProcessProvider {
        ProcessProvider {
            worker,
            state: Mutex::default(),
            lost: Arc::default(),
        }
    }

    async fn have(&self, count: usize) -> Result<(), String> {
        let mut state = self.state.lock().await;
        let mut soon = None;
        state.running.retain(|running| {
            let ended = running.end.ended.load(Ordering::Acquire);
            if ended {
                soon = soon.take().or_else(|| running.end.soon());
            }
            !ended
        });
        while state.running.len() > count {
            if let Some(running) = state.running.pop() {
                // It may have ended by itself a moment ago.
                let _ = running.leave.send(());
            }
        }
        if state.running.len() == count {
            return Ok(());
        }
        // Another one would end the same way; it is tried again after a while.
        if let Some(why) = soon {
            return Err(why);
        }
        while state.running.len() < count {
            state.running.push(self.start()?);
        }
        Ok(())
    }

    fn start(&self) -> Result<Running, String> {
        let program = self.worker.program.display();
        let child = Command::new(&self.worker.program)
            .args(&self.worker.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| format!("failed to start {program}: {error}"))?;
        let end = Arc::new(End::default());
        let (leave, left) = oneshot::channel();
        let of = (Arc::clone(&end), Arc::clone(&self.lost));
        tokio::spawn(async move {
            let (end, lost) = of;
            watch(child, left, &end, &lost).await;
        });
        Ok(Running { leave, end })
    }
}

impl End {
    fn soon(&self) -> Option<String> {
        let soon = self.soon.lock();
        soon.unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    fn set(&self, status: &str, lived: Duration) {
        if lived < LIFE_MIN {
            let why = format!(
                "a worker process ended after {} ms with {status}",
                lived.as_millis()
            );
            let mut soon = self
                .soon
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            *soon = Some(why);
        }
        self.ended.store(true, Ordering::Release);
    }
}

/// Waits until the worker has ended, by itself or because it is to leave.
async fn watch(mut child: Child, left: oneshot::Receiver<()>, end: &End, lost: &Notify) {
    let (pid, began) = (child.id().unwrap_or_default(), Instant::now());
    tracing::info!(pid, "a worker process is started");
    // Waiting closes what is still open of its input.
    let input = child.stdin.take();
    tokio::select! {
        status = child.wait() => {
            let status = status.map_or_else(|error| error.to_string(), told);
            tracing::warn!(pid, status, "a worker process has ended by itself");
            end.set(&status, began.elapsed());
            lost.notify_one();
        }
        // Nobody who could want it is left: as good as being asked.
        _ = left => {
            drop(input);
            if timeout(LEAVE_PATIENCE, child.wait()).await.is_err() {
                tracing::warn!(pid, "a worker process does not leave and is killed");
                // It may have ended meanwhile.
                let _ = child.kill().await;
            }
            tracing::info!(pid, "a worker process has left");
        }
    }
}

fn told(status: ExitStatus) -> String {
    status.to_string()
}

impl CapacityProvider for ProcessProvider {
    fn name(&self) -> &'static str {
        "process"
    }

    fn want(&self, want: Want) -> BoxFuture<'_, Result<(), String>> {
        self.have(usize::try_from(want.workers).unwrap_or(usize::MAX))
            .boxed()
    }

    fn disturbed(&self) -> BoxFuture<'_, ()> {
        self.lost.notified().boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    /// A provider of shells, which note when they begin and when they leave.
    fn provider(folder: &Path, script: &str) -> ProcessProvider {
        let script = script.replace("FOLDER", &folder.display().to_string());
        ProcessProvider::new(WorkerCommandLine {
            program: "/bin/sh".into(),
            arguments: vec!["-c".to_owned(), script],
            nodes: 1,
        })
    }

    /// Begins a file, and ends it when its input has ended.
    const GOOD: &str = "echo begun > FOLDER/$$; cat; echo left >> FOLDER/$$";

    async fn want(provider: &ProcessProvider, workers: u32) -> Result<(), String> {
        let reason = String::new();
        provider.want(Want { workers, reason }).await
    }

    /// Waits until so many processes have begun and so many left.
    async fn until(folder: &Path, begun: usize, left: usize) {
        let count = |word: &str| {
            let files = fs::read_dir(folder).expect("a folder");
            let texts = files.map(|file| fs::read_to_string(file.expect("a file").path()));
            let texts = texts.map(|text| text.unwrap_or_default());
            texts.filter(|text| text.contains(word)).count()
        };
        let there = async {
            while (count("begun"), count("left")) != (begun, left) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let waited = timeout(Duration::from_secs(20), there).await;
        assert!(
            waited.is_ok(),
            "{} begun, {} left",
            count("begun"),
            count("left")
        );
    }

    #[tokio::test]
    async fn processes_come_and_leave() {
        let folder = tempfile::tempdir().expect("a folder");
        let provider = provider(folder.path(), GOOD);
        assert_eq!(want(&provider, 3).await, Ok(()));
        until(folder.path(), 3, 0).await;
        assert_eq!(want(&provider, 3).await, Ok(()));
        assert_eq!(want(&provider, 1).await, Ok(()));
        until(folder.path(), 3, 2).await;
        // They end with whoever wanted them.
        drop(provider);
        until(folder.path(), 3, 3).await;
    }

    #[tokio::test]
    async fn one_that_ends_by_itself_is_missed_and_not_started_for_ever() {
        let folder = tempfile::tempdir().expect("a folder");
        let provider = provider(folder.path(), "echo begun > FOLDER/$$; exit 7");
        assert_eq!(want(&provider, 1).await, Ok(()));
        let lost = timeout(Duration::from_secs(20), provider.disturbed()).await;
        assert!(lost.is_ok(), "its end is noticed");
        let error = want(&provider, 1).await.expect_err("it ended too soon");
        assert!(error.contains("ended after"), "{error}");
        assert!(error.ends_with("with exit status: 7"), "{error}");
        until(folder.path(), 1, 0).await;
        // Whoever asks again later has it tried.
        assert_eq!(want(&provider, 1).await, Ok(()));
        until(folder.path(), 2, 0).await;
    }

    #[tokio::test]
    async fn what_cannot_be_started_is_told() {
        let provider = ProcessProvider::new(WorkerCommandLine {
            program: "/nowhere/millstream".into(),
            arguments: Vec::new(),
            nodes: 1,
        });
        let error = want(&provider, 1).await.expect_err("there is none");
        assert!(
            error.starts_with("failed to start /nowhere/millstream"),
            "{error}"
        );
    }
}
