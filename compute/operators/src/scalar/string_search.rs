//! Strings found in strings, without patterns. Positions count code points from 1; 0 is a miss.

use std::fmt::Write as _;

use arrow::datatypes::{DataType as ArrowType, Int32Type, Int64Type};
use proto::{plan::ScalarFunction, types::LogicalType};

use super::{
    Kernel, Signature,
    kernel::{by_row, predicate, strings},
    string_basic::{byte_offset, char_count},
    string_list::{self, printf},
};
use crate::expr::{ExprError, value::Strings};

/// Makes the kernel of a string search function.
pub(super) fn build(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    use ScalarFunction as F;
    Ok(match (signature.function, signature.args.len()) {
        (F::Position, 2) => position(0, 1),
        (F::Locate, 2 | 3) => position(0, 1),
        (F::Instr, 2 | 3) => position(1, 0),
        (F::Instr, 4) => nth_position(),
        (F::Replace, 3) => Box::new(|args| {
            let (needles, replacements) = (args.strings(1), args.strings(2));
            let texts = args.strings(0);
            strings(
                args.rows,
                args.nulls().as_ref(),
                texts.capacity(),
                |row, out| {
                    replace(texts.at(row), needles.at(row), replacements.at(row), out);
                    Ok(true)
                },
            )
        }),
        (F::SplitIndex, 3) => split_index(signature)?,
        (F::Translate, 3) => translate(),
        (F::StartsWith | F::EndsWith, 2) => starts_or_ends(signature),
        (F::CountChar, 2) => Box::new(|args| {
            let (texts, needles) = (args.strings(0), args.strings(1));
            by_row::<Int64Type>(args, &ArrowType::Int64, |row| {
                Ok(Some(count(texts.at(row), needles.at(row)) as i64))
            })
        }),
        (F::Split, 2) => string_list::split(),
        (F::StrToMap, 1..=3) => string_list::text_to_map(),
        (F::Printf, 1..) => printf(signature),
        _ => return Err(signature.unsupported()),
    })
}

fn count(text: &str, needle: &str) -> usize {
    match needle.as_bytes() {
        [] => 0,
        [byte] => text.bytes().filter(|found| found == byte).count(),
        _ => text.matches(needle).count(),
    }
}

/// Position of `needle` in `text` at or after code point `from`, from 1; 0: none. Nothing is found
/// at 1, and what lies before 1 counts as 1.
fn find(text: &str, needle: &str, from: i32) -> i32 {
    if needle.is_empty() {
        return 1;
    }
    let skipped = usize::try_from(from).unwrap_or(0).saturating_sub(1);
    if skipped > char_count(text) {
        return 0;
    }
    let start = byte_offset(text, skipped);
    match text[start..].find(needle) {
        Some(found) => (skipped + char_count(&text[start..start + found]) + 1) as i32,
        None => 0,
    }
}

fn position(needle: usize, haystack: usize) -> Kernel {
    Box::new(move |args| {
        let (needles, texts) = (args.strings(needle), args.strings(haystack));
        let from = (args.len() > 2).then(|| args.numbers::<Int32Type>(2));
        by_row::<Int32Type>(args, &ArrowType::Int32, |row| {
            let from = from.as_ref().map_or(1, |from| from.at(row));
            Ok(Some(find(texts.at(row), needles.at(row), from)))
        })
    })
}

/// INSTR(text, needle, from, nth): a negative `from` searches backwards from the end.
fn nth_position() -> Kernel {
    Box::new(|args| {
        let (texts, needles) = (args.strings(0), args.strings(1));
        let (from, nth) = (args.numbers::<Int32Type>(2), args.numbers::<Int32Type>(3));
        by_row::<Int32Type>(args, &ArrowType::Int32, |row| {
            let (text, needle) = (texts.at(row), needles.at(row));
            let (from, nth) = (from.at(row), nth.at(row));
            let mut found: Vec<i32> = Vec::new();
            let mut next = find(text, needle, 1);
            if needle.is_empty() {
                return Ok(Some(next));
            }
            while next > 0 {
                found.push(next);
                next = find(text, needle, next + 1);
            }
            let wanted = usize::try_from(nth).ok().and_then(|nth| nth.checked_sub(1));
            let hit = wanted.and_then(|nth| {
                if from < 0 {
                    let last = char_count(text) as i32 + 1 + from;
                    found.iter().rev().filter(|at| **at <= last).nth(nth)
                } else {
                    found.iter().filter(|at| **at >= from).nth(nth)
                }
            });
            Ok(Some(hit.copied().unwrap_or(0)))
        })
    })
}

