//! Rows of SELECTs that workers bring.

use std::sync::Arc;

use proto::types::{Epoch, JobId, RowKind};
use rpc::{
    control::{DeliverHead, DeliverPart, DeliverReply, DeliverRows, deliver_part::Part},
    tonic::{Status, Streaming},
};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout, timeout_at},
};

use crate::{
    Jobs,
    caps::{DELIVERIES_MAX, DELIVERY_READ, DELIVERY_ROOM},
    results::{Feed, ResultRow},
};

/// Bounds the epochs that are being taken in.
pub(super) struct Deliveries {
    room: Arc<Semaphore>,
}

impl Default for Deliveries {
    fn default() -> Self {
        Deliveries {
            room: Arc::new(Semaphore::new(DELIVERIES_MAX)),
        }
    }
}

impl Deliveries {
    /// Takes the rows that one slot of a SELECT gives for one epoch. Refused as unavailable when the
    /// reader has no room for long: whoever brings them comes again, and they count once.
    pub(super) async fn take(
        &self,
        jobs: &Jobs,
        mut parts: Streaming<DeliverPart>,
    ) -> Result<DeliverReply, Status> {
        let until = Instant::now() + DELIVERY_ROOM;
        let head = match next(&mut parts).await? {
            Some(Part::Head(head)) => head,
            _ => return Err(Status::invalid_argument("a delivery begins with its head")),
        };
        let feed = feed(jobs, &head)?;
        let epoch = Epoch(head.epoch);
        let busy = || Status::unavailable("the reader of the rows has no room for more");
        // Before the rows, which would only wait here instead of there.
        let rows = usize::try_from(head.rows).unwrap_or(usize::MAX);
        let room = timeout_at(until, feed.room(epoch, head.slot, rows)).await;
        room.map_err(|_| busy())?;
        let _permit = timeout_at(until, self.room.acquire()).await;
        let _permit = _permit.map_err(|_| busy())?;
        let mut lines = Vec::new();
        while let Some(part) = next(&mut parts).await? {
            match part {
                Part::Rows(rows) => read(rows, &mut lines)?,
                Part::Head(_) => return Err(Status::invalid_argument("two heads")),
            }
            if lines.len() > rows {
                break;
            }
        }
        if lines.len() != rows {
            return Err(Status::invalid_argument(
                "not as many rows as were announced",
            ));
        }
        let published = timeout(DELIVERY_ROOM, feed.publish(epoch, head.slot, lines)).await;
        published.map_err(|_| busy())?;
        Ok(DeliverReply {})
    }
}

async fn next(parts: &mut Streaming<DeliverPart>) -> Result<Option<Part>, Status> {
    let next = timeout(DELIVERY_READ, parts.message()).await;
    let next = next.map_err(|_| Status::deadline_exceeded("the rows do not come"))??;
    Ok(next.and_then(|next| next.part))
}

fn feed(jobs: &Jobs, head: &DeliverHead) -> Result<Arc<Feed>, Status> {
    let entry = jobs.get(JobId(head.job)).ok();
    let feed = entry.and_then(|entry| entry.feed.clone());
    feed.ok_or_else(|| Status::not_found("nobody reads the rows"))
}

fn read(rows: DeliverRows, lines: &mut Vec<ResultRow>) -> Result<(), Status> {
    if rows.kinds.len() != rows.lines.len() {
        return Err(Status::invalid_argument("not as many kinds as rows"));
    }
    for (kind, line) in rows.kinds.iter().zip(rows.lines) {
        let kind = RowKind::from_byte(*kind);
        let kind =
            kind.ok_or_else(|| Status::invalid_argument("a kind of row that is not known"))?;
        let line = line.into();
        lines.push(ResultRow { kind, line });
    }
    Ok(())
}
