//! Jobs that follow their load, over workers whose figures are made up.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    body::{Body, to_bytes},
    http::Request,
};
use coordinator::{
    JobState,
    autoscale::{AutoscalerState, DecisionKind, Outcome},
    capacity::{CapacityPolicy, Want},
};
use expect_test::expect_file;
use futures::{FutureExt as _, future::BoxFuture};
use proto::{
    control::{
        JobMetrics, JobOptions, OperatorMetrics, WorkerCommand, WorkerEvent, WorkerEventKind,
    },
    plan::{
        BlackholeSpec, ConnectorSpec, Exchange, Fragment, Input, Node, Plan, Sink, Source,
        connector_spec::Connector, input::From, node::Operator,
    },
    policy::AutoscalePolicy,
    types::{Generation, JobId, KeyGroupCount, TaskId, WorkerId},
};
use serde_json::{Value, json};
use sql::{PlanOptions, session::Session};
use state_client::MemoryStore;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tower::ServiceExt as _;

use super::*;
use crate::{
    JobSpec, Statements, WorkerLink,
    api::{Backend, Token, router},
    capacity::{CapacityConfig, CapacityProvider},
    metadata::{LocalMetadata, look},
    workers::{Worker, WorkerNews},
};

/// A worker on which all runs well: a source brings 100,000 rows a second to two tasks that each do
/// 40,000 and so fall behind.
struct Link {
    commands: mpsc::Sender<WorkerCommand>,
    began: Instant,
}

impl WorkerLink for Link {
    fn release(&self) {}

    fn send(&self, command: WorkerCommand) {
        self.commands.try_send(command).expect("room");
    }

    fn metrics(&self, _job: JobId) -> JobMetrics {
        let life = self.began.elapsed();
        let ns = life.as_nanos() as u64;
        let rows = |per_s: f64| (life.as_secs_f64() * per_s) as u64;
        let source = |_| OperatorMetrics {
            rows_out: rows(40e3),
            busy_ns: ns / 10,
            blocked_ns: ns * 9 / 10,
            backlog_rows: Some(rows(10e3)),
            ..OperatorMetrics::default()
        };
        let count = |_| OperatorMetrics {
            rows_in: rows(40e3),
            busy_ns: ns,
            ..OperatorMetrics::default()
        };
        let both = |of: &dyn Fn(u32) -> OperatorMetrics| {
            let tasks = (0..2).map(|index| (index, of(index)));
            tasks.collect::<BTreeMap<u32, OperatorMetrics>>()
        };
        [
            ("source".to_owned(), both(&source)),
            ("count".to_owned(), both(&count)),
        ]
        .into()
    }
}

fn spec(autoscale: Option<AutoscalePolicy>) -> JobSpec {
    let connector = ConnectorSpec {
        connector: Some(Connector::Blackhole(BlackholeSpec {})),
    };
    let node = |id: &str, inputs: &[From], operator| Node {
        id: id.to_owned(),
        inputs: inputs
            .iter()
            .map(|from| Input { from: Some(*from) })
            .collect(),
        operator: Some(operator),
        ..Node::default()
    };
    let source = Source {
        table: "bids".to_owned(),
        ..Source::default()
    };
    let sink = Sink {
        connector: Some(connector),
        ..Sink::default()
    };
    let fragment = |id, node| Fragment {
        id,
        nodes: vec![node],
        singleton: false,
    };
    let plan = Plan {
        key_groups: 256,
        fragments: vec![
            fragment(0, node("source", &[], Operator::Source(source))),
            fragment(1, node("count", &[From::Exchange(0)], Operator::Sink(sink))),
        ],
        exchanges: vec![Exchange {
            to_fragment: 1,
            ..Exchange::default()
        }],
        ..Plan::default()
    };
    JobSpec {
        name: "test".into(),
        sql: "INSERT".into(),
        plan: Arc::new(plan),
        options: JobOptions {
            parallelism: 2,
            autoscale,
            ..JobOptions::default()
        },
        select: None,
        origin: None,
        tables_max: 0,
    }
}

