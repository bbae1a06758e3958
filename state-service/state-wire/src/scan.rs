//! Scans: a request and a reply, each one message.

use proto::types::{Epoch, Generation, JobId, KeyGroup, TableId};
use rpc::state;
use state_client::{CountReply, Incarnation, ScanReply, ScanRequest};

use crate::{
    Malformed,
    caps::SCAN_BYTES_MAX,
    row::{decode_row, encode_row},
};

/// A request for the next rows of a key group. Asks for no more than one message holds.
#[must_use]
pub fn encode_scan_request(who: Incarnation, request: &ScanRequest) -> state::ScanRequest {
    state::ScanRequest {
        job: who.job.0,
        generation: who.generation.0,
        min_epoch: request.min_epoch.0,
        table: request.table.0,
        key_group: u32::from(request.key_group.0),
        namespace: request.namespace,
        cursor: request.cursor.clone(),
        bytes_max: request.bytes_max.min(SCAN_BYTES_MAX) as u64,
    }
}

/// What [`encode_scan_request`] made.
///
/// # Errors
/// When it names a key group that cannot be.
pub fn decode_scan_request(
    request: state::ScanRequest,
) -> Result<(Incarnation, ScanRequest), Malformed> {
    let who = Incarnation {
        job: JobId(request.job),
        generation: Generation(request.generation),
    };
    let key_group = u16::try_from(request.key_group)
        .map_err(|_| Malformed::new(format!("key group {}", request.key_group)))?;
    let request = ScanRequest {
        min_epoch: Epoch(request.min_epoch),
        table: TableId(request.table),
        key_group: KeyGroup(key_group),
        namespace: request.namespace,
        cursor: request.cursor,
        bytes_max: request.bytes_max.min(SCAN_BYTES_MAX as u64) as usize,
    };
    Ok((who, request))
}

/// A part of a scan.
#[must_use]
pub fn encode_scan_reply(reply: ScanReply) -> state::ScanReply {
    state::ScanReply {
        rows: reply.rows.into_iter().map(encode_row).collect(),
        open_from: reply.open_from,
        cursor: reply.cursor,
    }
}

/// What [`encode_scan_reply`] made.
#[must_use]
pub fn decode_scan_reply(reply: state::ScanReply) -> ScanReply {
    ScanReply {
        rows: reply.rows.into_iter().map(decode_row).collect(),
        open_from: reply.open_from,
        cursor: reply.cursor,
    }
}

/// What a part of a scan amounts to.
#[must_use]
pub fn encode_count_reply(reply: CountReply) -> state::CountReply {
    state::CountReply {
        rows: reply.rows,
        bytes: reply.bytes,
        cursor: reply.cursor,
    }
}

/// What [`encode_count_reply`] made.
#[must_use]
pub fn decode_count_reply(reply: state::CountReply) -> CountReply {
    CountReply {
        rows: reply.rows,
        bytes: reply.bytes,
        cursor: reply.cursor,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use state_client::LoadedRow;

    use super::*;

    #[test]
    fn requests_and_replies_come_back() {
        let who = Incarnation {
            job: JobId(1),
            generation: Generation(2),
        };
        let request = ScanRequest {
            min_epoch: Epoch(3),
            table: TableId(4),
            key_group: KeyGroup(u16::MAX),
            namespace: Some(-5),
            cursor: Some(Bytes::new()),
            bytes_max: usize::MAX,
        };
        let message = encode_scan_request(who, &request);
        let (came_from, came) = decode_scan_request(message.clone()).expect("well-formed");
        assert_eq!(came_from, who);
        let bytes_max = SCAN_BYTES_MAX;
        let bounded = ScanRequest {
            bytes_max,
            ..request
        };
        assert_eq!(format!("{came:?}"), format!("{bounded:?}"));
        let beyond = state::ScanRequest {
            key_group: 1 << 16,
            ..message
        };
        assert!(decode_scan_request(beyond).is_err());

        let reply = ScanReply {
            rows: vec![LoadedRow {
                namespace: -5,
                hash: 6,
                identity: Bytes::from_static(b"id"),
                value: Bytes::new(),
            }],
            open_from: Some(i64::MIN),
            cursor: None,
        };
        let came = decode_scan_reply(encode_scan_reply(reply.clone()));
        assert_eq!(format!("{came:?}"), format!("{reply:?}"));
    }
}
