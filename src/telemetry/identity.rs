//! Who a process is in what it tells about itself.

use std::{
    env,
    hash::{BuildHasher as _, Hasher as _, RandomState},
};

use opentelemetry::KeyValue;
use opentelemetry_sdk::{
    Resource,
    resource::{EnvResourceDetector, TelemetryResourceDetector},
};

/// A process of Millstream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProcessIdentity {
    /// Kind of process, such as `millstream-worker`.
    pub service: &'static str,
    /// Tells the process from others of its kind, such as `wk_7`.
    pub instance: String,
    /// Version of the program.
    pub version: &'static str,
}

impl ProcessIdentity {
    /// A process without a name of its own: a random one tells it from others.
    #[must_use]
    pub fn unnamed(service: &'static str) -> ProcessIdentity {
        // The system's own randomness, by the one way that std has to it.
        let instance = RandomState::new().build_hasher().finish();
        ProcessIdentity::new(service, format!("{instance:016x}"))
    }

    /// A process of this version of the program.
    #[must_use]
    pub fn new(service: &'static str, instance: impl Into<String>) -> ProcessIdentity {
        ProcessIdentity {
            service,
            instance: instance.into(),
            version: env!("CARGO_PKG_VERSION"),
        }
    }

    /// What OpenTelemetry calls the resource: this identity, unless the environment
    /// (`OTEL_RESOURCE_ATTRIBUTES`, `OTEL_SERVICE_NAME`) says otherwise.
    pub(super) fn resource(&self) -> Resource {
        let own = [
            KeyValue::new("service.name", self.service),
            KeyValue::new("service.instance.id", self.instance.clone()),
            KeyValue::new("service.version", self.version),
        ];
        let resource = Resource::builder_empty()
            .with_attributes(own)
            .with_detector(Box::new(TelemetryResourceDetector))
            .with_detector(Box::new(EnvResourceDetector::new()));
        match env::var("OTEL_SERVICE_NAME") {
            Ok(name) if !name.is_empty() => resource.with_service_name(name).build(),
            _ => resource.build(),
        }
    }
}
