//! Dates and times of day in the proleptic Gregorian calendar, read and written as
//! `yyyy-MM-dd`, `HH:mm:ss[.fraction]` and both with a separator between.

const NANOS_PER_SECOND: i64 = 1_000_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

/// Days since 1970-01-01 of `yyyy-MM-dd`; `None` when the text is not a date that exists.
pub(crate) fn parse_date(text: &[u8]) -> Option<i32> {
    let (sign, digits) = match text.first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    let year_digits = digits
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    if !(4..=6).contains(&year_digits) {
        return None;
    }
    let (year, rest) = digits.split_at(year_digits);
    let [b'-', m1, m2, b'-', d1, d2] = rest else {
        return None;
    };
    let year = sign
        * year
            .iter()
            .fold(0, |sum, byte| sum * 10 + i64::from(byte - b'0'));
    let (month, day) = (two_digits(*m1, *m2)?, two_digits(*d1, *d2)?);
    if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
        return None;
    }
    i32::try_from(days_from_civil(year, month, day)).ok()
}

/// Nanoseconds since midnight of `HH:mm:ss[.fraction]`; seconds may be left out where
/// `seconds_optional`.
pub(crate) fn parse_time(text: &[u8], seconds_optional: bool) -> Option<i64> {
    let (clock, fraction) = match text.iter().position(|byte| *byte == b'.') {
        Some(point) => (&text[..point], Some(&text[point + 1..])),
        None => (text, None),
    };
    let (hour, minute, second) = match clock {
        [h1, h2, b':', m1, m2, b':', s1, s2] => (
            two_digits(*h1, *h2)?,
            two_digits(*m1, *m2)?,
            two_digits(*s1, *s2)?,
        ),
        [h1, h2, b':', m1, m2] if seconds_optional && fraction.is_none() => {
            (two_digits(*h1, *h2)?, two_digits(*m1, *m2)?, 0)
        }
        _ => return None,
    };
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut nanos = 0;
    if let Some(fraction) = fraction {
        if fraction.is_empty() || fraction.len() > 9 {
            return None;
        }
        for place in 0..9 {
            let digit = match fraction.get(place) {
                Some(byte) if byte.is_ascii_digit() => i64::from(byte - b'0'),
                Some(_) => return None,
                None => 0,
            };
            nanos = nanos * 10 + digit;
        }
    }
    Some((hour * 3600 + minute * 60 + second) * NANOS_PER_SECOND + nanos)
}

/// A timestamp's value in the unit of its type (ms, µs or ns by precision), cut to `precision`
/// digits; `separator` stands between date and time.
pub(crate) fn parse_timestamp(
    text: &[u8],
    separator: u8,
    seconds_optional: bool,
    precision: u8,
) -> Option<i64> {
    let split = text.iter().position(|byte| *byte == separator)?;
    let days = i64::from(parse_date(&text[..split])?);
    let nanos = parse_time(&text[split + 1..], seconds_optional)?;
    let step = 10_i64.pow(9 - u32::from(precision.min(9)));
    let nanos = nanos - nanos % step;
    let per_day = units_per_second(precision) * SECONDS_PER_DAY;
    days.checked_mul(per_day)?
        .checked_add(nanos / (NANOS_PER_SECOND / units_per_second(precision)))
}

/// `yyyy-MM-dd`.
pub(crate) fn write_date(out: &mut Vec<u8>, days: i64) {
    let (year, month, day) = civil_from_days(days);
    if (0..=9999).contains(&year) {
        push_padded(out, year as u64, 4);
    } else {
        out.push(if year < 0 { b'-' } else { b'+' });
        push_padded(out, year.unsigned_abs(), 4);
    }
    out.push(b'-');
    push_padded(out, month as u64, 2);
    out.push(b'-');
    push_padded(out, day as u64, 2);
}

/// `HH:mm:ss` and, where there is any, the fraction without trailing zeros.
pub(crate) fn write_time(out: &mut Vec<u8>, nanos: i64) {
    let seconds = nanos / NANOS_PER_SECOND;
    push_padded(out, (seconds / 3600) as u64, 2);
    out.push(b':');
    push_padded(out, (seconds / 60 % 60) as u64, 2);
    out.push(b':');
    push_padded(out, (seconds % 60) as u64, 2);
    let fraction = nanos % NANOS_PER_SECOND;
    if fraction != 0 {
        out.push(b'.');
        push_padded(out, fraction as u64, 9);
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
}

/// Date, `separator`, time of a timestamp in the unit of its precision.
pub(crate) fn write_timestamp(out: &mut Vec<u8>, value: i64, precision: u8, separator: u8) {
    let units = units_per_second(precision);
    let per_day = units * SECONDS_PER_DAY;
    write_date(out, value.div_euclid(per_day));
    out.push(separator);
    write_time(out, value.rem_euclid(per_day) * (NANOS_PER_SECOND / units));
}

fn units_per_second(precision: u8) -> i64 {
    match precision {
        0..=3 => 1_000,
        4..=6 => 1_000_000,
        _ => NANOS_PER_SECOND,
    }
}

fn two_digits(tens: u8, ones: u8) -> Option<i64> {
    (tens.is_ascii_digit() && ones.is_ascii_digit())
        .then(|| i64::from(tens - b'0') * 10 + i64::from(ones - b'0'))
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Years are counted from March, so that the leap day is a year's last, in eras of 400 years.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

fn push_padded(out: &mut Vec<u8>, value: u64, width: usize) {
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(value).as_bytes();
    out.extend(std::iter::repeat_n(
        b'0',
        width.saturating_sub(digits.len()),
    ));
    out.extend_from_slice(digits);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, precision: u8, expected: Option<&str>) {
        let value = parse_timestamp(text.as_bytes(), b' ', false, precision);
        let shown = value.map(|value| {
            let mut out = Vec::new();
            write_timestamp(&mut out, value, precision, b' ');
            String::from_utf8(out).unwrap()
        });
        assert_eq!(shown.as_deref(), expected, "{text}");
    }

    #[test]
    fn timestamps_read_and_written() {
        check("1970-01-01 00:00:00", 3, Some("1970-01-01 00:00:00"));
        check(
            "1969-12-31 23:59:59.999",
            3,
            Some("1969-12-31 23:59:59.999"),
        );
        check(
            "2024-02-29 12:30:01.123456789",
            9,
            Some("2024-02-29 12:30:01.123456789"),
        );
        check(
            "2024-02-29 12:30:01.123456789",
            6,
            Some("2024-02-29 12:30:01.123456"),
        );
        check("2024-02-29 12:30:01.129", 2, Some("2024-02-29 12:30:01.12"));
        check("0001-01-01 00:00:00.1", 3, Some("0001-01-01 00:00:00.1"));
        check("9999-12-31 23:59:59.5", 0, Some("9999-12-31 23:59:59"));
        check("2023-02-29 00:00:00", 3, None);
        check("2024-03-01T00:00:00", 3, None);
        check("2024-03-01 00:00", 3, None);
        check("2024-03-01 24:00:00", 3, None);
        check("2024-3-1 00:00:00", 3, None);
        check("2024-03-01 00:00:00.", 3, None);
        check("", 3, None);
    }

    #[test]
    fn every_day_of_some_centuries_round_trips() {
        for days in (-800_000..800_000).step_by(7) {
            let mut out = Vec::new();
            write_date(&mut out, days);
            assert_eq!(parse_date(&out).map(i64::from), Some(days), "{out:?}");
        }
    }
}
