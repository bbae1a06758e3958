//! `millstream jobs`: look at jobs and end them.

use std::io::{self, Write as _};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::{
    client::{Client, ServerArgs, job_path},
    sql::stream,
    table::{cells, print},
};

/// Characters of an operator's description in the table of figures.
const DESCRIPTION_CHARS: usize = 40;

/// Look at the jobs of a server and end them.
#[derive(Args, Debug)]
pub struct JobsArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    command: JobsCommand,
}

#[derive(Subcommand, Debug)]
enum JobsCommand {
    /// List all jobs.
    List,
    /// Show a job.
    Get {
        /// Id of the job: job_1.
        job: String,
    },
    /// Start the jobs of SQL statements.
    Submit {
        /// The statements.
        #[arg(short = 'e', long = "execute", value_name = "SQL")]
        sql: String,
    },
    /// End a job. What it has committed stays.
    Cancel {
        /// Id of the job.
        job: String,
    },
    /// Show a job's compiled plan as JSON.
    Plan {
        /// Id of the job.
        job: String,
    },
    /// Show a job's figures per operator.
    Metrics {
        /// Id of the job.
        job: String,
    },
    /// Show a job's last checkpoints.
    Checkpoints {
        /// Id of the job.
        job: String,
    },
    /// Show why a job failed.
    Exceptions {
        /// Id of the job.
        job: String,
    },
    /// Show records that a job could not read.
    DeadLetters {
        /// Id of the job.
        job: String,
    },
    /// Print the rows of a SELECT as they are committed.
    Results {
        /// Id of the job.
        job: String,
    },
}

/// Carries out the command.
///
/// # Errors
/// When the server cannot be reached or refuses; the text says why.
pub fn jobs(args: &JobsArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.server)?;
    let show = |path: String| -> anyhow::Result<()> { pretty(&client.get(&path)?) };
    match &args.command {
        JobsCommand::List => list(&client),
        JobsCommand::Get { job } => show(job_path(job)),
        JobsCommand::Submit { sql } => {
            pretty(&client.post("/v1/statements", &json!({ "sql": sql }))?)
        }
        JobsCommand::Cancel { job } => pretty(&client.delete(&job_path(job))?),
        JobsCommand::Plan { job } => show(format!("{}/plan", job_path(job))),
        JobsCommand::Metrics { job } => metrics(&client, job),
        JobsCommand::Checkpoints { job } => show(format!("{}/checkpoints", job_path(job))),
        JobsCommand::Exceptions { job } => show(format!("{}/exceptions", job_path(job))),
        JobsCommand::DeadLetters { job } => show(format!("{}/dead-letters", job_path(job))),
        JobsCommand::Results { job } => stream(&client, &format!("{}/results", job_path(job))),
    }
}

fn pretty(value: &Value) -> anyhow::Result<()> {
    writeln!(io::stdout(), "{value:#}")?;
    Ok(())
}

fn list(client: &Client) -> anyhow::Result<()> {
    let answer = client.get("/v1/jobs?limit=512")?;
    let jobs = answer.get("jobs").and_then(Value::as_array);
    let rows: Vec<Vec<String>> = jobs
        .into_iter()
        .flatten()
        .map(|job| cells(job, &["id", "state", "name"]))
        .collect();
    let header = ["ID", "STATE", "NAME"].map(str::to_owned);
    print(&mut io::stdout(), &header, &rows)?;
    Ok(())
}

fn metrics(client: &Client, job: &str) -> anyhow::Result<()> {
    let answer = client.get(&format!("{}/metrics", job_path(job)))?;
    let operators = answer.get("operators").and_then(Value::as_array);
    let fields = [
        "index",
        "rows_in",
        "rows_out",
        "busy_ms",
        "idle_ms",
        "blocked_ms",
        "state_wait_ms",
        "state_rows",
        "state_bytes",
        "late_rows",
        "dead_letters",
    ];
    let mut rows = Vec::new();
    for operator in operators.into_iter().flatten() {
        let tasks = operator.get("tasks").and_then(Value::as_array);
        for task in tasks.into_iter().flatten() {
            let mut row = cells(operator, &["id", "description"]);
            if let Some(description) = row.last_mut()
                && let Some((cut, _)) = description.char_indices().nth(DESCRIPTION_CHARS)
            {
                description.truncate(cut);
                description.push('…');
            }
            row.extend(cells(task, &fields));
            rows.push(row);
        }
    }
    let mut header = vec!["OPERATOR".to_owned(), "DESCRIPTION".to_owned()];
    header.extend(fields.map(|field| match field {
        "index" => "TASK".to_owned(),
        field => field.to_uppercase(),
    }));
    print(&mut io::stdout(), &header, &rows)?;
    Ok(())
}
