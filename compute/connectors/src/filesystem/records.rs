//! Cuts a file into records: a buffer that slides over the file.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    ops::Range,
    path::Path,
};

use crate::format::Framing;

/// Read from the file at a time.
const READ_BYTES: usize = 256 << 10;
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();
/// A buffer is not smaller than this, however small the file.
const SMALL_BYTES: usize = 4 << 10;
/// A longer record is taken for a file that is not of the format, before it fills the memory.
const RECORD_BYTES_MAX: usize = 64 << 20;

/// The records of a file that begin before a given byte.
#[derive(Debug)]
pub(super) struct Records {
    file: File,
    framing: Framing,
    buffer: Vec<u8>,
    /// The record that comes next begins here in `buffer` ...
    head: usize,
    /// ... and here in the file.
    position: u64,
    /// `u64::MAX`: where the file ends.
    end: u64,
    /// The file's length when it was opened; 0 for a pipe.
    bytes: u64,
    at_end_of_file: bool,
}

impl Records {
    /// Opens at `position`, which must be the beginning of a record.
    pub(super) fn open(path: &Path, framing: Framing, position: u64, end: u64) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let bytes = file.metadata()?.len();
        if position > 0 {
            file.seek(SeekFrom::Start(position))?;
        }
        Ok(Records {
            file,
            framing,
            buffer: Vec::new(),
            head: 0,
            position,
            end,
            bytes,
            at_end_of_file: false,
        })
    }

    /// Opens at the first record that begins at or after `start`.
    pub(super) fn open_range(
        path: &Path,
        framing: Framing,
        start: u64,
        end: u64,
    ) -> io::Result<Self> {
        if start == 0 {
            return Records::open(path, framing, 0, end);
        }
        // A record begins after each line end, so what decides is the byte before.
        let mut records = Records::open(path, framing, start - 1, u64::MAX)?;
        records.next()?;
        records.end = end;
        Ok(records)
    }

    /// Goes over the byte order mark that some programs put first.
    pub(super) fn skip_byte_order_mark(&mut self) -> io::Result<()> {
        if self.position == 0 {
            self.fill()?;
            if self.buffer.starts_with(BYTE_ORDER_MARK) {
                self.head = BYTE_ORDER_MARK.len();
                self.position = self.head as u64;
            }
        }
        Ok(())
    }

    /// Where the next record begins in the file.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Bytes of a record that [`Records::next`] gave.
    pub(super) fn bytes(&self, record: Range<usize>) -> &[u8] {
        &self.buffer[record]
    }

    /// The next record, without its line end.
    pub(super) fn next(&mut self) -> io::Result<Option<Range<usize>>> {
        if self.position >= self.end {
            return Ok(None);
        }
        loop {
            let rest = &self.buffer[self.head..];
            if let Some((length, next)) = record_end(rest, self.framing) {
                let start = self.head;
                self.head += next;
                self.position += next as u64;
                return Ok(Some(self.without_return(start..start + length)));
            }
            if self.at_end_of_file {
                let length = rest.len();
                if length == 0 && self.end < u64::MAX {
                    let error = format!(
                        "the file ends here, but had {} bytes when the job started",
                        self.end
                    );
                    return Err(io::Error::new(io::ErrorKind::InvalidData, error));
                }
                if length == 0 {
                    return Ok(None);
                }
                let start = self.head;
                self.head += length;
                self.position += length as u64;
                return Ok(Some(self.without_return(start..start + length)));
            }
            if rest.len() > RECORD_BYTES_MAX {
                let error = format!("a record is longer than {} MiB", RECORD_BYTES_MAX >> 20);
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
            self.fill()?;
        }
    }

    fn without_return(&self, record: Range<usize>) -> Range<usize> {
        let returns = usize::from(self.buffer[record.clone()].ends_with(b"\r"));
        record.start..record.end - returns
    }

    fn fill(&mut self) -> io::Result<()> {
        self.buffer.drain(..self.head);
        self.head = 0;
        let filled = self.buffer.len();
        // Doubling keeps the repeated search through a long record linear.
        let mut wanted = READ_BYTES.max(filled);
        if self.bytes > 0 {
            // One byte more than there should be finds the end of the file.
            let left = self.bytes.saturating_sub(self.position + filled as u64) + 1;
            let left = usize::try_from(left).unwrap_or(usize::MAX);
            wanted = wanted.min(left.max(SMALL_BYTES));
        }
        self.buffer.resize(filled + wanted, 0);
        let mut read = 0;
        while read < wanted {
            match self.file.read(&mut self.buffer[filled + read..]) {
                Ok(0) => {
                    self.at_end_of_file = true;
                    break;
                }
                Ok(bytes) => read += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.buffer.truncate(filled + read);
        Ok(())
    }
}

/// Where the record at the beginning of `bytes` ends, and where the next begins; `None` while
/// that is not to be seen.
fn record_end(bytes: &[u8], framing: Framing) -> Option<(usize, usize)> {
    match framing {
        Framing::Lines => memchr::memchr(b'\n', bytes).map(|length| (length, length + 1)),
        Framing::Delimited {
            delimiter,
            quote,
            escape,
            comments,
        } => {
            let comment = comments && bytes.starts_with(b"#");
            let at = match comment || (quote.is_none() && escape.is_none()) {
                true => memchr::memchr2(b'\n', b'\r', bytes)?,
                false => delimited_end(bytes, delimiter, quote, escape)?,
            };
            line_end(bytes, at)
        }
    }
}

/// The line end at `at`: there, and behind it.
fn line_end(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    match (bytes[at], bytes.get(at + 1)) {
        (b'\r', None) => None,
        (b'\r', Some(b'\n')) => Some((at, at + 2)),
        _ => Some((at, at + 1)),
    }
}

/// The line end that ends the record.
fn delimited_end(
    bytes: &[u8],
    delimiter: u8,
    quote: Option<u8>,
    escape: Option<u8>,
) -> Option<usize> {
    let mut at = 0;
    loop {
        match quote {
            Some(quote) if bytes.get(at) == Some(&quote) => {
                at = quoted_end(bytes, at + 1, quote, escape)?;
            }
            _ => {}
        }
        at = plain_end(bytes, at, delimiter, escape)?;
        if bytes[at] != delimiter {
            return Some(at);
        }
        at += 1;
    }
}

/// Behind the quote that closes the field.
fn quoted_end(bytes: &[u8], mut at: usize, quote: u8, escape: Option<u8>) -> Option<usize> {
    loop {
        at += memchr::memchr2(quote, escape.unwrap_or(quote), bytes.get(at..)?)?;
        if bytes[at] == quote && bytes.get(at + 1) != Some(&quote) {
            return Some(at + 1);
        }
        // A doubled quote, or an escape and what it escapes.
        at += 2;
    }
}

/// The delimiter or line end after an unquoted text.
fn plain_end(bytes: &[u8], mut at: usize, delimiter: u8, escape: Option<u8>) -> Option<usize> {
    let Some(escape) = escape else {
        return Some(at + memchr::memchr3(delimiter, b'\n', b'\r', bytes.get(at..)?)?);
    };
    loop {
        let byte = *bytes.get(at)?;
        match byte {
            b'\n' | b'\r' => return Some(at),
            _ if byte == escape => at += 2,
            _ if byte == delimiter => return Some(at),
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTED: Framing = Framing::Delimited {
        delimiter: b',',
        quote: Some(b'"'),
        escape: Some(b'\\'),
        comments: true,
    };
    const PLAIN: Framing = Framing::Delimited {
        delimiter: b',',
        quote: None,
        escape: None,
        comments: false,
    };

    fn read(records: &mut Records) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(record) = records.next().unwrap() {
            all.push(String::from_utf8(records.bytes(record).to_vec()).unwrap());
        }
        all
    }

    fn check(text: &str, framing: Framing, expected: &[&str]) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, text).unwrap();
        let mut records = Records::open(&path, framing, 0, u64::MAX).unwrap();
        assert_eq!(read(&mut records), expected, "{text:?}");
        assert_eq!(records.position(), text.len() as u64);
    }

    #[test]
    fn records_of_a_file() {
        check("", Framing::Lines, &[]);
        check("a\nb\r\n\nc", Framing::Lines, &["a", "b", "", "c"]);
        check("a\n", Framing::Lines, &["a"]);
        check("a,\"x\ny\"\nb", QUOTED, &["a,\"x\ny\"", "b"]);
        check("\"a\"\"\n\",1\nb\n", QUOTED, &["\"a\"\"\n\",1", "b"]);
        check("\"a\\\"\n\",1\nb\n", QUOTED, &["\"a\\\"\n\",1", "b"]);
        check("5\" pipe\nb\n", QUOTED, &["5\" pipe", "b"]);
        check("a\n\"open\nend", QUOTED, &["a", "\"open\nend"]);
        check("a\rb\r\nc\r\rd\r", QUOTED, &["a", "b", "c", "", "d"]);
        check("a\rb\r\nc\r\rd\r", PLAIN, &["a", "b", "c", "", "d"]);
        check("\"a\rb\",1\rc", QUOTED, &["\"a\rb\",1", "c"]);
        check(
            "# it's \"\na\n#\"\rb",
            QUOTED,
            &["# it's \"", "a", "#\"", "b"],
        );
        check("a\\\nb,\\\"\nc", QUOTED, &["a\\\nb,\\\"", "c"]);
    }

    #[test]
    fn records_longer_than_the_buffer() {
        let long = "x".repeat(3 * READ_BYTES + 5);
        check(
            &format!("{long}\nb\n{long}"),
            Framing::Lines,
            &[&long, "b", &long],
        );
    }

    #[test]
    fn ranges_share_the_records_out() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let text = "one\ntwo\n\nthree and more\nfour";
        std::fs::write(&path, text).unwrap();
        for step in 1..text.len() as u64 + 2 {
            let mut all = Vec::new();
            let mut start = 0;
            while start < text.len() as u64 {
                let end = (start + step).min(text.len() as u64);
                let mut records = Records::open_range(&path, Framing::Lines, start, end).unwrap();
                all.extend(read(&mut records));
                start += step;
            }
            assert_eq!(all, ["one", "two", "", "three and more", "four"], "{step}");
        }
    }
}
