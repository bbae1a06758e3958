//! Java's date patterns (`yyyy-MM-dd HH:mm:ss.SSS`), compiled once: writing and reading times.

use crate::expr::{
    calendar::{DAY_MS, checked_days, civil, day_of_year, weekday},
    format::write_padded,
};

/// A compiled pattern.
#[derive(Debug)]
pub(super) struct TimePattern {
    pieces: Vec<Piece>,
    /// Instants in the same multiple of this many ms have the same text.
    granularity: i64,
}

#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Text(String),
    Field(Field, usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Year,
    Quarter,
    Month,
    Day,
    DayOfYear,
    Weekday,
    Hour,
    /// 1 to 24.
    HourFrom1,
    /// 0 to 11.
    HalfHour,
    /// 12, 1 to 11.
    HalfHourFrom1,
    Minute,
    Second,
    Fraction,
    /// Nanoseconds of the second, as a number.
    Nano,
    AmPm,
    Era,
    /// `Z`, `X`, `x`: the zone's offset, which is always UTC's.
    Offset(char),
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

impl TimePattern {
    /// Compiles a pattern.
    pub(super) fn new(pattern: &str) -> Result<Self, String> {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut chars = pattern.chars().peekable();
        while let Some(c) = chars.next() {
            if c == '\'' {
                let mut text = String::new();
                loop {
                    match chars.next() {
                        Some('\'') if chars.peek() == Some(&'\'') => {
                            chars.next();
                            text.push('\'');
                        }
                        Some('\'') => break,
                        Some(c) => text.push(c),
                        None => {
                            return Err(format!("a quote in pattern `{pattern}` is not closed"));
                        }
                    }
                }
                push_text(&mut pieces, if text.is_empty() { "'" } else { &text });
            } else if c.is_ascii_alphabetic() {
                let mut count = 1;
                while chars.next_if_eq(&c).is_some() {
                    count += 1;
                }
                pieces.push(Piece::Field(field(c, pattern)?, count));
            } else {
                push_text(&mut pieces, c.encode_utf8(&mut [0; 4]));
            }
        }
        let granularity = pieces.iter().map(granularity).min().unwrap_or(DAY_MS);
        Ok(TimePattern {
            pieces,
            granularity,
        })
    }

    /// Milliseconds within which instants have the same text.
    pub(super) fn granularity(&self) -> i64 {
        self.granularity
    }

    /// Appends the text of an instant.
    pub(super) fn write(&self, ms: i64, nanos: u32, out: &mut String) {
        let day = ms.div_euclid(DAY_MS);
        let date = civil(day);
        let time = ms.rem_euclid(DAY_MS);
        let hour = time / 3_600_000;
        for piece in &self.pieces {
            let (field, width) = match piece {
                Piece::Text(text) => {
                    out.push_str(text);
                    continue;
                }
                Piece::Field(field, width) => (*field, *width),
            };
            match field {
                Field::Year if width == 2 => write_padded(date.year.rem_euclid(100), 2, out),
                Field::Year => write_padded(date.year, width, out),
                Field::Quarter => write_quarter((date.month - 1) / 3, width, out),
                Field::Month if width >= 3 => {
                    write_name(MONTHS[date.month as usize - 1], width, out);
                }
                Field::Month => write_padded(i64::from(date.month), width, out),
                Field::Day => write_padded(i64::from(date.day), width, out),
                Field::DayOfYear => write_padded(day_of_year(day), width, out),
                Field::Weekday => write_name(WEEKDAYS[weekday(day) as usize], width, out),
                Field::Hour => write_padded(hour, width, out),
                Field::HourFrom1 => write_padded((hour + 23) % 24 + 1, width, out),
                Field::HalfHour => write_padded(hour % 12, width, out),
                Field::HalfHourFrom1 => write_padded((hour + 11) % 12 + 1, width, out),
                Field::Minute => write_padded(time / 60_000 % 60, width, out),
                Field::Second => write_padded(time / 1000 % 60, width, out),
                Field::Fraction => {
                    let nanos = (time % 1000) * 1_000_000 + i64::from(nanos);
                    let digits = width.min(9);
                    write_padded(nanos / 10i64.pow(9 - digits as u32), digits, out);
                }
                Field::Nano => {
                    write_padded((time % 1000) * 1_000_000 + i64::from(nanos), width, out);
                }
                Field::AmPm => out.push_str(if hour < 12 { "AM" } else { "PM" }),
                Field::Era => out.push_str(if date.year > 0 { "AD" } else { "BC" }),
                Field::Offset(letter) => out.push_str(match (letter, width) {
                    ('X', _) => "Z",
                    ('x', 1) => "+00",
                    ('x', 3 | 5) => "+00:00",
                    _ => "+0000",
                }),
            }
        }
    }

    /// Reads an instant; `None` if the text is not of this form. Missing fields are those of
    /// 1970-01-01 00:00:00.
    pub(super) fn parse(&self, text: &str) -> Option<(i64, u32)> {
        let mut reader = Reader::new(text);
        for (index, piece) in self.pieces.iter().enumerate() {
            match piece {
                Piece::Text(expected) => {
                    reader.rest = reader.rest.strip_prefix(expected.as_str())?
                }
                Piece::Field(field, width) => {
                    let next = self.pieces.get(index + 1);
                    // Digits that follow each other are told apart by their number.
                    let fixed = matches!(next, Some(Piece::Field(..)));
                    reader.field(*field, *width, fixed)?;
                }
            }
        }
        if !reader.rest.is_empty() {
            return None;
        }
        reader.instant()
    }
}

fn write_quarter(index: u32, width: usize, out: &mut String) {
    match width {
        3 => out.push_str(["Q1", "Q2", "Q3", "Q4"][index as usize]),
        4 => {
            out.push_str(["1st", "2nd", "3rd", "4th"][index as usize]);
            out.push_str(" quarter");
        }
        _ => write_padded(i64::from(index + 1), width, out),
    }
}

fn write_name(name: &str, width: usize, out: &mut String) {
    out.push_str(match width {
        4 => name,
        5 => &name[..1],
        _ => &name[..3],
    });
}

fn push_text(pieces: &mut Vec<Piece>, text: &str) {
    match pieces.last_mut() {
        Some(Piece::Text(known)) => known.push_str(text),
        _ => pieces.push(Piece::Text(text.to_owned())),
    }
}

fn field(letter: char, pattern: &str) -> Result<Field, String> {
    Ok(match letter {
        'y' | 'u' => Field::Year,
        'Q' => Field::Quarter,
        'M' | 'L' => Field::Month,
        'd' => Field::Day,
        'D' => Field::DayOfYear,
        'E' => Field::Weekday,
        'H' => Field::Hour,
        'k' => Field::HourFrom1,
        'K' => Field::HalfHour,
        'h' => Field::HalfHourFrom1,
        'm' => Field::Minute,
        's' => Field::Second,
        'S' => Field::Fraction,
        'n' => Field::Nano,
        'a' => Field::AmPm,
        'G' => Field::Era,
        'Z' | 'X' | 'x' => Field::Offset(letter),
        _ => {
            return Err(format!(
                "letter `{letter}` of pattern `{pattern}` is not supported"
            ));
        }
    })
}

fn granularity(piece: &Piece) -> i64 {
    match piece {
        Piece::Text(_) => DAY_MS,
        Piece::Field(field, _) => match field {
            Field::Fraction | Field::Nano => 1,
            Field::Second => 1_000,
            Field::Minute => 60_000,
            Field::Hour
            | Field::HourFrom1
            | Field::HalfHour
            | Field::HalfHourFrom1
            | Field::AmPm => 3_600_000,
            _ => DAY_MS,
        },
    }
}

/// Fields read so far.
struct Reader<'a> {
    rest: &'a str,
    year: i64,
    month: u32,
    day: u32,
    day_of_year: Option<i64>,
    hour: i64,
    afternoon: Option<bool>,
    minute: i64,
    second: i64,
    nanos: i64,
    offset_ms: i64,
}

