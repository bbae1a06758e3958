//! A directory as a store. Folders that become empty are removed with their last object, or every
//! epoch would leave one; a write into a folder that goes away at that moment is begun again.

use std::{error::Error as _, fmt, io, ops::Range};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    local::LocalFileSystem, path::Path,
};

use super::read_now::ReadNow;

/// How often a write is begun.
const ATTEMPTS_MAX: usize = 20;

/// A directory.
#[derive(Debug)]
pub(super) struct DirectoryStore {
    files: LocalFileSystem,
    now: ReadNow,
}

impl DirectoryStore {
    pub(super) fn new(files: LocalFileSystem) -> Self {
        let files = files.with_fsync(true).with_automatic_cleanup(true);
        DirectoryStore {
            files,
            now: ReadNow::default(),
        }
    }

    /// A put never finds anything missing but its folder.
    async fn again<T, F: Future<Output = Result<T>>>(&self, put: impl Fn() -> F) -> Result<T> {
        for _ in 1..ATTEMPTS_MAX {
            match put().await {
                Err(error) if lacks_folder(&error) => {}
                done => return done,
            }
        }
        put().await
    }
}

fn lacks_folder(error: &Error) -> bool {
    let mut next = error.source();
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return io.kind() == io::ErrorKind::NotFound;
        }
        next = error.source();
    }
    false
}

impl fmt::Display for DirectoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.files.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for DirectoryStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.again(|| {
            let (payload, options) = (payload.clone(), options.clone());
            self.files.put_opts(location, payload, options)
        })
        .await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.again(|| self.files.put_multipart_opts(location, options.clone()))
            .await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        match self.now.get(&self.files, location, &options) {
            Some(found) => {
                // Who reads on and on lets others have their turn, as if it had waited.
                tokio::task::consume_budget().await;
                Ok(found)
            }
            None => self.files.get_opts(location, options).await,
        }
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.files.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.files.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.files.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.files.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.files.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.files.copy_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt as _;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn folders_that_come_and_go_fail_no_write() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = LocalFileSystem::new_with_prefix(folder.path()).expect("open");
        let store = std::sync::Arc::new(DirectoryStore::new(files));
        let writers = (0..8).map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for round in 0..100 {
                    let path = Path::from(format!("a/b/{}/{writer}", round % 3));
                    store.put(&path, "x".into()).await.expect("put");
                    store.delete(&path).await.expect("delete");
                }
            })
        });
        for writer in futures::future::join_all(writers).await {
            writer.expect("no failure");
        }
        assert_eq!(folder.path().read_dir().expect("read").count(), 0);
    }
}