/// Answers commands as a good worker does.
async fn work(mut inbox: mpsc::Receiver<WorkerCommand>, news: mpsc::Sender<WorkerNews>) {
    let mut generation = Generation::default();
    while let Some(command) = inbox.recv().await {
        let (job, of) = command.addressee();
        // A stop is about whatever runs.
        generation = generation.max(of);
        let kinds = match &command {
            WorkerCommand::Deploy(_) => vec![WorkerEventKind::Running],
            WorkerCommand::Stop { .. } => vec![WorkerEventKind::Stopped],
            WorkerCommand::Barrier { epoch, .. } => (0..4)
                .map(|task| WorkerEventKind::Staged {
                    task: TaskId(task),
                    epoch: *epoch,
                    objects: Vec::new(),
                    overtaken_bytes: 0,
                })
                .collect(),
            _ => Vec::new(),
        };
        for kind in kinds {
            let event = WorkerEvent {
                job,
                generation,
                kind,
            };
            let event = WorkerNews::Event(WorkerId(1), event);
            news.send(event).await.expect("the driver listens");
        }
    }
}

async fn start(capacity: Option<CapacityConfig>, metadata: &LocalMetadata) -> Jobs {
    let (news, workers) = mpsc::channel(64);
    let (commands, inbox) = mpsc::channel(64);
    let joined = WorkerNews::Joined(
        Worker {
            id: WorkerId(1),
            address: String::new(),
            since_ms: 0,
            link: Arc::new(Link {
                commands,
                began: Instant::now(),
            }),
        },
        Vec::new(),
    );
    news.send(joined).await.expect("room");
    tokio::spawn(work(inbox, news));
    let (jobs, mut driver) = Jobs::new(Tiers {
        workers,
        state: Arc::new(MemoryStore::new(KeyGroupCount::DEFAULT)),
        metadata: Arc::new(metadata.clone()),
        wall_ms: Arc::new(|| 0),
        seed: 1,
    });
    if let Some(capacity) = capacity {
        driver = driver.with_capacity(capacity);
    }
    driver
        .recover(Duration::ZERO)
        .await
        .expect("it can be read");
    tokio::spawn(driver.run());
    jobs
}

#[tokio::test(start_paused = true)]
async fn a_job_that_follows_its_load_is_looked_at_and_decided_about() {
    let jobs = start(None, &LocalMetadata::default()).await;
    let policy = AutoscalePolicy::between(1, 8);
    let entry = jobs.submit(spec(Some(policy))).await.expect("accepted");
    assert_eq!(entry.autoscale(), Some(policy));
    sleep(Duration::from_secs(20)).await;
    assert_eq!(entry.state(), JobState::Running);
    entry.with_autoscaler(|scaler| {
        let scaler = scaler.expect("it is looked at");
        let figures = scaler.figures().expect("windows have passed");
        assert_eq!(figures.sources[0].table, "bids");
        let decision = scaler.decisions().next().expect("a decision");
        assert_eq!(decision.kind, DecisionKind::Rescale);
        let changes: Vec<(u32, u32, u32)> = decision
            .changes
            .iter()
            .map(|change| (change.fragment, change.from, change.to))
            .collect();
        // 100k rows/s arrive and some wait; a task does 40k rows/s, and 32k at 80 %.
        assert_eq!(changes, [(1, 2, 4)]);
        assert_ne!(decision.outcome, Outcome::Waiting, "it was handed on");
    });
    jobs.cancel(entry.id).await.expect("it exists");
    assert_eq!(entry.ended().await, JobState::Canceled);
}

/// What the API says of the first job's autoscaler.
async fn served(jobs: &Jobs) -> Value {
    let session = Session::new(PlanOptions::default());
    let statements = Statements::new(session, jobs.clone(), JobOptions::default());
    let backend = Backend::alone(Arc::new(statements), String::new());
    let request = Request::get("/v1/jobs/job_1/autoscaler");
    let request = request.header("Authorization", "Bearer secret-token");
    let request = request.body(Body::empty()).expect("a request");
    let app = router(backend, Token::new("secret-token"));
    let response = app.oneshot(request).await.expect("infallible");
    assert_eq!(response.status(), 200);
    let body = to_bytes(response.into_body(), 1 << 20)
        .await
        .expect("a body");
    serde_json::from_slice(&body).expect("JSON")
}

