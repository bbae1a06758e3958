//! What the barrier of the restored epoch had overtaken on its way to a task: read, and put into the
//! channels that it came by, before anything else comes by them.

use std::task::{Context, Poll};

use futures::{FutureExt as _, future::BoxFuture};
use proto::types::{Epoch, KeyGroupCount, TaskId};
use state_client::{Incarnation, LoadedRow, ScanReply, ScanRequest, StateError, StateStore};

use super::{node::NodeError, overtaken, parts::TaskError};
use crate::{flow::Gate, operator::OperatorError};

/// Bytes of one part of the scan.
const SCAN_BYTES_MAX: usize = 1 << 20;

/// The scan of what was overtaken.
pub(super) struct Replay {
    who: Incarnation,
    task: TaskId,
    request: ScanRequest,
    scan: Option<BoxFuture<'static, Result<ScanReply, StateError>>>,
    rows: Vec<LoadedRow>,
    done: bool,
}

impl Replay {
    pub(super) fn new(
        who: Incarnation,
        task: TaskId,
        key_groups: KeyGroupCount,
        restored: Epoch,
    ) -> Replay {
        Replay {
            who,
            task,
            request: ScanRequest {
                min_epoch: restored,
                table: overtaken::TABLE,
                key_group: overtaken::key_group(task, key_groups),
                namespace: Some(overtaken::namespace(restored)),
                cursor: None,
                bytes_max: SCAN_BYTES_MAX,
            },
            scan: None,
            rows: Vec::new(),
            done: false,
        }
    }

    /// Goes on; ready once channels bring it.
    pub(super) fn poll(
        &mut self,
        gate: &mut Gate,
        store: &dyn StateStore,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), TaskError>> {
        while !self.done {
            let (who, request) = (self.who, &self.request);
            let scan = self
                .scan
                .get_or_insert_with(|| store.scan(who, request.clone()));
            let reply = std::task::ready!(scan.poll_unpin(cx))?;
            self.scan = None;
            self.rows.extend(reply.rows);
            self.request.cursor = reply.cursor;
            if self.request.cursor.is_none() {
                self.done = true;
                self.give(gate)?;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn give(&mut self, gate: &mut Gate) -> Result<(), NodeError> {
        let error = |cause| NodeError {
            node: "exchange".to_owned(),
            source: OperatorError::Decode {
                table: "overtaken rows".to_owned(),
                cause,
            },
        };
        let saved = overtaken::decode(self.task, std::mem::take(&mut self.rows)).map_err(error)?;
        for channel in saved {
            let place = (channel.input, channel.channel);
            if !gate.replay(channel) {
                let (input, channel) = place;
                let cause = format!("the task has no channel {channel} at its input {input}");
                return Err(error(cause));
            }
        }
        Ok(())
    }
}
