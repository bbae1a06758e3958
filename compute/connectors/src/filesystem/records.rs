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
    end: u64,
    at_end_of_file: bool,
}

impl Records {
    /// Opens at `position`, which must be the beginning of a record.
    pub(super) fn open(path: &Path, framing: Framing, position: u64, end: u64) -> io::Result<Self> {
        let mut file = File::open(path)?;
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
            if let Some(length) = record_length(rest, self.framing) {
                let start = self.head;
                self.head += length + 1;
                self.position += length as u64 + 1;
                return Ok(Some(self.without_return(start..start + length)));
            }
            if self.at_end_of_file {
                let length = rest.len();
                if length == 0 {
                    return Ok(None);
                }
                let start = self.head;
                self.head += length;
                self.position += length as u64;
                return Ok(Some(self.without_return(start..start + length)));
            }
            if rest.len() > RECORD_BYTES_MAX {
                return Err(io::Error::other(format!(
                    "a record is longer than {} MiB",
                    RECORD_BYTES_MAX >> 20
                )));
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
        let wanted = READ_BYTES.max(filled);
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

/// Length of the record at the beginning of `bytes` if its end is there.
fn record_length(bytes: &[u8], framing: Framing) -> Option<usize> {
    match framing {
        Framing::Lines => memchr::memchr(b'\n', bytes),
        Framing::QuotedLines {
            delimiter,
            quote,
            escape,
        } => quoted_record_length(bytes, delimiter, quote, escape),
    }
}

fn quoted_record_length(
    bytes: &[u8],
    delimiter: u8,
    quote: u8,
    escape: Option<u8>,
) -> Option<usize> {
    let mut at = 0;
    loop {
        // At the beginning of a field.
        if bytes.get(at) == Some(&quote) {
            at += 1;
            loop {
                at += memchr::memchr2(quote, escape.unwrap_or(quote), &bytes[at..])?;
                let doubled = bytes[at] == quote && bytes.get(at + 1) == Some(&quote);
                if bytes[at] == quote && !doubled {
                    at += 1;
                    break;
                }
                at += 2;
                if at > bytes.len() {
                    return None;
                }
            }
        }
        at += memchr::memchr2(delimiter, b'\n', bytes.get(at..)?)?;
        if bytes[at] == b'\n' {
            return Some(at);
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTED: Framing = Framing::QuotedLines {
        delimiter: b',',
        quote: b'"',
        escape: Some(b'\\'),
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
                let mut records =
                    Records::open_range(&path, Framing::Lines, start, start + step).unwrap();
                all.extend(read(&mut records));
                start += step;
            }
            assert_eq!(all, ["one", "two", "", "three and more", "four"], "{step}");
        }
    }
}
