//! What a copy says of itself: whose it is before there is more, what it consists of in the end.
//!
//! Each is an object of two lines, one of JSON and the checksum of that line.

use std::collections::BTreeMap;

use bytes::Bytes;
use proto::transfer::{ExportSource, Exported, StateShape};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{TransferError, depot::Depot, fatal};

/// Version of everything below the place.
pub(super) const FORMAT: u32 = 1;
/// Whose copy it is.
pub(super) const CLAIM: &str = "export.json";
/// What it is, and what it consists of.
pub(super) const LIST: &str = "savepoint.json";

/// Whose copy is at a place.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Claim {
    pub(super) format: u32,
    pub(super) source: ExportSource,
    pub(super) shape: StateShape,
}

/// A file of a copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct PartFile {
    pub(super) bytes: u64,
    pub(super) crc32: u32,
}

/// What a copy is, and what it consists of.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct FileList {
    pub(super) format: u32,
    /// Version of who wrote it.
    pub(super) millstream: String,
    pub(super) source: ExportSource,
    pub(super) shape: StateShape,
    /// Bytes of all parts.
    pub(super) bytes: u64,
    /// Parts of each shard, in order.
    pub(super) parts: BTreeMap<u32, Vec<PartFile>>,
    /// The job's description.
    pub(super) job: Value,
}

impl FileList {
    pub(super) fn exported(&self, checksum: u32) -> Exported {
        Exported {
            source: self.source.clone(),
            shape: self.shape,
            job: self.job.to_string(),
            bytes: self.bytes,
            checksum,
        }
    }

    /// Whether all files are there, as long as they should be.
    pub(super) fn check(
        &self,
        depot: &Depot,
        listed: &BTreeMap<String, u64>,
    ) -> Result<(), TransferError> {
        for (shard, parts) in &self.parts {
            for (number, part) in parts.iter().enumerate() {
                let name = part_name(*shard, number as u64);
                match listed.get(&name) {
                    Some(bytes) if *bytes == part.bytes => {}
                    Some(bytes) => {
                        let (name, wanted) = (depot.name(&name), part.bytes);
                        return Err(fatal(format!(
                            "{name} is damaged: it has {bytes} bytes, not {wanted}. Export again"
                        )));
                    }
                    None => {
                        let name = depot.name(&name);
                        return Err(fatal(format!("{name} is missing. Export again")));
                    }
                }
            }
        }
        let shards: Vec<u32> = (0..self.shape.shards).collect();
        match shards == self.parts.keys().copied().collect::<Vec<_>>() {
            true => Ok(()),
            false => Err(fatal(format!("{} lacks shards", depot.name(LIST)))),
        }
    }
}

/// Where a part lies.
pub(super) fn part_name(shard: u32, number: u64) -> String {
    format!("{}/{number:08}.part", shard_folder(shard))
}

/// Where the parts of a shard lie.
pub(super) fn shard_folder(shard: u32) -> String {
    format!("shards/{shard:05}")
}

/// Two lines.
pub(super) fn encode(what: &impl Serialize) -> (Bytes, u32) {
    let mut bytes = serde_json::to_vec(what).expect("plain data");
    let crc32 = crc32fast::hash(&bytes);
    bytes.extend(format!("\n{crc32:08x}\n").bytes());
    (bytes.into(), crc32)
}

/// What is read of any format.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

/// Reads two lines; `Err`: what is wrong with them.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, u32), String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "is damaged: it is no text")?;
    let mut lines = text.lines();
    let (line, checksum) = (lines.next().unwrap_or_default(), lines.next());
    let crc32 = crc32fast::hash(line.as_bytes());
    let checksum = checksum.and_then(|checksum| u32::from_str_radix(checksum, 16).ok());
    if checksum != Some(crc32) {
        return Err("is damaged: its checksum does not match".to_owned());
    }
    let damaged = |error: serde_json::Error| format!("is damaged: {error}");
    let Format { format } = serde_json::from_str(line).map_err(damaged)?;
    if format > FORMAT {
        return Err(format!(
            "was made by a newer version of Millstream (format {format}, this one knows {FORMAT}): use \
             that version"
        ));
    }
    let read = serde_json::from_str(line).map_err(damaged)?;
    Ok((read, crc32))
}

/// What is at a place, if something is.
pub(super) async fn read<T: DeserializeOwned>(
    depot: &Depot,
    name: &str,
) -> Result<Option<(T, u32)>, TransferError> {
    let Some(bytes) = depot.get(name).await? else {
        return Ok(None);
    };
    let read = decode(&bytes);
    read.map(Some)
        .map_err(|why| fatal(format!("{} {why}", depot.name(name))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_formats_and_damage_are_told_apart() {
        let (bytes, crc32) = encode(&serde_json::json!({"format": 1}));
        assert_eq!(
            bytes[..],
            *format!("{{\"format\":1}}\n{crc32:08x}\n").as_bytes()
        );
        assert!(decode::<Value>(&bytes).is_ok());
        let (newer, _) = encode(&serde_json::json!({"format": 2, "other": []}));
        let why = decode::<FileList>(&newer).expect_err("newer");
        assert!(why.starts_with("was made by a newer version"), "{why}");
        let damaged = [&bytes[..2], b"x", &bytes[3..]].concat();
        for damaged in [&damaged[..], b"", b"{}", b"{}\nzz"] {
            let why = decode::<Value>(damaged).expect_err("damaged");
            assert!(why.starts_with("is damaged"), "{why}");
        }
    }

    #[test]
    fn names_are_fixed() {
        assert_eq!(part_name(3, 17), "shards/00003/00000017.part");
    }
}
