//! Staging, the receiver's side: chunks become sections again. Pure.

use std::collections::{BTreeSet, VecDeque};

use bytes::{Bytes, BytesMut};
use proto::types::{Epoch, Generation, JobId, ShardId, TaskId};
use rpc::state;
use state_client::{EpochDelta, Incarnation, Section, StateError};

use crate::{Malformed, caps::PART_BYTES};

/// Takes a delta in, chunk by chunk.
#[derive(Debug)]
pub struct StageReceiver {
    who: Incarnation,
    delta: EpochDelta,
    /// Lengths of the sections that have not begun.
    lengths: VecDeque<u64>,
    /// The section that is coming and what it still lacks.
    begun: Option<(BytesMut, u64)>,
    shards: BTreeSet<ShardId>,
    bytes: usize,
}

/// Why a delta is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StageFault {
    /// The message makes no sense.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A section is damaged.
    #[error(transparent)]
    Damaged(#[from] StateError),
}

impl StageReceiver {
    /// Begins with the head.
    ///
    /// # Errors
    /// When its sections would not fit into any memory.
    pub fn new(head: state::StageHead) -> Result<Self, Malformed> {
        let add = |sum: usize, bytes: &u64| sum.checked_add(usize::try_from(*bytes).ok()?);
        let bytes = head.section_bytes.iter().try_fold(0, add);
        let bytes = bytes.ok_or_else(|| Malformed::new("sections beyond all memory"))?;
        if head.section_bytes.contains(&0) {
            return Err(Malformed::new("a section without bytes"));
        }
        Ok(StageReceiver {
            who: Incarnation {
                job: JobId(head.job),
                generation: Generation(head.generation),
            },
            delta: EpochDelta {
                epoch: Epoch(head.epoch),
                task: TaskId(head.task),
                tasks: head.tasks,
                sections: Vec::new(),
            },
            lengths: head.section_bytes.into(),
            begun: None,
            shards: BTreeSet::new(),
            bytes,
        })
    }

    /// Bytes of all sections.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes the next chunk.
    ///
    /// # Errors
    /// When there is more than the head said, or a section is damaged.
    pub fn push(&mut self, mut chunk: Bytes) -> Result<(), StageFault> {
        while !chunk.is_empty() {
            let Some((mut begun, lacks)) = self.begun.take() else {
                let length = self.lengths.pop_front();
                let length = length.ok_or_else(|| Malformed::new("more bytes than sections"))?;
                if length <= chunk.len() as u64 {
                    self.section(chunk.split_to(length as usize))?;
                } else {
                    // What comes is believed only as it comes.
                    let room = length.min(16 * PART_BYTES as u64) as usize;
                    self.begun = Some((BytesMut::with_capacity(room), length));
                }
                continue;
            };
            let taken = chunk.split_to(chunk.len().min(lacks.min(usize::MAX as u64) as usize));
            begun.extend_from_slice(&taken);
            match lacks - taken.len() as u64 {
                0 => self.section(begun.freeze())?,
                lacks => self.begun = Some((begun, lacks)),
            }
        }
        Ok(())
    }

    fn section(&mut self, bytes: Bytes) -> Result<(), StageFault> {
        let section = Section::decode(bytes).map_err(StateError::Corrupt)?;
        let delta = &self.delta;
        let is_of_head = section.job == self.who.job
            && section.generation == self.who.generation
            && section.epoch == delta.epoch
            && section.task == delta.task;
        if !is_of_head {
            return Err(Malformed::new("a section of another delta").into());
        }
        if !self.shards.insert(section.shard) {
            let what = format!("two sections of {}", section.shard);
            return Err(Malformed::new(what).into());
        }
        self.delta.sections.push(section);
        Ok(())
    }

    /// The delta.
    ///
    /// # Errors
    /// When something is missing.
    pub fn finish(self) -> Result<(Incarnation, EpochDelta), Malformed> {
        if self.begun.is_some() || !self.lengths.is_empty() {
            return Err(Malformed::new("sections that are cut short"));
        }
        Ok((self.who, self.delta))
    }
}

#[cfg(test)]
mod tests {
    use proto::types::{KeyGroup, SinkId, TableId};
    use rpc::state::{StagePart, stage_part::Part};
    use state_client::{
        Block, SectionError, StagedOutput,
        page::{RowRef, RunBuilder},
    };

    use super::*;
    use crate::{EncodedSection, StageParts, encode_stage_head};

    const WHO: Incarnation = Incarnation {
        job: JobId(1),
        generation: Generation(2),
    };