fn replace(text: &str, needle: &str, replacement: &str, out: &mut arrow::array::StringBuilder) {
    let mut last = 0;
    for (start, part) in text.match_indices(needle) {
        let _ = out.write_str(&text[last..start]);
        let _ = out.write_str(replacement);
        last = start + part.len();
    }
    let _ = out.write_str(&text[last..]);
}

/// Part `index` of `text`, from 0. Without a separator every blank is one.
fn part<'a>(text: &'a str, separator: &str, index: usize) -> Option<&'a str> {
    if text.is_empty() {
        return None;
    }
    let mut characters = separator.chars();
    match (characters.next(), characters.next()) {
        (None, _) => text.split(char::is_whitespace).nth(index),
        // A single byte is by far the most common, and faster to look for.
        (Some(byte), None) if byte.is_ascii() => text.split(byte).nth(index),
        _ => text.split(separator).nth(index),
    }
}

fn split_index(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    // The separator may also be given by its code.
    let by_code = match &signature.args[1].logical {
        logical if logical.is_character() => false,
        LogicalType::Int => true,
        _ => return Err(signature.unsupported()),
    };
    Ok(Box::new(move |args| {
        let texts = args.strings(0);
        let indices = args.numbers::<Int32Type>(2);
        let nulls = args.nulls();
        let separators: Option<Strings<'_>> = (!by_code).then(|| args.strings(1));
        let codes = by_code.then(|| args.numbers::<Int32Type>(1));
        strings(
            args.rows,
            nulls.as_ref(),
            texts.capacity() / 4,
            |row, out| {
                let mut buffer = [0; 4];
                let separator: &str = match (&separators, &codes) {
                    (Some(separators), _) => separators.at(row),
                    (None, Some(codes)) => match u8::try_from(codes.at(row)) {
                        Ok(code @ 1..) => char::from(code).encode_utf8(&mut buffer),
                        _ => return Ok(false),
                    },
                    (None, None) => return Ok(false),
                };
                let Ok(index) = usize::try_from(indices.at(row)) else {
                    return Ok(false);
                };
                match part(texts.at(row), separator, index) {
                    Some(part) => {
                        let _ = out.write_str(part);
                        Ok(true)
                    }
                    None => Ok(false),
                }
            },
        )
    }))
}

fn translate() -> Kernel {
    Box::new(|args| {
        let (from, to) = (args.strings(1), args.strings(2));
        let texts = args.strings(0);
        strings(
            args.rows,
            args.nulls().as_ref(),
            texts.capacity(),
            |row, out| {
                let (from, to) = (from.at(row), to.at(row));
                for c in texts.at(row).chars() {
                    match from.chars().position(|candidate| candidate == c) {
                        None => {
                            let _ = out.write_char(c);
                        }
                        Some(index) => {
                            if let Some(replacement) = to.chars().nth(index) {
                                let _ = out.write_char(replacement);
                            }
                        }
                    }
                }
                Ok(true)
            },
        )
    })
}

fn starts_or_ends(signature: &Signature<'_>) -> Kernel {
    let starts = signature.function == ScalarFunction::StartsWith;
    if signature.args.iter().all(|arg| arg.logical.is_binary()) {
        return Box::new(move |args| {
            let (values, parts) = (args.bytes(0), args.bytes(1));
            Ok(predicate(args, |row| {
                if starts {
                    values.at(row).starts_with(parts.at(row))
                } else {
                    values.at(row).ends_with(parts.at(row))
                }
            }))
        });
    }
    Box::new(move |args| {
        let (texts, parts) = (args.strings(0), args.strings(1));
        Ok(predicate(args, |row| {
            if starts {
                texts.at(row).starts_with(parts.at(row))
            } else {
                texts.at(row).ends_with(parts.at(row))
            }
        }))
    })
}
