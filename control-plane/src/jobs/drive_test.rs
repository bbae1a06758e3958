//! The driver against a worker that answers every command as a good one would, unless told to
//! fail, over the real in-memory store.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use coordinator::JobState;
use proto::{
    control::{JobMetrics, JobOptions, Retry, WorkerCommand, WorkerEvent, WorkerEventKind},
    log::LogObject,
    plan::{
        CollectSpec, ConnectorSpec, Fragment, Node, Plan, RowType, Sink, connector_spec::Connector,
        node::Operator,
    },
    types::{Epoch, Generation, JobId, KeyGroupCount, RowKind, SinkId, TaskId, WorkerId},
};
use state_client::{
    Changes, Cut, EpochDelta, Incarnation, MemoryStore, StagedOutput, StateStore as _,
};
use tokio::sync::mpsc;

use super::*;
use crate::{
    JobSpec, JobsError, SelectColumns, WorkerLink,
    caps::JOBS_ENDED_MAX,
    metadata::{LocalMetadata, look},
    results::{Chunk, FeedEnd, ResultRow},
    workers::WorkerNews,
};

/// What the worker does beside answering.
#[derive(Clone, Copy, Default)]
struct Script {
    /// Deployments that fail when their first barrier comes.
    failures: u32,
    /// Whether the input ends at once.
    bounded: bool,
}

struct Worker {
    script: Script,
    store: MemoryStore,
    events: mpsc::Sender<WorkerEvent>,
    generation: Generation,
    tasks: Vec<TaskId>,
    deployed: Arc<AtomicU32>,
}

impl Worker {
    async fn report(&self, job: JobId, kind: WorkerEventKind) {
        let generation = self.generation;
        let event = WorkerEvent {
            job,
            generation,
            kind,
        };
        self.events.send(event).await.expect("the driver listens");
    }

    async fn obey(&mut self, command: WorkerCommand) {
        match command {
            WorkerCommand::ListSplits(_) => panic!("one worker needs no list"),
            WorkerCommand::Prepare(_) | WorkerCommand::KeepRouting { .. } => {
                panic!("nobody wants another routing")
            }
            WorkerCommand::Deploy(deployment) => {
                self.deployed.fetch_add(1, Ordering::SeqCst);
                self.generation = deployment.generation;
                self.tasks = deployment.tasks.iter().map(|task| task.task).collect();
                self.report(deployment.job, WorkerEventKind::Running).await;
                let routing = deployment.routing;
                for task in self.tasks.clone() {
                    if self.script.bounded {
                        let finished = WorkerEventKind::Finished { task, routing };
                        self.report(deployment.job, finished).await;
                    }
                }
            }
            WorkerCommand::Barrier { job, epoch, .. } => {
                if self.script.failures > 0 {
                    self.script.failures -= 1;
                    let failed = WorkerEventKind::Failed {
                        task: TaskId(0),
                        error: "out of luck".into(),
                        retry: Retry::IfItRan,
                    };
                    return self.report(job, failed).await;
                }
                for task in self.tasks.clone() {
                    let objects = self.stage(job, task, epoch).await;
                    let staged = WorkerEventKind::Staged {
                        task,
                        epoch,
                        objects,
                        overtaken_bytes: 0,
                    };
                    self.report(job, staged).await;
                }
            }
            WorkerCommand::Committed { job, epoch, .. } => {
                let sink = SinkId(0);
                let published = WorkerEventKind::Published { sink, epoch };
                self.report(job, published).await;
            }
            WorkerCommand::StopSources { job, drain, .. } => {
                for task in self.tasks.clone().into_iter().filter(|_| drain) {
                    let finished = WorkerEventKind::Finished { task, routing: 0 };
                    self.report(job, finished).await;
                }
            }
            // What it holds waits for the next generation.
            WorkerCommand::Suspend { .. } => {}
            WorkerCommand::Stop { job } => self.report(job, WorkerEventKind::Stopped).await,
        }
    }

    /// Stages the output of every epoch, so that none is empty.
    async fn stage(&self, job: JobId, task: TaskId, epoch: Epoch) -> Vec<LogObject> {
        let generation = self.generation;
        let who = Incarnation { job, generation };
        let cut = Cut {
            key_groups: KeyGroupCount::DEFAULT,
            shards: 4,
            tasks: self.tasks.len() as u32,
        };
        let changes = Changes {
            staged: vec![StagedOutput {
                sink: SinkId(0),
                slot: 0,
                bytes: b"rows".as_slice().into(),
            }],
            ..Changes::default()
        };
        let delta = EpochDelta::new(who, epoch, task, cut, changes);
        let staged = self.store.stage(who, delta);
        staged.await.expect("memory takes it")
    }
}

