//! The handle: what the rest of the process asks of the tier.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use control_stream::JobOwners;
use coordinator::meta::{MetaState, Refusal, Transfer, TransferSpec};
use futures::{FutureExt as _, TryFutureExt as _, future::BoxFuture};
use proto::{
    inventory::Inventory,
    log::LogObject,
    state_control::{JobReferences, StateReport},
    types::{Epoch, JobId, ShardId, SinkId, StateNodeId, TransferId},
};
use state_client::{Begun, Dropped, Incarnation, StateControl, StateError};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};
use tracing::Span;

use super::{
    OwnerChanges, StateNodeSession, StateTierDriver, StateTierStatus,
    event::{Event, Reply, Request},
    owners::OwnersByJob,
    transfers::{TierTransfers, TransferAsk, TransferStatuses},
};
use crate::{
    StateNodeLink,
    caps::{PROPOSAL_PATIENCE, PUBLISHED_GATHERED, STATE_REQUEST_DEADLINE, STATE_TIER_QUEUE},
    metadata::{Metadata, look},
};

/// Why a savepoint is not copied.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TransferError {
    /// It does not fit how things are.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Nobody knows whether it will be.
    #[error("{0}")]
    Unavailable(String),
}

/// The state tier of a leader. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct StateTier {
    events: mpsc::Sender<Event>,
    owners: watch::Receiver<OwnersByJob>,
    transfers: watch::Receiver<TransferStatuses>,
    metadata: Arc<dyn Metadata>,
    sessions: Arc<AtomicU64>,
}

impl StateTier {
    /// A handle, and the driver behind it, for as long as this process leads. `seed` must be another
    /// one for every leadership of every process: proposals are told apart by it.
    #[must_use]
    pub fn new(metadata: Arc<dyn Metadata>, seed: u64) -> (StateTier, StateTierDriver) {
        let (events, receiver) = mpsc::channel(STATE_TIER_QUEUE);
        let (owners, owners_seen) = watch::channel(OwnersByJob::new());
        let (transfers, transfers_seen) = TierTransfers::new();
        let driver = StateTierDriver::new(metadata.clone(), seed, receiver, owners, transfers);
        let tier = StateTier {
            events,
            owners: owners_seen,
            transfers: transfers_seen,
            metadata,
            sessions: Arc::default(),
        };
        (tier, driver)
    }

    /// A node's stream begins. `address` is where it answers requests of tasks. The node is told to
    /// open what it owns before anything else of that is told to it.
    pub async fn join(
        &self,
        node: StateNodeId,
        address: String,
        link: Arc<dyn StateNodeLink>,
    ) -> StateNodeSession {
        let number = self.sessions.fetch_add(1, Ordering::Relaxed);
        let session = StateNodeSession { node, number };
        self.tell(Event::Join {
            session,
            address,
            link,
        })
        .await;
        session
    }

    /// A node's stream has ended.
    pub async fn leave(&self, session: StateNodeSession) {
        self.tell(Event::Leave(session)).await;
    }

    /// A node reports something.
    pub async fn report(&self, session: StateNodeSession, report: StateReport) {
        self.tell(Event::Report(session, report)).await;
    }

    /// Waits until this process does not lead any more; streams of nodes end then.
    pub async fn ended(&self) {
        self.events.closed().await;
    }

    /// The owners of a job's shards, as far as they are known at the moment.
    #[must_use]
    pub fn owners(&self, job: JobId) -> Option<Arc<JobOwners>> {
        self.owners.borrow().get(&job).cloned()
    }

    /// Changes of owners, the present ones first.
    #[must_use]
    pub fn owner_changes(&self) -> OwnerChanges {
        OwnerChanges::new(self.owners.clone())
    }

    /// How the tier is; `None` when this process does not lead any more.
    pub async fn status(&self) -> Option<StateTierStatus> {
        let (reply, status) = oneshot::channel();
        self.tell(Event::Status { reply }).await;
        status.await.ok()
    }

    /// What of the job's log is needed: read from the metadata after the call, never remembered.
    ///
    /// # Errors
    /// When there is no such job, or the metadata does not answer.
    pub async fn references(&self, job: JobId) -> Result<JobReferences, StateError> {
        let references = move |state: &MetaState| state.references(job);
        let found = self.look(references).await?;
        found.map_err(|_| StateError::UnknownJob(job))
    }

    /// The owner of a shard: read from the metadata after the call, never remembered. Shards of a job
    /// of which nothing is left, or that is not known, are nobody's.
    ///
    /// # Errors
    /// When the metadata does not answer.
    pub async fn owner(
        &self,
        job: JobId,
        shard: ShardId,
    ) -> Result<Option<StateNodeId>, StateError> {
        let owner = move |state: &MetaState| {
            let record = state.jobs.get(&job)?;
            let is_there = match record.outcome {
                None => true,
                // Who has it open deletes its files, unless somebody needs them.
                Some(_) => record.has_files && !state.is_held(job),
            };
            is_there.then(|| record.owners.get(&shard).copied())?
        };
        self.look(owner).await
    }

    /// A savepoint is to be copied, as soon as a node can do it.
    ///
    /// # Errors
    /// When it cannot be, or the metadata does not answer.
    pub async fn begin_transfer(&self, spec: TransferSpec) -> Result<TransferId, TransferError> {
        self.ask_transfer(TransferAsk::Begin(spec)).await
    }

