//! `millstream workers`, `state-nodes`, `cluster`: the processes behind a server.

use std::io::{self, Write as _};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::{
    client::{Client, escaped},
    output::{OutputArgs, list, object},
    servers::ServerArgs,
    table::cell,
};

/// List the workers of a server: who runs tasks.
#[derive(Args, Debug)]
pub struct WorkersArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Only this worker, with all that is known of it: wk_1.
    worker: Option<String>,
}

/// List the state nodes of a server: who serves the state of jobs.
#[derive(Args, Debug)]
pub struct StateNodesArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Look at the nodes of the control plane, let them join and leave.
#[derive(Args, Debug)]
pub struct ClusterArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(subcommand)]
    command: ClusterCommand,
}

#[derive(Subcommand, Debug)]
enum ClusterCommand {
    /// List the nodes.
    List,
    /// Let a node join that has been started with the present nodes as its peers.
    Add {
        /// The number that it was started with; one that no node ever had.
        id: u64,
        /// Where the other nodes reach it: host:port.
        address: String,
    },
    /// Remove a node, running or not. It can never return under its number.
    Remove {
        /// Its number.
        id: u64,
    },
}

const NODE_FIELDS: &[&str] = &["id", "address", "leader", "voter"];

/// Carries out the command.
///
/// # Errors
/// When the server cannot be reached or refuses; the text says why.
pub fn workers(args: &WorkersArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.server)?;
    match &args.worker {
        Some(worker) => {
            let path = format!("/v1/workers/{}", escaped(worker));
            args.output.get(&client, &path, object)
        }
        None => args.output.get(&client, "/v1/workers", |answer| {
            let fields = ["id", "address", "connected_ms", "tasks", "jobs"];
            list(answer, "workers", &fields)?;
            capacity(answer)
        }),
    }
}

/// How many workers there should be, where that follows the jobs.
fn capacity(answer: &Value) -> anyhow::Result<()> {
    let Some(capacity) = answer.get("capacity").filter(|known| !known.is_null()) else {
        return Ok(());
    };
    let of = |name: &str| capacity.get(name).map_or_else(String::new, cell);
    writeln!(
        io::stdout(),
        "\n{} wanted of provider `{}`: {}",
        of("wanted"),
        of("provider"),
        of("reason")
    )?;
    if capacity.get("error").is_some() {
        writeln!(io::stdout(), "it could not do it: {}", of("error"))?;
    }
    Ok(())
}

/// Carries out the command.
///
/// # Errors
/// When the server cannot be reached or refuses; the text says why.
pub fn state_nodes(args: &StateNodesArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.server)?;
    args.output.get(&client, "/v1/state-nodes", |answer| {
        let fields = [
            "id",
            "address",
            "connected",
            "shards",
            "health",
            "health_reason",
        ];
        list(answer, "state_nodes", &fields)
    })
}

/// Carries out the command.
///
/// # Errors
/// When the server cannot be reached or refuses; the text says why.
pub fn cluster(args: &ClusterArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.server)?;
    let nodes = |answer: &Value| list(answer, "nodes", NODE_FIELDS);
    match &args.command {
        ClusterCommand::List => args.output.get(&client, "/v1/cluster", nodes),
        ClusterCommand::Add { id, address } => {
            let body = json!({ "id": id, "address": address });
            let answer = client.post_text("/v1/cluster/nodes", &body)?;
            args.output.answer(&answer, nodes)
        }
        ClusterCommand::Remove { id } => {
            let answer = client.delete(&format!("/v1/cluster/nodes/{id}"))?;
            args.output.answer(&answer, |_| {
                writeln!(io::stdout(), "node {id} is removed")?;
                Ok(())
            })
        }
    }
}
