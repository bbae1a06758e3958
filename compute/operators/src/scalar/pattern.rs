//! Patterns of LIKE, SIMILAR TO and Java's regular expressions, translated to `regex`'s syntax,
//! and where a pattern that is not constant is kept for the next row.

use std::{collections::HashMap, sync::Arc};

use regex::{Captures, Regex};

/// A compiled LIKE pattern: the common shapes need no regular expression.
#[derive(Debug)]
pub(super) enum Like {
    Exact(String),
    Prefix(String),
    Suffix(String),
    Contains(String),
    Regex(Regex),
}

impl Like {
    /// Compiles a pattern; `None` if the escape character stands where it may not.
    pub(super) fn new(pattern: &str, escape: Option<char>) -> Option<Like> {
        let mut parts: Vec<Part> = Vec::new();
        let mut chars = pattern.chars();
        while let Some(c) = chars.next() {
            let part = if Some(c) == escape {
                let escaped = chars.next()?;
                if !(escaped == '%' || escaped == '_' || Some(escaped) == escape) {
                    return None;
                }
                Part::Char(escaped)
            } else {
                match c {
                    '%' => Part::Any,
                    '_' => Part::One,
                    c => Part::Char(c),
                }
            };
            parts.push(part);
        }
        Some(Like::of(&parts))
    }

    fn of(parts: &[Part]) -> Like {
        let text = |parts: &[Part]| -> Option<String> {
            let char_of = |part: &Part| match part {
                Part::Char(c) => Some(*c),
                _ => None,
            };
            parts.iter().map(char_of).collect()
        };
        let simple = match parts {
            [Part::Any, inner @ .., Part::Any] => text(inner).map(Like::Contains),
            [Part::Any, rest @ ..] => text(rest).map(Like::Suffix),
            [rest @ .., Part::Any] => text(rest).map(Like::Prefix),
            all => text(all).map(Like::Exact),
        };
        simple.unwrap_or_else(|| {
            let mut regex = String::from("(?s)^");
            for part in parts {
                match part {
                    Part::Any => regex.push_str(".*"),
                    Part::One => regex.push('.'),
                    Part::Char(c) => regex.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
                }
            }
            regex.push('$');
            Like::Regex(Regex::new(&regex).expect("escaped literals and wildcards are a regex"))
        })
    }

    #[inline]
    pub(super) fn matches(&self, text: &str) -> bool {
        match self {
            Like::Exact(pattern) => text == pattern,
            Like::Prefix(pattern) => text.starts_with(pattern.as_str()),
            Like::Suffix(pattern) => text.ends_with(pattern.as_str()),
            Like::Contains(pattern) => text.contains(pattern.as_str()),
            Like::Regex(regex) => regex.is_match(text),
        }
    }
}

enum Part {
    Any,
    One,
    Char(char),
}

