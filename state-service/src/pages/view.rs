//! What a reader works on: rows and layout of one point, of a shard that is open or of a checkpoint.

use std::{ops::RangeInclusive, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use slatedb::{DbIterator, DbReader, DbSnapshot, config::ScanOptions};
use state_client::page::Run;

use super::{error::PageError, kv::PageKey, layout::Layout, read::open_image, store::Hold};

/// Rows and layout of one point.
pub(super) struct View {
    pub(super) layout: Arc<Layout>,
    pub(super) rows: RowsAt,
    /// The image of a page that does not exist.
    pub(super) absent: Run,
    /// Writes before it; 0 where nothing is ever written.
    pub(super) version: u64,
    /// Tells compactions of it; `None`: of a checkpoint, whose files stay.
    pub(super) _hold: Option<Hold>,
}

/// Where the rows are.
pub(super) enum RowsAt {
    Snapshot(Arc<DbSnapshot>),
    Checkpoint(DbReader),
}

impl RowsAt {
    /// A record, operands merged.
    pub(super) async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, slatedb::Error> {
        match self {
            RowsAt::Snapshot(snapshot) => snapshot.get(key).await,
            RowsAt::Checkpoint(reader) => reader.get(key).await,
        }
    }

    /// Records between two keys, both of them too.
    pub(super) async fn scan(
        &self,
        range: RangeInclusive<Vec<u8>>,
        options: &ScanOptions,
    ) -> Result<DbIterator, slatedb::Error> {
        match self {
            RowsAt::Snapshot(snapshot) => snapshot.scan_with_options(range, options).await,
            RowsAt::Checkpoint(reader) => reader.scan_with_options(range, options).await,
        }
    }
}

impl View {
    /// The image of a page, operands merged; empty if there is none.
    pub(super) async fn fetch(&self, page: PageKey) -> Result<Run, PageError> {
        let found = self.rows.get(&page.encode()).await;
        match found.map_err(PageError::of("reading"))? {
            Some(bytes) => open_image(&page, bytes),
            None => Ok(self.absent.clone()),
        }
    }

    /// Images of pages, so many at the same time.
    pub(super) async fn fetch_all(
        &self,
        pages: impl IntoIterator<Item = PageKey>,
        at_once: usize,
    ) -> Result<Vec<(PageKey, Run)>, PageError> {
        stream::iter(pages.into_iter().collect::<Vec<_>>())
            .map(|page| async move { Ok((page, self.fetch(page).await?)) })
            .buffer_unordered(at_once)
            .try_collect()
            .await
    }
}
