//! A section: what one task changed in one shard in one epoch. The unit that is staged and
//! committed; its bytes are the same wherever it is staged again.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message as _;
use proto::{
    state::{BlockHeader, LowWaterMark, SectionHeader, StagedHeader},
    types::{Epoch, Generation, JobId, KeyGroup, ShardId, SinkId, TableId, TaskId},
};
use serde::{Deserialize, Serialize};

use crate::page::RunError;

const VERSION: u32 = 1;

/// Why bytes are not a section.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SectionError {
    /// The header does not decode.
    #[error("section header is damaged: {0}")]
    Header(String),
    /// Made by another version.
    #[error("section has version {0}, this build reads {VERSION}")]
    Version(u32),
    /// Bytes are missing.
    #[error("section is cut short")]
    Short,
    /// A block's checksum does not match.
    #[error("section block of table {table} key group {key_group} is damaged")]
    Checksum {
        /// Table.
        table: u32,
        /// Key group.
        key_group: u32,
    },
    /// A block is not a run.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// A run of one (table, key group, namespace).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Block {
    /// State table.
    pub table: TableId,
    /// Key group.
    pub key_group: KeyGroup,
    /// Namespace; 0: none.
    pub namespace: i64,
    /// Encoded [`crate::page::Run`].
    pub run: Bytes,
}

/// Output for one publishing slot of a sink.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StagedOutput {
    /// Sink.
    pub sink: SinkId,
    /// Slot.
    pub slot: u32,
    /// What the sink's writer froze.
    pub bytes: Bytes,
}

/// What one task changed in one shard in one epoch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Section {
    /// Job.
    pub job: JobId,
    /// Generation that made it.
    pub generation: Generation,
    /// Epoch.
    pub epoch: Epoch,
    /// Task that made it.
    pub task: TaskId,
    /// Shard that it changes.
    pub shard: ShardId,
    /// Runs, sorted by (table, key group, namespace).
    pub blocks: Vec<Block>,
    /// Namespaces of (table, key group) below the mark are closed.
    pub low_water_marks: Vec<(TableId, KeyGroup, i64)>,
    /// Output to publish after the commit.
    pub staged: Vec<StagedOutput>,
}

