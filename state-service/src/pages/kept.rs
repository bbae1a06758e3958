//! The pages of a shard as of a checkpoint, for who reads them without serving the shard. Nothing is
//! written, and nobody is disturbed; it is up to the caller that the checkpoint stays.

use std::sync::Arc;

use bytes::Bytes;
use proto::types::{Epoch, KeyGroup, TableId};
use slatedb::config::ScanOptions;
use state_client::{
    KeyRequest,
    page::{Run, RunBuilder},
};

use super::{
    PageRow, PageScan,
    config::PageStoreConfig,
    copy::open_checkpoint,
    error::PageError,
    kv::META,
    open::layout_of,
    store::within,
    view::{RowsAt, View},
};

/// The pages of a checkpoint.
pub(crate) struct KeptPages {
    view: View,
    config: PageStoreConfig,
}

impl KeptPages {
    /// Opens the checkpoint that a flush of `epoch` has made.
    ///
    /// # Errors
    /// [`PageError::Invalid`] when there is no such checkpoint.
    pub(crate) async fn open(
        config: PageStoreConfig,
        epoch: Epoch,
    ) -> Result<KeptPages, PageError> {
        let opening = async {
            let rows = RowsAt::Checkpoint(open_checkpoint(&config, epoch).await?);
            let doing = "opening a checkpoint";
            let options = ScanOptions::default();
            let records = rows.scan(vec![META]..=vec![META, u8::MAX], &options);
            let records = records.await.map_err(PageError::of(doing))?;
            let (layout, _, is_new) = layout_of(records, config.scope()).await?;
            if is_new {
                return Err(PageError::damaged(&config.path, "a checkpoint of nothing"));
            }
            let absent = RunBuilder::default().finish();
            Ok(View {
                layout: Arc::new(layout),
                rows,
                absent: Run::open(absent).expect("the builder writes runs"),
                version: 0,
                _hold: None,
            })
        };
        let view = within(config.limits.deadline, "opening a checkpoint", opening).await?;
        Ok(KeptPages { view, config })
    }

    /// First open namespaces.
    pub(crate) fn marks(&self) -> Vec<(TableId, KeyGroup, i64)> {
        let marks = self.view.layout.marks.iter();
        marks
            .map(|((table, key_group), open_from)| (*table, *key_group, *open_from))
            .collect()
    }

    /// As [`super::PageStore::read`].
    ///
    /// # Errors
    /// When the checkpoint cannot be read, or a key is not of this shard.
    pub(crate) async fn read(
        &self,
        requests: &[KeyRequest],
    ) -> Result<Vec<Vec<PageRow>>, PageError> {
        self.config.check_keys(requests)?;
        let limits = &self.config.limits;
        let reading = self.view.read(requests, limits.fetches_max);
        within(limits.deadline, "reading a checkpoint", reading).await
    }

    /// As [`super::PageStore::scan`].
    ///
    /// # Errors
    /// When the checkpoint cannot be read, or the cursor is not one of its own.
    pub(crate) async fn scan(
        &self,
        table: TableId,
        key_group: KeyGroup,
        namespace: Option<i64>,
        cursor: Option<Bytes>,
        bytes_max: usize,
    ) -> Result<PageScan, PageError> {
        let scanning = self
            .view
            .scan((table, key_group, namespace), cursor, bytes_max);
        within(
            self.config.limits.deadline,
            "scanning a checkpoint",
            scanning,
        )
        .await
    }
}
