//! Requests to the server, and what its errors look like to a person.

use std::{
    io::{BufRead, BufReader},
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use ureq::{Agent, Body, http::Response};

/// Which server, and how to get in.
#[derive(Args, Debug)]
pub struct ServerArgs {
    /// Where the server is.
    #[arg(long, env = "MILLSTREAM_URL", default_value = "http://127.0.0.1:7878")]
    url: String,
    /// The token that it printed at start.
    #[arg(long, env = "MILLSTREAM_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

/// A server. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Client {
    agent: Agent,
    url: String,
    authorization: String,
}

impl Client {
    pub(crate) fn new(args: &ServerArgs) -> anyhow::Result<Client> {
        let url = checked_url(&args.url)?;
        let Some(token) = args.token.as_ref().filter(|token| !token.is_empty()) else {
            bail!("set MILLSTREAM_TOKEN to the token that the server printed at start");
        };
        let config = Agent::config_builder()
            // Statuses are answers with a cause, not failures of the transport.
            .http_status_as_error(false)
            // A proxy has nothing to do with a server on this machine.
            .proxy(None)
            .timeout_connect(Some(Duration::from_secs(5)))
            .build();
        Ok(Client {
            agent: config.into(),
            url,
            authorization: format!("Bearer {token}"),
        })
    }

    pub(crate) fn get(&self, path: &str) -> anyhow::Result<Value> {
        let request = self.agent.get(self.at(path));
        json(self.answer(request.header("Authorization", &self.authorization).call())?)
    }

    pub(crate) fn delete(&self, path: &str) -> anyhow::Result<Value> {
        let request = self.agent.delete(self.at(path));
        json(self.answer(request.header("Authorization", &self.authorization).call())?)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let request = self
            .agent
            .post(self.at(path))
            .header("Authorization", &self.authorization)
            .header("Content-Type", "application/json");
        json(self.answer(request.send(body.to_string()))?)
    }

    /// The objects of an NDJSON answer, as they come.
    pub(crate) fn lines(
        &self,
        path: &str,
    ) -> anyhow::Result<impl Iterator<Item = anyhow::Result<Value>>> {
        let request = self.agent.get(self.at(path));
        let response = self.answer(request.header("Authorization", &self.authorization).call())?;
        let lines = BufReader::new(response.into_body().into_reader()).lines();
        // A blank line says that the server is still there.
        let lines = lines.filter(|line| !line.as_ref().is_ok_and(String::is_empty));
        Ok(lines.map(|line| {
            let line = line.context("failed to read the rows: the server is gone")?;
            serde_json::from_str(&line).context("failed to read the server's answer")
        }))
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    fn answer(
        &self,
        result: Result<Response<Body>, ureq::Error>,
    ) -> anyhow::Result<Response<Body>> {
        let response = result.map_err(|error| {
            anyhow!(
                "failed to reach {} ({error}); is `millstream dev` running?",
                self.url
            )
        })?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let problem = json(response).unwrap_or_default();
        bail!(
            "{}",
            problem_text(&problem).unwrap_or_else(|| status.to_string())
        )
    }
}

fn checked_url(url: &str) -> anyhow::Result<String> {
    match url.split_once("://") {
        Some((scheme, _)) if scheme.eq_ignore_ascii_case("http") => {}
        Some((scheme, _)) => {
            bail!("the server's URL is `{url}`: `{scheme}` is not supported, http is")
        }
        None => bail!("the server's URL is `{url}`, without a scheme: write http://{url}"),
    }
    Ok(url.trim_end_matches('/').to_owned())
}

/// The path of a job; its id is what a user typed.
pub(crate) fn job_path(job: &str) -> String {
    const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'-');
    format!("/v1/jobs/{}", utf8_percent_encode(job, PLAIN))
}

fn json(mut response: Response<Body>) -> anyhow::Result<Value> {
    let text = response
        .body_mut()
        .read_to_string()
        .context("failed to read the server's answer")?;
    serde_json::from_str(&text).context("failed to read the server's answer")
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
    fn urls_need_a_scheme_and_ids_are_escaped() {
        let check = |url: &str, expected: &str| {
            let checked = checked_url(url).unwrap_or_else(|error| error.to_string());
            assert_eq!(checked, expected);
        };
        check("http://localhost:1/", "http://localhost:1");
        check(
            "localhost:1",
            "the server's URL is `localhost:1`, without a scheme: write http://localhost:1",
        );
        check(
            "https://localhost:1",
            "the server's URL is `https://localhost:1`: `https` is not supported, http is",
        );
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
