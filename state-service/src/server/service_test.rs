//! Callers that go away, ask for too much, or talk nonsense.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture, stream};
use proto::{
    log::LogObject,
    types::{Epoch, Generation, JobId, KeyGroup, ShardId, TableId, TaskId},
};
use rpc::{
    Channel, ErrorCode, Timeouts, Tls, connect, serve,
    state::{
        KeyRequest, ReadRequest, ScanRequest, StageHead, StagePart, stage_part::Part,
        state_client::StateClient,
    },
    state_client,
    tonic::{Request, Status, service::Routes},
};
use state_client::{
    Block, CommittedOutput, EpochDelta, Incarnation, KeptShard, KeptStates, LoadedRow,
    OutputRequest, ReadReply, ScanReply, Section, StateError, StateStore,
    page::{RowRef, RunBuilder},
};
use state_wire::{EncodedSection, Failure, StageParts, caps, encode_stage_head, failure_of};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::timeout};

use super::{StateService, admission::Limits};

const PATIENCE: Duration = Duration::from_secs(20);
const WHO: Incarnation = Incarnation {
    job: JobId(1),
    generation: Generation(2),
};

/// Counts what it is asked; answers when it is let.
#[derive(Clone)]
struct Gate {
    open: watch::Sender<bool>,
    under_way: Arc<AtomicUsize>,
    staged: Arc<AtomicUsize>,
    row_bytes: usize,
}

struct UnderWay(Arc<AtomicUsize>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Gate {
    fn new(open: bool) -> Gate {
        Gate {
            open: watch::channel(open).0,
            under_way: Arc::default(),
            staged: Arc::default(),
            row_bytes: 0,
        }
    }

    fn answer<T: Send + 'static>(&self, answer: T) -> BoxFuture<'static, Result<T, StateError>> {
        self.under_way.fetch_add(1, Ordering::SeqCst);
        let under_way = UnderWay(self.under_way.clone());
        let mut open = self.open.subscribe();
        async move {
            let _under_way = under_way;
            drop(open.wait_for(|open| *open).await);
            Ok(answer)
        }
        .boxed()
    }

    async fn until_under_way(&self, count: usize) {
        let waiting = async {
            while self.under_way.load(Ordering::SeqCst) != count {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let waited = timeout(PATIENCE, waiting).await;
        assert!(waited.is_ok(), "{count} requests under way");
    }
}

impl StateStore for Gate {
    fn read(
        &self,
        _: Incarnation,
        request: state_client::ReadRequest,
    ) -> BoxFuture<'static, Result<ReadReply, StateError>> {
        let row = LoadedRow {
            namespace: 0,
            hash: 0,
            identity: Bytes::new(),
            value: vec![0; self.row_bytes].into(),
        };
        let rows = vec![vec![row]; request.keys.len()];
        self.answer(ReadReply { rows })
    }

    fn scan(
        &self,
        _: Incarnation,
        request: state_client::ScanRequest,
    ) -> BoxFuture<'static, Result<ScanReply, StateError>> {
        // Says what it was asked for.
        let cursor = Some(request.bytes_max.to_string().into());
        self.answer(ScanReply {
            cursor,
            ..ScanReply::default()
        })
    }

    fn stage(
        &self,
        _: Incarnation,
        _: EpochDelta,
    ) -> BoxFuture<'static, Result<Vec<LogObject>, StateError>> {
        self.staged.fetch_add(1, Ordering::SeqCst);
        self.answer(Vec::new())
    }

    fn committed_output(
        &self,
        _: Incarnation,
        _: OutputRequest,
    ) -> BoxFuture<'static, Result<Vec<CommittedOutput>, StateError>> {
        self.answer(Vec::new())
    }
}

impl KeptStates for Gate {
    fn read_kept(
        &self,
        _: KeptShard,
        keys: Vec<state_client::KeyRequest>,
    ) -> BoxFuture<'static, Result<ReadReply, StateError>> {
        let rows = vec![Vec::new(); keys.len()];
        self.answer(ReadReply { rows })
    }

    fn scan_kept(
        &self,
        _: KeptShard,
        _: state_client::ScanRequest,
    ) -> BoxFuture<'static, Result<ScanReply, StateError>> {
        self.answer(ScanReply::default())
    }
}

