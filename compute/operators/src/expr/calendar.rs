//! The proleptic Gregorian calendar in whole numbers: days since 1970 to dates and back.

/// Milliseconds of a day.
pub(crate) const DAY_MS: i64 = 86_400_000;

/// A date.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Civil {
    pub(crate) year: i64,
    /// 1 to 12.
    pub(crate) month: u32,
    /// 1 to 31.
    pub(crate) day: u32,
}

/// The date of a day since 1970-01-01.
#[inline]
pub(crate) fn civil(days: i64) -> Civil {
    // Years are counted from March of year 0, so that the leap day comes last; eras of 400 years
    // have equally many days.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * march_month + 2) / 5 + 1) as u32;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    } as u32;
    Civil {
        year: year_of_era + era * 400 + i64::from(month <= 2),
        month,
        day,
    }
}

/// Days since 1970-01-01 of a date; day and month must be valid.
#[inline]
pub(crate) fn days(year: i64, month: u32, day: u32) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let march_month = i64::from((month + 9) % 12);
    let day_of_year = (153 * march_month + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Days of a month.
pub(crate) fn month_length(year: i64, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days of a date that may not exist.
pub(crate) fn checked_days(year: i64, month: u32, day: u32) -> Option<i64> {
    let valid = (1..=12).contains(&month)
        && (1..=month_length(year, month)).contains(&day)
        && (0..=9999).contains(&year);
    valid.then(|| days(year, month, day))
}

/// The day `months` later, the day of the month cut to what that month has.
pub(crate) fn add_months(day: i64, months: i64) -> i64 {
    let date = civil(day);
    let index = date.year * 12 + i64::from(date.month) - 1 + months;
    let (year, month) = (index.div_euclid(12), index.rem_euclid(12) as u32 + 1);
    days(year, month, date.day.min(month_length(year, month)))
}

/// Day of the week, Sunday being 0.
pub(crate) fn weekday(day: i64) -> i64 {
    (day + 4).rem_euclid(7)
}

/// Day of the year, from 1.
pub(crate) fn day_of_year(day: i64) -> i64 {
    day - days(civil(day).year, 1, 1) + 1
}

/// ISO year and week: weeks start on Monday, and belong to the year of their Thursday.
pub(crate) fn iso_week(day: i64) -> (i64, i64) {
    let thursday = day - (day + 3).rem_euclid(7) + 3;
    let year = civil(thursday).year;
    (year, (thursday - days(year, 1, 1)) / 7 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_round_trip() {
        for day in (-800_000..800_000).step_by(37) {
            let date = civil(day);
            assert_eq!(days(date.year, date.month, date.day), day, "{date:?}");
        }
        assert_eq!(days(1970, 1, 1), 0);
        assert_eq!(days(2000, 2, 29), 11_016);
        assert_eq!(checked_days(2023, 2, 29), None);
    }

    #[test]
    fn weeks_and_months() {
        assert_eq!(weekday(days(2024, 3, 3)), 0);
        assert_eq!(iso_week(days(2004, 1, 30)), (2004, 5));
        assert_eq!(iso_week(days(2021, 1, 3)), (2020, 53));
        assert_eq!(day_of_year(days(2024, 12, 31)), 366);
        assert_eq!(add_months(days(2004, 1, 30), 1), days(2004, 2, 29));
        assert_eq!(add_months(days(2004, 1, 30), -13), days(2002, 12, 30));
    }
}