/// Hands commands on.
struct Link<F>(F);

impl<F: Fn(WorkerCommand) + Send + Sync> WorkerLink for Link<F> {
    fn release(&self) {}

    fn send(&self, command: WorkerCommand) {
        (self.0)(command);
    }

    fn metrics(&self, _job: JobId) -> JobMetrics {
        JobMetrics::new()
    }
}

/// The news of one worker that is there from the start.
fn news(
    link: impl Fn(WorkerCommand) + Send + Sync + 'static,
    mut events: mpsc::Receiver<WorkerEvent>,
) -> mpsc::Receiver<WorkerNews> {
    let (news, receiver) = mpsc::channel(64);
    tokio::spawn(async move {
        let joined = WorkerNews::Joined(
            crate::workers::Worker {
                id: WorkerId(1),
                address: String::new(),
                since_ms: 0,
                link: Arc::new(Link(link)),
            },
            Vec::new(),
        );
        let _ = news.send(joined).await;
        while let Some(event) = events.recv().await {
            let _ = news.send(WorkerNews::Event(WorkerId(1), event)).await;
        }
        let _ = news.send(WorkerNews::Left(WorkerId(1))).await;
    });
    receiver
}

/// A job system over such a worker, and how many deployments there were.
fn start(script: Script) -> (Jobs, Arc<AtomicU32>) {
    let store = MemoryStore::new(KeyGroupCount::DEFAULT);
    let (jobs, driver, deployed) = build(script, &store, &LocalMetadata::default());
    tokio::spawn(driver.run());
    (jobs, deployed)
}

/// The same over what is there already.
async fn start_over(
    script: Script,
    store: &MemoryStore,
    metadata: &LocalMetadata,
) -> (Jobs, Arc<AtomicU32>) {
    let (jobs, mut driver, deployed) = build(script, store, metadata);
    driver
        .recover(std::time::Duration::ZERO)
        .await
        .expect("it can be read");
    tokio::spawn(driver.run());
    (jobs, deployed)
}

fn build(
    script: Script,
    store: &MemoryStore,
    metadata: &LocalMetadata,
) -> (Jobs, Driver, Arc<AtomicU32>) {
    let (events, receiver) = mpsc::channel(64);
    let (commands, mut inbox) = mpsc::channel(64);
    let deployed = Arc::new(AtomicU32::new(0));
    let mut worker = Worker {
        script,
        store: store.clone(),
        events,
        generation: Generation(0),
        tasks: Vec::new(),
        deployed: deployed.clone(),
    };
    tokio::spawn(async move {
        while let Some(command) = inbox.recv().await {
            worker.obey(command).await;
        }
    });
    let (jobs, driver) = Jobs::new(Tiers {
        workers: news(
            move |command| commands.try_send(command).expect("room"),
            receiver,
        ),
        state: Arc::new(store.clone()),
        metadata: Arc::new(metadata.clone()),
        wall_ms: Arc::new(|| 0),
        seed: 1,
    });
    (jobs, driver, deployed)
}

fn spec() -> JobSpec {
    let sink = Node {
        operator: Some(Operator::Sink(Sink {
            connector: Some(ConnectorSpec {
                connector: Some(Connector::Collect(CollectSpec {})),
            }),
            ..Sink::default()
        })),
        ..Node::default()
    };
    let plan = Plan {
        key_groups: 256,
        fragments: vec![Fragment {
            nodes: vec![sink],
            ..Fragment::default()
        }],
        ..Plan::default()
    };
    JobSpec {
        name: "test".into(),
        sql: "SELECT 1".into(),
        plan: Arc::new(plan),
        options: JobOptions {
            parallelism: 2,
            restarts_max: 2,
            ..JobOptions::default()
        },
        select: Some(SelectColumns {
            columns: RowType::default(),
            upsert_key: None,
        }),
        origin: None,
        tables_max: 0,
    }
}

#[tokio::test(start_paused = true)]
async fn a_bounded_job_runs_to_its_end() {
    let (jobs, _) = start(Script {
        bounded: true,
        ..Script::default()
    });
    let entry = jobs.submit(spec()).await.expect("accepted");
    let feed = entry.feed.clone().expect("it is a SELECT");
    assert_eq!(entry.ended().await, JobState::Finished);
    assert_eq!(entry.checkpoint_summary().count, 1);
    let mut reader = feed.reader();
    assert_eq!(reader.next().await, Chunk::End(FeedEnd::Complete));
}

