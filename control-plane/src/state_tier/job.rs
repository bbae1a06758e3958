//! One job as the tier sees it, and what is to be done for it next. Decides; the driver does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use coordinator::meta::Change;
use proto::{
    state_control::{JobReferences, ShardFiles},
    types::{Epoch, Generation, JobId, ShardId, SinkId, StateNodeId},
};
use state_client::{Begun, Incarnation, StateError};
use tokio::time::Instant;

use super::{
    event::{Reply, Request},
    known::Known,
    marks::Marks,
    node::Nodes,
    standing::{Fault, Standing, Told},
};
use crate::caps::{DURABLE_GATHERED, PUBLISHED_GATHERED, STATE_REQUESTS_PER_JOB};

/// A job.
pub(super) struct TierJob {
    pub(super) id: JobId,
    /// Something of it is under way in the metadata.
    pub(super) busy: bool,
    /// What waits for its turn there.
    requests: VecDeque<Request>,
    /// `None`: not looked at yet.
    pub(super) known: Option<Known>,
    /// Whether others may have changed the record.
    pub(super) outdated: bool,
    /// Owners that are being written down.
    pub(super) planned: BTreeMap<ShardId, StateNodeId>,
    /// What owners were told last.
    pub(super) told: BTreeMap<ShardId, Told>,
    /// A generation that has begun and waits for owners.
    pub(super) beginning: Option<Beginning>,
    pub(super) durable: Marks<ShardId>,
    /// What databases are made of, as it was said with those.
    pub(super) files: BTreeMap<ShardId, ShardFiles>,
    pub(super) published: Marks<SinkId>,
    pub(super) published_replies: Vec<Reply<()>>,
    /// Shards that their owners do not serve.
    pub(super) faults: BTreeMap<ShardId, Fault>,
    /// Shards that nodes have lost to others, which they hear again whenever they join.
    pub(super) former: BTreeSet<(StateNodeId, ShardId)>,
    pub(super) dropping: Dropping,
    /// What of the ended job's files was needed when nodes were last told to delete the others.
    pub(super) collected: Option<JobReferences>,
    /// Who was told so, and looks after these files since.
    pub(super) collectors: BTreeSet<StateNodeId>,
    pub(super) drop_replies: Vec<Reply<()>>,
}

pub(super) struct Beginning {
    pub(super) who: Incarnation,
    pub(super) begun: Begun,
    pub(super) give_up_at: Instant,
    pub(super) reply: Reply<Begun>,
}

/// How far the deletion of an ended job's files is.
#[derive(Default)]
pub(super) enum Dropping {
    /// Nobody was told.
    #[default]
    Untold,
    /// These nodes are at it.
    Told(BTreeSet<StateNodeId>),
    /// No file is left.
    Dropped,
}

/// What is to be done for a job.
pub(super) enum Step {
    /// Look at its record, and at what the owners of these shards are to be told.
    Look(Vec<ShardId>),
    /// See to a request.
    Ask(Request),
    /// Find owners for shards that need some.
    Place,
    /// The generation can run: say so.
    Begun,
    /// The generation has waited for too long.
    GiveUp,
    /// Write down what shards have made durable.
    Durable,
    /// Write down what sinks have published.
    Published,
    /// Tell nodes to delete its files.
    Drop,
    /// Tell nodes to delete those of its files that nothing needs.
    Collect,
    /// Write down that no file is left.
    Dropped,
    /// Nothing of it is left.
    Forget,
    /// Wait: for something to happen, or for a time.
    Rest(Option<Instant>),
}

impl TierJob {
    pub(super) fn new(id: JobId, known: Option<Known>) -> Self {
        TierJob {
            id,
            busy: false,
            requests: VecDeque::new(),
            known,
            outdated: false,
            planned: BTreeMap::new(),
            told: BTreeMap::new(),
            beginning: None,
            durable: Marks::new(DURABLE_GATHERED),
            files: BTreeMap::new(),
            published: Marks::new(PUBLISHED_GATHERED),
            published_replies: Vec::new(),
            faults: BTreeMap::new(),
            former: BTreeSet::new(),
            dropping: Dropping::default(),
            collected: None,
            collectors: BTreeSet::new(),
            drop_replies: Vec::new(),
        }
    }

    /// Queues a request. Those that nobody waits for any more are dropped, and never happened.
    pub(super) fn push(&mut self, request: Request) {
        self.requests.retain(|request| !request.is_abandoned());
        if self.requests.len() < STATE_REQUESTS_PER_JOB {
            return self.requests.push_back(request);
        }
        let why = format!("too many requests of {} wait for the metadata", self.id);
        request.fail(StateError::Unavailable(why));
    }

    /// Fails whatever waits.
    pub(super) fn fail_all(&mut self, error: &StateError) {
        for request in self.requests.drain(..) {
            request.fail(error.clone());
        }
        if let Some(beginning) = self.beginning.take() {
            drop(beginning.reply.send(Err(error.clone())));
        }
        for reply in self.published_replies.drain(..) {
            drop(reply.send(Err(error.clone())));
        }
    }

