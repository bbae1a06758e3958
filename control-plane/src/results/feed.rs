//! The stream of a SELECT's committed rows. One publisher per slot writes, any number of readers
//! read at their own pace.
//!
//! Bounded: until the first reader comes, and while one reads, the publisher waits rather than drop
//! a row that was not read. When all readers have gone, the oldest rows make room; a reader who
//! comes then learns how many it missed.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use proto::types::{Epoch, Field};
use tokio::sync::Notify;

use super::ResultRow;
use crate::caps::RESULT_CHUNK_ROWS;

/// Rows of one SELECT.
#[derive(Debug)]
pub struct Feed {
    columns: Vec<Field>,
    upsert_key: Option<Vec<usize>>,
    rows_max: usize,
    state: Mutex<State>,
    /// Rows came, or the end.
    more: Notify,
    /// A reader took rows, came or went.
    room: Notify,
}

#[derive(Debug, Default)]
struct State {
    rows: VecDeque<ResultRow>,
    /// Bytes of their lines.
    bytes: usize,
    /// Number of the first of `rows`, counted from the start of the result.
    first: u64,
    /// Number that each reader reads next.
    cursors: BTreeMap<u64, u64>,
    readers_ever: u64,
    /// What each slot has published: a replay after a crash is recognised by it.
    published: BTreeMap<u32, Epoch>,
    end: Option<FeedEnd>,
}

/// How a result ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FeedEnd {
    /// These were all rows.
    Complete,
    /// No more rows will come, though there might have been; the text says why.
    Broken(String),
}

/// What a reader gets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Chunk {
    /// Rows, after `skipped` that were dropped before the reader came.
    Rows {
        /// Rows that can no longer be had.
        skipped: u64,
        /// The next rows.
        rows: Vec<ResultRow>,
    },
    /// There are no more.
    End(FeedEnd),
}

/// A reader's place in a feed.
#[derive(Debug)]
pub struct FeedReader {
    feed: Arc<Feed>,
    id: u64,
}

impl Feed {
    /// A feed that keeps `rows_max` rows.
    #[must_use]
    pub fn new(columns: Vec<Field>, upsert_key: Option<Vec<usize>>, rows_max: usize) -> Feed {
        Feed {
            columns,
            upsert_key,
            rows_max,
            state: Mutex::default(),
            more: Notify::new(),
            room: Notify::new(),
        }
    }

    /// Columns of the rows.
    #[must_use]
    pub fn columns(&self) -> &[Field] {
        &self.columns
    }

    /// Key by which the changelog folds, where it lacks old rows of updates.
    #[must_use]
    pub fn upsert_key(&self) -> Option<&[usize]> {
        self.upsert_key.as_deref()
    }

    /// Takes the rows of one slot of a committed epoch, and waits while there is no room. The same
    /// epoch again changes nothing. Dropping the future before it completes leaves the epoch
    /// unpublished, in whole.
    pub async fn publish(&self, epoch: Epoch, slot: u32, rows: Vec<ResultRow>) {
        let mut rows = Some(rows);
        loop {
            // Registered before the look, so that no wake-up is lost in between.
            let room = self.room.notified();
            if self.try_publish(epoch, slot, &mut rows) {
                self.more.notify_waiters();
                return;
            }
            room.await;
        }
    }

    /// Waits until so many rows of one slot of an epoch would be taken, or are not needed.
    pub async fn room(&self, epoch: Epoch, slot: u32, rows: usize) {
        loop {
            let room = self.room.notified();
            if self.lock().takes(epoch, slot, rows, self.rows_max) != Takes::Later {
                return;
            }
            room.await;
        }
    }