#[tokio::test(start_paused = true)]
async fn an_unbounded_job_checkpoints_until_it_is_cancelled() {
    let (jobs, _) = start(Script::default());
    let entry = jobs.submit(spec()).await.expect("accepted");
    tokio::time::sleep(std::time::Duration::from_millis(3500)).await;
    assert_eq!(entry.state(), JobState::Running);
    assert_eq!(entry.checkpoint_summary().count, 3);
    let row = ResultRow {
        kind: RowKind::Insert,
        line: "1".into(),
    };
    let feed = entry.feed.clone().expect("it is a SELECT");
    feed.publish(Epoch(16), 0, vec![row.clone()]).await;
    jobs.cancel(entry.id).await.expect("it exists");
    assert_eq!(entry.ended().await, JobState::Canceled);
    let mut reader = feed.reader();
    let (skipped, rows) = (0, vec![row]);
    assert_eq!(reader.next().await, Chunk::Rows { skipped, rows });
    assert!(matches!(
        reader.next().await,
        Chunk::End(FeedEnd::Broken(_))
    ));
    assert_eq!(jobs.cancel(entry.id).await, Ok(()));
    assert_eq!(
        jobs.cancel(JobId(77)).await,
        Err(JobsError::Unknown(JobId(77)))
    );
}

