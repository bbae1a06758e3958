//! Strings taken apart into lists and maps, and PRINTF.

use std::{fmt::Write as _, sync::Arc};

use arrow::{
    array::{ArrayRef, ListBuilder, MapBuilder, MapFieldNames, StringBuilder},
    datatypes::{DataType as ArrowType, Field as ArrowField},
};
use proto::types::LogicalType;

use regex::Regex;

use super::{
    Kernel, Signature,
    kernel::strings,
    pattern::{Cache, java, matches},
};
use crate::expr::{
    EvalError,
    format::{Style, write_value},
    value::{Args, NullAt as _, is_valid},
};

/// An empty list builder whose arrays have our ARRAY<STRING>.
pub(super) fn text_list_builder(rows: usize) -> ListBuilder<StringBuilder> {
    let item = ArrowField::new("item", ArrowType::Utf8, true);
    ListBuilder::with_capacity(StringBuilder::new(), rows).with_field(item)
}

/// SPLIT(text, separator): an empty separator takes characters apart.
pub(super) fn split() -> Kernel {
    Box::new(|args| {
        let (texts, separators) = (args.strings(0), args.strings(1));
        let nulls = args.nulls();
        let mut builder = text_list_builder(args.rows);
        for row in 0..args.rows {
            if !is_valid(nulls.as_ref(), row) {
                builder.append_null();
                continue;
            }
            let (text, separator) = (texts.at(row), separators.at(row));
            if separator.is_empty() {
                let mut buffer = [0; 4];
                for c in text.chars() {
                    builder.values().append_value(c.encode_utf8(&mut buffer));
                }
            } else {
                for part in text.split(separator) {
                    builder.values().append_value(part);
                }
            }
            builder.append(true);
        }
        Ok(Arc::new(builder.finish()))
    })
}

/// Where a separator stands, as Java splits: none is empty at the beginning.
fn separators<'a>(regex: &'a Regex, text: &'a str) -> impl Iterator<Item = (usize, usize)> + 'a {
    matches(regex, text).filter(|(_, end)| *end > 0)
}

/// The parts between separators, without the empty ones at the end.
fn split_by<'a>(regex: &Regex, text: &'a str) -> Vec<&'a str> {
    let mut parts = Vec::new();
    let mut last = 0;
    for (start, end) in separators(regex, text) {
        parts.push(&text[last..start]);
        last = end;
    }
    parts.push(&text[last..]);
    while parts.last().is_some_and(|part| part.is_empty()) {
        parts.pop();
    }
    parts
}

/// STR_TO_MAP(text[, between entries[, between key and value]]); the separators are regular expressions.
pub(super) fn text_to_map() -> Kernel {
    Box::new(|args| {
        let texts = args.strings(0);
        let between = (args.len() > 1).then(|| args.strings(1));
        let inside = (args.len() > 2).then(|| args.strings(2));
        let names = MapFieldNames {
            entry: "entries".to_owned(),
            key: "key".to_owned(),
            value: "value".to_owned(),
        };
        let (keys, values) = (StringBuilder::new(), StringBuilder::new());
        let mut builder = MapBuilder::with_capacity(Some(names), keys, values, args.rows);
        let nulls = args.nulls();
        let mut regexes = Cache::new(java);
        for row in 0..args.rows {
            if !is_valid(nulls.as_ref(), row) {
                builder.append(false)?;
                continue;
            }
            let between = between.map_or(",", |between| between.at(row));
            let inside = inside.map_or("=", |inside| inside.at(row));
            let mut regex = |pattern: &str| {
                regexes
                    .get(pattern)
                    .map_err(|message| EvalError::function("STR_TO_MAP", message))
            };
            let (between, inside) = (regex(between)?, regex(inside)?);
            let mut entries: Vec<(&str, Option<&str>)> = Vec::new();
            for entry in split_by(&between, texts.at(row)) {
                let (key, value) = match separators(&inside, entry).next() {
                    Some((start, end)) => (&entry[..start], Some(&entry[end..])),
                    None => (entry, None),
                };
                match entries.iter_mut().find(|(known, _)| *known == key) {
                    Some(known) => known.1 = value,
                    None => entries.push((key, value)),
                }
            }
            for (key, value) in entries {
                builder.keys().append_value(key);
                builder.values().append_option(value);
            }
            builder.append(true)?;
        }
        Ok(Arc::new(builder.finish()))
    })
}

