//! Scans of a (table, key group): pages and tails are read side by side, in the order of the rows.
//!
//! A cursor says after which row to go on, and from where the pages are read for it: nothing of them is
//! ever skipped.

use std::{cmp::Ordering, iter::Peekable, sync::Arc};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use state_client::{LoadedRow, ScanReply, ScanRequest, StateError, page::Run};

use super::{Shard, read::PageView, runs::Runs, tail::Layers};
use crate::pages::{PageRow, PageScan, cursor_after};

/// What a row costs in a reply beside its bytes.
const ROW_BYTES: usize = 32;

/// Place of a row in a scan.
type Place = (i64, u64, Bytes);

#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Cursor {
    /// The last row that is done.
    after: Option<Place>,
    /// Where the pages are read from.
    pages: Option<Bytes>,
}

/// What has been found so far.
struct Answer {
    /// Where to go on.
    cursor: Cursor,
    reply: ScanReply,
    bytes: usize,
    bytes_max: usize,
}

/// Tails as they were at one point.
struct Tails {
    open_from: Option<i64>,
    /// Per tail, older ones first, its namespaces in order.
    tails: Vec<Vec<(i64, Arc<Runs>)>>,
}

/// A row before it is known whether it is the newest.
struct Found {
    place: Place,
    epoch: u64,
    value: Option<Bytes>,
}

impl Shard {
    /// The next rows of a scan, as of its `min_epoch` or newer.
    pub(crate) async fn scan(&self, request: &ScanRequest) -> Result<ScanReply, StateError> {
        let deadline = self.request_deadline();
        let mut answer = Answer::begin(request)?;
        let mut restarts = 0;
        loop {
            let from = answer.cursor.namespace();
            let (view, tails) = self
                .serving(request.min_epoch, deadline, |open| {
                    (PageView::of(open), Tails::of(&open.layers(), request, from))
                })
                .await?;
            let pages = view.pages.scan(
                request.table,
                request.key_group,
                request.namespace,
                answer.cursor.pages.clone(),
                request.bytes_max.saturating_sub(answer.bytes).max(1),
            );
            let Some(part) = self.unless_stale(&view, pages.await, &mut restarts)? else {
                continue;
            };
            restarts = 0;
            if answer.add(&tails, part) {
                return Ok(answer.reply);
            }
        }
    }
}

/// The next rows of a scan, of pages and of what lies over them that do not change any more.
pub(super) async fn scan_unchanging<F>(
    request: &ScanRequest,
    layers: &Layers<'_>,
    pages: impl Fn(Option<Bytes>) -> F,
) -> Result<ScanReply, StateError>
where
    F: Future<Output = Result<PageScan, StateError>>,
{
    let mut answer = Answer::begin(request)?;
    loop {
        let tails = Tails::of(layers, request, answer.cursor.namespace());
        let part = pages(answer.cursor.pages.clone()).await?;
        if answer.add(&tails, part) {
            return Ok(answer.reply);
        }
    }
}

impl Answer {
    fn begin(request: &ScanRequest) -> Result<Answer, StateError> {
        Ok(Answer {
            cursor: Cursor::decode(request.cursor.as_ref())?,
            reply: ScanReply::default(),
            bytes: 0,
            bytes_max: request.bytes_max,
        })
    }

    /// Adds the rows of a part of the pages, and of the tails as far as it goes. Whether that is all.
    fn add(&mut self, tails: &Tails, part: PageScan) -> bool {
        let cursor = std::mem::take(&mut self.cursor);
        let reply = &mut self.reply;
        reply.open_from = tails.open_from;
        let next = tails.weave(
            cursor,
            part,
            self.bytes_max,
            &mut self.bytes,
            &mut reply.rows,
        );
        match next {
            Some(next) if self.bytes < self.bytes_max => {
                self.cursor = next;
                false
            }
            next => {
                reply.cursor = next.map(|next| next.encode());
                true
            }
        }
    }
}

impl Tails {
    fn of(layers: &Layers<'_>, request: &ScanRequest, from: i64) -> Tails {
        let open_from = layers
            .marks
            .get(&(request.key_group, request.table))
            .copied();
        let from = from.max(open_from.unwrap_or(i64::MIN));
        let from = request.namespace.map_or(from, |only| only.max(from));
        let wanted = |at: i64| request.namespace.is_none_or(|only| only == at);
        let namespaces = layers.tails.iter().map(|tail| {
            let namespaces = tail.namespaces(request.key_group, request.table, from);
            let wanted = namespaces.take_while(|(at, _)| wanted(*at));
            wanted.map(|(at, runs)| (at, runs.clone())).collect()
        });
        Tails {
            open_from,
            tails: namespaces.collect(),
        }
    }

