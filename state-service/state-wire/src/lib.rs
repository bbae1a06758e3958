//! How the state contract travels: its requests, replies and errors as messages of `rpc::state`, and
//! back. Each message is written and read in the same file. Bytes only: knows no connection, no node
//! and no clock.
//!
//! What may be large is cut into parts ([`ReadParts`], [`StageParts`], [`OutputParts`]) that are made
//! as they are sent, and put together as they come ([`ReadCollector`], [`StageReceiver`],
//! [`OutputCollector`]).

pub mod caps;
mod error;
mod kept;
mod malformed;
mod output;
mod read;
mod row;
mod scan;
mod stage;
mod stage_receiver;

pub use error::{Failure, failure_of, status_of};
pub use kept::{decode_read_kept, decode_scan_kept, encode_read_kept, encode_scan_kept};
pub use malformed::Malformed;
pub use output::{
    OutputCollector, OutputParts, decode_output_request, encode_output_request, output_bytes,
};
pub use read::{ReadCollector, ReadParts, decode_read_request, encode_read_request};
pub use row::rows_bytes;
pub use scan::{
    decode_count_reply, decode_scan_reply, decode_scan_request, encode_count_reply,
    encode_scan_reply, encode_scan_request,
};
pub use stage::{
    EncodedSection, StageParts, decode_stage_reply, encode_stage_head, encode_stage_reply,
};
pub use stage_receiver::{StageFault, StageReceiver};
