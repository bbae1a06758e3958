//! A directory whose disk is full. Nothing that waits makes room, so whoever works on it stops.

use std::{fmt, ops::Range, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt as _, stream::BoxStream};
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart, path::Path,
};
use tokio::sync::watch;

use super::error::{Fault, Target};

/// Whether a write has found the disk full, as a line for people. Clones are one.
#[derive(Clone, Debug)]
pub(super) struct Full {
    target: Target,
    found: watch::Sender<Option<String>>,
}

impl Full {
    pub(super) fn new(target: Target) -> Self {
        let found = watch::channel(None).0;
        Full { target, found }
    }

    /// Waits for it; what is wrong and what to do.
    pub(super) async fn found(&self) -> String {
        let mut found = self.found.subscribe();
        let line = found.wait_for(Option::is_some).await;
        // The sender is ours.
        line.ok().and_then(|line| line.clone()).unwrap_or_default()
    }

    fn check<T>(&self, written: Result<T>) -> Result<T> {
        if let Err(error) = &written
            && Fault::of(error) == Fault::Full
        {
            let line = self.target.explain(error).line;
            self.found.send_replace(Some(line));
        }
        written
    }
}

/// A store whose writes are looked at.
#[derive(Debug)]
pub(super) struct FullStore {
    store: Arc<dyn ObjectStore>,
    full: Full,
}

impl FullStore {
    pub(super) fn new(store: Arc<dyn ObjectStore>, full: Full) -> Self {
        FullStore { store, full }
    }
}

/// An upload in parts, whose parts are looked at.
#[derive(Debug)]
struct Upload {
    upload: Box<dyn MultipartUpload>,
    full: Full,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (full, put) = (self.full.clone(), self.upload.put_part(data));
        async move { full.check(put.await) }.boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.full.check(self.upload.complete().await)
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}

impl fmt::Display for FullStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for FullStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let put = self.store.put_opts(location, payload, options);
        self.full.check(put.await)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let put = self.store.put_multipart_opts(location, options);
        let upload = self.full.check(put.await)?;
        let full = self.full.clone();
        Ok(Box::new(Upload { upload, full }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.store.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.store.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.store.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.store.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.store.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let copy = self.store.copy_opts(from, to, options);
        self.full.check(copy.await)
    }
}