struct Server {
    serving: JoinHandle<()>,
    client: StateClient<Channel>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn start(gate: &Gate, limits: Limits) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let service = StateService::over(Arc::new(gate.clone()), &limits);
    let routes = Routes::new(service.into_server());
    let serving = tokio::spawn(async move {
        serve(listener, routes, &Tls::None, pending())
            .await
            .unwrap();
    });
    let timeouts = Timeouts {
        call: PATIENCE,
        ..Timeouts::default()
    };
    let client = state_client(connect(&address, &Tls::None, timeouts).unwrap());
    Server { serving, client }
}

fn read_of(keys: usize) -> ReadRequest {
    ReadRequest {
        job: 1,
        generation: 2,
        min_epoch: 0,
        keys: vec![KeyRequest::default(); keys],
    }
}

fn section(bytes: usize) -> EncodedSection {
    let mut run = RunBuilder::default();
    run.push(RowRef {
        hash: 1,
        identity: b"id",
        epoch: 9,
        value: Some(&vec![7; bytes]),
    });
    EncodedSection::new(&Section {
        job: WHO.job,
        generation: WHO.generation,
        epoch: Epoch(9),
        task: TaskId(3),
        shard: ShardId(0),
        blocks: vec![Block {
            table: TableId(4),
            key_group: KeyGroup(5),
            namespace: 0,
            run: run.finish(),
        }],
        low_water_marks: Vec::new(),
        staged: Vec::new(),
    })
}

fn head(sections: &[EncodedSection]) -> StageHead {
    encode_stage_head(WHO, Epoch(9), TaskId(3), 1, sections)
}

fn delta(bytes: usize) -> Vec<StagePart> {
    let sections = [section(bytes)];
    StageParts::new(head(&sections), &sections).collect()
}

async fn stage(server: &Server, parts: Vec<StagePart>) -> Result<(), Status> {
    let mut client = server.client.clone();
    let staged = client.stage(stream::iter(parts));
    let staged = timeout(PATIENCE, staged).await.expect("an answer in time");
    staged.map(|_| ())
}

fn chunk(bytes: impl Into<Bytes>) -> StagePart {
    StagePart {
        part: Some(Part::Chunk(bytes.into())),
    }
}

fn is_later(status: &Status) -> bool {
    matches!(failure_of(status), Failure::Passing(_))
}

#[tokio::test]
async fn a_request_ends_when_its_caller_goes_away() {
    let gate = Gate::new(false);
    let server = start(&gate, Limits::default()).await;
    let mut client = server.client.clone();
    let read = tokio::spawn(async move { client.read(read_of(1)).await });
    let mut client = server.client.clone();
    let staging = tokio::spawn(async move { client.stage(stream::iter(delta(10))).await });
    gate.until_under_way(2).await;
    read.abort();
    gate.until_under_way(1).await;
    staging.abort();
    gate.until_under_way(0).await;
    // And when its time is up.
    let mut request = Request::new(read_of(1));
    request.set_timeout(Duration::from_millis(100));
    let late = server.client.clone().read(request).await.unwrap_err();
    assert!(is_later(&late), "{late:?}");
    gate.until_under_way(0).await;
}

