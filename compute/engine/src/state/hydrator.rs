//! Reads back, in the background, the key groups that an operator has begun or gone on with without their
//! rows: rows find their keys in memory by and by, and what is not there is known not to exist. Meanwhile
//! rows that need a key have it read for them, as always.
//!
//! The tables of a key group are scanned side by side, so that all rows of a hash come together. What
//! must not be taken from a scan, the index knows ([`KeyIndex::may_hydrate`]): a hash that was used since
//! the scan began. Once memory has been short, only hashes are taken: they make a filter, so that keys
//! which do not exist are not looked for.

use std::collections::VecDeque;

use bytes::Bytes;
use proto::types::{Epoch, KeyGroup, TableId};
use state_client::{LoadedRow, ScanReply, ScanRequest};

use super::index::KeyIndex;
use crate::{clock::Clock, operator::OperatorContext};

/// Bytes of one piece of a scan.
const PIECE_BYTES_MAX: usize = 256 << 10;
/// Time between two pieces, if they are full: rows go first.
const PAUSE_NS: u64 = 2_000_000;
/// While rows wait for keys that are read for them, the time between two pieces is what the last one took, but
/// at most this: who answers has as much time for rows as for pieces, which will end the waiting.
const PAUSE_NS_MAX: u64 = 50_000_000;

/// How far an operator's hydration is.
#[derive(Debug, Default)]
pub(super) struct Hydrator {
    tables: Vec<TableId>,
    queue: VecDeque<KeyGroup>,
    current: Option<Current>,
    asked_ns: u64,
    /// When the next piece is due, and when if rows wait.
    due_ns: u64,
    due_behind_rows_ns: u64,
}

/// A key group that is being read.
#[derive(Debug)]
struct Current {
    group: KeyGroup,
    min_epoch: Epoch,
    streams: Vec<Stream>,
}

/// A table of it.
#[derive(Debug)]
struct Stream {
    table: TableId,
    rows: VecDeque<LoadedRow>,
    cursor: Option<Bytes>,
    asked: Option<u64>,
    is_done: bool,
}

/// All rows of a hash, by table.
pub(super) struct Hydrated {
    pub(super) hash: u64,
    pub(super) tables: Vec<(TableId, Vec<LoadedRow>)>,
}

impl Hydrator {
    /// Of these tables.
    pub(super) fn new(tables: Vec<TableId>) -> Hydrator {
        Hydrator {
            tables,
            ..Hydrator::default()
        }
    }

    /// When it goes on, if it does.
    pub(super) fn due_ns(&self, index: &KeyIndex, rows_wait: bool) -> Option<u64> {
        let due_ns = if rows_wait {
            self.due_behind_rows_ns
        } else {
            self.due_ns
        };
        match &self.current {
            Some(current) if current.streams.iter().any(|stream| stream.asked.is_some()) => None,
            Some(_) => Some(due_ns),
            None if self.tables.is_empty() => None,
            None => index.has_unread_groups().then_some(due_ns),
        }
    }

    /// Goes on: asks for the next pieces, if they are due. `ticket` is for them.
    pub(super) fn step(
        &mut self,
        index: &mut KeyIndex,
        ticket: &mut u64,
        context: &mut OperatorContext<'_>,
    ) {
        if self.tables.is_empty() {
            return;
        }
        self.asked_ns = context.clock.monotonic_ns();
        self.go_on_with(index.hydrates());
        if self.current.is_none() {
            self.current = self.begin(index, context);
        }
        let Some(current) = &mut self.current else {
            return;
        };
        for stream in &mut current.streams {
            if stream.is_done || stream.asked.is_some() || stream.has_whole_hash() {
                continue;
            }
            let request = ScanRequest {
                min_epoch: current.min_epoch,
                table: stream.table,
                key_group: current.group,
                namespace: Some(0),
                cursor: stream.cursor.take(),
                bytes_max: PIECE_BYTES_MAX,
            };
            context.out.scan(*ticket, request);
            stream.asked = Some(*ticket);
            *ticket += 1;
        }
    }

    fn begin(&mut self, index: &mut KeyIndex, context: &OperatorContext<'_>) -> Option<Current> {
        if self.queue.is_empty() {
            self.queue = index.unread_groups().collect();
        }
        let group = loop {
            let group = self.queue.pop_front()?;
            if index.is_unread(group) {
                break group;
            }
        };
        let min_epoch = context.scope.min_epoch_of(group);
        let min_epoch = min_epoch.max(index.begin_hydration(group));
        let stream = |table: &TableId| Stream {
            table: *table,
            rows: VecDeque::new(),
            cursor: None,
            asked: None,
            is_done: false,
        };
        Some(Current {
            group,
            min_epoch,
            streams: self.tables.iter().map(stream).collect(),
        })
    }

    /// The answer to a scan; `false`: it is not for here.
    pub(super) fn scanned(&mut self, ticket: u64, reply: &ScanReply, clock: &dyn Clock) -> bool {
        let Some(current) = &mut self.current else {
            return false;
        };
        let mut streams = current.streams.iter_mut();
        let Some(stream) = streams.find(|stream| stream.asked == Some(ticket)) else {
            return false;
        };
        stream.asked = None;
        stream.rows.extend(reply.rows.iter().cloned());
        stream.cursor.clone_from(&reply.cursor);
        stream.is_done = reply.cursor.is_none();
        let bytes = |row: &LoadedRow| (row.identity.len() + row.value.len()) as u64;
        let bytes: u64 = reply.rows.iter().map(bytes).sum();
        let pause_ns = PAUSE_NS * bytes / PIECE_BYTES_MAX as u64;
        let now_ns = clock.monotonic_ns();
        let took_ns = now_ns.saturating_sub(self.asked_ns);
        self.due_ns = now_ns.saturating_add(pause_ns);
        let behind_rows_ns = pause_ns.max(took_ns.min(PAUSE_NS_MAX));
        self.due_behind_rows_ns = now_ns.saturating_add(behind_rows_ns);
        true
    }

