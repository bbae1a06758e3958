//! The context of a trace on its way between tasks, threads and processes: the value of the W3C
//! header `traceparent`. Knows `tracing` and the interface of OpenTelemetry, not its SDK: without
//! one, there is no context, and nothing costs anything.
//!
//! ```text
//! 00-<trace id, 32 hex digits>-<span id, 16>-<flags, 2>
//! ```

use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// The context of the current span; `None` outside of traces.
#[must_use]
pub fn current() -> Option<String> {
    of(&Span::current())
}

/// The context of a span, for those who make children of it elsewhere; `None` when no traces are
/// kept.
#[must_use]
pub fn of(span: &Span) -> Option<String> {
    if span.is_disabled() {
        return None;
    }
    let context = span.context();
    let span = context.span();
    let context = span.span_context();
    context.is_valid().then(|| encode(context))
}

/// Makes `span`, which must be new, a child of a span that is elsewhere. A context that is missing
/// or not well-formed leaves the span as it is: traces are never a reason to fail.
#[must_use]
pub fn span_with_parent(span: Span, traceparent: Option<&str>) -> Span {
    if !span.is_disabled()
        && let Some(parent) = traceparent.and_then(decode)
    {
        let parent = Context::new().with_remote_span_context(parent);
        // Fails only for a span that has begun, which is the caller's mistake and harmless.
        let _ = span.set_parent(parent);
    }
    span
}

/// Whether the one who made the context keeps its trace.
#[must_use]
pub fn is_sampled(traceparent: &str) -> bool {
    decode(traceparent).is_some_and(|context| context.is_sampled())
}

fn encode(context: &SpanContext) -> String {
    format!(
        "00-{}-{}-{:02x}",
        context.trace_id(),
        context.span_id(),
        context.trace_flags() & TraceFlags::SAMPLED
    )
}

/// Later versions may have more parts; version 255 is none.
fn decode(traceparent: &str) -> Option<SpanContext> {
    let mut parts = traceparent.trim().split('-');
    let version = hex(parts.next()?, 2)?;
    let trace_id = TraceId::from_hex(hex(parts.next()?, 32)?).ok()?;
    let span_id = SpanId::from_hex(hex(parts.next()?, 16)?).ok()?;
    let flags = u8::from_str_radix(hex(parts.next()?, 2)?, 16).ok()?;
    if version == "ff" || (version == "00" && parts.next().is_some()) {
        return None;
    }
    let flags = TraceFlags::new(flags) & TraceFlags::SAMPLED;
    let context = SpanContext::new(trace_id, span_id, flags, true, TraceState::default());
    context.is_valid().then_some(context)
}

/// The text, if it is so many lower-case hexadecimal digits.
fn hex(text: &str, digits: usize) -> Option<&str> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    (text.len() == digits && text.bytes().all(is_digit)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_context_survives_the_way() {
        let context = decode(SAMPLED).expect("well-formed");
        assert!(context.is_sampled() && context.is_remote());
        assert_eq!(encode(&context), SAMPLED);
        let unsampled = SAMPLED.replace("-01", "-00");
        assert_eq!(encode(&decode(&unsampled).expect("well-formed")), unsampled);
        let later = SAMPLED.replacen("00-", "01-", 1) + "-more";
        assert_eq!(encode(&decode(&later).expect("well-formed")), SAMPLED);
    }

    #[test]
    fn what_is_not_a_context_is_none() {
        let zero_trace = "00-00000000000000000000000000000000-b7ad6b7169203331-01";
        let zero_span = "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01";
        let wrong = [
            "",
            "00",
            "-",
            zero_trace,
            zero_span,
            &SAMPLED.replacen("00-", "ff-", 1),
            &SAMPLED.to_uppercase(),
            &SAMPLED[..SAMPLED.len() - 1],
            &format!("{SAMPLED}-more"),
            &SAMPLED.replace("b7", "+7"),
        ];
        for text in wrong {
            assert!(decode(text).is_none(), "{text}");
        }
    }

    #[test]
    fn without_an_sdk_there_is_no_context() {
        assert_eq!(current(), None);
        let span = span_with_parent(tracing::info_span!("nothing"), Some(SAMPLED));
        assert_eq!(of(&span), None);
    }
}
