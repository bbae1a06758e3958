//! The end of a job: its files go, whoever is there to delete them.

use coordinator::meta::{Answer, Change, OriginSpec, RestoreAt};
use proto::{
    state_control::{ShardFiles, StateReport},
    types::{Epoch, Generation, JobId, ShardId},
};
use state_client::{Incarnation, StateControl as _, StateError};

use super::setup::{Bed, JOB, objects, pass, settle};
use crate::caps::DURABLE_GATHERED;

const DROPPED: StateReport = StateReport::Dropped { job: JOB };

async fn has_files(bed: &Bed) -> bool {
    bed.record(JOB).await.expect("remembered").has_files
}

#[tokio::test(start_paused = true)]
async fn files_are_gone_when_every_node_that_served_the_job_says_so() {
    let bed = Bed::new(2).await;
    let (one, two) = (bed.node(1).await, bed.node(2).await);
    let three = bed.node(3).await;
    bed.begin(1).await.expect("begun");
    let running = bed.tier.drop_job(JOB).await;
    let wanted = StateError::Unavailable("job_1 has not ended".into());
    assert_eq!(running, Err(wanted));
    bed.end(JOB).await;
    one.take();
    two.take();
    bed.tier.drop_job(JOB).await.expect("ended");
    assert_eq!(
        (one.take(), two.take()),
        (vec!["drop job_1".into()], vec!["drop job_1".into()])
    );
    assert_eq!(three.take(), [""; 0]);
    bed.report(&one, DROPPED).await;
    assert!(has_files(&bed).await);
    bed.report(&two, DROPPED).await;
    assert!(!has_files(&bed).await);
    // And again, from a driver that has not heard so.
    bed.tier.drop_job(JOB).await.expect("ended");
    settle().await;
    assert_eq!((one.take(), two.take()), (vec![], vec![]));
    bed.tier
        .drop_job(proto::types::JobId(9))
        .await
        .expect("there is none");
}