#[tokio::test(start_paused = true)]
async fn failures_restart_the_job_until_it_is_given_up() {
    let check = async |failures, expected_state, expected_deployments| {
        let (jobs, deployed) = start(Script {
            failures,
            bounded: true,
        });
        let entry = jobs.submit(spec()).await.expect("accepted");
        assert_eq!(entry.ended().await, expected_state);
        assert_eq!(deployed.load(Ordering::SeqCst), expected_deployments);
        assert_eq!(entry.exceptions().len(), failures as usize);
        assert_eq!(entry.checkpoints_failed(), u64::from(failures));
    };
    check(2, JobState::Finished, 3).await;
    check(3, JobState::Failed, 3).await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_placed_is_refused() {
    let (jobs, _) = start(Script::default());
    let mut spec = spec();
    spec.options.parallelism = 0;
    let error = jobs.submit(spec).await.expect_err("refused");
    assert!(error.to_string().contains("parallelism"), "{error}");
    assert!(jobs.list().is_empty());
}

#[tokio::test(start_paused = true)]
async fn jobs_fail_when_the_worker_is_gone() {
    let (commands, inbox) = mpsc::channel(64);
    let (events, receiver) = mpsc::channel::<WorkerEvent>(1);
    drop(inbox);
    let (jobs, driver) = Jobs::new(Tiers {
        workers: news(move |command| drop(commands.try_send(command)), receiver),
        state: Arc::new(MemoryStore::new(KeyGroupCount::DEFAULT)),
        metadata: Arc::new(LocalMetadata::default()),
        wall_ms: Arc::new(|| 0),
        seed: 1,
    });
    tokio::spawn(driver.run());
    let entry = jobs.submit(spec()).await.expect("accepted");
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    drop(events);
    assert_eq!(entry.ended().await, JobState::Failed);
    assert_eq!(entry.last_error().as_deref(), Some("wk_1 is gone"));
}

#[tokio::test(start_paused = true)]
async fn the_oldest_results_make_room_and_what_is_read_stays() {
    let (jobs, _) = start(Script::default());
    let mut feeds = Vec::new();
    for _ in 0..4 {
        let entry = jobs.submit(spec()).await.expect("accepted");
        let feed = entry.feed.clone().expect("it is a SELECT");
        let row = ResultRow {
            kind: RowKind::Insert,
            line: "four".into(),
        };
        feed.publish(Epoch(16), 0, vec![row]).await;
        jobs.cancel(entry.id).await.expect("it runs");
        entry.ended().await;
        feeds.push(feed);
    }
    let reader = feeds[0].reader();
    jobs.table.trim_results(8);
    drop(reader);
    let kept: Vec<_> = feeds.iter().map(|feed| feed.kept_bytes()).collect();
    assert_eq!(kept, [Some(4), Some(0), Some(4), Some(4)]);
}

#[tokio::test(start_paused = true)]
async fn another_driver_takes_over_what_was_written_down() {
    let metadata = LocalMetadata::default();
    let store = MemoryStore::new(KeyGroupCount::DEFAULT);
    let insert = JobSpec {
        select: None,
        ..spec()
    };
    let (jobs, _) = start_over(Script::default(), &store, &metadata).await;
    let inserting = jobs.submit(insert.clone()).await.expect("accepted").id;
    let selecting = jobs.submit(spec()).await.expect("accepted").id;
    let cancelled = jobs.submit(insert).await.expect("accepted");
    jobs.cancel(cancelled.id).await.expect("it runs");
    cancelled.ended().await;
    tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
    let committed = jobs.get(inserting).expect("there").committed();
    assert!(committed > Epoch::ZERO);
    drop(jobs);

    let (jobs, deployed) = start_over(Script::default(), &store, &metadata).await;
    let entry = jobs.get(inserting).expect("there");
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    assert_eq!(entry.state(), JobState::Running);
    assert!(entry.committed() >= committed);
    // Nobody reads a SELECT of another process.
    let selecting = jobs.get(selecting).expect("there");
    assert_eq!(selecting.ended().await, JobState::Canceled);
    let cancelled = jobs.get(cancelled.id).expect("it is remembered");
    assert_eq!(cancelled.state(), JobState::Canceled);
    assert_eq!(deployed.load(Ordering::SeqCst), 1);
    assert_eq!(jobs.list().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_job_is_known_to_no_driver_any_more() {
    let metadata = LocalMetadata::default();
    let store = MemoryStore::new(KeyGroupCount::DEFAULT);
    let (jobs, _) = start_over(Script::default(), &store, &metadata).await;
    let kept = jobs.submit(spec()).await.expect("accepted");
    let deleted = jobs.submit(spec()).await.expect("accepted");
    let not_ended = Err(JobsError::NotEnded(deleted.id));
    assert_eq!(jobs.delete(deleted.id).await, not_ended);
    for entry in [&kept, &deleted] {
        jobs.cancel(entry.id).await.expect("it runs");
        entry.ended().await;
    }
    assert_eq!(jobs.delete(deleted.id).await, Ok(()));
    let unknown = Err(JobsError::Unknown(deleted.id));
    assert_eq!(jobs.delete(deleted.id).await, unknown);
    assert_eq!(jobs.cancel(deleted.id).await, unknown);
    drop(jobs);

    let (jobs, _) = start_over(Script::default(), &store, &metadata).await;
    let ids: Vec<JobId> = jobs.list().iter().map(|entry| entry.id).collect();
    assert_eq!(ids, [kept.id]);
}

/// In memory nobody but the driver knows that nothing of a job is left.
#[tokio::test(start_paused = true)]
async fn ended_jobs_do_not_stay_in_memory_for_ever() {
    let metadata = LocalMetadata::default();
    let store = MemoryStore::new(KeyGroupCount::DEFAULT);
    let script = Script {
        bounded: true,
        ..Script::default()
    };
    let (jobs, _) = start_over(script, &store, &metadata).await;
    let mut ids = Vec::new();
    for _ in 0..JOBS_ENDED_MAX + 3 {
        let entry = jobs.submit(spec()).await.expect("accepted");
        assert_eq!(entry.ended().await, JobState::Finished);
        ids.push(entry.id);
    }
    let known = || {
        look(&metadata, |state| {
            state.jobs.keys().copied().collect::<Vec<JobId>>()
        })
    };
    assert_eq!(known().await.expect("known"), ids[3..]);
    let (one, rest) = (ids[3], &ids[4..]);
    jobs.delete(one).await.expect("it has ended");
    assert_eq!(known().await.expect("known"), *rest);
    jobs.delete_all(rest.to_vec()).await.expect("all have");
    assert_eq!(known().await.expect("known"), []);
}

#[tokio::test(start_paused = true)]
async fn of_several_jobs_all_are_deleted_or_none() {
    let (jobs, _) = start(Script::default());
    let ended = jobs.submit(spec()).await.expect("accepted").id;
    let running = jobs.submit(spec()).await.expect("accepted").id;
    jobs.cancel(ended).await.expect("it runs");
    jobs.get(ended).expect("there").ended().await;
    let both = vec![ended, running];
    let refused = jobs.delete_all(both.clone()).await;
    assert_eq!(refused, Err(JobsError::NotEnded(running)));
    assert_eq!(jobs.list().len(), 2);
    jobs.cancel(running).await.expect("it runs");
    jobs.get(running).expect("there").ended().await;
    assert_eq!(jobs.delete_all(both).await, Ok(()));
    assert_eq!(jobs.list().len(), 0);
    assert_eq!(jobs.delete_all(Vec::new()).await, Ok(()));
}
