//! A position in one JSON text: tokens, strings and skipping. Knows no columns.

/// Where and why a text is not JSON.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    pub(crate) at: usize,
    pub(crate) expected: &'static str,
}

impl std::fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "expected {} at byte {}", self.expected, self.at)
    }
}

/// Nesting that is followed; deeper is refused rather than overflowing the stack.
const DEPTH_MAX: usize = 200;

/// A position in a text that is valid UTF-8.
#[derive(Clone, Debug)]
pub(crate) struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
    depth: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Cursor<'a> {
        Cursor {
            text,
            at: 0,
            depth: 0,
        }
    }

    /// Bytes consumed so far.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// The text from `start` to here.
    pub(crate) fn since(&self, start: usize) -> &'a [u8] {
        &self.text[start..self.at]
    }

    /// An error at the current position.
    pub(crate) fn expected(&self, expected: &'static str) -> SyntaxError {
        SyntaxError {
            at: self.at,
            expected,
        }
    }

    /// Skips white space; the byte that follows, which stays.
    #[inline]
    pub(crate) fn peek(&mut self) -> Option<u8> {
        loop {
            match self.text.get(self.at) {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                Some(byte) => return Some(*byte),
                None => return None,
            }
        }
    }

    /// Consumes `byte` if it comes next.
    #[inline]
    pub(crate) fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Consumes `byte`.
    #[inline]
    pub(crate) fn expect(&mut self, byte: u8, name: &'static str) -> Result<(), SyntaxError> {
        if self.eat(byte) {
            Ok(())
        } else {
            Err(self.expected(name))
        }
    }

    /// Enters an object or array: `{` or `[`.
    pub(crate) fn open(&mut self, byte: u8, name: &'static str) -> Result<(), SyntaxError> {
        self.expect(byte, name)?;
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.expected("less nesting"));
        }
        Ok(())
    }

    /// After an element: `true` at a comma, `false` at the closing byte.
    #[inline]
    pub(crate) fn more(&mut self, close: u8) -> Result<bool, SyntaxError> {
        if self.eat(b',') {
            return Ok(true);
        }
        if self.eat(close) {
            self.depth = self.depth.saturating_sub(1);
            return Ok(false);
        }
        Err(self.expected("`,` or the end of the object or array"))
    }

    /// After the opening byte: `false` if the closing byte follows at once.
    #[inline]
    pub(crate) fn not_empty(&mut self, close: u8) -> bool {
        let empty = self.eat(close);
        self.depth = self.depth.saturating_sub(usize::from(empty));
        !empty
    }

    /// Consumes `null` if it comes next.
    #[inline]
    pub(crate) fn eat_null(&mut self) -> Result<bool, SyntaxError> {
        if self.peek() != Some(b'n') {
            return Ok(false);
        }
        self.literal()?;
        Ok(true)
    }

    /// `true`, `false` or `null`.
    fn literal(&mut self) -> Result<&'a [u8], SyntaxError> {
        for literal in [b"null".as_slice(), b"true", b"false"] {
            if self.text[self.at..].starts_with(literal) {
                self.at += literal.len();
                return Ok(literal);
            }
        }
        Err(self.expected("a value"))
    }

    /// A number's text. The grammar is checked loosely here and strictly by who converts it.
    fn number(&mut self) -> Result<&'a [u8], SyntaxError> {
        let start = self.at;
        while let Some(b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E') = self.text.get(self.at) {
            self.at += 1;
        }
        let number = self.since(start);
        let digits = number.strip_prefix(b"-").unwrap_or(number);
        if !digits.first().is_some_and(u8::is_ascii_digit) {
            self.at = start;
            return Err(self.expected("a value"));
        }
        Ok(number)
    }

    /// A number's or literal's text, as written.
    pub(crate) fn bare(&mut self) -> Result<&'a [u8], SyntaxError> {
        match self.peek() {
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => self.literal(),
        }
    }

    /// A string's contents: as they stand in the text if there are no escapes, else unescaped
    /// into `scratch`.
    #[inline]
    pub(crate) fn string<'s>(&mut self, scratch: &'s mut Vec<u8>) -> Result<&'s [u8], SyntaxError>
    where
        'a: 's,
    {
        self.expect(b'"', "a string")?;
        let rest = &self.text[self.at..];
        match memchr::memchr2(b'"', b'\\', rest) {
            Some(end) if rest[end] == b'"' => {
                self.at += end + 1;
                Ok(&rest[..end])
            }
            Some(_) => {
                scratch.clear();
                self.unescape(scratch)?;
                Ok(scratch)
            }
            None => Err(self.unterminated()),
        }
    }

    /// Appends a string's contents to `out`.
    #[inline]
    pub(crate) fn string_into(&mut self, out: &mut Vec<u8>) -> Result<(), SyntaxError> {
        self.expect(b'"', "a string")?;
        self.unescape(out)
    }

    fn unterminated(&mut self) -> SyntaxError {
        self.at = self.text.len();
        self.expected("the end of the string")
    }

    /// From inside a string to after its closing quote.
    fn unescape(&mut self, out: &mut Vec<u8>) -> Result<(), SyntaxError> {
        loop {
            let rest = &self.text[self.at..];
            let Some(stop) = memchr::memchr2(b'"', b'\\', rest) else {
                return Err(self.unterminated());
            };
            out.extend_from_slice(&rest[..stop]);
            self.at += stop + 1;
            if rest[stop] == b'"' {
                return Ok(());
            }
            self.escape(out)?;
        }
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> Result<(), SyntaxError> {
        let Some(byte) = self.text.get(self.at).copied() else {
            return Err(self.unterminated());
        };
        let plain = match byte {
            b'"' | b'\\' | b'/' => byte,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => return self.unicode(out),
            _ => return Err(self.expected("an escape")),
        };
        self.at += 1;
        out.push(plain);
        Ok(())
    }

    /// `uXXXX`, or a pair of them for a character beyond the first 65536. Half a pair becomes
    /// the replacement character: a string column holds characters only.
    fn unicode(&mut self, out: &mut Vec<u8>) -> Result<(), SyntaxError> {
        self.at += 1;
        let high = self.hex4()?;
        let mut code = high;
        if (0xD800..0xDC00).contains(&high) && self.text[self.at..].starts_with(b"\\u") {
            let back = self.at;
            self.at += 2;
            let low = self.hex4()?;
            if (0xDC00..0xE000).contains(&low) {
                code = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
            } else {
                self.at = back;
            }
        }
        let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        Ok(())
    }

    fn hex4(&mut self) -> Result<u32, SyntaxError> {
        let digits = self.text.get(self.at..self.at + 4);
        let mut code = 0;
        for byte in digits.ok_or_else(|| self.expected("four hex digits"))? {
            let digit = char::from(*byte).to_digit(16);
            code = code * 16 + digit.ok_or_else(|| self.expected("four hex digits"))?;
        }
        self.at += 4;
        Ok(code)
    }

    /// Consumes any value.
    pub(crate) fn skip(&mut self) -> Result<(), SyntaxError> {
        match self.peek() {
            Some(b'"') => self.skip_string(),
            Some(b'{') => {
                self.open(b'{', "an object")?;
                let mut more = self.not_empty(b'}');
                while more {
                    if self.peek() != Some(b'"') {
                        return Err(self.expected("a member name"));
                    }
                    self.skip_string()?;
                    self.expect(b':', "`:`")?;
                    self.skip()?;
                    more = self.more(b'}')?;
                }
                Ok(())
            }
            Some(b'[') => {
                self.open(b'[', "an array")?;
                let mut more = self.not_empty(b']');
                while more {
                    self.skip()?;
                    more = self.more(b']')?;
                }
                Ok(())
            }
            _ => self.bare().map(|_| ()),
        }
    }

    fn skip_string(&mut self) -> Result<(), SyntaxError> {
        self.at += 1;
        loop {
            let rest = &self.text[self.at..];
            match memchr::memchr2(b'"', b'\\', rest) {
                Some(stop) if rest[stop] == b'"' => {
                    self.at += stop + 1;
                    return Ok(());
                }
                Some(stop) if stop + 1 < rest.len() => self.at += stop + 2,
                _ => return Err(self.unterminated()),
            }
        }
    }

    /// Appends any value, as written but without the white space between tokens.
    pub(crate) fn compact_into(&mut self, out: &mut Vec<u8>) -> Result<(), SyntaxError> {
        self.peek();
        let start = self.at;
        self.skip()?;
        let mut rest = self.since(start);
        while let Some(quote) = memchr::memchr(b'"', rest) {
            let (before, string) = rest.split_at(quote);
            out.extend(before.iter().filter(|byte| !byte.is_ascii_whitespace()));
            let mut cursor = Cursor::new(string);
            cursor.skip_string()?;
            out.extend_from_slice(cursor.since(0));
            rest = &string[cursor.at..];
        }
        out.extend(rest.iter().filter(|byte| !byte.is_ascii_whitespace()));
        Ok(())
    }

    /// Back to an earlier position of this cursor.
    pub(crate) fn rewind(&mut self, earlier: &Cursor<'a>) {
        self.at = earlier.at;
        self.depth = earlier.depth;
    }
}
