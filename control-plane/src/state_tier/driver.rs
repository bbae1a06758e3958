//! The loop: one closed set of events in, the next step of each job out. It alone changes what the
//! tier knows, and it never waits for anything but the next event.

use std::{collections::BTreeMap, sync::Arc};

use coordinator::meta::{Answer, Change, MetaState};
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use proto::types::{Epoch, JobId, ShardId, SinkId, StateNodeId};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};
use tracing::{Instrument as _, Span};

use super::{
    event::{Event, Reply, Request},
    job::{Step, TierJob},
    known::{Known, View},
    node::Nodes,
    owners::OwnersByJob,
    patient::PatientMetadata,
    transfers::{TierTransfers, TransferDone},
};
use crate::metadata::{Metadata, MetadataError};

/// Runs the tier; [`StateTierDriver::run`] must be polled for anything to happen.
pub struct StateTierDriver {
    events: mpsc::Receiver<Event>,
    pub(super) metadata: PatientMetadata,
    pub(super) under_way: FuturesUnordered<BoxFuture<'static, Done>>,
    pub(super) jobs: BTreeMap<JobId, TierJob>,
    pub(super) nodes: Nodes,
    pub(super) owners: watch::Sender<OwnersByJob>,
    /// When jobs want to be looked after.
    wakes: BTreeMap<JobId, Instant>,
    /// Whether the jobs of the metadata are known; until then nothing is done.
    pub(super) listed: bool,
    /// Copies of savepoints that are being made.
    pub(super) transfers: TierTransfers,
}

/// What was under way in the metadata.
pub(super) enum Done {
    Listed(Result<Vec<(JobId, Known)>, MetadataError>),
    /// With those who want to drop the job, and asked before the look.
    Looked(JobId, Vec<Reply<()>>, Result<Option<View>, MetadataError>),
    Answered(JobId, Purpose, Result<Answer, MetadataError>),
    Transfer(TransferDone),
}

/// What a change was proposed for.
pub(super) enum Purpose {
    /// A request; a commit carries what sinks have published.
    Ask(Request, Publication),
    Own(BTreeMap<ShardId, StateNodeId>),
    Durable,
    Published(Publication),
    Dropped,
}

/// Output that is outside, and those who wait for that to be written down.
#[derive(Default)]
pub(super) struct Publication {
    pub(super) marks: BTreeMap<SinkId, Epoch>,
    pub(super) replies: Vec<Reply<()>>,
}

impl StateTierDriver {
    pub(super) fn new(
        metadata: Arc<dyn Metadata>,
        seed: u64,
        events: mpsc::Receiver<Event>,
        owners: watch::Sender<OwnersByJob>,
        transfers: TierTransfers,
    ) -> Self {
        StateTierDriver {
            events,
            metadata: PatientMetadata::new(metadata, seed),
            under_way: FuturesUnordered::new(),
            jobs: BTreeMap::new(),
            nodes: Nodes::new(Instant::now()),
            owners,
            wakes: BTreeMap::new(),
            listed: false,
            transfers,
        }
    }

    /// Tells the time by this clock, in ms since 1970.
    #[must_use]
    pub fn with_clock(mut self, wall_ms: Arc<dyn Fn() -> u64 + Send + Sync>) -> Self {
        self.transfers.wall_ms = wall_ms;
        self
    }

    /// Drives the tier until every [`super::StateTier`] handle is gone or another process leads.
    pub async fn run(mut self) {
        let listed = self.metadata.look(Known::list);
        self.under_way.push(listed.map(Done::Listed).boxed());
        loop {
            let wake = self.wakes.values().min().copied();
            let alarm = sleep_until(wake.unwrap_or_else(Instant::now));
            tokio::select! {
                event = self.events.recv() => match event {
                    Some(event) => self.on_event(event),
                    None => return,
                },
                Some(done) = self.under_way.next() => {
                    if let Err(error) = self.on_done(done) {
                        tracing::info!(%error, "the state tier ends with the leadership");
                        return;
                    }
                }
                () = alarm, if wake.is_some() => self.on_time(),
            }
            for node in self.nodes.take_lost() {
                tracing::warn!(%node, "state node did not take an order");
                self.on_left(node);
            }
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Join {
                session,
                address,
                link,
            } => {
                tracing::info!(node = %session.node, address, "state node is connected");
                if self.nodes.join(session, address, link, Instant::now()) {
                    self.on_joined(session.node);
                }
            }
            Event::Leave(session) => {
                if self.nodes.leave(session, Instant::now()) {
                    tracing::warn!(node = %session.node, "state node is not connected any more");
                    self.on_left(session.node);
                }
            }
            Event::Report(session, report) => self.on_report(session, report),
            Event::Ask(id, request) => {
                self.job(id).push(request);
                self.advance(id);
            }
            Event::Published {
                job: id,
                sink,
                epoch,
                reply,
            } => {
                let job = self.job(id);
                job.published.raise(sink, epoch, Instant::now());
                job.published_replies.retain(|reply| !reply.is_closed());
                job.published_replies.push(reply);
                self.advance(id);
            }
            Event::Drop { job: id, reply } => {
                let job = self.job(id);
                job.outdated = true;
                job.drop_replies.push(reply);
                self.advance(id);
            }
            Event::Released { job: id, objects } => {
                if let Some(job) = self.jobs.get_mut(&id) {
                    job.order_trim(objects, &mut self.nodes);
                }
                self.look_at_held();
            }
            Event::Transfer { ask, reply } => self.on_transfer_asked(ask, reply),
            // Nobody waits any more.
            Event::Status { reply } => drop(reply.send(self.status())),
        }
    }

