//! WITH options, read one by one. What was never asked for is unknown, and the error names the
//! nearest that was; what was asked for and is wrong is reported after that.

use std::fmt::Display;

use super::units;
use crate::error::{Span, SqlError};
use crate::suggest::nearest;

/// One `'key' = 'value'`.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) span: Option<Span>,
}

/// The options of one table while its connector reads them.
pub(super) struct Options<'a> {
    given: &'a [Given],
    /// Keys asked for so far: the valid ones.
    known: Vec<String>,
    errors: Vec<SqlError>,
    /// "connector 'filesystem'", for messages.
    owner: String,
    /// Put before every key: `json.`
    prefix: String,
}

impl<'a> Options<'a> {
    pub(super) fn new(given: &'a [Given], connector: &str) -> Options<'a> {
        Options {
            given,
            known: vec!["connector".to_owned()],
            errors: Vec::new(),
            owner: format!("connector '{connector}'"),
            prefix: String::new(),
        }
    }

    /// Reads options whose names begin with `prefix` and a point.
    pub(super) fn with_prefix<T>(&mut self, prefix: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        self.prefix = format!("{prefix}.");
        let result = read(self);
        self.prefix.clear();
        result
    }

    /// An optional text.
    pub(super) fn text(&mut self, key: &str) -> Option<String> {
        self.take(key).map(|given| given.value.clone())
    }

    /// A text that must be there and not be empty.
    pub(super) fn required(&mut self, key: &str, what: &str) -> String {
        match self.take(key) {
            Some(given) if given.value.trim().is_empty() => {
                let error = bad(given, what);
                self.errors.push(error);
                String::new()
            }
            Some(given) => given.value.clone(),
            None => {
                let key = format!("{}{key}", self.prefix);
                self.errors.push(
                    SqlError::validate(format!("{} needs the option '{key}'", self.owner))
                        .hint(format!("add '{key}' = '…' ({what}) to WITH")),
                );
                String::new()
            }
        }
    }

    /// An option of any type; `default` where it is not given.
    pub(super) fn parsed<T>(
        &mut self,
        key: &str,
        expected: &str,
        default: T,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> T {
        let Some(given) = self.take(key) else {
            return default;
        };
        match parse(given.value.trim()) {
            Some(value) => value,
            None => {
                let error = bad(given, expected);
                self.errors.push(error);
                default
            }
        }
    }

    pub(super) fn boolean(&mut self, key: &str, default: bool) -> bool {
        self.parsed(key, "true or false", default, |text| {
            match text.to_ascii_lowercase().as_str() {
                "true" => Some(true),
                "false" => Some(false),
                _ => None,
            }
        })
    }

    /// A whole number of at least `least`.
    pub(super) fn integer(&mut self, key: &str, default: u64, least: u64) -> u64 {
        let expected = format!("a whole number, at least {least}");
        let parse = |text: &str| text.parse().ok().filter(|value| *value >= least);
        self.parsed(key, &expected, default, parse)
    }

    /// As [`Options::integer`], up to 2147483647.
    pub(super) fn small(&mut self, key: &str, default: u32, least: u32) -> u32 {
        let expected = format!("a whole number, {least} to {}", i32::MAX);
        self.parsed(key, &expected, default, |text| {
            let value: u32 = text.parse().ok()?;
            (least..=i32::MAX as u32).contains(&value).then_some(value)
        })
    }

    pub(super) fn duration_ms(&mut self, key: &str, default: u64) -> u64 {
        self.parsed(
            key,
            "a duration such as '10 s'",
            default,
            units::duration_ms,
        )
    }

    pub(super) fn memory_bytes(&mut self, key: &str, default: u64) -> u64 {
        self.parsed(key, "a size such as '128 mb'", default, units::memory_bytes)
    }

    /// One of some words, whatever their case.
    pub(super) fn choice<T: Copy>(&mut self, key: &str, choices: &[(&str, T)], default: T) -> T {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let expected = format!("one of {}", words.join(", "));
        self.parsed(key, &expected, default, |text| {
            let found = choices
                .iter()
                .find(|(word, _)| word.eq_ignore_ascii_case(text));
            found.map(|(_, value)| *value)
        })
    }

    /// A single character; `\t` and its like may be written as Java writes them.
    pub(super) fn character(&mut self, key: &str, default: &str) -> String {
        let Some(given) = self.take(key) else {
            return default.to_owned();
        };
        match units::character(&given.value) {
            Some(value) => value,
            None => {
                let error = bad(given, "one character");
                self.errors.push(error);
                default.to_owned()
            }
        }
    }

    /// Options that Flink has here and we have not.
    pub(super) fn unsupported(&mut self, keys: &[&str]) {
        for key in keys {
            let key = format!("{}{key}", self.prefix);
            let found = self.given.iter().find(|given| given.key == key);
            let Some(given) = found else { continue };
            self.known.push(key.clone());
            let message = format!("option '{key}' is not supported");
            let hint = "it would have no effect: leave it out";
            self.errors
                .push(SqlError::validate(message).at(given.span).hint(hint));
        }
    }

    /// An error about an option, found by whoever reads it.
    pub(super) fn fail(&mut self, key: &str, message: impl Display, hint: &str) {
        let key = format!("{}{key}", self.prefix);
        let span = self
            .given
            .iter()
            .find(|given| given.key == key)
            .and_then(|given| given.span);
        self.errors
            .push(SqlError::validate(message.to_string()).at(span).hint(hint));
    }

    /// Whether an option is given; does not take it.
    pub(super) fn has(&self, key: &str) -> bool {
        let key = format!("{}{key}", self.prefix);
        self.given.iter().any(|given| given.key == key)
    }

    /// Ends the reading: unknown options first, then the first bad one.
    pub(super) fn finish(self) -> Result<(), SqlError> {
        for given in self.given {
            if self.known.contains(&given.key) {
                continue;
            }
            let message = format!("{} has no option '{}'", self.owner, given.key);
            let error = SqlError::validate(message).at(given.span);
            let known = || self.known.iter().map(String::as_str);
            return Err(match nearest(&given.key, known()) {
                Some(near) => error.hint(format!("did you mean '{near}'?")),
                None => {
                    let mut keys: Vec<&str> = known().filter(|key| *key != "connector").collect();
                    keys.sort_unstable();
                    if keys.is_empty() {
                        error.hint("it has no options")
                    } else {
                        error.hint(format!("its options are {}", keys.join(", ")))
                    }
                }
            });
        }
        match self.errors.into_iter().next() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn take(&mut self, key: &str) -> Option<&'a Given> {
        let key = format!("{}{key}", self.prefix);
        let given = self.given.iter().find(|given| given.key == key);
        self.known.push(key);
        given
    }
}

fn bad(given: &Given, expected: &str) -> SqlError {
    let Given { key, value, span } = given;
    SqlError::validate(format!("option '{key}' has the bad value '{value}'"))
        .at(*span)
        .hint(format!("expected {expected}"))
}