    fn section(shard: u32, bytes: usize) -> Section {
        let mut run = RunBuilder::default();
        run.push(RowRef {
            hash: 1,
            identity: b"id",
            epoch: 9,
            value: Some(&vec![shard as u8; bytes / 2]),
        });
        Section {
            job: WHO.job,
            generation: WHO.generation,
            epoch: Epoch(9),
            task: TaskId(3),
            shard: ShardId(shard),
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
                bytes: vec![shard as u8; bytes / 2].into(),
            }],
        }
    }

    fn sent(sections: &[Section]) -> (state::StageHead, Vec<Bytes>) {
        let encoded: Vec<_> = sections.iter().map(EncodedSection::new).collect();
        let head = encode_stage_head(WHO, Epoch(9), TaskId(3), 8, &encoded);
        let mut parts = StageParts::new(head.clone(), &encoded);
        let first = parts.next().expect("a head").part;
        assert_eq!(first, Some(Part::Head(head.clone())));
        let chunk = |part: StagePart| match part.part {
            Some(Part::Chunk(chunk)) => chunk,
            other => panic!("{other:?}"),
        };
        (head, parts.map(chunk).collect())
    }

    fn receive(head: state::StageHead, chunks: &[Bytes]) -> Result<EpochDelta, StageFault> {
        let mut receiver = StageReceiver::new(head)?;
        for chunk in chunks {
            receiver.push(chunk.clone())?;
        }
        let (who, delta) = receiver.finish()?;
        assert_eq!(who, WHO);
        Ok(delta)
    }

    #[test]
    fn deltas_of_any_size_come_back_in_bounded_chunks() {
        let shapes: [&[usize]; 4] = [
            &[],
            &[10],
            &[10, 100, 1000],
            &[7 << 20, 10, 3 << 20, 2 << 20],
        ];
        for shape in shapes {
            let shards = shape.iter().enumerate();
            let sections: Vec<_> = shards.map(|(i, bytes)| section(i as u32, *bytes)).collect();
            let (head, chunks) = sent(&sections);
            assert!(chunks.iter().all(|chunk| chunk.len() <= PART_BYTES));
            let total: usize = chunks.iter().map(Bytes::len).sum();
            assert!(chunks.len() <= 1 + 2 * total / PART_BYTES, "few and full");
            let delta = receive(head, &chunks).expect("received");
            assert_eq!(
                (delta.epoch, delta.task, delta.tasks),
                (Epoch(9), TaskId(3), 8)
            );
            assert!(delta.sections == sections);
        }
    }

    #[test]
    fn chunks_may_end_anywhere() {
        let sections = [section(0, 40), section(1, 60)];
        let (head, chunks) = sent(&sections);
        let bytes: Bytes = chunks.concat().into();
        for size in 1..bytes.len() {
            let pieces: Vec<Bytes> = bytes.chunks(size).map(Bytes::copy_from_slice).collect();
            let delta = receive(head.clone(), &pieces).expect("received");
            assert!(delta.sections == sections, "{size}");
        }
    }

    #[test]
    fn what_is_cut_or_too_long_or_damaged_is_refused() {
        let (head, chunks) = sent(&[section(0, 40), section(1, 60)]);
        let bytes: Bytes = chunks.concat().into();
        for length in 0..bytes.len() {
            let cut = receive(head.clone(), &[bytes.slice(..length)]);
            assert!(cut.is_err(), "{length}");
        }
        let more = [bytes.clone(), Bytes::from_static(b"x")];
        assert!(matches!(
            receive(head.clone(), &more),
            Err(StageFault::Malformed(_))
        ));
        let mut damaged = bytes.to_vec();
        *damaged.last_mut().expect("bytes") ^= 1;
        let refused = receive(head.clone(), &[damaged.into()]);
        assert!(matches!(
            refused,
            Err(StageFault::Damaged(StateError::Corrupt(
                SectionError::Header(_)
            )))
        ));
        let vast = state::StageHead {
            section_bytes: vec![u64::MAX, 1],
            ..head.clone()
        };
        assert!(StageReceiver::new(vast).is_err());
        let none = state::StageHead {
            section_bytes: vec![0],
            ..head
        };
        assert!(StageReceiver::new(none).is_err());
    }

    #[test]
    fn sections_of_another_delta_and_twins_are_refused() {
        let (head, chunks) = sent(&[section(0, 40)]);
        type Change = fn(&mut state::StageHead);
        let changes: [Change; 4] = [
            |head| head.job += 1,
            |head| head.generation += 1,
            |head| head.epoch += 1,
            |head| head.task += 1,
        ];
        for change in changes {
            let mut other = head.clone();
            change(&mut other);
            assert!(receive(other, &chunks).is_err());
        }
        let (head, chunks) = sent(&[section(0, 40), section(0, 40)]);
        assert!(receive(head, &chunks).is_err());
    }

    #[test]
    fn a_head_that_lies_costs_nothing() {
        let (head, chunks) = sent(&[section(0, 40)]);
        let lie = state::StageHead {
            section_bytes: vec![1 << 40],
            ..head
        };
        assert!(receive(lie, &chunks).is_err());
    }
}
