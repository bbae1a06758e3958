//! Hands a request to the leader.

use axum::{
    body::{Body, to_bytes},
    http::{HeaderName, HeaderValue, Request, StatusCode, header, response::Builder},
    response::{IntoResponse as _, Response},
};
use futures::StreamExt as _;
use rpc::{
    Channels, Timeouts, Tls,
    forward::{ForwardReply, ForwardRequest, Head, Header, forward_reply::Part},
    forward_client, is_unsent,
    tonic::{Status, Streaming},
};

use crate::{
    api::{Problem, in_doubt},
    caps::{FORWARD_PATIENCE, REQUEST_BYTES_MAX},
};

/// Headers that belong to one connection.
const OF_CONNECTION: [HeaderName; 5] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
];

/// The way to whoever leads. Cheap to clone.
#[derive(Clone)]
pub struct Forwarder(Channels);

impl Forwarder {
    /// With `tls` on every connection.
    #[must_use]
    pub fn new(tls: Tls) -> Forwarder {
        let timeouts = Timeouts {
            call: FORWARD_PATIENCE,
            ..Timeouts::default()
        };
        Forwarder(Channels::new(tls, timeouts))
    }

    /// The answer of the leader at `address`, or a problem that says why there is none.
    pub async fn send(&self, address: &str, request: Request<Body>) -> Response {
        match self.try_send(address, request).await {
            Ok(response) => response,
            Err(problem) => problem.into_response(),
        }
    }

    async fn try_send(&self, address: &str, request: Request<Body>) -> Result<Response, Problem> {
        let channel = self.0.to(address);
        let channel = channel.map_err(|error| no_leader(&error.to_string()))?;
        let (head, body) = request.into_parts();
        let body = to_bytes(body, REQUEST_BYTES_MAX).await.map_err(|_| {
            let detail = format!("the request has more than {REQUEST_BYTES_MAX} bytes");
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "request.size", detail)
        })?;
        let target = head.uri.path_and_query();
        let request = ForwardRequest {
            method: head.method.to_string(),
            target: target.map_or_else(|| "/".to_owned(), ToString::to_string),
            headers: headers(&head.headers),
            body,
        };
        let changes = !head.method.is_safe();
        let failed = |status: Status| match changes && !is_unsent(&status) {
            true => unanswered(status.message()),
            false => no_leader(status.message()),
        };
        let sent = forward_client(channel).send(request).await;
        let mut replies = sent.map_err(failed)?.into_inner();
        let first = replies.message().await.map_err(failed)?;
        match first.and_then(|reply| reply.part) {
            Some(Part::Head(head)) => response(&head, replies),
            _ => Err(failed(Status::internal("its answer has no beginning"))),
        }
    }
}

fn headers(headers: &axum::http::HeaderMap) -> Vec<Header> {
    let kept = headers
        .iter()
        .filter(|(name, _)| !OF_CONNECTION.contains(name));
    kept.map(|(name, value)| Header {
        name: name.to_string(),
        value: value.as_bytes().to_vec().into(),
    })
    .collect()
}

fn response(head: &Head, replies: Streaming<ForwardReply>) -> Result<Response, Problem> {
    let status = u16::try_from(head.status).unwrap_or_default();
    let mut builder: Builder = Response::builder().status(status);
    for header in &head.headers {
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(header.name.as_bytes()),
            HeaderValue::from_bytes(&header.value),
        ) {
            builder = builder.header(name, value);
        }
    }
    let parts = replies.filter_map(|reply| async move {
        match reply.map(|reply| reply.part) {
            Ok(Some(Part::Body(bytes))) => Some(Ok(bytes)),
            Ok(_) => None,
            Err(status) => Some(Err(status)),
        }
    });
    let built = builder.body(Body::from_stream(parts));
    built.map_err(|error| no_leader(&error.to_string()))
}

/// What a client is told whose request has left, and came to nobody knows what.
fn unanswered(why: &str) -> Problem {
    in_doubt(format!(
        "the leader of the control plane has not answered: {why}"
    ))
}

/// What a client is told while nobody answers for the cluster.
pub(crate) fn no_leader(why: &str) -> Problem {
    let detail = format!("the leader of the control plane cannot be reached: {why}");
    let status = StatusCode::SERVICE_UNAVAILABLE;
    Problem::new(status, "metadata.unavailable", detail)
        .hint("ask again in a few seconds; jobs that run go on")
}
