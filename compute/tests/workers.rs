//! Jobs whose tasks run on several workers: they give what they give on one, also when a stream
//! between workers is cut on the way.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use arrow::util::display::{ArrayFormatter, FormatOptions};
use compute::{ExchangeConfig, ExchangeServer, SystemClock, Worker, WorkerConfig, WorkerHandle};
use connectors::{CollectTarget, LineWriter};
use engine::ChangeBatch;
use futures::future::{BoxFuture, FutureExt as _};
use proto::{
    control::{
        Deployment, ExchangeMap, JobOptions, Retry, TaskSpec, WorkerCommand, WorkerEvent,
        WorkerEventKind,
    },
    plan::Plan,
    types::{Epoch, Generation, JobId, KeyGroupCount, TaskId, WorkerId},
};
use rpc::{Tls, exchange_server, serve, tonic::service::Routes};
use sql::{Outcome, PlanOptions, Session, parse_script};
use state_client::{Incarnation, MemoryStore, StateControl as _};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle, time::timeout};

const JOB: JobId = JobId(5);
/// A test that takes longer has hung.
const PATIENCE: Duration = Duration::from_secs(120);

/// Rows that a SELECT has given, with how often.
type Rows = BTreeMap<String, i64>;

/// What has been delivered: generation, epoch and slot.
type Delivered = BTreeSet<(Generation, Epoch, u32)>;

/// Folds the changes that come; what comes again counts once.
#[derive(Default)]
struct Collected {
    state: Mutex<(Rows, Delivered)>,
}

impl CollectTarget for Collected {
    fn deliver(
        &self,
        generation: Generation,
        epoch: Epoch,
        slot: u32,
        batches: Vec<ChangeBatch>,
    ) -> BoxFuture<'_, Result<(), String>> {
        let mut state = self.state.lock().expect("whole rows");
        if state.1.insert((generation, epoch, slot)) {
            let rows = &mut state.0;
            batches.iter().for_each(|batch| fold(rows, batch));
        }
        std::future::ready(Ok(())).boxed()
    }
}

fn fold(rows: &mut Rows, batch: &ChangeBatch) {
    let options = FormatOptions::default();
    let columns = batch.rows.columns().iter();
    let columns: Vec<_> = columns
        .map(|column| ArrayFormatter::try_new(column, &options).expect("a type"))
        .collect();
    for row in 0..batch.num_rows() {
        let cells: Vec<String> = columns.iter().map(|c| c.value(row).to_string()).collect();
        let count = rows.entry(cells.join("|")).or_default();
        *count += if batch.kind(row).is_add() { 1 } else { -1 };
    }
    rows.retain(|_, count| *count != 0);
}

struct NoLines;

impl LineWriter for NoLines {
    fn write_lines(&self, _lines: &[u8], _standard_error: bool) -> std::io::Result<()> {
        Ok(())
    }
}

/// A worker and the server of its streams.
struct Member {
    id: WorkerId,
    handle: WorkerHandle,
    server: ExchangeServer,
    address: String,
    serving: JoinHandle<()>,
}

/// Workers that share a state store, and what they report.
struct Cluster {
    store: MemoryStore,
    members: Vec<Member>,
    events: mpsc::Receiver<(WorkerId, WorkerEvent)>,
    collected: Arc<Collected>,
}

impl Cluster {
    async fn start(workers: u64, window_bytes: usize) -> Cluster {
        let store = MemoryStore::new(KeyGroupCount::DEFAULT);
        let collected = Arc::<Collected>::default();
        let (merged, events) = mpsc::channel(1024);
        let mut members = Vec::new();
        for id in (1..=workers).map(WorkerId) {
            let server = ExchangeServer::default();
            let exchange = ExchangeConfig {
                window_bytes,
                ..ExchangeConfig::new(server.clone(), Tls::None, id.0)
            };
            let target = Arc::clone(&collected);
            let (handle, mut reported) = Worker::start(WorkerConfig {
                store: Arc::new(store.clone()),
                clock: Arc::new(SystemClock::default()),
                print: Arc::new(NoLines),
                collect: Arc::new(move |_| Arc::clone(&target) as Arc<dyn CollectTarget>),
                exchange: Some(exchange),
            });
            let merged = merged.clone();
            tokio::spawn(async move {
                while let Some(event) = reported.recv().await {
                    if merged.send((id, event)).await.is_err() {
                        return;
                    }
                }
            });
            let (address, serving) = listen(&server).await;
            members.push(Member {
                id,
                handle,
                server,
                address,
                serving,
            });
        }
        Cluster {
            store,
            members,
            events,
            collected,
        }
    }