    /// A savepoint is not to be copied any more.
    ///
    /// # Errors
    /// As [`StateTier::begin_transfer`].
    pub async fn cancel_transfer(&self, id: TransferId) -> Result<TransferId, TransferError> {
        self.ask_transfer(TransferAsk::Cancel(id)).await
    }

    async fn ask_transfer(&self, ask: TransferAsk) -> Result<TransferId, TransferError> {
        let (reply, answer) = oneshot::channel();
        self.tell(Event::Transfer { ask, reply }).await;
        match timeout(PROPOSAL_PATIENCE, answer).await {
            Ok(Ok(answer)) => Ok(answer?),
            Ok(Err(_)) => Err(TransferError::Unavailable(not_leading().to_string())),
            Err(_) => Err(TransferError::Unavailable(
                late(PROPOSAL_PATIENCE).to_string(),
            )),
        }
    }

    /// Copies of savepoints that are being made, and the last ones that were.
    ///
    /// # Errors
    /// When the metadata does not answer.
    pub async fn transfers(&self) -> Result<Vec<Transfer>, StateError> {
        self.look(|state: &MetaState| state.transfers.values().cloned().collect())
            .await
    }

    /// Every file that anything needs: read from the metadata after the call, never remembered.
    ///
    /// # Errors
    /// When the metadata does not answer.
    pub async fn inventory(&self) -> Result<Inventory, StateError> {
        self.look(MetaState::inventory).await
    }

    /// How far they are.
    #[must_use]
    pub fn transfer_statuses(&self) -> watch::Receiver<TransferStatuses> {
        self.transfers.clone()
    }

    async fn look<T: Send + 'static>(
        &self,
        see: impl FnOnce(&MetaState) -> T + Send + 'static,
    ) -> Result<T, StateError> {
        let seen = timeout(STATE_REQUEST_DEADLINE, look(&*self.metadata, see)).await;
        let seen = seen.map_err(|_| late(STATE_REQUEST_DEADLINE))?;
        seen.map_err(|error| StateError::Unavailable(error.to_string()))
    }

    async fn tell(&self, event: Event) {
        // Without a driver nothing has to be told any more.
        drop(self.events.send(event).await);
    }

    fn ask<T: Send + 'static>(
        &self,
        deadline: Duration,
        event: impl FnOnce(Reply<T>) -> Event,
    ) -> BoxFuture<'static, Result<T, StateError>> {
        let (reply, answer) = oneshot::channel();
        let (events, event) = (self.events.clone(), event(reply));
        let asked = async move {
            events.send(event).await.map_err(|_| not_leading())?;
            answer.await.map_err(|_| not_leading())?
        };
        async move {
            let answered = timeout(deadline, asked).await;
            answered.unwrap_or_else(|_| Err(late(deadline)))
        }
        .boxed()
    }
}

impl StateControl for StateTier {
    /// Waits for state nodes that can serve the job's shards, but not for the shards to be open.
    fn begin(&self, who: Incarnation) -> BoxFuture<'static, Result<Begun, StateError>> {
        let span = Span::current();
        self.ask(STATE_REQUEST_DEADLINE, |reply| {
            Event::Ask(who.job, Request::Begin { who, reply, span })
        })
    }

    /// An error that is not [`StateError::Fenced`] says nothing about the epoch's fate: a new
    /// generation finds out, because its beginning goes through the same log.
    fn commit(
        &self,
        who: Incarnation,
        epoch: Epoch,
        objects: Vec<LogObject>,
        overtaken_bytes: u64,
    ) -> BoxFuture<'static, Result<(), StateError>> {
        let span = Span::current();
        self.ask(STATE_REQUEST_DEADLINE, |reply| {
            let request = Request::Commit {
                who,
                epoch,
                objects,
                overtaken_bytes,
                reply,
                span,
            };
            Event::Ask(who.job, request)
        })
    }

    /// Answers when it is written down, with the next commit or some seconds later.
    fn published(
        &self,
        who: Incarnation,
        sink: SinkId,
        epoch: Epoch,
    ) -> BoxFuture<'static, Result<(), StateError>> {
        self.ask(STATE_REQUEST_DEADLINE + PUBLISHED_GATHERED, |reply| {
            Event::Published {
                job: who.job,
                sink,
                epoch,
                reply,
            }
        })
    }

    /// Answers when the metadata says that the job has ended; its files go as soon as a node can
    /// delete them, whoever leads then.
    fn drop_job(&self, job: JobId) -> BoxFuture<'static, Result<Dropped, StateError>> {
        let asked = self.ask(STATE_REQUEST_DEADLINE, |reply| Event::Drop { job, reply });
        asked.map_ok(|()| Dropped::Files).boxed()
    }

    fn released(&self, job: JobId, objects: Vec<String>) -> BoxFuture<'static, ()> {
        let events = self.events.clone();
        // Without a driver the next leader finds out.
        let told = async move { drop(events.send(Event::Released { job, objects }).await) };
        told.boxed()
    }
}

fn not_leading() -> StateError {
    StateError::Unavailable("this node does not lead the cluster any more".to_owned())
}

fn late(deadline: Duration) -> StateError {
    let seconds = deadline.as_secs();
    StateError::Unavailable(format!(
        "the metadata has not answered for {seconds} s: is there a quorum of control-plane nodes?"
    ))
}
