//! `millstream jobs operators` and `jobs state`: how much state operators have, and its rows.

use std::io::{self, Write as _};

use clap::Args;
use serde_json::Value;

use crate::{
    client::{Client, escaped, job_path},
    output::{OutputArgs, list},
    table::{cell, cells, print},
};

/// Which state is wanted.
#[derive(Args, Debug)]
pub(crate) struct StateArgs {
    /// Id of the job.
    job: String,
    /// Id of the operator: `jobs operators` lists them.
    operator: String,
    /// Key as JSON: '["a", 1]', '{"name": "a", "n": 1}', or the value of its only column.
    #[arg(long, value_name = "JSON", conflicts_with = "prefix")]
    key: Option<String>,
    /// First columns of a key as JSON: all rows that have them.
    #[arg(long, value_name = "JSON")]
    prefix: Option<String>,
    /// Table, where the operator has several: 'left rows'.
    #[arg(long, value_name = "NAME")]
    table: Option<String>,
    /// So many rows at most.
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u32,
    /// Where an earlier answer ended.
    #[arg(long, value_name = "NEXT")]
    after: Option<String>,
    /// Epoch of a checkpoint that is still kept, whose state is read instead of that of the last commit.
    #[arg(long, value_name = "EPOCH", conflicts_with = "savepoint")]
    checkpoint: Option<u64>,
    /// Name of a savepoint, likewise; also of a job that has ended.
    #[arg(long, value_name = "NAME")]
    savepoint: Option<String>,
    /// Count rows and bytes that are stored instead.
    #[arg(long, conflicts_with_all = ["key", "prefix", "table", "after"])]
    size: bool,
}

/// Shows the operators of a job.
pub(crate) fn operators(answer: &Value) -> anyhow::Result<()> {
    let operators = answer.get("operators").and_then(Value::as_array);
    let mut rows = Vec::new();
    for operator in operators.into_iter().flatten() {
        let mut row = cells(operator, &["id"]);
        let state = operator.get("state").unwrap_or(&Value::Null);
        row.extend(cells(state, &["memory_rows", "memory_bytes"]));
        let stored = state.get("stored").unwrap_or(&Value::Null);
        row.extend(cells(stored, &["rows", "bytes"]));
        row.extend(cells(state, &["bound"]));
        row.extend(cells(operator, &["description"]));
        rows.push(row);
    }
    let header = [
        "OPERATOR",
        "ROWS IN MEMORY",
        "BYTES",
        "ROWS STORED",
        "BYTES",
        "STATE",
        "DESCRIPTION",
    ];
    let header = header.map(str::to_owned);
    print(&mut io::stdout(), &header, &rows)?;
    Ok(())
}

/// Shows rows of an operator's state, or how much there is.
pub(crate) fn state(client: &Client, output: OutputArgs, args: &StateArgs) -> anyhow::Result<()> {
    let operator = escaped(&args.operator);
    let path = format!("{}/operators/{operator}/state", job_path(&args.job));
    let checkpoint = args.checkpoint.map(|epoch| epoch.to_string());
    let as_of = [("checkpoint", &checkpoint), ("savepoint", &args.savepoint)];
    if args.size {
        let query = joined(&as_of);
        return output.get(client, &format!("{path}/size?{query}"), sizes);
    }
    let given = [
        ("key", &args.key),
        ("prefix", &args.prefix),
        ("table", &args.table),
        ("after", &args.after),
    ];
    let query = joined(&[&given[..], &as_of].concat());
    let path = format!("{path}?limit={}&{query}", args.limit);
    output.get(client, path.trim_end_matches('&'), rows)
}

/// Those parameters of a query that are given.
fn joined(parameters: &[(&str, &Option<String>)]) -> String {
    let given = parameters.iter();
    let given = given.filter_map(|(name, value)| Some((name, value.as_ref()?)));
    let texts: Vec<String> = given
        .map(|(name, value)| format!("{name}={}", escaped(value)))
        .collect();
    texts.join("&")
}

fn rows(answer: &Value) -> anyhow::Result<()> {
    let list = |name: &str| answer.get(name).and_then(Value::as_array);
    for row in list("rows").into_iter().flatten() {
        writeln!(io::stdout(), "{row}")?;
    }
    if let Some(next) = answer.get("next") {
        eprintln!("there is more: --after {}", cell(next));
    }
    Ok(())
}

fn sizes(answer: &Value) -> anyhow::Result<()> {
    list(answer, "tables", &["name", "rows", "bytes"])?;
    if answer.get("complete") == Some(&Value::Bool(false)) {
        eprintln!("there is more: counting it takes too long");
    }
    Ok(())
}
