//! What the tests of several connectors need: columns from a type's text, sources read to their
//! end in any batch size, rows as lines.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use engine::{
    ChangeBatch,
    source::{DeadLetter, Source, SourceError, SplitEvent},
};
use futures::{FutureExt as _, executor::block_on, future::BoxFuture};
use proto::types::{DataType, Epoch, Field, Generation, LogicalType, RowKind, SinkId};

use crate::{CollectTarget, LineWriter, SinkContext, format::Encoder, value::Values};

/// `a INT, b STRING` as columns.
pub(crate) fn fields(columns: &str) -> Vec<Field> {
    let row: DataType = format!("ROW<{columns}>").parse().unwrap();
    match row.logical {
        LogicalType::Row(fields) => fields,
        _ => panic!("a row type"),
    }
}

/// A sink of a job that was created at a fixed time.
pub(crate) fn sink_context(run: u64, sink: u32) -> SinkContext {
    SinkContext {
        parallelism: 1,
        run,
        created_ms: 1_700_000_000_000,
        sink: SinkId(sink),
        print: Arc::new(Nowhere),
        collect: Arc::new(Nowhere),
    }
}

struct Nowhere;

impl LineWriter for Nowhere {
    fn write_lines(&self, _lines: &[u8], _standard_error: bool) -> std::io::Result<()> {
        Ok(())
    }
}

impl CollectTarget for Nowhere {
    fn deliver(
        &self,
        _generation: Generation,
        _epoch: Epoch,
        _slot: u32,
        _batches: Vec<ChangeBatch>,
    ) -> BoxFuture<'_, Result<(), String>> {
        std::future::ready(Ok(())).boxed()
    }
}

/// Everything that was read, split by split.
#[derive(Debug, Default)]
pub(crate) struct Read {
    pub(crate) batches: Vec<ChangeBatch>,
    pub(crate) dead_letters: Vec<DeadLetter>,
}

/// Reads a bounded source. With `reopen`, every reader gives one batch and is opened again at its
/// offset.
pub(crate) fn read(
    source: &dyn Source,
    max_rows: usize,
    reopen: bool,
) -> Result<Read, SourceError> {
    let mut all = Read::default();
    for split in block_on(source.splits(2))? {
        let mut reader = source.open(&split, None)?;
        let mut cx = Context::from_waker(std::task::Waker::noop());
        loop {
            let event = match reader.poll_next(&mut cx, max_rows) {
                Poll::Ready(event) => event?,
                Poll::Pending => continue,
            };
            all.dead_letters.extend(reader.take_dead_letters());
            match event {
                SplitEvent::Batch(batch) => all.batches.push(batch),
                SplitEvent::Finished => break,
            }
            if reopen {
                reader = source.open(&split, Some(&reader.offset()))?;
            }
        }
    }
    Ok(all)
}

/// Rows as `+I {"a":1}`, one line each.
pub(crate) fn lines(fields: &[Field], batches: &[ChangeBatch]) -> Vec<String> {
    let format = proto::plan::FormatSpec {
        format: Some(proto::plan::format_spec::Format::Json(
            proto::plan::JsonFormat {
                encode_decimal_as_plain_number: true,
                ..Default::default()
            },
        )),
    };
    let encoder = crate::format::open_encoder(Some(&format), fields).unwrap();
    let mut lines = Vec::new();
    for batch in batches {
        let values = Values::of_columns(fields, batch.rows.columns()).unwrap();
        for row in 0..batch.num_rows() {
            lines.push(line(&encoder, &values, row, batch.kind(row)));
        }
    }
    lines
}

fn line(encoder: &Encoder, values: &[Values<'_>], row: usize, kind: RowKind) -> String {
    let mut out = Vec::new();
    encoder.encode(values, row, kind, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    format!("{} {}", kind.symbol(), text.trim_end())
}
