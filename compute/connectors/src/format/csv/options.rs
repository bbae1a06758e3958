//! The options of Flink's `csv` format, checked: every special character is one byte.

use proto::plan::CsvFormat;

/// Characters with a meaning.
#[derive(Clone, Debug)]
pub(crate) struct CsvOptions {
    pub(crate) delimiter: u8,
    pub(crate) quote: Option<u8>,
    pub(crate) escape: Option<u8>,
    pub(crate) element_delimiter: Vec<u8>,
    pub(crate) null_literal: Option<Vec<u8>>,
}

impl CsvOptions {
    pub(crate) fn new(format: &CsvFormat) -> Result<CsvOptions, String> {
        let quote = match format.disable_quote_character {
            true => None,
            false => Some(one_byte("quote-character", &format.quote_character)?.unwrap_or(b'"')),
        };
        let element_delimiter = match format.array_element_delimiter.as_str() {
            "" => b";".to_vec(),
            delimiter => delimiter.as_bytes().to_vec(),
        };
        Ok(CsvOptions {
            delimiter: one_byte("field-delimiter", &format.field_delimiter)?.unwrap_or(b','),
            quote,
            // A quote is escaped by another one anyway.
            escape: one_byte("escape-character", &format.escape_character)?
                .filter(|escape| Some(*escape) != quote),
            element_delimiter,
            null_literal: format.null_literal.clone().map(String::into_bytes),
        })
    }
}

fn one_byte(option: &str, text: &str) -> Result<Option<u8>, String> {
    match text.as_bytes() {
        [] => Ok(None),
        [byte] if !matches!(byte, b'\n' | b'\r') => Ok(Some(*byte)),
        _ => Err(format!(
            "{option} must be one ASCII character other than a line end, got \"{text}\""
        )),
    }
}
