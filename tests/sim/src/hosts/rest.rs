//! Requests to the REST API over simulated connections.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::time::timeout;

use super::TOKEN;
use crate::network::{REST_PORT, dial};

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// Asks one node of the control plane: the status and the JSON of its answer.
///
/// # Errors
/// When there is no answer.
pub(super) async fn ask(
    node: &str,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<(u16, Value), String> {
    let asked = timeout(PATIENCE, exchange(node, method, path, body)).await;
    asked.map_err(|_| "no answer in time".to_owned())?
}

async fn exchange(
    node: &str,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<(u16, Value), String> {
    let failed = |error: &dyn std::fmt::Display| error.to_string();
    let stream = dial(&format!("{node}:{REST_PORT}")).await;
    let stream = stream.map_err(|error| failed(&error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failed(&error))?;
    let driving = tokio::spawn(connection);
    let body = body.map(Value::to_string).unwrap_or_default();
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", node)
        .header("authorization", format!("Bearer {TOKEN}"))
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| failed(&error))?;
    let answered = async {
        let response = sender.send_request(request).await;
        let response = response.map_err(|error| failed(&error))?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await;
        let bytes = body.map_err(|error| failed(&error))?.to_bytes();
        Ok((status, serde_json::from_slice(&bytes).unwrap_or_default()))
    };
    let answered = answered.await;
    driving.abort();
    answered
}
