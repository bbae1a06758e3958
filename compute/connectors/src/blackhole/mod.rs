//! A sink that drops every row: for measuring everything before it.

use engine::{
    ChangeBatch,
    sink::{Publisher, Sink, SinkError, SinkWriter},
};

/// Drops rows.
#[derive(Debug)]
pub(crate) struct BlackholeSink;

impl Sink for BlackholeSink {
    fn writer(&self, _task_index: usize) -> Result<Box<dyn SinkWriter>, SinkError> {
        Ok(Box::new(BlackholeWriter))
    }

    fn publisher(&self) -> Result<Option<Box<dyn Publisher>>, SinkError> {
        Ok(None)
    }
}

struct BlackholeWriter;

impl SinkWriter for BlackholeWriter {
    fn write(&mut self, _batch: &ChangeBatch) -> Result<(), SinkError> {
        Ok(())
    }

    fn freeze(&mut self) -> Vec<u8> {
        Vec::new()
    }

    fn buffered_bytes(&self) -> usize {
        0
    }
}
