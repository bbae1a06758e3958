//! A span per request. It is part of the caller's trace, where the caller names one.

use axum::{
    extract::{MatchedPath, Request},
    middleware::Next,
    response::Response,
};
use rpc::trace_context::span_with_parent;
use tracing::{Instrument as _, Span, field::Empty, info_span};

/// Runs the request in its span, which ends with the head of the response: rows may follow for
/// hours.
pub(super) async fn trace_request(request: Request, next: Next) -> Response {
    let span = span_of(&request);
    let response = next.run(request).instrument(span.clone()).await;
    let status = response.status();
    span.record("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
    response
}

fn span_of(request: &Request) -> Span {
    let method = request.method();
    // The route, not the path: names of spans are few. Nothing else of a request is kept, since it
    // may hold secrets.
    let path = request.extensions().get::<MatchedPath>();
    let route = path.map_or("unmatched", MatchedPath::as_str);
    let span = info_span!(
        "http.request",
        otel.name = %format_args!("{method} {route}"),
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = %method,
        http.route = route,
        http.response.status_code = Empty,
    );
    let parent = request.headers().get("traceparent");
    span_with_parent(span, parent.and_then(|parent| parent.to_str().ok()))
}
