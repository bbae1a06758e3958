//! The control plane as a state node asks it over its stream.

use control_stream::{Answer, Question};
use futures::{FutureExt as _, future::BoxFuture};
use proto::{
    state_control::JobReferences,
    types::{JobId, ShardId, StateNodeId},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::{ControlView, caps::QUESTION_WAIT};

/// A question, and where its answer goes.
pub(super) struct Asked {
    pub(super) question: Question,
    pub(super) reply: oneshot::Sender<Result<Answer, String>>,
}

/// The control plane as a state node asks it; waits for a stream when there is none.
pub struct StreamView {
    pub(super) node: StateNodeId,
    pub(super) asked: mpsc::Sender<Asked>,
}

impl StreamView {
    fn ask(&self, question: Question) -> BoxFuture<'static, Result<Answer, String>> {
        let (reply, answer) = oneshot::channel();
        let asked = self.asked.clone();
        let ask = async move {
            let gone = || "the stream to the control plane has ended".to_owned();
            let question = Asked { question, reply };
            asked.send(question).await.map_err(|_| gone())?;
            answer.await.map_err(|_| gone())?
        };
        async move {
            let answered = timeout(QUESTION_WAIT, ask).await;
            answered.unwrap_or_else(|_| Err("the control plane does not answer".to_owned()))
        }
        .boxed()
    }
}

impl ControlView for StreamView {
    fn owns(&self, job: JobId, shard: ShardId) -> BoxFuture<'static, Result<bool, String>> {
        let (node, answer) = (self.node, self.ask(Question::Owner(job, shard)));
        async move {
            match answer.await? {
                Answer::Owner(owner) => Ok(owner == Some(node)),
                Answer::JobReferences(_) => Err(unfit()),
            }
        }
        .boxed()
    }

    fn references(&self, job: JobId) -> BoxFuture<'static, Result<JobReferences, String>> {
        let answer = self.ask(Question::JobReferences(job));
        async move {
            match answer.await? {
                Answer::JobReferences(references) => Ok(references),
                Answer::Owner(_) => Err(unfit()),
            }
        }
        .boxed()
    }
}

fn unfit() -> String {
    "the control plane has answered another question".to_owned()
}
