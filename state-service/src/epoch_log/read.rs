//! Reading sections and output back by the footers of their objects.

use std::ops::Range;

use bytes::Bytes;
use object_store::ObjectStoreExt as _;
use proto::{
    log::LogObject,
    state::{LogFooter, LogOutput, LogRange},
    types::{Epoch, Generation, JobId, ShardId, SinkId},
};
use state_client::Section;

use super::{
    EpochLog, LogError, Piece,
    footer::{self, TRAILER_BYTES},
};
use crate::{
    caps::{ATTEMPTS_MAX, FOOTER_READ_BYTES, WHOLE_READ_BYTES},
    objects::{Patience, Trouble},
};

/// The end of an object, or all of it.
struct End {
    footer: LogFooter,
    /// Where in the object `bytes` begins.
    at: u64,
    bytes: Bytes,
}

impl EpochLog {
    /// Sections of a shard in an object.
    pub(crate) async fn sections(
        &self,
        job: JobId,
        object: &LogObject,
        epoch: Epoch,
        shard: ShardId,
    ) -> Result<Vec<Section>, LogError> {
        let read = || async {
            let end = self.end(job, object).await?;
            check_origin(&end.footer, job, epoch, object)?;
            let wanted = end.footer.sections.iter().filter(|s| s.shard == shard.0);
            let ranges: Vec<LogRange> = wanted.filter_map(|section| section.range).collect();
            let bytes = self.ranges(job, object, &end, &ranges).await?;
            let decode = |bytes: Bytes| {
                let section = Section::decode(bytes);
                let section = section.map_err(|error| damaged(object, &error.to_string()))?;
                if section.shard != shard || section.epoch != epoch {
                    return Err(damaged(object, "a section of another shard or epoch"));
                }
                Ok(section)
            };
            bytes.into_iter().map(decode).collect()
        };
        let patience = Patience::Attempts(ATTEMPTS_MAX);
        Ok(self
            .objects
            .repeat("reading the epoch log", patience, read)
            .await?)
    }

    /// Output for a sink in an object.
    pub(crate) async fn pieces(
        &self,
        job: JobId,
        object: &LogObject,
        epoch: Epoch,
        sink: SinkId,
    ) -> Result<Vec<Piece>, LogError> {
        let read = || async {
            let end = self.end(job, object).await?;
            check_origin(&end.footer, job, epoch, object)?;
            let of_sink = end.footer.outputs.iter().filter(|o| o.sink == sink.0);
            let wanted: Vec<(LogOutput, LogRange)> = of_sink
                .filter_map(|output| Some((*output, output.range?)))
                .collect();
            let ranges: Vec<LogRange> = wanted.iter().map(|(_, range)| *range).collect();
            let bytes = self.ranges(job, object, &end, &ranges).await?;
            let piece = |((output, _), bytes): ((LogOutput, LogRange), Bytes)| Piece {
                generation: Generation(end.footer.generation),
                epoch,
                sink,
                slot: output.slot,
                task: output.task,
                bytes,
            };
            Ok(wanted.into_iter().zip(bytes).map(piece).collect())
        };
        let patience = Patience::Attempts(ATTEMPTS_MAX);
        Ok(self
            .objects
            .repeat("reading output", patience, read)
            .await?)
    }

    /// Reads all of an object and compares it with its checksums.
    pub(crate) async fn verify(&self, job: JobId, object: &LogObject) -> Result<(), LogError> {
        let read = || async {
            let end = self.end(job, object).await?;
            if end.footer.job != job.0 {
                return Err(damaged(object, "it is of another job"));
            }
            let sections = end
                .footer
                .sections
                .iter()
                .filter_map(|section| section.range);
            for range in sections {
                let bytes = self.ranges(job, object, &end, &[range]).await?;
                for bytes in bytes {
                    let decoded = Section::decode(bytes);
                    decoded.map_err(|error| damaged(object, &error.to_string()))?;
                }
            }
            let outputs = end.footer.outputs.iter().filter_map(|output| output.range);
            for range in outputs {
                self.ranges(job, object, &end, &[range]).await?;
            }
            Ok(())
        };
        let patience = Patience::Attempts(ATTEMPTS_MAX);
        Ok(self
            .objects
            .repeat("reading the epoch log", patience, read)
            .await?)
    }

    async fn get(&self, job: JobId, name: &str, range: Range<u64>) -> Result<Bytes, Trouble> {
        let length = range.end - range.start;
        let path = self.path(job, name);
        let bytes = self.objects.store.get_range(&path, range).await?;
        if bytes.len() as u64 != length {
            return Err(Trouble::Damaged(format!(
                "{path} was cut while it was read"
            )));
        }
        Ok(bytes)
    }

    /// The object's footer; a small object is read whole.
    async fn end(&self, job: JobId, object: &LogObject) -> Result<End, Trouble> {
        let LogObject {
            name, bytes: size, ..
        } = object;
        if *size < TRAILER_BYTES as u64 {
            return Err(damaged(object, "it is too short"));
        }
        let mut at = if *size <= WHOLE_READ_BYTES {
            0
        } else {
            size - FOOTER_READ_BYTES
        };
        let mut bytes = self.get(job, name, at..*size).await?;
        let length = footer::length(&bytes).map_err(|e| damaged(object, &e.to_string()))?;
        if length > bytes.len() {
            at = size
                .checked_sub(length as u64)
                .ok_or_else(|| damaged(object, "its footer is longer than the object"))?;
            bytes = self.get(job, name, at..*size).await?;
        }
        let footer = footer::decode(&bytes, *size);
        let footer = footer.map_err(|error| damaged(object, &error.to_string()))?;
        Ok(End { footer, at, bytes })
    }

    /// Bytes of ranges, checked; ranges that follow each other in one request.
    async fn ranges(
        &self,
        job: JobId,
        object: &LogObject,
        end: &End,
        ranges: &[LogRange],
    ) -> Result<Vec<Bytes>, Trouble> {
        let mut found = Vec::with_capacity(ranges.len());
        let follow = |a: &LogRange, b: &LogRange| a.offset + a.length == b.offset;
        for group in ranges.chunk_by(follow) {
            let [first, ..] = group else { continue };
            let length: u64 = group.iter().map(|range| range.length).sum();
            let whole = first.offset..first.offset + length;
            let bytes = if whole.start >= end.at {
                let start = (whole.start - end.at) as usize;
                end.bytes.slice(start..start + length as usize)
            } else {
                self.get(job, &object.name, whole).await?
            };
            for range in group {
                let start = (range.offset - first.offset) as usize;
                let part = bytes.slice(start..start + range.length as usize);
                if crc32fast::hash(&part) != range.crc32 {
                    return Err(damaged(object, "a checksum does not match"));
                }
                found.push(part);
            }
        }
        Ok(found)
    }
}

fn check_origin(
    footer: &LogFooter,
    job: JobId,
    epoch: Epoch,
    object: &LogObject,
) -> Result<(), Trouble> {
    if footer.job == job.0 && footer.epoch == epoch.0 {
        return Ok(());
    }
    Err(damaged(object, "it is of another job or epoch"))
}

fn damaged(object: &LogObject, why: &str) -> Trouble {
    Trouble::Damaged(format!("log object {}: {why}", object.name))
}
