//! What an answer of the metadata means to those who asked, and for what is done next. Nodes are
//! told first, then the one who asked.

use std::collections::BTreeMap;

use coordinator::meta::{Answer, Refusal};
use proto::{
    state_control::{CommittedEpoch, StateOrder},
    types::{JobId, ShardId, StateNodeId},
};
use state_client::{Begun, Incarnation, StateError};
use tokio::time::Instant;

use super::{
    StateTierDriver,
    driver::{Publication, Purpose},
    event::{Reply, Request},
    job::{Beginning, Dropping, TierJob},
    known::View,
    node::Nodes,
    refusal::state_error,
};
use crate::caps::{FORMER_OWNERS_MAX, STATE_NODE_WAIT};

impl StateTierDriver {
    pub(super) fn on_looked(&mut self, id: JobId, drops: Vec<Reply<()>>, view: Option<View>) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let Some(view) = view else {
            job.fail_all(&StateError::UnknownJob(id));
            // Nothing of it is left.
            drops.into_iter().for_each(|reply| drop(reply.send(Ok(()))));
            return self.forget(id);
        };
        let ended = view.known.ended;
        for reply in drops {
            let why = || StateError::Unavailable(format!("{id} has not ended"));
            drop(reply.send(if ended { Ok(()) } else { Err(why()) }));
        }
        let had_ended = job.known.as_ref().is_some_and(|known| known.ended);
        job.see(view, &mut self.nodes);
        if ended && let Some(beginning) = job.beginning.take() {
            drop(beginning.reply.send(Err(StateError::UnknownJob(id))));
        }
        self.tell_owners(id);
        if ended && !had_ended {
            self.look_at_held();
        }
    }

    pub(super) fn on_answered(&mut self, id: JobId, purpose: Purpose, answer: Answer) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let nodes = &mut self.nodes;
        // Others changed the record, if it is not as was thought here.
        job.outdated |= matches!(answer, Answer::Refused(_));
        match (purpose, answer) {
            (Purpose::Ask(Request::Begin { who, reply, .. }, _), answer) => match answer {
                Answer::Begun { restored, first } => {
                    job.on_begun(who, Begun { restored, first }, reply);
                }
                other => drop(reply.send(Err(state_error(id, other)))),
            },
            (Purpose::Ask(commit @ Request::Commit { .. }, publication), answer) => {
                job.on_commit(commit, publication, answer, nodes);
            }
            (Purpose::Own(owners), answer) => {
                job.planned.clear();
                if answer == Answer::Done {
                    job.on_owned(owners, nodes);
                    self.tell_owners(id);
                }
            }
            (Purpose::Durable, Answer::Trimmed { objects }) => {
                job.order_trim(objects, nodes);
                self.look_at_held();
            }
            // There is no log any more.
            (Purpose::Durable, _) => {}
            (Purpose::Published(publication), Answer::Trimmed { objects }) => {
                job.on_published(publication, objects, nodes);
            }
            (Purpose::Published(publication), other) => {
                let error = state_error(id, other);
                for reply in publication.replies {
                    drop(reply.send(Err(error.clone())));
                }
            }
            (Purpose::Dropped, Answer::Done) => {
                if let Some(known) = &mut job.known {
                    known.has_files = false;
                }
                self.look_at_held();
            }
            (Purpose::Dropped, other) => {
                let error = state_error(id, other);
                tracing::warn!(job = %id, %error, "failed to note that a job's files are gone");
                job.dropping = Dropping::Untold;
            }
        }
    }
}

impl TierJob {
    fn on_begun(&mut self, who: Incarnation, begun: Begun, reply: Reply<Begun>) {
        if let Some(known) = &mut self.known {
            known.generation = who.generation;
            known.committed = begun.restored;
        }
        let beginning = Beginning {
            who,
            begun,
            give_up_at: Instant::now() + STATE_NODE_WAIT,
            reply,
        };
        if let Some(before) = self.beginning.replace(beginning) {
            let error = StateError::Fenced {
                job: self.id,
                caller: before.who.generation,
                current: who.generation,
            };
            drop(before.reply.send(Err(error)));
        }
    }

    /// The generation that has begun can run.
    pub(super) fn say_begun(&mut self) {
        if let Some(beginning) = self.beginning.take() {
            drop(beginning.reply.send(Ok(beginning.begun)));
        }
    }

    /// The generation that has begun cannot run for want of nodes.
    pub(super) fn give_up(&mut self, nodes: &Nodes) {
        if let Some(beginning) = self.beginning.take() {
            let why = match nodes.connected().next() {
                None => "no state node is connected: start one, or see why it does not connect",
                Some(_) => "state nodes come and go too fast to serve the job",
            };
            drop(
                beginning
                    .reply
                    .send(Err(StateError::Unavailable(why.into()))),
            );
        }
    }

    /// Output that is to be written down as published.
    pub(super) fn publication(&mut self) -> Publication {
        Publication {
            marks: self.published.take(),
            replies: std::mem::take(&mut self.published_replies),
        }
    }

    fn on_commit(
        &mut self,
        commit: Request,
        publication: Publication,
        answer: Answer,
        nodes: &mut Nodes,
    ) {
        let Request::Commit {
            who,
            epoch,
            objects,
            reply,
            span,
            ..
        } = commit
        else {
            return;
        };
        // State nodes join what they do to the checkpoint.
        let _entered = span.enter();
        let trimmed = match answer {
            Answer::Trimmed { objects } => objects,
            other => {
                // It is committed, if it is the last one: only its own generation has its number.
                // The next look shows who was not told of it.
                let done = matches!(&other,
                    Answer::Refused(Refusal::OutOfOrder { committed, .. }) if *committed == epoch);
                self.published.put_back(publication.marks, Instant::now());
                self.published_replies.extend(publication.replies);
                let answer = if done {
                    Ok(())
                } else {
                    Err(state_error(self.id, other))
                };
                return drop(reply.send(answer));
            }
        };
        self.order_committed(who, CommittedEpoch { epoch, objects }, nodes);
        self.on_published(publication, trimmed, nodes);
        drop(reply.send(Ok(())));
    }

    fn on_published(&mut self, publication: Publication, trimmed: Vec<String>, nodes: &mut Nodes) {
        self.order_published(&publication.marks, nodes);
        self.order_trim(trimmed, nodes);
        for reply in publication.replies {
            drop(reply.send(Ok(())));
        }
    }

    /// Shards have new owners: the old ones close them. The new ones are told as the next thing.
    fn on_owned(&mut self, owners: BTreeMap<ShardId, StateNodeId>, nodes: &mut Nodes) {
        let Some(known) = &mut self.known else {
            return;
        };
        for (shard, owner) in owners {
            tracing::info!(job = %self.id, %shard, node = %owner, "shard has an owner");
            self.told.remove(&shard);
            self.faults.remove(&shard);
            self.former.remove(&(owner, shard));
            let before = known.owners.insert(shard, owner);
            let Some(before) = before.filter(|before| *before != owner) else {
                continue;
            };
            let job = self.id;
            nodes.order(before, StateOrder::Close { job, shard });
            if self.former.len() < FORMER_OWNERS_MAX {
                self.former.insert((before, shard));
            }
        }
    }
}
