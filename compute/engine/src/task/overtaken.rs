//! What a barrier has overtaken, as rows of a state table: in the section of the task that was to
//! receive it, in a namespace of its epoch.
//!
//! ```text
//! table 0 · key group: of the task's number · namespace: the epoch
//! identity   task u32 · input u32 · channel u32 · piece u32       big endian
//! value      a piece of the channel's elements, one after the other:
//!            0 · length u32 · batch as an IPC stream · length u32 · kinds, or nothing: inserts
//!            1 · watermark i64
//!            2                                                    idle
//! ```
//! The namespace closes with the task's next epoch, so that an epoch that has overtaken nothing has
//! nothing of it. No plan has a table 0.

use arrow::{
    error::ArrowError,
    ipc::{reader::StreamReader, writer::StreamWriter},
};
use bytes::{Buf, TryGetError};
use proto::types::{Epoch, KeyGroup, KeyGroupCount, RowKind, TableId, TaskId};
use state_client::LoadedRow;

use crate::{
    ChangeBatch, Element, Kinds,
    flow::OvertakenChannel,
    key::hash_bytes,
    state::{FrozenRows, TableDelta},
};

/// The table of what barriers have overtaken.
pub(super) const TABLE: TableId = TableId(0);

/// Bytes of a row. A batch has more: no page is to become large by one row.
const PIECE_BYTES: usize = 64 << 10;

/// Bits of a hash that may tell key groups.
const KEY_GROUP_BITS: u32 = 15;

const BATCH: u8 = 0;
const WATERMARK: u8 = 1;
const IDLE: u8 = 2;

/// The key group that has what was overtaken on its way to a task.
pub(super) fn key_group(task: TaskId, key_groups: KeyGroupCount) -> KeyGroup {
    key_groups.of_hash(hash_bytes(&task.0.to_be_bytes()))
}

/// The namespace of an epoch.
pub(super) fn namespace(epoch: Epoch) -> i64 {
    i64::try_from(epoch.0).unwrap_or(i64::MAX)
}

/// What was overtaken on its way to a task, as rows; and how many bytes of elements that is.
pub(super) fn encode(
    task: TaskId,
    epoch: Epoch,
    overtaken: &[OvertakenChannel],
) -> Result<(TableDelta, u64), ArrowError> {
    let mut rows = FrozenRows::default();
    let mut total = 0;
    let place = hash_bytes(&task.0.to_be_bytes());
    for channel in overtaken {
        let mut bytes = Vec::new();
        for element in &channel.elements {
            encode_element(element, &mut bytes)?;
        }
        total += bytes.len() as u64;
        for (index, piece) in (0_u32..).zip(bytes.chunks(PIECE_BYTES)) {
            let mut identity = Vec::with_capacity(16);
            for part in [task.0, channel.input as u32, channel.channel as u32, index] {
                identity.extend_from_slice(&part.to_be_bytes());
            }
            // All in one key group, and in it wherever chance has them.
            let within = u64::MAX >> KEY_GROUP_BITS;
            let hash = (place & !within) | (hash_bytes(&identity) & within);
            let value = |out: &mut Vec<u8>| out.extend_from_slice(piece);
            rows.push(hash, |out| out.extend_from_slice(&identity), Some(value));
        }
    }
    let delta = TableDelta {
        table: TABLE,
        namespace: namespace(epoch),
        rows,
    };
    Ok((delta, total))
}

fn encode_element(element: &Element, out: &mut Vec<u8>) -> Result<(), ArrowError> {
    match element {
        Element::Batch(batch) => {
            out.push(BATCH);
            let length_at = out.len();
            out.extend_from_slice(&[0; 4]);
            let mut writer = StreamWriter::try_new(&mut *out, batch.rows.schema_ref())?;
            writer.write(&batch.rows)?;
            writer.finish()?;
            drop(writer);
            let length = short(out.len() - length_at - 4)?;
            out[length_at..length_at + 4].copy_from_slice(&length.to_be_bytes());
            let kinds = batch.kinds.as_ref().map_or(&[][..], Kinds::bytes);
            out.extend_from_slice(&short(kinds.len())?.to_be_bytes());
            out.extend_from_slice(kinds);
        }
        Element::Watermark(watermark) => {
            out.push(WATERMARK);
            out.extend_from_slice(&watermark.to_be_bytes());
        }
        Element::Idle => out.push(IDLE),
        // Neither is ever overtaken.
        Element::Barrier(_) | Element::End => {}
    }
    Ok(())
}