    /// What was needed of jobs that have ended may be needed no more.
    pub(super) fn look_at_held(&mut self) {
        let held = |job: &TierJob| job.known.as_ref().is_some_and(|known| known.held.is_some());
        let held = self.jobs.values_mut().filter(|job| held(job));
        let ids: Vec<JobId> = held
            .map(|job| {
                job.outdated = true;
                job.id
            })
            .collect();
        for id in ids {
            self.advance(id);
        }
    }

    pub(super) fn job(&mut self, id: JobId) -> &mut TierJob {
        let new = || TierJob::new(id, None);
        self.jobs.entry(id).or_insert_with(new)
    }

    fn on_done(&mut self, done: Done) -> Result<(), MetadataError> {
        match done {
            Done::Listed(jobs) => {
                for (id, known) in jobs? {
                    let new = || TierJob::new(id, Some(known));
                    self.jobs.entry(id).or_insert_with(new);
                    self.tell_owners(id);
                }
                self.listed = true;
                self.advance_all();
                self.advance_transfers();
            }
            Done::Looked(id, drops, view) => {
                let view = view?;
                self.set_idle(id);
                self.on_looked(id, drops, view);
                self.advance(id);
            }
            Done::Transfer(done) => return self.on_transfer_done(done),
            Done::Answered(id, purpose, answer) => {
                let answer = answer?;
                self.set_idle(id);
                self.on_answered(id, purpose, answer);
                self.advance(id);
            }
        }
        Ok(())
    }

    fn set_idle(&mut self, id: JobId) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.busy = false;
        }
    }

    fn on_time(&mut self) {
        let now = Instant::now();
        let due = self.wakes.iter().filter(|(_, at)| **at <= now);
        let due: Vec<JobId> = due.map(|(id, _)| *id).collect();
        for id in due {
            self.advance(id);
        }
    }

    pub(super) fn advance_all(&mut self) {
        let ids: Vec<JobId> = self.jobs.keys().copied().collect();
        for id in ids {
            self.advance(id);
        }
    }

    /// Does for a job whatever can be done now.
    pub(super) fn advance(&mut self, id: JobId) {
        let now = Instant::now();
        self.wakes.remove(&id);
        while self.listed
            && let Some(job) = self.jobs.get_mut(&id)
        {
            match job.next(&self.nodes, now) {
                Step::Rest(None) => return,
                Step::Rest(Some(at)) => {
                    self.wakes.insert(id, at);
                    return;
                }
                Step::Look(shards) => {
                    let drops = job.begin_look();
                    let see = move |state: &MetaState| View::of(state, id, &shards);
                    let view = self.metadata.look(see);
                    let looked = view.map(move |view| Done::Looked(id, drops, view));
                    return self.under_way.push(looked.boxed());
                }
                Step::Ask(request) => return self.ask(id, request),
                Step::Place => return self.place(id, now),
                Step::Begun => job.say_begun(),
                Step::GiveUp => job.give_up(&self.nodes),
                Step::Durable => {
                    let change = Change::Durable {
                        job: id,
                        durable: job.durable.take(),
                        files: std::mem::take(&mut job.files),
                    };
                    return self.propose(id, change, Purpose::Durable);
                }
                Step::Published => {
                    let publication = job.publication();
                    let change = Change::Published {
                        job: id,
                        published: publication.marks.clone(),
                    };
                    return self.propose(id, change, Purpose::Published(publication));
                }
                Step::Drop => self.order_drop(id),
                Step::Collect => self.order_collect(id),
                Step::Dropped => {
                    let change = Change::Dropped { job: id };
                    return self.propose(id, change, Purpose::Dropped);
                }
                Step::Forget => self.forget(id),
            }
        }
    }

    fn ask(&mut self, id: JobId, request: Request) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let (publication, span) = match &request {
            Request::Begin { span, .. } => (Publication::default(), span.clone()),
            Request::Commit { span, .. } => (job.publication(), span.clone()),
        };
        let change = job.change(&request, &publication.marks);
        self.propose_within(&span, id, change, Purpose::Ask(request, publication));
    }

    fn place(&mut self, id: JobId, now: Instant) {
        let loads = self.shards_by_node(Some(id));
        let loads = self
            .nodes
            .connected()
            .map(|node| (node, loads.get(&node).copied().unwrap_or_default()))
            .collect();
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let owners = job.placement(&self.nodes, &loads, now);
        job.planned.clone_from(&owners);
        let change = Change::Own {
            job: id,
            owners: owners.clone(),
        };
        self.propose(id, change, Purpose::Own(owners));
    }

    /// Shards by owner, of all jobs that run but one.
    pub(super) fn shards_by_node(&self, but: Option<JobId>) -> BTreeMap<StateNodeId, usize> {
        let mut shards = BTreeMap::new();
        for job in self.jobs.values().filter(|job| Some(job.id) != but) {
            let Some(known) = job.known.as_ref().filter(|known| !known.ended) else {
                continue;
            };
            for shard in known.shard_ids() {
                let owner = job.planned.get(&shard).or(known.owners.get(&shard));
                if let Some(owner) = owner {
                    *shards.entry(*owner).or_default() += 1;
                }
            }
        }
        shards
    }

    fn propose(&mut self, id: JobId, change: Change, purpose: Purpose) {
        self.propose_within(&Span::none(), id, change, purpose);
    }

    fn propose_within(&mut self, span: &Span, id: JobId, change: Change, purpose: Purpose) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.busy = true;
        }
        let answer = self.metadata.propose(change).instrument(span.clone());
        let answered = answer.map(move |answer| Done::Answered(id, purpose, answer));
        self.under_way.push(answered.boxed());
    }

    pub(super) fn forget(&mut self, id: JobId) {
        self.jobs.remove(&id);
        self.wakes.remove(&id);
        self.tell_owners(id);
    }
}