#[tokio::test]
async fn what_is_under_way_is_bounded() {
    let mut gate = Gate::new(false);
    gate.row_bytes = 40_000;
    let limits = Limits {
        requests_bytes: 10 << 10,
        sections_bytes: 1 << 20,
        replies_bytes: 1 << 20,
    };
    let server = start(&gate, limits).await;
    // Requests.
    let reads: Vec<_> = (0..9)
        .map(|_| {
            let mut client = server.client.clone();
            tokio::spawn(async move { client.read(read_of(1)).await })
        })
        .collect();
    gate.until_under_way(9).await;
    let refused = server.client.clone().read(read_of(40)).await.unwrap_err();
    assert!(is_later(&refused), "{refused:?}");
    // Sections.
    let mut client = server.client.clone();
    let staging = tokio::spawn(async move { client.stage(stream::iter(delta(700_000))).await });
    gate.until_under_way(10).await;
    let refused = stage(&server, delta(700_000)).await.unwrap_err();
    assert!(is_later(&refused), "{refused:?}");
    gate.open.send_replace(true);
    staging.await.unwrap().unwrap();
    for read in reads {
        read.await.unwrap().unwrap();
    }
    gate.until_under_way(0).await;
    // All of it comes back.
    stage(&server, delta(700_000)).await.unwrap();
    // Replies, as long as nobody takes them.
    let mut slow = server
        .client
        .clone()
        .read(read_of(200))
        .await
        .unwrap()
        .into_inner();
    let refused = server.client.clone().read(read_of(20)).await.unwrap_err();
    assert!(is_later(&refused), "{refused:?}");
    let mut keys = 0;
    while let Some(part) = slow.message().await.unwrap() {
        keys += part.keys.len();
    }
    assert_eq!(keys, 200);
    drop(slow);
    // The last of it is let go when it is sent, which is hardly before it is here.
    let again = async {
        while server.client.clone().read(read_of(20)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, again).await.expect("room again");
}

#[tokio::test]
async fn nonsense_and_damage_are_refused_and_nothing_is_staged() {
    let gate = Gate::new(true);
    let server = start(&gate, Limits::default()).await;
    let good = delta(2_000_000);
    assert!(good.len() > 2);
    let damaged = {
        let mut parts = good.clone();
        let Some(StagePart {
            part: Some(Part::Chunk(last)),
        }) = parts.pop()
        else {
            panic!("a chunk");
        };
        let mut last = last.to_vec();
        *last.last_mut().unwrap() ^= 1;
        parts.push(chunk(last));
        parts
    };
    let refused = stage(&server, damaged).await.unwrap_err();
    assert!(
        matches!(failure_of(&refused), Failure::Final(StateError::Corrupt(_))),
        "{refused:?}"
    );
    let other = StageHead {
        epoch: 10,
        ..head(&[section(2_000_000)])
    };
    let of_other = StagePart {
        part: Some(Part::Head(other)),
    };
    let nonsense = [
        Vec::new(),
        good[1..].to_vec(),
        good[..2].to_vec(),
        [&good[..], &good[..1]].concat(),
        [&good[..], &[chunk(&b"more"[..])]].concat(),
        [&[of_other], &good[1..]].concat(),
        vec![StagePart { part: None }],
    ];
    for (case, parts) in nonsense.into_iter().enumerate() {
        let refused = stage(&server, parts).await.unwrap_err();
        assert_eq!(
            ErrorCode::of(&refused),
            ErrorCode::Invalid,
            "{case} {refused:?}"
        );
    }
    // A message larger than any part is not even taken in.
    let huge = vec![good[0].clone(), chunk(vec![0; caps::REQUEST_BYTES_MAX + 1])];
    let refused = stage(&server, huge).await.unwrap_err();
    assert!(!is_later(&refused), "{refused:?}");
    let many = read_of(caps::READ_KEYS_MAX + 1);
    let refused = server.client.clone().read(many).await.unwrap_err();
    assert_eq!(ErrorCode::of(&refused), ErrorCode::Invalid);
    assert_eq!(gate.staged.load(Ordering::SeqCst), 0);
    stage(&server, good).await.unwrap();
    assert_eq!(gate.staged.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_scan_asks_for_no_more_than_a_message_holds() {
    let gate = Gate::new(true);
    let server = start(&gate, Limits::default()).await;
    let request = ScanRequest {
        bytes_max: u64::MAX,
        ..ScanRequest::default()
    };
    let reply = server.client.clone().scan(request).await.unwrap();
    let asked = reply.into_inner().cursor.unwrap();
    assert_eq!(asked, caps::SCAN_BYTES_MAX.to_string());
}
