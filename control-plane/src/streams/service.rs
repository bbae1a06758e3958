//! The service `Control` of a control-plane node.

use std::sync::Arc;

use control_stream::StreamTiming;
use futures::{StreamExt as _, stream::BoxStream};
use rpc::{
    control::{
        DeliverPart, DeliverReply, Message,
        control_server::{Control, ControlServer},
    },
    control_server,
    tonic::{Request, Response, Status, Streaming, async_trait},
};
use tokio::sync::watch;

use super::{
    deliver::Deliveries,
    greet::{self, Greeted, Stream},
    places::Places,
    state_node, worker,
};
use crate::leader::{Leading, Role};

/// What the service of a control-plane node is given.
#[derive(Clone)]
pub struct ControlConfig {
    /// What this node is.
    pub roles: watch::Receiver<Role>,
    /// Name of the cluster.
    pub cluster: String,
    /// How long the sides of a stream wait for each other.
    pub timing: StreamTiming,
    /// The wall clock, in ms since 1970.
    pub wall_ms: Arc<dyn Fn() -> u64 + Send + Sync>,
}

/// The service `Control`.
pub struct ControlService {
    pub(super) config: ControlConfig,
    pub(super) workers: Places<String>,
    pub(super) state_nodes: Places<u64>,
    deliveries: Deliveries,
}

impl ControlService {
    /// The service of a node.
    #[must_use]
    pub fn new(config: ControlConfig) -> ControlService {
        ControlService {
            config,
            workers: Places::default(),
            state_nodes: Places::default(),
            deliveries: Deliveries::default(),
        }
    }

    /// What is to be added to the routes of a server.
    #[must_use]
    pub fn into_server(self) -> ControlServer<ControlService> {
        control_server(self)
    }

    /// What this node leads with, if it leads.
    pub(super) fn leading(&self) -> Result<Arc<Leading>, Option<String>> {
        match &*self.config.roles.borrow() {
            Role::Leader(leading) => Ok(Arc::clone(leading)),
            Role::Follower(leader) => Err(leader.clone()),
        }
    }
}

type Replies = BoxStream<'static, Result<Message, Status>>;

/// What is answered to who was greeted; if it is welcome, it is served from now on.
fn begin<F>(greeted: Greeted, serve: impl FnOnce(Stream) -> F) -> Replies
where
    F: Future<Output = ()> + Send + 'static,
{
    match greeted {
        Greeted::Taken(stream, replies) => {
            tokio::spawn(serve(stream));
            replies.map(Ok).boxed()
        }
        Greeted::Not(reply) => futures::stream::iter([Ok(reply)]).boxed(),
    }
}

#[async_trait]
impl Control for ControlService {
    type WorkerStream = Replies;
    type StateNodeStream = Replies;

    async fn worker(
        &self,
        request: Request<Streaming<Message>>,
    ) -> Result<Response<Replies>, Status> {
        let greeted = greet::greet(self, request.into_inner(), |hello| {
            self.workers.take(hello.address.clone(), hello.process)
        });
        Ok(Response::new(begin(greeted.await?, worker::serve)))
    }

    async fn state_node(
        &self,
        request: Request<Streaming<Message>>,
    ) -> Result<Response<Replies>, Status> {
        let greeted = greet::greet(self, request.into_inner(), |hello| {
            self.state_nodes.take(hello.id, hello.process)
        });
        Ok(Response::new(begin(greeted.await?, state_node::serve)))
    }

    async fn deliver(
        &self,
        request: Request<Streaming<DeliverPart>>,
    ) -> Result<Response<DeliverReply>, Status> {
        let leading = self.leading().map_err(|_| {
            Status::unavailable("this node of the control plane does not lead any more")
        })?;
        self.deliveries
            .take(&leading.jobs, request.into_inner())
            .await
            .map(Response::new)
    }
}
