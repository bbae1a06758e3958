//! The ways out over OTLP: an exporter and a bounded queue per signal. What the queue cannot hold,
//! or the collector does not take, is dropped.

use std::{fs, sync::Arc};

use opentelemetry_otlp::{
    LogExporter, MetricExporter, SpanExporter, WithTonicConfig,
    tonic_types::transport::{Certificate, ClientTlsConfig},
};
use opentelemetry_sdk::{
    Resource, logs::SdkLoggerProvider, metrics::PeriodicReader, trace::SdkTracerProvider,
};

use super::{
    settings::{Endpoint, ExportSettings},
    watched::{CollectorHealth, Watched},
};

/// Why an exporter cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The certificate cannot be read.
    #[error("failed to read the certificate `{file}` of the OpenTelemetry collector")]
    Certificate {
        /// The file.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// The SDK refuses what the environment says.
    #[error("failed to export {signal} to the OpenTelemetry collector")]
    Exporter {
        /// Traces, metrics or logs.
        signal: &'static str,
        /// Why.
        source: opentelemetry_otlp::ExporterBuildError,
    },
}

/// Where metrics go.
pub(super) type MetricsOut = PeriodicReader<Watched<MetricExporter>>;

/// The ways out that were asked for. To be made inside a tokio runtime, on which they live.
#[derive(Default)]
pub(super) struct Exporters {
    pub(super) traces: Option<SdkTracerProvider>,
    pub(super) metrics: Option<MetricsOut>,
    pub(super) logs: Option<SdkLoggerProvider>,
}

impl Exporters {
    pub(super) fn new(settings: &ExportSettings, resource: &Resource) -> Result<Self, ExportError> {
        let health = Arc::<CollectorHealth>::default();
        let mut exporters = Exporters::default();
        if let Some(endpoint) = &settings.traces {
            let builder = secured(SpanExporter::builder().with_tonic(), endpoint)?;
            let exporter = builder.build().map_err(refused("traces"))?;
            let provider = SdkTracerProvider::builder()
                .with_resource(resource.clone())
                .with_batch_exporter(watched(exporter, &health));
            exporters.traces = Some(provider.build());
        }
        if let Some(endpoint) = &settings.metrics {
            let builder = secured(MetricExporter::builder().with_tonic(), endpoint)?;
            let exporter = builder.build().map_err(refused("metrics"))?;
            let reader = PeriodicReader::builder(watched(exporter, &health));
            exporters.metrics = Some(reader.build());
        }
        if let Some(endpoint) = &settings.logs {
            let builder = secured(LogExporter::builder().with_tonic(), endpoint)?;
            let exporter = builder.build().map_err(refused("logs"))?;
            let provider = SdkLoggerProvider::builder()
                .with_resource(resource.clone())
                .with_batch_exporter(watched(exporter, &health));
            exporters.logs = Some(provider.build());
        }
        Ok(exporters)
    }
}

fn watched<E>(exporter: E, health: &Arc<CollectorHealth>) -> Watched<E> {
    Watched {
        exporter,
        health: Arc::clone(health),
    }
}

fn refused(signal: &'static str) -> impl Fn(opentelemetry_otlp::ExporterBuildError) -> ExportError {
    move |source| ExportError::Exporter { signal, source }
}

/// With TLS, where the endpoint has it.
fn secured<B: WithTonicConfig>(builder: B, endpoint: &Endpoint) -> Result<B, ExportError> {
    let Some(file) = &endpoint.certificate else {
        return Ok(builder);
    };
    let pem = fs::read(file).map_err(|source| ExportError::Certificate {
        file: file.clone(),
        source,
    })?;
    let trust = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
    Ok(builder.with_tls_config(trust))
}
