//! Staging, the sender's side: sections in chunks, and the objects that hold them.

use std::collections::VecDeque;

use bytes::{BufMut as _, Bytes, BytesMut};
use proto::{
    log::{LogHolding, LogObject},
    types::{Epoch, ShardId, SinkId, TaskId},
};
use rpc::state::{self, stage_part::Part};
use state_client::{Incarnation, Section};

use crate::caps::PART_BYTES;

/// A section whose bytes are made once, however often it is sent. Cheap to clone.
#[derive(Clone, Debug)]
pub struct EncodedSection {
    parts: Vec<Bytes>,
    bytes: u64,
}

impl EncodedSection {
    /// The section's bytes, sharing the memory of its rows and output.
    #[must_use]
    pub fn new(section: &Section) -> Self {
        let parts = section.encode_parts();
        let bytes = parts.iter().map(|part| part.len() as u64).sum();
        EncodedSection { parts, bytes }
    }

    /// How many bytes they are.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// What comes before the sections.
#[must_use]
pub fn encode_stage_head(
    who: Incarnation,
    epoch: Epoch,
    task: TaskId,
    tasks: u32,
    sections: &[EncodedSection],
) -> state::StageHead {
    state::StageHead {
        job: who.job.0,
        generation: who.generation.0,
        epoch: epoch.0,
        task: task.0,
        tasks,
        section_bytes: sections.iter().map(|section| section.bytes).collect(),
    }
}

/// Head and sections, part by part.
#[derive(Debug)]
pub struct StageParts {
    head: Option<state::StageHead>,
    bytes: VecDeque<Bytes>,
}

impl StageParts {
    /// The parts of what is staged; `head` is that of `sections`.
    #[must_use]
    pub fn new(head: state::StageHead, sections: &[EncodedSection]) -> Self {
        let bytes = sections.iter().flat_map(|section| &section.parts);
        let bytes = bytes.filter(|part| !part.is_empty()).cloned().collect();
        StageParts {
            head: Some(head),
            bytes,
        }
    }

    /// The next chunk; `None` at the end.
    fn chunk(&mut self) -> Option<Bytes> {
        let first = self.bytes.front_mut()?;
        if first.len() >= PART_BYTES {
            let chunk = first.split_to(PART_BYTES);
            if first.is_empty() {
                self.bytes.pop_front();
            }
            return Some(chunk);
        }
        let mut chunk = BytesMut::with_capacity(PART_BYTES);
        while let Some(part) = self.bytes.front_mut()
            && chunk.len() < PART_BYTES
        {
            chunk.put(part.split_to(part.len().min(PART_BYTES - chunk.len())));
            if part.is_empty() {
                self.bytes.pop_front();
            }
        }
        Some(chunk.freeze())
    }
}

impl Iterator for StageParts {
    type Item = state::StagePart;

    fn next(&mut self) -> Option<state::StagePart> {
        let part = match self.head.take() {
            Some(head) => Part::Head(head),
            None => Part::Chunk(self.chunk()?),
        };
        Some(state::StagePart { part: Some(part) })
    }
}

/// The objects that hold what was staged.
#[must_use]
pub fn encode_stage_reply(objects: Vec<LogObject>) -> state::StageReply {
    state::StageReply {
        objects: objects.into_iter().map(encode_object).collect(),
    }
}

/// What [`encode_stage_reply`] made.
#[must_use]
pub fn decode_stage_reply(reply: state::StageReply) -> Vec<LogObject> {
    reply.objects.into_iter().map(decode_object).collect()
}

pub(crate) fn encode_object(object: LogObject) -> state::LogObject {
    let (shards, sinks) = match object.holds {
        LogHolding::Rows(shards) => (shards, Vec::new()),
        LogHolding::Output(sinks) => (Vec::new(), sinks),
    };
    state::LogObject {
        name: object.name,
        shards: shards.into_iter().map(|shard| shard.0).collect(),
        bytes: object.bytes,
        sinks: sinks.into_iter().map(|sink| sink.0).collect(),
    }
}

pub(crate) fn decode_object(object: state::LogObject) -> LogObject {
    LogObject {
        name: object.name,
        bytes: object.bytes,
        holds: match object.sinks.is_empty() {
            true => LogHolding::Rows(object.shards.into_iter().map(ShardId).collect()),
            false => LogHolding::Output(object.sinks.into_iter().map(SinkId).collect()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_come_back() {
        let object = |name: &str, holds| LogObject {
            name: name.to_owned(),
            bytes: u64::MAX,
            holds,
        };
        let objects = vec![
            object("a", LogHolding::Rows(vec![ShardId(0), ShardId(3)])),
            object("b", LogHolding::Output(vec![SinkId(0)])),
        ];
        let reply = encode_stage_reply(objects.clone());
        assert_eq!(decode_stage_reply(reply), objects);
    }
}