    fn try_publish(&self, epoch: Epoch, slot: u32, rows: &mut Option<Vec<ResultRow>>) -> bool {
        let mut state = self.lock();
        let new = rows.as_ref().map_or(0, Vec::len);
        match state.takes(epoch, slot, new, self.rows_max) {
            Takes::Never => return true,
            Takes::Later => return false,
            Takes::Now => {}
        }
        state.published.insert(slot, epoch);
        let rows = rows.take().unwrap_or_default();
        state.bytes += rows.iter().map(|row| row.line.len()).sum::<usize>();
        state.rows.extend(rows);
        let keep = self.rows_max.max(state.unread());
        let drop = state.rows.len().saturating_sub(keep);
        let dropped: usize = state.rows.drain(..drop).map(|row| row.line.len()).sum();
        state.bytes -= dropped;
        state.first += drop as u64;
        true
    }

    /// Nothing more will be published.
    pub fn end(&self, end: FeedEnd) {
        self.lock().end.get_or_insert(end);
        self.more.notify_waiters();
        self.room.notify_waiters();
    }

    /// Bytes of the rows that are kept for readers who are still to come; `None` while somebody
    /// reads them.
    #[must_use]
    pub fn kept_bytes(&self) -> Option<usize> {
        let state = self.lock();
        state.cursors.is_empty().then_some(state.bytes)
    }

    /// Drops the rows that are kept for readers who are still to come.
    pub fn discard(&self) {
        let mut state = self.lock();
        state.first = state.next();
        state.rows = VecDeque::new();
        state.bytes = 0;
        drop(state);
        self.room.notify_waiters();
    }

