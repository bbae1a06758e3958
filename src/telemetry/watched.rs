//! Exporters whose failures are told now and then, not with every batch. What a collector does not
//! take is dropped: telemetry never holds up what it is about.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    logs::{LogBatch, LogExporter},
    metrics::{Temporality, data::ResourceMetrics, exporter::PushMetricExporter},
    trace::{SpanData, SpanExporter},
};
use tokio::time::Instant;

use super::filter::OWN_TARGET;

/// Time between two reports of failures.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// How the exporters of a process fare, all together.
#[derive(Debug, Default)]
pub(super) struct CollectorHealth(Mutex<Failures>);

#[derive(Debug, Default)]
struct Failures {
    /// Since the last report.
    count: u64,
    reported: Option<Instant>,
}

impl CollectorHealth {
    /// Takes an export's result. The SDK hears of no failure: it would log each.
    fn note(&self, signal: &str, result: OTelSdkResult) -> OTelSdkResult {
        if let Err(error) = result
            && let Some(failures) = self.failed(Instant::now())
        {
            tracing::warn!(
                target: OWN_TARGET,
                signal, failures, %error,
                "the OpenTelemetry collector does not take what it is sent; it is dropped"
            );
        }
        Ok(())
    }

    /// Counts a failure; how many there were since the last report, if it is time for one.
    fn failed(&self, now: Instant) -> Option<u64> {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failures.count += 1;
        let quiet = |reported| now.duration_since(reported) < REPORT_INTERVAL;
        if failures.reported.is_some_and(quiet) {
            return None;
        }
        failures.reported = Some(now);
        Some(std::mem::take(&mut failures.count))
    }
}

/// An exporter under watch.
pub(super) struct Watched<E> {
    pub(super) exporter: E,
    pub(super) health: Arc<CollectorHealth>,
}

impl<E> fmt::Debug for Watched<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Exporters hold headers, and those hold keys.
        f.write_str("Watched")
    }
}

impl<E: SpanExporter> SpanExporter for Watched<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.health
            .note("traces", self.exporter.export(batch).await)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl<E: LogExporter> LogExporter for Watched<E> {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        self.health.note("logs", self.exporter.export(batch).await)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl<E: PushMetricExporter> PushMetricExporter for Watched<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        self.health
            .note("metrics", self.exporter.export(metrics).await)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_once_a_minute() {
        let health = CollectorHealth::default();
        let start = Instant::now();
        let at = |seconds| health.failed(start + Duration::from_secs(seconds));
        assert_eq!(at(0), Some(1));
        for second in 1..60 {
            assert_eq!(at(second), None, "{second}");
        }
        assert_eq!(at(60), Some(60));
        assert_eq!(at(61), None);
    }
}
