//! Point reads: the request, and the reply in parts.

use std::{collections::VecDeque, mem};

use proto::types::{Epoch, Generation, JobId, TableId};
use rpc::state;
use state_client::{Incarnation, KeyRequest, LoadedRow, ReadReply, ReadRequest};

use crate::{
    Malformed,
    caps::{PART_BYTES, READ_KEYS_MAX},
    row::{decode_row, encode_row, row_bytes},
};

/// What an entry of a reply costs beside its rows.
const ENTRY_BYTES: usize = 8;

/// A request for the rows of keys.
#[must_use]
pub fn encode_read_request(
    who: Incarnation,
    min_epoch: Epoch,
    keys: &[KeyRequest],
) -> state::ReadRequest {
    state::ReadRequest {
        job: who.job.0,
        generation: who.generation.0,
        min_epoch: min_epoch.0,
        keys: encode_keys(keys),
    }
}

pub(crate) fn encode_keys(keys: &[KeyRequest]) -> Vec<state::KeyRequest> {
    let key = |key: &KeyRequest| state::KeyRequest {
        table: key.table.0,
        namespace: key.namespace,
        hash: key.hash,
        sub: key.sub,
    };
    keys.iter().map(key).collect()
}

/// What [`encode_keys`] made, unless they are more than may be asked for at once.
pub(crate) fn decode_keys(keys: Vec<state::KeyRequest>) -> Result<Vec<KeyRequest>, Malformed> {
    let count = keys.len();
    if count > READ_KEYS_MAX {
        let what = format!("a read of {count} keys, at most {READ_KEYS_MAX} are allowed");
        return Err(Malformed::new(what));
    }
    let key = |key: state::KeyRequest| KeyRequest {
        table: TableId(key.table),
        namespace: key.namespace,
        hash: key.hash,
        sub: key.sub,
    };
    Ok(keys.into_iter().map(key).collect())
}

/// What [`encode_read_request`] made.
///
/// # Errors
/// When it asks for more keys than may be asked for at once.
pub fn decode_read_request(
    request: state::ReadRequest,
) -> Result<(Incarnation, ReadRequest), Malformed> {
    let who = Incarnation {
        job: JobId(request.job),
        generation: Generation(request.generation),
    };
    let request = ReadRequest {
        min_epoch: Epoch(request.min_epoch),
        keys: decode_keys(request.keys)?,
    };
    Ok((who, request))
}

/// A reply, part by part.
#[derive(Debug)]
pub struct ReadParts {
    keys: VecDeque<VecDeque<LoadedRow>>,
}

impl ReadParts {
    /// The parts of a reply.
    #[must_use]
    pub fn new(reply: ReadReply) -> Self {
        ReadParts {
            keys: reply.rows.into_iter().map(VecDeque::from).collect(),
        }
    }
}

impl Iterator for ReadParts {
    type Item = state::ReadPart;

    fn next(&mut self) -> Option<state::ReadPart> {
        if self.keys.is_empty() {
            return None;
        }
        let mut part = state::ReadPart::default();
        let mut bytes = 0;
        while let Some(rows) = self.keys.front_mut() {
            if bytes >= PART_BYTES {
                break;
            }
            bytes += ENTRY_BYTES;
            let mut entry = state::Rows::default();
            while bytes < PART_BYTES
                && let Some(row) = rows.pop_front()
            {
                bytes += row_bytes(&row);
                entry.rows.push(encode_row(row));
            }
            part.more = !rows.is_empty();
            part.keys.push(entry);
            if part.more {
                break;
            }
            self.keys.pop_front();
        }
        Some(part)
    }
}

/// Puts a reply together.
#[derive(Debug, Default)]
pub struct ReadCollector {
    rows: Vec<Vec<LoadedRow>>,
    /// Whether the last entry goes on.
    more: bool,
}

