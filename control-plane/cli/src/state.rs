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
        row.extend(cells(state, &["memory_rows", "memory_bytes", "bound"]));
        row.extend(cells(operator, &["description"]));
        rows.push(row);
    }
    let header = ["OPERATOR", "ROWS", "BYTES", "STATE", "DESCRIPTION"].map(str::to_owned);
    print(&mut io::stdout(), &header, &rows)?;
    Ok(())
}

/// Shows rows of an operator's state, or how much there is.
pub(crate) fn state(client: &Client, output: OutputArgs, args: &StateArgs) -> anyhow::Result<()> {
    let operator = escaped(&args.operator);
    let path = format!("{}/operators/{operator}/state", job_path(&args.job));
    if args.size {
        return output.get(client, &format!("{path}/size"), sizes);
    }
    let mut query = vec![format!("limit={}", args.limit)];
    let given = [
        ("key", &args.key),
        ("prefix", &args.prefix),
        ("table", &args.table),
        ("after", &args.after),
    ];
    for (name, value) in given {
        if let Some(value) = value {
            query.push(format!("{name}={}", escaped(value)));
        }
    }
    output.get(client, &format!("{path}?{}", query.join("&")), rows)
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
