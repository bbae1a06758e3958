//! The client: waits until the cluster is whole, starts the jobs, waits until all that have come of
//! them have ended. Then it reads what was to be kept, and lets go of everything.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use coordinator::meta::JobRecord;
use hyper::Method;
use proto::types::JobId;
use serde_json::{Value, json};

use super::rest::ask;
use crate::{
    oracle::{sinks_of_copy, statements},
    plan::control_hosts,
    world::World,
};

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(500);
/// Savepoints that are read in the end.
const SAVEPOINTS_READ: usize = 2;

/// Runs until all jobs have ended and are forgotten.
///
/// # Errors
/// When a job ends in another way than it should.
pub async fn run(world: Arc<World>) -> turmoil::Result {
    let mut client = Client {
        nodes: control_hosts(),
    };
    client.wait_whole(&world).await;
    let jobs = client.start(&world).await?;
    world
        .trace
        .line(format_args!("client has started {jobs:?}"));
    client.wait_end(&world).await?;
    client.read_savepoints(&world).await?;
    client.drop_all(&world).await;
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

    /// Waits until nothing is asked any more and all jobs have ended.
    async fn wait_end(&mut self, world: &World) -> Result<(), String> {
        let mut last = BTreeMap::new();
        loop {
            let quiet = world.is_quiet();
            let list = self.get("/v1/jobs?limit=512").await;
            let jobs = list["jobs"].as_array().cloned().unwrap_or_default();
            for job in &jobs {
                see(world, job, &mut last)?;
            }
            if quiet && jobs.iter().all(has_ended) {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Begins copies with savepoints that are left: what was promised to be kept can be read.
    async fn read_savepoints(&mut self, world: &World) -> Result<(), String> {
        let savepoints = savepoints(world);
        for (nth, (job, sql, name)) in savepoints.iter().take(SAVEPOINTS_READ).enumerate() {
            let copy = format!("copy-{nth}");
            let body = json!({
                "savepoint": name,
                "name": copy,
                "sinks": sinks_of_copy(world, sql, &copy),
            });
            let begins = |job: &JobRecord| job.spec.name == copy;
            while !world.metadata(|state| state.jobs.values().any(begins)) {
                let path = format!("/v1/jobs/{job}/forks");
                self.ask(world, Method::POST, &path, Some(&body)).await;
                tokio::time::sleep(PAUSE).await;
            }
        }
        self.wait_end(world).await
    }

    /// Lets go of everything.
    async fn drop_all(&mut self, world: &World) {
        for (job, _, name) in savepoints(world) {
            let path = format!("/v1/jobs/{job}/savepoints/{name}");
            self.delete(world, &path).await;
        }
        let jobs: Vec<JobId> = world.metadata(|state| state.jobs.keys().copied().collect());
        for job in jobs {
            self.delete(world, &format!("/v1/jobs/{job}")).await;
        }
    }

    /// Deletes something until it is not there.
    async fn delete(&mut self, world: &World, path: &str) {
        loop {
            match self.ask(world, Method::DELETE, path, None).await {
                Some(204 | 404) => return,
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Asks one node: the status of its answer.
    async fn ask(
        &mut self,
        world: &World,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Option<u16> {
        let asked = ask(&self.nodes[0], method.clone(), path, body).await;
        let status = asked.as_ref().ok().map(|(status, _)| *status);
        if status.is_none_or(|status| status >= 300) {
            world
                .trace
                .line(format_args!("client asks {method} {path}: {asked:?}"));
            self.nodes.rotate_left(1);
        }
        status
    }
}

/// Savepoints that there are, with the jobs that they are of and the statements of these.
fn savepoints(world: &World) -> Vec<(JobId, String, String)> {
    world.metadata(|state| {
        let of_job = |job: &JobRecord| {
            let (id, sql) = (job.id, job.spec.sql.clone());
            let names = job.savepoints.keys().cloned();
            names
                .map(move |name| (id, sql.clone(), name))
                .collect::<Vec<_>>()
        };
        state.jobs.values().flat_map(of_job).collect()
    })
}

fn has_ended(job: &Value) -> bool {
    matches!(job["state"].as_str(), Some("FINISHED" | "CANCELED"))
}

/// Takes note of a job's state; one that has no good end is an error.
fn see(world: &World, job: &Value, last: &mut BTreeMap<String, String>) -> Result<(), String> {
    let id = job["id"].as_str().unwrap_or_default().to_owned();
    let state = job["state"].as_str().unwrap_or_default().to_owned();
    if last.get(&id) == Some(&state) {
        return Ok(());
    }
    let committed = &job["committed_epoch"];
    world.trace.line(format_args!(
        "client sees {id} {state}, committed {committed}, health {} {}",
        job["health"], job["health_reason"]
    ));
    let is_wrong = match state.as_str() {
        "FAILED" | "QUARANTINED" => true,
        "CANCELED" => !world.is_cancelled(&id),
        _ => false,
    };
    if is_wrong {
        return Err(format!("{id} {state}: {}", job["error"]));
    }
    last.insert(id, state);
    Ok(())
}
