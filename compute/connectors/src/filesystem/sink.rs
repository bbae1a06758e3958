//! The writing side: rows to staged lines.

use engine::{
    ChangeBatch,
    sink::{Publisher, Sink, SinkError, SinkWriter},
};
use proto::{plan::FilesystemSpec, types::Field};

use super::{
    local_path,
    partition::{NULL_PARTITION, escape, split_fields},
    publish::{FilePublisher, WriterName, failed, make_directory},
    stage::Stage,
};
use crate::{
    SinkContext,
    format::{Encoder, extension, open_encoder},
    text::write_plain,
    value::Values,
};

/// A directory of files.
#[derive(Debug)]
pub(crate) struct FileSink {
    spec: FilesystemSpec,
    fields: Vec<Field>,
    writer: WriterName,
}

impl FileSink {
    pub(crate) fn new(
        spec: &FilesystemSpec,
        fields: &[Field],
        context: &SinkContext,
    ) -> Result<FileSink, SinkError> {
        local_path(&spec.path).map_err(SinkError::Unsupported)?;
        for name in &spec.partition_by {
            let field = fields.iter().find(|field| field.name == *name);
            let field = field.ok_or_else(|| {
                SinkError::Unsupported(format!("partition column `{name}` is not in the table"))
            })?;
            if !has_plain_text(&field.data_type.logical) {
                return Err(SinkError::Unsupported(format!(
                    "cannot partition by column `{name}` of type {}",
                    field.data_type
                )));
            }
        }
        let (in_file, _) = split_fields(fields, &spec.partition_by);
        open_encoder(spec.format.as_ref(), &in_file)?;
        Ok(FileSink {
            spec: spec.clone(),
            fields: fields.to_vec(),
            writer: WriterName {
                created_ms: context.created_ms,
                run: context.run,
                sink: context.sink,
            },
        })
    }
}

impl Sink for FileSink {
    fn writer(&self, _task_index: usize) -> Result<Box<dyn SinkWriter>, SinkError> {
        let (in_file, _) = split_fields(&self.fields, &self.spec.partition_by);
        let index_of = |name: &String| self.fields.iter().position(|field| field.name == *name);
        Ok(Box::new(FileWriter {
            encoder: open_encoder(self.spec.format.as_ref(), &in_file)?,
            fields: self.fields.clone(),
            partition_by: self.spec.partition_by.iter().filter_map(index_of).collect(),
            stage: Stage::default(),
        }))
    }

    fn publisher(&self) -> Result<Option<Box<dyn Publisher>>, SinkError> {
        let root = local_path(&self.spec.path).map_err(SinkError::Unsupported)?;
        if root.exists() && !root.is_dir() {
            return Err(SinkError::Refused {
                what: format!("`{}`", root.display()),
                cause: "it is a file, and a table is written into a directory".to_owned(),
            });
        }
        // What is wrong with the path shows now, not after the first checkpoint.
        make_directory(&root, &root).map_err(|error| failed(&root, &error))?;
        Ok(Some(Box::new(FilePublisher::new(
            root,
            self.writer,
            extension(self.spec.format.as_ref()),
            self.spec.rolling_bytes,
        ))))
    }
}

/// Encodes one task's rows.
struct FileWriter {
    encoder: Encoder,
    fields: Vec<Field>,
    /// Columns whose values name the directory.
    partition_by: Vec<usize>,
    stage: Stage,
}

impl SinkWriter for FileWriter {
    fn write(&mut self, batch: &ChangeBatch) -> Result<(), SinkError> {
        self.encoder.check_kinds(batch)?;
        let mut values = Values::of_columns(&self.fields, batch.rows.columns())
            .ok_or_else(crate::value::mismatch)?;
        let mut names = self.partition_by.clone();
        names.sort_unstable();
        let mut keys: Vec<(usize, Values<'_>)> = Vec::new();
        for index in names.into_iter().rev() {
            keys.push((index, values.remove(index)));
        }
        let order =
            |key: &(usize, Values<'_>)| self.partition_by.iter().position(|index| *index == key.0);
        keys.sort_by_key(order);
        let mut directory = String::new();
        for row in 0..batch.num_rows() {
            directory.clear();
            for (_, key) in &keys {
                push_directory(&mut directory, key, row);
            }
            let encoder = &self.encoder;
            self.stage.line(&directory, |out| {
                encoder.encode(&values, row, batch.kind(row), out)
            })?;
        }
        Ok(())
    }

    fn freeze(&mut self) -> Vec<u8> {
        self.stage.take()
    }

    fn buffered_bytes(&self) -> usize {
        self.stage.bytes()
    }
}

/// Appends `name=value/`.
fn push_directory(directory: &mut String, key: &Values<'_>, row: usize) {
    escape(directory, key.name);
    directory.push('=');
    let mut text = Vec::new();
    if !key.is_null(row) {
        write_plain(&mut text, &key.typed, row);
    }
    match std::str::from_utf8(&text) {
        Ok(text) if !text.is_empty() => escape(directory, text),
        _ => directory.push_str(NULL_PARTITION),
    }
    directory.push('/');
}

fn has_plain_text(logical: &proto::types::LogicalType) -> bool {
    use proto::types::LogicalType::{Array, Binary, Map, Multiset, Null, Row, Varbinary};
    !matches!(
        logical,
        Array(_) | Binary(_) | Map(_, _) | Multiset(_) | Null | Row(_) | Varbinary(_)
    )
}
