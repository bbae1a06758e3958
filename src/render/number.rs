//! Numbers as text.

use std::fmt::{Debug, LowerExp, Write};

/// A floating-point number as Java writes it: plain from 0.001 up to 10 million, else
/// `d.dE<exponent>`; always the shortest digits that read back as the same number.
pub(super) fn push_float<F>(out: &mut String, value: F)
where
    F: Copy + Debug + LowerExp + Into<f64>,
{
    let wide: f64 = value.into();
    // Writing to a string does not fail.
    let _ = if wide.is_nan() {
        out.write_str("NaN")
    } else if wide.is_infinite() {
        out.write_str(if wide > 0.0 { "Infinity" } else { "-Infinity" })
    } else if wide == 0.0 || (1e-3..1e7).contains(&wide.abs()) {
        write!(out, "{value:?}")
    } else {
        let scientific = format!("{value:e}");
        let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
        let point = if digits.contains('.') { "" } else { ".0" };
        write!(out, "{digits}{point}E{exponent}")
    };
}

/// A decimal with all digits of its scale.
pub(super) fn push_decimal(out: &mut String, unscaled: i128, scale: i8) {
    let digits = unscaled.unsigned_abs().to_string();
    if unscaled < 0 {
        out.push('-');
    }
    let scale = usize::try_from(scale).unwrap_or_default();
    if scale == 0 {
        return out.push_str(&digits);
    }
    let padded = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = padded.split_at(padded.len() - scale);
    out.push_str(whole);
    out.push('.');
    out.push_str(fraction);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_look_like_javas() {
        let check = |value: f64, expected: &str| {
            let mut out = String::new();
            push_float(&mut out, value);
            assert_eq!(out, expected);
        };
        check(0.0, "0.0");
        check(-0.0, "-0.0");
        check(1.0, "1.0");
        check(0.001, "0.001");
        check(0.000_5, "5.0E-4");
        check(9_999_999.0, "9999999.0");
        check(1e7, "1.0E7");
        check(-1.25e10, "-1.25E10");
        check(f64::NAN, "NaN");
        check(f64::NEG_INFINITY, "-Infinity");
        let mut out = String::new();
        push_float(&mut out, 0.1_f32);
        assert_eq!(out, "0.1");
    }

    #[test]
    fn decimals_keep_their_scale() {
        let check = |unscaled, scale, expected: &str| {
            let mut out = String::new();
            push_decimal(&mut out, unscaled, scale);
            assert_eq!(out, expected);
        };
        check(0, 2, "0.00");
        check(-5, 2, "-0.05");
        check(12_345, 2, "123.45");
        check(7, 0, "7");
        check(i128::MIN, 0, "-170141183460469231731687303715884105728");
    }
}
