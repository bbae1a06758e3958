//! Scans of a (table, key group) in (namespace, hash, identity) order. A part of the hashes whose
//! older pages and newer pages overlap is merged at a time; hot keys are woven in chunk by chunk.

use std::{iter::Peekable, ops::RangeInclusive};

use bytes::{BufMut, Bytes, BytesMut};
use proto::types::{KeyGroup, TableId};
use slatedb::DbIterator;
use state_client::page::Run;

use super::{
    PageRow, PageStore,
    error::PageError,
    kv::{HotKey, HotSlot, PageKey, flipped, lead, unflipped},
    layout::{Depths, mask},
    read::open_image,
    row::{merged, row_of},
    store::within,
    view::View,
};

/// What a page and those below it are expected to have: with so much for each a scan begins.
const PART_BYTES: usize = 16 << 10;

/// Rows of a scan and where to go on.
#[derive(Clone, Debug, Default)]
pub struct PageScan {
    /// In (namespace, hash, identity) order, delete marks included, closed namespaces left out.
    pub rows: Vec<PageRow>,
    /// Where to go on; `None` at the end.
    pub cursor: Option<Bytes>,
}

/// What a scan has gathered.
struct Gathered {
    rows: Vec<PageRow>,
    bytes: usize,
    bytes_max: usize,
    /// The last row of the scan before.
    after: Option<(i64, u64, Bytes)>,
}

/// Pages of one depth, in order.
pub(super) struct Pages {
    pages: DbIterator,
    pub(super) next: Option<(PageKey, Bytes)>,
}

impl PageStore {
    /// The next rows of a table in a key group, of one namespace or of all.
    ///
    /// # Errors
    /// When the store cannot be read, or the cursor is not one of its own.
    pub async fn scan(
        &self,
        table: TableId,
        key_group: KeyGroup,
        namespace: Option<i64>,
        cursor: Option<Bytes>,
        bytes_max: usize,
    ) -> Result<PageScan, PageError> {
        let shared = &*self.shared;
        let scanning = async {
            let view = shared.view().await?;
            let of = (table, key_group, namespace);
            view.scan(of, cursor, bytes_max).await
        };
        within(shared.config.limits.deadline, "scanning", scanning).await
    }
}

/// The first namespace from `from` on that has pages.
async fn next_namespace(
    view: &View,
    table: TableId,
    key_group: KeyGroup,
    from: i64,
) -> Result<Option<i64>, PageError> {
    let first = PageKey::first(key_group, table, from, 0);
    let last = PageKey::first(key_group, table, i64::MAX, u8::MAX).last();
    let mut pages = Pages::scan(view, first, last).await?;
    Ok(pages.take().await?.map(|(page, _)| page.namespace))
}

impl View {
    /// The next rows of a table in a key group, of one namespace or of all.
    pub(super) async fn scan(
        &self,
        (table, key_group, namespace): (TableId, KeyGroup, Option<i64>),
        cursor: Option<Bytes>,
        bytes_max: usize,
    ) -> Result<PageScan, PageError> {
        let mut gathered = Gathered {
            rows: Vec::new(),
            bytes: 0,
            bytes_max,
            after: cursor.map(decode_cursor).transpose()?,
        };
        let open_from = self.layout.open_from(table, key_group);
        let resumed = gathered.after.as_ref().map(|after| after.0);
        let mut next = namespace.or(resumed).unwrap_or(i64::MIN).max(open_from);
        let cursor = loop {
            let found = match namespace {
                Some(namespace) => (namespace >= open_from).then_some(namespace),
                None => next_namespace(self, table, key_group, next).await?,
            };
            let Some(found) = found else {
                break None;
            };
            let first = PageKey::first(key_group, table, found, 0);
            if self.scan_namespace(first, &mut gathered).await? {
                break gathered.cursor();
            }
            match (namespace, found.checked_add(1)) {
                (None, Some(after)) => next = after,
                _ => break None,
            }
        };
        let rows = gathered.rows;
        Ok(PageScan { rows, cursor })
    }