    /// Its record is being looked at; those who want to drop it, and hear what the look says.
    pub(super) fn begin_look(&mut self) -> Vec<Reply<()>> {
        self.busy = true;
        self.outdated = false;
        std::mem::take(&mut self.drop_replies)
    }

    /// What is to be done next.
    pub(super) fn next(&mut self, nodes: &Nodes, now: Instant) -> Step {
        if self.busy {
            return Step::Rest(None);
        }
        if self.known.is_none() || self.outdated {
            return Step::Look(Vec::new());
        }
        while let Some(request) = self.requests.pop_front() {
            if !request.is_abandoned() {
                return Step::Ask(request);
            }
        }
        let known = self.known.as_ref().expect("it was looked at");
        if known.ended {
            return self.next_of_ended(nodes);
        }
        if known.generation > Generation::default() {
            self.retry_faults(now);
            if let Some(step) = self.next_of_shards(nodes, now) {
                return step;
            }
        }
        if self.published.is_due(now) {
            return Step::Published;
        }
        if self.durable.is_due(now) {
            return Step::Durable;
        }
        Step::Rest(self.wake(nodes, now))
    }

    fn next_of_ended(&mut self, nodes: &Nodes) -> Step {
        self.durable.take();
        self.files.clear();
        if self.published.due().is_some() {
            return Step::Published;
        }
        let has_files = self.known.as_ref().is_some_and(|known| known.has_files);
        let held = self.known.as_ref().and_then(|known| known.held.as_ref());
        let connected = nodes.connected().next().is_some();
        match &self.dropping {
            _ if !has_files => Step::Forget,
            _ if held.is_some() => match connected && self.collected.as_ref() != held {
                true => Step::Collect,
                false => Step::Rest(None),
            },
            Dropping::Untold if connected => Step::Drop,
            Dropping::Untold | Dropping::Told(_) => Step::Rest(None),
            Dropping::Dropped => Step::Dropped,
        }
    }

    fn next_of_shards(&self, nodes: &Nodes, now: Instant) -> Option<Step> {
        let standings = self.standings(nodes, now);
        let homeless = |standing: &Standing| *standing == Standing::Homeless;
        if nodes.connected().next().is_some() && standings.values().any(homeless) {
            return Some(Step::Place);
        }
        let untold = |standing: &Standing| matches!(standing, Standing::Untold(_));
        let untold = standings.iter().filter(|(_, standing)| untold(standing));
        let untold: Vec<ShardId> = untold.map(|(shard, _)| *shard).collect();
        if !untold.is_empty() {
            return Some(Step::Look(untold));
        }
        let beginning = self.beginning.as_ref()?;
        if standings
            .values()
            .all(|standing| *standing == Standing::Served)
        {
            return Some(Step::Begun);
        }
        (beginning.give_up_at <= now).then_some(Step::GiveUp)
    }

    /// Shards whose time has come are to be opened again.
    fn retry_faults(&mut self, now: Instant) {
        for (shard, fault) in &mut self.faults {
            if fault.retry_at.is_some_and(|at| at <= now) {
                fault.retry_at = None;
                self.told.remove(shard);
            }
        }
    }

    /// When something will have to be done, if nothing happens before.
    fn wake(&self, nodes: &Nodes, now: Instant) -> Option<Instant> {
        let standings = self.standings(nodes, now);
        let awaited = standings.values().filter_map(|standing| match standing {
            Standing::Awaited(until) => Some(*until),
            _ => None,
        });
        let begun = self.known.as_ref().map(|known| known.generation);
        let awaited = awaited.filter(|_| begun > Some(Generation::default()));
        let retries = self.faults.values().filter_map(|fault| fault.retry_at);
        let beginning = self.beginning.iter().map(|beginning| beginning.give_up_at);
        let marks = [self.durable.due(), self.published.due()];
        awaited
            .chain(retries)
            .chain(beginning)
            .chain(marks.into_iter().flatten())
            .min()
    }

    /// The change that a request wants, which the answer then belongs to.
    pub(super) fn change(&self, request: &Request, published: &BTreeMap<SinkId, Epoch>) -> Change {
        match request {
            Request::Begin { who, .. } => Change::Begin {
                job: who.job,
                generation: who.generation,
            },
            Request::Commit {
                who,
                epoch,
                objects,
                overtaken_bytes,
                ..
            } => Change::Commit {
                job: who.job,
                generation: who.generation,
                previous: self.committed(),
                epoch: *epoch,
                objects: objects.clone(),
                overtaken_bytes: *overtaken_bytes,
                published: published.clone(),
            },
        }
    }

    pub(super) fn committed(&self) -> Epoch {
        let known = self.known.as_ref();
        known.map(|known| known.committed).unwrap_or_default()
    }
}
