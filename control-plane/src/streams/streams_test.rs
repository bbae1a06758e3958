//! Streams over sockets: who is greeted, what is carried, and when they end.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use control_stream::{
    Answer, DialConfig, DialError, Dialer, Hello, NodeHears, NodeSays, Purpose, Question, Say,
    Session, StreamTiming, VERSION, WorkerHears, WorkerSays, encode,
};
use futures::{StreamExt as _, stream};
use proto::{
    control::{Deployment, ExchangeMap, JobOptions, WorkerCommand},
    plan::{
        CollectSpec, ConnectorSpec, Fragment, Node, Plan, RowType, Sink, connector_spec::Connector,
        node::Operator,
    },
    state_control::StateOrder,
    types::{Epoch, Generation, JobId, ShardId, StateNodeId, WorkerId},
};
use rpc::{
    Tls,
    caps::MESSAGE_BYTES_MAX,
    connect,
    control::{DeliverHead, DeliverPart, DeliverRows, deliver_part::Part},
    control_client,
    tonic::{Code, Request, Status, service::Routes},
};
use sql::PlanOptions;
use tokio::{
    net::TcpListener,
    sync::watch,
    task::JoinHandle,
    time::{Instant, timeout},
};

use super::{ControlConfig, ControlService};
use crate::{
    JobEntry, JobSpec, SelectColumns,
    api::Token,
    caps::RESULT_ROWS_MAX,
    leader::{LeaderConfig, Leading, Role},
    membership::Alone,
    metadata::LocalMetadata,
    results::Chunk,
    workers::Worker,
};

/// A test that takes longer has hung.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

const TIMING: StreamTiming = StreamTiming {
    beat: Duration::from_millis(100),
    silence: Duration::from_secs(1),
    greeting: Duration::from_secs(2),
    lease: Duration::from_secs(5),
};

/// A node of the control plane, as far as streams see it.
pub(super) struct Plane {
    address: String,
    pub(super) roles: watch::Sender<Role>,
    server: JoinHandle<()>,
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.server.abort();
    }
}

pub(super) async fn node() -> Plane {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let (roles, role) = watch::channel(Role::Follower(None));
    let service = ControlService::new(ControlConfig {
        roles: role,
        cluster: "blue".to_owned(),
        timing: TIMING,
        wall_ms: Arc::new(|| 5),
    });
    let routes = Routes::new(service.into_server());
    let server = tokio::spawn(async move {
        let forever = std::future::pending();
        rpc::serve(listener, routes, &Tls::None, forever)
            .await
            .expect("served");
    });
    Plane {
        address,
        roles,
        server,
    }
}

async fn leading() -> Arc<Leading> {
    leading_over(LocalMetadata::default(), Duration::ZERO, 7).await
}

pub(super) async fn leading_over(
    metadata: LocalMetadata,
    grace: Duration,
    seed: u64,
) -> Arc<Leading> {
    let config = LeaderConfig {
        metadata: Arc::new(metadata),
        membership: Arc::new(Alone::new(String::new())),
        wall_ms: Arc::new(|| 5),
        plan: PlanOptions::default(),
        defaults: JobOptions::default(),
        token: Token::new("secret-token"),
        cluster_id: "c1".to_owned(),
        workers_grace: grace,
        queries: Arc::new(crate::api::NoStateQueries),
        capacity: None,
    };
    Arc::new(Leading::start(config, seed).await.expect("it leads"))
}

/// A node that leads.
pub(super) async fn leader() -> (Plane, Arc<Leading>) {
    let (node, leading) = (node().await, leading().await);
    node.roles.send_replace(Role::Leader(Arc::clone(&leading)));
    (node, leading)
}

pub(super) fn config(node: &Plane, process: u64) -> DialConfig {
    DialConfig {
        control_plane: vec![node.address.clone()],
        tls: Tls::None,
        cluster: "blue".to_owned(),
        address: "127.0.0.1:1".to_owned(),
        process,
        timing: TIMING,
    }
}

async fn worker(config: DialConfig) -> Result<Session<WorkerSays, WorkerHears>, DialError> {
    let mut dialer = Dialer::new(config)?;
    dial(&mut dialer).await
}

/// A stream of a worker that runs nothing.
pub(super) async fn dial(
    dialer: &mut Dialer,
) -> Result<Session<WorkerSays, WorkerHears>, DialError> {
    let dialled = timeout(PATIENCE, dialer.dial(Purpose::Worker)).await;
    let session = dialled.expect("in time")?;
    session.say(WorkerSays::Told);
    Ok(session)
}

pub(super) async fn state_node(
    node: &Plane,
    id: u64,
    store: Option<&str>,
) -> Result<Session<NodeSays, NodeHears>, DialError> {
    let mut dialer = Dialer::new(config(node, id))?;
    if let Some(store) = store {
        dialer.set_store(store.to_owned());
    }
    let dialled = timeout(PATIENCE, dialer.dial(Purpose::StateNode(id))).await;
    dialled.expect("in time")
}

