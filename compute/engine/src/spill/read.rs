//! Looks in files first, then asks the store.

use std::{ops::Range, sync::Arc};

use bytes::{Bytes, BytesMut};
use futures::{FutureExt as _, future::BoxFuture};
use state_client::{
    Incarnation, KeyRequest, LoadedRow, ReadReply, ReadRequest, StateError, StateStore,
};

use super::{
    record::{self, Tables},
    scratch::{Piece, Scratch, ScratchError},
    segments::Source,
};

/// Bytes that are read at once. A record is read with others that are of no use, and all of them are in memory
/// until it has been found.
const READ_BYTES: usize = 1 << 20;

/// A read of which something is in files.
pub struct SpilledRead {
    pub(super) request: ReadRequest,
    /// By key: which record may have its rows.
    pub(super) places: Vec<Option<usize>>,
    /// Records, with their hashes.
    pub(super) records: Vec<(u64, Source)>,
    pub(super) scratch: Arc<dyn Scratch>,
}

impl SpilledRead {
    /// Keys that are looked for in files.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.places.iter().flatten().count()
    }

    /// The answer, as the store would give it. What files turn out not to have is asked of the store.
    #[must_use]
    pub fn send(
        self,
        store: Arc<dyn StateStore>,
        who: Incarnation,
    ) -> BoxFuture<'static, Result<ReadReply, StateError>> {
        let SpilledRead {
            request,
            places,
            records,
            scratch,
        } = self;
        let min_epoch = request.min_epoch;
        let ask = move |keys: Vec<KeyRequest>| match keys.is_empty() {
            true => futures::future::ready(Ok(ReadReply::default())).boxed(),
            false => store.read(who, ReadRequest { min_epoch, keys }),
        };
        let elsewhere = (request.keys.iter().zip(&places)).filter(|(_, place)| place.is_none());
        // Both begin at once, not when the future is polled: files may go after this.
        let others = ask(elsewhere.map(|(key, _)| *key).collect());
        let records = read_records(records, scratch);
        async move {
            let (mut tables, others) = futures::future::join(records, others).await;
            let mut others = others?.rows.into_iter();
            let mut rows: Vec<Option<Vec<LoadedRow>>> = Vec::with_capacity(places.len());
            let mut missing = Vec::new();
            for (key, place) in request.keys.iter().zip(&places) {
                let found = match place {
                    None => Some(others.next().unwrap_or_default()),
                    Some(at) => tables[*at]
                        .as_mut()
                        .and_then(|tables| take_rows(tables, key)),
                };
                if found.is_none() {
                    missing.push(*key);
                }
                rows.push(found);
            }
            let mut missing = ask(missing).await?.rows.into_iter();
            let fill = |rows: Option<Vec<LoadedRow>>| {
                rows.unwrap_or_else(|| missing.next().unwrap_or_default())
            };
            let rows = rows.into_iter().map(fill).collect();
            Ok(ReadReply { rows })
        }
        .boxed()
    }
}

/// A table's rows of a record; `None`: the record does not have that table.
fn take_rows(tables: &mut Tables, key: &KeyRequest) -> Option<Vec<LoadedRow>> {
    let table = tables.iter_mut().find(|(table, _)| *table == key.table);
    table.map(|(_, rows)| std::mem::take(rows))
}

/// Records, decoded; `None` for those that are damaged, cannot be read or are not where they were looked
/// for.
fn read_records(
    records: Vec<(u64, Source)>,
    scratch: Arc<dyn Scratch>,
) -> impl Future<Output = Vec<Option<Tables>>> + Send + 'static {
    let mut parts = parts(records).into_iter();
    let mut next = parts.next().map(|part| (begin(&part, &*scratch), part));
    async move {
        let mut all = Vec::new();
        while let Some((reading, part)) = next {
            let pages = reading.await.unwrap_or_default();
            all.extend(decode(part, pages));
            next = parts.next().map(|part| (begin(&part, &*scratch), part));
        }
        all
    }
}

/// Records that are read at once.
fn parts(records: Vec<(u64, Source)>) -> Vec<Vec<(u64, Source)>> {
    let (mut parts, mut bytes) = (vec![Vec::new()], 0);
    for record in records {
        let piece = record.1.piece().map_or(0, |piece| piece.len as usize);
        if bytes + piece > READ_BYTES {
            parts.push(Vec::new());
            bytes = 0;
        }
        bytes += piece;
        if let Some(part) = parts.last_mut() {
            part.push(record);
        }
    }
    parts
}

fn begin(
    part: &[(u64, Source)],
    scratch: &dyn Scratch,
) -> BoxFuture<'static, Result<Vec<Bytes>, ScratchError>> {
    let pieces: Vec<Piece> = part
        .iter()
        .filter_map(|(_, source)| source.piece())
        .collect();
    match pieces.is_empty() {
        true => futures::future::ready(Ok(Vec::new())).boxed(),
        false => scratch.read(pieces),
    }
}

/// Finds records in the pages that were read for them.
fn decode(part: Vec<(u64, Source)>, pages: Vec<Bytes>) -> impl Iterator<Item = Option<Tables>> {
    let mut pages = pages.into_iter();
    let mut copied = BytesMut::new();
    let mut copy = |(hash, source): (u64, Source)| {
        let page = match source {
            Source::Memory(page) => Some(page),
            Source::File(_) => pages.next(),
        };
        let start = copied.len();
        copied.extend_from_slice(record::find(hash, &page?)?);
        Some((hash, start..copied.len()))
    };
    // Rows keep no page.
    let found: Vec<_> = part.into_iter().map(&mut copy).collect();
    let copied = copied.freeze();
    let read = move |(hash, range): (u64, Range<usize>)| record::read(hash, &copied.slice(range));
    found.into_iter().map(move |found| found.and_then(&read))
}
