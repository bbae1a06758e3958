//! W3C trace context: taken from the span that makes a call, given to the span that serves it.

use std::{
    collections::HashMap,
    task::{Context, Poll},
};

use opentelemetry::{
    propagation::{Extractor, Injector, TextMapPropagator as _},
    trace::TraceContextExt as _,
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tonic::{
    Request, Status,
    codegen::http,
    metadata::{MetadataKey, MetadataMap},
    service::Interceptor,
};
use tower::{Layer, Service};
use tracing::{Instrument as _, Span, instrument::Instrumented};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

const TRACEPARENT: &str = "traceparent";

/// The current span's trace context as text, for a message that is no call of its own; empty
/// without one.
#[must_use]
pub fn traceparent() -> String {
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut carrier);
    carrier.remove(TRACEPARENT).unwrap_or_default()
}

/// Makes `span`, which must not have been entered, part of the trace that `traceparent` names. An
/// empty or malformed one leaves it as it is.
pub fn follow(span: &Span, traceparent: &str) {
    let carrier = HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
    let context = TraceContextPropagator::new().extract(&carrier);
    if context.span().span_context().is_valid() {
        // An error: nobody records spans.
        let _ = span.set_parent(context);
    }
}

/// Puts the current span's trace context on every call.
#[derive(Clone, Copy, Debug)]
pub struct TraceInject;

impl Interceptor for TraceInject {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let context = Span::current().context();
        if context.span().span_context().is_valid() {
            let mut metadata = Metadata(request.metadata_mut());
            TraceContextPropagator::new().inject_context(&context, &mut metadata);
        }
        Ok(request)
    }
}

struct Metadata<'a>(&'a mut MetadataMap);

impl Injector for Metadata<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(key), Ok(value)) = (MetadataKey::from_bytes(key.as_bytes()), value.parse()) {
            self.0.insert(key, value);
        }
    }
}

struct Headers<'a>(&'a http::HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
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
    if !request.headers().contains_key(TRACEPARENT) {
        return Span::none();
    }
    let context = TraceContextPropagator::new().extract(&Headers(request.headers()));
    if !context.span().span_context().is_sampled() {
        return Span::none();
    }
    let method = request.uri().path();
    let span = tracing::info_span!("rpc", otel.name = method, otel.kind = "server");
    // An error: nobody records spans.
    let _ = span.set_parent(context);
    span
}
