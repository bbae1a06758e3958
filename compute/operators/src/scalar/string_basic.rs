//! Strings made of parts of strings. Lengths and positions count code points, positions from 1;
//! ASCII texts take byte positions without counting.

use std::{fmt::Write as _, sync::Arc};

use arrow::{
    array::{ArrayRef, BinaryBuilder, StringBuilder},
    datatypes::{DataType as ArrowType, Int32Type, Int64Type},
};
use proto::plan::ScalarFunction;

use super::{
    Kernel, Signature,
    kernel::{by_row, strings, unary_text},
};
use crate::expr::{
    EvalError, ExprError,
    value::{Args, Strings, is_valid},
};

/// Makes the kernel of a basic string function.
pub(super) fn build(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    use ScalarFunction as F;
    let count = signature.args.len();
    let kernel: Kernel = match (signature.function, count) {
        (F::CharLength, 1) => Box::new(|args| {
            let texts = args.strings(0);
            by_row::<Int32Type>(args, &ArrowType::Int32, |row| {
                Ok(Some(char_count(texts.at(row)) as i32))
            })
        }),
        (F::OctetLength, 1) => octet_length(signature),
        (F::Ascii, 1) => Box::new(|args| {
            let texts = args.strings(0);
            by_row::<Int32Type>(args, &ArrowType::Int32, |row| {
                let first = texts.at(row).as_bytes().first().copied().unwrap_or(0);
                Ok(Some(i32::from(first as i8)))
            })
        }),
        (F::Upper, 1) => Box::new(|args| unary_text(args, upper)),
        (F::Lower, 1) => Box::new(|args| unary_text(args, lower)),
        (F::InitCap, 1) => Box::new(|args| unary_text(args, init_cap)),
        (F::Reverse, 1) => {
            Box::new(|args| unary_text(args, |text, out| out.extend(text.chars().rev())))
        }
        (F::Chr, 1) => Box::new(|args| {
            let codes = args.numbers::<Int64Type>(0);
            by_text(args, args.rows, |row, out| {
                let code = codes.at(row);
                if code >= 0 {
                    let _ = out.write_char(char::from((code & 0xff) as u8));
                }
                Ok(true)
            })
        }),
        (F::Concat | F::Substring, _) if signature.args[0].logical.is_binary() => {
            byte_strings(signature)?
        }
        (F::Concat, 1..) => Box::new(concat),
        (F::ConcatWs, 1..) => Box::new(concat_ws),
        (F::Elt, 2..) => elt(signature)?,
        (F::Substring, 2 | 3) => Box::new(substring),
        (F::Left | F::Right, 2) => left_or_right(signature.function == F::Left),
        (F::Repeat, 2) => Box::new(repeat),
        (F::Overlay, 3 | 4) => Box::new(overlay),
        (F::Lpad | F::Rpad, 3) => pad(signature.function == F::Lpad),
        (F::Trim | F::Btrim, 1 | 2) => trim(true, true),
        (F::Ltrim, 1 | 2) => trim(true, false),
        (F::Rtrim, 1 | 2) => trim(false, true),
        _ => return Err(signature.unsupported()),
    };
    Ok(kernel)
}

fn octet_length(signature: &Signature<'_>) -> Kernel {
    if signature.args[0].logical.is_binary() {
        return Box::new(|args| {
            let bytes = args.bytes(0);
            by_row::<Int32Type>(args, &ArrowType::Int32, |row| {
                Ok(Some(bytes.at(row).len() as i32))
            })
        });
    }
    Box::new(|args| {
        let texts = args.strings(0);
        by_row::<Int32Type>(args, &ArrowType::Int32, |row| {
            Ok(Some(texts.at(row).len() as i32))
        })
    })
}

/// A text per row where no operand is NULL.
fn by_text(
    args: &Args<'_>,
    bytes: usize,
    f: impl FnMut(usize, &mut StringBuilder) -> Result<bool, EvalError>,
) -> Result<ArrayRef, EvalError> {
    strings(args.rows, args.nulls().as_ref(), bytes, f)
}

/// Number of code points.
#[inline]
pub(super) fn char_count(text: &str) -> usize {
    if text.is_ascii() {
        text.len()
    } else {
        text.chars().count()
    }
}

/// Byte offset of code point `index`, or the text's length beyond its end.
#[inline]
pub(super) fn byte_offset(text: &str, index: usize) -> usize {
    if text.is_ascii() {
        return index.min(text.len());
    }
    text.char_indices()
        .nth(index)
        .map_or(text.len(), |(offset, _)| offset)
}

fn upper(text: &str, out: &mut String) {
    if text.is_ascii() {
        out.extend(
            text.bytes()
                .map(|byte| char::from(byte.to_ascii_uppercase())),
        );
    } else {
        out.extend(text.chars().flat_map(char::to_uppercase));
    }
}