impl ReadCollector {
    /// Takes the next part.
    pub fn push(&mut self, part: state::ReadPart) {
        let goes_on = mem::replace(&mut self.more, part.more);
        let mut entries = part.keys.into_iter();
        if goes_on
            && let Some(entry) = entries.next()
            && let Some(last) = self.rows.last_mut()
        {
            last.extend(entry.rows.into_iter().map(decode_row));
        }
        let rows = |entry: state::Rows| entry.rows.into_iter().map(decode_row).collect();
        self.rows.extend(entries.map(rows));
    }

    /// The rows of `keys` keys.
    ///
    /// # Errors
    /// When the parts are those of another reply, or not all.
    pub fn finish(self, keys: usize) -> Result<Vec<Vec<LoadedRow>>, Malformed> {
        if self.more || self.rows.len() != keys {
            let what = format!("a reply for {} keys of {keys}", self.rows.len());
            return Err(Malformed::new(what));
        }
        Ok(self.rows)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn rows(count: usize, bytes: usize) -> Vec<LoadedRow> {
        let row = |i| LoadedRow {
            namespace: -1,
            hash: i as u64,
            identity: Bytes::from(vec![i as u8]),
            value: Bytes::from(vec![7; bytes]),
        };
        (0..count).map(row).collect()
    }

    fn sent(rows: &[Vec<LoadedRow>]) -> Vec<state::ReadPart> {
        let reply = ReadReply {
            rows: rows.to_vec(),
        };
        ReadParts::new(reply).collect()
    }

    fn collect(parts: &[state::ReadPart], keys: usize) -> Result<Vec<Vec<LoadedRow>>, Malformed> {
        let mut collector = ReadCollector::default();
        parts.iter().for_each(|part| collector.push(part.clone()));
        collector.finish(keys)
    }

    #[test]
    fn replies_of_any_shape_come_back_and_no_part_is_large() {
        let row = 300_000;
        let shapes: [&[Vec<LoadedRow>]; 6] = [
            &[],
            &[rows(0, 0)],
            &[rows(0, 0), rows(1, 10), rows(0, 0)],
            &[rows(40, row), rows(0, 0), rows(9, row), rows(2, 1)],
            &[rows(1, 5 * PART_BYTES), rows(1, PART_BYTES)],
            &[rows(4, row), rows(4, row), rows(4, row)],
        ];
        for shape in shapes {
            let parts = sent(shape);
            for part in &parts {
                let rows = part.keys.iter().flat_map(|key| &key.rows);
                let sizes: Vec<usize> = rows.map(|row| row.value.len()).collect();
                let bytes: usize = sizes.iter().sum();
                let last = sizes.last().copied().unwrap_or_default();
                assert!(bytes - last <= PART_BYTES, "{bytes}");
            }
            assert_eq!(collect(&parts, shape.len()), Ok(shape.to_vec()));
        }
    }

    #[test]
    fn a_reply_that_is_cut_is_noticed() {
        let shape = [rows(40, 300_000), rows(1, 1)];
        let parts = sent(&shape);
        assert!(parts.len() > 2);
        for count in 0..parts.len() {
            assert!(collect(&parts[..count], 2).is_err(), "{count}");
        }
        assert!(collect(&parts, 3).is_err());
    }

    #[test]
    fn requests_come_back_and_are_bounded() {
        let who = Incarnation {
            job: JobId(1),
            generation: Generation(2),
        };
        let key = |sub| KeyRequest {
            table: TableId(3),
            namespace: i64::MIN,
            hash: u64::MAX,
            sub,
        };
        let keys = [key(None), key(Some(0))];
        let message = encode_read_request(who, Epoch(9), &keys);
        let (came_from, request) = decode_read_request(message).expect("well-formed");
        assert_eq!(came_from, who);
        assert_eq!(request.min_epoch, Epoch(9));
        assert_eq!(request.keys, keys);
        let many = vec![key(None); READ_KEYS_MAX + 1];
        assert!(decode_read_request(encode_read_request(who, Epoch(9), &many)).is_err());
        assert!(decode_read_request(encode_read_request(who, Epoch(9), &many[1..])).is_ok());
    }
}
