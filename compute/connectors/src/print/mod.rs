//! Rows as lines for people, `+I[1, apple]`, at once rather than after a commit: after a crash
//! rows may be printed twice.

mod row;

use std::sync::Arc;

use engine::{
    ChangeBatch,
    sink::{Publisher, Sink, SinkError, SinkWriter},
};
use proto::{plan::PrintSpec, types::Field};

use crate::{LineWriter, SinkContext, value::Values};

/// Prints rows.
pub(crate) struct PrintSink {
    spec: PrintSpec,
    fields: Vec<Field>,
    parallelism: usize,
    lines: Arc<dyn LineWriter>,
}

impl PrintSink {
    pub(crate) fn new(spec: &PrintSpec, fields: &[Field], context: &SinkContext) -> PrintSink {
        PrintSink {
            spec: spec.clone(),
            fields: fields.to_vec(),
            parallelism: context.parallelism,
            lines: context.print.clone(),
        }
    }

    /// What stands before each row: the identifier, and the task's number where there are several.
    fn prefix(&self, task_index: usize) -> String {
        let identifier = &self.spec.identifier;
        let task = task_index + 1;
        match (identifier.is_empty(), self.parallelism > 1) {
            (true, false) => String::new(),
            (true, true) => format!("{task}> "),
            (false, false) => format!("{identifier}> "),
            (false, true) => format!("{identifier}:{task}> "),
        }
    }
}

impl Sink for PrintSink {
    fn writer(&self, task_index: usize) -> Result<Box<dyn SinkWriter>, SinkError> {
        Ok(Box::new(PrintWriter {
            prefix: self.prefix(task_index),
            fields: self.fields.clone(),
            standard_error: self.spec.standard_error,
            lines: self.lines.clone(),
            buffer: Vec::new(),
        }))
    }

    fn publisher(&self) -> Result<Option<Box<dyn Publisher>>, SinkError> {
        Ok(None)
    }
}

struct PrintWriter {
    prefix: String,
    fields: Vec<Field>,
    standard_error: bool,
    lines: Arc<dyn LineWriter>,
    buffer: Vec<u8>,
}

impl SinkWriter for PrintWriter {
    fn write(&mut self, batch: &ChangeBatch) -> Result<(), SinkError> {
        let values = Values::of_columns(&self.fields, batch.rows.columns())
            .ok_or_else(crate::value::mismatch)?;
        self.buffer.clear();
        for row in 0..batch.num_rows() {
            self.buffer.extend_from_slice(self.prefix.as_bytes());
            row::write_row(&mut self.buffer, &values, row, batch.kind(row));
            self.buffer.push(b'\n');
        }
        self.lines
            .write_lines(&self.buffer, self.standard_error)
            .map_err(|error| SinkError::Io {
                what: "printed rows".to_owned(),
                cause: error.to_string(),
            })
    }

    fn freeze(&mut self) -> Vec<u8> {
        Vec::new()
    }

    fn buffered_bytes(&self) -> usize {
        0
    }
}

#[cfg(test)]
mod print_test;
