//! Work that is cut by shard goes to the shards' owners, one call per node, until all is done. What a
//! call leaves undone, because the node failed or a shard moved, is grouped anew by whoever owns it
//! then.

use std::{collections::BTreeMap, future::Future, sync::Arc};

use futures::{StreamExt as _, stream::FuturesUnordered};
use proto::types::ShardId;
use rpc::Backoff;
use state_client::StateError;
use state_wire::Failure;
use tokio::time::{Instant, sleep_until};

use crate::{link::NodeLink, operation::Operation, routes::Route};

/// Work and its shard.
type Work<W> = BTreeMap<ShardId, W>;

/// What became of a call.
enum Ended<T> {
    Done(T),
    Failed(Failure),
    /// A shard has another owner.
    Moved,
}

/// A node that failed and is left in peace for a while.
struct Rest {
    link: Arc<NodeLink>,
    until: Instant,
    pauses: Backoff,
}

/// Has all work done by `call`, which gets a node and work for it; the answers, in no order.
/// `routed` sees every route before work goes out by it.
pub(crate) async fn scatter<W, T, C>(
    mut operation: Operation,
    mut waiting: Work<W>,
    mut routed: impl FnMut(&Route),
    call: impl Fn(Arc<NodeLink>, Vec<W>) -> C,
) -> Result<Vec<T>, StateError>
where
    W: Clone,
    C: Future<Output = Result<T, Failure>>,
{
    let routes = operation.routes.clone();
    let job = operation.job;
    let attempt = |link: Arc<NodeLink>, work: Work<W>| {
        let shards: Vec<ShardId> = work.keys().copied().collect();
        let called = call(link.clone(), work.values().cloned().collect());
        let routes = &routes;
        async move {
            let ended = tokio::select! {
                biased;
                called = called => called.map_or_else(Ended::Failed, Ended::Done),
                () = routes.moved(job, &shards, &link) => Ended::Moved,
            };
            (link, work, ended)
        }
    };
    let mut table = routes.watch();
    let mut calls = FuturesUnordered::new();
    let mut resting: Vec<Rest> = Vec::new();
    let mut answers = Vec::new();
    let mut last = None;
    while !(waiting.is_empty() && calls.is_empty()) {
        let route = table.borrow_and_update().of(job);
        if let Some(route) = route
            && !waiting.is_empty()
        {
            routed(&route);
            let groups = take_due(&mut waiting, &route, &resting, Instant::now());
            calls.extend(groups.into_iter().map(|(link, work)| attempt(link, work)));
        }
        let wake = wake_at(&waiting, &resting);
        tokio::select! {
            biased;
            Some((link, work, ended)) = calls.next(), if !calls.is_empty() => match ended {
                Ended::Done(answer) => answers.push(answer),
                Ended::Moved => waiting.extend(work),
                Ended::Failed(Failure::Final(error)) => return Err(error),
                Ended::Failed(Failure::Passing(error)) => {
                    operation.failed(&link.owner.address, &error);
                    rest(&mut resting, link, &operation);
                    waiting.extend(work);
                    last = Some(error);
                }
            },
            // The table's other end is in `routes`.
            _ = table.changed() => {}
            () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
            () = operation.out_of_patience() => return Err(operation.given_up(last.as_ref())),
        }
    }
    Ok(answers)
}

/// Takes the work whose owner is known and not resting, grouped by owner.
fn take_due<W>(
    waiting: &mut Work<W>,
    route: &Route,
    resting: &[Rest],
    now: Instant,
) -> Vec<(Arc<NodeLink>, Work<W>)> {
    let mut groups: Vec<(Arc<NodeLink>, Work<W>)> = Vec::new();
    let is_due = |shard: &ShardId, _: &mut W| {
        let owner = route.owner(*shard);
        owner.is_some_and(|owner| !rests(resting, owner, now))
    };
    for (shard, work) in waiting.extract_if(.., is_due) {
        let Some(owner) = route.owner(shard) else {
            continue;
        };
        let group = groups.iter_mut().find(|group| Arc::ptr_eq(&group.0, owner));
        match group {
            Some((_, group)) => drop(group.insert(shard, work)),
            None => groups.push((owner.clone(), BTreeMap::from([(shard, work)]))),
        }
    }
    groups
}

fn rests(resting: &[Rest], link: &Arc<NodeLink>, now: Instant) -> bool {
    let mut of_link = resting.iter().filter(|rest| Arc::ptr_eq(&rest.link, link));
    of_link.any(|rest| rest.until > now)
}

/// Leaves a node in peace, longer each time.
fn rest(resting: &mut Vec<Rest>, link: Arc<NodeLink>, operation: &Operation) {
    let known = resting
        .iter()
        .position(|rest| Arc::ptr_eq(&rest.link, &link));
    let mut rest = match known {
        Some(index) => resting.swap_remove(index),
        None => Rest {
            link,
            until: Instant::now(),
            pauses: operation.backoff(),
        },
    };
    rest.until = Instant::now() + rest.pauses.next().unwrap_or_default();
    resting.push(rest);
}

/// When a node that something may wait for has rested.
fn wake_at<W>(waiting: &Work<W>, resting: &[Rest]) -> Option<Instant> {
    let now = Instant::now();
    let ends = resting.iter().map(|rest| rest.until);
    let next = ends.filter(|until| *until > now).min();
    next.filter(|_| !waiting.is_empty())
}
