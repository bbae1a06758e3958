//! The end of a job's files, while somebody is still at them.

use std::time::Duration;

use futures::FutureExt as _;
use proto::{
    state_control::{DatabaseReference, JobReferences, StateOrder, StateReport},
    types::{Epoch, Generation, ShardId},
};

use super::world::{JOB, SHARD_PUT, SHARDS, World, flushed_after, rows};
use crate::testing::Fault;

/// How late the sweep's write is.
const LATE: Duration = Duration::from_secs(10);

impl World {
    async fn files_of_job(&self) -> Vec<String> {
        self.files("")
            .await
            .into_iter()
            .filter(|path| path.contains("/jobs/3/"))
            .collect()
    }

    /// The job has ended: nobody serves its shards, and this node keeps its files in order.
    async fn end(&self) {
        let shared = &self.node.shared;
        let shards = shared.known_job(JOB).expect("the job").look_shards();
        shared.keep(JOB, true);
        for shard in (0..SHARDS).map(ShardId) {
            let order = StateOrder::Close { job: JOB, shard };
            self.setup.control.order(order);
        }
        for shard in shards {
            shard.ended().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_whose_files_are_being_swept_is_dropped_after_that() {
    let mut world = World::new(flushed_after(1)).await;
    for epoch in 16..19 {
        world.apply(epoch, rows(epoch, &[(0, 1, "value")])).await;
        world.durable(0, epoch).await;
    }
    world.end().await;
    // A savepoint has let go of all but the newest manifest.
    let needed = || {
        let databases = vec![DatabaseReference {
            line: 0,
            shard: ShardId(0),
            manifests: vec![Epoch(18)],
        }];
        let references = JobReferences {
            generation: Generation(1),
            committed: Epoch(18),
            ended: true,
            databases,
            ..JobReferences::default()
        };
        async { Ok(references) }.boxed()
    };
    world.faults.reset_counts();
    world.faults.fail(SHARD_PUT, 0, 1, Fault::Delay(LATE));
    let shared = world.node.shared.clone();
    let sweeping = tokio::spawn(async move { shared.sweep_by(JOB, needed).await });
    while world.faults.count(SHARD_PUT).0 == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // And then of that one.
    world.setup.control.order(StateOrder::Drop {
        job: JOB,
        shards: SHARDS,
    });
    let gone = |report: &StateReport| *report == StateReport::Dropped { job: JOB };
    world.setup.control.reported(gone).await;
    assert_eq!(world.files_of_job().await, [""; 0]);
    drop(sweeping.await.expect("no panic"));
    assert_eq!(world.files_of_job().await, [""; 0], "written after the end");
}

#[tokio::test(start_paused = true)]
async fn a_job_that_was_dropped_is_swept_no_more() {
    let mut world = World::new(flushed_after(1)).await;
    world.apply(16, rows(16, &[(0, 1, "value")])).await;
    world.durable(0, 16).await;
    world.end().await;
    world.node.shared.keep(JOB, false);
    let unasked = || panic!("nobody here is to look after its files");
    assert_eq!(world.node.shared.sweep_by(JOB, unasked).await, Ok(0));
    assert_ne!(world.files_of_job().await, [""; 0], "who drops it does it");
}
