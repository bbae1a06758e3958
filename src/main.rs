//! The one binary: reads the command line and hands over.

use std::{io, process::ExitCode};

use clap::{Parser, Subcommand};
use millstream::{
    dev, run,
    telemetry::{self, ProcessIdentity},
};

/// What the environment and the exit code mean.
const ENVIRONMENT: &str = "\
Environment:
  MILLSTREAM_TOKEN  Secret that `dev` accepts, and that `sql` and `jobs` show
  MILLSTREAM_URL    Where the server of `sql` and `jobs` is [default: http://127.0.0.1:7878]
  MILLSTREAM_LOG    What is logged: off, error, warn, info, debug or trace [default: error]
  OTEL_...          Where `run` and `dev` send traces, metrics and logs over OTLP, such as
                    OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4317 [default: nowhere]

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
    let telemetry = match &arguments.command {
        Command::Run(_) => telemetry::start(&ProcessIdentity::unnamed("millstream-run")),
        Command::Dev(_) => telemetry::start(&ProcessIdentity::unnamed("millstream-dev")),
        Command::Sql(_) | Command::Jobs(_) => telemetry::start_log(),
    };
    let telemetry = match telemetry.map_err(anyhow::Error::from) {
        Ok(telemetry) => telemetry,
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::from(2);
        }
    };
    let result = match &arguments.command {
        Command::Run(arguments) => run::run(arguments),
        Command::Dev(arguments) => dev::run(arguments, &telemetry),
        Command::Sql(arguments) => cli::sql(arguments),
        Command::Jobs(arguments) => cli::jobs(arguments).map(|()| ExitCode::SUCCESS),
    };
    let code = result.unwrap_or_else(|error| {
        if reader_is_gone(&error) {
            return ExitCode::SUCCESS;
        }
        match error.downcast_ref::<run::SourceError>() {
            Some(error) => eprint!("{error}"),
            None => eprintln!("error: {error:#}"),
        }
        ExitCode::FAILURE
    });
    telemetry.shut_down();
    code
}

/// Whoever read the output has had enough: `millstream … | head`.
fn reader_is_gone(error: &anyhow::Error) -> bool {
    let broken = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    error
        .chain()
        .any(|error| error.downcast_ref().is_some_and(broken))
}
