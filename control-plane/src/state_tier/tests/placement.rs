//! Who serves what, as nodes come and go.

use std::time::Duration;

use proto::types::{JobId, ShardId, StateNodeId};
use state_client::{Incarnation, StateControl as _};

use super::{
    metadata::Door,
    setup::{Bed, FakeNode, JOB, is_pending, pass, settle, who},
};
use crate::caps::{STATE_NODE_CONNECT, STATE_NODE_RETURN, STATE_NODE_WAIT};

/// The owner of a job's first shard, as those hear it who send requests there.
fn owner(bed: &Bed, job: JobId) -> StateNodeId {
    let owners = bed.tier.owners(job).expect("the job is known");
    owners.owners[&ShardId(0)].node
}

#[tokio::test(start_paused = true)]
async fn jobs_spread_over_the_nodes() {
    let bed = Bed::new(3).await;
    let (one, two) = (bed.node(1).await, bed.node(2).await);
    bed.begin(1).await.expect("begun");
    assert_eq!(bed.owners().await, [1, 2, 1]);
    let other = bed.accept(1).await;
    let who = Incarnation {
        job: other,
        ..who(1)
    };
    bed.tier.begin(who).await.expect("begun");
    assert_eq!(owner(&bed, other), two.id);
    // A node that comes is no reason to move what is well where it is.
    let three = bed.node(3).await;
    bed.begin(2).await.expect("begun");
    assert_eq!(bed.owners().await, [1, 2, 1]);
    assert_eq!(three.take(), [""; 0]);
    let status = bed.status().await;
    let shown: Vec<(u64, &str, usize)> = status
        .nodes
        .iter()
        .map(|node| (node.node.0, node.address.as_str(), node.shards))
        .collect();
    assert_eq!(
        shown,
        [(1, "sn-1:1", 2), (2, "sn-2:1", 2), (3, "sn-3:1", 0)]
    );
    drop(one);
}

#[tokio::test(start_paused = true)]
async fn jobs_that_begin_at_once_do_not_crowd_one_node() {
    let bed = Bed::new(1).await;
    let (_one, _two) = (bed.node(1).await, bed.node(2).await);
    let other = bed.accept(1).await;
    let second = Incarnation {
        job: other,
        ..who(1)
    };
    bed.metadata.close(Door::AfterChange);
    let first = bed.begin_later(1);
    let second = tokio::spawn(bed.tier.begin(second));
    settle().await;
    bed.metadata.open();
    first.await.expect("ends").expect("begun");
    second.await.expect("ends").expect("begun");
    assert_ne!(owner(&bed, JOB), owner(&bed, other));
}

