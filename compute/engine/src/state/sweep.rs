//! Removes what has expired and nobody reads: keys in memory as they fall due, others by walking
//! through what is stored, a piece at a time.
//!
//! What the walk finds is read into memory like any key that rows ask for, and judged there: so it
//! is removed by an ordinary delete of the open epoch, whatever has happened to it since the scan.

use std::collections::VecDeque;

use bytes::Bytes;
use proto::types::{KeyGroup, TableId};
use state_client::{KeyRequest, LoadedRow, ScanReply, ScanRequest};

use super::expiry::{TimeDomain, Ttl};
use crate::{
    TIMESTAMP_MIN, Timestamp,
    clock::Clock,
    operator::{OperatorContext, OperatorError},
};

/// Keys that one step looks at.
const KEYS_MAX: usize = 1_024;
/// Bytes of one piece of the walk.
const SCAN_BYTES_MAX: usize = 128 << 10;
/// Time between two steps while there is more to do.
const STEP_NS: u64 = 1_000_000;
/// Time between two pieces of the walk.
const PIECE_NS: u64 = 100_000_000;
/// Least and longest time between two looks at what is due in memory.
const LOOK_MS: (i64, i64) = (20, 10_000);
/// Least and longest time between the beginnings of two walks.
const WALK_MS: (i64, i64) = (1_000, 3_600_000);

/// State that expires by age.
pub trait Expiring {
    /// The shortest lifetime.
    fn ttl(&self) -> Ttl;

    /// What time it is from now on. What is judged and touched is by this.
    fn set_now(&mut self, now: Timestamp);

    /// Removes keys that are due, looking at about `keys_max`. `true`: there may be more. Puts what
    /// must be read before a key can go into `wanted`.
    ///
    /// # Errors
    /// When a key cannot be removed.
    fn expire(
        &mut self,
        keys_max: usize,
        wanted: &mut Vec<KeyRequest>,
    ) -> Result<bool, OperatorError>;

    /// Tables whose rows may be stored and not in memory; none if all are in memory.
    fn partial_tables(&self) -> Vec<TableId>;

    /// The reads that bring those of stored rows into memory that have expired and are not there.
    fn overdue(&self, table: TableId, rows: &[LoadedRow]) -> Vec<KeyRequest>;
}

/// How far the sweeping of one operator is.
#[derive(Debug, Default)]
pub struct Sweep {
    /// When it goes on, by the monotonic clock; `None`: nothing expires, or not known yet.
    due_ns: Option<u64>,
    watermark: Option<Timestamp>,
    walk: VecDeque<(TableId, KeyGroup)>,
    cursor: Option<Bytes>,
    next_walk_ns: u64,
    next_piece_ns: u64,
    scan: Option<(u64, TableId)>,
}

impl Sweep {
    /// A sweep that begins at once.
    #[must_use]
    pub fn begin() -> Sweep {
        Sweep {
            due_ns: Some(0),
            ..Sweep::default()
        }
    }

    /// When it goes on.
    #[must_use]
    pub fn deadline_ns(&self) -> Option<u64> {
        self.due_ns
    }

    /// Time has come to this watermark.
    pub fn watermark(&mut self, watermark: Timestamp) {
        self.watermark = Some(watermark);
    }

    /// What time it is for state with this lifetime.
    #[must_use]
    pub fn now(&self, ttl: Ttl, clock: &dyn Clock) -> Timestamp {
        match ttl.domain {
            TimeDomain::Processing => clock.wall_ms(),
            TimeDomain::Event => self.watermark.unwrap_or(TIMESTAMP_MIN),
        }
    }

    /// Does a bounded piece of work; what must be read for it. `ticket` is for a scan.
    ///
    /// # Errors
    /// What makes the job fail.
    pub fn step(
        &mut self,
        state: &mut dyn Expiring,
        ticket: &mut u64,
        context: &mut OperatorContext<'_>,
    ) -> Result<Vec<KeyRequest>, OperatorError> {
        let ttl = state.ttl();
        let now_ns = context.clock.monotonic_ns();
        state.set_now(self.now(ttl, context.clock));
        let mut wanted = Vec::new();
        let more = state.expire(KEYS_MAX, &mut wanted)?;
        self.begin_walk(state, ttl, now_ns, context);
        self.scan_piece(ticket, now_ns, context);
        let ns = |ms: i64| ms.unsigned_abs().saturating_mul(1_000_000);
        let look_ns = ns((ttl.ms / 32).clamp(LOOK_MS.0, LOOK_MS.1));
        let walks = !self.walk.is_empty() && self.scan.is_none();
        let wait_ns = match (more, walks) {
            (true, _) => STEP_NS,
            (false, true) => look_ns.min(PIECE_NS),
            (false, false) => look_ns,
        };
        self.due_ns = Some(now_ns.saturating_add(wait_ns));
        Ok(wanted)
    }

    fn begin_walk(
        &mut self,
        state: &dyn Expiring,
        ttl: Ttl,
        now_ns: u64,
        context: &OperatorContext<'_>,
    ) {
        if !self.walk.is_empty() || self.scan.is_some() || now_ns < self.next_walk_ns {
            return;
        }
        let pause_ms = (ttl.ms / 2).clamp(WALK_MS.0, WALK_MS.1).unsigned_abs();
        self.next_walk_ns = now_ns.saturating_add(pause_ms * 1_000_000);
        for table in state.partial_tables() {
            let groups = context.scope.owned.iter();
            self.walk.extend(groups.map(|group| (table, group)));
        }
        self.cursor = None;
    }

    fn scan_piece(&mut self, ticket: &mut u64, now_ns: u64, context: &mut OperatorContext<'_>) {
        let Some((table, key_group)) = self.walk.front().copied() else {
            return;
        };
        if self.scan.is_some() || now_ns < self.next_piece_ns {
            return;
        }
        if !context.scope.owned.contains(key_group) {
            // It has left since the walk began.
            self.walk.pop_front();
            self.cursor = None;
            return;
        }
        let request = ScanRequest {
            min_epoch: context.scope.min_epoch_of(key_group),
            table,
            key_group,
            namespace: None,
            cursor: self.cursor.take(),
            bytes_max: SCAN_BYTES_MAX,
        };
        self.scan = Some((*ticket, table));
        context.out.scan(*ticket, request);
        *ticket += 1;
    }

    /// The answer to a scan; what must be read because of it.
    pub fn scanned(
        &mut self,
        ticket: u64,
        reply: &ScanReply,
        state: &mut dyn Expiring,
        clock: &dyn Clock,
    ) -> Vec<KeyRequest> {
        let Some((_, table)) = self.scan.take_if(|(asked, _)| *asked == ticket) else {
            return Vec::new();
        };
        let now_ns = clock.monotonic_ns();
        // A key group without rows costs no pause: most of a small state's are empty.
        let pause_ns = if reply.rows.is_empty() { 0 } else { PIECE_NS };
        self.next_piece_ns = now_ns.saturating_add(pause_ns);
        self.due_ns = self.due_ns.map(|due| due.min(self.next_piece_ns));
        match &reply.cursor {
            Some(cursor) => self.cursor = Some(cursor.clone()),
            None => {
                self.walk.pop_front();
            }
        }
        state.set_now(self.now(state.ttl(), clock));
        state.overdue(table, &reply.rows)
    }

    /// Forgets what was under way: the operator goes back to an older state.
    pub fn roll_back(&mut self) {
        *self = Sweep {
            due_ns: self.due_ns.map(|_| 0),
            ..Sweep::default()
        };
    }
}