    /// Gathers rows of one namespace; whether there are enough.
    async fn scan_namespace(
        &self,
        first: PageKey,
        gathered: &mut Gathered,
    ) -> Result<bool, PageError> {
        let layout = &self.layout;
        let Some(depths) = layout.depths_of(first.table, first.namespace) else {
            return Ok(false);
        };
        let after = gathered.after.as_ref();
        let start = match after.filter(|after| after.0 == first.namespace) {
            Some((_, hash, _)) => layout.prefix(*hash, depths.min),
            None => 0,
        };
        let mut hot = layout
            .hot_between(
                PageKey {
                    prefix: start,
                    ..first
                },
                u32::MAX,
            )
            .peekable();
        // As many parts of the hashes as are likely to be enough, then twice as many, …: of every file
        // that a read goes through it reads ahead, as far as the read may go.
        let shift = 32 - u32::from(depths.min);
        let (mut part, end) = (u64::from(start) >> shift, 1 << depths.min);
        let mut parts = (gathered.bytes_left() / PART_BYTES).max(1) as u64;
        while part < end {
            let next = end.min(part.saturating_add(parts));
            let prefixes = (part << shift) as u32..=((next << shift) - 1) as u32;
            let scanned = self.scan_parts(first, depths, prefixes, &mut hot, gathered);
            if scanned.await? {
                return Ok(true);
            }
            (part, parts) = (next, parts.saturating_mul(2));
        }
        Ok(false)
    }

