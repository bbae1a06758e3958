//! Rows of a SELECT on their way to the leader, where its reader is.

use std::time::Duration;

use futures::stream;
use prost::Message;
use proto::types::{Epoch, Generation, JobId, RowKind};
use rpc::{
    Channel, RetryPolicy,
    control::{DeliverHead, DeliverPart, DeliverRows, deliver_part::Part},
    control_client,
    tonic::{Code, Request, Status},
};
use tokio::{sync::watch, time::timeout};

use crate::caps::{
    DELIVERY_ANSWER, DELIVERY_PART_BYTES, DELIVERY_PAUSE, DELIVERY_PAUSE_MAX, DELIVERY_PER_MIB,
};

/// The way to whoever leads the control plane, as far as this worker knows.
#[derive(Clone, Debug)]
pub struct Leader(pub(super) watch::Receiver<Option<Channel>>);

/// One row as its reader is given it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeliveryRow {
    /// What the row does.
    pub kind: RowKind,
    /// Its values as text.
    pub line: String,
}

/// What one slot of a SELECT gives for one epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// Job.
    pub job: JobId,
    /// Generation that made the rows.
    pub generation: Generation,
    /// Epoch.
    pub epoch: Epoch,
    /// Slot of the sink.
    pub slot: u32,
}

impl Leader {
    /// Brings rows to whoever leads; waits for a leader, and for room at the reader.
    ///
    /// # Errors
    /// When nobody reads the rows any more, for people.
    pub async fn deliver(&self, delivery: Delivery, rows: Vec<DeliveryRow>) -> Result<(), String> {
        let parts = parts(delivery, rows);
        // The reader may take hours to read, and an election is soon over: there is no last attempt
        // but the end of the job.
        let policy = RetryPolicy {
            attempts: u32::MAX,
            pause_min: DELIVERY_PAUSE,
            pause_max: DELIVERY_PAUSE_MAX,
        };
        // What the leader refuses for what it is will not pass the next time either.
        let retryable = |status: &Status| {
            !matches!(
                status.code(),
                Code::NotFound | Code::InvalidArgument | Code::OutOfRange
            )
        };
        let seed = delivery.epoch.0 ^ delivery.job.0.rotate_left(32);
        let bytes: usize = parts.iter().map(Message::encoded_len).sum();
        let deadline = DELIVERY_ANSWER + DELIVERY_PER_MIB * (bytes >> 20) as u32;
        let attempt = || self.attempt(parts.clone(), deadline);
        let delivered = policy.run(seed, retryable, attempt).await;
        delivered.map_err(|status| status.message().to_owned())
    }

    async fn attempt(&self, parts: Vec<DeliverPart>, deadline: Duration) -> Result<(), Status> {
        let mut leader = self.0.clone();
        let gone = || Status::not_found("this worker is going down");
        let channel = leader.wait_for(Option::is_some).await;
        let channel = channel.map_err(|_| gone())?.clone().ok_or_else(gone)?;
        let mut request = Request::new(stream::iter(parts));
        request.set_timeout(deadline);
        let mut client = control_client(channel);
        let answer = timeout(deadline, client.deliver(request)).await;
        let late = || Status::deadline_exceeded("the leader does not take rows");
        answer.map_err(|_| late())?.map(|_| ())
    }
}

fn parts(delivery: Delivery, rows: Vec<DeliveryRow>) -> Vec<DeliverPart> {
    let head = DeliverHead {
        job: delivery.job.0,
        generation: delivery.generation.0,
        epoch: delivery.epoch.0,
        slot: delivery.slot,
        rows: rows.len() as u64,
    };
    let mut parts = vec![Part::Head(head)];
    let mut bytes = 0;
    let (mut kinds, mut lines) = (Vec::new(), Vec::new());
    let mut flush = |kinds: &mut Vec<u8>, lines: &mut Vec<String>| {
        if !lines.is_empty() {
            parts.push(Part::Rows(DeliverRows {
                kinds: std::mem::take(kinds).into(),
                lines: std::mem::take(lines),
            }));
        }
    };
    for row in rows {
        bytes += row.line.len() + 8;
        kinds.push(row.kind as u8);
        lines.push(row.line);
        if bytes >= DELIVERY_PART_BYTES {
            flush(&mut kinds, &mut lines);
            bytes = 0;
        }
    }
    flush(&mut kinds, &mut lines);
    let part = |part| DeliverPart { part: Some(part) };
    parts.into_iter().map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_cut_into_parts_in_order() {
        let delivery = Delivery {
            job: JobId(1),
            generation: Generation(2),
            epoch: Epoch(3),
            slot: 4,
        };
        let row = |number: usize| DeliveryRow {
            kind: RowKind::Insert,
            line: format!("{number}-{}", "x".repeat(DELIVERY_PART_BYTES / 3)),
        };
        let parts = parts(delivery, (0..7).map(row).collect());
        let sizes = parts.iter().map(|part| match &part.part {
            Some(Part::Head(head)) => head.rows,
            Some(Part::Rows(rows)) => rows.lines.len() as u64,
            None => 0,
        });
        assert_eq!(sizes.collect::<Vec<_>>(), [7, 3, 3, 1]);
        assert_eq!(super::parts(delivery, Vec::new()).len(), 1);
    }
}