fn short(length: usize) -> Result<u32, ArrowError> {
    let too_long = |_| ArrowError::IpcError(format!("a batch of {length} bytes"));
    u32::try_from(length).map_err(too_long)
}

/// What was overtaken on its way to `task`, from rows of its key group.
pub(super) fn decode(
    task: TaskId,
    mut rows: Vec<LoadedRow>,
) -> Result<Vec<OvertakenChannel>, String> {
    rows.retain(|row| row.identity.starts_with(&task.0.to_be_bytes()));
    rows.sort_unstable_by(|a, b| a.identity.cmp(&b.identity));
    let mut channels = Vec::new();
    for pieces in rows.chunk_by(|a, b| a.identity.get(..12) == b.identity.get(..12)) {
        let mut bytes = Vec::new();
        let mut place = (0, 0);
        for (index, row) in (0_u32..).zip(pieces) {
            let cut_short = |_: TryGetError| "a row has no name".to_owned();
            let mut identity = row.identity.get(4..).unwrap_or_default();
            let input = identity.try_get_u32().map_err(cut_short)?;
            let channel = identity.try_get_u32().map_err(cut_short)?;
            if identity.try_get_u32().map_err(cut_short)? != index {
                return Err(format!("piece {index} of channel {channel} is missing"));
            }
            place = (input as usize, channel as usize);
            bytes.extend_from_slice(&row.value);
        }
        channels.push(OvertakenChannel {
            input: place.0,
            channel: place.1,
            elements: decode_elements(&bytes)?,
        });
    }
    Ok(channels)
}

fn decode_elements(mut bytes: &[u8]) -> Result<Vec<Element>, String> {
    let cut_short = |_: TryGetError| "an element is cut short".to_owned();
    let mut elements = Vec::new();
    while let Some((kind, rest)) = bytes.split_first() {
        bytes = rest;
        elements.push(match *kind {
            BATCH => {
                let stream = take(&mut bytes)?;
                let kinds = take(&mut bytes)?;
                Element::Batch(decode_batch(stream, kinds)?)
            }
            WATERMARK => Element::Watermark(bytes.try_get_i64().map_err(cut_short)?),
            IDLE => Element::Idle,
            other => return Err(format!("an element of kind {other}")),
        });
    }
    Ok(elements)
}

/// Bytes after their length.
fn take<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], String> {
    let cut_short = || "an element is cut short".to_owned();
    let length = bytes.try_get_u32().map_err(|_| cut_short())? as usize;
    let (taken, rest) = bytes.split_at_checked(length).ok_or_else(cut_short)?;
    *bytes = rest;
    Ok(taken)
}

