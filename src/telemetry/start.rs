//! Telemetry of a process from its first line to its last: everything is set up here, once, and
//! flushed at the end.

use std::{
    env,
    io::{self, IsTerminal as _},
    sync::mpsc,
    thread,
    time::Duration,
};

use opentelemetry::{global, trace::TracerProvider as _};
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_sdk::{
    logs::SdkLoggerProvider, metrics::SdkMeterProvider, propagation::TraceContextPropagator,
    trace::SdkTracerProvider,
};
use tokio::{runtime::Runtime, time::Instant};
use tracing_subscriber::{Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use super::{
    ExportError, LogFilterError, ProcessIdentity, Scrape, SettingsError,
    export::Exporters,
    filter::{self, LogFilter},
    log_line::LogLine,
    process_metrics,
    settings::ExportSettings,
};

/// How long the last telemetry may take to leave at the end.
const SHUTDOWN_MAX: Duration = Duration::from_secs(3);

/// Name under which the program's own spans and metrics are exported.
pub(super) const SCOPE: &str = "millstream";

/// Why a process cannot tell about itself as the environment wants it to.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// What should be logged.
    #[error(transparent)]
    LogFilter(#[from] LogFilterError),
    /// What should be exported.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// How it should be.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// There is no thread for it.
    #[error("failed to start telemetry")]
    Runtime(#[from] io::Error),
    /// It was started before.
    #[error("telemetry runs already")]
    Twice,
}

/// A process's telemetry. Ask it to [`Telemetry::shut_down`] at the end, or the last is lost.
#[derive(Default)]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
    metrics: Option<SdkMeterProvider>,
    logs: Option<SdkLoggerProvider>,
    scrape: Scrape,
    /// The exporters' own, so that neither waits for the other.
    runtime: Option<Runtime>,
}

/// Starts telemetry; to be called once, before anything else.
///
/// # Errors
/// When a variable of the environment asks for what there is not.
pub fn start(identity: &ProcessIdentity) -> Result<Telemetry, StartError> {
    start_with(identity, LogFilter::from_environment(false)?)
}

/// As [`start`], for a process of a cluster: what it does is logged unless the user asks for less.
///
/// # Errors
/// As [`start`].
pub fn start_server(identity: &ProcessIdentity) -> Result<Telemetry, StartError> {
    start_with(identity, LogFilter::from_environment(true)?)
}

fn start_with(identity: &ProcessIdentity, log_filter: LogFilter) -> Result<Telemetry, StartError> {
    let settings = ExportSettings::read(|name| env::var(name).ok())?;
    let resource = identity.resource();
    let mut telemetry = Telemetry::default();
    let mut exporters = Exporters::default();
    if settings.any() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("telemetry")
            .enable_all()
            .build()?;
        let guard = runtime.enter();
        exporters = Exporters::new(&settings, &resource)?;
        drop(guard);
        telemetry.runtime = Some(runtime);
    }
    subscribe(&log_filter, &exporters)?;

    let mut metrics = SdkMeterProvider::builder()
        .with_resource(resource)
        .with_reader(telemetry.scrape.clone());
    if let Some(reader) = exporters.metrics {
        metrics = metrics.with_reader(reader);
    }
    let metrics = metrics.build();
    global::set_meter_provider(metrics.clone());
    process_metrics::observe();
    telemetry.metrics = Some(metrics);
    if let Some(traces) = &exporters.traces {
        global::set_tracer_provider(traces.clone());
    }
    global::set_text_map_propagator(TraceContextPropagator::new());
    telemetry.traces = exporters.traces;
    telemetry.logs = exporters.logs;
    Ok(telemetry)
}

/// Starts the log on standard error, and nothing else: for commands that ask a server and end.
///
/// # Errors
/// When it is not clear what should be logged.
pub fn start_log() -> Result<Telemetry, StartError> {
    subscribe(&LogFilter::from_environment(false)?, &Exporters::default())?;
    Ok(Telemetry::default())
}

/// From here on what `tracing` is told goes to standard error and to the exporters.
fn subscribe(log_filter: &LogFilter, exporters: &Exporters) -> Result<(), StartError> {
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .event_format(LogLine::new(io::stderr().is_terminal()))
        .with_filter(log_filter.standard_error()?);
    let spans = exporters.traces.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer(SCOPE))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_target(false)
            .with_filter(filter::exported_spans())
    });
    let logs = match &exporters.logs {
        Some(provider) => {
            let logs = OpenTelemetryTracingBridge::new(provider);
            Some(logs.with_filter(log_filter.exported_logs()?))
        }
        None => None,
    };
    // Spans come first: they make the context that lines and logs take their ids from.
    tracing_subscriber::registry()
        .with(spans)
        .with(logs)
        .with(lines)
        .try_init()
        .map_err(|_| StartError::Twice)
}

impl Telemetry {
    /// The process's metrics, for Prometheus.
    #[must_use]
    pub fn scrape(&self) -> Scrape {
        self.scrape.clone()
    }

    /// Sends what is left, and waits for that no longer than a collector that hangs deserves.
    // Exporters block; a thread that hangs in one must not keep the process.
    #[allow(clippy::disallowed_methods)]
    pub fn shut_down(self) {
        let (traces, metrics, logs) = (self.traces, self.metrics, self.logs);
        let mut last: Vec<Box<dyn FnOnce() + Send>> = Vec::new();
        if let Some(traces) = traces {
            last.push(Box::new(move || {
                drop(traces.shutdown_with_timeout(SHUTDOWN_MAX))
            }));
        }
        if let Some(metrics) = metrics {
            last.push(Box::new(move || {
                drop(metrics.shutdown_with_timeout(SHUTDOWN_MAX))
            }));
        }
        if let Some(logs) = logs {
            last.push(Box::new(move || {
                drop(logs.shutdown_with_timeout(SHUTDOWN_MAX))
            }));
        }
        let (done, ended) = mpsc::sync_channel(last.len());
        let deadline = Instant::now() + SHUTDOWN_MAX;
        let count = last.len();
        for send in last {
            let done = done.clone();
            thread::spawn(move || {
                send();
                let _ = done.send(());
            });
        }
        for _ in 0..count {
            let left = deadline.saturating_duration_since(Instant::now());
            if ended.recv_timeout(left).is_err() {
                break;
            }
        }
        if let Some(runtime) = self.runtime {
            runtime.shutdown_background();
        }
    }
}
