//! The one binary: reads the command line and hands over.

use std::{io, process::ExitCode};

use clap::{Parser, Subcommand};
use millstream::{dev, run};
use tracing_subscriber::EnvFilter;

/// Streaming SQL in the dialect of Flink: run a script, or a server with a REST API.
#[derive(Parser)]
#[command(name = "millstream", version, propagate_version = true)]
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
    // MILLSTREAM_LOG=info shows what happens inside; without it only results and errors show.
    let filter =
        EnvFilter::try_from_env("MILLSTREAM_LOG").unwrap_or_else(|_| EnvFilter::new("error"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let result = match &arguments.command {
        Command::Run(arguments) => run::run(arguments),
        Command::Dev(arguments) => dev::run(arguments),
        Command::Sql(arguments) => cli::sql(arguments).map(|()| ExitCode::SUCCESS),
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

/// Whoever read the output has had enough: `millstream … | head`.
fn reader_is_gone(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