impl<'a> Reader<'a> {
    fn new(rest: &'a str) -> Self {
        Reader {
            rest,
            year: 1970,
            month: 1,
            day: 1,
            day_of_year: None,
            hour: 0,
            afternoon: None,
            minute: 0,
            second: 0,
            nanos: 0,
            offset_ms: 0,
        }
    }

    fn number(&mut self, max: usize) -> Option<i64> {
        let digits = self.rest.bytes().take(max).take_while(u8::is_ascii_digit);
        let (number, rest) = self.rest.split_at(digits.count());
        self.rest = rest;
        number.parse().ok()
    }

    fn name(&mut self, names: &[&str]) -> Option<usize> {
        let starts = |name: &str| {
            self.rest
                .get(..name.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(name))
        };
        let whole = names
            .iter()
            .position(|name| starts(name))
            .map(|i| (i, names[i].len()));
        let short = || {
            names
                .iter()
                .position(|name| starts(&name[..3]))
                .map(|i| (i, 3))
        };
        let (index, length) = whole.or_else(short)?;
        self.rest = &self.rest[length..];
        Some(index)
    }

    fn field(&mut self, field: Field, width: usize, fixed: bool) -> Option<()> {
        let digits = if fixed { width } else { width.max(2) };
        match field {
            Field::Year if width == 2 => self.year = 2000 + self.number(2)?,
            Field::Year => {
                let digits = if fixed { width } else { width.max(4) };
                self.year = self.number(digits)?;
            }
            Field::Quarter => {
                self.number(digits)?;
            }
            Field::Month if width >= 3 => self.month = self.name(&MONTHS)? as u32 + 1,
            Field::Month => self.month = self.number(digits)? as u32,
            Field::Day => self.day = self.number(digits)? as u32,
            Field::DayOfYear => self.day_of_year = Some(self.number(digits.max(3))?),
            Field::Weekday => {
                self.name(&WEEKDAYS)?;
            }
            Field::Hour | Field::HalfHour => self.hour = self.number(digits)?,
            Field::HourFrom1 => self.hour = self.number(digits)? % 24,
            Field::HalfHourFrom1 => self.hour = self.number(digits)? % 12,
            Field::Minute => self.minute = self.number(digits)?,
            Field::Second => self.second = self.number(digits)?,
            Field::Fraction => {
                let length = self.rest.len();
                let digits = self.number(width.min(9))?;
                let read = (length - self.rest.len()) as u32;
                self.nanos = digits * 10i64.pow(9 - read);
            }
            Field::Nano => self.nanos = self.number(9)?,
            Field::AmPm => {
                let half = self.rest.get(..2)?;
                self.afternoon = Some(half.eq_ignore_ascii_case("PM"));
                if !half.eq_ignore_ascii_case("AM") && self.afternoon == Some(false) {
                    return None;
                }
                self.rest = &self.rest[2..];
            }
            Field::Era => self.rest = self.rest.strip_prefix("AD")?,
            Field::Offset(_) => self.offset()?,
        }
        Some(())
    }

