//! LIKE, SIMILAR TO and the REGEXP family. A constant pattern is compiled once with the plan.

use std::{fmt::Write as _, sync::Arc};

use arrow::{
    array::ArrayRef,
    datatypes::{DataType as ArrowType, Int32Type},
};
use proto::plan::ScalarFunction;
use regex::Regex;

use super::{
    Kernel, Signature,
    kernel::{by_row, predicate, strings, try_predicate},
    pattern::{Cache, Like, captures, is_malformed, java, matches, similar},
    string_basic::char_count,
    string_list::text_list_builder,
};
use crate::expr::{
    EvalError, ExprError,
    value::{Args, is_valid},
};

/// Makes the kernel of a pattern function.
pub(super) fn build(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    use ScalarFunction as F;
    match (signature.function, signature.args.len()) {
        (F::Like, 2 | 3) => like(signature),
        (F::SimilarTo, 2 | 3) => similar_to(signature),
        (F::Regexp, 2) => {
            let patterns = Patterns::new(signature)?;
            Ok(Box::new(move |args| {
                let texts = args.strings(0);
                // An empty pattern finds nothing here, though it does elsewhere.
                let is_match = |regex: &Regex, row: usize| {
                    !regex.as_str().is_empty() && regex.is_match(texts.at(row))
                };
                if let Patterns::Constant(Some(regex)) = &patterns {
                    return Ok(predicate(args, |row| is_match(regex, row)));
                }
                let mut regexes = patterns.rows(args, "REGEXP");
                try_predicate(args, |row| {
                    let regex = regexes.at(row)?;
                    Ok(Some(regex.is_some_and(|regex| is_match(&regex, row))))
                })
            }))
        }
        (F::RegexpReplace, 3) => regexp_replace(signature),
        (F::RegexpExtract, 2 | 3) => regexp_extract(signature),
        (F::RegexpExtractAll, 2 | 3) => regexp_extract_all(signature),
        (F::RegexpSubstr, 2) => {
            let patterns = Patterns::new(signature)?;
            Ok(Box::new(move |args| {
                let texts = args.strings(0);
                let mut regexes = patterns.rows(args, "REGEXP_SUBSTR");
                let nulls = args.nulls();
                strings(
                    args.rows,
                    nulls.as_ref(),
                    texts.capacity() / 2,
                    |row, out| {
                        let regex = regexes.at(row)?;
                        let found = regex.and_then(|regex| regex.find(texts.at(row)));
                        Ok(write_option(found.map(|found| found.as_str()), out))
                    },
                )
            }))
        }
        (F::RegexpCount, 2) => numbers(signature, "REGEXP_COUNT", |regex, text| {
            matches(regex, text).count() as i32
        }),
        (F::RegexpInstr, 2) => numbers(signature, "REGEXP_INSTR", |regex, text| {
            regex
                .find(text)
                .map_or(0, |found| char_count(&text[..found.start()]) as i32 + 1)
        }),
        _ => Err(signature.unsupported()),
    }
}

fn write_option(text: Option<&str>, out: &mut arrow::array::StringBuilder) -> bool {
    if let Some(text) = text {
        let _ = out.write_str(text);
    }
    text.is_some()
}

/// The pattern argument of a REGEXP function. A malformed one makes the result NULL.
enum Patterns {
    Constant(Option<Arc<Regex>>),
    PerRow,
}

impl Patterns {
    fn new(signature: &Signature<'_>) -> Result<Self, ExprError> {
        match signature.constant_text(1) {
            Some(pattern) => match java(pattern) {
                Ok(regex) => Ok(Patterns::Constant(Some(Arc::new(regex)))),
                Err(message) if is_malformed(&message) => Ok(Patterns::Constant(None)),
                Err(message) => Err(signature.invalid(message)),
            },
            None => Ok(Patterns::PerRow),
        }
    }

    fn rows<'a>(&self, args: &Args<'a>, function: &'static str) -> RowPatterns<'a> {
        match self {
            Patterns::Constant(regex) => RowPatterns::Constant(regex.clone()),
            Patterns::PerRow => RowPatterns::PerRow {
                patterns: args.strings(1),
                cache: Cache::new(java),
                function,
            },
        }
    }
}

enum RowPatterns<'a> {
    Constant(Option<Arc<Regex>>),
    PerRow {
        patterns: crate::expr::value::Strings<'a>,
        cache: Cache<Regex>,
        function: &'static str,
    },
}

impl RowPatterns<'_> {
    fn at(&mut self, row: usize) -> Result<Option<Arc<Regex>>, EvalError> {
        match self {
            RowPatterns::Constant(regex) => Ok(regex.clone()),
            RowPatterns::PerRow {
                patterns,
                cache,
                function,
            } => match cache.get(patterns.at(row)) {
                Ok(regex) => Ok(Some(regex)),
                Err(message) if is_malformed(&message) => Ok(None),
                Err(message) => Err(EvalError::function(function, message)),
            },
        }
    }
}

fn numbers(
    signature: &Signature<'_>,
    function: &'static str,
    f: fn(&Regex, &str) -> i32,
) -> Result<Kernel, ExprError> {
    let patterns = Patterns::new(signature)?;
    Ok(Box::new(move |args| {
        let texts = args.strings(0);
        let mut regexes = patterns.rows(args, function);
        by_row::<Int32Type>(args, &ArrowType::Int32, |row| {
            let regex = regexes.at(row)?;
            Ok(regex.map(|regex| f(&regex, texts.at(row))))
        })
    }))
}

fn escape_of(signature: &Signature<'_>) -> Result<Option<char>, ExprError> {
    if signature.args.len() < 3 {
        return Ok(None);
    }
    let mut chars = signature.constant_text(2).unwrap_or("").chars();
    match (chars.next(), chars.next()) {
        (Some(escape), None) => Ok(Some(escape)),
        _ => Err(signature.invalid("ESCAPE must be one constant character")),
    }
}

