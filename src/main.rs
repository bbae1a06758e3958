//! The one binary: reads the command line and hands over.

use std::{io, process::ExitCode};

use clap::{Parser, Subcommand};
use millstream::{
    cluster, dev, fsck, run,
    telemetry::{self, ProcessIdentity},
};
use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// What the environment and the exit code mean.
const ENVIRONMENT: &str = "\
Environment:
  MILLSTREAM_TOKEN     Secret that a server accepts, and that its clients show
  MILLSTREAM_URL       Where the server of a client is; of a cluster any of its control-plane nodes,
                       separated by commas [default: http://127.0.0.1:7878]
  MILLSTREAM_CA        Authority of https servers, where this system does not trust it
  MILLSTREAM_TLS_CERT  Certificate of a server's REST API [default: none, on loopback only]
  MILLSTREAM_TLS_KEY   Its private key
  MILLSTREAM_LOG       What is logged: off, error, warn, info, debug or trace [default: error; of
                       processes of a cluster: info]
  MILLSTREAM_CLUSTER_… Certificates and name of a cluster; `worker --help` and others explain them
  OTEL_...             Where servers and `run` send traces, metrics and logs over OTLP, such as
                       OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4317 [default: nowhere]

Exit codes:
  0 success, 1 failure (of fsck: something is wrong), 2 wrong arguments, 130 ended by Ctrl-C or SIGTERM";

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
    ControlPlane(cluster::ControlPlaneArgs),
    Worker(cluster::WorkerArgs),
    StateNode(cluster::StateNodeArgs),
    Sql(cli::SqlArgs),
    Jobs(cli::JobsArgs),
    Workers(cli::WorkersArgs),
    StateNodes(cli::StateNodesArgs),
    Cluster(cli::ClusterArgs),
    Fsck(fsck::FsckArgs),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let telemetry = match &arguments.command {
        Command::Run(_) => telemetry::start(&ProcessIdentity::unnamed("millstream-run")),
        Command::Dev(_) => telemetry::start(&ProcessIdentity::unnamed("millstream-dev")),
        Command::ControlPlane(arguments) => telemetry::start_server(&arguments.identity()),
        Command::Worker(_) => {
            telemetry::start_server(&ProcessIdentity::unnamed("millstream-worker"))
        }
        Command::StateNode(arguments) => telemetry::start_server(&arguments.identity()),
        Command::Sql(_)
        | Command::Jobs(_)
        | Command::Workers(_)
        | Command::StateNodes(_)
        | Command::Cluster(_)
        | Command::Fsck(_) => telemetry::start_log(),
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
        Command::ControlPlane(arguments) => cluster::run_control_plane(arguments, &telemetry),
        Command::Worker(arguments) => cluster::run_worker(arguments, &telemetry),
        Command::StateNode(arguments) => cluster::run_state_node(arguments, &telemetry),
        Command::Sql(arguments) => cli::sql(arguments),
        Command::Jobs(arguments) => cli::jobs(arguments).map(|()| ExitCode::SUCCESS),
        Command::Workers(arguments) => cli::workers(arguments).map(|()| ExitCode::SUCCESS),
        Command::StateNodes(arguments) => cli::state_nodes(arguments).map(|()| ExitCode::SUCCESS),
        Command::Cluster(arguments) => cli::cluster(arguments).map(|()| ExitCode::SUCCESS),
        Command::Fsck(arguments) => fsck::run(arguments),
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