/// PRINTF(format, …): `%s %d %x %f %e %c %b %n %%` with flags `-`, `0`, `,`, `+`, a width and a
/// precision.
pub(super) fn printf(signature: &Signature<'_>) -> Kernel {
    let types: Vec<LogicalType> = signature
        .args
        .iter()
        .map(|arg| arg.logical.clone())
        .collect();
    Box::new(move |args| {
        let formats = args.strings(0);
        let nulls = args.nulls_of(0..1);
        strings(
            args.rows,
            nulls.as_ref(),
            formats.capacity() * 2,
            |row, out| {
                print_row(formats.at(row), args, &types, row, out)?;
                Ok(true)
            },
        )
    })
}

fn print_row(
    format: &str,
    args: &Args<'_>,
    types: &[LogicalType],
    row: usize,
    out: &mut StringBuilder,
) -> Result<(), EvalError> {
    let mut rest = format;
    let mut next = 1;
    while let Some(percent) = rest.find('%') {
        let _ = out.write_str(&rest[..percent]);
        let directive = &rest[percent + 1..];
        let end = directive
            .find(|c: char| c.is_ascii_alphabetic() || c == '%')
            .ok_or_else(|| EvalError::function("PRINTF", "the format ends within a directive"))?;
        let conversion = directive.as_bytes()[end];
        let flags = &directive[..end];
        rest = &directive[end + 1..];
        match conversion {
            b'%' => out.write_char('%').unwrap_or_default(),
            b'n' => out.write_char('\n').unwrap_or_default(),
            _ => {
                let value = args
                    .values
                    .get(next)
                    .ok_or_else(|| EvalError::function("PRINTF", "too few arguments"))?;
                let mut text = String::new();
                let array: &ArrayRef = value.array();
                let at = row * value.step();
                if array.is_null_at(at) {
                    text.push_str("null");
                } else {
                    write_value(array, at, &types[next], Style::Cast, &mut text);
                    convert(&mut text, conversion, flags)?;
                }
                next += 1;
                pad(&text, flags, out);
            }
        }
    }
    let _ = out.write_str(rest);
    Ok(())
}

fn precision(flags: &str) -> Option<usize> {
    flags
        .split_once('.')
        .and_then(|(_, digits)| digits.parse().ok())
}

fn convert(text: &mut String, conversion: u8, flags: &str) -> Result<(), EvalError> {
    let invalid = |text: &str| {
        EvalError::function(
            "PRINTF",
            format!("`{text}` does not fit %{}", char::from(conversion)),
        )
    };
    match conversion {
        b's' | b'S' | b'b' | b'c' => {
            if let Some((end, _)) = precision(flags).and_then(|n| text.char_indices().nth(n)) {
                text.truncate(end);
            }
            if conversion == b'S' {
                *text = text.to_uppercase();
            }
        }
        b'd' => {
            let value: i64 = text.parse().map_err(|_| invalid(text))?;
            if flags.contains(',') {
                *text = grouped(&value.to_string());
            }
        }
        b'x' | b'X' | b'o' => {
            let value: i64 = text.parse().map_err(|_| invalid(text))?;
            *text = match conversion {
                b'x' => format!("{value:x}"),
                b'X' => format!("{value:X}"),
                _ => format!("{value:o}"),
            };
        }
        b'f' | b'e' => {
            let value: f64 = text.parse().map_err(|_| invalid(text))?;
            let digits = precision(flags).unwrap_or(6);
            *text = if conversion == b'f' {
                format!("{value:.digits$}")
            } else {
                format!("{value:.digits$e}")
            };
            if conversion == b'f' && flags.contains(',') {
                *text = grouped(text);
            }
        }
        _ => return Err(invalid(text)),
    }
    if flags.contains('+') && b"dfe".contains(&conversion) && !text.starts_with('-') {
        text.insert(0, '+');
    }
    Ok(())
}

fn grouped(number: &str) -> String {
    let (whole, fraction) = match number.find('.') {
        Some(point) => number.split_at(point),
        None => (number, ""),
    };
    let (sign, digits) = match whole.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", whole),
    };
    let mut out = sign.to_owned();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out.push_str(fraction);
    out
}

fn pad(text: &str, flags: &str, out: &mut StringBuilder) {
    let left = flags.contains('-');
    let digits = flags.split('.').next().unwrap_or("");
    let digits = digits.trim_start_matches(['-', '+', ',', ' ', '#']);
    let zero = digits.starts_with('0') && !left;
    let width: usize = digits.parse().unwrap_or(0);
    let missing = width.min(1 << 16).saturating_sub(text.chars().count());
    let (sign, body) = match text.strip_prefix('-') {
        Some(body) if zero => ("-", body),
        _ => ("", text),
    };
    let _ = out.write_str(sign);
    if left {
        let _ = out.write_str(body);
    }
    for _ in 0..missing {
        let _ = out.write_char(if zero { '0' } else { ' ' });
    }
    if !left {
        let _ = out.write_str(body);
    }
}
