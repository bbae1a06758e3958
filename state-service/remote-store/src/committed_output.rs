//! Committed output, from the owner of the job's first shard.

use std::{collections::BTreeMap, sync::Arc};

use proto::types::ShardId;
use rpc::tonic::{Request, Status};
use state_client::{CommittedOutput, Incarnation, OutputRequest, StateError};
use state_wire::{Failure, OutputCollector, encode_output_request};
use tokio::time::timeout;

use crate::{
    RemoteConfig,
    link::NodeLink,
    read::{answer, nonsense},
    scatter::scatter,
    store::Shared,
};

impl Shared {
    pub(crate) async fn committed_output(
        &self,
        who: Incarnation,
        request: OutputRequest,
    ) -> Result<Vec<CommittedOutput>, StateError> {
        let operation = self.operation(who.job, "read committed output");
        let work = BTreeMap::from([(ShardId(0), ())]);
        let call = |link, _| output_at(link, &self.config, who, &request);
        let mut outputs = scatter(operation, work, |_| (), call).await?;
        Ok(outputs.pop().unwrap_or_default())
    }
}

async fn output_at(
    link: Arc<NodeLink>,
    config: &RemoteConfig,
    who: Incarnation,
    request: &OutputRequest,
) -> Result<Vec<CommittedOutput>, Failure> {
    let _permit = link.read_permit().await;
    let mut request = Request::new(encode_output_request(who, request));
    let deadline = config.limits.stage_deadline;
    request.set_timeout(deadline);
    let mut client = link.client(config)?;
    let output = async {
        let mut parts = client.committed_output(request).await?.into_inner();
        let mut collector = OutputCollector::default();
        while let Some(part) = parts.message().await? {
            collector.push(part);
        }
        Ok::<_, Status>(collector)
    };
    let collector = answer(timeout(deadline, output).await)?;
    collector.finish().map_err(|fault| nonsense(&fault))
}
