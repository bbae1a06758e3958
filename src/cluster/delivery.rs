//! Rows of SELECTs, as text, on their way from a worker to the leader.

use compute::agent::{Delivery, DeliveryRow, Leader};
use connectors::CollectTarget;
use engine::ChangeBatch;
use futures::{FutureExt as _, future::BoxFuture};
use proto::types::{Epoch, Generation, JobId};

/// Brings a job's rows to whoever leads.
pub struct ToLeader {
    /// The way to the leader.
    pub leader: Leader,
    /// The job.
    pub job: JobId,
}

impl CollectTarget for ToLeader {
    fn deliver(
        &self,
        generation: Generation,
        epoch: Epoch,
        slot: u32,
        batches: Vec<ChangeBatch>,
    ) -> BoxFuture<'_, Result<(), String>> {
        let delivery = Delivery {
            job: self.job,
            generation,
            epoch,
            slot,
        };
        async move {
            let rows = batches.iter().flat_map(crate::lines);
            let rows = rows.map(|row| DeliveryRow {
                kind: row.kind,
                line: row.line.as_ref().to_owned(),
            });
            self.leader.deliver(delivery, rows.collect()).await
        }
        .boxed()
    }
}
