//! The operator: rescales jobs, lets nodes of the control plane join and leave, when the plan says so.

use std::{sync::Arc, time::Duration};

use hyper::Method;
use serde_json::json;

use super::{address, rest::ask};
use crate::{
    plan::control_hosts,
    world::{Operation, World},
};

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(700);

/// Carries out what is asked, until it is done.
///
/// # Errors
/// Never.
pub async fn run(world: Arc<World>) -> turmoil::Result {
    let mut nodes = control_hosts();
    loop {
        let Some(operation) = world.next_request() else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        if let Operation::Rescale { parallelism } = operation {
            // It may be refused, for one is under way.
            rescale(&world, &nodes[0], parallelism).await;
            nodes.rotate_left(1);
            continue;
        }
        // Asked again, it goes on where it stopped.
        while !carry_out(&world, &nodes[0], &operation).await {
            nodes.rotate_left(1);
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn rescale(world: &World, node: &str, parallelism: u32) {
    let jobs: Vec<String> = world.metadata(|state| {
        let active = state.active().map(|job| job.id.to_string());
        active.collect()
    });
    for job in jobs {
        let (path, body) = (
            format!("/v1/jobs/{job}"),
            json!({ "parallelism": parallelism }),
        );
        let answer = match ask(node, Method::PATCH, &path, Some(&body)).await {
            Ok((status, answer)) => format!("{status} {answer}"),
            Err(why) => why,
        };
        world.trace.line(format_args!(
            "operator rescales {job} to {parallelism} by {node}: {answer}"
        ));
    }
}

async fn carry_out(world: &World, node: &str, operation: &Operation) -> bool {
    let asked = match operation {
        Operation::Rescale { .. } => return true,
        Operation::AddNode { id } => {
            let body = json!({ "id": id, "address": address(&format!("c{id}")) });
            ask(node, Method::POST, "/v1/cluster/nodes", Some(&body)).await
        }
        Operation::RemoveNode { id } => {
            let path = format!("/v1/cluster/nodes/{id}");
            ask(node, Method::DELETE, &path, None).await
        }
    };
    let (done, answer) = match asked {
        Ok((status, answer)) => ((200..300).contains(&status), answer.to_string()),
        Err(why) => (false, why),
    };
    world
        .trace
        .line(format_args!("operator {operation:?} by {node}: {answer}"));
    done
}
