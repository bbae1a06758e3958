//! The files of a table as one that is looked up: all of them are read.

use std::ops::ControlFlow;

use arrow::array::RecordBatch;
use engine::{lookup::LookupSource, source::SourceError};
use proto::{plan::FilesystemSpec, types::Field};

use super::{partition::split_fields, reader::FileReader, source::FileSource};
use crate::format::open_decoder;

/// Rows that are read at once.
const BATCH_ROWS: usize = 8192;

/// The files of a table.
pub(crate) struct FileLookup {
    source: FileSource,
    reload_ms: u64,
}

impl FileLookup {
    pub(crate) fn new(spec: &FilesystemSpec, fields: &[Field]) -> Result<FileLookup, SourceError> {
        let (in_file, _) = split_fields(fields, &spec.partition_by);
        if open_decoder(spec.format.as_ref(), &in_file)?.is_changelog() {
            return Err(SourceError::Unsupported(
                "files of changes cannot be looked up: they say what was, not what is".to_owned(),
            ));
        }
        Ok(FileLookup {
            source: FileSource::new(spec, fields)?,
            reload_ms: spec.lookup_reload_ms,
        })
    }
}

impl LookupSource for FileLookup {
    fn read(
        &self,
        take: &mut dyn FnMut(RecordBatch) -> ControlFlow<()>,
    ) -> Result<u64, SourceError> {
        let mut skipped = 0;
        for split in self.source.list()? {
            let mut reader: FileReader = self.source.open_file(&split, None)?;
            while let Some(batch) = reader.read(BATCH_ROWS)? {
                if take(batch.rows).is_break() {
                    return Ok(skipped);
                }
                skipped += reader.take_skipped();
            }
            skipped += reader.take_skipped();
        }
        Ok(skipped)
    }

    fn reload_ms(&self) -> Option<u64> {
        (self.reload_ms > 0).then_some(self.reload_ms)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use proto::plan::{CsvFormat, DebeziumJsonFormat, FormatSpec, JsonFormat, format_spec::Format};

    use super::*;
    use crate::testing::{fields, lines};

    fn lookup(path: &Path, format: Format) -> Result<FileLookup, SourceError> {
        let spec = FilesystemSpec {
            path: path.to_str().unwrap().to_owned(),
            format: Some(FormatSpec {
                format: Some(format),
            }),
            partition_by: vec!["day".to_owned()],
            lookup_reload_ms: 5,
            ..Default::default()
        };
        FileLookup::new(&spec, &fields("k BIGINT, day STRING"))
    }

    fn json(ignore_parse_errors: bool) -> Format {
        Format::Json(JsonFormat {
            ignore_parse_errors,
            ..Default::default()
        })
    }

    /// Rows in the order of the files, and how many records were left out.
    fn read(lookup: &FileLookup) -> Result<(Vec<String>, u64), SourceError> {
        let mut batches = Vec::new();
        let skipped = lookup.read(&mut |batch| {
            batches.push(engine::ChangeBatch::inserts(batch));
            ControlFlow::Continue(())
        })?;
        Ok((lines(&fields("k BIGINT, day STRING"), &batches), skipped))
    }

    #[test]
    fn all_files_are_read_as_they_are_now() {
        let root = tempfile::tempdir().unwrap();
        let file = |day: &str| {
            let folder = root.path().join(format!("day={day}"));
            fs::create_dir_all(&folder).unwrap();
            folder.join("part.json")
        };
        fs::write(file("mon"), "{\"k\":1}\n{\"k\":2}\n").unwrap();
        let table = lookup(root.path(), json(false)).unwrap();
        let mon = [
            r#"+I {"k":1,"day":"mon"}"#.to_owned(),
            r#"+I {"k":2,"day":"mon"}"#.to_owned(),
        ];
        assert_eq!(read(&table).unwrap(), (mon.to_vec(), 0));
        assert_eq!(table.reload_ms(), Some(5));
        fs::write(file("tue"), "{\"k\":3}").unwrap();
        fs::remove_file(file("mon")).unwrap();
        let tue = vec![r#"+I {"k":3,"day":"tue"}"#.to_owned()];
        assert_eq!(read(&table).unwrap(), (tue, 0));
        let mut batches = 0;
        let enough = table.read(&mut |_| {
            batches += 1;
            ControlFlow::Break(())
        });
        assert_eq!((enough.unwrap(), batches), (0, 1));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let root = tempfile::tempdir().unwrap();
        let gone = lookup(&root.path().join("gone"), json(false)).unwrap();
        let error = read(&gone).unwrap_err().to_string();
        assert!(error.contains("gone`: No such file"), "{error}");
        let folder = root.path().join("day=mon");
        fs::create_dir(&folder).unwrap();
        fs::write(
            folder.join("part.json"),
            "{\"k\":1}\n{\"k\":\"x\"}\nnonsense\n",
        )
        .unwrap();
        let error = read(&lookup(root.path(), json(false)).unwrap()).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("day=mon/part.json` at record 2"), "{error}");
        let (rows, skipped) = read(&lookup(root.path(), json(true)).unwrap()).unwrap();
        assert_eq!(skipped, 1, "{rows:?}");
    }

    #[test]
    fn csv_files_can_be_looked_up_and_changes_cannot() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("day=mon");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("part.csv"), "7\n8\n").unwrap();
        let csv = Format::Csv(CsvFormat {
            field_delimiter: ",".to_owned(),
            quote_character: "\"".to_owned(),
            ..Default::default()
        });
        assert_eq!(read(&lookup(root.path(), csv).unwrap()).unwrap().0.len(), 2);
        let changes = Format::DebeziumJson(DebeziumJsonFormat::default());
        let error = lookup(root.path(), changes).err().unwrap().to_string();
        assert!(error.contains("say what was, not what is"), "{error}");
    }
}
