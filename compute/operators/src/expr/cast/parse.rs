//! Texts as numbers, dates and times, by the dialect's rules for CAST.

use crate::expr::calendar::{DAY_MS, checked_days};
use crate::scalar::{POWERS_OF_TEN, fits};

/// The text without leading and trailing blanks and control characters.
pub(super) fn trim(text: &str) -> &str {
    text.trim_matches(|c| c <= ' ')
}

/// An integer; a fraction is cut off, an exponent is not allowed.
pub(super) fn parse_integer(text: &str) -> Option<i64> {
    let text = trim(text);
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (whole, fraction) = match digits.split_once('.') {
        Some((whole, fraction)) => (whole, fraction),
        None => (digits, ""),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let mut value: i64 = 0;
    for byte in whole.bytes() {
        let digit = byte.is_ascii_digit().then(|| i64::from(byte - b'0'))?;
        // Negative numbers reach one further.
        value = value.checked_mul(10)?.checked_sub(digit)?;
    }
    if negative {
        Some(value)
    } else {
        value.checked_neg()
    }
}

/// A floating point number.
pub(super) fn parse_double(text: &str) -> Option<f64> {
    let text = trim(text);
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    match unsigned {
        "NaN" => return Some(f64::NAN),
        "Infinity" if text.starts_with('-') => return Some(f64::NEG_INFINITY),
        "Infinity" => return Some(f64::INFINITY),
        _ => {}
    }
    let number = text.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(text);
    let plain = |byte: u8| byte.is_ascii_digit() || b"+-.eE".contains(&byte);
    if !number.bytes().all(plain) {
        return None;
    }
    number.parse().ok()
}

/// A DECIMAL, rounded half up. `None`: not a number; `Some(None)`: too many digits.
pub(crate) fn parse_decimal(text: &str, precision: u8, scale: u8) -> Option<Option<i128>> {
    let value = parse_unscaled(text, i64::from(scale), true)?;
    Some(value.filter(|value| fits(*value, precision)))
}

/// A number times 10^scale, rounded half up or cut to an integer.
pub(crate) fn parse_unscaled(text: &str, scale: i64, half_up: bool) -> Option<Option<i128>> {
    let text = trim(text);
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (rest, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let digits = || whole.bytes().chain(fraction.bytes());
    if !digits().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // How many of the digits stand before the result's end.
    let kept = i64::from(exponent) + whole.len() as i64 + scale;
    let mut value: i128 = 0;
    for (index, byte) in (0..=kept).zip(digits()) {
        let digit = i128::from(byte - b'0');
        if index == kept {
            value += i128::from(half_up && digit >= 5);
            break;
        }
        match value.checked_mul(10).map(|value| value + digit) {
            Some(next) => value = next,
            None => return Some(None),
        }
    }
    let missing = (kept - (whole.len() + fraction.len()) as i64).max(0);
    if value != 0 && missing > 0 {
        let power = usize::try_from(missing)
            .ok()
            .and_then(|missing| POWERS_OF_TEN.get(missing));
        match power.and_then(|power| value.checked_mul(*power)) {
            Some(scaled) => value = scaled,
            None => return Some(None),
        }
    }
    Some(Some(if negative { -value } else { value }))
}

/// TRUE and FALSE by any of their names.
pub(super) fn parse_boolean(text: &str) -> Option<bool> {
    let text = trim(text);
    let is = |names: &[&str]| names.iter().any(|name| text.eq_ignore_ascii_case(name));
    if is(&["t", "true", "y", "yes", "1"]) {
        Some(true)
    } else if is(&["f", "false", "n", "no", "0"]) {
        Some(false)
    } else {
        None
    }
}

/// A small number of digits only.
fn number(text: &str) -> Option<u32> {
    let text = trim(text);
    let valid = !text.is_empty() && text.len() <= 9 && text.bytes().all(|b| b.is_ascii_digit());
    valid.then(|| text.parse().ok())?
}

/// Days since 1970: `y[-m[-d]]`, a time after a blank is ignored.
pub(crate) fn parse_date(text: &str) -> Option<i32> {
    let text = trim(text);
    let date = text.split_once(' ').map_or(text, |(date, _)| date);
    let mut parts = date.splitn(3, '-');
    let year = number(parts.next()?)?;
    let month = parts.next().map_or(Some(1), number)?;
    let day = parts.next().map_or(Some(1), number)?;
    checked_days(i64::from(year), month, day).and_then(|days| i32::try_from(days).ok())
}

/// Milliseconds of the day: `h[:m[:s[.fraction]]]`.
pub(super) fn parse_time(text: &str) -> Option<i32> {
    let (ms, _) = time_parts(trim(text))?;
    i32::try_from(ms).ok()
}

/// Milliseconds of the day and nanoseconds within the millisecond.
fn time_parts(text: &str) -> Option<(i64, u32)> {
    let mut parts = text.splitn(3, ':');
    let hour = number(parts.next()?)?;
    let minute = parts.next().map_or(Some(0), number)?;
    let (second, nanos) = match parts.next() {
        None => (0, 0),
        Some(text) => match text.split_once('.') {
            Some((second, fraction)) => (number(second)?, fraction_nanos(fraction)?),
            None => (number(text)?, 0),
        },
    };
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = i64::from(hour * 3600 + minute * 60 + second);
    Some((
        seconds * 1000 + i64::from(nanos / 1_000_000),
        nanos % 1_000_000,
    ))
}

fn fraction_nanos(text: &str) -> Option<u32> {
    let text = trim(text);
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = text.bytes().chain(std::iter::repeat(b'0')).take(9);
    Some(digits.fold(0, |nanos, digit| nanos * 10 + u32::from(digit - b'0')))
}

/// Milliseconds since 1970 and nanoseconds within: `yyyy-m-d[ h:m:s[.fraction]]` and nothing else.
/// A day that the month lacks is the month's last one.
pub(crate) fn parse_timestamp(text: &str) -> Option<(i64, u32)> {
    let (date, time) = match text.split_once(' ') {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let mut parts = date.splitn(3, '-');
    let year = parts.next().filter(|year| year.len() == 4)?;
    let year = i64::from(digits(year, 4)?);
    let month = digits(parts.next()?, 2).filter(|month| (1..=12).contains(month))?;
    let day = digits(parts.next()?, 2).filter(|day| (1..=31).contains(day))?;
    let days = (28..=day.max(28))
        .rev()
        .find_map(|last| checked_days(year, month, day.min(last)))?;
    let (ms, nanos) = match time {
        Some(time) => strict_time(time)?,
        None => (0, 0),
    };
    Some((days * DAY_MS + ms, nanos))
}

/// `h:m:s[.fraction]`, all of one or two digits, the fraction of at most nine.
fn strict_time(text: &str) -> Option<(i64, u32)> {
    let (clock, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let mut parts = clock.splitn(3, ':');
    let fits = parts.clone().count() == 3 && parts.all(|part| digits(part, 2).is_some());
    let fraction = if fraction.is_empty() { "0" } else { fraction };
    if !fits || digits(fraction, 9).is_none() {
        return None;
    }
    let (ms, nanos) = time_parts(clock)?;
    let below = fraction_nanos(fraction)?;
    Some((ms + i64::from(below / 1_000_000), nanos + below % 1_000_000))
}

/// A number of at most `most` digits without blanks.
fn digits(text: &str, most: usize) -> Option<u32> {
    let valid = text.len() <= most && text.bytes().all(|byte| byte.is_ascii_digit());
    valid.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers() {
        let check = |text: &str, expected: Option<i64>| {
            assert_eq!(parse_integer(text), expected, "{text}");
        };
        check(" -4.5 ", Some(-4));
        check("123", Some(123));
        check("+7", Some(7));
        check("-9223372036854775808", Some(i64::MIN));
        check("9223372036854775808", None);
        check("", None);
        check("-", None);
        check("1e3", None);
        check("1.x", None);
        check("12:34", None);
    }

    #[test]
    fn decimals() {
        let check = |text: &str, expected: Option<Option<i128>>| {
            assert_eq!(parse_decimal(text, 8, 3), expected, "{text}");
        };
        check("-4.5", Some(Some(-4500)));
        check(" 123 ", Some(Some(123_000)));
        check("1.0005", Some(Some(1001)));
        check("1.00049", Some(Some(1000)));
        check("1e3", Some(Some(1_000_000)));
        check("12e-4", Some(Some(1)));
        check("9e-9", Some(Some(0)));
        check("100000", Some(None));
        check("99999.9999", Some(None));
        check(".5", Some(Some(500)));
        check(".", None);
        check("abc", None);
    }

    #[test]
    fn times() {
        assert_eq!(parse_date("123"), checked_days(123, 1, 1).map(|d| d as i32));
        assert_eq!(parse_date("2024-02-29 10:00:00"), Some(19_782));
        assert_eq!(parse_date("2023-02-29"), None);
        assert_eq!(parse_date("12:34:56"), None);
        assert_eq!(parse_time("12:34:56"), Some(45_296_000));
        assert_eq!(parse_time("12:34:56.7891"), Some(45_296_789));
        assert_eq!(parse_time("123"), None);
        assert_eq!(
            parse_timestamp("1970-01-02 00:00:01.123456"),
            Some((86_401_123, 456_000))
        );
        assert_eq!(
            parse_timestamp("2020-02-30 00:00:00"),
            parse_timestamp("2020-2-29 0:0:0.")
        );
        assert!(parse_timestamp("2020-02-30 00:00:00").is_some());
        for wrong in [
            "1970-01-02T00:00:01",
            "1970-01-02 00:00:01Z",
            " 1970-01-02",
            "1970-01-02 ",
            "1970-01-02 00:01",
            "1970-01-02 24:00:00",
            "1970-01-02 00:00:00.1234567890",
            "970-01-02",
            "1970-01",
            "1970-13-01",
            "1970-01-32",
        ] {
            assert_eq!(parse_timestamp(wrong), None, "{wrong}");
        }
        assert_eq!(parse_timestamp("1970-01-02"), Some((86_400_000, 0)));
        assert_eq!(parse_timestamp("abc"), None);
    }

    #[test]
    fn doubles_and_booleans() {
        assert_eq!(parse_double(" 1.5e3 "), Some(1500.0));
        assert_eq!(parse_double("1.5d"), Some(1.5));
        assert_eq!(parse_double("inf"), None);
        assert_eq!(parse_double("-Infinity"), Some(f64::NEG_INFINITY));
        assert_eq!(parse_double(""), None);
        assert_eq!(parse_boolean("Yes"), Some(true));
        assert_eq!(parse_boolean("0"), Some(false));
        assert_eq!(parse_boolean("on"), None);
    }
}
