//! Numbers and bytes written in other alphabets: binary, hex, base64, charsets; digests; UUID.

use std::{fmt::Write as _, sync::Arc};

use arrow::{
    array::{ArrayRef, BinaryBuilder, Int32Array, StringBuilder},
    datatypes::{Int8Type, Int16Type, Int32Type, Int64Type},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use engine::{key::KeyEncoder, schema::arrow_type};
use md5::{Digest, Md5};
use proto::{plan::ScalarFunction, types::LogicalType};
use sha1::Sha1;
use sha2::{Sha224, Sha256, Sha384, Sha512};

use super::{Kernel, Signature, kernel::strings, random::entropy};
use crate::expr::{
    EvalError, ExprError,
    value::{Args, is_valid},
};

/// Makes the kernel of a codec function.
pub(super) fn build(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    use ScalarFunction as F;
    Ok(match (signature.function, signature.args.len()) {
        (F::Bin, 1) => Box::new(|args| {
            let numbers = args.numbers::<Int64Type>(0);
            by_text(args, args.rows * 16, |row, out| {
                let _ = write!(out, "{:b}", numbers.at(row));
                Ok(true)
            })
        }),
        (F::Hex, 1) => hex(signature)?,
        (F::Unhex, 1) => Box::new(unhex),
        (F::Conv, 3) => conv(signature)?,
        (F::ToBase64, 1) => digest(signature, |bytes, out| {
            let _ = out.write_str(&STANDARD.encode(bytes));
        })?,
        (F::FromBase64, 1) => from_base64(signature)?,
        (F::Encode, 2) => Box::new(encode),
        (F::Decode, 2) => Box::new(decode),
        (F::Md5, 1) => digest(signature, write_digest::<Md5>)?,
        (F::Sha1, 1) => digest(signature, write_digest::<Sha1>)?,
        (F::Sha224, 1) => digest(signature, write_digest::<Sha224>)?,
        (F::Sha256, 1) => digest(signature, write_digest::<Sha256>)?,
        (F::Sha384, 1) => digest(signature, write_digest::<Sha384>)?,
        (F::Sha512, 1) => digest(signature, write_digest::<Sha512>)?,
        (F::Sha2, 2) => Box::new(sha2),
        (F::HashBucket, 2) => hash_bucket(signature)?,
        (F::Uuid, 0) => Box::new(uuid),
        _ => return Err(signature.unsupported()),
    })
}

fn by_text(
    args: &Args<'_>,
    bytes: usize,
    f: impl FnMut(usize, &mut StringBuilder) -> Result<bool, EvalError>,
) -> Result<ArrayRef, EvalError> {
    strings(args.rows, args.nulls().as_ref(), bytes, f)
}

/// Bytes per row where no operand is NULL.
fn by_bytes(
    args: &Args<'_>,
    mut f: impl FnMut(usize, &mut BinaryBuilder) -> Result<(), EvalError>,
) -> Result<ArrayRef, EvalError> {
    let nulls = args.nulls();
    let mut builder = BinaryBuilder::with_capacity(args.rows, args.rows * 16);
    for row in 0..args.rows {
        if is_valid(nulls.as_ref(), row) {
            f(row, &mut builder)?;
        } else {
            builder.append_null();
        }
    }
    Ok(Arc::new(builder.finish()))
}

/// A text of a text's or byte string's bytes.
fn digest(
    signature: &Signature<'_>,
    f: fn(&[u8], &mut StringBuilder),
) -> Result<Kernel, ExprError> {
    let logical = &signature.args[0].logical;
    if logical.is_character() {
        Ok(Box::new(move |args| {
            let texts = args.strings(0);
            by_text(args, args.rows * 32, |row, out| {
                f(texts.at(row).as_bytes(), out);
                Ok(true)
            })
        }))
    } else if logical.is_binary() {
        Ok(Box::new(move |args| {
            let values = args.bytes(0);
            by_text(args, args.rows * 32, |row, out| {
                f(values.at(row), out);
                Ok(true)
            })
        }))
    } else {
        Err(signature.unsupported())
    }
}

const LOWER: &[u8; 16] = b"0123456789abcdef";
const UPPER: &[u8; 16] = b"0123456789ABCDEF";

fn write_hex(bytes: &[u8], alphabet: &[u8; 16], out: &mut impl std::fmt::Write) {
    for byte in bytes {
        let _ = out.write_char(char::from(alphabet[usize::from(byte >> 4)]));
        let _ = out.write_char(char::from(alphabet[usize::from(byte & 15)]));
    }
}

fn write_digest<D: Digest>(bytes: &[u8], out: &mut StringBuilder) {
    write_hex(&D::digest(bytes), LOWER, out);
}

fn sha2(args: &Args<'_>) -> Result<ArrayRef, EvalError> {
    let texts = args.strings(0);
    let bits = args.numbers::<Int32Type>(1);
    by_text(args, args.rows * 64, |row, out| {
        let bytes = texts.at(row).as_bytes();
        match bits.at(row) {
            224 => write_digest::<Sha224>(bytes, out),
            256 => write_digest::<Sha256>(bytes, out),
            384 => write_digest::<Sha384>(bytes, out),
            512 => write_digest::<Sha512>(bytes, out),
            other => {
                return Err(EvalError::function(
                    "SHA2",
                    format!("its bits must be 224, 256, 384 or 512, not {other}"),
                ));
            }
        }
        Ok(true)
    })
}

/// By the hash of keys, so that values that are one key are in one bucket.
fn hash_bucket(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    let types = vec![arrow_type(&signature.args[0].logical)];
    let encoder = KeyEncoder::new(vec![0], types).map_err(|_| signature.unsupported())?;
    Ok(Box::new(move |args| {
        let values = args.value(0).clone().into_array(args.rows)?;
        let keys = encoder.encode_arrays(&[values], args.rows)?;
        let buckets = args.numbers::<Int64Type>(1);
        let bucket = |(row, hash): (usize, &u64)| {
            // The top bits of a key's hash are its key group.
            let count = u64::try_from(buckets.at(row)).unwrap_or(1);
            (((hash & u64::from(u32::MAX)) * count) >> 32) as i32
        };
        let numbers: Int32Array = keys.hashes.iter().enumerate().map(bucket).collect();
        Ok(Arc::new(numbers))
    }))
}

fn hex(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    fn of_integer<T>() -> Kernel
    where
        T: arrow::array::ArrowPrimitiveType,
        T::Native: Into<i64>,
    {
        Box::new(|args| {
            let numbers = args.numbers::<T>(0);
            by_text(args, args.rows * 16, |row, out| {
                let number: i64 = numbers.at(row).into();
                let _ = write!(out, "{number:X}");
                Ok(true)
            })
        })
    }
    match signature.args[0].logical {
        LogicalType::TinyInt => Ok(of_integer::<Int8Type>()),
        LogicalType::SmallInt => Ok(of_integer::<Int16Type>()),
        LogicalType::Int => Ok(of_integer::<Int32Type>()),
        LogicalType::BigInt => Ok(of_integer::<Int64Type>()),
        _ => digest(signature, |bytes, out| write_hex(bytes, UPPER, out)),
    }
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

/// Of an odd number of digits the first stands alone.
fn unhex(args: &Args<'_>) -> Result<ArrayRef, EvalError> {
    let texts = args.strings(0);
    by_bytes(args, |row, out| {
        let digits: Option<Vec<u8>> = texts.at(row).bytes().map(hex_digit).collect();
        match digits {
            Some(digits) => {
                let (first, pairs) = digits.split_at(digits.len() % 2);
                let pairs = pairs.chunks(2).map(|pair| pair[0] << 4 | pair[1]);
                out.append_value(first.iter().copied().chain(pairs).collect::<Vec<u8>>());
            }
            None => out.append_null(),
        }
        Ok(())
    })
}

/// CONV(number, from base, to base): the digits up to the first that is none.
fn conv(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    if !signature.args[0].logical.is_character() {
        return Err(signature.unsupported());
    }
    Ok(Box::new(|args| {
        let texts = args.strings(0);
        let (from, to) = (args.numbers::<Int32Type>(1), args.numbers::<Int32Type>(2));
        by_text(args, args.rows * 8, |row, out| {
            let (from, to) = (from.at(row), to.at(row));
            if !(2..=36).contains(&from) || !(2..=36).contains(&to.abs()) {
                return Ok(false);
            }
            let text = texts.at(row).trim();
            let (negative, digits) = match text.strip_prefix('-') {
                Some(digits) => (true, digits),
                None => (false, text),
            };
            if digits.is_empty() {
                return Ok(false);
            }
            let mut value: u64 = 0;
            for digit in digits.chars().map_while(|c| c.to_digit(from as u32)) {
                value = value
                    .saturating_mul(from as u64)
                    .saturating_add(u64::from(digit));
            }
            if negative && to > 0 {
                value = value.wrapping_neg();
            }
            if negative && to < 0 {
                let _ = out.write_char('-');
            }
            write_in_base(value, to.unsigned_abs(), out);
            Ok(true)
        })
    }))
}

fn write_in_base(mut value: u64, base: u32, out: &mut StringBuilder) {
    let mut digits = [0u8; 64];
    let mut at = digits.len();
    loop {
        at -= 1;
        let digit = char::from_digit((value % u64::from(base)) as u32, base).unwrap_or('0');
        digits[at] = digit.to_ascii_uppercase() as u8;
        value /= u64::from(base);
        if value == 0 {
            break;
        }
    }
    for digit in &digits[at..] {
        let _ = out.write_char(char::from(*digit));
    }
}

fn from_base64(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    let invalid =
        |error: base64::DecodeError| EvalError::function("FROM_BASE64", error.to_string());
    if signature.result.logical.is_binary() {
        return Ok(Box::new(move |args| {
            let texts = args.strings(0);
            by_bytes(args, |row, out| {
                out.append_value(STANDARD.decode(texts.at(row)).map_err(invalid)?);
                Ok(())
            })
        }));
    }
    Ok(Box::new(move |args| {
        let texts = args.strings(0);
        by_text(args, texts.capacity(), |row, out| {
            let bytes = STANDARD.decode(texts.at(row)).map_err(invalid)?;
            let _ = out.write_str(&String::from_utf8_lossy(&bytes));
            Ok(true)
        })
    }))
}

/// The character encodings by name.
#[derive(Clone, Copy)]
enum Charset {
    Ascii,
    Latin1,
    Utf8,
    Utf16Be,
    Utf16Le,
    /// Big end first, with a byte order mark.
    Utf16,
}

fn charset(name: &str) -> Result<Charset, EvalError> {
    Ok(match name.to_ascii_uppercase().as_str() {
        "US-ASCII" | "ASCII" => Charset::Ascii,
        "ISO-8859-1" | "LATIN1" => Charset::Latin1,
        "UTF-8" | "UTF8" => Charset::Utf8,
        "UTF-16BE" => Charset::Utf16Be,
        "UTF-16LE" => Charset::Utf16Le,
        "UTF-16" => Charset::Utf16,
        _ => {
            return Err(EvalError::function(
                "ENCODE or DECODE",
                format!("unknown charset `{name}`"),
            ));
        }
    })
}

fn encode(args: &Args<'_>) -> Result<ArrayRef, EvalError> {
    let (texts, charsets) = (args.strings(0), args.strings(1));
    by_bytes(args, |row, out| {
        let text = texts.at(row);
        let narrow = |limit: u32| -> Vec<u8> {
            text.chars()
                .map(|c| {
                    if u32::from(c) < limit {
                        u32::from(c) as u8
                    } else {
                        b'?'
                    }
                })
                .collect()
        };
        let wide = |swap: bool| -> Vec<u8> {
            text.encode_utf16()
                .flat_map(|unit| {
                    if swap {
                        unit.to_le_bytes()
                    } else {
                        unit.to_be_bytes()
                    }
                })
                .collect()
        };
        match charset(charsets.at(row))? {
            Charset::Utf8 => out.append_value(text.as_bytes()),
            Charset::Ascii => out.append_value(narrow(128)),
            Charset::Latin1 => out.append_value(narrow(256)),
            Charset::Utf16Be => out.append_value(wide(false)),
            Charset::Utf16Le => out.append_value(wide(true)),
            Charset::Utf16 => {
                let mut bytes = vec![0xfe, 0xff];
                bytes.extend(wide(false));
                out.append_value(bytes);
            }
        }
        Ok(())
    })
}

fn decode(args: &Args<'_>) -> Result<ArrayRef, EvalError> {
    let (values, charsets) = (args.bytes(0), args.strings(1));
    by_text(args, args.rows * 16, |row, out| {
        let bytes = values.at(row);
        let wide = |bytes: &[u8], swap: bool| -> String {
            let units: Vec<u16> = bytes
                .chunks(2)
                .map(|pair| {
                    let pair = [pair[0], pair.get(1).copied().unwrap_or(0)];
                    if swap {
                        u16::from_le_bytes(pair)
                    } else {
                        u16::from_be_bytes(pair)
                    }
                })
                .collect();
            String::from_utf16_lossy(&units)
        };
        let text = match charset(charsets.at(row))? {
            Charset::Utf8 => String::from_utf8_lossy(bytes).into_owned(),
            Charset::Ascii => bytes
                .iter()
                .map(|byte| {
                    if byte.is_ascii() {
                        char::from(*byte)
                    } else {
                        '\u{fffd}'
                    }
                })
                .collect(),
            Charset::Latin1 => bytes.iter().map(|byte| char::from(*byte)).collect(),
            Charset::Utf16Be => wide(bytes, false),
            Charset::Utf16Le => wide(bytes, true),
            Charset::Utf16 => match bytes {
                [0xff, 0xfe, rest @ ..] => wide(rest, true),
                [0xfe, 0xff, rest @ ..] => wide(rest, false),
                other => wide(other, false),
            },
        };
        let _ = out.write_str(&text);
        Ok(true)
    })
}

/// Random (version 4) UUIDs.
fn uuid(args: &Args<'_>) -> Result<ArrayRef, EvalError> {
    by_text(args, args.rows * 36, |_, out| {
        let random = (u128::from(entropy()) << 64) | u128::from(entropy());
        let bits = (random & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
        let mut hex = String::with_capacity(32);
        write_hex(&bits.to_be_bytes(), LOWER, &mut hex);
        let parts = [
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..],
        ];
        let _ = out.write_str(&parts.join("-"));
        Ok(true)
    })
}
