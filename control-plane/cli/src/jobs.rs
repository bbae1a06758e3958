//! `millstream jobs`: look at jobs and end them.

use std::io::{self, Write as _};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::{
    client::{Client, job_path},
    output::{OutputArgs, list, object},
    scaling::{self, ScaleArgs, scale},
    servers::ServerArgs,
    sql::{show, stream},
    state::{self, StateArgs},
    states::{
        ForkArgs, ResumeArgs, SavepointArgs, StopArgs, UpgradeArgs, fork, resume, savepoint,
        savepoints, stop, upgrade,
    },
    table::{cell, cells, print},
    transfers::{ExportArgs, ImportArgs, TransfersArgs, export, import, transfers},
};

/// Characters of an operator's description in the table of figures.
const DESCRIPTION_CHARS: usize = 40;

/// Look at the jobs of a server and end them.
#[derive(Args, Debug)]
pub struct JobsArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
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
    /// Execute SQL statements and do not wait for their jobs.
    Submit {
        /// The statements.
        #[arg(short = 'e', long = "execute", value_name = "SQL")]
        sql: String,
    },
    /// End a job with a last checkpoint, when all of its output is written.
    Stop(StopArgs),
    /// List a job's savepoints.
    Savepoints {
        /// Id of the job.
        job: String,
    },
    /// Keep a state of a job under a name, or delete one that was kept.
    Savepoint(SavepointArgs),
    /// Copy a savepoint to another bucket or directory, for other clusters.
    Export(ExportArgs),
    /// Take in what was exported: it becomes a savepoint here.
    Import(ImportArgs),
    /// List exports and imports, look at one or stop it.
    Transfers(TransfersArgs),
    /// Start a copy of a job from a state of it.
    Fork(ForkArgs),
    /// Run a job in quarantine again, from its newest or an older state.
    Resume(ResumeArgs),
    /// End a job and start another statement with its state.
    Upgrade(UpgradeArgs),
    /// End a job at once. What it has committed stays, and it can still be looked at.
    Cancel {
        /// Id of the job.
        job: String,
    },
    /// Forget a job that has ended.
    Delete {
        /// Id of the job.
        job: String,
    },
    /// Change a job's parallelism while it runs.
    Scale(ScaleArgs),
    /// Show how a job's parallelism follows its load: what was measured, decided and why.
    Autoscaler {
        /// Id of the job.
        job: String,
    },
    /// Show a job's compiled plan as JSON.
    Plan {
        /// Id of the job.
        job: String,
    },
    /// List a job's operators and how much state they have in memory.
    Operators {
        /// Id of the job.
        job: String,
    },
    /// Show rows of an operator's state as of the last commit, or count them.
    State(StateArgs),
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
    /// Print the rows of a SELECT as they are committed, each as JSON.
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
    let output = args.output;
    let part = |job: &str, part: &str| format!("{}/{part}", job_path(job));
    match &args.command {
        JobsCommand::List => output.get(&client, "/v1/jobs?limit=512", |answer| {
            list(
                answer,
                "jobs",
                &["id", "state", "health", "created_ms", "name"],
            )
        }),
        JobsCommand::Get { job } => output.get(&client, &job_path(job), object),
        JobsCommand::Submit { sql } => {
            let answer = client.post_text("/v1/statements", &json!({ "sql": sql }))?;
            output.answer(&answer, |answer| {
                let results = answer.get("results").and_then(Value::as_array);
                results.into_iter().flatten().try_for_each(show)
            })
        }
        JobsCommand::Stop(args) => stop(&client, output, args),
        JobsCommand::Savepoints { job } => savepoints(&client, output, job),
        JobsCommand::Savepoint(args) => savepoint(&client, output, args),
        JobsCommand::Export(args) => export(&client, output, args),
        JobsCommand::Import(args) => import(&client, output, args),
        JobsCommand::Transfers(args) => transfers(&client, output, args),
        JobsCommand::Fork(args) => fork(&client, output, args),
        JobsCommand::Resume(args) => resume(&client, output, args),
        JobsCommand::Upgrade(args) => upgrade(&client, output, args),
        JobsCommand::Cancel { job } => {
            let answer = client.post_text(&part(job, "cancel"), &json!({}))?;
            output.answer(&answer, |job| {
                writeln!(io::stdout(), "{}", cells(job, &["id", "state"]).join(" "))?;
                Ok(())
            })
        }
        JobsCommand::Delete { job } => output.answer(&client.delete(&job_path(job))?, |_| {
            writeln!(io::stdout(), "{job} is deleted")?;
            Ok(())
        }),
        JobsCommand::Scale(args) => scale(&client, output, args),
        JobsCommand::Autoscaler { job } => {
            output.get(&client, &part(job, "autoscaler"), scaling::show)
        }
        JobsCommand::Plan { job } => output.get(&client, &part(job, "plan"), |plan| {
            writeln!(io::stdout(), "{plan:#}")?;
            Ok(())
        }),
        JobsCommand::Operators { job } => {
            output.get(&client, &part(job, "operators"), state::operators)
        }
        JobsCommand::State(args) => state::state(&client, output, args),
        JobsCommand::Metrics { job } => output.get(&client, &part(job, "metrics"), metrics),
        JobsCommand::Checkpoints { job } => {
            output.get(&client, &part(job, "checkpoints"), checkpoints)
        }
        JobsCommand::Exceptions { job } => {
            output.get(&client, &part(job, "exceptions"), |answer| {
                list(
                    answer,
                    "exceptions",
                    &["after_ms", "generation", "task", "error"],
                )
            })
        }
        JobsCommand::DeadLetters { job } => {
            output.get(&client, &part(job, "dead-letters"), dead_letters)
        }
        JobsCommand::Results { job } => stream(&client, &part(job, "results")),
    }
}

fn checkpoints(answer: &Value) -> anyhow::Result<()> {
    let figure = |name: &str| answer.get(name).map_or_else(String::new, cell);
    writeln!(
        io::stdout(),
        "{} committed, barrier to commit: p50 {} ms, p99 {} ms, longest {} ms",
        figure("count"),
        figure("p50_ms"),
        figure("p99_ms"),
        figure("max_ms"),
    )?;
    let restorable = answer.get("restorable").and_then(Value::as_array);
    let ends = restorable.and_then(|all| Some((all.first()?, all.last()?)));
    if let Some((first, last)) = ends {
        writeln!(
            io::stdout(),
            "can be restored: {} from {} to {}",
            restorable.map_or(0, Vec::len),
            cell(first),
            cell(last)
        )?;
    }
    list(
        answer,
        "checkpoints",
        &[
            "epoch",
            "generation",
            "stage_ms",
            "total_ms",
            "overtaken_bytes",
        ],
    )
}

fn dead_letters(answer: &Value) -> anyhow::Result<()> {
    let count = answer.get("count").map_or_else(String::new, cell);
    if count == "0" {
        writeln!(io::stdout(), "all records could be read")?;
        return Ok(());
    }
    writeln!(
        io::stdout(),
        "{count} records could not be read; the last ones:"
    )?;
    list(
        answer,
        "dead_letters",
        &["split", "position", "count", "cause", "text"],
    )
}

fn metrics(answer: &Value) -> anyhow::Result<()> {
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
