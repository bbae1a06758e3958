//! One record to its fields, without quotes and escapes.
//!
//! A field is quoted if its first character is the quote; inside, a doubled quote is one. Anywhere
//! the escape gives the character after it another meaning: `n`, `r`, `t` and `0` are line end,
//! return, tab and NUL, and every other one is itself.

use super::CsvOptions;

/// Cuts records, one after the other, in the same memory.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    /// The fields' texts, one after the other ...
    text: Vec<u8>,
    /// ... and where each ends.
    ends: Vec<usize>,
}

impl Splitter {
    /// Cuts a record; the number of its fields.
    pub(super) fn split(&mut self, record: &[u8], options: &CsvOptions) -> Result<usize, String> {
        self.text.clear();
        self.ends.clear();
        let mut at = 0;
        loop {
            at = match record.get(at) {
                Some(byte) if Some(*byte) == options.quote => {
                    self.quoted(record, at + 1, *byte, options)?
                }
                _ => self.plain(record, at, options),
            };
            self.ends.push(self.text.len());
            if at >= record.len() {
                return Ok(self.ends.len());
            }
            // Over the delimiter.
            at += 1;
        }
    }

    /// The fields of the last record.
    pub(super) fn fields(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |end| {
            let field = &self.text[start..*end];
            start = *end;
            field
        })
    }

    /// Takes an unquoted field; where it ends.
    fn plain(&mut self, record: &[u8], mut at: usize, options: &CsvOptions) -> usize {
        loop {
            let rest = &record[at..];
            let escape = options.escape.unwrap_or(options.delimiter);
            let Some(length) = memchr::memchr2(options.delimiter, escape, rest) else {
                self.text.extend_from_slice(rest);
                return record.len();
            };
            self.text.extend_from_slice(&rest[..length]);
            at += length;
            if rest[length] == options.delimiter {
                return at;
            }
            at = self.escaped(record, at);
        }
    }

    /// Takes a field from behind its first quote; where it ends.
    fn quoted(
        &mut self,
        record: &[u8],
        mut at: usize,
        quote: u8,
        options: &CsvOptions,
    ) -> Result<usize, String> {
        loop {
            let rest = &record[at..];
            let found = memchr::memchr2(quote, options.escape.unwrap_or(quote), rest);
            let length = found.ok_or("a quoted field is not closed")?;
            self.text.extend_from_slice(&rest[..length]);
            at += length;
            if record[at] != quote {
                at = self.escaped(record, at);
            } else if record.get(at + 1) == Some(&quote) {
                self.text.push(quote);
                at += 2;
            } else {
                at += 1;
                break;
            }
        }
        while let Some(byte) = record.get(at) {
            match *byte {
                byte if byte == options.delimiter => break,
                0..=b' ' => at += 1,
                _ => return Err("a quoted field goes on after its closing quote".to_owned()),
            }
        }
        Ok(at)
    }

    /// Takes the escape at `at` and what it stands for; where the text goes on.
    fn escaped(&mut self, record: &[u8], at: usize) -> usize {
        match record.get(at + 1) {
            Some(b'n') => self.text.push(b'\n'),
            Some(b'r') => self.text.push(b'\r'),
            Some(b't') => self.text.push(b'\t'),
            Some(b'0') => self.text.push(0),
            Some(other) => self.text.push(*other),
            // Nothing follows that it could escape.
            None => {
                self.text.push(record[at]);
                return at + 1;
            }
        }
        at + 2
    }
}

#[cfg(test)]
mod tests {
    use proto::plan::CsvFormat;

    use super::*;

    fn check(escape: &str, record: &str, expected: &[&str]) {
        let format = CsvFormat {
            escape_character: escape.to_owned(),
            ..CsvFormat::default()
        };
        let options = CsvOptions::new(&format).unwrap();
        let mut splitter = Splitter::default();
        let fields = match splitter.split(record.as_bytes(), &options) {
            Ok(_) => splitter
                .fields()
                .map(|field| String::from_utf8(field.to_vec()).unwrap())
                .collect(),
            Err(error) => vec![error],
        };
        assert_eq!(fields, expected, "{record}");
    }

    #[test]
    fn fields_of_a_record() {
        check("", "a,,b", &["a", "", "b"]);
        check("", "", &[""]);
        check("", ",", &["", ""]);
        check("", r#""a,""b""",5" pipe"#, &["a,\"b\"", "5\" pipe"]);
        check("", "\"a\"  ,b", &["a", "b"]);
        check(
            "",
            "\"a\"b,c",
            &["a quoted field goes on after its closing quote"],
        );
        check("", "a,\"b,c", &["a quoted field is not closed"]);
        check("\\", r"a\,b,c\\", &["a,b", "c\\"]);
        check("\\", r#""a\"b\n""#, &["a\"b\n"]);
        check("\\", r#""a\""#, &["a quoted field is not closed"]);
        check("\\", "a\\", &["a\\"]);
        check("\"", r#""a""b""#, &["a\"b"]);
    }
}
