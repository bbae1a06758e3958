//! CAST to CHAR, VARCHAR and between byte strings: CHAR(n) pads and cuts, VARCHAR(n) cuts.

use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, BinaryBuilder, StringBuilder};
use proto::types::LogicalType;

use super::Cast;
use crate::expr::{
    EvalError,
    format::{Style, write_value},
    value::NullAt as _,
};

/// The cast of any type to text.
pub(super) fn build(from: &LogicalType, to: &LogicalType) -> Option<Cast> {
    let fit = Fit::of(to)?;
    if from.is_character() {
        return Some(text_to_text(from, fit));
    }
    let from = from.clone();
    let convert = move |array: &ArrayRef| -> Result<ArrayRef, EvalError> {
        let mut builder = StringBuilder::with_capacity(array.len(), array.len() * 12);
        let mut text = String::new();
        for row in 0..array.len() {
            if array.is_null_at(row) {
                builder.append_null();
                continue;
            }
            text.clear();
            write_value(array, row, &from, Style::Cast, &mut text);
            fit.apply(&mut text);
            builder.append_value(&text);
        }
        Ok(Arc::new(builder.finish()))
    };
    Some(Cast::total(10, Box::new(convert)))
}

/// What a character type does to a text.
#[derive(Clone, Copy)]
enum Fit {
    Keep,
    Cut(usize),
    CutAndPad(usize),
}

impl Fit {
    fn of(to: &LogicalType) -> Option<Fit> {
        match to {
            to if *to == LogicalType::STRING => Some(Fit::Keep),
            LogicalType::Varchar(length) => Some(Fit::Cut(*length as usize)),
            LogicalType::Char(length) => Some(Fit::CutAndPad(*length as usize)),
            _ => None,
        }
    }

    fn apply(self, text: &mut String) {
        let (length, pad) = match self {
            Fit::Keep => return,
            Fit::Cut(length) => (length, false),
            Fit::CutAndPad(length) => (length, true),
        };
        if let Some((end, _)) = text.char_indices().nth(length) {
            text.truncate(end);
        } else if pad {
            let missing = length - text.chars().count();
            text.extend(std::iter::repeat_n(' ', missing));
        }
    }
}

fn text_to_text(from: &LogicalType, fit: Fit) -> Cast {
    // A longer VARCHAR changes nothing.
    let longest = match from {
        LogicalType::Char(length) | LogicalType::Varchar(length) => *length as usize,
        _ => usize::MAX,
    };
    let same = match fit {
        Fit::Keep => true,
        Fit::Cut(length) => longest <= length,
        Fit::CutAndPad(_) => false,
    };
    if same {
        return super::identity();
    }
    let convert = move |array: &ArrayRef| -> Result<ArrayRef, EvalError> {
        let texts = array.as_string::<i32>();
        let mut builder = StringBuilder::with_capacity(texts.len(), texts.value_data().len());
        let mut buffer = String::new();
        for text in texts {
            match text {
                Some(text) => {
                    buffer.clear();
                    buffer.push_str(text);
                    fit.apply(&mut buffer);
                    builder.append_value(&buffer);
                }
                None => builder.append_null(),
            }
        }
        Ok(Arc::new(builder.finish()))
    };
    Cast::total(5, Box::new(convert))
}

/// The cast between byte string types.
pub(super) fn bytes_to_bytes(to: &LogicalType) -> Option<Cast> {
    let to = to.clone();
    let convert = move |array: &ArrayRef| -> Result<ArrayRef, EvalError> {
        let values = array.as_binary::<i32>();
        let mut builder = BinaryBuilder::with_capacity(values.len(), values.value_data().len());
        for bytes in values {
            match bytes {
                Some(bytes) => fit_bytes(bytes, &to, &mut builder),
                None => builder.append_null(),
            }
        }
        Ok(Arc::new(builder.finish()))
    };
    Some(Cast::total(5, Box::new(convert)))
}

/// Appends bytes cut, and for BINARY padded with zeros, to the type's length.
pub(super) fn fit_bytes(bytes: &[u8], to: &LogicalType, builder: &mut BinaryBuilder) {
    let (length, pad) = match to {
        LogicalType::Binary(length) => (*length as usize, true),
        LogicalType::Varbinary(length) => (*length as usize, false),
        _ => (usize::MAX, false),
    };
    if pad && bytes.len() < length {
        let mut padded = bytes.to_vec();
        padded.resize(length, 0);
        builder.append_value(padded);
    } else {
        builder.append_value(&bytes[..bytes.len().min(length)]);
    }
}