    /// Adds rows after the cursor, of the tails as far as the pages' part goes; where to go on,
    /// `None` at the end.
    fn weave(
        &self,
        cursor: Cursor,
        part: PageScan,
        bytes_max: usize,
        bytes: &mut usize,
        rows: &mut Vec<LoadedRow>,
    ) -> Option<Cursor> {
        let place = |row: &PageRow| (row.namespace, row.hash, row.identity.clone());
        if part.rows.is_empty() && part.cursor.is_some() {
            let (after, pages) = (cursor.after, part.cursor);
            return Some(Cursor { after, pages });
        }
        // Rows of the tails beyond it belong to the next part.
        let end = part.cursor.as_ref().and(part.rows.last()).map(place);
        let after = cursor.after.as_ref();
        let is_open = |at: i64| self.open_from.is_none_or(|open_from| at >= open_from);
        let pages = part.rows.into_iter().map(|row| Found {
            place: (row.namespace, row.hash, row.identity),
            epoch: row.epoch.0,
            value: row.value,
        });
        let is_next = |found: &Found| after.is_none_or(|after| found.place > *after);
        let pages = pages.filter(|found| is_open(found.place.0) && is_next(found));
        let mut sources: Vec<Peekable<Box<dyn Iterator<Item = Found> + Send + '_>>> = Vec::new();
        sources.push((Box::new(pages) as Box<dyn Iterator<Item = Found> + Send>).peekable());
        for tail in &self.tails {
            let tail = tail
                .iter()
                .flat_map(move |(at, runs)| found_in(*at, runs.merged(), after));
            sources.push((Box::new(tail) as Box<dyn Iterator<Item = Found> + Send>).peekable());
        }
        let mut last = None;
        loop {
            let next = next_row(&mut sources);
            let Some(next) = next.filter(|next| end.as_ref().is_none_or(|end| next.place <= *end))
            else {
                // The part is done.
                let pages = part.cursor?;
                // What was flushed since may lie before the rows that are done.
                let after = end.or(last).max(after.cloned());
                let pages = Some(pages);
                return Some(Cursor { after, pages });
            };
            let (namespace, hash, identity) = next.place.clone();
            if let Some(value) = next.value {
                *bytes += identity.len() + value.len() + ROW_BYTES;
                rows.push(LoadedRow {
                    namespace,
                    hash,
                    identity,
                    value,
                });
            }
            if *bytes >= bytes_max {
                // The rest of the part is read again, but nothing before it.
                let pages = match end.as_ref() == Some(&next.place) {
                    true => part.cursor,
                    false => Some(cursor_after(namespace, next.place.1, &next.place.2)),
                };
                let after = Some(next.place);
                return Some(Cursor { after, pages });
            }
            last = Some(next.place);
        }
    }
}

/// The newest version of the first row of the sources.
fn next_row(
    sources: &mut [Peekable<Box<dyn Iterator<Item = Found> + Send + '_>>],
) -> Option<Found> {
    let mut first: Option<Found> = None;
    let mut least: Option<Place> = None;
    for source in sources.iter_mut() {
        let Some(found) = source.peek() else { continue };
        if least.as_ref().is_none_or(|least| found.place < *least) {
            least = Some(found.place.clone());
        }
    }
    let least = least?;
    for source in sources {
        if let Some(found) = source.next_if(|found| found.place == least)
            && first
                .as_ref()
                .is_none_or(|first| found.epoch >= first.epoch)
        {
            first = Some(found);
        }
    }
    first
}

/// Rows of a namespace after a place.
fn found_in(
    namespace: i64,
    run: Run,
    after: Option<&Place>,
) -> impl Iterator<Item = Found> + Send + use<> {
    let start = match after {
        Some((at, hash, identity)) => match namespace.cmp(at) {
            Ordering::Less => run.len(),
            Ordering::Greater => 0,
            Ordering::Equal => {
                let of_hash = run.rows_of(*hash);
                let (mut low, mut high) = (of_hash.start, of_hash.end);
                while low < high {
                    let middle = low + (high - low) / 2;
                    if run.identity(middle) <= &identity[..] {
                        low = middle + 1;
                    } else {
                        high = middle;
                    }
                }
                low
            }
        },
        None => 0,
    };
    (start..run.len()).map(move |row| Found {
        place: (namespace, run.hash(row), run.identity_bytes(row)),
        epoch: run.epoch(row),
        value: run.has_value(row).then(|| run.value_bytes(row)),
    })
}

impl Cursor {
    /// The first namespace that is not done.
    fn namespace(&self) -> i64 {
        let after = self.after.as_ref();
        after.map_or(i64::MIN, |after| after.0)
    }

    fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(u8::from(self.after.is_some()));
        if let Some((namespace, hash, identity)) = &self.after {
            out.put_i64_le(*namespace);
            out.put_u64_le(*hash);
            out.put_u32_le(identity.len() as u32);
            out.put_slice(identity);
        }
        out.put_u8(u8::from(self.pages.is_some()));
        if let Some(pages) = &self.pages {
            out.put_slice(pages);
        }
        out.freeze()
    }

    fn decode(bytes: Option<&Bytes>) -> Result<Cursor, StateError> {
        let Some(bytes) = bytes else {
            return Ok(Cursor::default());
        };
        let foreign = || StateError::Damaged("a scan's cursor is not one of this store".to_owned());
        Cursor::read(bytes.clone()).ok_or_else(foreign)
    }

    fn read(mut bytes: Bytes) -> Option<Cursor> {
        let after = match bytes.try_get_u8().ok()? {
            0 => None,
            _ => {
                let namespace = bytes.try_get_i64_le().ok()?;
                let hash = bytes.try_get_u64_le().ok()?;
                let length = bytes.try_get_u32_le().ok()? as usize;
                let identity = (length <= bytes.len()).then(|| bytes.split_to(length))?;
                Some((namespace, hash, identity))
            }
        };
        let pages = match bytes.try_get_u8().ok()? {
            0 => None,
            _ => Some(bytes),
        };
        Some(Cursor { after, pages })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_round_trip() {
        let pages = Some(Bytes::from_static(b"pages"));
        let after = Some((-3, 9, Bytes::from_static(b"id")));
        for cursor in [
            Cursor::default(),
            Cursor {
                after: after.clone(),
                pages: None,
            },
            Cursor { after, pages },
        ] {
            let bytes = cursor.encode();
            assert_eq!(Cursor::decode(Some(&bytes)), Ok(cursor.clone()));
            if cursor.after.is_some() {
                assert!(Cursor::decode(Some(&bytes.slice(..10))).is_err());
            }
        }
    }
}