fn lower(text: &str, out: &mut String) {
    if text.is_ascii() {
        let start = out.len();
        out.push_str(text);
        out[start..].make_ascii_lowercase();
    } else {
        out.push_str(&text.to_lowercase());
    }
}

/// First letter of each run of letters and digits upper, the rest lower.
fn init_cap(text: &str, out: &mut String) {
    let mut inside = false;
    for c in text.chars() {
        if inside {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
        inside = c.is_alphanumeric();
    }
}

fn concat(args: &Args<'_>) -> Result<ArrayRef, EvalError> {
    let parts: Vec<Strings<'_>> = (0..args.len()).map(|index| args.strings(index)).collect();
    let bytes = parts.iter().map(Strings::capacity).sum::<usize>();
    by_text(args, bytes, |row, out| {
        for part in &parts {
            let _ = out.write_str(part.at(row));
        }
        Ok(true)
    })
}

/// `||` and SUBSTRING of byte strings; positions count bytes.
fn byte_strings(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    let concat = signature.function == ScalarFunction::Concat;
    let binary = |arg: &proto::types::DataType| arg.logical.is_binary();
    if concat && !signature.args.iter().all(binary) {
        return Err(signature.unsupported());
    }
    Ok(Box::new(move |args| {
        let nulls = args.nulls();
        let mut builder = BinaryBuilder::with_capacity(args.rows, args.rows * 16);
        let mut buffer = Vec::new();
        for row in 0..args.rows {
            if !is_valid(nulls.as_ref(), row) {
                builder.append_null();
            } else if concat {
                buffer.clear();
                for index in 0..args.len() {
                    buffer.extend_from_slice(args.bytes(index).at(row));
                }
                builder.append_value(&buffer);
            } else {
                let bytes = args.bytes(0).at(row);
                let from = i64::from(args.numbers::<Int32Type>(1).at(row));
                let start = match from {
                    ..0 => bytes.len() as i64 + from,
                    0 => 0,
                    _ => from - 1,
                };
                let length = match args.len() {
                    2 => i64::MAX,
                    _ => i64::from(args.numbers::<Int32Type>(2).at(row)).max(0),
                };
                let start = usize::try_from(start).unwrap_or(bytes.len());
                let rest = bytes.get(start..).unwrap_or_default();
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                builder.append_value(&rest[..rest.len().min(length)]);
            }
        }
        Ok(Arc::new(builder.finish()))
    }))
}

fn concat_ws(args: &Args<'_>) -> Result<ArrayRef, EvalError> {
    let separators = args.strings(0);
    let parts: Vec<Strings<'_>> = (1..args.len()).map(|index| args.strings(index)).collect();
    let bytes = parts.iter().map(Strings::capacity).sum::<usize>();
    let nulls = args.nulls_of(0..1);
    strings(args.rows, nulls.as_ref(), bytes, |row, out| {
        let separator = separators.at(row);
        let mut first = true;
        for text in parts.iter().filter_map(|part| part.get(row)) {
            if !first {
                let _ = out.write_str(separator);
            }
            first = false;
            let _ = out.write_str(text);
        }
        Ok(true)
    })
}

fn elt(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    if !signature.args[1..]
        .iter()
        .all(|arg| arg.logical.is_character())
    {
        return Err(signature.unsupported());
    }
    Ok(Box::new(|args| {
        let indices = args.numbers::<Int32Type>(0);
        let parts: Vec<Strings<'_>> = (1..args.len()).map(|index| args.strings(index)).collect();
        strings(
            args.rows,
            args.nulls_of(0..1).as_ref(),
            args.rows * 8,
            |row, out| {
                let part = usize::try_from(indices.at(row))
                    .ok()
                    .and_then(|index| index.checked_sub(1))
                    .and_then(|index| parts.get(index));
                match part.and_then(|part| part.get(row)) {
                    Some(text) => {
                        let _ = out.write_str(text);
                        Ok(true)
                    }
                    None => Ok(false),
                }
            },
        )
    }))
}

/// The part of `text` that SUBSTRING means: from 0 counts as 1, negative counts from the end.
fn sub_text(text: &str, from: i32, length: Option<i32>) -> &str {
    if length.is_some_and(|length| length <= 0) {
        return "";
    }
    let start = if from > 0 {
        from as usize - 1
    } else if from < 0 {
        let count = char_count(text);
        match count.checked_sub(from.unsigned_abs() as usize) {
            Some(start) => start,
            None => return "",
        }
    } else {
        0
    };
    let rest = &text[byte_offset(text, start)..];
    match length {
        Some(length) => &rest[..byte_offset(rest, length as usize)],
        None => rest,
    }
}

fn substring(args: &Args<'_>) -> Result<ArrayRef, EvalError> {
    let texts = args.strings(0);
    let from = args.numbers::<Int32Type>(1);
    let length = (args.len() > 2).then(|| args.numbers::<Int32Type>(2));
    by_text(args, texts.capacity(), |row, out| {
        let length = length.as_ref().map(|length| length.at(row));
        if length.is_some_and(|length| length < 0) {
            return Ok(false);
        }
        let _ = out.write_str(sub_text(texts.at(row), from.at(row), length));
        Ok(true)
    })
}

fn left_or_right(left: bool) -> Kernel {
    Box::new(move |args| {
        let texts = args.strings(0);
        let lengths = args.numbers::<Int32Type>(1);
        by_text(args, texts.capacity(), |row, out| {
            let (text, length) = (texts.at(row), lengths.at(row).max(0) as usize);
            let part = if left {
                &text[..byte_offset(text, length)]
            } else {
                &text[byte_offset(text, char_count(text).saturating_sub(length))..]
            };
            let _ = out.write_str(part);
            Ok(true)
        })
    })
}

/// Longest text that REPEAT, LPAD and RPAD make.
const MADE_TEXT_BYTES_MAX: usize = 64 << 20;

fn check_size(function: &'static str, bytes: usize) -> Result<(), EvalError> {
    if bytes > MADE_TEXT_BYTES_MAX {
        return Err(EvalError::function(
            function,
            format!("its result of {bytes} bytes is longer than {MADE_TEXT_BYTES_MAX}"),
        ));
    }
    Ok(())
}

fn repeat(args: &Args<'_>) -> Result<ArrayRef, EvalError> {
    let texts = args.strings(0);
    let times = args.numbers::<Int32Type>(1);
    by_text(args, texts.capacity() * 2, |row, out| {
        let (text, times) = (texts.at(row), times.at(row).max(0) as usize);
        check_size("REPEAT", text.len().saturating_mul(times))?;
        for _ in 0..times {
            let _ = out.write_str(text);
        }
        Ok(true)
    })
}

fn overlay(args: &Args<'_>) -> Result<ArrayRef, EvalError> {
    let (texts, inserts) = (args.strings(0), args.strings(1));
    let from = args.numbers::<Int32Type>(2);
    let length = (args.len() > 3).then(|| args.numbers::<Int32Type>(3));
    by_text(args, texts.capacity() + inserts.capacity(), |row, out| {
        let (text, insert, from) = (texts.at(row), inserts.at(row), from.at(row));
        let count = char_count(text);
        if from <= 0 || from as usize > count {
            let _ = out.write_str(text);
            return Ok(true);
        }
        let start = from as usize - 1;
        let length = match &length {
            Some(length) => length.at(row),
            None => char_count(insert) as i32,
        };
        // No length, like one beyond the end, replaces the whole rest.
        let end = match usize::try_from(length) {
            Ok(length) if length > 0 => (start + length).min(count),
            _ => count,
        };
        let _ = out.write_str(&text[..byte_offset(text, start)]);
        let _ = out.write_str(insert);
        let _ = out.write_str(&text[byte_offset(text, end)..]);
        Ok(true)
    })
}

fn pad(left: bool) -> Kernel {
    Box::new(move |args| {
        let (texts, pads) = (args.strings(0), args.strings(2));
        let lengths = args.numbers::<Int32Type>(1);
        by_text(args, texts.capacity() * 2, |row, out| {
            let (text, pad) = (texts.at(row), pads.at(row));
            let Ok(length) = usize::try_from(lengths.at(row)) else {
                return Ok(false);
            };
            check_size("LPAD", length)?;
            if pad.is_empty() {
                return Ok(false);
            }
            let count = char_count(text);
            if count >= length {
                let _ = out.write_str(&text[..byte_offset(text, length)]);
                return Ok(true);
            }
            if !left {
                let _ = out.write_str(text);
            }
            for c in pad.chars().cycle().take(length - count) {
                let _ = out.write_char(c);
            }
            if left {
                let _ = out.write_str(text);
            }
            Ok(true)
        })
    })
}

fn trim(start: bool, end: bool) -> Kernel {
    Box::new(move |args| {
        let texts = args.strings(0);
        let characters = (args.len() > 1).then(|| args.strings(1));
        by_text(args, texts.capacity(), |row, out| {
            let characters = characters.map_or(" ", |characters| characters.at(row));
            let mut text = texts.at(row);
            if start {
                text = text.trim_start_matches(|c| characters.contains(c));
            }
            if end {
                text = text.trim_end_matches(|c| characters.contains(c));
            }
            let _ = out.write_str(text);
            Ok(true)
        })
    })
}