const MISPLACED_ESCAPE: &str = "the escape character may stand only before `%`, `_` and itself";

fn like(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    let escape = escape_of(signature)?;
    if let Some(pattern) = signature.constant_text(1) {
        let like = Like::new(pattern, escape).ok_or_else(|| signature.invalid(MISPLACED_ESCAPE))?;
        return Ok(Box::new(move |args| {
            let texts = args.strings(0);
            Ok(predicate(args, |row| like.matches(texts.at(row))))
        }));
    }
    Ok(Box::new(move |args| {
        let (texts, patterns) = (args.strings(0), args.strings(1));
        let mut last: Option<(&str, Like)> = None;
        try_predicate(args, |row| {
            let pattern = patterns.at(row);
            if last.as_ref().is_none_or(|(known, _)| *known != pattern) {
                let like = Like::new(pattern, escape)
                    .ok_or_else(|| EvalError::function("LIKE", MISPLACED_ESCAPE))?;
                last = Some((pattern, like));
            }
            Ok(last.as_ref().map(|(_, like)| like.matches(texts.at(row))))
        })
    }))
}

fn similar_to(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    let escape = escape_of(signature)?;
    if let Some(pattern) = signature.constant_text(1) {
        let regex = similar(pattern, escape).map_err(|message| signature.invalid(message))?;
        return Ok(Box::new(move |args| {
            let texts = args.strings(0);
            Ok(predicate(args, |row| regex.is_match(texts.at(row))))
        }));
    }
    Ok(Box::new(move |args| {
        let (texts, patterns) = (args.strings(0), args.strings(1));
        let mut last: Option<(&str, Regex)> = None;
        try_predicate(args, |row| {
            let pattern = patterns.at(row);
            if last.as_ref().is_none_or(|(known, _)| *known != pattern) {
                let regex = similar(pattern, escape)
                    .map_err(|message| EvalError::function("SIMILAR_TO", message))?;
                last = Some((pattern, regex));
            }
            Ok(last
                .as_ref()
                .map(|(_, regex)| regex.is_match(texts.at(row))))
        })
    }))
}

/// The replacement is plain text: `$1` and `\\` mean themselves.
fn regexp_replace(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    let patterns = Patterns::new(signature)?;
    Ok(Box::new(move |args| {
        let (texts, replacements) = (args.strings(0), args.strings(2));
        let mut regexes = patterns.rows(args, "REGEXP_REPLACE");
        let nulls = args.nulls();
        strings(args.rows, nulls.as_ref(), texts.capacity(), |row, out| {
            let (Some(regex), text) = (regexes.at(row)?, texts.at(row)) else {
                return Ok(false);
            };
            let mut last = 0;
            for (start, end) in matches(&regex, text) {
                let _ = out.write_str(&text[last..start]);
                let _ = out.write_str(replacements.at(row));
                last = end;
            }
            let _ = out.write_str(&text[last..]);
            Ok(true)
        })
    }))
}

fn regexp_extract(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    let patterns = Patterns::new(signature)?;
    Ok(Box::new(move |args| {
        let texts = args.strings(0);
        let groups = (args.len() > 2).then(|| args.numbers::<Int32Type>(2));
        let mut regexes = patterns.rows(args, "REGEXP_EXTRACT");
        let mut locations = match &patterns {
            Patterns::Constant(Some(regex)) => Some(regex.capture_locations()),
            Patterns::Constant(None) | Patterns::PerRow => None,
        };
        let nulls = args.nulls();
        strings(
            args.rows,
            nulls.as_ref(),
            texts.capacity() / 4,
            |row, out| {
                let (Some(regex), text) = (regexes.at(row)?, texts.at(row)) else {
                    return Ok(false);
                };
                let group = groups.as_ref().map_or(0, |groups| groups.at(row));
                let Ok(group) = usize::try_from(group) else {
                    return Ok(false);
                };
                if group == 0 {
                    return Ok(write_option(
                        regex.find(text).map(|found| found.as_str()),
                        out,
                    ));
                }
                let found = match &mut locations {
                    Some(locations) => regex
                        .captures_read(locations, text)
                        .and_then(|_| locations.get(group))
                        .map(|(start, end)| &text[start..end]),
                    None => regex
                        .captures(text)
                        .and_then(|captures| captures.get(group))
                        .map(|found| found.as_str()),
                };
                Ok(write_option(found, out))
            },
        )
    }))
}

fn regexp_extract_all(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    let patterns = Patterns::new(signature)?;
    Ok(Box::new(move |args| -> Result<ArrayRef, EvalError> {
        let texts = args.strings(0);
        let groups = (args.len() > 2).then(|| args.numbers::<Int32Type>(2));
        let mut regexes = patterns.rows(args, "REGEXP_EXTRACT_ALL");
        let nulls = args.nulls();
        let mut builder = text_list_builder(args.rows);
        for row in 0..args.rows {
            let group = groups.as_ref().map_or(1, |groups| groups.at(row));
            if !is_valid(nulls.as_ref(), row) {
                builder.append_null();
                continue;
            }
            let Some(regex) = regexes.at(row)? else {
                builder.append_null();
                continue;
            };
            match usize::try_from(group) {
                Ok(group) if group < regex.captures_len() => {
                    for captures in captures(&regex, texts.at(row)) {
                        let found = captures.get(group).map(|found| found.as_str());
                        builder.values().append_option(found);
                    }
                    builder.append(true);
                }
                _ => builder.append_null(),
            }
        }
        Ok(Arc::new(builder.finish()))
    }))
}
