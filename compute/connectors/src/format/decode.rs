//! The reading half of every format, chosen by a plan's `FormatSpec`.

use engine::source::SourceError;
use proto::{
    plan::{FormatSpec, format_spec::Format},
    types::Field,
};

use super::{csv::CsvDecoder, debezium_json::DebeziumDecoder, json::JsonDecoder, raw::RawDecoder};
use crate::column::Rows;

/// Why a record gives no rows, for people.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadRecord(pub(crate) String);

/// How records stand in a stream of bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Framing {
    /// One per line; a line ends at `\n`, which is not part of it, nor is a `\r` before it.
    Lines,
    /// One per line, where line ends inside a quoted field do not count, `escape` makes the byte
    /// after it mean itself, and a line that begins with `#` may be a comment with quotes of its
    /// own. A lone `\r` ends a line too.
    Delimited {
        delimiter: u8,
        quote: Option<u8>,
        escape: Option<u8>,
        comments: bool,
    },
}

/// Decodes records of one format.
pub(crate) enum Decoder {
    Json(JsonDecoder),
    Csv(CsvDecoder),
    Debezium(DebeziumDecoder),
    Raw(RawDecoder),
}

impl Decoder {
    /// Appends the rows that `record` holds (there may be none). After an error `rows` is as
    /// before.
    pub(crate) fn decode(&mut self, record: &[u8], rows: &mut Rows) -> Result<(), BadRecord> {
        let before = rows.len();
        let result = match self {
            Decoder::Json(decoder) => decoder.decode(record, rows),
            Decoder::Csv(decoder) => decoder.decode(record, rows),
            Decoder::Debezium(decoder) => decoder.decode(record, rows),
            Decoder::Raw(decoder) => decoder.decode(record, rows),
        };
        if result.is_err() {
            rows.truncate(before);
        }
        result.map_err(BadRecord)
    }

    /// Whether bad records are skipped rather than failing the job.
    pub(crate) fn ignores_bad_records(&self) -> bool {
        match self {
            Decoder::Json(decoder) => decoder.ignores_errors(),
            Decoder::Csv(decoder) => decoder.ignores_errors(),
            Decoder::Debezium(decoder) => decoder.ignores_errors(),
            Decoder::Raw(_) => false,
        }
    }

    /// Whether a file may be read from several places at once: its records can be found from
    /// anywhere, and none depends on those before it, as a change does.
    pub(crate) fn may_cut(&self) -> bool {
        match self.framing() {
            Framing::Lines => !self.is_changelog(),
            Framing::Delimited { quote, escape, .. } => quote.is_none() && escape.is_none(),
        }
    }

    /// Whether a record may change what one before it said, also in another file.
    pub(crate) fn is_changelog(&self) -> bool {
        matches!(self, Decoder::Debezium(_))
    }

    /// Whether a byte order mark at the beginning of a file is part of its first record.
    pub(crate) fn keeps_byte_order_mark(&self) -> bool {
        matches!(self, Decoder::Raw(_))
    }

    /// How the records stand in a file.
    pub(crate) fn framing(&self) -> Framing {
        match self {
            Decoder::Csv(decoder) => decoder.framing(),
            Decoder::Json(_) | Decoder::Debezium(_) | Decoder::Raw(_) => Framing::Lines,
        }
    }
}

/// The decoder of `spec` for these columns.
///
/// # Errors
/// When the format cannot read them, or its options make no sense.
pub(crate) fn open_decoder(
    spec: Option<&FormatSpec>,
    fields: &[Field],
) -> Result<Decoder, SourceError> {
    let format = spec.and_then(|spec| spec.format.as_ref());
    let decoder = match format {
        Some(Format::Json(json)) => JsonDecoder::new(json, fields).map(Decoder::Json),
        Some(Format::Csv(csv)) => CsvDecoder::new(csv, fields).map(Decoder::Csv),
        Some(Format::DebeziumJson(debezium)) => {
            DebeziumDecoder::new(debezium, fields).map(Decoder::Debezium)
        }
        Some(Format::Raw(_)) => RawDecoder::new(fields).map(Decoder::Raw),
        None => Err("the source's format is not set".to_owned()),
    };
    decoder.map_err(SourceError::Unsupported)
}