#[tokio::test(start_paused = true)]
async fn files_wait_for_a_node_that_can_delete_them() {
    let bed = Bed::new(1).await;
    let one = bed.node(1).await;
    bed.begin(1).await.expect("begun");
    bed.kill(&one).await;
    bed.end(JOB).await;
    bed.tier.drop_job(JOB).await.expect("ended");
    assert!(has_files(&bed).await);
    let two = bed.node(2).await;
    assert_eq!(two.take(), ["drop job_1"]);
    // It dies over it.
    bed.kill(&two).await;
    let three = bed.node(3).await;
    assert_eq!(three.take(), ["drop job_1"]);
    bed.report(&three, DROPPED).await;
    assert!(!has_files(&bed).await);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_served_the_job_and_returns_stops_serving_it() {
    let bed = Bed::new(2).await;
    let (one, two) = (bed.node(1).await, bed.node(2).await);
    bed.begin(1).await.expect("begun");
    bed.leave(&one).await;
    bed.end(JOB).await;
    two.take();
    bed.tier.drop_job(JOB).await.expect("ended");
    assert_eq!(two.take(), ["drop job_1"]);
    one.take();
    bed.join(&one).await;
    assert_eq!(one.take(), ["drop job_1"]);
    bed.report(&two, DROPPED).await;
    assert!(has_files(&bed).await);
    bed.report(&one, DROPPED).await;
    assert!(!has_files(&bed).await);
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_finds_files_that_are_left() {
    let bed = Bed::new(1).await;
    let one = bed.node(1).await;
    bed.begin(1).await.expect("begun");
    bed.end(JOB).await;
    bed.driver.abort();
    one.take();
    let next = Bed::over(bed.metadata.clone(), 2);
    next.join(&one).await;
    assert_eq!(one.take(), ["drop job_1"]);
    next.report(&one, DROPPED).await;
    assert!(!has_files(&next).await);
    assert_eq!(next.status().await.degraded.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn files_that_a_savepoint_needs_stay_until_it_is_dropped() {
    let bed = Bed::new(1).await;
    let one = bed.node(1).await;
    bed.begin(1).await.expect("begun");
    bed.commit(1, 16).await.expect("committed");
    let save = |name: &str| Change::Save {
        job: JOB,
        name: name.to_owned(),
        at: RestoreAt::Newest,
        now_ms: 1,
    };
    for name in ["a", "b"] {
        let saved = bed.change(save(name)).await;
        assert_eq!(saved, Answer::Saved { epoch: Epoch(16) });
    }
    bed.end(JOB).await;
    one.take();
    bed.tier.drop_job(JOB).await.expect("ended");
    settle().await;
    // What nothing needs of it goes at once.
    assert_eq!(one.take(), ["collect job_1"]);
    let drop_savepoint = |name: &str| {
        let name = name.to_owned();
        bed.change(Change::DropSavepoint { job: JOB, name })
    };
    drop_savepoint("a").await;
    bed.tier.released(JOB, Vec::new()).await;
    settle().await;
    assert_eq!(one.take(), [""; 0], "the other one needs the same");
    // Another leader knows as much.
    bed.driver.abort();
    let next = Bed::over(bed.metadata.clone(), 2);
    next.join(&one).await;
    assert_eq!(one.take(), ["collect job_1"]);
    drop_savepoint("b").await;
    next.tier.released(JOB, vec!["16.rows".into()]).await;
    settle().await;
    assert_eq!(one.take(), [r#"trim ["16.rows"]"#, "drop job_1"]);
    next.report(&one, DROPPED).await;
    assert!(!has_files(&next).await);
}

#[tokio::test(start_paused = true)]
async fn who_has_looked_after_files_that_were_kept_ends_that_before_they_are_gone() {
    let bed = Bed::new(1).await;
    let one = bed.node(1).await;
    bed.begin(1).await.expect("begun");
    bed.commit(1, 16).await.expect("committed");
    let name = "a".to_owned();
    bed.change(Change::Save {
        job: JOB,
        name: name.clone(),
        at: RestoreAt::Newest,
        now_ms: 1,
    })
    .await;
    bed.leave(&one).await;
    bed.end(JOB).await;
    let two = bed.node(2).await;
    bed.tier.drop_job(JOB).await.expect("ended");
    settle().await;
    assert_eq!(two.take(), ["collect job_1"]);
    // The owner is back, and not alone at it.
    one.take();
    bed.join(&one).await;
    assert_eq!(one.take(), ["collect job_1"]);
    bed.change(Change::DropSavepoint { job: JOB, name }).await;
    bed.tier.released(JOB, Vec::new()).await;
    settle().await;
    assert_eq!(one.take(), ["drop job_1"]);
    assert_eq!(two.take(), ["drop job_1"]);
    bed.report(&one, DROPPED).await;
    assert!(has_files(&bed).await);
    bed.report(&two, DROPPED).await;
    assert!(!has_files(&bed).await);
}

#[tokio::test(start_paused = true)]
async fn files_of_an_ended_job_go_when_its_fork_has_none_of_them_any_more() {
    let bed = Bed::new(2).await;
    let one = bed.node(1).await;
    bed.begin(1).await.expect("begun");
    bed.commit(1, 16).await.expect("committed");
    let mut spec = bed.record(JOB).await.expect("the job").spec;
    spec.origin = Some(OriginSpec {
        job: JOB,
        at: RestoreAt::Newest,
    });
    let accept = Change::Accept {
        catalog: None,
        statements: None,
        jobs: vec![spec],
        now_ms: 0,
        seed: 0,
    };
    let fork = JobId(2);
    assert_eq!(
        bed.change(accept).await,
        Answer::Accepted { jobs: vec![fork] }
    );
    let who = Incarnation {
        job: fork,
        generation: Generation(1),
    };
    let begun = bed.tier.begin(who).await.expect("begun");
    assert_eq!((begun.restored, begun.first), (Epoch(16), Epoch(32)));
    bed.end(JOB).await;
    one.take();
    bed.tier.drop_job(JOB).await.expect("ended");
    settle().await;
    assert_eq!(one.take(), ["collect job_1"]);
    bed.tier
        .commit(who, Epoch(32), objects(32), 0)
        .await
        .expect("committed");
    one.take();
    let durable = |shard| StateReport::Durable {
        job: fork,
        shard: ShardId(shard),
        epoch: Epoch(32),
        files: ShardFiles {
            line: 0,
            manifest: Epoch(32),
            parents: Vec::new(),
        },
    };
    // All that it had of the log is in its own database.
    bed.report(&one, durable(0)).await;
    pass(DURABLE_GATHERED).await;
    assert_eq!(one.take(), [""; 0]);
    bed.report(&one, durable(1)).await;
    pass(DURABLE_GATHERED).await;
    assert_eq!(one.take(), [r#"trim ["32.rows"]"#, "drop job_1"]);
}

#[tokio::test(start_paused = true)]
async fn shards_of_a_job_that_has_ended_do_not_move() {
    let bed = Bed::new(1).await;
    let one = bed.node(1).await;
    bed.begin(1).await.expect("begun");
    let two = bed.node(2).await;
    // Nobody has told the tier of the end.
    bed.end(JOB).await;
    bed.kill(&one).await;
    bed.pass_return().await;
    assert_eq!(two.take(), ["drop job_1"]);
    bed.report(&two, DROPPED).await;
    assert!(!has_files(&bed).await);
}