    /// Begins a generation, its tasks spread over the workers in turn.
    async fn begin(&self, generation: u64, job: &Job) -> Run {
        let who = Incarnation {
            job: JOB,
            generation: Generation(generation),
        };
        let restored = self.store.begin(who).await.expect("a newer one").restored;
        let count = self.members.len() as u32;
        let worker = |spec: &TaskSpec| self.members[(spec.task.0 % count) as usize].id;
        let place: BTreeMap<TaskId, WorkerId> = job
            .tasks
            .iter()
            .map(|spec| (spec.task, worker(spec)))
            .collect();
        let workers = self.members.iter();
        let workers: BTreeMap<_, _> = workers.map(|m| (m.id, m.address.clone())).collect();
        for member in &self.members {
            let deployment = Deployment {
                job: JOB,
                generation: who.generation,
                restored,
                plan: Arc::clone(&job.plan),
                tasks: job.tasks.clone(),
                options: job.options.clone(),
                created_ms: 1_700_000_000_000,
                run: 9,
                exchange: ExchangeMap {
                    here: member.id,
                    workers: workers.clone(),
                    place: place.clone(),
                },
                splits: None,
                traceparent: None,
            };
            let command = WorkerCommand::Deploy(Box::new(deployment));
            assert!(member.handle.send(command).await);
        }
        Run {
            who,
            epoch: Epoch(restored.0 + 16),
            restored,
        }
    }

    async fn tell_all(&self, command: impl Fn() -> WorkerCommand) {
        for member in &self.members {
            assert!(member.handle.send(command()).await);
        }
    }

    async fn event(&mut self, generation: Generation) -> (WorkerId, WorkerEventKind) {
        loop {
            let event = timeout(PATIENCE, self.events.recv()).await;
            let (worker, event) = event.expect("an event in time").expect("workers are there");
            if event.generation == generation {
                return (worker, event.kind);
            }
        }
    }

    /// Runs a generation, epoch after epoch, to the job's end or until `stop_after` are committed.
    async fn run(&mut self, run: &mut Run, job: &Job, stop_after: u64) -> Result<(), String> {
        let (job_id, generation) = (run.who.job, run.who.generation);
        let (mut running, mut finished) = (0, BTreeSet::new());
        let (mut staged, mut objects) = (BTreeSet::new(), Vec::new());
        // Whether the epoch began after every task had finished: nothing comes after it.
        let mut is_last = false;
        let (mut committed, mut ended_at) = (0, None);
        loop {
            match self.event(generation).await.1 {
                WorkerEventKind::Running => {
                    running += 1;
                    if running == self.members.len() {
                        self.barrier(run).await;
                    }
                }
                WorkerEventKind::Finished { task } => {
                    finished.insert(task);
                }
                WorkerEventKind::Staged {
                    task,
                    epoch,
                    objects: held,
                } if epoch == run.epoch => {
                    staged.insert(task);
                    objects.extend(held);
                    if staged.len() < job.tasks.len() {
                        continue;
                    }
                    staged.clear();
                    let held = std::mem::take(&mut objects);
                    let done = self.store.commit(run.who, epoch, held).await;
                    done.expect("all is staged");
                    self.tell_all(|| WorkerCommand::Committed {
                        job: job_id,
                        generation,
                        epoch,
                    })
                    .await;
                    committed += 1;
                    if is_last {
                        ended_at = Some(epoch);
                    } else if committed == stop_after {
                        return Ok(());
                    } else {
                        run.epoch = Epoch(epoch.0 + 1);
                        is_last = finished.len() == job.tasks.len();
                        self.barrier(run).await;
                    }
                }
                WorkerEventKind::Published { epoch, .. } if Some(epoch) == ended_at => {
                    return Ok(());
                }
                WorkerEventKind::Failed { error, .. } => return Err(error),
                _ => {}
            }
        }
    }

    async fn barrier(&self, run: &Run) {
        self.tell_all(|| WorkerCommand::Barrier {
            job: run.who.job,
            generation: run.who.generation,
            epoch: run.epoch,
            traceparent: None,
        })
        .await;
    }

    fn rows(&self) -> Rows {
        let state = self.collected.state.lock();
        state.expect("whole rows").0.clone()
    }
}

async fn listen(server: &ExchangeServer) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a port");
    let address = listener.local_addr().expect("a port").to_string();
    let routes = Routes::new(exchange_server(server.clone()));
    let serving = tokio::spawn(async move {
        let served = serve(listener, routes, &Tls::None, std::future::pending()).await;
        panic!("{served:?}");
    });
    (address, serving)
}

/// A generation of a job.
struct Run {
    who: Incarnation,
    /// The epoch that is under way.
    epoch: Epoch,
    restored: Epoch,
}

#[derive(Clone, Copy)]
struct Events {
    count: u32,
    paced: bool,
}

/// As fast as they can.
const QUICK: Events = Events {
    count: 20_000,
    paced: false,
};
/// In two seconds.
const SLOW: Events = Events {
    count: 10_000,
    paced: true,
};

struct Job {
    plan: Arc<Plan>,
    tasks: Vec<TaskSpec>,
    options: JobOptions,
}

