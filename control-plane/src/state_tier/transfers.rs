//! Copies of savepoints to other places and from there: which node is at which, how far it is, and
//! what becomes of it. One attempt at a transfer is made at a time; a node that leaves is out of it,
//! and another one goes on.
//!
//! ```text
//! wanted ──order──▶ attempt ──news──▶ (of an import: what was found is written down, and ordered)
//!                     │ node leaves        │ done, failed, stopped
//!                     ▼                    ▼
//!                  wanted               its end is written down
//! ```

use std::{collections::BTreeMap, sync::Arc};

use coordinator::meta::{Answer, Change, MetaState, Refusal, Transfer, TransferEnd, TransferSpec};
use futures::FutureExt as _;
use proto::{
    state_control::StateOrder,
    transfer::{TransferNews, TransferOrder, TransferWork},
    types::{JobId, StateNodeId, TransferId},
};
use tokio::sync::{oneshot, watch};

use super::{
    StateNodeSession, StateTierDriver,
    driver::Done,
    node::{Nodes, Presence},
};
use crate::{caps::TRANSFER_STATUSES_MAX, metadata::MetadataError};

/// How far a transfer is, as long as this process leads.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TransferStatus {
    /// Nothing stands in its way, as far as can be known before it is done.
    pub checked: bool,
    /// Bytes that are copied.
    pub bytes: u64,
    /// Bytes in all, as far as is known; 0: not yet.
    pub total: u64,
    /// Of an import: the job that it becomes the state of.
    pub job: Option<JobId>,
    /// How it ended.
    pub ended: Option<TransferEnd>,
}

/// How far transfers are.
pub type TransferStatuses = Arc<BTreeMap<TransferId, TransferStatus>>;

/// Where the answer to a wish goes.
pub(super) type TransferReply = oneshot::Sender<Result<TransferId, Refusal>>;

/// What a user wants.
pub(super) enum TransferAsk {
    Begin(TransferSpec),
    Cancel(TransferId),
}

/// What of a transfer was under way in the metadata.
pub(super) enum TransferDone {
    Looked(Result<Vec<(Transfer, Option<TransferWork>)>, MetadataError>),
    Asked(
        TransferReply,
        Option<TransferId>,
        Result<Answer, MetadataError>,
    ),
    Found(TransferId, Result<Answer, MetadataError>),
    Ended(TransferId, TransferEnd, Result<Answer, MetadataError>),
}

/// The transfers that have not ended.
pub(super) struct TierTransfers {
    all: BTreeMap<TransferId, TierTransfer>,
    /// Whether the metadata have others, or something else to say of these.
    outdated: bool,
    looking: bool,
    pub(super) wall_ms: Arc<dyn Fn() -> u64 + Send + Sync>,
    statuses: watch::Sender<TransferStatuses>,
}

struct TierTransfer {
    /// `None`: what it needs is gone.
    work: Option<TransferWork>,
    canceling: bool,
    attempt: Option<Attempt>,
    /// Something of it is under way in the metadata.
    busy: bool,
}

#[derive(Clone, Copy)]
struct Attempt {
    node: StateNodeId,
    number: u64,
    stopping: bool,
}

/// What is to be done for a transfer.
enum Step {
    Rest,
    Order(StateNodeId, Box<TransferWork>),
    Stop(StateNodeId),
    End(TransferEnd),
}

impl TierTransfers {
    pub(super) fn new() -> (TierTransfers, watch::Receiver<TransferStatuses>) {
        let (statuses, seen) = watch::channel(TransferStatuses::default());
        let transfers = TierTransfers {
            all: BTreeMap::new(),
            outdated: true,
            looking: false,
            wall_ms: Arc::new(|| 0),
            statuses,
        };
        (transfers, seen)
    }

    /// Changes what is told of a transfer.
    fn tell(&self, id: TransferId, change: impl FnOnce(&mut TransferStatus)) {
        self.statuses.send_modify(|all| {
            let all = Arc::make_mut(all);
            change(all.entry(id).or_default());
            let surplus = all.len().saturating_sub(TRANSFER_STATUSES_MAX);
            let ended = all.iter().filter(|(_, status)| status.ended.is_some());
            let oldest: Vec<TransferId> = ended.map(|(id, _)| *id).take(surplus).collect();
            for id in oldest {
                all.remove(&id);
            }
        });
    }