/// SIMILAR TO: `%` and `_` as in LIKE, `| * + ? {} () []` as in regular expressions, the whole
/// text must match.
pub(super) fn similar(pattern: &str, escape: Option<char>) -> Result<Regex, String> {
    let mut regex = String::from("(?s)^(?:");
    let mut in_class = false;
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if Some(c) == escape {
            let escaped = chars.next().ok_or("it ends with the escape character")?;
            regex.push_str(&regex::escape(escaped.encode_utf8(&mut [0; 4])));
            continue;
        }
        match c {
            '[' if !in_class => {
                in_class = true;
                regex.push('[');
            }
            ']' => {
                in_class = false;
                regex.push(']');
            }
            c if in_class => {
                if matches!(c, '\\' | '&' | '~' | '[') && !regex.ends_with('[') {
                    regex.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
                } else {
                    regex.push(c);
                }
            }
            '%' => regex.push_str(".*"),
            '_' => regex.push('.'),
            '|' | '*' | '+' | '?' | '{' | '}' | '(' | ')' => regex.push(c),
            c => regex.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    regex.push_str(")$");
    let regex = regex
        .replace("[[:ALPHA:]]", "[[:alpha:]]")
        .replace("[[:DIGIT:]]", "[[:digit:]]");
    Regex::new(&regex).map_err(|error| error.to_string())
}

/// A Java regular expression. Its `\d`, `\w` and `\s` are ASCII, unlike `regex`'s.
pub(super) fn java(pattern: &str) -> Result<Regex, String> {
    let mut regex = String::with_capacity(pattern.len() + 8);
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            regex.push(c);
            continue;
        }
        match chars.next() {
            Some('d') => regex.push_str("[0-9]"),
            Some('D') => regex.push_str("[^0-9]"),
            Some('w') => regex.push_str("[a-zA-Z0-9_]"),
            Some('W') => regex.push_str("[^a-zA-Z0-9_]"),
            Some('s') => regex.push_str(r"[ \t\n\x0B\f\r]"),
            Some('S') => regex.push_str(r"[^ \t\n\x0B\f\r]"),
            Some('h') => {
                regex.push_str(r"[ \t\u{A0}\u{1680}\u{2000}-\u{200A}\u{202F}\u{205F}\u{3000}]")
            }
            Some('Z') => regex.push_str(r"\z"),
            Some('Q') => {
                let rest = chars.as_str();
                let (quoted, after) = rest.split_once("\\E").unwrap_or((rest, ""));
                regex.push_str(&regex::escape(quoted));
                chars = after.chars();
            }
            Some(other) => {
                // What needs no escape there is an error here.
                if other.is_ascii_alphanumeric() || regex_syntax_char(other) {
                    regex.push('\\');
                }
                regex.push(other);
            }
            None => return Err(ENDS_WITH_BACKSLASH.to_owned()),
        }
    }
    Regex::new(&regex).map_err(|error| error.to_string())
}

fn regex_syntax_char(c: char) -> bool {
    r"\.+*?()|[]{}^$#&-~/<>".contains(c)
}

/// Patterns compiled for rows of one batch; a constant pattern is compiled with the plan instead.
pub(super) struct Cache<T> {
    compile: fn(&str) -> Result<T, String>,
    known: HashMap<String, Result<Arc<T>, String>>,
}

/// Patterns kept at most.
const CACHED_PATTERNS_MAX: usize = 256;

impl<T> Cache<T> {
    pub(super) fn new(compile: fn(&str) -> Result<T, String>) -> Self {
        Cache {
            compile,
            known: HashMap::new(),
        }
    }

    pub(super) fn get(&mut self, pattern: &str) -> Result<Arc<T>, String> {
        if let Some(known) = self.known.get(pattern) {
            return known.clone();
        }
        if self.known.len() >= CACHED_PATTERNS_MAX {
            self.known.clear();
        }
        let compiled = (self.compile)(pattern).map(Arc::new);
        self.known.insert(pattern.to_owned(), compiled.clone());
        compiled
    }
}

/// Start and end of every match, as Java finds them: an empty one may stand right behind another.
pub(super) fn matches<'a>(
    regex: &'a Regex,
    text: &'a str,
) -> impl Iterator<Item = (usize, usize)> + 'a {
    let mut next = Some(0);
    std::iter::from_fn(move || {
        let found = regex.find_at(text, next?)?;
        next = after(text, found.start(), found.end());
        Some((found.start(), found.end()))
    })
}

/// The groups of every match.
pub(super) fn captures<'a>(
    regex: &'a Regex,
    text: &'a str,
) -> impl Iterator<Item = Captures<'a>> + 'a {
    let mut next = Some(0);
    std::iter::from_fn(move || {
        let found = regex.captures_at(text, next?)?;
        let all = found.get(0)?;
        next = after(text, all.start(), all.end());
        Some(found)
    })
}

/// Where to look on after a match; `None` at the end.
fn after(text: &str, start: usize, end: usize) -> Option<usize> {
    if start < end {
        return Some(end);
    }
    text[end..].chars().next().map(|c| end + c.len_utf8())
}

/// Whether a pattern with this error is none in Java either; the others are patterns that this
/// engine lacks.
pub(super) fn is_malformed(error: &str) -> bool {
    [
        "unclosed group",
        "unopened group",
        "unclosed character class",
        "repetition operator missing expression",
        ENDS_WITH_BACKSLASH,
    ]
    .iter()
    .any(|known| error.contains(known))
}

const ENDS_WITH_BACKSLASH: &str = "it ends with a backslash";
