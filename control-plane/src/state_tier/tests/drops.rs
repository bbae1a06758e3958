//! The end of a job: its files go, whoever is there to delete them.

use proto::state_control::StateReport;
use state_client::{StateControl as _, StateError};

use super::setup::{Bed, JOB, settle};

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