    /// Takes in what the metadata say.
    fn see(&mut self, views: Vec<(Transfer, Option<TransferWork>)>) {
        let mut before = std::mem::take(&mut self.all);
        for (transfer, work) in views {
            let known = before.remove(&transfer.id);
            if let Some((job, found)) = &transfer.found {
                let (job, bytes) = (*job, found.bytes);
                self.tell(transfer.id, |status| {
                    (status.job, status.checked) = (Some(job), true);
                    status.total = status.total.max(bytes);
                });
            } else {
                self.tell(transfer.id, |_| {});
            }
            let known = TierTransfer {
                work,
                canceling: transfer.canceling,
                attempt: known.as_ref().and_then(|known| known.attempt),
                busy: known.is_some_and(|known| known.busy),
            };
            self.all.insert(transfer.id, known);
        }
    }

    /// Attempts of a node come to nothing.
    pub(super) fn on_gone(&mut self, node: StateNodeId) {
        for transfer in self.all.values_mut() {
            transfer.attempt.take_if(|attempt| attempt.node == node);
        }
    }

    /// The connected node with the fewest attempts.
    fn idlest(&self, nodes: &Nodes) -> Option<StateNodeId> {
        let load = |node: &StateNodeId| {
            let attempts = self.all.values().filter_map(|transfer| transfer.attempt);
            attempts.filter(|attempt| attempt.node == *node).count()
        };
        nodes.connected().min_by_key(load)
    }

    fn step(&self, id: TransferId, nodes: &Nodes) -> Step {
        let Some(transfer) = self.all.get(&id).filter(|transfer| !transfer.busy) else {
            return Step::Rest;
        };
        match (&transfer.attempt, transfer.canceling, &transfer.work) {
            (None, true, _) => Step::End(TransferEnd::Canceled),
            (Some(attempt), true, _) if !attempt.stopping => Step::Stop(attempt.node),
            (Some(_), ..) => Step::Rest,
            (None, false, None) => Step::End(TransferEnd::Failed {
                error: "what was to be copied is not there any more".to_owned(),
            }),
            (None, false, Some(work)) => match self.idlest(nodes) {
                Some(node) => Step::Order(node, Box::new(work.clone())),
                None => Step::Rest,
            },
        }
    }
}

impl StateTierDriver {
    /// Does for all transfers whatever can be done now.
    pub(super) fn advance_transfers(&mut self) {
        if !self.listed {
            return;
        }
        if self.transfers.outdated && !self.transfers.looking {
            self.transfers.outdated = false;
            self.transfers.looking = true;
            let see = |state: &MetaState| {
                let active = state.transfers_active();
                let view = |transfer: &Transfer| (transfer.clone(), state.transfer_work(transfer));
                active.map(view).collect::<Vec<_>>()
            };
            let looked = self.metadata.look(see).map(TransferDone::Looked);
            self.await_transfer(looked.boxed());
        }
        let ids: Vec<TransferId> = self.transfers.all.keys().copied().collect();
        for id in ids {
            match self.transfers.step(id, &self.nodes) {
                Step::Rest => {}
                Step::Order(node, work) => self.order_transfer(id, node, *work),
                Step::Stop(node) => {
                    let order = StateOrder::StopTransfer { transfer: id };
                    let told = self.nodes.order(node, order).is_some();
                    if let Some(transfer) = self.transfers.all.get_mut(&id) {
                        match &mut transfer.attempt {
                            Some(attempt) if told => attempt.stopping = true,
                            attempt => *attempt = None,
                        }
                    }
                }
                Step::End(end) => self.end_transfer(id, end),
            }
        }
    }

    fn await_transfer(&mut self, done: futures::future::BoxFuture<'static, TransferDone>) {
        self.under_way.push(done.map(Done::Transfer).boxed());
    }

    fn order_transfer(&mut self, id: TransferId, node: StateNodeId, work: TransferWork) {
        let number = self.metadata.draw();
        let order = StateOrder::Transfer(TransferOrder {
            transfer: id,
            attempt: number,
            work,
        });
        if self.nodes.order(node, order).is_none() {
            return;
        }
        tracing::info!(transfer = %id, %node, "a state node is to copy a savepoint");
        if let Some(transfer) = self.transfers.all.get_mut(&id) {
            transfer.attempt = Some(Attempt {
                node,
                number,
                stopping: false,
            });
        }
    }

    fn end_transfer(&mut self, id: TransferId, end: TransferEnd) {
        self.set_transfer_busy(id, true);
        let change = Change::EndTransfer {
            transfer: id,
            end: end.clone(),
            now_ms: (self.transfers.wall_ms)(),
        };
        let answer = self.metadata.propose(change);
        let done = answer.map(move |answer| TransferDone::Ended(id, end, answer));
        self.await_transfer(done.boxed());
    }

    fn set_transfer_busy(&mut self, id: TransferId, busy: bool) {
        if let Some(transfer) = self.transfers.all.get_mut(&id) {
            transfer.busy = busy;
        }
    }

