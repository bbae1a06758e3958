//! Reads state whole: the scans that operators need before they can work on what they own. Some at
//! a time, table by table, since a later table's rows may belong to an earlier one's.

use std::{
    collections::VecDeque,
    task::{Context, Poll},
};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use proto::types::TableId;
use state_client::{Incarnation, ScanReply, ScanRequest, StateError, StateStore};

use super::{graph::Graph, parts::TaskError};
use crate::state::ScanJob;

/// Scans under way at the same time.
const SCANS_MAX: usize = 32;
/// Bytes of one part of a scan.
const SCAN_BYTES_MAX: usize = 1 << 20;

type ScanDone = (usize, ScanJob, Result<ScanReply, StateError>);

/// Scans that are to be made.
pub(super) struct Hydration {
    who: Incarnation,
    jobs: VecDeque<(usize, ScanJob)>,
    /// Node and table that are being read.
    table: Option<(usize, TableId)>,
    scans: FuturesUnordered<BoxFuture<'static, ScanDone>>,
}

impl Hydration {
    /// Scans for nodes, in order.
    pub(super) fn new(who: Incarnation, jobs: VecDeque<(usize, ScanJob)>) -> Hydration {
        Hydration {
            who,
            jobs,
            table: None,
            scans: FuturesUnordered::new(),
        }
    }

    /// Goes on; ready once every operator has all that it asked for.
    pub(super) fn poll(
        &mut self,
        graph: &mut Graph,
        store: &dyn StateStore,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), TaskError>> {
        loop {
            self.begin(graph, store);
            let Some((node, job, reply)) = std::task::ready!(self.scans.poll_next_unpin(cx)) else {
                return Poll::Ready(Ok(()));
            };
            let reply = reply?;
            graph.hydrated(node, &job, &reply)?;
            if reply.cursor.is_some() {
                self.scan(graph, store, node, job, reply.cursor);
            }
        }
    }

    fn begin(&mut self, graph: &Graph, store: &dyn StateStore) {
        while self.scans.len() < SCANS_MAX
            && let Some((node, job)) = self.jobs.front()
        {
            let place = (*node, job.table);
            if !self.scans.is_empty() && self.table != Some(place) {
                return;
            }
            self.table = Some(place);
            if let Some((node, job)) = self.jobs.pop_front() {
                self.scan(graph, store, node, job, None);
            }
        }
    }

    fn scan(
        &self,
        graph: &Graph,
        store: &dyn StateStore,
        node: usize,
        job: ScanJob,
        cursor: Option<bytes::Bytes>,
    ) {
        let request = ScanRequest {
            min_epoch: graph.scope(node).min_epoch_of(job.key_group).max(job.as_of),
            table: job.table,
            key_group: job.key_group,
            namespace: None,
            cursor,
            bytes_max: SCAN_BYTES_MAX,
        };
        let scan = store.scan(self.who, request);
        self.scans
            .push(scan.map(move |reply| (node, job, reply)).boxed());
    }
}
