//! Workers of this process that share a state store, and what drives jobs on them in place of a
//! control plane.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arrow::util::display::{ArrayFormatter, FormatOptions};
use compute::{ExchangeConfig, ExchangeServer, SystemClock, Worker, WorkerConfig, WorkerHandle};
use connectors::{CollectTarget, LineWriter};
use coordinator::place::{Parallelism, PlanShape, Routing};
use engine::{ChangeBatch, memory::MemoryPool, spill::MemoryScratch};
use futures::future::{BoxFuture, FutureExt as _};
use proto::{
    control::{Deployment, ExchangeMap, JobOptions, WorkerCommand, WorkerEvent, WorkerEventKind},
    plan::Plan,
    types::{Epoch, Generation, JobId, KeyGroupCount, WorkerId},
};
use rpc::{Tls, exchange_server, serve, tonic::service::Routes};
use sql::{Outcome, PlanOptions, Session, parse_script};
use state_client::{Incarnation, MemoryStore, StateControl as _};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle, time::timeout};

pub(crate) const JOB: JobId = JobId(5);
/// A test that takes longer has hung.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Rows that a SELECT has given, with how often.
pub(crate) type Rows = BTreeMap<String, i64>;

/// What has been delivered: generation, epoch and slot.
pub(crate) type Delivered = BTreeSet<(Generation, Epoch, u32)>;

/// Folds the changes that come; what comes again counts once.
#[derive(Default)]
pub(crate) struct Collected {
    state: Mutex<(Rows, Delivered)>,
    /// Whether a sink that is made for it panics.
    pub(crate) panics: AtomicBool,
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

/// Bytes of a scratch file where memory is little: few, so that there are many of them.
const SCRATCH_FILE_BYTES: u64 = 16 << 10;

/// A worker and the server of its streams.
pub(crate) struct Member {
    pub(crate) id: WorkerId,
    memory: Arc<MemoryPool>,
    pub(crate) handle: WorkerHandle,
    pub(crate) server: ExchangeServer,
    pub(crate) address: String,
    pub(crate) serving: JoinHandle<()>,
}

/// Workers that share a state store, and what they report.
pub(crate) struct Cluster {
    pub(crate) store: MemoryStore,
    pub(crate) members: Vec<Member>,
    pub(crate) events: mpsc::Receiver<(WorkerId, WorkerEvent)>,
    pub(crate) collected: Arc<Collected>,
    /// Bytes that the barrier of each committed epoch has overtaken.
    pub(crate) overtaken: BTreeMap<Epoch, u64>,
    pub(crate) seen: Seen,
}

/// What was seen of state when epochs were committed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// The most bytes that tasks held.
    pub(crate) held: u64,
    /// Keys that went from memory, of the tasks of one moment.
    pub(crate) evicted: u64,
    /// Keys that were looked for in scratch files, the same.
    pub(crate) looked_for: u64,
}

impl Cluster {
    pub(crate) async fn start(workers: u64, window_bytes: usize) -> Cluster {
        Cluster::start_with(workers, window_bytes, None).await
    }

