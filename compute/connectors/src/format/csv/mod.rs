//! Comma-separated values, by position. Arrays and rows are one field, cut by a second delimiter.

mod decode;
mod encode;
mod options;
mod split;

pub(crate) use decode::CsvDecoder;
pub(crate) use encode::CsvEncoder;
use options::CsvOptions;
use split::Splitter;
