//! Requests to the server, and what its errors look like to a person.

use std::{
    io::{BufRead, BufReader},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use ureq::{Agent, Body, http::Response};

use crate::{
    ServerArgs,
    servers::Servers,
    trust::tls_config,
    unreachable::{is_unsent, why},
};

/// A server, or one of several that give the same answers. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Client {
    agent: Agent,
    servers: Arc<Servers>,
    authorization: String,
}

/// What a request does if it arrives twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Twice {
    /// The same as once.
    Harmless,
    /// Something else.
    Harmful,
}

impl Client {
    pub(crate) fn new(args: &ServerArgs) -> anyhow::Result<Client> {
        let servers = args.servers()?;
        let Some(token) = args.token.as_ref().filter(|token| !token.is_empty()) else {
            bail!("set MILLSTREAM_TOKEN to the token that the server printed at start");
        };
        let config = Agent::config_builder()
            // Statuses are answers with a cause, not failures of the transport.
            .http_status_as_error(false)
            // Servers are reached directly.
            .proxy(None)
            .timeout_connect(Some(Duration::from_secs(5)))
            .tls_config(tls_config(args.ca().map(|path| path.as_path()))?)
            .build();
        Ok(Client {
            agent: config.into(),
            servers: Arc::new(servers),
            authorization: format!("Bearer {token}"),
        })
    }

    /// The answer as it came.
    pub(crate) fn get_text(&self, path: &str) -> anyhow::Result<String> {
        text(self.open(path)?)
    }

    /// The answer as it came, of up to so many bytes.
    pub(crate) fn get_long(&self, path: &str, bytes_max: u64) -> anyhow::Result<String> {
        let mut response = self.open(path)?;
        let body = response.body_mut().with_config().limit(bytes_max);
        let text = body.read_to_string();
        text.context("failed to read the server's answer")
    }

    /// The answer as it came.
    pub(crate) fn delete(&self, path: &str) -> anyhow::Result<String> {
        text(self.ask(Twice::Harmful, |url| {
            let request = self.agent.delete(format!("{url}{path}"));
            request.header("Authorization", &self.authorization).call()
        })?)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        parsed(&self.post_text(path, body)?)
    }

    /// The answer as it came.
    pub(crate) fn post_text(&self, path: &str, body: &Value) -> anyhow::Result<String> {
        let body = body.to_string();
        text(self.ask(Twice::Harmful, |url| {
            self.agent
                .post(format!("{url}{path}"))
                .header("Authorization", &self.authorization)
                .header("Content-Type", "application/json")
                .send(body.as_str())
        })?)
    }

    /// The answer as it came.
    pub(crate) fn patch_text(&self, path: &str, body: &Value) -> anyhow::Result<String> {
        let body = body.to_string();
        text(self.ask(Twice::Harmful, |url| {
            self.agent
                .patch(format!("{url}{path}"))
                .header("Authorization", &self.authorization)
                .header("Content-Type", "application/json")
                .send(body.as_str())
        })?)
    }

    /// The objects of an NDJSON answer, as they come.
    pub(crate) fn lines(
        &self,
        path: &str,
    ) -> anyhow::Result<impl Iterator<Item = anyhow::Result<Value>>> {
        let response = self.open(path)?;
        let lines = BufReader::new(response.into_body().into_reader()).lines();
        // A blank line says that the server is still there.
        let lines = lines.filter(|line| !line.as_ref().is_ok_and(String::is_empty));
        Ok(lines.map(|line| {
            let line = line.context("failed to read the rows: the server is gone")?;
            parsed(&line)
        }))
    }

    fn open(&self, path: &str) -> anyhow::Result<Response<Body>> {
        self.ask(Twice::Harmless, |url| {
            let request = self.agent.get(format!("{url}{path}"));
            request.header("Authorization", &self.authorization).call()
        })
    }

    /// The first answer of a server; the next one is asked where that can do no harm.
    fn ask(
        &self,
        twice: Twice,
        send: impl Fn(&str) -> Result<Response<Body>, ureq::Error>,
    ) -> anyhow::Result<Response<Body>> {
        let mut failures = Vec::new();
        for (number, url) in self.servers.in_turn() {
            let error = match send(url) {
                Ok(response) => {
                    self.servers.prefer(number);
                    return accepted(response);
                }
                Err(error) => error,
            };
            failures.push(format!("failed to reach {url}: {}", why(url, &error)));
            if twice == Twice::Harmful && !is_unsent(&error) {
                break;
            }
        }
        Err(anyhow!(failures.join("\n")))
    }
}

/// The path of a job; its id is what a user typed.
pub(crate) fn job_path(job: &str) -> String {
    format!("/v1/jobs/{}", escaped(job))
}

/// What a user typed, as a part of a path.
pub(crate) fn escaped(text: &str) -> String {
    const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'-');
    utf8_percent_encode(text, PLAIN).to_string()
}

fn accepted(response: Response<Body>) -> anyhow::Result<Response<Body>> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let problem = text(response).and_then(|text| parsed(&text));
    match problem.ok().as_ref().and_then(problem_text) {
        Some(text) => bail!("{text}"),
        None => bail!("the server answers {status}; is it one of Millstream's?"),
    }
}

fn text(mut response: Response<Body>) -> anyhow::Result<String> {
    let text = response.body_mut().read_to_string();
    text.context("failed to read the server's answer")
}

fn parsed(text: &str) -> anyhow::Result<Value> {
    serde_json::from_str(text).context("failed to read the server's answer")
}

/// A problem as one line: position, detail, hint.
fn problem_text(problem: &Value) -> Option<String> {
    let mut text = String::new();
    if let Some(position) = problem.get("position") {
        let number = |name| position.get(name).and_then(Value::as_u64);
        let (line, column) = (number("line")?, number("column")?);
        text.push_str(&format!("line {line}, column {column}: "));
    }
    text.push_str(problem.get("detail")?.as_str()?);
    if let Some(hint) = problem.get("hint").and_then(Value::as_str) {
        text.push_str(&format!(" ({hint})"));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ids_are_escaped() {
        assert_eq!(job_path("job_1"), "/v1/jobs/job_1");
        assert_eq!(job_path("a/b ?#ü"), "/v1/jobs/a%2Fb%20%3F%23%C3%BC");
    }

    #[test]
    fn problems_are_one_line() {
        let check = |problem: Value, expected: Option<&str>| {
            assert_eq!(problem_text(&problem).as_deref(), expected);
        };
        check(
            json!({"detail": "no column `x`", "position": {"line": 2, "column": 5}, "hint": "did you mean `y`?"}),
            Some("line 2, column 5: no column `x` (did you mean `y`?)"),
        );
        check(json!({"detail": "gone"}), Some("gone"));
        check(json!("text"), None);
    }
}
