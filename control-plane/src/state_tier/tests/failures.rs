//! Shards that their nodes do not serve, and nodes in trouble.

use std::time::Duration;

use proto::{
    state_control::{ShardFiles, StateReport},
    types::{Epoch, Generation, JobId, ShardId},
};

use super::setup::{Bed, FakeNode, JOB, pass, settle};
use crate::caps::{SHARD_FAILURES_PER_NODE, SHARD_RETRY, SHARD_RETRY_MAX};

fn failed(retryable: bool) -> StateReport {
    StateReport::Failed {
        job: JOB,
        shard: ShardId(0),
        error: "the manifest is torn".into(),
        retryable,
    }
}

fn opened() -> StateReport {
    StateReport::Opened {
        job: JOB,
        shard: ShardId(0),
        generation: Generation(1),
        applied: Epoch(0),
        durable: Epoch(0),
        files: ShardFiles::default(),
    }
}

const OPEN: [&str; 1] = ["open shard_0 g1 at 0 log [] out []"];

#[tokio::test(start_paused = true)]
async fn a_shard_that_was_given_up_is_opened_again_ever_more_slowly() {
    let bed = Bed::new(1).await;
    let node = bed.node(1).await;
    bed.begin(1).await.expect("begun");
    node.take();
    for time in 0..12_u32 {
        bed.report(&node, failed(false)).await;
        // Told twice, it has failed once.
        bed.report(&node, failed(false)).await;
        let shown = bed.degraded().await;
        assert_eq!(shown, "shard_0 is not served by sn_1: the manifest is torn");
        let pause = SHARD_RETRY.saturating_mul(1 << time).min(SHARD_RETRY_MAX);
        pass(pause / 2 - Duration::from_millis(10)).await;
        assert_eq!(node.take(), [""; 0], "after failure {time}");
        pass(pause / 2 + Duration::from_millis(10)).await;
        assert_eq!(node.take(), OPEN, "after failure {time}");
    }
    bed.report(&node, opened()).await;
    assert_eq!(bed.degraded().await, "");
    bed.report(&node, failed(false)).await;
    pass(SHARD_RETRY).await;
    assert_eq!(node.take(), OPEN);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_tries_by_itself_is_let_alone() {
    let bed = Bed::new(1).await;
    let node = bed.node(1).await;
    bed.begin(1).await.expect("begun");
    node.take();
    bed.report(&node, failed(true)).await;
    assert_ne!(bed.degraded().await, "");
    pass(Duration::from_secs(600)).await;
    assert_eq!(node.take(), [""; 0]);
}

async fn fail_until_moved(bed: &Bed, node: &FakeNode) {
    for _ in 0..SHARD_FAILURES_PER_NODE {
        assert_eq!(node.take(), OPEN);
        bed.report(node, failed(false)).await;
        pass(SHARD_RETRY_MAX).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_one_node_cannot_serve_is_tried_on_another() {
    let bed = Bed::new(1).await;
    let one = bed.node(1).await;
    bed.begin(1).await.expect("begun");
    let two = bed.node(2).await;
    fail_until_moved(&bed, &one).await;
    assert_eq!(bed.owners().await, [2]);
    assert_eq!(one.take(), ["close shard_0"]);
    assert_eq!(bed.degraded().await, "");
    // What the old owner still says of it counts for nothing.
    bed.report(&one, failed(false)).await;
    assert_eq!(bed.degraded().await, "");
    one.take();
    // The other one may be no better.
    fail_until_moved(&bed, &two).await;
    assert_eq!(bed.owners().await, [1]);
    assert_eq!(one.take(), OPEN);
    // What it had lost before is its own again.
    bed.leave(&one).await;
    bed.join(&one).await;
    assert_eq!(one.take(), OPEN);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_serves_what_is_not_its_own_is_told_to_close_it() {
    let bed = Bed::new(1).await;
    let (one, two) = (bed.node(1).await, bed.node(2).await);
    bed.begin(1).await.expect("begun");
    one.take();
    bed.report(&two, opened()).await;
    assert_eq!(two.take(), ["close shard_0"]);
    bed.report(&one, opened()).await;
    assert_eq!(one.take(), [""; 0]);
    let gone = StateReport::Durable {
        job: JobId(9),
        shard: ShardId(3),
        epoch: Epoch(4),
        files: ShardFiles::default(),
    };
    bed.report(&one, gone).await;
    assert_eq!(one.take(), ["close shard_3"]);
}

#[tokio::test(start_paused = true)]
async fn the_status_says_which_node_misses_the_store() {
    let bed = Bed::new(1).await;
    let node = bed.node(1).await;
    bed.begin(1).await.expect("begun");
    let degraded = |why: Option<&str>| StateReport::Degraded {
        why: why.map(Into::into),
    };
    bed.report(&node, degraded(Some("503 for 12 s"))).await;
    assert_eq!(bed.degraded().await, "sn_1: 503 for 12 s");
    let status = bed.status().await;
    assert_eq!(status.nodes[0].degraded.as_deref(), Some("503 for 12 s"));
    bed.report(&node, degraded(None)).await;
    assert_eq!(bed.degraded().await, "");
    // What a stream that has ended said does not stick.
    bed.report(&node, degraded(Some("503"))).await;
    bed.leave(&node).await;
    bed.join(&node).await;
    settle().await;
    assert_eq!(bed.degraded().await, "");
}
