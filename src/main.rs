//! The one binary: reads the command line and hands over.

use std::{env, io, process::ExitCode};

use clap::{Parser, Subcommand};
use millstream::{dev, run};
use tracing_subscriber::EnvFilter;

/// Variable that says what is logged.
const LOG_VARIABLE: &str = "MILLSTREAM_LOG";

/// What the environment and the exit code mean.
const ENVIRONMENT: &str = "\
Environment:
  MILLSTREAM_TOKEN  Secret that `dev` accepts, and that `sql` and `jobs` show
  MILLSTREAM_URL    Where the server of `sql` and `jobs` is [default: http://127.0.0.1:7878]
  MILLSTREAM_LOG    What is logged: off, error, warn, info, debug or trace [default: error]

Exit codes:
  0 success, 1 failure, 2 wrong arguments, 130 ended by Ctrl-C";

/// Streaming SQL in the dialect of Flink: run a script, or a server with a REST API.
#[derive(Parser)]
#[command(name = "millstream", version, propagate_version = true, after_help = ENVIRONMENT)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(run::RunArgs),
    Dev(dev::DevArgs),
    Sql(cli::SqlArgs),
    Jobs(cli::JobsArgs),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = match log_filter() {
        Ok(filter) => filter,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let result = match &arguments.command {
        Command::Run(arguments) => run::run(arguments),
        Command::Dev(arguments) => dev::run(arguments),
        Command::Sql(arguments) => cli::sql(arguments),
        Command::Jobs(arguments) => cli::jobs(arguments).map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| {
        if reader_is_gone(&error) {
            return ExitCode::SUCCESS;
        }
        match error.downcast_ref::<run::SourceError>() {
            Some(error) => eprint!("{error}"),
            None => eprintln!("error: {error:#}"),
        }
        ExitCode::FAILURE
    })
}

/// What is logged; unless somebody asks, only results and errors show.
fn log_filter() -> Result<EnvFilter, String> {
    let wanted = match env::var(LOG_VARIABLE) {
        Ok(wanted) if !wanted.trim().is_empty() => wanted,
        Ok(_) | Err(env::VarError::NotPresent) => "error".to_owned(),
        Err(env::VarError::NotUnicode(_)) => return Err(format!("{LOG_VARIABLE} is not text")),
    };
    EnvFilter::try_new(&wanted).map_err(|_| {
        format!("{LOG_VARIABLE} cannot be `{wanted}`: write a level such as info, or target=level")
    })
}

/// Whoever read the output has had enough: `millstream … | head`.
fn reader_is_gone(error: &anyhow::Error) -> bool {
    let broken = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    error
        .chain()
        .any(|error| error.downcast_ref().is_some_and(broken))
}