/// Waits until there are so many workers.
pub(super) async fn workers(leading: &Leading, count: usize) -> Vec<Worker> {
    let until = Instant::now() + PATIENCE;
    loop {
        let workers = leading.jobs.workers().list();
        if workers.len() == count {
            return workers;
        }
        assert!(Instant::now() < until, "{} workers", workers.len());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(super) fn spec() -> JobSpec {
    let sink = Node {
        operator: Some(Operator::Sink(Sink {
            connector: Some(ConnectorSpec {
                connector: Some(Connector::Collect(CollectSpec {})),
            }),
            ..Sink::default()
        })),
        ..Node::default()
    };
    JobSpec {
        name: "test".into(),
        sql: "SELECT 1".into(),
        plan: Arc::new(Plan {
            key_groups: 256,
            fragments: vec![Fragment {
                nodes: vec![sink],
                ..Fragment::default()
            }],
            ..Plan::default()
        }),
        options: JobOptions::default(),
        select: Some(SelectColumns {
            columns: RowType::default(),
            upsert_key: None,
        }),
        origin: None,
        tables_max: 0,
    }
}

pub(super) async fn job(leading: &Leading) -> Arc<JobEntry> {
    leading.jobs.submit(spec()).await.expect("accepted")
}

#[tokio::test]
async fn whoever_does_not_lead_names_who_does() {
    let (leader, leading) = leader().await;
    let follower = node().await;
    follower
        .roles
        .send_replace(Role::Follower(Some(leader.address.clone())));
    let session = worker(config(&follower, 1)).await.expect("greeted");
    assert_eq!(session.welcome.cluster_id, "c1");
    let found = workers(&leading, 1).await;
    assert_eq!(
        (found[0].address.as_str(), found[0].since_ms),
        ("127.0.0.1:1", 5)
    );
    assert_ne!(found[0].id, WorkerId(0));
}

#[tokio::test]
async fn a_leader_that_is_still_to_be_elected_is_waited_for() {
    let node = node().await;
    let mut dialled = std::pin::pin!(worker(config(&node, 1)));
    let early = timeout(Duration::from_millis(300), &mut dialled).await;
    assert!(early.is_err());
    node.roles.send_replace(Role::Leader(leading().await));
    let session = dialled.await.expect("greeted");
    assert_eq!(session.welcome.cluster_id, "c1");
}

#[tokio::test]
async fn processes_of_other_clusters_and_versions_are_refused() {
    let (node, leading) = leader().await;
    let mut other = config(&node, 1);
    other.cluster = "red".to_owned();
    let refused = worker(other).await.err().expect("refused").to_string();
    assert!(
        refused.contains("`red`") && refused.contains("`blue`"),
        "{refused}"
    );
    let hello = Hello {
        version: VERSION + 1,
        cluster: "blue".to_owned(),
        id: 1,
        former: None,
        process: 1,
        address: "127.0.0.1:1".to_owned(),
        store: None,
    };
    let said = first_answer(&node, &Say::<()>::Hello(hello))
        .await
        .expect("an answer");
    assert!(
        said.contains("refused") && said.contains("same version"),
        "{said}"
    );
    let nonsense = first_answer(&node, &Say::<()>::Beat).await;
    assert_eq!(nonsense.expect_err("refused").code(), Code::InvalidArgument);
    workers(&leading, 0).await;
}

/// What a node says to who begins like this.
async fn first_answer(node: &Plane, say: &Say<()>) -> Result<String, Status> {
    let channel = connect(&node.address, &Tls::None, rpc::Timeouts::default()).expect("valid");
    let stream = stream::iter([encode(say)]).chain(stream::pending());
    let mut answers = control_client(channel)
        .worker(Request::new(stream))
        .await?
        .into_inner();
    let answer = timeout(PATIENCE, answers.message())
        .await
        .expect("in time")?;
    let answer = answer.expect("an answer").json.to_vec();
    Ok(String::from_utf8(answer).expect("text"))
}

#[tokio::test]
async fn a_worker_is_there_as_long_as_its_stream() {
    let (node, leading) = leader().await;
    let one = worker(config(&node, 1)).await.expect("greeted");
    let mut other = config(&node, 2);
    other.address = "127.0.0.1:2".to_owned();
    let two = worker(other).await.expect("greeted");
    let both = workers(&leading, 2).await;
    assert_ne!(both[0].id, both[1].id);
    drop(one);
    let left = workers(&leading, 1).await;
    assert_eq!(left[0].address, "127.0.0.1:2");
    drop(two);
    workers(&leading, 0).await;
}

#[tokio::test]
async fn the_second_stream_of_a_worker_is_another_worker_and_ends_the_first() {
    let (node, leading) = leader().await;
    let mut dialer = Dialer::new(config(&node, 1)).expect("an address");
    let mut first = dial(&mut dialer).await.expect("greeted");
    let before = workers(&leading, 1).await;
    let second = dial(&mut dialer).await.expect("greeted");
    let heard = timeout(PATIENCE, first.hear()).await.expect("in time");
    assert!(heard.is_none());
    let until = Instant::now() + PATIENCE;
    while workers(&leading, 1).await[0].id == before[0].id {
        assert!(Instant::now() < until, "the first is still there");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Another process at the same address waits until the first is gone.
    let mut third = std::pin::pin!(worker(config(&node, 9)));
    let early = timeout(Duration::from_millis(300), &mut third).await;
    assert!(early.is_err());
    drop(second);
    third.await.expect("greeted");
}

#[tokio::test]
async fn a_worker_that_falls_silent_is_gone_and_one_that_beats_stays() {
    let (node, leading) = leader().await;
    let _beats = worker(config(&node, 1)).await.expect("greeted");
    let hello = Hello {
        version: VERSION,
        cluster: "blue".to_owned(),
        id: 77,
        former: None,
        process: 2,
        address: "127.0.0.1:2".to_owned(),
        store: None,
    };
    let channel = connect(&node.address, &Tls::None, rpc::Timeouts::default()).expect("valid");
    let said = [
        encode(&Say::<()>::Hello(hello)),
        encode(&Say::Item(WorkerSays::Told)),
    ];
    let stream = stream::iter(said).chain(stream::pending());
    let silent = control_client(channel)
        .worker(Request::new(stream))
        .await
        .expect("taken");
    workers(&leading, 2).await;
    let begun = Instant::now();
    let left = workers(&leading, 1).await;
    assert!(begun.elapsed() < TIMING.silence * 5);
    assert_eq!(left[0].address, "127.0.0.1:1");
    tokio::time::sleep(TIMING.silence * 2).await;
    workers(&leading, 1).await;
    drop(silent);
}

#[tokio::test]
async fn streams_end_with_the_leadership_and_readers_are_told() {
    let (node, leading) = leader().await;
    let mut session = worker(config(&node, 1)).await.expect("greeted");
    workers(&leading, 1).await;
    let entry = job(&leading).await;
    let feed = entry.feed.clone().expect("a SELECT");
    let mut reader = feed.reader();
    node.roles.send_replace(Role::Follower(None));
    leading.stop();
    while let Some(heard) = timeout(PATIENCE, session.hear()).await.expect("in time") {
        assert!(matches!(
            heard,
            WorkerHears::Owners(..) | WorkerHears::Command(_)
        ));
    }
    let read = timeout(PATIENCE, reader.next()).await.expect("in time");
    assert!(format!("{read:?}").contains("has changed"), "{read:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_to_be_sent_fails_its_job_and_no_stream() {
    let (node, leading) = leader().await;
    let mut session = worker(config(&node, 1)).await.expect("greeted");
    let entry = job(&leading).await;
    let worker = workers(&leading, 1).await.remove(0);
    let mut plan = (*spec().plan).clone();
    plan.fragments[0].nodes[0].id = "x".repeat(MESSAGE_BYTES_MAX);
    let deployment = Deployment {
        job: entry.id,
        generation: Generation(1),
        restored: Epoch::ZERO,
        has_overtaken: false,
        plan: Arc::new(plan),
        tasks: Vec::new(),
        options: JobOptions::default(),
        created_ms: 0,
        run: 1,
        routing: 0,
        groups: BTreeMap::new(),
        exchange: ExchangeMap::default(),
        splits: None,
        new_sources: Vec::new(),
        traceparent: None,
    };
    worker
        .link
        .send(WorkerCommand::Deploy(Box::new(deployment)));
    worker.link.send(WorkerCommand::Stop { job: entry.id });
    loop {
        match timeout(PATIENCE, session.hear()).await.expect("in time") {
            Some(WorkerHears::Command(WorkerCommand::Stop { .. })) => break,
            Some(WorkerHears::Command(WorkerCommand::Deploy(_))) => panic!("too large"),
            Some(_) => {}
            None => panic!("the stream has ended"),
        }
    }
    let until = Instant::now() + PATIENCE;
    let told = || {
        let mut exceptions = entry.exceptions().into_iter();
        exceptions.any(|exception| exception.error.contains("too much to be sent"))
    };
    while !told() {
        assert!(Instant::now() < until, "{:?}", entry.exceptions());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_cluster_has_one_store() {
    let (node, leading) = leader().await;
    // Without a store a node is only told whose it must be.
    let mut session = state_node(&node, 1, None).await.expect("greeted");
    assert_eq!(session.welcome.cluster_id, "c1");
    assert!(
        timeout(PATIENCE, session.hear())
            .await
            .expect("in time")
            .is_none()
    );
    assert!(
        leading
            .tier
            .status()
            .await
            .expect("it leads")
            .nodes
            .is_empty()
    );
    let _one = state_node(&node, 1, Some("s1")).await.expect("greeted");
    let refused = state_node(&node, 2, Some("s2"))
        .await
        .err()
        .expect("refused");
    assert!(
        refused.to_string().contains("the same --store"),
        "{refused}"
    );
    let _two = state_node(&node, 2, Some("s1")).await.expect("greeted");
}

#[tokio::test]
async fn a_state_node_hears_orders_and_gets_answers() {
    let (node, leading) = leader().await;
    let mut session = state_node(&node, 3, Some("s1")).await.expect("greeted");
    let entry = job(&leading).await;
    let _worker = worker(config(&node, 9)).await.expect("greeted");
    let open = loop {
        match timeout(PATIENCE, session.hear()).await.expect("in time") {
            Some(NodeHears::Order(StateOrder::Open(open))) => break open,
            Some(_) => {}
            None => panic!("the stream has ended"),
        }
    };
    assert_eq!((open.job, open.generation), (entry.id, Generation(1)));
    let ask = |number, question| NodeSays::Ask { number, question };
    assert!(session.say(ask(1, Question::Owner(entry.id, open.shard))));
    assert!(session.say(ask(2, Question::JobReferences(entry.id))));
    assert!(session.say(ask(3, Question::JobReferences(JobId(99)))));
    let mut answers = Vec::new();
    while answers.len() < 3 {
        match timeout(PATIENCE, session.hear()).await.expect("in time") {
            Some(NodeHears::Answer { number, answer }) => answers.push((number, answer)),
            Some(_) => {}
            None => panic!("the stream has ended"),
        }
    }
    answers.sort_by_key(|(number, _)| *number);
    assert_eq!(answers[0], (1, Ok(Answer::Owner(Some(StateNodeId(3))))));
    let Ok(Answer::JobReferences(references)) = &answers[1].1 else {
        panic!("{:?}", answers[1]);
    };
    assert_eq!(references.generation, Generation(1));
    assert!(answers[2].1.is_err());
    // Workers are told where shards are.
    assert_eq!(
        leading.tier.owners(entry.id).expect("known").owners[&ShardId(0)].node,
        StateNodeId(3)
    );
}

/// Brings rows of an epoch.
async fn deliver(node: &Plane, job: JobId, epoch: u64, lines: Vec<String>) -> Result<(), Status> {
    let channel = connect(&node.address, &Tls::None, rpc::Timeouts::default()).expect("valid");
    let head = DeliverHead {
        job: job.0,
        generation: 1,
        epoch,
        slot: 0,
        rows: lines.len() as u64,
    };
    let mut parts = vec![Part::Head(head)];
    parts.extend(lines.chunks(1000).map(|lines| {
        Part::Rows(DeliverRows {
            kinds: vec![0; lines.len()].into(),
            lines: lines.to_vec(),
        })
    }));
    let parts = parts
        .into_iter()
        .map(|part| DeliverPart { part: Some(part) });
    let parts: Vec<DeliverPart> = parts.collect();
    let mut client = control_client(channel);
    let answer = client.deliver(Request::new(stream::iter(parts))).await;
    answer.map(|_| ())
}

#[tokio::test]
async fn rows_are_delivered_once_and_wait_for_their_reader() {
    let (node, leading) = leader().await;
    let entry = job(&leading).await;
    let feed = entry.feed.clone().expect("a SELECT");
    let rows = |rows: usize| (0..rows).map(|row| row.to_string()).collect::<Vec<_>>();
    deliver(&node, entry.id, 16, rows(2500))
        .await
        .expect("taken");
    deliver(&node, entry.id, 16, rows(2500))
        .await
        .expect("taken before");
    let mut reader = feed.reader();
    let mut read = 0;
    while read < 2500 {
        let chunk = timeout(PATIENCE, reader.next()).await.expect("in time");
        let Chunk::Rows { rows, .. } = chunk else {
            panic!("{chunk:?}");
        };
        read += rows.len();
    }
    assert_eq!(read, 2500);
    // A reader who does not read holds up who brings more.
    deliver(&node, entry.id, 17, rows(RESULT_ROWS_MAX))
        .await
        .expect("taken");
    let refused = deliver(&node, entry.id, 18, rows(1))
        .await
        .expect_err("no room");
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    let unknown = deliver(&node, JobId(99), 18, rows(1))
        .await
        .expect_err("nobody");
    assert_eq!(unknown.code(), Code::NotFound, "{unknown}");
    node.roles.send_replace(Role::Follower(None));
    let refused = deliver(&node, entry.id, 18, rows(1))
        .await
        .expect_err("no leader");
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
}
