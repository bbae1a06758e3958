//! The reading side: files to splits, splits to readers.

use std::{path::PathBuf, sync::Arc};

use engine::source::{ReadOrder, Source, SourceError, Split, SplitReader};
use futures::{FutureExt as _, future::BoxFuture};
use proto::{plan::FilesystemSpec, types::Field};

use super::{
    failed,
    list::data_files,
    local_path,
    partition::split_fields,
    reader::FileReader,
    row_sizes::RowSizes,
    split::{FileSplit, Offset, RANGE_BYTES},
};
use crate::format::open_decoder;

/// Files that a task reads at once: more need memory and descriptors, and make nothing faster.
const FILES_OPEN_MAX: usize = 4;

/// The files of a table.
pub(crate) struct FileSource {
    spec: FilesystemSpec,
    fields: Vec<Field>,
    root: PathBuf,
    range_bytes: Option<u64>,
    order: ReadOrder,
    /// Of what its readers have read.
    sizes: Arc<RowSizes>,
}

impl FileSource {
    pub(crate) fn new(spec: &FilesystemSpec, fields: &[Field]) -> Result<FileSource, SourceError> {
        let root = local_path(&spec.path).map_err(SourceError::Unsupported)?;
        let (in_file, _) = split_fields(fields, &spec.partition_by);
        let decoder = open_decoder(spec.format.as_ref(), &in_file)?;
        let range_bytes = decoder.may_cut().then_some(RANGE_BYTES);
        let order = match decoder.is_changelog() {
            true => ReadOrder::OneByOne,
            false => ReadOrder::InTurns(FILES_OPEN_MAX),
        };
        Ok(FileSource {
            order,
            spec: spec.clone(),
            fields: fields.to_vec(),
            root,
            range_bytes,
            sizes: Arc::default(),
        })
    }

    pub(super) fn open_file(
        &self,
        split: &Split,
        offset: Option<&[u8]>,
    ) -> Result<FileReader, SourceError> {
        let sizes = Arc::clone(&self.sizes);
        FileReader::open(&self.spec, &self.fields, split, offset, sizes)
    }

    pub(super) fn list(&self) -> Result<Vec<Split>, SourceError> {
        let files = data_files(&self.root)
            .map_err(|(path, error)| failed(format!("`{}`", path.display()), &error))?;
        let mut splits = Vec::new();
        for file in &files {
            let shown = file.path.display();
            if let Some("gz" | "bz2" | "xz" | "zst" | "zip") = file
                .path
                .extension()
                .and_then(|extension| extension.to_str())
            {
                return Err(SourceError::Unsupported(format!(
                    "cannot read `{shown}`: compressed files are not supported, unpack it first"
                )));
            }
            let cut = FileSplit::cut(file, self.range_bytes).ok_or_else(|| {
                SourceError::Unsupported(format!("cannot read `{shown}`: its name is not UTF-8"))
            })?;
            splits.extend(cut.iter().map(FileSplit::to_split));
        }
        Ok(splits)
    }

    #[cfg(test)]
    pub(super) fn with_range_bytes(mut self, range_bytes: u64) -> FileSource {
        self.range_bytes = Some(range_bytes);
        self
    }
}

impl Source for FileSource {
    fn splits(&self, _parallelism: usize) -> BoxFuture<'_, Result<Vec<Split>, SourceError>> {
        async { self.list() }.boxed()
    }

    fn read_order(&self) -> ReadOrder {
        self.order
    }

    fn open(
        &self,
        split: &Split,
        offset: Option<&[u8]>,
    ) -> Result<Box<dyn SplitReader>, SourceError> {
        Ok(Box::new(self.open_file(split, offset)?))
    }

    fn lag_rows(&self, split: &Split, offset: Option<&[u8]>) -> Option<u64> {
        let (start, end) = FileSplit::range(split)?;
        let position = match offset {
            Some(offset) => Offset::from_bytes(offset)?.position,
            None => start,
        };
        self.sizes.rows_between(position, end)
    }
}
