//! The operator, and users: what the plan says they ask of the control plane, one thing after the
//! other. What is refused is refused; what is in doubt shows in the metadata.

use std::{sync::Arc, time::Duration};

use coordinator::{
    JobState,
    meta::{Desired, JobRecord},
};
use hyper::Method;
use proto::types::JobId;
use serde_json::{Value, json};

use super::{address, rest::ask};
use crate::{
    operation::{Operation, Pick, Scale, StateAt},
    oracle::{restored, sinks_of_copy},
    plan::control_hosts,
    world::World,
};

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(700);
/// How copies are called, so that they are known.
const FORK: &str = "fork";
/// How savepoints are called that a job is to go on from.
const STOPPED: &str = "stopped";

/// Carries out what is asked, until it is done.
///
/// # Errors
/// Never.
pub async fn run(world: Arc<World>) -> turmoil::Result {
    let mut operator = Operator {
        world: Arc::clone(&world),
        nodes: control_hosts(),
        number: 0,
    };
    loop {
        match world.next_request() {
            Some(operation) => operator.carry_out(operation).await,
            None => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// A request that is under way.
struct Open(Arc<World>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.request_is_done();
    }
}

/// The one of these that is meant.
fn pick<T>(mut of: Vec<T>, pick: Pick) -> Option<T> {
    let count = of.len().max(1) as u64;
    let at = (pick % count) as usize;
    (at < of.len()).then(|| of.swap_remove(at))
}

#[derive(Clone)]
struct Operator {
    world: Arc<World>,
    nodes: Vec<String>,
    number: u64,
}

impl Operator {
    async fn carry_out(&mut self, operation: Operation) {
        let open = Open(Arc::clone(&self.world));
        match operation {
            Operation::Rescale(scale) => self.rescale(scale).await,
            Operation::Save { job, at } => self.save(job, at).await,
            Operation::DropSavepoint { savepoint } => self.drop_savepoint(savepoint).await,
            Operation::Fork { job, at } => self.fork(job, at).await,
            Operation::StopAndRestore { job } => {
                self.number += 1;
                let mut operator = self.clone();
                // It lasts, and other things are asked meanwhile.
                tokio::spawn(async move {
                    operator.stop_and_restore(job).await;
                    drop(open);
                });
            }
            Operation::CancelFork { fork } => self.cancel_fork(fork).await,
            Operation::Forget { job } => self.forget(job).await,
            Operation::AddNode { id } => {
                let body = json!({ "id": id, "address": address(&format!("c{id}")) });
                self.until_done(Method::POST, "/v1/cluster/nodes", Some(body))
                    .await;
            }
            Operation::RemoveNode { id } => {
                let path = format!("/v1/cluster/nodes/{id}");
                self.until_done(Method::DELETE, &path, None).await;
            }
        }
    }

    /// Asks the next node: whether it is done.
    async fn ask(&mut self, method: Method, path: &str, body: Option<&Value>) -> bool {
        let node = self.nodes[0].clone();
        self.nodes.rotate_left(1);
        let asked = ask(&node, method.clone(), path, body).await;
        let (done, answer) = match asked {
            Ok((status, answer)) => {
                let done = (200..300).contains(&status);
                let why = if done { "" } else { &*answer.to_string() };
                (done, format!("{status} {why}"))
            }
            Err(why) => (false, why),
        };
        let body = body.map(Value::to_string).unwrap_or_default();
        self.world.trace.line(format_args!(
            "operator by {node} {method} {path} {body}: {answer}"
        ));
        done
    }

    /// Asked again, it goes on where it stopped.
    async fn until_done(&mut self, method: Method, path: &str, body: Option<Value>) {
        while !self.ask(method.clone(), path, body.as_ref()).await {
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The jobs of which this is true.
    fn jobs(&self, which: impl Fn(&JobRecord) -> bool) -> Vec<JobRecord> {
        self.world.metadata(|state| {
            let jobs = state.jobs.values().filter(|job| which(job));
            jobs.cloned().collect()
        })
    }

    fn active(&self) -> Vec<JobRecord> {
        self.jobs(|job| job.outcome.is_none())
    }

    async fn rescale(&mut self, scale: Scale) {
        for job in self.active() {
            let parallelism = match scale {
                Scale::All(tasks) => json!(tasks),
                Scale::Operator(which, tasks) => {
                    let fragments = job.spec.plan.fragments.iter();
                    let nodes = fragments.flat_map(|fragment| &fragment.nodes);
                    let operators: Vec<String> = nodes.map(|node| node.id.clone()).collect();
                    let operator = pick(operators, which).expect("a plan has operators");
                    json!({ "operators": { operator: tasks } })
                }
            };
            let path = format!("/v1/jobs/{}", job.id);
            let body = json!({ "parallelism": parallelism });
            // It may be refused: the operator cannot have so many tasks, the job has ended.
            self.ask(Method::PATCH, &path, Some(&body)).await;
        }
    }

    /// A state of a job, for a request.
    fn state(&self, job: &JobRecord, at: StateAt) -> Value {
        match at {
            StateAt::Newest => None,
            StateAt::Checkpoint(which) => {
                pick(job.restorable(), which).map(|epoch| json!({ "checkpoint": epoch.0 }))
            }
            StateAt::Savepoint(which) => {
                let names: Vec<&String> = job.savepoints.keys().collect();
                pick(names, which).map(|name| json!({ "savepoint": name }))
            }
        }
        .unwrap_or_else(|| json!({}))
    }

    async fn save(&mut self, job: Pick, at: StateAt) {
        let Some(job) = pick(self.active(), job) else {
            return;
        };
        self.number += 1;
        let mut body = self.state(&job, at);
        if let Some(body) = body.as_object_mut() {
            body.remove("savepoint");
            body.insert("name".to_owned(), json!(format!("saved-{}", self.number)));
        }
        let path = format!("/v1/jobs/{}/savepoints", job.id);
        self.ask(Method::POST, &path, Some(&body)).await;
    }

    async fn drop_savepoint(&mut self, which: Pick) {
        let savepoints = self.jobs(|_| true).into_iter().flat_map(|job| {
            let names = job.savepoints.into_keys();
            names.map(move |name| (job.id, name))
        });
        let free = savepoints.filter(|(_, name)| !name.starts_with(STOPPED));
        if let Some((job, name)) = pick(free.collect(), which) {
            let path = format!("/v1/jobs/{job}/savepoints/{name}");
            self.ask(Method::DELETE, &path, None).await;
        }
    }

    async fn fork(&mut self, job: Pick, at: StateAt) {
        let jobs = self.jobs(|job| job.outcome.is_none() || !job.savepoints.is_empty());
        let Some(job) = pick(jobs, job) else {
            return;
        };
        let at = match job.outcome {
            // Only its savepoints are left.
            Some(_) => StateAt::Savepoint(0),
            None => at,
        };
        self.number += 1;
        let name = format!("{FORK}-{}", self.number);
        let mut body = self.state(&job, at);
        body["name"] = json!(name);
        body["sinks"] = sinks_of_copy(&self.world, &job.spec.sql, &name);
        let path = format!("/v1/jobs/{}/forks", job.id);
        self.ask(Method::POST, &path, Some(&body)).await;
    }

    async fn cancel_fork(&mut self, fork: Pick) {
        let is_fork = |job: &JobRecord| job.outcome.is_none() && job.spec.name.starts_with(FORK);
        if let Some(job) = pick(self.jobs(is_fork), fork) {
            self.world.cancel(job.id.to_string());
            let path = format!("/v1/jobs/{}/cancel", job.id);
            self.ask(Method::POST, &path, Some(&json!({}))).await;
        }
    }

    async fn forget(&mut self, job: Pick) {
        let ended = |job: &JobRecord| job.outcome.is_some() && job.savepoints.is_empty();
        if let Some(job) = pick(self.jobs(ended), job) {
            let path = format!("/v1/jobs/{}", job.id);
            self.ask(Method::DELETE, &path, None).await;
        }
    }

    async fn stop_and_restore(&mut self, job: Pick) {
        let wanted = |job: &JobRecord| job.outcome.is_none() && job.desired == Desired::Run;
        let Some(job) = pick(self.jobs(wanted), job) else {
            return;
        };
        let savepoint = format!("{STOPPED}-{}", self.number);
        let path = format!("/v1/jobs/{}/stop", job.id);
        let body = json!({ "savepoint": savepoint });
        self.ask(Method::POST, &path, Some(&body)).await;
        // If it is in doubt whether it is being stopped, its end tells.
        if !self.is_saved_at_its_end(job.id, &savepoint).await {
            return;
        }
        let state = format!("{}/savepoints/{savepoint}", job.id);
        let body = json!({ "sql": restored(&self.world.shape, &job.spec.sql, &state) });
        let goes_on = |other: &JobRecord| {
            let origin = other.origin.as_ref();
            origin.is_some_and(|origin| origin.savepoint.as_ref() == Some(&savepoint))
        };
        while self.jobs(goes_on).is_empty() {
            self.ask(Method::POST, "/v1/statements", Some(&body)).await;
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Waits for the end of a job: whether it has left a savepoint.
    async fn is_saved_at_its_end(&self, job: JobId, savepoint: &str) -> bool {
        loop {
            let record = self.jobs(|other| other.id == job).pop();
            let Some(record) = record else { return false };
            if let Some(outcome) = record.outcome {
                let finished = outcome.state == JobState::Finished;
                return finished && record.savepoints.contains_key(savepoint);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}
