//! An object of the log before it is written: parts that share the memory of what was staged, and
//! a footer that says where each lies.

use std::collections::BTreeSet;

use bytes::Bytes;
use object_store::PutPayload;
use proto::{
    log::LogHolding,
    state::{LogFooter, LogOutput, LogRange, LogSection},
    types::{Epoch, Generation, JobId, ShardId, SinkId},
};
use state_client::Section;

use super::{footer, name::Origin};

/// An object to be written.
#[derive(Clone, Debug)]
pub(crate) struct NewObject {
    pub(crate) payload: PutPayload,
    pub(crate) bytes: u64,
    pub(crate) holds: LogHolding,
}

/// What one task staged for one publishing slot of a sink.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Piece {
    pub(crate) generation: Generation,
    pub(crate) epoch: Epoch,
    pub(crate) sink: SinkId,
    pub(crate) slot: u32,
    pub(crate) task: u32,
    pub(crate) bytes: Bytes,
}

/// Lays sections out one after the other, those of one shard together; each without its output.
pub(crate) fn rows_object(job: JobId, origin: Origin, sections: &[Section]) -> NewObject {
    let mut order: Vec<&Section> = sections.iter().collect();
    order.sort_by_key(|section| (section.shard, section.task));
    let mut layout = Layout::new(job, origin);
    let mut shards: Vec<ShardId> = Vec::new();
    for section in order {
        let rows = Section {
            staged: Vec::new(),
            ..section.clone()
        };
        let range = layout.push(rows.encode_parts());
        layout.footer.sections.push(LogSection {
            task: section.task.0,
            shard: section.shard.0,
            range: Some(range),
        });
        if shards.last() != Some(&section.shard) {
            shards.push(section.shard);
        }
    }
    layout.finish(LogHolding::Rows(shards))
}

/// Lays pieces of output out one after the other.
pub(crate) fn output_object(job: JobId, origin: Origin, pieces: &[Piece]) -> NewObject {
    let mut order: Vec<&Piece> = pieces.iter().collect();
    order.sort_by_key(|piece| (piece.sink, piece.slot, piece.task));
    let mut layout = Layout::new(job, origin);
    let sinks: BTreeSet<SinkId> = order.iter().map(|piece| piece.sink).collect();
    for piece in order {
        let range = layout.push(vec![piece.bytes.clone()]);
        layout.footer.outputs.push(LogOutput {
            sink: piece.sink.0,
            slot: piece.slot,
            task: piece.task,
            range: Some(range),
        });
    }
    layout.finish(LogHolding::Output(sinks.into_iter().collect()))
}

struct Layout {
    parts: Vec<Bytes>,
    at: u64,
    footer: LogFooter,
}

impl Layout {
    fn new(job: JobId, origin: Origin) -> Self {
        Layout {
            parts: Vec::new(),
            at: 0,
            footer: LogFooter {
                job: job.0,
                generation: origin.generation.0,
                epoch: origin.epoch.0,
                ..LogFooter::default()
            },
        }
    }

    fn push(&mut self, parts: Vec<Bytes>) -> LogRange {
        let mut crc = crc32fast::Hasher::new();
        let mut length = 0;
        for part in &parts {
            crc.update(part);
            length += part.len() as u64;
        }
        let range = LogRange {
            offset: self.at,
            length,
            crc32: crc.finalize(),
        };
        self.at += length;
        self.parts
            .extend(parts.into_iter().filter(|part| !part.is_empty()));
        range
    }

    fn finish(mut self, holds: LogHolding) -> NewObject {
        let footer = footer::encode(&self.footer);
        let bytes = self.at + footer.len() as u64;
        self.parts.push(footer);
        NewObject {
            payload: PutPayload::from_iter(self.parts),
            bytes,
            holds,
        }
    }
}