fn decode_batch(stream: &[u8], kinds: &[u8]) -> Result<ChangeBatch, String> {
    let wrong = |error: ArrowError| format!("a batch does not decode: {error}");
    let mut reader = StreamReader::try_new(stream, None).map_err(wrong)?;
    let rows = reader.next().ok_or("a batch is missing")?.map_err(wrong)?;
    if kinds.is_empty() {
        return Ok(ChangeBatch::inserts(rows));
    }
    let are_kinds = kinds.iter().all(|byte| RowKind::from_byte(*byte).is_some());
    if kinds.len() != rows.num_rows() || !are_kinds {
        return Err("kinds of a batch's rows are none".to_owned());
    }
    let kinds = Kinds::from_bytes(kinds.to_vec());
    Ok(ChangeBatch::changes(rows, Some(kinds)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{
        array::{Array, Int64Array, RecordBatch, RecordBatchOptions, StringArray},
        datatypes::{DataType, Field, Schema},
    };
    use state_client::page::Run;

    use super::*;
    use crate::state::StateDelta;

    const EPOCH: Epoch = Epoch(17);
    const TASK: TaskId = TaskId(5);

    fn numbers(from: i64, count: i64) -> RecordBatch {
        let text = (from..from + count).map(|n| (n % 3 != 0).then(|| format!("number {n}")));
        let columns: Vec<Arc<dyn Array>> = vec![
            Arc::new(Int64Array::from_iter_values(from..from + count)),
            Arc::new(text.collect::<StringArray>()),
        ];
        let schema = Schema::new(vec![
            Field::new("n", DataType::Int64, true),
            Field::new("t", DataType::Utf8, true),
        ]);
        RecordBatch::try_new(Arc::new(schema), columns).expect("two columns")
    }

    fn saved() -> Vec<OvertakenChannel> {
        let kinds = [RowKind::UpdateBefore, RowKind::UpdateAfter, RowKind::Delete];
        let kinds = Kinds::from_iter_kinds(kinds);
        let no_columns = RecordBatch::try_new_with_options(
            Arc::new(Schema::empty()),
            Vec::new(),
            &RecordBatchOptions::new().with_row_count(Some(4)),
        );
        let large = ChangeBatch::inserts(numbers(0, 20_000)).slice(50, 19_000);
        vec![
            OvertakenChannel {
                input: 0,
                channel: 3,
                elements: vec![
                    Element::Watermark(-7),
                    Element::Idle,
                    Element::Batch(ChangeBatch::changes(numbers(1, 3), Some(kinds))),
                    Element::Watermark(9),
                ],
            },
            OvertakenChannel {
                input: 1,
                channel: 0,
                elements: vec![
                    Element::Batch(large),
                    Element::Batch(ChangeBatch::inserts(no_columns.expect("rows"))),
                ],
            },
        ]
    }

    fn loaded(task: TaskId) -> Vec<LoadedRow> {
        let (delta, bytes) = encode(task, EPOCH, &saved()).expect("rows");
        assert!(bytes > 5 * PIECE_BYTES as u64, "more than some pieces");
        let delta = StateDelta {
            tables: vec![delta],
            ..StateDelta::default()
        };
        let groups = KeyGroupCount::new(32_768).expect("a power of two");
        let blocks = delta.into_changes(EPOCH, groups).blocks;
        assert_eq!(blocks.len(), 1, "one key group");
        assert_eq!(blocks[0].key_group, key_group(task, groups));
        assert_eq!(blocks[0].namespace, 17);
        let run = Run::open(blocks[0].run.clone()).expect("a run");
        let row = |row: state_client::page::RowRef<'_>| LoadedRow {
            namespace: 17,
            hash: row.hash,
            identity: row.identity.to_vec().into(),
            value: row.value.expect("a value").to_vec().into(),
        };
        run.iter().map(row).collect()
    }

    #[test]
    fn what_was_overtaken_comes_back_in_order() {
        let mut rows = loaded(TASK);
        rows.extend(loaded(TaskId(6)));
        rows.reverse();
        let channels = decode(TASK, rows.clone()).expect("channels");
        assert_eq!(format!("{channels:?}"), format!("{:?}", saved()));
        let cut: Vec<LoadedRow> = rows.into_iter().skip(1).collect();
        assert!(decode(TaskId(6), cut).is_err(), "a piece is missing");
    }

    #[test]
    fn any_cut_is_noticed() {
        let rows = loaded(TASK);
        for keep in [0, 1, 5, 100] {
            let mut cut = rows.clone();
            cut.sort_unstable_by(|a, b| a.identity.cmp(&b.identity));
            let last = cut.last_mut().expect("rows");
            last.value = last.value.slice(..last.value.len() - 1 - keep);
            assert!(decode(TASK, cut).is_err());
        }
    }
}
