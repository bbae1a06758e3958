//! A new generation goes on with what its tasks hold, if they were suspended and not stopped.

use std::collections::BTreeSet;

use proto::{
    control::{WorkerCommand, WorkerEventKind},
    types::{Epoch, WorkerId},
};

use super::{
    MANY_KEYS, RECURRING,
    cluster::{Cluster, JOB, Job, Rows, SLOW},
    measured, result,
};

/// Keys come back all the time, so that a task that holds nothing has to read most of them.
const QUERY: &str = "SELECT MOD(bidder, 500) AS b, COUNT(*) AS bids, MAX(price) AS top \
     FROM bid GROUP BY MOD(bidder, 500)";

/// How a generation ends on a worker.
type End = (u64, fn() -> WorkerCommand);

/// Keys that are there when the generation ends.
const KEYS: usize = 100;
/// The same, where all come again and again.
const RECURRING_KEYS_MIN: usize = 2_900;

/// Runs until many keys are there, ends the generation by `command` on workers that are named, and goes
/// on with the next one: the result, and what was read for it.
async fn interrupted(end: &[End]) -> (Rows, u64) {
    let job = Job::new(QUERY, SLOW, 2, 64);
    let mut cluster = Cluster::start(2, 1 << 16).await;
    let mut run = cluster.begin(1, &job).await;
    run.rows_min = KEYS;
    cluster.run(&mut run, &job, 3).await.expect("many epochs");
    for member in &cluster.members {
        for (worker, command) in end {
            if member.id == WorkerId(*worker) {
                assert!(member.handle.send(command()).await);
            }
        }
    }
    let mut run = cluster.begin(2, &job).await;
    cluster.run(&mut run, &job, u64::MAX).await.expect("a run");
    let metrics = cluster.members.iter().map(|m| m.handle.metrics(JOB));
    let operators = metrics.flat_map(|metrics| metrics.into_values());
    let tasks = operators.flat_map(|tasks| tasks.into_values());
    let read = tasks
        .map(|task| task.state_misses + task.hydrated_keys)
        .sum();
    (cluster.rows(), read)
}

fn stop() -> WorkerCommand {
    WorkerCommand::Stop { job: JOB }
}