impl Job {
    /// A query over so many events, which may come as fast as they can or in real time: 5,000 a
    /// second, so that epochs end in the middle.
    fn new(query: &str, events: Events, parallelism: u32, batch_rows: usize) -> Job {
        let Events { count, paced } = events;
        let source = format!(
            "'connector' = 'nexmark', 'events.num' = '{count}', 'rate.limited' = '{paced}', \
             'base-time' = '1700000000000', 'first-event.rate' = '5000', 'next-event.rate' = '5000'"
        );
        let script = format!("{}{query};", DDL.replace("{WITH}", &source));
        let mut session = Session::new(PlanOptions {
            parallelism_hint: Some(parallelism),
            ..PlanOptions::default()
        });
        let mut plan = None;
        for statement in parse_script(&script).expect("statements") {
            let outcome = session.execute(&statement).expect("a plan");
            if let Outcome::Job { plan: planned, .. } = outcome {
                plan = Some(planned);
            }
        }
        let plan = plan.expect("a query");
        Job {
            tasks: coordinator::place::tasks(&plan, parallelism).expect("a placement"),
            plan: Arc::new(*plan),
            options: JobOptions {
                parallelism,
                batch_rows,
                ..JobOptions::default()
            },
        }
    }
}

const DDL: &str = include_str!("../../loadtest/nexmark/ddl.sql");

/// All that crosses an exchange differently: rows that only come, rows that are taken back, time.
const QUERIES: [(&str, &str); 3] = [
    (
        "keyed aggregation",
        "SELECT auction, COUNT(*) AS bids, MAX(price) AS top FROM bid GROUP BY auction",
    ),
    (
        "aggregation of an aggregation",
        "SELECT bids, COUNT(*) AS auctions FROM \
         (SELECT auction, COUNT(*) AS bids FROM bid GROUP BY auction) GROUP BY bids",
    ),
    (
        "windows and a join",
        "SELECT w.auction, w.bids, b.bidder FROM \
         (SELECT auction, window_end, COUNT(*) AS bids FROM \
          TABLE(TUMBLE(TABLE bid, DESCRIPTOR(dateTime), INTERVAL '2' SECOND)) \
          GROUP BY auction, window_start, window_end) AS w \
         JOIN bid AS b ON w.auction = b.auction AND b.price > 5000000",
    ),
];

async fn result(
    query: &str,
    events: Events,
    workers: u64,
    parallelism: u32,
    window: usize,
) -> Rows {
    // Small batches, so that a stream has many of them.
    let job = Job::new(query, events, parallelism, 256);
    let mut cluster = Cluster::start(workers, window).await;
    let mut run = cluster.begin(1, &job).await;
    let ran = cluster.run(&mut run, &job, u64::MAX).await;
    ran.expect("a run");
    cluster.rows()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_on_several_workers_gives_what_it_gives_on_one() {
    for (name, query) in QUERIES {
        let expected = result(query, QUICK, 1, 2, 1 << 20).await;
        assert!(expected.len() > 10, "{name}: {expected:?}");
        for (workers, parallelism, window) in [(2, 2, 1 << 20), (2, 4, 1), (3, 3, 5000)] {
            let rows = result(query, QUICK, workers, parallelism, window).await;
            assert!(rows == expected, "{name} on {workers} workers");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_whose_stream_is_cut_goes_on_from_its_checkpoint() {
    let (_, query) = QUERIES[1];
    let expected = result(
        query,
        Events {
            paced: false,
            ..SLOW
        },
        1,
        2,
        1 << 20,
    )
    .await;
    let job = Job::new(query, SLOW, 2, 64);
    let mut cluster = Cluster::start(2, 5000).await;
    let mut run = cluster.begin(1, &job).await;
    cluster.run(&mut run, &job, 2).await.unwrap();
    // Streams to the second worker are cut; its own to the first live on.
    cluster.members[1].serving.abort();
    let mut failed = BTreeMap::new();
    while failed.len() < 2 {
        if let (worker, WorkerEventKind::Failed { error, retry, .. }) =
            cluster.event(run.who.generation).await
        {
            assert_eq!(retry, Retry::Always, "{error}");
            failed.insert(worker, error);
        }
    }
    assert!(
        failed[&WorkerId(1)].contains("sending to wk_2"),
        "{failed:?}"
    );
    assert!(
        failed[&WorkerId(2)].contains("receiving from wk_1"),
        "{failed:?}"
    );

    let server = cluster.members[1].server.clone();
    let (address, serving) = listen(&server).await;
    cluster.members[1].address = address;
    cluster.members[1].serving = serving;
    let mut run = cluster.begin(2, &job).await;
    assert_ne!(run.restored, Epoch::ZERO);
    cluster.run(&mut run, &job, u64::MAX).await.unwrap();
    assert!(cluster.rows() == expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_waits_for_no_other_worker() {
    let job = Job::new(QUERIES[0].1, SLOW, 2, 64);
    let mut cluster = Cluster::start(2, 5000).await;
    // Nobody answers there: streams to it are being tried again and again.
    cluster.members[1].address = "127.0.0.1:1".to_owned();
    let run = cluster.begin(1, &job).await;
    cluster.tell_all(|| WorkerCommand::Stop { job: JOB }).await;
    let mut stopped = BTreeSet::new();
    while stopped.len() < 2 {
        let (worker, kind) = cluster.event(run.who.generation).await;
        if matches!(kind, WorkerEventKind::Stopped) {
            stopped.insert(worker);
        }
    }
}
