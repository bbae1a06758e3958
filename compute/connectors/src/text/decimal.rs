//! Decimals as text: exact, never through a float.

/// Why a text is not a decimal of the wanted type.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum DecimalError {
    /// Not a number.
    Malformed,
    /// More digits before the point than the type has.
    OutOfRange,
}

/// The unscaled value of `text` (an optional sign, digits with an optional point and exponent)
/// at `scale`, rounded half up, within `precision` digits.
pub(crate) fn parse_decimal(text: &[u8], precision: u8, scale: u8) -> Result<i128, DecimalError> {
    let (negative, text) = match text.first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let (mantissa, exponent) = match text.iter().position(|byte| matches!(byte, b'e' | b'E')) {
        Some(at) => (&text[..at], parse_exponent(&text[at + 1..])?),
        None => (text, 0),
    };
    let point = mantissa.iter().position(|byte| *byte == b'.');
    let digits = mantissa.len() - usize::from(point.is_some());
    let points = mantissa.iter().filter(|byte| **byte == b'.').count();
    if digits == 0 || points > 1 {
        return Err(DecimalError::Malformed);
    }
    // How many of the digits stand before the last place that the scale keeps.
    let whole = point.unwrap_or(mantissa.len()) as i64;
    let kept = whole + exponent + i64::from(scale);
    let mut value: i128 = 0;
    let mut seen = 0;
    let mut round_up = false;
    for byte in mantissa.iter().filter(|byte| **byte != b'.') {
        if !byte.is_ascii_digit() {
            return Err(DecimalError::Malformed);
        }
        if seen < kept {
            value = value
                .checked_mul(10)
                .and_then(|value| value.checked_add(i128::from(byte - b'0')))
                .ok_or(DecimalError::OutOfRange)?;
        } else if seen == kept {
            round_up = *byte >= b'5';
        }
        seen += 1;
    }
    while seen < kept && value != 0 {
        value = value.checked_mul(10).ok_or(DecimalError::OutOfRange)?;
        seen += 1;
    }
    value += i128::from(round_up);
    if value >= 10_i128.pow(u32::from(precision)) {
        return Err(DecimalError::OutOfRange);
    }
    Ok(if negative { -value } else { value })
}

fn parse_exponent(text: &[u8]) -> Result<i64, DecimalError> {
    let (negative, digits) = match text.first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(DecimalError::Malformed);
    }
    // Beyond a million either way the result is 0 or out of range all the same.
    let exponent = digits.iter().fold(0_i64, |sum, byte| {
        (sum * 10 + i64::from(byte - b'0')).min(1_000_000)
    });
    Ok(if negative { -exponent } else { exponent })
}

/// Plain digits with the full scale: `-12.50`.
pub(crate) fn write_decimal(out: &mut Vec<u8>, unscaled: i128, scale: u8) {
    if unscaled < 0 {
        out.push(b'-');
    }
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(unscaled.unsigned_abs()).as_bytes();
    let scale = usize::from(scale);
    if digits.len() > scale {
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        out.extend_from_slice(whole);
        if scale > 0 {
            out.push(b'.');
            out.extend_from_slice(fraction);
        }
    } else {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', scale - digits.len()));
        out.extend_from_slice(digits);
    }
}

/// Without trailing zeros, with an exponent where Java's `BigDecimal` has one: `1E+2`, `2.7E-8`.
pub(crate) fn write_decimal_scientific(out: &mut Vec<u8>, unscaled: i128, scale: u8) {
    let (mut unscaled, mut scale) = (unscaled, i32::from(scale));
    if unscaled == 0 {
        out.push(b'0');
        return;
    }
    while unscaled % 10 == 0 {
        unscaled /= 10;
        scale -= 1;
    }
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(unscaled.unsigned_abs()).as_bytes();
    let adjusted = digits.len() as i32 - 1 - scale;
    if scale >= 0 && adjusted >= -6 {
        write_decimal(out, unscaled, scale as u8);
        return;
    }
    if unscaled < 0 {
        out.push(b'-');
    }
    out.push(digits[0]);
    if digits.len() > 1 {
        out.push(b'.');
        out.extend_from_slice(&digits[1..]);
    }
    out.extend_from_slice(if adjusted < 0 { b"E-" } else { b"E+" });
    let mut buffer = itoa::Buffer::new();
    out.extend_from_slice(buffer.format(adjusted.unsigned_abs()).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, precision: u8, scale: u8, expected: Result<&str, DecimalError>) {
        let shown = parse_decimal(text.as_bytes(), precision, scale).map(|value| {
            let mut out = Vec::new();
            write_decimal(&mut out, value, scale);
            String::from_utf8(out).unwrap()
        });
        assert_eq!(shown, expected.map(str::to_owned), "{text}");
    }

    #[test]
    fn decimals_read_exactly() {
        check("420.6", 10, 2, Ok("420.60"));
        check("-12.505", 10, 2, Ok("-12.51"));
        check("-12.504999", 10, 2, Ok("-12.50"));
        check("0.005", 3, 2, Ok("0.01"));
        check("0.004", 3, 2, Ok("0.00"));
        check("1e3", 6, 2, Ok("1000.00"));
        check("1.5E-1", 6, 2, Ok("0.15"));
        check("1.5E-3", 6, 2, Ok("0.00"));
        check("1E-400", 6, 2, Ok("0.00"));
        check("99.99", 4, 2, Ok("99.99"));
        check("99.995", 4, 2, Err(DecimalError::OutOfRange));
        check("1e400", 38, 2, Err(DecimalError::OutOfRange));
        check("0e400", 38, 2, Ok("0.00"));
        check(".5", 4, 0, Ok("1"));
        check("7.", 4, 0, Ok("7"));
        check(
            "12345678901234567890123456789012345678",
            38,
            0,
            Ok("12345678901234567890123456789012345678"),
        );
        check("", 4, 0, Err(DecimalError::Malformed));
        check("-", 4, 0, Err(DecimalError::Malformed));
        check("1.2.3", 4, 0, Err(DecimalError::Malformed));
        check("1e", 4, 0, Err(DecimalError::Malformed));
        check("12x", 4, 0, Err(DecimalError::Malformed));
    }

    #[test]
    fn scientific_form_is_javas() {
        let check = |unscaled, scale, expected: &str| {
            let mut out = Vec::new();
            write_decimal_scientific(&mut out, unscaled, scale);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        };
        check(10_000, 2, "1E+2");
        check(12_300, 2, "123");
        check(-27, 9, "-2.7E-8");
        check(150, 2, "1.5");
        check(0, 2, "0");
        check(-5, 2, "-0.05");
    }
}