fn suspend() -> WorkerCommand {
    WorkerCommand::Suspend { job: JOB }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn survivors_keep_their_clean_rows_and_give_the_same_result() {
    let expected = result(QUERY, SLOW.at_once(), 1, 2, 1 << 20).await;
    let (rows, cold) = interrupted(&[(1, stop), (2, stop)]).await;
    assert!(rows == expected);
    let (rows, warm) = interrupted(&[(1, suspend), (2, suspend)]).await;
    assert!(rows == expected);
    let (rows, half) = interrupted(&[(1, suspend), (2, stop)]).await;
    assert!(rows == expected);
    assert!(
        cold >= KEYS as u64 && warm < half && half < cold,
        "{cold} {half} {warm}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_suspended_is_let_go_when_the_job_stops() {
    let job = Job::new(QUERY, SLOW, 2, 64);
    let mut cluster = Cluster::start(2, 1 << 16).await;
    let mut run = cluster.begin(1, &job).await;
    cluster.run(&mut run, &job, 3).await.expect("three epochs");
    cluster.tell_all(suspend).await;
    cluster.tell_all(stop).await;
    let mut stopped = 0;
    while stopped < 2 {
        if let WorkerEventKind::Stopped = cluster.any_event().await.1 {
            stopped += 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_kept_while_others_went_on_does_not_count() {
    let expected = result(QUERY, SLOW.at_once(), 1, 2, 1 << 20).await;
    let job = Job::new(QUERY, SLOW, 2, 64);
    let mut cluster = Cluster::start(2, 1 << 16).await;
    let mut run = cluster.begin(1, &job).await;
    cluster.run(&mut run, &job, 3).await.expect("three epochs");
    cluster.tell_all(suspend).await;
    let away = cluster.members.remove(0);
    let mut run = cluster.begin(2, &job).await;
    cluster
        .run(&mut run, &job, 40)
        .await
        .expect("epochs with rows");
    cluster.tell_all(suspend).await;
    cluster.members.insert(0, away);
    let mut run = cluster.begin(3, &job).await;
    cluster.run(&mut run, &job, u64::MAX).await.expect("a run");
    assert!(cluster.rows() == expected);
}

/// Survivors have let go of key groups at a barrier that never was, and the job goes on as if it had been, with what
/// was committed before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rescale_that_is_taken_back_with_its_epoch_may_come_with_the_next_generation() {
    let expected = result(QUERY, SLOW.at_once(), 1, 2, 1 << 20).await;
    let job = Job::new(QUERY, SLOW, 2, 64);
    let mut cluster = Cluster::start(2, 1 << 16).await;
    let mut run = cluster.begin(1, &job).await;
    run.rows_min = KEYS;
    cluster.run(&mut run, &job, 3).await.expect("some epochs");
    cluster.prepare(&mut run, &job, 4, &[1, 2]).await;
    run.epoch = Epoch(run.epoch.0 + 1);
    cluster.barrier(&run).await;
    let mut staged = BTreeSet::new();
    while staged.len() < run.routing.tasks.len() {
        match cluster.event(run.who.generation).await.1 {
            WorkerEventKind::Staged { task, epoch, .. } if epoch == run.epoch => {
                staged.insert(task);
            }
            WorkerEventKind::Failed { error, .. } => panic!("{error}"),
            _ => {}
        }
    }
    for member in &cluster.members {
        assert!(member.handle.send(suspend()).await);
    }
    let (routing, never) = (run.next.take().expect("it was prepared"), run.epoch);
    let mut run = cluster.begin_with(2, &job, routing).await;
    assert!(run.restored < never && run.restored > Epoch::ZERO);
    cluster.run(&mut run, &job, u64::MAX).await.expect("a run");
    assert!(cluster.rows() == expected);
}

/// Ends a generation in the middle by each of these, one after the other, where memory is little.
async fn interrupted_with(memory: u64, ends: &[&[End]]) -> Rows {
    let job = Job::new(RECURRING, MANY_KEYS, 2, 64);
    let mut cluster = Cluster::start_with(2, 1 << 16, Some(memory)).await;
    for (generation, end) in (1..).zip(ends) {
        let mut run = cluster.begin(generation, &job).await;
        run.rows_min = RECURRING_KEYS_MIN;
        cluster.run(&mut run, &job, 20).await.expect("some epochs");
        let (evicted, looked_for) = (cluster.seen.evicted, cluster.seen.looked_for);
        let is_short = evicted > 100 && looked_for > 100;
        assert!(is_short, "{evicted} keys went, {looked_for} came back");
        for member in &cluster.members {
            for (worker, command) in *end {
                if member.id == WorkerId(*worker) {
                    assert!(member.handle.send(command()).await);
                }
            }
        }
    }
    let mut run = cluster.begin(1 + ends.len() as u64, &job).await;
    cluster.run(&mut run, &job, u64::MAX).await.expect("a run");
    cluster.rows()
}

/// What survivors keep is in part in scratch files, and what they had changed since is neither there nor in
/// memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn survivors_with_memory_for_a_fifth_of_the_state_give_the_same_result() {
    let (expected, state) = measured(RECURRING, MANY_KEYS, 1, 2, 1 << 20).await;
    let memory = state / 5 / 2;
    let both: &[End] = &[(1, suspend), (2, suspend)];
    let half: &[End] = &[(1, suspend), (2, stop)];
    let none: &[End] = &[(1, stop), (2, stop)];
    for ends in [&[both, both, both][..], &[half, half], &[none, both]] {
        let rows = interrupted_with(memory, ends).await;
        assert!(rows == expected, "{memory} of {state}");
    }
}
