//! JSON objects as rows, by column name.
//!
//! Decoding writes straight into columns: no tree is built, unknown members are skipped, of a
//! member that comes twice the last counts.

mod cursor;
mod decode;
mod encode;
mod object;

pub(crate) use cursor::{Cursor, SyntaxError};
pub(crate) use decode::{JsonDecoder, check_map_keys};
pub(crate) use encode::JsonEncoder;
pub(crate) use object::{Fail, ObjectReader};
