//! Staging: sections go to their shards' owners. What a node has acknowledged is in the object store
//! and needs nothing more, whatever becomes of the node; the rest goes to the next owner.
//!
//! A node writes an epoch when it has heard of all tasks, so those that have nothing for it say so. It
//! only makes the node wait less: nobody waits for the answer.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use proto::{
    log::LogObject,
    types::{Epoch, ShardId, TaskId},
};
use rpc::tonic::Request;
use state_client::{EpochDelta, Incarnation, StateError};
use state_wire::{EncodedSection, Failure, StageParts, decode_stage_reply, encode_stage_head};
use tokio::time::timeout;
use tracing::Instrument as _;

use crate::{
    RemoteConfig, caps::STAGE_BYTES_PER_SECOND_MIN, link::NodeLink, read::answer, routes::Route,
    scatter::scatter, store::Shared,
};

/// Who stages what.
#[derive(Clone, Copy)]
struct Stager {
    who: Incarnation,
    epoch: Epoch,
    task: TaskId,
    tasks: u32,
}

/// Tells nodes that a task has nothing for them, each once.
struct Announcer<'a> {
    shared: &'a Arc<Shared>,
    stager: Stager,
    shards: BTreeSet<ShardId>,
    told: Vec<Arc<NodeLink>>,
}

impl Shared {
    pub(crate) async fn stage(
        self: &Arc<Self>,
        who: Incarnation,
        delta: EpochDelta,
    ) -> Result<Vec<LogObject>, StateError> {
        let stager = Stager {
            who,
            epoch: delta.epoch,
            task: delta.task,
            tasks: delta.tasks,
        };
        let mut work = BTreeMap::new();
        for section in delta.sections.iter().filter(|section| !section.is_empty()) {
            let twin = work.insert(section.shard, EncodedSection::new(section));
            assert!(twin.is_none(), "a delta has one section per shard");
        }
        drop(delta);
        let mut announcer = Announcer {
            shared: self,
            stager,
            shards: work.keys().copied().collect(),
            told: Vec::new(),
        };
        if work.is_empty() {
            if let Some(route) = self.routes.of(who.job) {
                announcer.tell(&route);
            }
            return Ok(Vec::new());
        }
        let operation = self.patient_operation(who.job, "stage changes");
        let call = |link, sections| stage_at(link, &self.config, stager, sections);
        let answers = scatter(operation, work, |route| announcer.tell(route), call).await?;
        // Two sections in one object are acknowledged with one, or by two calls.
        let objects: BTreeSet<LogObject> = answers.into_iter().flatten().collect();
        Ok(objects.into_iter().collect())
    }
}

impl Announcer<'_> {
    fn tell(&mut self, route: &Route) {
        let has_part = |link: &Arc<NodeLink>| {
            let mut of_link = route.owners().filter(|(_, owner)| Arc::ptr_eq(owner, link));
            of_link.any(|(shard, _)| self.shards.contains(&shard))
        };
        for (_, link) in route.owners() {
            if self.told.iter().any(|told| Arc::ptr_eq(told, link)) || has_part(link) {
                continue;
            }
            self.told.push(link.clone());
            // A node with so many unanswered ones will not miss another.
            let Ok(permit) = link.announcements.clone().try_acquire_owned() else {
                continue;
            };
            let (shared, stager, link) = (self.shared.clone(), self.stager, link.clone());
            let telling = async move {
                let deadline = shared.config.limits.announce_deadline;
                let told = announce(&link, &shared.config, stager, deadline).await;
                if let Err(error) = told {
                    let address = &link.owner.address;
                    tracing::debug!(%address, ?error, "a node was not told of an idle task");
                }
                drop(permit);
            };
            tokio::spawn(telling.in_current_span());
        }
    }
}

async fn announce(
    link: &NodeLink,
    config: &RemoteConfig,
    stager: Stager,
    deadline: Duration,
) -> Result<Vec<LogObject>, Failure> {
    stage_call(link, config, stager, &[], deadline).await
}

async fn stage_at(
    link: Arc<NodeLink>,
    config: &RemoteConfig,
    stager: Stager,
    sections: Vec<EncodedSection>,
) -> Result<Vec<LogObject>, Failure> {
    let _permit = link.stage_permit().await;
    let bytes: u64 = sections.iter().map(EncodedSection::bytes).sum();
    let sending = Duration::from_secs(bytes / STAGE_BYTES_PER_SECOND_MIN);
    let deadline = config.limits.stage_deadline + sending;
    stage_call(&link, config, stager, &sections, deadline).await
}

async fn stage_call(
    link: &NodeLink,
    config: &RemoteConfig,
    stager: Stager,
    sections: &[EncodedSection],
    deadline: Duration,
) -> Result<Vec<LogObject>, Failure> {
    let Stager {
        who,
        epoch,
        task,
        tasks,
    } = stager;
    let head = encode_stage_head(who, epoch, task, tasks, sections);
    let parts = StageParts::new(head, sections);
    let mut request = Request::new(futures::stream::iter(parts));
    request.set_timeout(deadline);
    let mut client = link.client(config)?;
    let reply = answer(timeout(deadline, client.stage(request)).await)?;
    Ok(decode_stage_reply(reply.into_inner()))
}