    /// What was begun is forgotten if it is not of this key group: that has left.
    pub(super) fn go_on_with(&mut self, group: Option<KeyGroup>) {
        self.current.take_if(|current| Some(current.group) != group);
    }

    /// The next hash of which all rows are there.
    pub(super) fn next(&mut self) -> Option<Hydrated> {
        let current = self.current.as_mut()?;
        if !current.streams.iter().all(Stream::is_ready) {
            return None;
        }
        let fronts = current.streams.iter();
        let hash = fronts.filter_map(|stream| Some(stream.rows.front()?.hash));
        let hash = hash.min()?;
        let tables = current.streams.iter_mut();
        let tables = tables.map(|stream| (stream.table, stream.take(hash)));
        Some(Hydrated {
            hash,
            tables: tables.collect(),
        })
    }

    /// The key group, if it has been read to its end: the next one may begin.
    pub(super) fn ended(&mut self) -> Option<KeyGroup> {
        let is_over = |stream: &Stream| stream.is_done && stream.rows.is_empty();
        let ended = self.current.take_if(|c| c.streams.iter().all(is_over));
        ended.map(|current| current.group)
    }

    /// Forgets what was under way.
    pub(super) fn roll_back(&mut self) {
        self.queue.clear();
        self.current = None;
    }
}

impl Stream {
    /// Whether all rows of its first hash are there.
    fn has_whole_hash(&self) -> bool {
        match (self.rows.front(), self.rows.back()) {
            (Some(first), Some(last)) => first.hash != last.hash,
            _ => false,
        }
    }

    fn is_ready(&self) -> bool {
        self.is_done || self.has_whole_hash()
    }

    fn take(&mut self, hash: u64) -> Vec<LoadedRow> {
        let count = self.rows.iter().take_while(|row| row.hash == hash).count();
        self.rows.drain(..count).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::ManualClock;

    fn stream(table: u32) -> Stream {
        Stream {
            table: TableId(table),
            rows: VecDeque::new(),
            cursor: None,
            asked: None,
            is_done: false,
        }
    }

    fn rows(hashes: &[u64]) -> Vec<LoadedRow> {
        let row = |hash: &u64| LoadedRow {
            namespace: 0,
            hash: *hash,
            identity: Bytes::new(),
            value: Bytes::new(),
        };
        hashes.iter().map(row).collect()
    }

    #[test]
    fn what_comes_of_a_key_group_that_has_left_is_for_nobody() {
        let mut hydrator = Hydrator {
            current: Some(Current {
                group: KeyGroup(3),
                min_epoch: Epoch(1),
                streams: vec![stream(0)],
            }),
            ..Hydrator::default()
        };
        hydrator.go_on_with(Some(KeyGroup(3)));
        assert!(hydrator.current.is_some());
        hydrator.current.as_mut().expect("under way").streams[0].asked = Some(7);
        let reply = ScanReply {
            rows: rows(&[1, 2]),
            ..ScanReply::default()
        };
        assert!(hydrator.scanned(7, &reply, &ManualClock::default()));
        hydrator.go_on_with(None);
        assert!(hydrator.next().is_none() && hydrator.ended().is_none());
    }

    proptest! {
        #[test]
        fn all_rows_of_a_hash_come_together_wherever_pieces_end(
            tables in prop::collection::vec(prop::collection::vec(0..12_u64, 0..40), 1..4),
            pieces in prop::collection::vec(1..9_usize, 200),
        ) {
            let mut tables = tables;
            tables.iter_mut().for_each(|table| table.sort_unstable());
            let mut hydrator = Hydrator {
                current: Some(Current {
                    group: KeyGroup(0),
                    min_epoch: Epoch(1),
                    streams: (0..tables.len() as u32).map(stream).collect(),
                }),
                ..Hydrator::default()
            };
            let mut left = tables.clone();
            let mut found: Vec<(u64, Vec<usize>)> = Vec::new();
            let mut pieces = pieces.into_iter();
            while hydrator.ended().is_none() {
                let current = hydrator.current.as_mut().expect("not over");
                let needs = |stream: &&mut Stream| !stream.is_ready();
                let stream = current.streams.iter_mut().find(needs).expect("one needs more");
                stream.asked = Some(7);
                let rest = &mut left[stream.table.0 as usize];
                let piece: Vec<u64> = rest.drain(..pieces.next().unwrap_or(9).min(rest.len())).collect();
                let reply = ScanReply {
                    rows: rows(&piece),
                    open_from: None,
                    cursor: (!rest.is_empty()).then(Bytes::new),
                };
                prop_assert!(hydrator.scanned(7, &reply, &ManualClock::default()));
                while let Some(next) = hydrator.next() {
                    let counts = next.tables.iter().map(|(_, rows)| rows.len()).collect();
                    found.push((next.hash, counts));
                }
            }
            let count = |table: &Vec<u64>, hash: u64| table.iter().filter(|h| **h == hash).count();
            let expected: Vec<(u64, Vec<usize>)> = (0..12)
                .map(|hash| (hash, tables.iter().map(|table| count(table, hash)).collect()))
                .filter(|(_, counts): &(u64, Vec<usize>)| counts.iter().any(|count| *count > 0))
                .collect();
            prop_assert_eq!(found, expected);
        }
    }
}