    /// `memory`: so many bytes are all that each worker has for state, with scratch files for what is
    /// beyond it.
    pub(crate) async fn start_with(
        workers: u64,
        window_bytes: usize,
        memory: Option<u64>,
    ) -> Cluster {
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
            let memory = memory.map_or_else(MemoryPool::unbounded, |bytes| {
                let scratch = MemoryScratch::new(SCRATCH_FILE_BYTES, usize::MAX);
                MemoryPool::with_scratch(bytes, Arc::new(scratch))
            });
            let (handle, mut reported) = Worker::start(WorkerConfig {
                store: Arc::new(store.clone()),
                memory: Arc::clone(&memory),
                clock: Arc::new(SystemClock::default()),
                print: Arc::new(NoLines),
                collect: Arc::new(move |_| {
                    assert!(!target.panics.load(Ordering::Relaxed), "no sink is made");
                    Arc::clone(&target) as Arc<dyn CollectTarget>
                }),
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
                memory,
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
            overtaken: BTreeMap::new(),
            seen: Seen::default(),
        }
    }

    fn see(&mut self) {
        let members = self.members.iter();
        let metrics = members.clone().map(|member| member.handle.metrics(JOB));
        let operators = metrics.flat_map(BTreeMap::into_values);
        let tasks: Vec<_> = operators.flat_map(BTreeMap::into_values).collect();
        let held: u64 = members.map(|member| member.memory.held()).sum();
        let evicted: u64 = tasks.iter().map(|task| task.evicted_keys).sum();
        let looked_for: u64 = tasks.iter().map(|task| task.scratch_reads).sum();
        let seen = &mut self.seen;
        seen.held = seen.held.max(held);
        seen.evicted = seen.evicted.max(evicted);
        seen.looked_for = seen.looked_for.max(looked_for);
    }

    /// Begins a generation, its tasks spread over the workers in turn.
    pub(crate) async fn begin(&self, generation: u64, job: &Job) -> Run {
        let parallelism = Parallelism::uniform(job.options.parallelism);
        let mut routing = Routing::first(&PlanShape::of(&job.plan), &parallelism);
        let count = self.members.len();
        for (nth, spec) in routing.tasks.iter().enumerate() {
            let worker = self.members[nth % count].id;
            routing.place.insert(spec.task, worker);
        }
        self.begin_with(generation, job, routing).await
    }

    /// Begins a generation whose tasks are these.
    pub(crate) async fn begin_with(&self, generation: u64, job: &Job, routing: Routing) -> Run {
        let who = Incarnation {
            job: JOB,
            generation: Generation(generation),
        };
        let restored = self.store.begin(who).await.expect("a newer one").restored;
        let run = Run {
            who,
            epoch: Epoch(restored.0 + 16),
            restored,
            has_overtaken: self
                .overtaken
                .get(&restored)
                .is_some_and(|bytes| *bytes > 0),
            routing,
            next: None,
            later: None,
            waits: false,
            rows_min: 0,
            is_last: false,
        };
        let all = self.members.iter().map(|member| member.id).collect();
        self.deploy(job, &run, &run.routing, all, WorkerCommand::Deploy)
            .await;
        run
    }

    async fn deploy(
        &self,
        job: &Job,
        run: &Run,
        routing: &Routing,
        to: BTreeSet<WorkerId>,
        command: impl Fn(Box<Deployment>) -> WorkerCommand,
    ) {
        let workers = self.members.iter();
        let workers: BTreeMap<_, _> = workers.map(|m| (m.id, m.address.clone())).collect();
        for member in self.members.iter().filter(|member| to.contains(&member.id)) {
            let deployment = Deployment {
                job: JOB,
                generation: run.who.generation,
                restored: run.restored,
                has_overtaken: run.has_overtaken,
                plan: Arc::clone(&job.plan),
                routing: routing.version,
                tasks: routing.tasks.clone(),
                groups: routing.groups.clone(),
                options: job.options.clone(),
                created_ms: 1_700_000_000_000,
                run: 9,
                exchange: ExchangeMap {
                    here: member.id,
                    workers: workers.clone(),
                    place: routing.place.clone(),
                },
                splits: None,
                new_sources: Vec::new(),
                traceparent: None,
            };
            assert!(member.handle.send(command(Box::new(deployment))).await);
        }
    }

    /// Has workers make ready for another parallelism on some of them.
    pub(crate) async fn prepare(
        &mut self,
        run: &mut Run,
        job: &Job,
        parallelism: u32,
        workers: &[u64],
    ) {
        let shape = PlanShape::of(&job.plan);
        let workers: BTreeSet<WorkerId> = workers.iter().copied().map(WorkerId).collect();
        let next = run
            .routing
            .rescaled(&shape, &Parallelism::uniform(parallelism));
        let next = next.placed(&workers);
        let mut waiting = run.routing.workers();
        waiting.extend(next.workers());
        self.deploy(job, run, &next, waiting.clone(), WorkerCommand::Prepare)
            .await;
        while !waiting.is_empty() {
            match self.event(run.who.generation).await {
                (worker, WorkerEventKind::Prepared { routing }) => {
                    assert_eq!(routing, next.version);
                    waiting.remove(&worker);
                }
                (worker, WorkerEventKind::NotPrepared { error, .. }) => panic!("{worker}: {error}"),
                (worker, WorkerEventKind::Failed { error, .. }) => panic!("{worker}: {error}"),
                // It is told again in the next routing.
                _ => {}
            }
        }
        run.next = Some(next);
    }

    pub(crate) async fn tell_all(&self, command: impl Fn() -> WorkerCommand) {
        for member in &self.members {
            assert!(member.handle.send(command()).await);
        }
    }

    /// The next event of whatever generation.
    pub(crate) async fn any_event(&mut self) -> (WorkerId, WorkerEventKind) {
        let event = timeout(PATIENCE, self.events.recv()).await;
        let (worker, event) = event.expect("an event in time").expect("workers are there");
        (worker, event.kind)
    }

    pub(crate) async fn event(&mut self, generation: Generation) -> (WorkerId, WorkerEventKind) {
        loop {
            let event = timeout(PATIENCE, self.events.recv()).await;
            let (worker, event) = event.expect("an event in time").expect("workers are there");
            if event.generation == generation {
                return (worker, event.kind);
            }
        }
    }

    /// Runs a generation, epoch after epoch, to the job's end or until `stop_after` are committed and
    /// the run's `rows_min` are there.
    pub(crate) async fn run(
        &mut self,
        run: &mut Run,
        job: &Job,
        stop_after: u64,
    ) -> Result<(), String> {
        self.run_rescaled(run, job, stop_after, &[]).await
    }

    /// The same, with changes of the routing: after each commit the next one, a parallelism and the
    /// workers that there are.
    #[allow(clippy::too_many_lines)] // One loop over one kind of event.
    pub(crate) async fn run_rescaled(
        &mut self,
        run: &mut Run,
        job: &Job,
        stop_after: u64,
        rescales: &[(u32, &[u64])],
    ) -> Result<(), String> {
        let mut rescales = rescales.iter();
        let (job_id, generation) = (run.who.job, run.who.generation);
        let (mut running, mut finished) = (0, BTreeSet::new());
        let (mut staged, mut objects) = (BTreeSet::new(), Vec::new());
        let (mut committed, mut ended_at) = (0, None);
        loop {
            match self.event(generation).await.1 {
                WorkerEventKind::Running => {
                    running += 1;
                    if running == self.members.len() {
                        self.barrier(run).await;
                    }
                }
                // In the routing that the barrier under way brings, if it brings one.
                WorkerEventKind::Finished { task, routing }
                    if routing == run.next.as_ref().unwrap_or(&run.routing).version =>
                {
                    finished.insert(task);
                }
                WorkerEventKind::Staged {
                    task,
                    epoch,
                    objects: held,
                    overtaken_bytes,
                } if epoch == run.epoch => {
                    staged.insert(task);
                    objects.extend(held);
                    *self.overtaken.entry(epoch).or_default() += overtaken_bytes;
                    if staged.len() < run.routing.tasks.len() {
                        continue;
                    }
                    staged.clear();
                    let held = std::mem::take(&mut objects);
                    let done = self.store.commit(run.who, epoch, held, 0).await;
                    done.expect("all is staged");
                    self.see();
                    self.tell_all(|| WorkerCommand::Committed {
                        job: job_id,
                        generation,
                        epoch,
                    })
                    .await;
                    committed += 1;
                    if let Some(next) = run.next.take() {
                        run.routing = next;
                    }
                    if run.is_last {
                        ended_at = Some(epoch);
                    } else if committed >= stop_after && self.rows().len() >= run.rows_min {
                        return Ok(());
                    } else {
                        run.epoch = Epoch(epoch.0 + 1);
                        run.is_last = finished.len() == run.routing.tasks.len();
                        if !run.is_last
                            && let Some(later) = run.later.take()
                        {
                            run.next = Some(later);
                            finished.clear();
                        } else if !run.is_last
                            && let Some((parallelism, workers)) = rescales.next()
                        {
                            self.prepare(run, job, *parallelism, workers).await;
                            if run.waits {
                                run.later = run.next.take();
                            } else {
                                finished.clear();
                            }
                        }
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

    pub(crate) async fn barrier(&self, run: &Run) {
        self.tell_all(|| WorkerCommand::Barrier {
            job: run.who.job,
            generation: run.who.generation,
            epoch: run.epoch,
            routing: run.next.as_ref().unwrap_or(&run.routing).version,
            // Nothing overtakes that changes the routing, nor after the end.
            aligned: run.next.is_some() || run.is_last,
            traceparent: None,
        })
        .await;
    }

    pub(crate) fn rows(&self) -> Rows {
        let state = self.collected.state.lock();
        state.expect("whole rows").0.clone()
    }
}

pub(crate) async fn listen(server: &ExchangeServer) -> (String, JoinHandle<()>) {
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
pub(crate) struct Run {
    pub(crate) who: Incarnation,
    /// The epoch that is under way.
    pub(crate) epoch: Epoch,
    pub(crate) restored: Epoch,
    pub(crate) has_overtaken: bool,
    /// Whether the epoch began after every task had finished: nothing comes after it.
    pub(crate) is_last: bool,
    pub(crate) routing: Routing,
    /// The routing that the barrier under way carries.
    pub(crate) next: Option<Routing>,
    /// One that is prepared, and that the next barrier is to carry.
    pub(crate) later: Option<Routing>,
    /// Whether barriers carry a routing only after another one that comes when it is prepared.
    pub(crate) waits: bool,
    /// Before there are so many rows in the result, the run is not stopped.
    pub(crate) rows_min: usize,
}

#[derive(Clone, Copy)]
pub(crate) struct Events {
    pub(crate) count: u32,
    /// So many happen in a second.
    pub(crate) rate: u32,
    /// Whether they come when they happen, and not as fast as they can.
    pub(crate) paced: bool,
}

impl Events {
    /// The same, as fast as they can.
    pub(crate) fn at_once(self) -> Events {
        Events {
            paced: false,
            ..self
        }
    }
}

/// As fast as they can.
pub(crate) const QUICK: Events = Events {
    count: 20_000,
    rate: 5000,
    paced: false,
};
/// In two seconds.
pub(crate) const SLOW: Events = Events {
    count: 10_000,
    rate: 5000,
    paced: true,
};

pub(crate) struct Job {
    pub(crate) plan: Arc<Plan>,
    pub(crate) options: JobOptions,
}

impl Job {
    /// A query over some events.
    pub(crate) fn new(query: &str, events: Events, parallelism: u32, batch_rows: usize) -> Job {
        let Events { count, rate, paced } = events;
        let source = format!(
            "'connector' = 'nexmark', 'events.num' = '{count}', 'rate.limited' = '{paced}', \
             'base-time' = '1700000000000', 'first-event.rate' = '{rate}', 'next-event.rate' = '{rate}'"
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
            plan: Arc::new(*plan),
            options: JobOptions {
                parallelism,
                batch_rows,
                ..JobOptions::default()
            },
        }
    }
}

const DDL: &str = include_str!("../../../loadtest/nexmark/ddl.sql");
