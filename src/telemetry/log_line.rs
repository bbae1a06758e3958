//! Lines of the log on standard error: as `tracing` writes them, with the ids of the trace at the
//! end where the line belongs to one that is kept.

use std::fmt;

use opentelemetry::{
    Context,
    trace::{SpanContext, TraceContextExt as _},
};
use tracing::{Event, Subscriber};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{Format, Writer},
    },
    registry::LookupSpan,
};

/// Formats a line.
pub(super) struct LogLine {
    format: Format,
}

impl LogLine {
    /// With colours, if it is for a terminal.
    pub(super) fn new(colours: bool) -> LogLine {
        LogLine {
            format: Format::default().with_ansi(colours),
        }
    }
}

impl<S, N> FormatEvent<S, N> for LogLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let trace = Context::map_current(|context| context.span().span_context().clone());
        if !trace.is_sampled() {
            return self.format.format_event(context, writer, event);
        }
        let mut line = String::new();
        self.format
            .format_event(context, Writer::new(&mut line), event)?;
        write!(writer, "{}{}", line.trim_end_matches('\n'), ids(&trace))
    }
}

fn ids(trace: &SpanContext) -> String {
    let (trace_id, span_id) = (trace.trace_id(), trace.span_id());
    format!(" trace_id={trace_id} span_id={span_id}\n")
}