    /// A reader from the oldest row that is there.
    #[must_use]
    pub fn reader(self: &Arc<Self>) -> FeedReader {
        let mut state = self.lock();
        let id = state.readers_ever;
        state.readers_ever += 1;
        state.cursors.insert(id, 0);
        FeedReader {
            feed: self.clone(),
            id,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held; the rows would be whole all the same.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether rows of an epoch are taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Takes {
    Now,
    /// There is no room.
    Later,
    /// They were taken before, or nobody wants any.
    Never,
}

impl State {
    fn takes(&self, epoch: Epoch, slot: u32, rows: usize, rows_max: usize) -> Takes {
        let last = self.published.get(&slot);
        if last.is_some_and(|last| epoch <= *last) || self.end.is_some() {
            return Takes::Never;
        }
        let unread = self.unread();
        // An epoch larger than the feed goes in alone: waiting would not help.
        if unread > 0 && unread.saturating_add(rows) > rows_max {
            return Takes::Later;
        }
        Takes::Now
    }

    fn next(&self) -> u64 {
        self.first + self.rows.len() as u64
    }

    /// Rows that someone still has to read.
    fn unread(&self) -> usize {
        let slowest = self.cursors.values().min();
        let from = match (slowest, self.readers_ever) {
            (Some(cursor), _) => (*cursor).max(self.first),
            (None, 0) => self.first,
            (None, _) => return 0,
        };
        usize::try_from(self.next() - from).unwrap_or(usize::MAX)
    }
}

impl FeedReader {
    /// Waits for the next rows or the end. Safe to drop and call again.
    pub async fn next(&mut self) -> Chunk {
        loop {
            let feed = self.feed.clone();
            let more = feed.more.notified();
            if let Some(chunk) = self.take() {
                return chunk;
            }
            more.await;
        }
    }

    fn take(&mut self) -> Option<Chunk> {
        let mut state = self.feed.lock();
        let cursor = state.cursors.get(&self.id).copied().unwrap_or_default();
        let from = cursor.max(state.first);
        let offset = usize::try_from(from - state.first).unwrap_or(usize::MAX);
        let rows: Vec<ResultRow> = state
            .rows
            .iter()
            .skip(offset)
            .take(RESULT_CHUNK_ROWS)
            .cloned()
            .collect();
        if rows.is_empty() {
            return state.end.clone().map(Chunk::End);
        }
        state.cursors.insert(self.id, from + rows.len() as u64);
        drop(state);
        self.feed.room.notify_waiters();
        Some(Chunk::Rows {
            skipped: from - cursor,
            rows,
        })
    }

    /// The feed that is read.
    #[must_use]
    pub fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }
}

impl Drop for FeedReader {
    fn drop(&mut self) {
        self.feed.lock().cursors.remove(&self.id);
        self.feed.room.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proto::types::RowKind;

    use super::*;

    fn rows(from: usize, to: usize) -> Vec<ResultRow> {
        let row = |number: usize| ResultRow {
            kind: RowKind::Insert,
            line: number.to_string().into(),
        };
        (from..to).map(row).collect()
    }

    fn feed(rows_max: usize) -> Arc<Feed> {
        Arc::new(Feed::new(Vec::new(), None, rows_max))
    }

    async fn read(reader: &mut FeedReader) -> (u64, String) {
        match reader.next().await {
            Chunk::Rows { skipped, rows } => {
                let lines: Vec<&str> = rows.iter().map(|row| &*row.line).collect();
                (skipped, lines.join(" "))
            }
            Chunk::End(end) => (0, format!("{end:?}")),
        }
    }

    async fn waits(publish: impl Future<Output = ()>) -> bool {
        tokio::time::timeout(Duration::from_secs(1), publish)
            .await
            .is_err()
    }

    #[tokio::test(start_paused = true)]
    async fn rows_wait_for_the_first_reader_and_none_is_lost() {
        let feed = feed(4);
        feed.publish(Epoch(1), 0, rows(0, 3)).await;
        assert!(waits(feed.publish(Epoch(2), 0, rows(3, 6))).await);
        let mut reader = feed.reader();
        assert_eq!(read(&mut reader).await, (0, "0 1 2".into()));
        feed.publish(Epoch(2), 0, rows(3, 6)).await;
        assert!(waits(feed.publish(Epoch(3), 0, rows(6, 8))).await);
        assert_eq!(read(&mut reader).await, (0, "3 4 5".into()));
        feed.end(FeedEnd::Complete);
        assert_eq!(read(&mut reader).await, (0, "Complete".into()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_replayed_epoch_counts_once() {
        let feed = feed(10);
        feed.publish(Epoch(1), 0, rows(0, 1)).await;
        feed.publish(Epoch(1), 0, rows(0, 1)).await;
        feed.publish(Epoch(1), 1, rows(5, 6)).await;
        assert_eq!(read(&mut feed.reader()).await, (0, "0 5".into()));
    }

    #[tokio::test(start_paused = true)]
    async fn when_readers_have_gone_the_oldest_rows_make_room() {
        let feed = feed(3);
        drop(feed.reader());
        feed.publish(Epoch(1), 0, rows(0, 2)).await;
        feed.publish(Epoch(2), 0, rows(2, 5)).await;
        assert_eq!(read(&mut feed.reader()).await, (2, "2 3 4".into()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_discarded_makes_room_and_is_missed_by_later_readers() {
        let feed = feed(2);
        feed.publish(Epoch(1), 0, rows(0, 2)).await;
        feed.discard();
        feed.publish(Epoch(2), 0, rows(2, 4)).await;
        let mut reader = feed.reader();
        assert_eq!(read(&mut reader).await, (2, "2 3".into()));
        feed.discard();
        feed.end(FeedEnd::Complete);
        assert_eq!(read(&mut feed.reader()).await, (0, "Complete".into()));
    }

    #[tokio::test(start_paused = true)]
    async fn an_epoch_larger_than_the_feed_passes_alone() {
        let feed = feed(2);
        feed.publish(Epoch(1), 0, rows(0, 5)).await;
        let mut reader = feed.reader();
        assert!(waits(feed.publish(Epoch(2), 0, rows(5, 6))).await);
        assert_eq!(read(&mut reader).await, (0, "0 1 2 3 4".into()));
        feed.publish(Epoch(2), 0, rows(5, 6)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_reader_learns_what_it_missed() {
        let feed = feed(2);
        let mut slow = feed.reader();
        feed.publish(Epoch(1), 0, rows(0, 2)).await;
        assert_eq!(read(&mut slow).await, (0, "0 1".into()));
        feed.publish(Epoch(2), 0, rows(2, 4)).await;
        assert_eq!(read(&mut feed.reader()).await, (2, "2 3".into()));
        assert_eq!(read(&mut slow).await, (0, "2 3".into()));
    }
}
