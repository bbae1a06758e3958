//! Reads dates, times and timestamps of literals. Proleptic Gregorian calendar, years 1 to 9999.

/// Days from 1970-01-01 to a civil date.
pub(crate) fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    // Years that start in March, so that the leap day is the last one.
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let year_of_era = shifted.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// `yyyy-mm-dd`.
pub(crate) fn parse_date(text: &str) -> Option<(i64, i64, i64)> {
    let mut parts = text.trim().splitn(3, '-');
    let year = digits(parts.next()?, 4)?;
    let month = digits(parts.next()?, 2)?;
    let day = digits(parts.next()?, 2)?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap),
        _ => return None,
    };
    (year >= 1 && (1..=days).contains(&day)).then_some((year, month, day))
}

/// `hh:mm:ss[.fraction]`: nanoseconds of the day and digits of the fraction.
pub(crate) fn parse_time(text: &str) -> Option<(i64, u8)> {
    let (clock, fraction) = match text.trim().split_once('.') {
        Some((clock, fraction)) => (clock, fraction),
        None => (text.trim(), ""),
    };
    let mut parts = clock.splitn(3, ':');
    let hour = digits(parts.next()?, 2).filter(|hour| *hour < 24)?;
    let minute = digits(parts.next()?, 2).filter(|minute| *minute < 60)?;
    let second = digits(parts.next()?, 2).filter(|second| *second < 60)?;
    let precision = u8::try_from(fraction.len()).ok().filter(|p| *p <= 9)?;
    let nanos = if fraction.is_empty() {
        0
    } else {
        digits(fraction, 9)? * 10i64.pow(9 - u32::from(precision))
    };
    Some((
        ((hour * 60 + minute) * 60 + second) * 1_000_000_000 + nanos,
        precision,
    ))
}

/// `yyyy-mm-dd hh:mm:ss[.fraction]`: days, nanoseconds of the day, digits of the fraction.
pub(crate) fn parse_timestamp(text: &str) -> Option<(i64, i64, u8)> {
    let text = text.trim();
    let (date, time) = text.split_once(' ').unwrap_or((text, "00:00:00"));
    let (year, month, day) = parse_date(date)?;
    let (nanos, precision) = parse_time(time)?;
    Some((days_from_civil(year, month, day), nanos, precision))
}

fn digits(text: &str, max: usize) -> Option<i64> {
    let plain = !text.is_empty() && text.len() <= max && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let check = |text: &str, expected: Option<i64>| {
            let days = parse_date(text).map(|(y, m, d)| days_from_civil(y, m, d));
            assert_eq!(days, expected, "{text}");
        };
        check("1970-01-01", Some(0));
        check("2000-02-29", Some(11_016));
        check("1969-12-31", Some(-1));
        check("0001-01-01", Some(-719_162));
        check("2023-02-29", None);
        check("2023-13-01", None);
        check("20230101", None);
    }

    #[test]
    fn times() {
        assert_eq!(parse_time("10:11:12"), Some((36_672_000_000_000, 0)));
        assert_eq!(parse_time("00:00:00.5"), Some((500_000_000, 1)));
        assert_eq!(parse_time("24:00:00"), None);
        assert_eq!(
            parse_timestamp("1970-01-02 00:00:01.25"),
            Some((1, 1_250_000_000, 2))
        );
    }
}
