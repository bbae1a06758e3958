//! A state node's stream.

use std::sync::Arc;

use control_stream::{Answer, NodeHears, NodeSays, Question};
use proto::types::StateNodeId;
use tokio::task::JoinSet;

use super::greet::Stream;
use crate::{caps::STATE_QUESTIONS_MAX, state_tier::StateTier};

/// Serves a stream that was greeted until it ends.
pub(super) async fn serve(mut stream: Stream) {
    if stream.hello.store.is_none() {
        // It knows now whose its store must be, and comes again with one.
        return;
    }
    let tier = stream.leading.tier.clone();
    let id = StateNodeId(stream.hello.id);
    let tell = stream.teller();
    let link = move |order| tell(NodeHears::Order(order));
    let address = stream.hello.address.clone();
    let session = tier.join(id, address, Arc::new(link)).await;
    let tell = stream.teller();
    let mut questions = JoinSet::new();
    while let Some(said) = stream.next::<NodeSays>().await {
        match said {
            NodeSays::Report(report) => tier.report(session, report).await,
            NodeSays::Ask { number, question } => {
                while questions.try_join_next().is_some() {}
                if questions.len() >= STATE_QUESTIONS_MAX {
                    let answer = Err("too many questions are being answered".to_owned());
                    tell(NodeHears::Answer { number, answer });
                    continue;
                }
                let (tier, tell) = (tier.clone(), stream.teller());
                questions.spawn(async move {
                    let answer = answer(&tier, question).await;
                    tell(NodeHears::Answer { number, answer });
                });
            }
        }
    }
    drop(stream);
    tier.leave(session).await;
}

async fn answer(tier: &StateTier, question: Question) -> Result<Answer, String> {
    let answer = match question {
        Question::Owner(job, shard) => tier.owner(job, shard).await.map(Answer::Owner),
        Question::JobReferences(job) => tier.references(job).await.map(Answer::JobReferences),
    };
    answer.map_err(|error| error.to_string())
}
