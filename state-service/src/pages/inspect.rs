//! A shard's database as files, for who checks them: which there are, which each of its states needs,
//! and whether what is in them is what was written. Nothing is changed.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Buf as _;
use object_store::{ObjectStore, ObjectStoreExt as _, path::Path};
use proto::types::Epoch;
use slatedb::{
    PathResolver, SstReader, ValueDeletable, VersionedManifest,
    admin::{Admin, AdminBuilder},
};
use state_client::page::Run;

use super::{
    checkpoint::epoch_of,
    error::PageError,
    kv::{MetaRecord, PageKey},
    store::within,
};

/// A file of rows: the folder of the database that it lies in, and its number there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct RowFile {
    root: String,
    id: slatedb::manifest::SsTableId,
}

/// A database as its newest manifest describes it.
#[derive(Default)]
pub(crate) struct DatabaseView {
    /// Every manifest that is the newest or a checkpoint's, with the files of rows that it lists;
    /// `None`: it is not there.
    pub(crate) manifests: BTreeMap<u64, Option<BTreeMap<String, RowFile>>>,
    /// Manifests of named checkpoints.
    pub(crate) named: BTreeMap<Epoch, u64>,
    /// The newest manifest.
    pub(crate) newest: u64,
}

impl DatabaseView {
    /// Reads manifests; `None`: there is no database.
    pub(crate) async fn read(
        path: &str,
        store: &Arc<dyn ObjectStore>,
        deadline: Duration,
    ) -> Result<Option<DatabaseView>, PageError> {
        let doing = "reading manifests";
        let admin: Admin = AdminBuilder::new(path.to_owned(), store.clone()).build();
        let read = |id: Option<u64>| {
            let read = admin.read_manifest(id);
            within(deadline, doing, async move {
                read.await.map_err(PageError::of(doing))
            })
        };
        let Some(newest) = read(None).await? else {
            return Ok(None);
        };
        let mut view = DatabaseView {
            newest: newest.id(),
            ..DatabaseView::default()
        };
        for checkpoint in newest.checkpoints() {
            let id = checkpoint.manifest_id;
            if let Some(epoch) = checkpoint.name.as_deref().and_then(epoch_of) {
                view.named.insert(epoch, id);
            }
            if id != newest.id() && !view.manifests.contains_key(&id) {
                let manifest = read(Some(id)).await?;
                let files = manifest.map(|manifest| files(path, &manifest));
                view.manifests.insert(id, files);
            }
        }
        view.manifests
            .insert(newest.id(), Some(files(path, &newest)));
        Ok(Some(view))
    }
}

/// Where a manifest lies.
pub(crate) fn manifest_path(database: &str, id: u64) -> String {
    format!("{database}/manifest/{id:020}.manifest")
}

fn files(path: &str, manifest: &VersionedManifest) -> BTreeMap<String, RowFile> {
    let resolver = PathResolver::new(path.to_owned(), manifest);
    let views = manifest.all_sst_views();
    let file = |view: &slatedb::manifest::SsTableView| {
        let path = resolver.sst_path(&view.sst.id).to_string();
        let root = path.rsplitn(3, '/').nth(2).unwrap_or_default().to_owned();
        let id = view.sst.id;
        (path, RowFile { root, id })
    };
    views.map(file).collect()
}

/// Reads all of a file of rows: what is wrong with it, if something is.
///
/// # Errors
/// When it cannot be read.
pub(crate) async fn verify_rows(
    path: &str,
    file: &RowFile,
    store: &Arc<dyn ObjectStore>,
    deadline: Duration,
) -> Result<(), PageError> {
    let doing = "reading rows";
    let reader = SstReader::new(file.root.clone(), store.clone(), None, None);
    let open = async {
        let sst = reader.open(file.id.value()).await;
        sst.map_err(PageError::of(doing))
    };
    let sst = within(deadline, doing, open).await?;
    let info = sst.info();
    for (offset, length) in [
        (info.filter_offset, info.filter_len),
        (info.stats_offset, info.stats_len),
    ] {
        let location = Path::from(path);
        let read = async {
            let read = store.get_range(&location, offset..offset + length).await;
            read.map_err(|error| PageError::Unavailable {
                doing,
                why: error.to_string(),
            })
        };
        let bytes = match length {
            0 => continue,
            _ => within(deadline, doing, read).await?,
        };
        let (body, mut checksum) = bytes.split_at(bytes.len().saturating_sub(4));
        if checksum.len() < 4 || crc32fast::hash(body) != checksum.get_u32() {
            return Err(PageError::damaged(path, "a checksum does not match"));
        }
    }
    let index = async { sst.index().await.map_err(PageError::of(doing)) };
    let blocks = within(deadline, doing, index).await?.len();
    for block in 0..blocks {
        let read = async { sst.read_block(block).await.map_err(PageError::of(doing)) };
        for entry in within(deadline, doing, read).await? {
            let (ValueDeletable::Value(value) | ValueDeletable::Merge(value)) = entry.value else {
                continue;
            };
            let fine = match PageKey::decode(&entry.key) {
                Some(_) => Run::open(value).is_ok(),
                None => MetaRecord::decode(&entry.key, &value).is_some(),
            };
            if !fine {
                return Err(PageError::damaged(path, "a record does not decode"));
            }
        }
    }
    Ok(())
}
