//! Generations and commits: what counts, and in which order nodes hear of it.

use proto::{
    state_control::StateReport,
    types::{Epoch, Generation},
};
use state_client::{Begun, StateControl as _, StateError};

use super::{
    metadata::{Door, Fault},
    setup::{Bed, JOB, is_pending, settle, who},
};

fn begun(restored: u64, first: u64) -> Result<Begun, StateError> {
    Ok(Begun {
        restored: Epoch(restored),
        first: Epoch(first),
    })
}

#[tokio::test(start_paused = true)]
async fn a_generation_begins_when_its_shards_have_been_opened() {
    let bed = Bed::new(2).await;
    let node = bed.node(1).await;
    assert_eq!(bed.begin(1).await, begun(0, 16));
    assert_eq!(
        node.take(),
        [
            "open shard_0 g1 at 0 log [] out []",
            "open shard_1 g1 at 0 log [] out []"
        ]
    );
    // Asked again, nothing happens again.
    assert_eq!(bed.begin(1).await, begun(0, 16));
    assert_eq!(node.take(), [""; 0]);
    assert_eq!(bed.commit(1, 16).await, Ok(()));
    assert_eq!(
        node.take(),
        [r#"committed 16 after 0 g1 ["16.rows", "16.out"]"#]
    );
    assert_eq!(bed.begin(2).await, begun(16, 32));
    assert_eq!(
        node.take(),
        [
            "open shard_0 g2 at 16 log [16] out [16]",
            "open shard_1 g2 at 16 log [16] out []"
        ]
    );
    bed.check_knowledge(&[&node]).await;
}

#[tokio::test(start_paused = true)]
async fn refusals_say_what_is_wrong() {
    let bed = Bed::new(1).await;
    let node = bed.node(1).await;
    bed.begin(1).await.expect("begun");
    bed.begin(2).await.expect("begun");
    node.take();
    let fenced = StateError::Fenced {
        job: JOB,
        caller: Generation(1),
        current: Generation(2),
    };
    assert_eq!(bed.commit(1, 16).await, Err(fenced.clone()));
    assert_eq!(bed.begin(1).await, Err(fenced));
    let early = bed.commit(2, 16).await.expect_err("below the first");
    assert_eq!(
        early.to_string(),
        "epoch 16 of job_1 is not there: the newest committed epoch is 0"
    );
    bed.end(JOB).await;
    assert_eq!(bed.commit(2, 32).await, Err(StateError::UnknownJob(JOB)));
    let other = state_client::Incarnation {
        job: proto::types::JobId(9),
        generation: Generation(1),
    };
    let unknown = state_client::StateControl::begin(&bed.tier, other).await;
    assert_eq!(unknown, Err(StateError::UnknownJob(other.job)));
}

#[tokio::test(start_paused = true)]
async fn a_commit_and_a_beginning_exclude_each_other() {
    for commit_first in [true, false] {
        let bed = Bed::new(1).await;
        let node = bed.node(1).await;
        bed.begin(1).await.expect("begun");
        // Both are on their way at once.
        bed.metadata.close(Door::BeforeChange);
        let (commit, begin) = if commit_first {
            let commit = bed.commit_later(1, 16);
            settle().await;
            (commit, bed.begin_later(2))
        } else {
            let begin = bed.begin_later(2);
            settle().await;
            (bed.commit_later(1, 16), begin)
        };
        settle().await;
        bed.metadata.open();
        let (commit, begin) = (commit.await.expect("ends"), begin.await.expect("ends"));
        if commit_first {
            assert_eq!((commit, begin), (Ok(()), begun(16, 32)));
        } else {
            assert!(matches!(commit, Err(StateError::Fenced { .. })));
            assert_eq!(begin, begun(0, 32));
        }
        node.take();
        bed.check_knowledge(&[&node]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_away_hears_of_the_new_generation_when_it_returns() {
    let bed = Bed::new(2).await;
    let (one, two) = (bed.node(1).await, bed.node(2).await);
    bed.begin(1).await.expect("begun");
    assert_eq!(bed.owners().await, [1, 2]);
    bed.leave(&two).await;
    let begin = bed.begin_later(2);
    settle().await;
    one.take();
    two.take();
    bed.join(&two).await;
    assert_eq!(begin.await.expect("ends"), begun(0, 32));
    assert_eq!(two.take(), ["open shard_1 g2 at 0 log [] out []"]);
    assert_eq!(one.take(), [""; 0]);
    assert_eq!(bed.owners().await, [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_has_moved_is_told_of_what_its_old_owner_wrote() {
    let bed = Bed::new(2).await;
    let (one, two) = (bed.node(1).await, bed.node(2).await);
    bed.begin(1).await.expect("begun");
    bed.commit(1, 16).await.expect("committed");
    // The first node wrote 17.rows, and dies before the commit.
    bed.kill(&one).await;
    bed.commit(1, 17).await.expect("needs no node");
    bed.pass_return().await;
    assert_eq!(bed.owners().await, [2, 2]);
    two.take();
    bed.commit(1, 18).await.expect("committed");
    assert_eq!(
        two.take(),
        [r#"committed 18 after 17 g1 ["18.rows", "18.out"]"#]
    );
    let seen = two.seen();
    let moved = &seen.jobs[&JOB].shards[&proto::types::ShardId(0)];
    assert!(
        ["16.rows", "17.rows", "18.rows"].map(|name| moved.objects.contains(name)) == [true; 3]
    );
}

#[tokio::test(start_paused = true)]
async fn a_node_that_dies_between_a_commit_and_its_order_is_told_on_return() {
    let bed = Bed::new(1).await;
    let node = bed.node(1).await;
    bed.begin(1).await.expect("begun");
    bed.metadata.close(Door::AfterChange);
    let commit = bed.commit_later(1, 16);
    settle().await;
    bed.leave(&node).await;
    node.take();
    bed.metadata.open();
    assert_eq!(commit.await.expect("ends"), Ok(()));
    assert_eq!(node.take(), [""; 0]);
    bed.join(&node).await;
    assert_eq!(node.take(), ["open shard_0 g1 at 16 log [16] out [16]"]);
    bed.commit(1, 17).await.expect("committed");
    assert_eq!(
        node.take(),
        [r#"committed 17 after 16 g1 ["17.rows", "17.out"]"#]
    );
}

#[tokio::test(start_paused = true)]
async fn a_node_that_does_not_take_an_order_is_gone_until_it_joins_again() {
    let bed = Bed::new(1).await;
    let node = bed.node(1).await;
    bed.begin(1).await.expect("begun");
    node.die_silently();
    bed.commit(1, 16).await.expect("committed");
    node.take();
    // The stream has not ended yet, and is of no use any more.
    node.seen().up = true;
    bed.commit(1, 17).await.expect("committed");
    assert_eq!(node.take(), [""; 0]);
    let late = node.seen().session.expect("joined");
    bed.join(&node).await;
    assert_eq!(
        node.take(),
        ["open shard_0 g1 at 17 log [16, 17] out [16, 17]"]
    );
    // Its end is heard of after the next one's beginning.
    bed.tier.leave(late).await;
    bed.commit(1, 18).await.expect("committed");
    assert_eq!(node.take().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_broken_stream_has_swallowed_is_made_up_for() {
    let bed = Bed::new(1).await;
    let node = bed.node(1).await;
    bed.begin(1).await.expect("begun");
    bed.commit(1, 16).await.expect("committed");
    bed.metadata.close(Door::BeforeChange);
    let commit = bed.commit_later(1, 17);
    settle().await;
    // It was sent, and never arrived.
    node.miss(1);
    bed.leave(&node).await;
    node.take();
    bed.join(&node).await;
    bed.metadata.open();
    commit.await.expect("ends").expect("committed");
    settle().await;
    assert_eq!(
        node.take(),
        ["open shard_0 g1 at 17 log [16, 17] out [16, 17]"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_generation_is_opened_before_its_commits_are_told() {
    let bed = Bed::new(1).await;
    let node = bed.node(1).await;
    bed.begin(1).await.expect("begun");
    node.take();
    bed.metadata.close(Door::BeforeChange);
    let begin = bed.begin_later(2);
    settle().await;
    let commit = bed.commit_later(2, 32);
    settle().await;
    bed.metadata.open();
    begin.await.expect("ends").expect("begun");
    commit.await.expect("ends").expect("committed");
    assert_eq!(node.take(), ["open shard_0 g2 at 32 log [32] out [32]"]);
}

#[tokio::test(start_paused = true)]
async fn a_node_hears_of_a_commit_only_if_it_knows_all_its_shards() {
    let bed = Bed::new(2).await;
    let (one, two) = (bed.node(1).await, bed.node(2).await);
    bed.begin(1).await.expect("begun");
    bed.leave(&two).await;
    bed.metadata.close(Door::AfterChange);
    bed.pass_return().await;
    assert_eq!(bed.owners().await, [1, 1]);
    let commit = bed.commit_later(1, 16);
    settle().await;
    one.take();
    bed.metadata.open();
    commit.await.expect("ends").expect("committed");
    settle().await;
    assert_eq!(
        one.take(),
        [
            "open shard_0 g1 at 16 log [16] out [16]",
            "open shard_1 g1 at 16 log [16] out []"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_beginning_that_waits_is_fenced_by_the_next() {
    let bed = Bed::new(1).await;
    let first = bed.begin_later(1);
    settle().await;
    let second = bed.begin_later(2);
    let fenced = first.await.expect("ends");
    assert!(matches!(fenced, Err(StateError::Fenced { .. })));
    let _node = bed.node(1).await;
    assert_eq!(second.await.expect("ends"), begun(0, 32));
}

#[tokio::test(start_paused = true)]
async fn a_commit_whose_answer_is_forgotten_is_found_to_count() {
    let bed = Bed::new(1).await;
    let node = bed.node(1).await;
    bed.begin(1).await.expect("begun");
    node.take();
    bed.metadata.fail([Fault::AnswerForgotten]);
    let first = bed.commit_later(1, 16);
    settle().await;
    let second = bed.commit_later(1, 17);
    assert_eq!(first.await.expect("ends"), Ok(()));
    assert_eq!(second.await.expect("ends"), Ok(()));
    settle().await;
    // The order for the first was never given, so none for the second may be.
    assert_eq!(
        node.take(),
        ["open shard_0 g1 at 17 log [16, 17] out [16, 17]"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_node_that_joins_amid_a_commit_misses_nothing() {
    use Door::{AfterChange, AfterLook, BeforeChange, BeforeLook};
    for door in [BeforeChange, AfterChange, BeforeLook, AfterLook] {
        for leaves_first in [true, false] {
            let bed = Bed::new(2).await;
            let node = bed.node(1).await;
            bed.begin(1).await.expect("begun");
            if leaves_first {
                bed.leave(&node).await;
            }
            bed.metadata.close(door);
            let mut commit = bed.commit_later(1, 16);
            settle().await;
            let held = is_pending(&mut commit);
            assert_eq!(held, matches!(door, BeforeChange | AfterChange), "{door:?}");
            if !leaves_first {
                bed.leave(&node).await;
            }
            bed.join(&node).await;
            // Now the look for what it is to be told waits, or the commit still does.
            let next = bed.commit_later(1, 17);
            settle().await;
            bed.metadata.open();
            if held {
                assert_eq!(commit.await.expect("ends"), Ok(()));
            }
            assert_eq!(next.await.expect("ends"), Ok(()));
            settle().await;
            node.take();
            bed.check_knowledge(&[&node]).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_of_unknown_fate_counts_once() {
    let bed = Bed::new(1).await;
    let node = bed.node(1).await;
    bed.metadata.fail([Fault::AnswerLost, Fault::AnswerLost]);
    assert_eq!(bed.begin(1).await, begun(0, 16));
    for faults in [
        vec![Fault::AnswerLost],
        vec![Fault::Hangs],
        vec![Fault::Lost, Fault::NoQuorum],
        vec![Fault::Lost, Fault::AnswerLost, Fault::NoQuorum],
    ] {
        let epoch = 16 + bed.record(JOB).await.expect("the job").log.len() as u64;
        bed.metadata.take_proposed();
        let attempts = faults.len() + 1;
        bed.metadata.fail(faults);
        assert_eq!(bed.commit(1, epoch).await, Ok(()));
        let proposed = bed.metadata.take_proposed();
        assert_eq!(proposed.len(), attempts);
        assert!(proposed.iter().all(|command| *command == proposed[0]));
    }
    let record = bed.record(JOB).await.expect("the job");
    assert_eq!(
        record.log.values().map(Vec::len).collect::<Vec<_>>(),
        [1, 1, 1, 1]
    );
    node.take();
    bed.check_knowledge(&[&node]).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_overtakes_a_change_of_unknown_fate() {
    let bed = Bed::new(1).await;
    let node = bed.node(1).await;
    bed.begin(1).await.expect("begun");
    // Nobody hears of the commit for longer than the one who asked has patience.
    bed.metadata.close(Door::AfterChange);
    let late = bed.commit(1, 16).await.expect_err("too late");
    assert!(late.is_retryable(), "{late}");
    assert_eq!(
        late.to_string(),
        "state store is unavailable: the metadata has not answered for 60 s: \
         is there a quorum of control-plane nodes?"
    );
    let begin = bed.begin_later(2);
    settle().await;
    bed.metadata.open();
    assert_eq!(begin.await.expect("ends"), begun(16, 32));
    node.take();
    bed.check_knowledge(&[&node]).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_given_up_before_its_turn_never_happens() {
    let bed = Bed::new(1).await;
    let _node = bed.node(1).await;
    bed.begin(1).await.expect("begun");
    bed.metadata.close(Door::BeforeChange);
    let first = bed.commit_later(1, 16);
    settle().await;
    let second = bed.begin_later(2);
    settle().await;
    second.abort();
    settle().await;
    bed.metadata.open();
    assert_eq!(first.await.expect("ends"), Ok(()));
    settle().await;
    let record = bed.record(JOB).await.expect("the job");
    assert_eq!(record.generation, Generation(1));
}

#[tokio::test(start_paused = true)]
async fn the_next_leader_goes_on_where_the_last_one_stopped() {
    let bed = Bed::new(2).await;
    let (one, two) = (bed.node(1).await, bed.node(2).await);
    bed.begin(1).await.expect("begun");
    bed.commit(1, 16).await.expect("committed");
    // It dies with a commit that counts and that nobody was told of.
    bed.metadata.close(Door::AfterChange);
    let commit = bed.commit_later(1, 17);
    settle().await;
    bed.driver.abort();
    let error = commit.await.expect("ends").expect_err("the leader is gone");
    assert!(error.is_retryable());
    bed.metadata.open();
    let next = Bed::over(bed.metadata.clone(), 2);
    one.take();
    two.take();
    // One node is quicker than the other, and takes nothing away from it.
    next.join(&one).await;
    assert_eq!(
        one.take(),
        ["open shard_0 g1 at 17 log [16, 17] out [16, 17]"]
    );
    // The job runs on; nobody begins it anew.
    assert_eq!(next.commit(1, 18).await, Ok(()));
    next.join(&two).await;
    assert_eq!(
        two.take(),
        ["open shard_1 g1 at 18 log [16, 17, 18] out []"]
    );
    one.take();
    next.check_knowledge(&[&one, &two]).await;
    assert_eq!(next.owners().await, [1, 2]);
    // The job's driver repeats the commit whose answer it did not get.
    assert_eq!(next.commit(1, 18).await, Ok(()));
    let before = next.commit(1, 17).await;
    assert!(matches!(before, Err(StateError::Epoch { .. })));
    settle().await;
    next.commit(1, 19).await.expect("committed");
    one.take();
    two.take();
    next.check_knowledge(&[&one, &two]).await;
}

#[tokio::test(start_paused = true)]
async fn the_tier_ends_with_the_leadership() {
    let bed = Bed::new(1).await;
    let _node = bed.node(1).await;
    bed.metadata.fail([Fault::NotLeader]);
    let error = bed.begin(1).await.expect_err("another node leads");
    assert_eq!(
        error.to_string(),
        "state store is unavailable: this node does not lead the cluster any more"
    );
    bed.tier.ended().await;
    assert!(bed.tier.status().await.is_none());
    assert!(
        bed.begin(1)
            .await
            .expect_err("nobody is there")
            .is_retryable()
    );
}

#[tokio::test(start_paused = true)]
async fn what_the_log_is_made_of_is_read_when_it_is_asked_for() {
    let bed = Bed::new(1).await;
    let _node = bed.node(1).await;
    bed.begin(1).await.expect("begun");
    bed.metadata.close(Door::BeforeLook);
    let references = tokio::spawn({
        let tier = bed.tier.clone();
        async move { tier.references(JOB).await }
    });
    settle().await;
    bed.commit(1, 16).await.expect("committed");
    bed.metadata.open();
    let references = references.await.expect("ends").expect("the job");
    assert_eq!(references.generation, who(1).generation);
    assert_eq!(references.committed, Epoch(16));
    assert_eq!(references.objects, ["16.out", "16.rows"]);
    let owner = bed.tier.owner(JOB, proto::types::ShardId(0)).await;
    assert_eq!(owner, Ok(Some(proto::types::StateNodeId(1))));
    let unknown = proto::types::JobId(9);
    let none = bed.tier.references(unknown).await;
    assert_eq!(none, Err(StateError::UnknownJob(unknown)));
}

#[tokio::test(start_paused = true)]
async fn shards_of_what_is_gone_are_nobodys() {
    let bed = Bed::new(1).await;
    let node = bed.node(1).await;
    bed.begin(1).await.expect("begun");
    let owner = |job| bed.tier.owner(job, proto::types::ShardId(0));
    bed.end(JOB).await;
    assert_eq!(owner(JOB).await, Ok(Some(node.id)), "it has files");
    bed.tier.drop_job(JOB).await.expect("ended");
    settle().await;
    bed.report(&node, StateReport::Dropped { job: JOB }).await;
    assert!(bed.record(JOB).await.is_some(), "it is still listed");
    assert_eq!(owner(JOB).await, Ok(None));
    assert_eq!(owner(proto::types::JobId(9)).await, Ok(None));
}