    pub(super) fn on_transfer_asked(&mut self, ask: TransferAsk, reply: TransferReply) {
        let (change, id) = match ask {
            TransferAsk::Begin(spec) => {
                let now_ms = (self.transfers.wall_ms)();
                (Change::BeginTransfer { spec, now_ms }, None)
            }
            TransferAsk::Cancel(transfer) => (Change::CancelTransfer { transfer }, Some(transfer)),
        };
        let answer = self.metadata.propose(change);
        let done = answer.map(move |answer| TransferDone::Asked(reply, id, answer));
        self.await_transfer(done.boxed());
    }

    pub(super) fn on_transfer_done(&mut self, done: TransferDone) -> Result<(), MetadataError> {
        match done {
            TransferDone::Looked(views) => {
                self.transfers.looking = false;
                self.transfers.see(views?);
            }
            TransferDone::Asked(reply, id, answer) => {
                let answer = match (answer?, id) {
                    (Answer::Transfer { id }, _) | (Answer::Done, Some(id)) => Ok(id),
                    (Answer::Refused(refusal), _) => Err(refusal),
                    (other, _) => Err(Refusal::NotImportable {
                        why: format!("unexpected answer {other:?}"),
                    }),
                };
                self.transfers.outdated |= answer.is_ok();
                // Nobody waits any more: it counts all the same.
                drop(reply.send(answer));
            }
            TransferDone::Found(id, answer) => {
                self.set_transfer_busy(id, false);
                match answer? {
                    // What is to be done next, the metadata say; until then, nothing is.
                    Answer::Importing { .. } => {
                        self.transfers.all.remove(&id);
                        self.transfers.outdated = true;
                    }
                    Answer::Refused(refusal) => {
                        let error = refusal.to_string();
                        self.end_transfer(id, TransferEnd::Failed { error });
                    }
                    other => tracing::warn!(transfer = %id, ?other, "unexpected answer"),
                }
            }
            TransferDone::Ended(id, end, answer) => {
                let answer = answer?;
                tracing::info!(transfer = %id, ?end, ?answer, "a transfer has ended");
                self.on_transfer_ended(id, end);
            }
        }
        self.advance_transfers();
        Ok(())
    }

    fn on_transfer_ended(&mut self, id: TransferId, end: TransferEnd) {
        let transfer = self.transfers.all.remove(&id);
        if let Some(attempt) = transfer.and_then(|transfer| transfer.attempt) {
            let order = StateOrder::ForgetTransfer { transfer: id };
            self.nodes.order(attempt.node, order);
        }
        let job = self
            .transfers
            .statuses
            .borrow()
            .get(&id)
            .and_then(|status| status.job);
        self.transfers.tell(id, |status| {
            if let TransferEnd::Done { bytes } = &end {
                (status.bytes, status.total) = (*bytes, *bytes);
            }
            status.ended = Some(end);
        });
        if let Some(job) = job {
            // Its files are a savepoint's now, or nobody's.
            self.job(job).outdated = true;
            self.advance(job);
        }
    }

    pub(super) fn on_transfer_news(
        &mut self,
        session: StateNodeSession,
        (id, number): (TransferId, u64),
        news: TransferNews,
    ) {
        let presence = self
            .nodes
            .presence(session.node, tokio::time::Instant::now());
        let of_attempt = |transfer: &&mut TierTransfer| {
            let attempt = transfer.attempt;
            attempt.is_some_and(|at| (at.node, at.number) == (session.node, number))
        };
        let transfer = self.transfers.all.get_mut(&id).filter(of_attempt);
        let Some(transfer) = transfer.filter(|transfer| !transfer.busy) else {
            return;
        };
        if presence != Presence::Connected(session.number) {
            return;
        }
        match news {
            TransferNews::Copied { bytes, total } => self.transfers.tell(id, |status| {
                status.checked = true;
                status.bytes = status.bytes.max(bytes);
                status.total = status.total.max(total);
            }),
            TransferNews::Found(found) => {
                transfer.busy = true;
                let change = Change::FoundTransfer {
                    transfer: id,
                    found,
                    now_ms: (self.transfers.wall_ms)(),
                    seed: self.metadata.draw(),
                };
                let answer = self.metadata.propose(change);
                let done = answer.map(move |answer| TransferDone::Found(id, answer));
                self.await_transfer(done.boxed());
            }
            TransferNews::Done { bytes } => self.end_transfer(id, TransferEnd::Done { bytes }),
            TransferNews::Failed { error } => self.end_transfer(id, TransferEnd::Failed { error }),
            TransferNews::Stopped => transfer.attempt = None,
        }
        self.advance_transfers();
    }
}