/// Numbers to three digits.
fn short(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(short),
        Value::Object(fields) => fields.values_mut().for_each(short),
        Value::Number(number) if number.is_f64() => {
            let number = number.as_f64().expect("it is one");
            let short: f64 = format!("{number:.2e}").parse().expect("a number");
            *value = json!(short);
        }
        _ => {}
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_decided_is_served_with_what_it_was_made_from() {
    let jobs = start(None, &LocalMetadata::default()).await;
    let entry = jobs.submit(spec(None)).await.expect("accepted");
    let off =
        json!({"policy": null, "state": "off", "notes": [], "observation": null, "decisions": []});
    assert_eq!(served(&jobs).await, off);
    let policy = AutoscalePolicy::between(1, 8);
    let scaled = jobs.scale(entry.id, Scale::Auto(policy)).await;
    assert_eq!(scaled, Ok(()));
    sleep(Duration::from_secs(20)).await;
    let mut body = served(&jobs).await;
    let newest = body["observation"].take();
    assert_eq!(newest["after_ms"], 18_000, "{newest:#}");
    assert_eq!(newest["fragments"][1]["needed"], 4, "{newest:#}");
    short(&mut body);
    expect_file!["decision.json"].assert_eq(&format!("{body:#}\n"));
}

#[tokio::test(start_paused = true)]
async fn what_a_job_follows_can_be_changed_and_is_remembered() {
    let metadata = LocalMetadata::default();
    let jobs = start(None, &metadata).await;
    let entry = jobs.submit(spec(None)).await.expect("accepted");
    sleep(Duration::from_secs(20)).await;
    assert!(
        entry.with_autoscaler(|scaler| scaler.is_none()),
        "it is fixed"
    );
    let policy = AutoscalePolicy::between(1, 2);
    let auto = Scale::Auto(policy);
    assert_eq!(jobs.scale(entry.id, auto.clone()).await, Ok(()));
    let written = || async {
        let read = look(&metadata, |state| {
            state.jobs[&JobId(1)].spec.options.autoscale
        });
        read.await.expect("it can be read")
    };
    assert_eq!(written().await, Some(policy));
    sleep(Duration::from_secs(20)).await;
    let state = entry.with_autoscaler(|scaler| scaler.expect("it is looked at").state());
    assert_eq!(
        state,
        AutoscalerState::Watching,
        "two tasks are all that it may have"
    );
    // The number that it has: nothing changes but that it stays.
    assert_eq!(jobs.scale(entry.id, Scale::All(2)).await, Ok(()));
    assert_eq!((written().await, entry.autoscale()), (None, None));
    jobs.cancel(entry.id).await.expect("it exists");
    entry.ended().await;
    assert_eq!(
        jobs.scale(entry.id, auto.clone()).await,
        Err(JobsError::Ended(entry.id))
    );
    let unknown = JobId(9);
    assert_eq!(
        jobs.scale(unknown, auto).await,
        Err(JobsError::Unknown(unknown))
    );
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_is_refused_and_changes_nothing() {
    let jobs = start(None, &LocalMetadata::default()).await;
    let policy = AutoscalePolicy::between(1, 8);
    let entry = jobs.submit(spec(Some(policy))).await.expect("accepted");
    let refused = async |wish: Scale, expected: &str| {
        let error = jobs.scale(entry.id, wish).await.expect_err("refused");
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(entry.autoscale(), Some(policy));
    };
    let range = "parallelism must be between 1 and 256, not 257";
    refused(Scale::All(257), range).await;
    refused(Scale::Fragments([(1, 257)].into()), range).await;
    refused(Scale::Fragments([(7, 1)].into()), "no fragment 7").await;
    let wide = AutoscalePolicy::between(1, 300);
    refused(Scale::Auto(wide), "at most 256").await;
}

/// Takes note of what it is asked for.
#[derive(Default)]
struct Provider(Mutex<Vec<u32>>);

impl CapacityProvider for Provider {
    fn name(&self) -> &'static str {
        "test"
    }

    fn want(&self, want: Want) -> BoxFuture<'_, Result<(), String>> {
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        asked.push(want.workers);
        async { Ok(()) }.boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn workers_are_asked_for_as_jobs_need_them() {
    let provider = Arc::new(Provider::default());
    let capacity = CapacityConfig {
        policy: CapacityPolicy {
            slots_per_worker: 2,
            workers_min: 1,
            workers_max: 3,
            removal_delay_us: 5_000_000,
        },
        provider: provider.clone(),
    };
    let jobs = start(Some(capacity), &LocalMetadata::default()).await;
    let policy = AutoscalePolicy::between(1, 8);
    let entry = jobs.submit(spec(Some(policy))).await.expect("accepted");
    sleep(Duration::from_secs(20)).await;
    // One worker has room for two tasks; the decision waits for another one.
    let state = entry.with_autoscaler(|scaler| scaler.expect("it is looked at").state());
    assert_eq!(state, AutoscalerState::WaitingForCapacity);
    let status = jobs.capacity().expect("there is a provider");
    assert_eq!(status.wanted.expect("something").workers, 2);
    jobs.cancel(entry.id).await.expect("it exists");
    entry.ended().await;
    sleep(Duration::from_secs(20)).await;
    let asked = provider.0.lock().unwrap_or_else(PoisonError::into_inner);
    assert_eq!(*asked, [1, 2, 1]);
}
