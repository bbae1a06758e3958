//! `millstream sql`: statements to a server, answers to the terminal.

use std::{
    fs,
    io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _},
    path::PathBuf,
};

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Value, json};

use crate::{
    client::{Client, ServerArgs},
    table::{cell, print},
};

/// Execute SQL statements on a server.
///
/// Without a file or -e, statements are read from standard input; on a terminal each is executed
/// when its line ends with a semicolon. Rows of a SELECT are printed as JSON until it ends.
#[derive(Args, Debug)]
pub struct SqlArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// The statements.
    #[arg(
        short = 'e',
        long = "execute",
        value_name = "SQL",
        conflicts_with = "file"
    )]
    sql: Option<String>,
    /// A file of statements.
    file: Option<PathBuf>,
}

/// Carries out the command.
///
/// # Errors
/// When the server cannot be reached or refuses a statement; the text says why.
pub fn sql(args: &SqlArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.server)?;
    if let Some(sql) = &args.sql {
        return execute(&client, sql);
    }
    if let Some(file) = &args.file {
        let sql = fs::read_to_string(file)
            .with_context(|| format!("failed to read {}", file.display()))?;
        return execute(&client, &sql);
    }
    if io::stdin().is_terminal() {
        return prompt(&client);
    }
    let mut sql = String::new();
    io::stdin()
        .read_to_string(&mut sql)
        .context("failed to read standard input")?;
    execute(&client, &sql)
}

/// Statements typed by a person; an error is shown and the next one can be typed.
fn prompt(client: &Client) -> anyhow::Result<()> {
    let mut sql = String::new();
    let mut lines = io::stdin().lock().lines();
    loop {
        let sign = if sql.is_empty() { "sql> " } else { "  -> " };
        write!(io::stdout(), "{sign}")?;
        io::stdout().flush()?;
        let Some(line) = lines.next() else {
            writeln!(io::stdout())?;
            return Ok(());
        };
        let line = line.context("failed to read standard input")?;
        let word = line.trim().trim_end_matches(';');
        if sql.is_empty()
            && ["quit", "exit"]
                .iter()
                .any(|end| word.eq_ignore_ascii_case(end))
        {
            return Ok(());
        }
        sql.push_str(&line);
        sql.push('\n');
        if sql.trim().is_empty() {
            sql.clear();
        } else if line.trim_end().ends_with(';') {
            if let Err(error) = execute(client, &sql) {
                writeln!(io::stderr(), "error: {error:#}")?;
            }
            sql.clear();
        }
    }
}

fn execute(client: &Client, sql: &str) -> anyhow::Result<()> {
    let answer = client.post("/v1/statements", &json!({ "sql": sql }))?;
    let results = answer.get("results").and_then(Value::as_array);
    for result in results.into_iter().flatten() {
        show(client, result)?;
    }
    Ok(())
}

fn show(client: &Client, result: &Value) -> anyhow::Result<()> {
    let text = |field| result.get(field).and_then(Value::as_str);
    if let Some(message) = text("message") {
        writeln!(io::stdout(), "{message}")?;
    } else if let Some(path) = text("results") {
        writeln!(io::stderr(), "{}", text("job").unwrap_or_default())?;
        stream(client, path)?;
    } else if let Some(job) = text("job") {
        writeln!(io::stdout(), "{job}")?;
    } else {
        let list = |field| result.get(field).and_then(Value::as_array);
        let line = |values: &Vec<Value>| values.iter().map(cell).collect::<Vec<_>>();
        let header = list("columns").map(line).unwrap_or_default();
        let rows = list("rows").into_iter().flatten();
        let rows: Vec<Vec<String>> = rows.filter_map(Value::as_array).map(line).collect();
        print(&mut io::stdout(), &header, &rows)?;
    }
    Ok(())
}

/// Prints the rows of a job until it ends.
pub(crate) fn stream(client: &Client, path: &str) -> anyhow::Result<()> {
    for object in client.lines(path)? {
        let object = object?;
        if object.get("op").is_some() {
            writeln!(io::stdout(), "{object}")?;
        } else if let Some(skipped) = object.get("skipped") {
            writeln!(io::stderr(), "{skipped} older rows can no longer be read")?;
        } else if let Some(error) = object.get("error") {
            bail!("{}", cell(error));
        }
    }
    Ok(())
}