impl Section {
    /// Whether the task changed nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty() && self.low_water_marks.is_empty() && self.staged.is_empty()
    }

    /// Bytes of rows and output.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.blocks
            .iter()
            .map(|block| block.run.len())
            .sum::<usize>()
            + self
                .staged
                .iter()
                .map(|output| output.bytes.len())
                .sum::<usize>()
    }

    /// Header length (u32), header, blocks, staged output.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let parts = self.encode_parts();
        let mut out = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
        parts.iter().for_each(|part| out.put_slice(part));
        out.freeze()
    }

    /// What [`Section::encode`] puts one after the other, sharing the memory of rows and output.
    #[must_use]
    pub fn encode_parts(&self) -> Vec<Bytes> {
        let header = self.header();
        let header_len = header.encoded_len();
        let mut out = BytesMut::with_capacity(4 + header_len);
        out.put_u32_le(header_len as u32);
        header.encode(&mut out).expect("a buffer that grows");
        let mut parts = Vec::with_capacity(1 + self.blocks.len() + self.staged.len());
        parts.push(out.freeze());
        parts.extend(self.blocks.iter().map(|block| block.run.clone()));
        parts.extend(self.staged.iter().map(|output| output.bytes.clone()));
        parts
    }

    fn header(&self) -> SectionHeader {
        let block = |block: &Block| BlockHeader {
            table: block.table.0,
            key_group: u32::from(block.key_group.0),
            namespace: block.namespace,
            rows: block
                .run
                .get(4..8)
                .map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])),
            length: block.run.len() as u32,
            crc32: crc32fast::hash(&block.run),
        };
        let staged = |output: &StagedOutput| StagedHeader {
            sink: output.sink.0,
            slot: output.slot,
            length: output.bytes.len() as u32,
            crc32: crc32fast::hash(&output.bytes),
        };
        let mark = |(table, group, open_from): &(TableId, KeyGroup, i64)| LowWaterMark {
            table: table.0,
            key_group: u32::from(group.0),
            open_from: *open_from,
        };
        SectionHeader {
            version: VERSION,
            job: self.job.0,
            generation: self.generation.0,
            epoch: self.epoch.0,
            task: self.task.0,
            shard: self.shard.0,
            blocks: self.blocks.iter().map(block).collect(),
            low_water_marks: self.low_water_marks.iter().map(mark).collect(),
            staged: self.staged.iter().map(staged).collect(),
        }
    }

    /// Reads a section, sharing the memory of `bytes`.
    ///
    /// # Errors
    /// When the bytes are not a whole, undamaged section of this version.
    pub fn decode(mut bytes: Bytes) -> Result<Section, SectionError> {
        let length = take(&mut bytes, 4)?;
        let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]);
        let header = SectionHeader::decode(take(&mut bytes, length as usize)?)
            .map_err(|error| SectionError::Header(error.to_string()))?;
        if header.version != VERSION {
            return Err(SectionError::Version(header.version));
        }
        let mut blocks = Vec::with_capacity(header.blocks.len());
        for block in &header.blocks {
            let run = take(&mut bytes, block.length as usize)?;
            if crc32fast::hash(&run) != block.crc32 {
                let (table, key_group) = (block.table, block.key_group);
                return Err(SectionError::Checksum { table, key_group });
            }
            blocks.push(Block {
                table: TableId(block.table),
                key_group: KeyGroup(block.key_group as u16),
                namespace: block.namespace,
                run,
            });
        }
        let mut staged = Vec::with_capacity(header.staged.len());
        for output in &header.staged {
            let bytes = take(&mut bytes, output.length as usize)?;
            if crc32fast::hash(&bytes) != output.crc32 {
                return Err(SectionError::Header(format!(
                    "output of sink {}",
                    output.sink
                )));
            }
            staged.push(StagedOutput {
                sink: SinkId(output.sink),
                slot: output.slot,
                bytes,
            });
        }
        let mark = |mark: &LowWaterMark| {
            (
                TableId(mark.table),
                KeyGroup(mark.key_group as u16),
                mark.open_from,
            )
        };
        Ok(Section {
            job: JobId(header.job),
            generation: Generation(header.generation),
            epoch: Epoch(header.epoch),
            task: TaskId(header.task),
            shard: ShardId(header.shard),
            blocks,
            low_water_marks: header.low_water_marks.iter().map(mark).collect(),
            staged,
        })
    }
}

fn take(bytes: &mut Bytes, length: usize) -> Result<Bytes, SectionError> {
    if bytes.len() < length {
        return Err(SectionError::Short);
    }
    Ok(bytes.split_to(length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::{RowRef, RunBuilder};

    fn section() -> Section {
        let mut run = RunBuilder::default();
        run.push(RowRef {
            hash: 1,
            identity: b"id",
            epoch: 9,
            value: Some(b"value"),
        });
        Section {
            job: JobId(1),
            generation: Generation(2),
            epoch: Epoch(9),
            task: TaskId(3),
            shard: ShardId(0),
            blocks: vec![Block {
                table: TableId(4),
                key_group: KeyGroup(5),
                namespace: -6,
                run: run.finish(),
            }],
            low_water_marks: vec![(TableId(4), KeyGroup(5), -7)],
            staged: vec![StagedOutput {
                sink: SinkId(0),
                slot: 1,
                bytes: Bytes::from_static(b"out"),
            }],
        }
    }

    #[test]
    fn round_trip() {
        assert_eq!(Section::decode(section().encode()), Ok(section()));
    }

    #[test]
    fn any_cut_and_any_flipped_payload_byte_is_noticed() {
        let bytes = section().encode();
        for length in 0..bytes.len() {
            assert!(Section::decode(bytes.slice(..length)).is_err(), "{length}");
        }
        for at in bytes.len() - section().payload_bytes()..bytes.len() {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 1;
            assert!(Section::decode(damaged.into()).is_err(), "{at}");
        }
    }
}
