//! The paths of SQL/JSON functions: `[lax | strict] $.name."name"['name'][0][*].*`.
//!
//! Without a mode a path is strict: what it does not find is an error, not emptiness.

use serde_json::Value;

/// A compiled path.
#[derive(Debug)]
pub(super) struct JsonPath {
    pub(super) lax: bool,
    steps: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    Member(String),
    Element(i64),
    /// `[*]` and `.*`.
    All,
}

/// What a path leads to.
#[derive(Debug)]
pub(super) enum Found<'a> {
    Missing,
    One(&'a Value),
    /// Of a path with `*`.
    Many(Vec<&'a Value>),
}

impl JsonPath {
    /// Compiles a path.
    pub(super) fn new(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| format!("path `{text}` {what}");
        let trimmed = text.trim();
        let (mode, rest) = match trimmed.split_once(char::is_whitespace) {
            Some((mode, rest)) => (mode.to_ascii_lowercase(), rest.trim_start()),
            None => (String::new(), trimmed),
        };
        let (lax, rest) = match mode.as_str() {
            "lax" => (true, rest),
            "strict" => (false, rest),
            _ => (false, trimmed),
        };
        let mut rest = rest
            .strip_prefix('$')
            .ok_or_else(|| wrong("does not start with `$`"))?;
        let mut steps = Vec::new();
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            let step = match c {
                '.' => member(&mut rest).ok_or_else(|| wrong("has an invalid member"))?,
                '[' => {
                    let end = subscript_end(rest).ok_or_else(|| wrong("lacks a `]`"))?;
                    let inner = rest[..end].trim();
                    rest = &rest[end + 1..];
                    subscript(inner).ok_or_else(|| wrong("has an invalid subscript"))?
                }
                _ => return Err(wrong("needs `.` or `[` between its steps")),
            };
            steps.push(step);
        }
        Ok(JsonPath { lax, steps })
    }

    /// Follows the path.
    pub(super) fn find<'a>(&self, document: &'a Value) -> Found<'a> {
        let mut many = false;
        let mut current = vec![document];
        for step in &self.steps {
            let mut next = Vec::with_capacity(current.len());
            for value in current {
                match (step, value) {
                    (Step::Member(name), Value::Object(members)) => next.extend(members.get(name)),
                    (Step::Element(index), Value::Array(items)) => {
                        let index = if *index < 0 {
                            items.len() as i64 + index
                        } else {
                            *index
                        };
                        next.extend(usize::try_from(index).ok().and_then(|at| items.get(at)));
                    }
                    (Step::All, Value::Array(items)) => next.extend(items),
                    (Step::All, Value::Object(members)) => next.extend(members.values()),
                    _ => {}
                }
            }
            many |= matches!(step, Step::All);
            current = next;
        }
        match (many, current.first()) {
            (true, _) => Found::Many(current),
            (false, Some(value)) => Found::One(value),
            (false, None) => Found::Missing,
        }
    }
}

fn member(rest: &mut &str) -> Option<Step> {
    if let Some(after) = rest.strip_prefix('*') {
        *rest = after;
        return Some(Step::All);
    }
    if let Some(after) = rest.strip_prefix('"') {
        let (name, after) = after.split_once('"')?;
        *rest = after;
        return Some(Step::Member(name.to_owned()));
    }
    let end = rest.find(['.', '[']).unwrap_or(rest.len());
    let name = rest[..end].trim();
    *rest = &rest[end..];
    (!name.is_empty()).then(|| Step::Member(name.to_owned()))
}

/// Offset of the `]` that ends a subscript, quotes respected.
fn subscript_end(text: &str) -> Option<usize> {
    let mut quote = None;
    for (offset, c) in text.char_indices() {
        match (quote, c) {
            (None, ']') => return Some(offset),
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            _ => {}
        }
    }
    None
}

fn subscript(inner: &str) -> Option<Step> {
    if inner == "*" {
        return Some(Step::All);
    }
    for quote in ['\'', '"'] {
        if let Some(name) = inner
            .strip_prefix(quote)
            .and_then(|n| n.strip_suffix(quote))
        {
            return Some(Step::Member(name.to_owned()));
        }
    }
    inner.parse().ok().map(Step::Element)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let document = serde_json::json!({"a": {"b": [1, 2, "q"], "x y": true}, "n": null});
        let check = |path: &str, expected: &str| {
            let shown = match JsonPath::new(path) {
                Err(error) => error,
                Ok(path) => match path.find(&document) {
                    Found::Missing => "missing".to_owned(),
                    Found::One(value) => value.to_string(),
                    Found::Many(values) => format!("{} values", values.len()),
                },
            };
            assert_eq!(shown, expected, "{path}");
        };
        check("$.a.b[1]", "2");
        check("lax $['a'][\"x y\"]", "true");
        check("$.a.\"x y\"", "true");
        check("strict $.n", "null");
        check("$.zz.b", "missing");
        check("$.a.b[3]", "missing");
        check("$.a.b[-1]", "\"q\"");
        check("$.a.b[*]", "3 values");
        check("$.*", "2 values");
        check("a.b", "path `a.b` does not start with `$`");
        check("$.a[", "path `$.a[` lacks a `]`");
        check("$..a", "path `$..a` has an invalid member");
    }
}