    /// Gathers rows of parts of the hashes, those of a page at the lesser depth each; whether there are
    /// enough.
    async fn scan_parts<'a>(
        &'a self,
        first: PageKey,
        depths: Depths,
        prefixes: RangeInclusive<u32>,
        hot: &mut Peekable<impl Iterator<Item = (&'a HotSlot, &'a HotKey)>>,
        gathered: &mut Gathered,
    ) -> Result<bool, PageError> {
        let pages = |depth| {
            let at = |prefix, chunk| PageKey {
                depth,
                prefix,
                chunk,
                ..first
            };
            Pages::scan(
                self,
                at(*prefixes.start(), 0),
                at(*prefixes.end(), u16::MAX),
            )
        };
        let mut old = pages(depths.min).await?;
        let mut new = match depths.min == depths.max {
            true => None,
            false => Some(pages(depths.max).await?),
        };
        let family = |prefix: u32| prefix & mask(depths.min);
        loop {
            // The next part of the hashes that has rows in a page or in chunks.
            let of_pages = |pages: &Pages| pages.next.as_ref().map(|(key, _)| family(key.prefix));
            let hot_part = hot.peek().map(|(slot, _)| slot.prefix);
            let candidates = [
                of_pages(&old),
                new.as_ref().and_then(of_pages),
                hot_part
                    .filter(|prefix| prefixes.contains(prefix))
                    .map(family),
            ];
            let Some(part) = candidates.into_iter().flatten().min() else {
                return Ok(false);
            };
            let mut images = Vec::new();
            old.take_family(part, family, &mut images).await?;
            if let Some(new) = &mut new {
                new.take_family(part, family, &mut images).await?;
            }
            let images = images.into_iter().map(|(_, image)| image).collect();
            let rows = merged(images).unwrap_or_else(|| self.absent.clone());
            let mut row = 0;
            while let Some((slot, hot)) = hot.next_if(|(slot, _)| family(slot.prefix) == part) {
                let end = rows.lower_bound(hot.hash);
                if gathered.extend(first.namespace, &rows, row..end)
                    || self.scan_hot(slot, hot, gathered).await?
                {
                    return Ok(true);
                }
                row = end;
            }
            if gathered.extend(first.namespace, &rows, row..rows.len()) {
                return Ok(true);
            }
        }
    }

    /// Gathers rows of a hot key; whether there are enough.
    async fn scan_hot(
        &self,
        slot: &HotSlot,
        hot: &HotKey,
        gathered: &mut Gathered,
    ) -> Result<bool, PageError> {
        let after = gathered.after.as_ref();
        let start = after.and_then(|(namespace, hash, identity)| {
            let same = *namespace == slot.namespace && *hash == hot.hash;
            same.then(|| hot.chunk_of(lead(identity)))
        });
        // Chunks are in the order of their rows, not of their numbers, while the key is spread.
        let chunks = hot.chunks();
        let chunks = chunks.skip_while(|chunk| start.is_some_and(|start| *chunk != start));
        for chunk in chunks {
            let image = self.fetch(slot.page(chunk)).await?;
            if gathered.extend(slot.namespace, &image, 0..image.len()) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Gathered {
    /// Adds rows that come after those of the scan before; whether there are enough.
    fn extend(&mut self, namespace: i64, image: &Run, rows: std::ops::Range<usize>) -> bool {
        for row in rows {
            if let Some((last_namespace, hash, identity)) = &self.after {
                let at = (namespace, image.hash(row), image.identity(row));
                if at <= (*last_namespace, *hash, &identity[..]) {
                    continue;
                }
            }
            let row = row_of(namespace, image, row);
            self.bytes += row.identity.len() + row.value.as_ref().map_or(0, Bytes::len) + 24;
            self.rows.push(row);
            if self.bytes >= self.bytes_max {
                return true;
            }
        }
        false
    }

    fn bytes_left(&self) -> usize {
        self.bytes_max.saturating_sub(self.bytes)
    }

    fn cursor(&self) -> Option<Bytes> {
        let last = self.rows.last()?;
        Some(cursor_after(last.namespace, last.hash, &last.identity))
    }
}

/// Where a scan goes on that has come to a row, which need not be there.
pub(crate) fn cursor_after(namespace: i64, hash: u64, identity: &[u8]) -> Bytes {
    let mut cursor = BytesMut::with_capacity(16 + identity.len());
    cursor.put_u64(flipped(namespace));
    cursor.put_u64(hash);
    cursor.put_slice(identity);
    cursor.freeze()
}

fn decode_cursor(cursor: Bytes) -> Result<(i64, u64, Bytes), PageError> {
    let number = |at: usize| {
        let bytes = cursor.get(at..at + 8)?.try_into().ok()?;
        Some(u64::from_be_bytes(bytes))
    };
    match (number(0), number(8)) {
        (Some(namespace), Some(hash)) => Ok((unflipped(namespace), hash, cursor.slice(16..))),
        _ => Err(PageError::Invalid("a scan's cursor is cut".to_string())),
    }
}

impl Pages {
    /// Pages from `first` to `last`.
    pub(super) async fn scan(
        view: &View,
        first: PageKey,
        last: PageKey,
    ) -> Result<Pages, PageError> {
        let options = slatedb::config::ScanOptions::default()
            .with_read_ahead_bytes(256 << 10)
            .with_max_fetch_tasks(2);
        let range = first.encode().to_vec()..=last.encode().to_vec();
        let pages = view.rows.scan(range, &options).await;
        let mut pages = Pages {
            pages: pages.map_err(PageError::of("scanning"))?,
            next: None,
        };
        pages.take().await?;
        Ok(pages)
    }

    /// The page that was next, and goes on.
    pub(super) async fn take(&mut self) -> Result<Option<(PageKey, Bytes)>, PageError> {
        let next = self.pages.next().await.map_err(PageError::of("scanning"))?;
        let next = next.map(|pair| match PageKey::decode(&pair.key) {
            Some(page) => Ok((page, pair.value)),
            None => Err(PageError::damaged(&pair.key, "not the key of a page")),
        });
        Ok(std::mem::replace(&mut self.next, next.transpose()?))
    }

    /// Images of the pages of one part of the hashes; those of parts before are left out.
    pub(super) async fn take_family(
        &mut self,
        part: u32,
        family: impl Fn(u32) -> u32,
        images: &mut Vec<(PageKey, Run)>,
    ) -> Result<(), PageError> {
        while (self.next.as_ref()).is_some_and(|(page, _)| family(page.prefix) <= part) {
            if let Some((page, bytes)) = self.take().await?
                && family(page.prefix) == part
            {
                images.push((page, open_image(&page, bytes)?));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proto::types::Epoch;

    use super::*;

    #[test]
    fn cursors_round_trip() {
        let gathered = Gathered {
            rows: vec![PageRow {
                namespace: -3,
                hash: 9,
                identity: Bytes::from_static(b"id"),
                epoch: Epoch(1),
                value: None,
            }],
            bytes: 0,
            bytes_max: 0,
            after: None,
        };
        let cursor = gathered.cursor().expect("there is a row");
        let expected = (-3, 9, Bytes::from_static(b"id"));
        assert_eq!(decode_cursor(cursor).expect("our cursor"), expected);
        assert!(decode_cursor(Bytes::from_static(b"short")).is_err());
    }
}
