//! From one stream to the next.

use std::{collections::BTreeMap, convert::Infallible};

use control_stream::{
    Answer, DialConfig, DialError, Dialer, NodeHears, NodeSays, Purpose, Session,
};
use proto::{state_control::StateReport, types::StateNodeId};
use tokio::sync::{mpsc, oneshot};

use super::view::{Asked, StreamView};
use crate::{ReportReceiver, StateNode, caps::QUESTIONS_MAX};

/// Why a state node cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The control plane is out of reach for good.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// It has become another one.
    #[error(
        "the control plane is that of another cluster than before ({now}, before {before}): start \
         this node again, with that cluster's store"
    )]
    OtherCluster {
        /// What it is now.
        now: String,
        /// What it was.
        before: String,
    },
}

type Stream = Session<NodeSays, NodeHears>;

/// The state node's end of its control streams.
pub struct NodeAgent {
    id: StateNodeId,
    dialer: Dialer,
    asked: mpsc::Receiver<Asked>,
    /// Answers that are waited for on the present stream.
    pending: BTreeMap<u64, oneshot::Sender<Result<Answer, String>>>,
    questions: u64,
    /// The trouble that was reported last, for the next leader.
    trouble: Option<StateReport>,
}

impl NodeAgent {
    /// An agent that asks nobody yet, and the control plane as its node asks it. Within a tokio
    /// runtime.
    ///
    /// # Errors
    /// When an address or a certificate is malformed.
    pub fn new(config: DialConfig, id: StateNodeId) -> Result<(NodeAgent, StreamView), DialError> {
        let (sender, asked) = mpsc::channel(QUESTIONS_MAX);
        let agent = NodeAgent {
            id,
            dialer: Dialer::new(config)?,
            asked,
            pending: BTreeMap::new(),
            questions: 0,
            trouble: None,
        };
        let view = StreamView {
            node: id,
            asked: sender,
        };
        Ok((agent, view))
    }

    /// The cluster's name among all others, which its store must carry.
    ///
    /// # Errors
    /// When the control plane does not want this node.
    pub async fn greet(&mut self) -> Result<String, AgentError> {
        Ok(self.dial().await?.welcome.cluster_id)
    }

    async fn dial(&mut self) -> Result<Stream, AgentError> {
        Ok(self.dialer.dial(Purpose::StateNode(self.id.0)).await?)
    }

    /// Works for whoever leads, until it cannot. `cluster` is what [`NodeAgent::greet`] said, `store`
    /// tells the node's store from every other.
    ///
    /// # Errors
    /// Always: it has no other end.
    pub async fn run(
        mut self,
        cluster: &str,
        store: String,
        node: StateNode,
        mut reports: ReportReceiver,
    ) -> Result<Infallible, AgentError> {
        self.dialer.set_store(store);
        loop {
            let mut stream = self.dial().await?;
            let now = &stream.welcome.cluster_id;
            if now != cluster {
                return Err(AgentError::OtherCluster {
                    now: now.clone(),
                    before: cluster.to_owned(),
                });
            }
            tracing::info!("a leader of the control plane has taken this state node");
            self.serve(&mut stream, &node, &mut reports).await;
            node.undirected();
            // What was asked on the stream is not answered any more.
            self.pending.clear();
        }
    }

    async fn serve(&mut self, stream: &mut Stream, node: &StateNode, reports: &mut ReportReceiver) {
        if let Some(trouble) = self.trouble.clone() {
            stream.say(NodeSays::Report(trouble));
        }
        loop {
            let goes_on = tokio::select! {
                heard = stream.hear() => match heard {
                    Some(NodeHears::Order(order)) => {
                        node.order(order);
                        true
                    }
                    Some(NodeHears::Answer { number, answer }) => {
                        if let Some(reply) = self.pending.remove(&number) {
                            // Nobody waits any more.
                            let _ = reply.send(answer);
                        }
                        true
                    }
                    None => false,
                },
                report = reports.recv() => {
                    if let StateReport::Degraded { why } = &report {
                        self.trouble = why.is_some().then(|| report.clone());
                    }
                    stream.say(NodeSays::Report(report))
                }
                Some(asked) = self.asked.recv() => self.ask(stream, asked),
            };
            if !goes_on {
                return;
            }
        }
    }

    fn ask(&mut self, stream: &Stream, asked: Asked) -> bool {
        self.pending.retain(|_, reply| !reply.is_closed());
        if asked.reply.is_closed() {
            return true;
        }
        self.questions += 1;
        let number = self.questions;
        self.pending.insert(number, asked.reply);
        let question = asked.question;
        stream.say(NodeSays::Ask { number, question })
    }
}
