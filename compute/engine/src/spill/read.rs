//! Looks in files first, then asks the store.

use std::sync::Arc;

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use state_client::{
    Incarnation, KeyRequest, LoadedRow, ReadReply, ReadRequest, StateError, StateStore,
};

use super::{
    record::{self, Tables},
    scratch::{Piece, Scratch},
    segments::Source,
};

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
        let records = read_records(records, &*scratch);
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

/// Records, decoded; `None` for those that are damaged or cannot be read.
fn read_records(
    records: Vec<(u64, Source)>,
    scratch: &dyn Scratch,
) -> impl Future<Output = Vec<Option<Tables>>> + Send + 'static {
    let piece = |(_, source): &(u64, Source)| match source {
        Source::File(piece) => Some(*piece),
        Source::Memory(_) => None,
    };
    let pieces: Vec<Piece> = records.iter().filter_map(piece).collect();
    let reading = match pieces.is_empty() {
        true => futures::future::ready(Ok(Vec::new())).boxed(),
        false => scratch.read(pieces),
    };
    async move {
        let read = reading.await;
        let mut read = read.into_iter().flatten();
        let mut bytes = |source: Source| -> Option<Bytes> {
            match source {
                Source::Memory(bytes) => Some(bytes),
                Source::File(_) => read.next(),
            }
        };
        let decode = |(hash, source)| record::read(hash, &bytes(source)?);
        records.into_iter().map(decode).collect()
    }
}
