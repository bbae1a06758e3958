//! `millstream sql`: statements to a server, answers to the terminal.

use std::{
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Value, json};

use crate::{
    client::{Client, job_path},
    complete::is_complete,
    interrupt::{Doing, EXIT_CODE, Interrupts, PROMPT},
    script::read_script,
    servers::ServerArgs,
    table::{cell, print},
};

/// What `help` says.
const HELP: &str = "\
Statements end with a semicolon: CREATE TABLE, INSERT INTO, SELECT, SHOW TABLES, DESCRIBE, EXPLAIN, SET …
Rows of a SELECT are printed as JSON until it ends; Ctrl-C cancels it.
Tables and options (SET) are shared by all clients of the server.
help    shows this
quit    ends";

/// Execute SQL statements on a server.
///
/// Without a file or -e, statements are read from standard input; on a terminal each is executed
/// when its line ends with a semicolon. All jobs of a script start at once; rows of its SELECTs are
/// printed as JSON, one SELECT after the other, and Ctrl-C cancels them. Tables and options (SET)
/// are shared by all clients of the server.
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
    /// A file of statements; `-` is standard input.
    file: Option<PathBuf>,
}

/// Carries out the command and gives the exit code.
///
/// # Errors
/// When the server cannot be reached or refuses a statement; the text says why.
pub fn sql(args: &SqlArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.server)?;
    let interrupts = Interrupts::listen(client.clone())?;
    let sql = match (&args.sql, &args.file) {
        (Some(sql), _) => sql.clone(),
        (None, Some(file)) => read_script(file)?,
        (None, None) if io::stdin().is_terminal() => {
            prompt(&client, &interrupts)?;
            return Ok(ExitCode::SUCCESS);
        }
        (None, None) => read_script(Path::new("-"))?,
    };
    Ok(match execute(&client, &interrupts, &sql)? {
        Done::Whole => ExitCode::SUCCESS,
        Done::Cancelled => ExitCode::from(EXIT_CODE),
    })
}

/// How far statements were carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Done {
    Whole,
    /// Ctrl-C cancelled the jobs whose rows were to be read.
    Cancelled,
}

/// Statements typed by a person; an error is shown and the next one can be typed.
fn prompt(client: &Client, interrupts: &Interrupts) -> anyhow::Result<()> {
    let mut sql = String::new();
    let mut lines = io::stdin().lock().lines();
    loop {
        let sign = if sql.is_empty() { PROMPT } else { "  -> " };
        write!(io::stdout(), "{sign}")?;
        io::stdout().flush()?;
        interrupts.set(Doing::Prompt);
        let line = lines.next();
        interrupts.set(Doing::Work);
        if interrupts.take_discard() {
            sql.clear();
        }
        let Some(line) = line else {
            writeln!(io::stdout())?;
            return Ok(());
        };
        let line = line.context("failed to read standard input")?;
        if sql.is_empty() {
            let word = line.trim().trim_end_matches(';').trim_end();
            match word.to_ascii_lowercase().as_str() {
                "" => continue,
                "quit" | "exit" => return Ok(()),
                "help" => {
                    writeln!(io::stdout(), "{HELP}")?;
                    continue;
                }
                _ => {}
            }
        }
        sql.push_str(&line);
        sql.push('\n');
        if is_complete(&sql) {
            match execute(client, interrupts, &sql) {
                Ok(Done::Whole) => {}
                Ok(Done::Cancelled) => writeln!(io::stderr(), "cancelled")?,
                Err(error) => writeln!(io::stderr(), "error: {error:#}")?,
            }
            sql.clear();
        }
    }
}

fn execute(client: &Client, interrupts: &Interrupts, sql: &str) -> anyhow::Result<Done> {
    let answer = client.post("/v1/statements", &json!({ "sql": sql }))?;
    let results = answer.get("results").and_then(Value::as_array);
    let results = results.map(Vec::as_slice).unwrap_or_default();
    for (index, result) in results.iter().enumerate() {
        let text = |field| result.get(field).and_then(Value::as_str);
        let Some(path) = text("results") else {
            show(result)?;
            continue;
        };
        writeln!(io::stderr(), "{}", text("job").unwrap_or_default())?;
        interrupts.set_rows(selects(results.get(index..).unwrap_or_default()));
        let streamed = stream(client, path);
        if interrupts.set(Doing::Work) == Doing::Cancelling {
            return Ok(Done::Cancelled);
        }
        streamed?;
    }
    Ok(Done::Whole)
}

/// Paths of the jobs that have rows to read.
fn selects(results: &[Value]) -> Vec<String> {
    let select = |result: &&Value| result.get("results").is_some();
    let job = |result: &Value| result.get("job").and_then(Value::as_str).map(job_path);
    results.iter().filter(select).filter_map(job).collect()
}

/// Shows what a statement gave.
pub(crate) fn show(result: &Value) -> anyhow::Result<()> {
    let text = |field| result.get(field).and_then(Value::as_str);
    if let Some(message) = text("message") {
        writeln!(io::stdout(), "{message}")?;
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
