//! How answers are shown: for people as tables and lines, for programs as the server's JSON.

use std::io::{self, Write as _};

use clap::Args;
use serde_json::Value;

use crate::{
    client::Client,
    table::{cells, print, printable},
};

/// How answers are shown.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct OutputArgs {
    /// Print the server's answer as it is, in JSON.
    #[arg(long, global = true)]
    json: bool,
}

impl OutputArgs {
    /// Gets a path and shows the answer.
    pub(crate) fn get(
        self,
        client: &Client,
        path: &str,
        show: impl FnOnce(&Value) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.answer(&client.get_text(path)?, show)
    }

    /// Shows an answer.
    pub(crate) fn answer(
        self,
        text: &str,
        show: impl FnOnce(&Value) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        if self.json {
            // Some answers say nothing.
            if !text.is_empty() {
                writeln!(io::stdout(), "{}", text.trim_end())?;
            }
            return Ok(());
        }
        let value = if text.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(text)?
        };
        show(&value)
    }
}

/// Objects as a table of these fields, whose names are the header.
pub(crate) fn list(answer: &Value, name: &str, fields: &[&str]) -> anyhow::Result<()> {
    let objects = answer.get(name).and_then(Value::as_array);
    let objects = objects.map(Vec::as_slice).unwrap_or_default();
    let rows: Vec<Vec<String>> = objects.iter().map(|object| row(object, fields)).collect();
    let header: Vec<String> = fields.iter().map(|field| header(field)).collect();
    print(&mut io::stdout(), &header, &rows)?;
    Ok(())
}

/// The fields of an object, a line each.
pub(crate) fn object(answer: &Value) -> anyhow::Result<()> {
    let fields = answer.as_object().into_iter().flatten();
    let mut rows = Vec::new();
    for (name, value) in fields {
        match value {
            Value::Array(values) if values.is_empty() => {}
            Value::Array(values) => {
                rows.extend(values.iter().map(|value| vec![name.clone(), flat(value)]));
            }
            _ => rows.push(vec![plain(name).to_owned(), shown(name, value)]),
        }
    }
    let width = rows.iter().filter_map(|row| row.first()).map(String::len);
    let width = width.max().unwrap_or_default();
    for row in rows {
        let [name, value] = row.as_slice() else {
            continue;
        };
        for (index, line) in value.lines().enumerate() {
            let name = if index == 0 { name.as_str() } else { "" };
            writeln!(io::stdout(), "{name:width$}  {}", printable(line))?;
        }
    }
    Ok(())
}

fn row(object: &Value, fields: &[&str]) -> Vec<String> {
    let cell = |field: &&str| match object.get(*field) {
        Some(value) if field.ends_with("_ms") && !value.is_f64() => shown(field, value),
        Some(Value::Array(values)) => {
            let values: Vec<String> = values.iter().map(flat).collect();
            values.join(", ")
        }
        _ => cells(object, &[*field]).concat(),
    };
    fields.iter().map(cell).collect()
}

fn header(field: &str) -> String {
    plain(field).to_uppercase()
}

/// Points in time are shown without their unit.
fn plain(field: &str) -> &str {
    match field {
        "created_ms" => "created",
        "connected_ms" => "connected",
        other => other,
    }
}

/// A value of a field: points in time as people write them.
fn shown(name: &str, value: &Value) -> String {
    match (name, value) {
        ("created_ms" | "connected_ms", Value::Number(ms)) => {
            ms.as_u64().map_or_else(|| ms.to_string(), utc)
        }
        (_, Value::String(text)) => text.clone(),
        _ => value.to_string(),
    }
}

/// An object in a few words: `job_1 (tasks 4)`.
fn flat(value: &Value) -> String {
    let Value::Object(fields) = value else {
        return shown("", value);
    };
    let mut fields = fields
        .iter()
        .map(|(name, value)| (name, shown(name, value)));
    let first = fields.next().map(|(_, first)| first).unwrap_or_default();
    let rest: Vec<String> = fields
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    if rest.is_empty() {
        first
    } else {
        format!("{first} ({})", rest.join(", "))
    }
}

/// A time in ms since 1970, in UTC to the second.
fn utc(ms: u64) -> String {
    let (seconds, days) = (ms / 1000 % 86_400, ms / 86_400_000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    // Days are counted in cycles of 400 years that begin with March of the year 0.
    let days = days + 719_468;
    let (cycle, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = cycle * 400 + year + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{date:02} {hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_dates() {
        let check = |seconds: u64, expected: &str| assert_eq!(utc(seconds * 1000), expected);
        check(0, "1970-01-01 00:00:00Z");
        check(951_782_399, "2000-02-28 23:59:59Z");
        check(951_782_400, "2000-02-29 00:00:00Z");
        check(1_700_000_000, "2023-11-14 22:13:20Z");
        check(4_107_542_400, "2100-03-01 00:00:00Z");
    }

    #[test]
    fn rows_are_short() {
        let worker = json!({
            "id": "wk_1",
            "connected_ms": 1_700_000_000_000_u64,
            "jobs": [{"id": "job_1", "tasks": 4}, {"id": "job_2", "tasks": 1}],
            "stage_ms": 1.5,
        });
        let fields = ["id", "address", "connected_ms", "jobs", "stage_ms"];
        assert_eq!(
            row(&worker, &fields),
            [
                "wk_1",
                "",
                "2023-11-14 22:13:20Z",
                "job_1 (tasks 4), job_2 (tasks 1)",
                "1.5"
            ]
        );
        assert_eq!(header("connected_ms"), "CONNECTED");
        assert_eq!(header("stage_ms"), "STAGE_MS");
    }
}
