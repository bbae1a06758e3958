//! Dates, times and intervals as text.

use std::fmt::Write;

const NS_PER_SECOND: i128 = 1_000_000_000;
const NS_PER_DAY: i128 = 86_400 * NS_PER_SECOND;

/// `yyyy-MM-dd` of days since 1970.
pub(super) fn push_date(out: &mut String, days: i64) {
    let (year, month, day) = civil(days);
    // Writing to a string does not fail, here and below.
    let _ = write!(out, "{year:04}-{month:02}-{day:02}");
}

/// `HH:mm:ss` of a time of day, with milliseconds where there are any.
pub(super) fn push_time(out: &mut String, ms: i64) {
    push_clock(out, ms.div_euclid(1000));
    let fraction = ms.rem_euclid(1000);
    if fraction != 0 {
        let _ = write!(out, ".{fraction:03}");
    }
}

/// `yyyy-MM-dd HH:mm:ss.SSS`, with six or nine digits where there is anything below.
pub(super) fn push_timestamp(out: &mut String, ns: i128) {
    // A timestamp of 64 bits is less than 300 million years from 1970 in any unit.
    let days = i64::try_from(ns.div_euclid(NS_PER_DAY)).unwrap_or_default();
    let of_day = ns.rem_euclid(NS_PER_DAY);
    push_date(out, days);
    out.push(' ');
    push_clock(
        out,
        i64::try_from(of_day / NS_PER_SECOND).unwrap_or_default(),
    );
    let fraction = of_day % NS_PER_SECOND;
    let _ = if fraction % 1_000_000 == 0 {
        write!(out, ".{:03}", fraction / 1_000_000)
    } else if fraction % 1000 == 0 {
        write!(out, ".{:06}", fraction / 1000)
    } else {
        write!(out, ".{fraction:09}")
    };
}

/// `+years-months`.
pub(super) fn push_months(out: &mut String, months: i32) {
    let sign = if months < 0 { '-' } else { '+' };
    let months = months.unsigned_abs();
    let _ = write!(out, "{sign}{}-{:02}", months / 12, months % 12);
}

/// `+days HH:mm:ss.SSS`.
pub(super) fn push_duration(out: &mut String, ms: i64) {
    let sign = if ms < 0 { '-' } else { '+' };
    let ms = ms.unsigned_abs();
    let _ = write!(out, "{sign}{} ", ms / 86_400_000);
    push_clock(
        out,
        i64::try_from(ms % 86_400_000 / 1000).unwrap_or_default(),
    );
    let _ = write!(out, ".{:03}", ms % 1000);
}

fn push_clock(out: &mut String, seconds: i64) {
    let (minutes, second) = (seconds / 60, seconds % 60);
    let _ = write!(out, "{:02}:{:02}:{second:02}", minutes / 60, minutes % 60);
}

/// Year, month and day of a day number in the proleptic Gregorian calendar. Years are counted from
/// March, so that the day of leap years comes last.
fn civil(days: i64) -> (i64, i64, i64) {
    const DAYS_PER_400_YEARS: i64 = 146_097;
    const DAYS_FROM_MARCH_OF_YEAR_0: i64 = 719_468;
    let days = days + DAYS_FROM_MARCH_OF_YEAR_0;
    let era = days.div_euclid(DAYS_PER_400_YEARS);
    let of_era = days.rem_euclid(DAYS_PER_400_YEARS);
    let leap_corrected = of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096;
    let year_of_era = leap_corrected / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(push: impl FnOnce(&mut String)) -> String {
        let mut out = String::new();
        push(&mut out);
        out
    }

    #[test]
    fn times_as_text() {
        let date = |days| shown(|out| push_date(out, days));
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(-1), "1969-12-31");
        assert_eq!(date(19_782), "2024-02-29");
        assert_eq!(date(11_016), "2000-02-29");
        let timestamp = |ns| shown(|out| push_timestamp(out, ns));
        assert_eq!(timestamp(0), "1970-01-01 00:00:00.000");
        assert_eq!(timestamp(-1_000_000), "1969-12-31 23:59:59.999");
        assert_eq!(timestamp(1_500), "1970-01-01 00:00:00.000001500");
        assert_eq!(timestamp(2_000), "1970-01-01 00:00:00.000002");
        assert_eq!(shown(|out| push_time(out, 45_296_000)), "12:34:56");
        assert_eq!(shown(|out| push_months(out, -14)), "-1-02");
        assert_eq!(
            shown(|out| push_duration(out, 90_061_007)),
            "+1 01:01:01.007"
        );
    }
}
