//! Formats: bytes of records to rows and back.
//!
//! A format knows neither files nor offsets: a reader cuts the input into records ([`Framing`])
//! and a [`Decoder`] turns one record into rows.

pub(crate) mod csv;
pub(crate) mod debezium_json;
mod decode;
mod encode;
pub(crate) mod json;
pub(crate) mod raw;

pub(crate) use decode::{BadRecord, Decoder, Framing, open_decoder};
pub(crate) use encode::{Encoder, extension, open_encoder};

#[cfg(test)]
mod format_test;
#[cfg(test)]
mod round_trip_test;
