//! The client: waits until the cluster is whole, starts the jobs, waits until they have finished.

use std::{sync::Arc, time::Duration};

use hyper::Method;
use serde_json::{Value, json};

use super::rest::ask;
use crate::{oracle::statements, plan::control_hosts, world::World};

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(500);

/// Runs until all jobs have ended.
///
/// # Errors
/// When a job ends in another way than by finishing.
pub async fn run(world: Arc<World>) -> turmoil::Result {
    let mut client = Client {
        nodes: control_hosts(),
    };
    client.wait_whole(&world).await;
    let jobs = client.start(&world).await?;
    world
        .trace
        .line(format_args!("client has started {jobs:?}"));
    for job in jobs {
        client.finish(&world, &job).await?;
    }
    Ok(())
}

struct Client {
    nodes: Vec<String>,
}

impl Client {
    /// Asks one node after the other until one answers with this status.
    async fn get(&mut self, path: &str) -> Value {
        loop {
            match ask(&self.nodes[0], Method::GET, path, None).await {
                Ok((200, answer)) => return answer,
                Ok(_) | Err(_) => self.nodes.rotate_left(1),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn wait_whole(&mut self, world: &World) {
        let count = |answer: &Value, field: &str| answer[field].as_array().map_or(0, Vec::len);
        loop {
            let workers = count(&self.get("/v1/workers").await, "workers");
            let nodes = self.get("/v1/state-nodes").await;
            let nodes = nodes["state_nodes"].as_array().map_or(0, |nodes| {
                let connected = |node: &&Value| node["connected"] == json!(true);
                nodes.iter().filter(connected).count()
            });
            if workers as u64 == world.shape.workers && nodes == 2 {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Starts the jobs. If it is in doubt whether they run, the list of jobs tells.
    async fn start(&mut self, world: &World) -> Result<Vec<String>, String> {
        let body = json!({ "sql": statements(&world.shape) });
        loop {
            let node = self.nodes[0].clone();
            let asked = ask(&node, Method::POST, "/v1/statements", Some(&body)).await;
            match &asked {
                Ok((201, _)) => {}
                Ok((400..=499, answer)) => return Err(format!("the statements: {answer}")),
                other => world
                    .trace
                    .line(format_args!("client is not answered: {other:?}")),
            }
            let list = self.get("/v1/jobs").await;
            let jobs = list["jobs"].as_array().cloned().unwrap_or_default();
            let ids = jobs.iter().filter_map(|job| job["id"].as_str());
            let ids: Vec<String> = ids.map(str::to_owned).collect();
            if !ids.is_empty() {
                return Ok(ids);
            }
            self.nodes.rotate_left(1);
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn finish(&mut self, world: &World, job: &str) -> Result<(), String> {
        let mut last = String::new();
        loop {
            let view = self.get(&format!("/v1/jobs/{job}")).await;
            let state = view["state"].as_str().unwrap_or_default().to_owned();
            if state != last {
                let committed = &view["committed_epoch"];
                world.trace.line(format_args!(
                    "client sees {job} {state}, committed {committed}, health {} {}",
                    view["health"], view["health_reason"]
                ));
                last.clone_from(&state);
            }
            match state.as_str() {
                "FINISHED" => return Ok(()),
                "FAILED" | "CANCELED" => return Err(format!("{job} {state}: {}", view["error"])),
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}
