//! What a split and an offset are, as bytes.

use engine::source::Split;

use super::list::DataFile;

/// Files that may be cut anywhere are cut in pieces of this size.
pub(super) const RANGE_BYTES: u64 = 64 << 20;

/// The records of a file that begin in `start..end`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct FileSplit {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) path: String,
    /// As in [`DataFile`].
    pub(super) directories: Vec<String>,
}

/// Where reading goes on: at a byte of the file, which begins record `record` of the split.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Offset {
    pub(super) position: u64,
    pub(super) record: u64,
}

impl FileSplit {
    /// The splits of a file as long as it is now: what is appended later is not of this table. (A
    /// record that begins before the end is read whole.)
    pub(super) fn cut(file: &DataFile, range_bytes: Option<u64>) -> Option<Vec<FileSplit>> {
        let path = file.path.to_str()?.to_owned();
        let ranges = range_bytes
            .zip(file.bytes)
            .map_or(1, |(range, bytes)| bytes.div_ceil(range).max(1));
        let step = range_bytes.unwrap_or(u64::MAX);
        let split = |nth: u64| FileSplit {
            start: nth * step,
            end: if nth + 1 == ranges {
                file.bytes.unwrap_or(u64::MAX)
            } else {
                (nth + 1) * step
            },
            path: path.clone(),
            directories: file.directories.clone(),
        };
        Some((0..ranges).map(split).collect())
    }

    /// The engine's form.
    pub(super) fn to_split(&self) -> Split {
        let mut descriptor = Vec::new();
        descriptor.extend_from_slice(&self.start.to_le_bytes());
        descriptor.extend_from_slice(&self.end.to_le_bytes());
        descriptor.extend_from_slice(&(self.directories.len() as u32).to_le_bytes());
        for directory in &self.directories {
            descriptor.extend_from_slice(&(directory.len() as u32).to_le_bytes());
            descriptor.extend_from_slice(directory.as_bytes());
        }
        descriptor.extend_from_slice(self.path.as_bytes());
        Split {
            id: match self.start {
                0 => self.path.clone(),
                start => format!("{}@{start}", self.path),
            },
            descriptor,
        }
    }

    /// Where it begins and ends, without making anything of the rest.
    pub(super) fn range(split: &Split) -> Option<(u64, u64)> {
        FileSplit::take_range(&mut split.descriptor.as_slice())
    }

    fn take_range(rest: &mut &[u8]) -> Option<(u64, u64)> {
        let start = u64::from_le_bytes(take(rest)?);
        Some((start, u64::from_le_bytes(take(rest)?)))
    }

    /// Back from the engine's form; `None` if the bytes are not ours.
    pub(super) fn from_split(split: &Split) -> Option<FileSplit> {
        let mut rest = split.descriptor.as_slice();
        let (start, end) = FileSplit::take_range(&mut rest)?;
        let count = u32::from_le_bytes(take(&mut rest)?);
        let mut directories = Vec::new();
        for _ in 0..count {
            let length = u32::from_le_bytes(take(&mut rest)?) as usize;
            let (name, after) = rest.split_at_checked(length)?;
            directories.push(String::from_utf8(name.to_vec()).ok()?);
            rest = after;
        }
        let path = String::from_utf8(rest.to_vec()).ok()?;
        Some(FileSplit {
            start,
            end,
            path,
            directories,
        })
    }
}

impl Offset {
    pub(super) fn to_bytes(self) -> Vec<u8> {
        [self.position.to_le_bytes(), self.record.to_le_bytes()].concat()
    }

    pub(super) fn from_bytes(mut bytes: &[u8]) -> Option<Offset> {
        let position = u64::from_le_bytes(take(&mut bytes)?);
        let record = u64::from_le_bytes(take(&mut bytes)?);
        bytes.is_empty().then_some(Offset { position, record })
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_and_offsets_survive_their_bytes() {
        let file = DataFile {
            path: "/data/day=1/ä.json".into(),
            directories: vec!["day=1".to_owned()],
            bytes: Some(250),
        };
        let splits = FileSplit::cut(&file, Some(100)).unwrap();
        let ranges: Vec<_> = splits
            .iter()
            .map(|split| (split.start, split.end))
            .collect();
        assert_eq!(ranges, [(0, 100), (100, 200), (200, 250)]);
        for split in splits {
            assert_eq!(FileSplit::from_split(&split.to_split()), Some(split));
        }
        let offset = Offset {
            position: 7,
            record: 2,
        };
        assert_eq!(Offset::from_bytes(&offset.to_bytes()), Some(offset));
        assert_eq!(Offset::from_bytes(b"short"), None);
    }
}