    fn offset(&mut self) -> Option<()> {
        if let Some(rest) = self.rest.strip_prefix('Z') {
            self.rest = rest;
            return Some(());
        }
        let sign = match self.rest.as_bytes().first()? {
            b'+' => 1,
            b'-' => -1,
            _ => return None,
        };
        self.rest = &self.rest[1..];
        let hours = self.number(2)?;
        self.rest = self.rest.strip_prefix(':').unwrap_or(self.rest);
        let minutes = self.number(2).unwrap_or(0);
        self.offset_ms = sign * (hours * 60 + minutes) * 60_000;
        Some(())
    }

    fn instant(&self) -> Option<(i64, u32)> {
        let hour = match self.afternoon {
            Some(true) if self.hour < 12 => self.hour + 12,
            _ => self.hour,
        };
        if hour > 23 || self.minute > 59 || self.second > 59 {
            return None;
        }
        let day = match self.day_of_year {
            Some(day) => checked_days(self.year, 1, 1)? + day - 1,
            None => checked_days(self.year, self.month, self.day)?,
        };
        let seconds = (hour * 60 + self.minute) * 60 + self.second;
        let ms = day * DAY_MS + seconds * 1000 + self.nanos / 1_000_000 - self.offset_ms;
        Some((ms, (self.nanos % 1_000_000) as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_and_reads() {
        let check = |pattern: &str, expected: &str| {
            let pattern = TimePattern::new(pattern).unwrap();
            let mut out = String::new();
            // 2024-02-29 15:04:05.006007
            pattern.write(1_709_219_045_006, 7_000, &mut out);
            assert_eq!(out, expected);
            out
        };
        check("yyyy-MM-dd HH:mm:ss.SSS", "2024-02-29 15:04:05.006");
        check("yy/M/d h:m a", "24/2/29 3:4 PM");
        check("EEE, dd MMM yyyy", "Thu, 29 Feb 2024");
        check("EEEE MMMM D", "Thursday February 60");
        check("yyyyMMdd'T'HHmmss SSSSSS", "20240229T150405 006007");
        check("k''K", "15'3");
        check("yyyy-QQ QQQ QQQQ", "2024-01 Q1 1st quarter");
        check("MMMMM EEEEE n", "F T 6007000");
        assert!(TimePattern::new("yyyy-jj").is_err());
        assert_eq!(TimePattern::new("HH:mm").unwrap().granularity(), 60_000);

        let parse = |pattern: &str, text: &str| TimePattern::new(pattern).unwrap().parse(text);
        let expected = Some((1_709_219_045_006, 0));
        assert_eq!(
            parse("yyyy-MM-dd HH:mm:ss.SSS", "2024-02-29 15:04:05.006"),
            expected
        );
        assert_eq!(parse("yyyyMMddHHmmssSSS", "20240229150405006"), expected);
        assert_eq!(
            parse("d MMM yyyy hh:mm:ss.SSS a", "29 Feb 2024 03:04:05.006 PM"),
            expected
        );
        assert_eq!(
            parse("yyyy-MM-dd'T'HH:mm:ssX", "1970-01-01T01:00:00+01:00"),
            Some((0, 0))
        );
        assert_eq!(parse("yyyy-MM-dd", "2023-02-29"), None);
        assert_eq!(parse("yyyy-MM-dd", "2023-02-2x"), None);
    }
}