#[tokio::test(start_paused = true)]
async fn shards_of_a_node_that_takes_no_orders_move_as_well() {
    let bed = Bed::new(1).await;
    let one = bed.node(1).await;
    bed.begin(1).await.expect("begun");
    let idle = bed.accept(1).await;
    let begin = Incarnation {
        job: idle,
        ..who(1)
    };
    bed.tier.begin(begin).await.expect("begun");
    let two = bed.node(2).await;
    one.die_silently();
    bed.commit(1, 16).await.expect("committed");
    bed.pass_return().await;
    // Also of a job for which nothing happens.
    let opened: Vec<String> = two.take();
    assert_eq!(
        opened,
        [
            "open shard_0 g1 at 16 log [16] out [16]",
            "open shard_0 g1 at 0 log [] out []"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn shards_wait_for_their_node_and_then_move() {
    let bed = Bed::new(2).await;
    let (one, two) = (bed.node(1).await, bed.node(2).await);
    bed.begin(1).await.expect("begun");
    let mut changes = bed.tier.owner_changes();
    let (job, owners) = changes.next().await.expect("lives");
    let owners = owners.expect("there are some");
    assert_eq!((job, owners.shards), (JOB, 2));
    assert_eq!(owners.owners[&ShardId(1)].address, "sn-2:1");
    bed.leave(&two).await;
    assert_eq!(bed.degraded().await, "shard_1 waits for sn_2 to come back");
    pass(STATE_NODE_RETURN / 2).await;
    assert_eq!(bed.owners().await, [1, 2]);
    one.take();
    two.take();
    // It is written down first.
    bed.metadata.close(Door::AfterChange);
    pass(STATE_NODE_RETURN).await;
    assert_eq!(bed.owners().await, [1, 1]);
    assert_eq!(one.take(), [""; 0]);
    bed.metadata.open();
    settle().await;
    assert_eq!(one.take(), ["open shard_1 g1 at 0 log [] out []"]);
    let (job, owners) = changes.next().await.expect("lives");
    let owners = owners.expect("there are some").owners.clone();
    assert_eq!((job, owners[&ShardId(1)].node), (JOB, one.id));
    assert_eq!(bed.degraded().await, "");
    // The old owner lived all the time.
    bed.join(&two).await;
    assert_eq!(two.take(), ["close shard_1"]);
    assert_eq!(bed.owners().await, [1, 1]);
    bed.commit(1, 16).await.expect("committed");
    assert_eq!(two.take(), [""; 0]);
    one.take();
    bed.check_knowledge(&[&one, &two]).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_gets_a_shard_back_can_tell_that_it_was_anothers() {
    let bed = Bed::new(1).await;
    let one = bed.node(1).await;
    bed.begin(1).await.expect("begun");
    let number = |node: &FakeNode| node.seen().jobs[&JOB].shards[&ShardId(0)].ownership;
    assert_eq!(number(&one), 1);
    let two = bed.node(2).await;
    // It is out of reach, and lives: it keeps the shard open.
    bed.leave(&one).await;
    bed.pass_return().await;
    assert_eq!(bed.owners().await, [2]);
    assert_eq!(number(&two), 2);
    // Another leader, who does not know that the first node ever had it.
    bed.driver.abort();
    bed.leave(&two).await;
    let bed = Bed::over(bed.metadata.clone(), 2);
    bed.join(&one).await;
    assert_eq!(number(&one), 1);
    pass(STATE_NODE_CONNECT).await;
    assert_eq!(bed.owners().await, [1]);
    assert_eq!(number(&one), 3);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_returns_in_time_keeps_its_shards() {
    let bed = Bed::new(2).await;
    let (one, two) = (bed.node(1).await, bed.node(2).await);
    bed.begin(1).await.expect("begun");
    bed.leave(&two).await;
    pass(STATE_NODE_RETURN / 2).await;
    two.take();
    bed.join(&two).await;
    pass(STATE_NODE_RETURN * 2).await;
    assert_eq!(two.take(), ["open shard_1 g1 at 0 log [] out []"]);
    assert_eq!(bed.owners().await, [1, 2]);
    drop(one);
}

#[tokio::test(start_paused = true)]
async fn when_all_nodes_have_died_the_first_that_comes_has_all() {
    let bed = Bed::new(2).await;
    let (one, two) = (bed.node(1).await, bed.node(2).await);
    bed.begin(1).await.expect("begun");
    bed.commit(1, 16).await.expect("committed");
    bed.kill(&one).await;
    bed.kill(&two).await;
    pass(Duration::from_secs(3600)).await;
    assert_eq!(
        bed.degraded().await,
        "shard_0 has no state node: sn_1 is gone"
    );
    // Commits need no node; what was staged is in the store.
    bed.commit(1, 17).await.expect("committed");
    two.take();
    bed.join(&two).await;
    assert_eq!(bed.owners().await, [2, 2]);
    assert_eq!(
        two.take(),
        [
            "open shard_0 g1 at 17 log [16, 17] out [16, 17]",
            "open shard_1 g1 at 17 log [16, 17] out []"
        ]
    );
    assert_eq!(bed.degraded().await, "");
}

#[tokio::test(start_paused = true)]
async fn a_generation_waits_for_a_node() {
    let bed = Bed::new(1).await;
    let mut begin = bed.begin_later(1);
    pass(STATE_NODE_WAIT / 2).await;
    assert!(is_pending(&mut begin));
    assert_eq!(bed.degraded().await, "no state node is connected");
    let node = bed.node(1).await;
    begin.await.expect("ends").expect("begun");
    assert_eq!(node.take(), ["open shard_0 g1 at 0 log [] out []"]);
}

#[tokio::test(start_paused = true)]
async fn a_generation_does_not_wait_for_ever() {
    let bed = Bed::new(1).await;
    let error = bed.begin(1).await.expect_err("no node");
    assert!(error.is_retryable());
    assert_eq!(
        error.to_string(),
        "state store is unavailable: no state node is connected: \
         start one, or see why it does not connect"
    );
    // The next one need not.
    let node = bed.node(1).await;
    assert_eq!(node.take(), ["open shard_0 g1 at 0 log [] out []"]);
    assert_eq!(bed.begin(2).await.expect("begun").first.0, 32);
    assert_eq!(node.take(), ["open shard_0 g2 at 0 log [] out []"]);
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_gives_nodes_time_to_find_it() {
    let bed = Bed::new(2).await;
    let (one, two) = (bed.node(1).await, bed.node(2).await);
    bed.begin(1).await.expect("begun");
    bed.driver.abort();
    let next = Bed::over(bed.metadata.clone(), 2);
    next.join(&one).await;
    pass(STATE_NODE_CONNECT / 2).await;
    assert_eq!(next.owners().await, [1, 2]);
    // A generation that begins meanwhile waits too.
    let mut begin = next.begin_later(2);
    settle().await;
    assert!(is_pending(&mut begin));
    pass(STATE_NODE_CONNECT).await;
    assert_eq!(next.owners().await, [1, 1]);
    begin.await.expect("ends").expect("begun");
    one.take();
    two.take();
    next.check_knowledge(&[&one]).await;
}

#[tokio::test(start_paused = true)]
async fn owners_of_jobs_that_have_gone_are_told_as_none() {
    let bed = Bed::new(1).await;
    let _node = bed.node(1).await;
    let other = JobId(2);
    assert_eq!(bed.accept(1).await, other);
    let mut changes = bed.tier.owner_changes();
    bed.begin(1).await.expect("begun");
    let begin = Incarnation {
        job: other,
        ..who(1)
    };
    bed.tier.begin(begin).await.expect("begun");
    let first = changes.next().await.expect("lives");
    let second = changes.next().await.expect("lives");
    assert_eq!([first.0, second.0], [JOB, other]);
    bed.end(JOB).await;
    bed.tier.drop_job(JOB).await.expect("dropped");
    let (job, owners) = changes.next().await.expect("lives");
    assert_eq!((job, owners), (JOB, None));
    assert_eq!(bed.tier.owners(JOB), None);
}
