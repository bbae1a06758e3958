//! The process's side: proposals wait here, and the state is looked at.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use coordinator::meta::{Answer, Command, MetaState};
use futures::{FutureExt as _, future::BoxFuture};
use object_store::{ObjectStore, path::Path};
use tokio::{
    sync::{Semaphore, mpsc, oneshot, watch},
    task::JoinHandle,
    time::{Instant, timeout_at},
};

use super::{
    files::Files,
    limits::{BucketLimits, PROPOSALS_KIB_MAX, PROPOSALS_MAX},
    open::{BucketError, Opener},
    pauses::Pauses,
    record::{WriterId, write_command},
    writer::Writer,
};
use crate::metadata::{Look, Metadata, MetadataError};

/// Says in one line what failed and what to do.
pub type Explain = Arc<dyn Fn(&object_store::Error) -> String + Send + Sync>;

/// Where metadata is and who we are.
#[derive(Clone)]
pub struct BucketConfig {
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    /// The part of it that is ours.
    pub prefix: Path,
    /// Words for the store's failures.
    pub explain: Explain,
    /// Name of this process for people: its machine and number.
    pub process: String,
    /// Drawn at random for this start of the process: what it writes is known by it.
    pub nonce: u64,
    /// Times and sizes.
    pub limits: BucketLimits,
}

/// Metadata in a bucket or a directory. Cheap to clone; the last clone takes what writes with it.
#[derive(Clone)]
pub struct BucketMetadata {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Proposal>,
    kib: Semaphore,
    limits: BucketLimits,
    writer: JoinHandle<()>,
}

/// What the writer and the process share.
pub(super) struct Shared {
    state: Mutex<MetaState>,
    /// What the store said last when it failed.
    trouble: Mutex<Option<String>>,
    closed: watch::Sender<Option<String>>,
}

/// A command that waits to be written.
pub(super) struct Proposal {
    pub(super) command: Command,
    pub(super) json: String,
    pub(super) claim: Claim,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// Whoever claims a proposal first decides: the writer that it is written, or the proposer that it
/// never is.
#[derive(Clone, Default)]
pub(super) struct Claim(Arc<AtomicBool>);

impl Claim {
    pub(super) fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

impl BucketMetadata {
    /// Reads the log and takes it over: a process that worked on it stops at its next write.
    ///
    /// # Errors
    /// When the store fails, or what is there cannot be read.
    pub async fn open(config: BucketConfig) -> Result<BucketMetadata, BucketError> {
        let files = Files {
            store: config.store,
            root: config.prefix,
            explain: config.explain,
            attempt_max: config.limits.attempt_max,
        };
        let mut pauses = Pauses::new(config.nonce, &config.limits);
        let id = WriterId(config.nonce);
        let opener = Opener {
            files: &files,
            writer: id,
            process: &config.process,
            pauses: &mut pauses,
        };
        let opened = opener.open().await?;
        let shared = Arc::new(Shared {
            state: Mutex::new(opened.state.clone()),
            trouble: Mutex::default(),
            closed: watch::Sender::new(None),
        });
        let (queue, waiting) = mpsc::channel(PROPOSALS_MAX);
        let limits = config.limits;
        let writer = Writer::new(
            files,
            id,
            limits.clone(),
            pauses,
            Arc::clone(&shared),
            waiting,
            &opened,
        );
        Ok(BucketMetadata {
            inner: Arc::new(Inner {
                shared,
                queue,
                kib: Semaphore::new(PROPOSALS_KIB_MAX),
                limits,
                writer: tokio::spawn(writer.run()),
            }),
        })
    }

    /// Waits until another process has taken the store over; the process must stop then.
    pub async fn closed(&self) -> String {
        self.inner.shared.closed().await
    }
}

impl Metadata for BucketMetadata {
    fn propose(&self, command: Command) -> BoxFuture<'static, Result<Answer, MetadataError>> {
        let inner = Arc::clone(&self.inner);
        async move { inner.propose(command).await }.boxed()
    }

    fn read(&self, look: Look) -> BoxFuture<'static, Result<(), MetadataError>> {
        let shared = Arc::clone(&self.inner.shared);
        async move {
            shared.check()?;
            look(&shared.state());
            Ok(())
        }
        .boxed()
    }
}

impl Inner {
    async fn propose(&self, command: Command) -> Result<Answer, MetadataError> {
        self.shared.check()?;
        let deadline = Instant::now() + self.limits.propose_max;
        let json = write_command(&command);
        // One that is larger than all others together waits until it is alone.
        let kib = (json.len() / 1024 + 1).min(PROPOSALS_KIB_MAX);
        let kib = u32::try_from(kib).expect("the limit is small");
        let Ok(Ok(_permit)) = timeout_at(deadline, self.kib.acquire_many(kib)).await else {
            return Err(self.shared.unavailable(false));
        };
        let (answer, answered) = oneshot::channel();
        let claim = Claim::default();
        let proposal = Proposal {
            command,
            json,
            claim: claim.clone(),
            answer,
        };
        let send = async {
            // An error is noticed below: the answer's other end went with the proposal.
            let _gone = self.queue.send(proposal).await;
            answered.await
        };
        match timeout_at(deadline, send).await {
            Ok(Ok(answer)) => Ok(answer),
            // The writer is gone; it says why before it goes.
            Ok(Err(_)) => {
                self.shared.check()?;
                Err(self.shared.unavailable(!claim.take()))
            }
            Err(_) => Err(self.shared.unavailable(!claim.take())),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.writer.abort();
    }
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, MetaState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the store says, or that it is well again.
    pub(super) fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    pub(super) fn close(&self, why: String) {
        tracing::error!("{why}");
        self.closed.send_replace(Some(why));
    }

    async fn closed(&self) -> String {
        let mut closed = self.closed.subscribe();
        let closed = closed.wait_for(Option::is_some).await;
        let why = closed.expect("the sender is here").clone();
        why.expect("waited for")
    }

    fn check(&self) -> Result<(), MetadataError> {
        match &*self.closed.borrow() {
            Some(why) => Err(MetadataError::Closed { why: why.clone() }),
            None => Ok(()),
        }
    }

    fn unavailable(&self, indeterminate: bool) -> MetadataError {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let why = trouble.clone();
        MetadataError::Unavailable {
            why: why.unwrap_or_else(|| "the store takes too long".to_owned()),
            indeterminate,
        }
    }
}

impl fmt::Debug for BucketMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BucketMetadata")
            .field("closed", &self.inner.shared.closed.borrow().as_deref())
            .finish_non_exhaustive()
    }
}
