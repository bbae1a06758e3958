//! `millstream dev` as a process of its own, and what a client can ask of it.

use std::{
    ffi::OsStr,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use ureq::Agent;

use crate::wait_until;

/// How long it may take to start, and to end.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// A running process; killed when dropped.
pub struct DevProcess {
    program: PathBuf,
    process: Child,
    address: String,
    folder: TempDir,
    agent: Agent,
}

impl DevProcess {
    /// What it asks clients for.
    pub const TOKEN: &str = "token-of-tests";

    /// Starts `program` with these variables on a free port.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start(program: &Path, variables: &[(&str, &str)]) -> DevProcess {
        DevProcess::start_with(program, &[], variables)
    }

    /// The same with more arguments.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start_with(
        program: &Path,
        arguments: &[&OsStr],
        variables: &[(&str, &str)],
    ) -> DevProcess {
        let folder = tempfile::tempdir().expect("a folder");
        let output = |name: &str| File::create(folder.path().join(name)).expect("a file");
        let process = Command::new(program)
            .args(["dev", "--listen", "127.0.0.1:0"])
            .args(arguments)
            .env("MILLSTREAM_TOKEN", Self::TOKEN)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(output("stdout"))
            .stderr(output("stderr"))
            .spawn()
            .expect("the program runs");
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_global(Some(WAIT_MAX));
        let mut dev = DevProcess {
            program: program.to_owned(),
            process,
            address: String::new(),
            folder,
            agent: config.build().into(),
        };
        let up = wait_until(WAIT_MAX, || {
            let log = dev.log();
            let address = log
                .lines()
                .find_map(|line| line.trim().strip_prefix("REST API  "));
            let address = address.and_then(|line| line.split("/v1").next());
            address
                .inspect(|address| dev.address = (*address).to_owned())
                .is_some()
        });
        assert!(up, "it does not come up: {}", dev.log());
        dev
    }

    /// Where it is: `http://127.0.0.1:40000`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.address
    }

    /// What it has written to standard error.
    ///
    /// # Panics
    /// When that cannot be read.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("stderr")).expect("its output")
    }

    /// Runs the program as its client.
    ///
    /// # Panics
    /// When it cannot be run.
    #[must_use]
    pub fn client(&self, arguments: &[&str]) -> Output {
        Command::new(&self.program)
            .args(arguments)
            .env("MILLSTREAM_URL", self.url())
            .env("MILLSTREAM_TOKEN", Self::TOKEN)
            .stdin(Stdio::null())
            .output()
            .expect("the program runs")
    }

    /// What `jobs …` prints.
    ///
    /// # Panics
    /// When it fails.
    pub fn jobs(&self, arguments: &[&str]) -> String {
        let output = self.client(&[&["jobs"], arguments].concat());
        let error = String::from_utf8_lossy(&output.stderr);
        let log = self.log();
        assert!(output.status.success(), "{arguments:?}: {error} {log}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// What `jobs …` complains about.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn jobs_refused(&self, arguments: &[&str]) -> String {
        let output = self.client(&[&["jobs"], arguments].concat());
        assert!(!output.status.success(), "{arguments:?} was carried out");
        String::from_utf8(output.stderr).expect("text")
    }

    /// Executes statements; the answer. `traceparent` makes the call part of a trace.
    ///
    /// # Panics
    /// When they are not accepted.
    #[must_use]
    pub fn execute(&self, sql: &str, traceparent: &str) -> Value {
        let mut response = self
            .agent
            .post(format!("{}/v1/statements", self.address))
            .header("Authorization", format!("Bearer {}", Self::TOKEN))
            .header("Content-Type", "application/json")
            .header("traceparent", traceparent)
            .send(json!({ "sql": sql }).to_string())
            .expect("an answer");
        let text = response.body_mut().read_to_string().expect("text");
        assert_eq!(response.status(), 201, "{text}");
        serde_json::from_str(&text).expect("JSON")
    }

    /// Gets a path: status, media type and body.
    ///
    /// # Panics
    /// When nobody answers.
    #[must_use]
    pub fn get(&self, path: &str, with_token: bool) -> (u16, String, String) {
        let mut request = self.agent.get(format!("{}{path}", self.address));
        if with_token {
            request = request.header("Authorization", format!("Bearer {}", Self::TOKEN));
        }
        let mut response = request.call().expect("an answer");
        let kind = response.headers().get("content-type");
        let kind = kind
            .and_then(|kind| kind.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        let text = response.body_mut().read_to_string().expect("text");
        (response.status().as_u16(), kind, text)
    }

    /// Presses Ctrl-C and waits until it has ended.
    ///
    /// # Panics
    /// When it goes on.
    pub fn interrupt(&mut self) -> ExitStatus {
        let pressed = Command::new("kill")
            .args(["-INT", &self.process.id().to_string()])
            .status();
        assert!(pressed.expect("kill runs").success());
        let mut status = None;
        wait_until(WAIT_MAX, || {
            status = self.process.try_wait().expect("a process");
            status.is_some()
        });
        status.unwrap_or_else(|| panic!("it goes on: {}", self.log()))
    }
}

impl Drop for DevProcess {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
