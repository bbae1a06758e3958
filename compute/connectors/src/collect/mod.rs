//! Rows for the client that asked: staged as arrow streams, handed over after the commit.

mod stream;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use engine::{
    ChangeBatch,
    schema::arrow_schema,
    sink::{EpochOutput, Publisher, Sink, SinkError, SinkWriter},
};
use futures::{FutureExt as _, future::BoxFuture};
use proto::types::{Epoch, Field, Generation};

use stream::{StreamWriter, read_stream};

/// Takes the rows of a query, epoch by epoch.
pub trait CollectTarget: Send + Sync {
    /// One slot's rows of one committed epoch. After a crash the same (generation, epoch, slot)
    /// may come again, with the same rows: it must count once. Completes when there is room for
    /// more, so that a slow client holds its job back rather than filling the memory.
    ///
    /// # Errors
    /// When the client is gone; the text says so.
    fn deliver(
        &self,
        generation: Generation,
        epoch: Epoch,
        slot: u32,
        batches: Vec<ChangeBatch>,
    ) -> BoxFuture<'_, Result<(), String>>;
}

/// Collects rows.
pub(crate) struct CollectSink {
    schema: SchemaRef,
    target: Arc<dyn CollectTarget>,
}

impl CollectSink {
    pub(crate) fn new(fields: &[Field], target: Arc<dyn CollectTarget>) -> CollectSink {
        CollectSink {
            schema: arrow_schema(fields),
            target,
        }
    }
}

impl Sink for CollectSink {
    fn writer(&self, _task_index: usize) -> Result<Box<dyn SinkWriter>, SinkError> {
        Ok(Box::new(CollectWriter {
            stream: StreamWriter::new(self.schema.clone()),
        }))
    }

    fn publisher(&self) -> Result<Option<Box<dyn Publisher>>, SinkError> {
        Ok(Some(Box::new(CollectPublisher {
            target: self.target.clone(),
        })))
    }
}

struct CollectWriter {
    stream: StreamWriter,
}

impl SinkWriter for CollectWriter {
    fn write(&mut self, batch: &ChangeBatch) -> Result<(), SinkError> {
        self.stream.write(batch).map_err(|error| SinkError::Encode {
            column: "*".to_owned(),
            cause: error.to_string(),
        })
    }

    fn freeze(&mut self) -> Vec<u8> {
        self.stream.take()
    }

    fn buffered_bytes(&self) -> usize {
        self.stream.bytes()
    }
}

struct CollectPublisher {
    target: Arc<dyn CollectTarget>,
}

impl Publisher for CollectPublisher {
    fn publish(&mut self, output: EpochOutput) -> BoxFuture<'_, Result<(), SinkError>> {
        let target = &self.target;
        async move {
            let failed = |cause: String| SinkError::Io {
                what: "rows to the client".to_owned(),
                cause,
            };
            let mut batches = Vec::new();
            for piece in &output.pieces {
                read_stream(piece, &mut batches).map_err(|error| failed(error.to_string()))?;
            }
            target
                .deliver(output.generation, output.epoch, output.slot, batches)
                .await
                .map_err(failed)
        }
        .boxed()
    }
}

#[cfg(test)]
mod collect_test;
