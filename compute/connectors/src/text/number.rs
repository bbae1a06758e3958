//! Floating-point numbers as Java writes them: `1.0`, `1.0E10`, `NaN`, `-Infinity`, always with
//! the fewest digits that read back as the same number, but two at least.

/// A DOUBLE.
pub(crate) fn write_f64(out: &mut Vec<u8>, value: f64) {
    if value.is_finite() {
        let size = value.abs();
        let mut digits = format!("{size:e}");
        if size > 0.0 && size < f64::MIN_POSITIVE && !digits.contains('.') {
            // Numbers this small are far apart: one digit may name them, but two, of which Java
            // has at least so many, are nearer.
            digits = format!("{size:.1e}");
        }
        write_digits(out, value.is_sign_negative(), &digits);
    } else {
        write_special(out, value);
    }
}

/// A FLOAT.
pub(crate) fn write_f32(out: &mut Vec<u8>, value: f32) {
    if value.is_finite() {
        let size = value.abs();
        let mut digits = format!("{size:e}");
        if size > 0.0 && size < f32::MIN_POSITIVE && !digits.contains('.') {
            digits = format!("{size:.1e}");
        }
        write_digits(out, value.is_sign_negative(), &digits);
    } else {
        write_special(out, f64::from(value));
    }
}

fn write_special(out: &mut Vec<u8>, value: f64) {
    out.extend_from_slice(if value.is_nan() {
        b"NaN".as_slice()
    } else if value > 0.0 {
        b"Infinity"
    } else {
        b"-Infinity"
    });
}

/// `scientific` is `d[.ddd]e[-]x`.
fn write_digits(out: &mut Vec<u8>, negative: bool, scientific: &str) {
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (first, rest) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if negative {
        out.push(b'-');
    }
    if !(-3..7).contains(&exponent) {
        out.extend_from_slice(first.as_bytes());
        out.push(b'.');
        out.extend_from_slice(if rest.is_empty() {
            b"0"
        } else {
            rest.as_bytes()
        });
        out.push(b'E');
        let mut buffer = itoa::Buffer::new();
        out.extend_from_slice(buffer.format(exponent).as_bytes());
    } else if exponent < 0 {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', (-exponent - 1) as usize));
        out.extend_from_slice(first.as_bytes());
        out.extend_from_slice(rest.as_bytes());
    } else {
        let whole = exponent as usize;
        out.extend_from_slice(first.as_bytes());
        let split = whole.min(rest.len());
        out.extend_from_slice(&rest.as_bytes()[..split]);
        out.extend(std::iter::repeat_n(b'0', whole - split));
        out.push(b'.');
        let fraction = &rest.as_bytes()[split..];
        out.extend_from_slice(if fraction.is_empty() { b"0" } else { fraction });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: f64, expected: &str) {
        let mut out = Vec::new();
        write_f64(&mut out, value);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn doubles_as_java_writes_them() {
        check(0.0, "0.0");
        check(-0.0, "-0.0");
        check(1.0, "1.0");
        check(-12.5, "-12.5");
        check(1e7, "1.0E7");
        check(1_234_567.0, "1234567.0");
        check(9_999_999.5, "9999999.5");
        check(0.001, "0.001");
        check(0.000_99, "9.9E-4");
        check(1.25e10, "1.25E10");
        check(1e-300, "1.0E-300");
        check(f64::NAN, "NaN");
        check(f64::NEG_INFINITY, "-Infinity");
        check(5e-324, "4.9E-324");
        check(-1e-323, "-9.9E-324");
        let check = |value: f32, expected: &str| {
            let mut out = Vec::new();
            write_f32(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        };
        check(0.1, "0.1");
        check(1e-45, "1.4E-45");
        check(1e-38, "1.0E-38");
    }
}
