//! A proxy that holds connections up and cuts them: Toxiproxy, as a process of its own.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use ureq::Agent;

use crate::{
    tool::{free_port, tool},
    wait_until,
};

/// Same as in the Makefile, which builds it.
const VERSION: &str = "v2.12.0";

/// How long it may take to start.
const START_MAX: Duration = Duration::from_secs(30);

/// A running proxy; stopped when dropped.
pub struct Toxiproxy {
    process: Child,
    control: String,
    agent: Agent,
}

impl Toxiproxy {
    /// Starts one on a free port.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start() -> Toxiproxy {
        // Another process may take the port in between; then there is another.
        let started = (0..5).find_map(|_| Toxiproxy::start_on(free_port()));
        started.expect("Toxiproxy starts")
    }

    fn start_on(port: u16) -> Option<Toxiproxy> {
        let process = Command::new(tool(
            "MILLSTREAM_TOXIPROXY",
            &format!("toxiproxy-{VERSION}"),
        ))
        .args(["-host", "127.0.0.1", "-port", &port.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("Toxiproxy runs");
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_global(Some(Duration::from_secs(10)));
        let mut proxy = Toxiproxy {
            process,
            control: format!("http://127.0.0.1:{port}"),
            agent: config.build().into(),
        };
        let mut ended = false;
        let ready = wait_until(START_MAX, || {
            ended = proxy.process.try_wait().expect("a process").is_some();
            let version = proxy.agent.get(format!("{}/version", proxy.control));
            ended || version.call().is_ok_and(|answer| answer.status() == 200)
        });
        (ready && !ended).then_some(proxy)
    }

    /// Passes connections to `listen` on to `upstream`, both as host:port.
    ///
    /// # Panics
    /// When it does not.
    pub fn pass(&self, name: &str, listen: &str, upstream: &str) {
        let proxy = json!({
            "name": name, "listen": listen, "upstream": upstream, "enabled": true
        });
        self.post("/proxies", &proxy);
    }

    /// Cuts all connections and takes no new ones, or takes them again.
    ///
    /// # Panics
    /// When it does not.
    pub fn set_cut(&self, name: &str, cut: bool) {
        self.post(&format!("/proxies/{name}"), &json!({ "enabled": !cut }));
    }

    /// Holds every answer up for about so long.
    ///
    /// # Panics
    /// When it does not.
    pub fn set_latency(&self, name: &str, latency: Duration) {
        let path = format!("/proxies/{name}/toxics");
        let removed = self
            .agent
            .delete(format!("{}{path}/slow", self.control))
            .call();
        removed.expect("an answer");
        if !latency.is_zero() {
            let millis = latency.as_millis() as u64;
            let attributes = json!({ "latency": millis, "jitter": millis / 2 });
            let toxic = json!({ "name": "slow", "type": "latency", "attributes": attributes });
            self.post(&path, &toxic);
        }
    }

    fn post(&self, path: &str, body: &Value) {
        let answer = self
            .agent
            .post(format!("{}{path}", self.control))
            .header("Content-Type", "application/json")
            .send(body.to_string());
        let mut answer = answer.expect("an answer");
        let status = answer.status();
        let text = answer.body_mut().read_to_string().unwrap_or_default();
        assert!(status.is_success(), "{path}: {status} {text}");
    }
}

impl Drop for Toxiproxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
