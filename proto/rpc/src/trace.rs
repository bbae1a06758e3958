//! W3C trace context: taken from the span that makes a call, given to the span that serves it.

use std::task::{Context, Poll};

use tonic::{Request, Status, codegen::http, service::Interceptor};
use tower::{Layer, Service};
use tracing::{Instrument as _, Span, instrument::Instrumented};

use crate::trace_context;

const TRACEPARENT: &str = "traceparent";

/// Puts the current span's trace context on every call.
#[derive(Clone, Copy, Debug)]
pub struct TraceInject;

impl Interceptor for TraceInject {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let traceparent = trace_context::current();
        if let Some(value) = traceparent.and_then(|text| text.parse().ok()) {
            request.metadata_mut().insert(TRACEPARENT, value);
        }
        Ok(request)
    }
}

/// Serves calls that are part of a trace in a span of that trace; others cost nothing.
#[derive(Clone, Copy, Debug)]
pub struct TraceLayer;

impl<S> Layer<S> for TraceLayer {
    type Service = TraceService<S>;

    fn layer(&self, inner: S) -> TraceService<S> {
        TraceService { inner }
    }
}

/// What [`TraceLayer`] makes of a service.
#[derive(Clone, Debug)]
pub struct TraceService<S> {
    inner: S,
}

impl<S, B> Service<http::Request<B>> for TraceService<S>
where
    S: Service<http::Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Instrumented<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let span = span_of(&request);
        self.inner.call(request).instrument(span)
    }
}

fn span_of<B>(request: &http::Request<B>) -> Span {
    let header = request.headers().get(TRACEPARENT);
    let Some(traceparent) = header.and_then(|value| value.to_str().ok()) else {
        return Span::none();
    };
    // Calls of traces that nobody keeps cost nothing.
    if !trace_context::is_sampled(traceparent) {
        return Span::none();
    }
    let method = request.uri().path();
    let span = tracing::info_span!("rpc", otel.name = method, otel.kind = "server");
    trace_context::span_with_parent(span, Some(traceparent))
}
