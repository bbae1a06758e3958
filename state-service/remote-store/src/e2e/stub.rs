//! A node that only notes what it is asked, and answers what it is told to.

use std::{
    future::pending,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::Stream;
use rpc::{
    Tls, serve,
    state::{
        CommittedOutputPart, CommittedOutputRequest, CountReply, ReadKeptRequest, ReadPart,
        ReadRequest, Rows, ScanKeptRequest, ScanReply, ScanRequest, StageHead, StagePart,
        StageReply, stage_part::Part, state_server::State,
    },
    state_server,
    tonic::{Request, Response, Status, Streaming, async_trait, service::Routes as Served},
};
use tokio::{net::TcpListener, task::JoinHandle};

type Parts<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What a stub has seen.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) heads: Mutex<Vec<StageHead>>,
    pub(super) reads: AtomicUsize,
    pub(super) keys_most: AtomicUsize,
    pub(super) at_once: AtomicUsize,
    pub(super) at_once_most: AtomicUsize,
}

/// A node that notes and answers.
#[derive(Clone)]
pub(super) struct Stub {
    pub(super) seen: Arc<Seen>,
    /// How long a read takes.
    delay: Duration,
    /// What it says to whatever it is asked.
    refusal: Option<Status>,
}

/// A stub that listens. Ends when it is dropped.
pub(super) struct Listening {
    pub(super) address: String,
    pub(super) seen: Arc<Seen>,
    server: JoinHandle<()>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Stub {
    pub(super) fn start(delay: Duration, refusal: Option<Status>) -> Listening {
        let stub = Stub {
            seen: Arc::default(),
            delay,
            refusal,
        };
        let seen = stub.seen.clone();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = tokio::spawn(async move {
            let served = Served::new(state_server(stub));
            serve(listener, served, &Tls::None, pending())
                .await
                .unwrap();
        });
        Listening {
            address,
            seen,
            server,
        }
    }

    fn judge(&self) -> Result<(), Status> {
        self.refusal.clone().map_or(Ok(()), Err)
    }
}

#[async_trait]
impl State for Stub {
    type ReadStream = Parts<ReadPart>;
    type CommittedOutputStream = Parts<CommittedOutputPart>;
    type ReadKeptStream = Parts<ReadPart>;

    async fn read(
        &self,
        request: Request<ReadRequest>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        let keys = request.into_inner().keys.len();
        self.seen.reads.fetch_add(1, Ordering::SeqCst);
        self.judge()?;
        self.seen.keys_most.fetch_max(keys, Ordering::SeqCst);
        let now = 1 + self.seen.at_once.fetch_add(1, Ordering::SeqCst);
        self.seen.at_once_most.fetch_max(now, Ordering::SeqCst);
        tokio::time::sleep(self.delay).await;
        self.seen.at_once.fetch_sub(1, Ordering::SeqCst);
        let part = ReadPart {
            keys: vec![Rows::default(); keys],
            more: false,
        };
        Ok(Response::new(Box::pin(futures::stream::iter([Ok(part)]))))
    }

    async fn scan(&self, _: Request<ScanRequest>) -> Result<Response<ScanReply>, Status> {
        self.judge()?;
        Ok(Response::new(Default::default()))
    }

    async fn count(&self, _: Request<ScanRequest>) -> Result<Response<CountReply>, Status> {
        self.judge()?;
        Ok(Response::new(Default::default()))
    }

    async fn stage(
        &self,
        request: Request<Streaming<StagePart>>,
    ) -> Result<Response<StageReply>, Status> {
        self.judge()?;
        let mut parts = request.into_inner();
        while let Some(part) = parts.message().await? {
            if let Some(Part::Head(head)) = part.part {
                self.seen.heads.lock().unwrap().push(head);
            }
        }
        Ok(Response::new(Default::default()))
    }

    async fn committed_output(
        &self,
        _: Request<CommittedOutputRequest>,
    ) -> Result<Response<Self::CommittedOutputStream>, Status> {
        self.judge()?;
        Ok(Response::new(Box::pin(futures::stream::iter([]))))
    }

    async fn read_kept(
        &self,
        request: Request<ReadKeptRequest>,
    ) -> Result<Response<Self::ReadKeptStream>, Status> {
        self.judge()?;
        let part = ReadPart {
            keys: vec![Rows::default(); request.into_inner().keys.len()],
            more: false,
        };
        Ok(Response::new(Box::pin(futures::stream::iter([Ok(part)]))))
    }

    async fn scan_kept(&self, _: Request<ScanKeptRequest>) -> Result<Response<ScanReply>, Status> {
        self.judge()?;
        Ok(Response::new(Default::default()))
    }
}
