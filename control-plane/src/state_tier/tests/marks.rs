//! What is durable and what is published: written down in batches, and what it frees.

use std::time::Duration;

use coordinator::meta::Change;
use proto::{
    state_control::{ShardFiles, StateReport},
    types::{Epoch, Generation, ShardId, SinkId},
};
use state_client::StateControl as _;

use super::setup::{Bed, JOB, is_pending, pass, settle, who};
use crate::caps::{DURABLE_GATHERED, PUBLISHED_GATHERED};

fn durable(shard: u32, epoch: u64) -> StateReport {
    StateReport::Durable {
        job: JOB,
        shard: ShardId(shard),
        epoch: Epoch(epoch),
        files: flushed(epoch),
    }
}

fn flushed(epoch: u64) -> ShardFiles {
    ShardFiles {
        manifest: Epoch(epoch),
        ..ShardFiles::default()
    }
}

#[tokio::test(start_paused = true)]
async fn durable_epochs_are_gathered_and_free_the_log() {
    let bed = Bed::new(2).await;
    let node = bed.node(1).await;
    bed.begin(1).await.expect("begun");
    for epoch in 16..19 {
        bed.commit(1, epoch).await.expect("committed");
    }
    node.take();
    bed.metadata.take_proposed();
    bed.report(&node, durable(0, 18)).await;
    // An older stream's may come later.
    bed.report(&node, durable(0, 16)).await;
    // What a shard has when it is opened counts as well.
    let opened = StateReport::Opened {
        job: JOB,
        shard: ShardId(1),
        generation: Generation(1),
        applied: Epoch(18),
        durable: Epoch(17),
        files: flushed(17),
    };
    bed.report(&node, opened).await;
    assert_eq!(bed.metadata.take_kinds(), "");
    pass(DURABLE_GATHERED).await;
    assert_eq!(bed.metadata.take_kinds(), "durable");
    assert_eq!(node.take(), [r#"trim ["16.rows", "17.rows"]"#]);
    bed.report(&node, durable(1, 18)).await;
    pass(DURABLE_GATHERED).await;
    assert_eq!(node.take(), [r#"trim ["18.rows"]"#]);
    // Nothing new, nothing to write.
    bed.metadata.take_proposed();
    pass(Duration::from_secs(60)).await;
    assert_eq!(bed.metadata.take_kinds(), "");
}

#[tokio::test(start_paused = true)]
async fn published_output_is_written_down_with_the_next_commit() {
    let bed = Bed::new(1).await;
    let node = bed.node(1).await;
    bed.begin(1).await.expect("begun");
    bed.commit(1, 16).await.expect("committed");
    node.take();
    bed.metadata.take_proposed();
    let mut published = tokio::spawn(bed.tier.published(who(1), SinkId(0), Epoch(16)));
    pass(PUBLISHED_GATHERED / 2).await;
    assert!(is_pending(&mut published));
    assert_eq!(node.take(), [""; 0]);
    bed.commit(1, 17).await.expect("committed");
    assert_eq!(published.await.expect("ends"), Ok(()));
    assert_eq!(
        node.take(),
        [
            r#"committed 17 after 16 g1 ["17.rows", "17.out"]"#,
            "published sink_0 16",
            r#"trim ["16.out"]"#
        ]
    );
    pass(PUBLISHED_GATHERED * 2).await;
    assert_eq!(bed.metadata.take_kinds(), "commit");
}

#[tokio::test(start_paused = true)]
async fn published_output_is_written_down_by_itself_when_no_commit_comes() {
    let bed = Bed::new(1).await;
    let node = bed.node(1).await;
    bed.begin(1).await.expect("begun");
    bed.commit(1, 16).await.expect("committed");
    node.take();
    bed.metadata.take_proposed();
    let published = bed.tier.published(who(1), SinkId(0), Epoch(16)).await;
    assert_eq!(published, Ok(()));
    assert_eq!(bed.metadata.take_kinds(), "published");
    assert_eq!(node.take(), ["published sink_0 16", r#"trim ["16.out"]"#]);
    // A node that opens the shard again is told so again.
    bed.leave(&node).await;
    bed.join(&node).await;
    assert_eq!(
        node.take(),
        [
            "open shard_0 g1 at 16 log [16] out []",
            "published sink_0 16"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_refused_commit_does_not_swallow_what_is_published() {
    let bed = Bed::new(1).await;
    let node = bed.node(1).await;
    bed.begin(1).await.expect("begun");
    bed.commit(1, 16).await.expect("committed");
    bed.begin(2).await.expect("begun");
    let published = tokio::spawn(bed.tier.published(who(1), SinkId(0), Epoch(16)));
    settle().await;
    bed.metadata.take_proposed();
    bed.commit(1, 17).await.expect_err("fenced");
    assert_eq!(published.await.expect("ends"), Ok(()));
    let last = bed.metadata.take_proposed().pop().expect("proposed");
    let wanted = Change::Published {
        job: JOB,
        published: [(SinkId(0), Epoch(16))].into(),
    };
    assert_eq!(last.change, wanted);
    drop(node);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_job_waits_for_no_commit() {
    let bed = Bed::new(1).await;
    let _node = bed.node(1).await;
    bed.begin(1).await.expect("begun");
    bed.commit(1, 16).await.expect("committed");
    let published = tokio::spawn(bed.tier.published(who(1), SinkId(0), Epoch(16)));
    settle().await;
    bed.end(JOB).await;
    bed.metadata.take_proposed();
    bed.tier.drop_job(JOB).await.expect("ended");
    settle().await;
    assert_eq!(bed.metadata.take_kinds(), "published");
    assert_eq!(published.await.expect("ends"), Ok(()));
    let record = bed.record(JOB).await.expect("remembered");
    assert_eq!(record.published[&SinkId(0)], Epoch(16));
}
