//! What the standard `OTEL_…` variables ask for: which signals leave the process over OTLP. The
//! rest of them (headers, timeouts, sampler, batches, resource) is read by the SDK itself, which
//! takes no notice of what it does not understand; so that is refused here.

use axum::http::Uri;

/// Signals of OpenTelemetry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Signal {
    Traces,
    Metrics,
    Logs,
}

/// Variables that are whole numbers.
const NUMBERS: &[&str] = &[
    "OTEL_EXPORTER_OTLP_TIMEOUT",
    "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
    "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT",
    "OTEL_EXPORTER_OTLP_LOGS_TIMEOUT",
    "OTEL_METRIC_EXPORT_INTERVAL",
    "OTEL_BSP_SCHEDULE_DELAY",
    "OTEL_BSP_MAX_QUEUE_SIZE",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
    "OTEL_BSP_EXPORT_TIMEOUT",
    "OTEL_BLRP_SCHEDULE_DELAY",
    "OTEL_BLRP_MAX_QUEUE_SIZE",
    "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE",
    "OTEL_BLRP_EXPORT_TIMEOUT",
];

/// What the SDK knows.
const SAMPLERS: &[&str] = &[
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
];

/// What is exported over OTLP.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct ExportSettings {
    pub(super) traces: Option<Endpoint>,
    pub(super) metrics: Option<Endpoint>,
    pub(super) logs: Option<Endpoint>,
}

/// Where a signal goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Endpoint {
    /// PEM file with the certificate that signed the collector's, where it speaks TLS.
    pub(super) certificate: Option<String>,
}

/// A variable asks for what there is not. Values are shown only where they are no addresses: those
/// may hold a password.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SettingsError {
    /// An exporter that is not there.
    #[error("{variable} cannot be `{value}`: write otlp or none")]
    Exporter {
        /// The variable.
        variable: String,
        /// Its value.
        value: String,
    },
    /// A protocol that is not spoken.
    #[error("{variable} cannot be `{value}`: OTLP is spoken over grpc only")]
    Protocol {
        /// The variable.
        variable: String,
        /// Its value.
        value: String,
    },
    /// A value that would count for nothing.
    #[error("{variable} cannot be `{value}`: write {expected}")]
    Value {
        /// The variable.
        variable: &'static str,
        /// Its value.
        value: String,
        /// What it can be.
        expected: &'static str,
    },
    /// Not an address.
    #[error("{0} is not an address such as http://localhost:4317")]
    Endpoint(String),
    /// TLS without the certificate to trust.
    #[error("{endpoint} is https: name the file of the certificate to trust in {certificate}")]
    Certificate {
        /// The variable with the address.
        endpoint: String,
        /// The variable that should name the file.
        certificate: String,
    },
}

impl Signal {
    /// As in the names of variables.
    fn name(self) -> &'static str {
        match self {
            Signal::Traces => "TRACES",
            Signal::Metrics => "METRICS",
            Signal::Logs => "LOGS",
        }
    }
}

impl ExportSettings {
    /// Reads variables through `lookup`. One that is empty is as good as not set.
    pub(super) fn read(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let variables = Variables { lookup };
        if variables
            .get("OTEL_SDK_DISABLED")
            .is_some_and(|value| value.eq_ignore_ascii_case("true"))
        {
            return Ok(ExportSettings::default());
        }
        let settings = ExportSettings {
            traces: variables.endpoint(Signal::Traces)?,
            metrics: variables.endpoint(Signal::Metrics)?,
            logs: variables.endpoint(Signal::Logs)?,
        };
        if settings.any() {
            variables.check_numbers()?;
            variables.check_sampler()?;
        }
        Ok(settings)
    }

    /// Whether anything is exported.
    pub(super) fn any(&self) -> bool {
        self.traces.is_some() || self.metrics.is_some() || self.logs.is_some()
    }
}

struct Variables<F> {
    lookup: F,
}

impl<F: Fn(&str) -> Option<String>> Variables<F> {
    fn get(&self, name: &str) -> Option<String> {
        let value = (self.lookup)(name)?.trim().to_owned();
        (!value.is_empty()).then_some(value)
    }

    /// The first of the signal's own variable and the one for all signals: its name and value.
    fn of_signal(&self, signal: Signal, rest: &str) -> Option<(String, String)> {
        let own = format!("OTEL_EXPORTER_OTLP_{}_{rest}", signal.name());
        let all = format!("OTEL_EXPORTER_OTLP_{rest}");
        [own, all]
            .into_iter()
            .find_map(|name| self.get(&name).map(|value| (name, value)))
    }

    fn endpoint(&self, signal: Signal) -> Result<Option<Endpoint>, SettingsError> {
        let address = self.of_signal(signal, "ENDPOINT");
        if !self.wanted(signal)?.unwrap_or(address.is_some()) {
            return Ok(None);
        }
        if let Some((variable, value)) = self.of_signal(signal, "PROTOCOL")
            && value != "grpc"
        {
            return Err(SettingsError::Protocol { variable, value });
        }
        let certificate = self.of_signal(signal, "CERTIFICATE");
        let Some((variable, address)) = address else {
            // The standard's default: the local machine, without TLS.
            return Ok(Some(Endpoint { certificate: None }));
        };
        let scheme = match address.parse::<Uri>() {
            Ok(uri) if uri.host().is_some() => uri.scheme_str().map(str::to_owned),
            _ => None,
        };
        match (scheme.as_deref(), certificate) {
            (Some("http"), _) => Ok(Some(Endpoint { certificate: None })),
            (Some("https"), Some((_, file))) => Ok(Some(Endpoint {
                certificate: Some(file),
            })),
            (Some("https"), None) => Err(SettingsError::Certificate {
                endpoint: variable,
                certificate: "OTEL_EXPORTER_OTLP_CERTIFICATE".to_owned(),
            }),
            _ => Err(SettingsError::Endpoint(variable)),
        }
    }

    fn check_numbers(&self) -> Result<(), SettingsError> {
        for variable in NUMBERS {
            if let Some(value) = self.get(variable)
                && value.parse::<u64>().is_err()
            {
                let expected = "a whole number";
                return Err(SettingsError::Value {
                    variable,
                    value,
                    expected,
                });
            }
        }
        Ok(())
    }

    fn check_sampler(&self) -> Result<(), SettingsError> {
        let variable = "OTEL_TRACES_SAMPLER";
        let Some(value) = self.get(variable) else {
            return Ok(());
        };
        if !SAMPLERS.contains(&value.as_str()) {
            let expected =
                "always_on, always_off or traceidratio, or one of them after parentbased_";
            return Err(SettingsError::Value {
                variable,
                value,
                expected,
            });
        }
        let variable = "OTEL_TRACES_SAMPLER_ARG";
        let share = self.get(variable).unwrap_or_default();
        let is_share = share
            .parse()
            .is_ok_and(|share: f64| (0.0..=1.0).contains(&share));
        if value.ends_with("traceidratio") && !is_share {
            return Err(SettingsError::Value {
                variable,
                value: share,
                expected: "a number from 0 to 1",
            });
        }
        Ok(())
    }

    /// Whether the signal's exporters are named, and OTLP among them.
    fn wanted(&self, signal: Signal) -> Result<Option<bool>, SettingsError> {
        let variable = format!("OTEL_{}_EXPORTER", signal.name());
        let Some(value) = self.get(&variable) else {
            return Ok(None);
        };
        let mut wanted = false;
        for exporter in value.split(',').map(str::trim) {
            match exporter {
                "otlp" => wanted = true,
                "none" => {}
                // What /metrics always does.
                "prometheus" if signal == Signal::Metrics => {}
                _ => return Err(SettingsError::Exporter { variable, value }),
            }
        }
        Ok(Some(wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<ExportSettings, SettingsError> {
        ExportSettings::read(|name| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    /// Which signals are exported: T, M, L.
    fn exported(variables: &[(&str, &str)]) -> String {
        let settings = read(variables).expect("good settings");
        let letter = |on: bool, letter| if on { letter } else { "" };
        letter(settings.traces.is_some(), "T").to_owned()
            + letter(settings.metrics.is_some(), "M")
            + letter(settings.logs.is_some(), "L")
    }

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4317");

    #[test]
    fn nothing_leaves_unless_asked_for() {
        assert_eq!(exported(&[]), "");
        assert_eq!(exported(&[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]), "");
        assert_eq!(exported(&[("OTEL_SERVICE_NAME", "x")]), "");
        assert_eq!(exported(&[ENDPOINT, ("OTEL_SDK_DISABLED", "true")]), "");
    }

    #[test]
    fn signals_are_chosen_by_address_or_exporter() {
        assert_eq!(exported(&[ENDPOINT]), "TML");
        assert_eq!(exported(&[ENDPOINT, ("OTEL_LOGS_EXPORTER", "none")]), "TM");
        let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://x:1");
        assert_eq!(exported(&[own]), "T");
        assert_eq!(exported(&[("OTEL_LOGS_EXPORTER", "otlp")]), "L");
        let both = ("OTEL_METRICS_EXPORTER", "otlp, prometheus");
        assert_eq!(exported(&[both]), "M");
        let only = ("OTEL_METRICS_EXPORTER", "prometheus");
        assert_eq!(exported(&[ENDPOINT, only]), "TL");
    }

    #[test]
    fn what_there_is_not_is_refused_in_one_line() {
        let refused = |more: &[(&str, &str)]| {
            let error = read(&[&[ENDPOINT], more].concat()).expect_err("bad settings");
            error.to_string()
        };
        let protocol = ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
        assert_eq!(
            refused(&[protocol]),
            "OTEL_EXPORTER_OTLP_PROTOCOL cannot be `http/protobuf`: OTLP is spoken over grpc only"
        );
        assert_eq!(
            refused(&[("OTEL_TRACES_EXPORTER", "jaeger")]),
            "OTEL_TRACES_EXPORTER cannot be `jaeger`: write otlp or none"
        );
        let secret = ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "ftp://me:hush@x:1");
        assert_eq!(
            refused(&[secret]),
            "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT is not an address such as http://localhost:4317"
        );
        let tls = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://x:1");
        assert!(refused(&[tls]).ends_with("to trust in OTEL_EXPORTER_OTLP_CERTIFICATE"));
        let file = ("OTEL_EXPORTER_OTLP_CERTIFICATE", "ca.pem");
        let settings = read(&[ENDPOINT, tls, file]).expect("good settings");
        let traces = settings.traces.expect("traces");
        assert_eq!(traces.certificate.as_deref(), Some("ca.pem"));
        assert_eq!(settings.logs.expect("logs").certificate, None);
    }

    #[test]
    fn what_would_count_for_nothing_is_refused() {
        let refused = |more: &[(&str, &str)]| {
            let error = read(&[&[ENDPOINT], more].concat()).expect_err("bad settings");
            error.to_string()
        };
        assert_eq!(
            refused(&[("OTEL_BSP_SCHEDULE_DELAY", "1s")]),
            "OTEL_BSP_SCHEDULE_DELAY cannot be `1s`: write a whole number"
        );
        let sampler = |name| ("OTEL_TRACES_SAMPLER", name);
        assert_eq!(
            refused(&[sampler("always")]),
            "OTEL_TRACES_SAMPLER cannot be `always`: write always_on, always_off or traceidratio, \
             or one of them after parentbased_"
        );
        let share = |share| ("OTEL_TRACES_SAMPLER_ARG", share);
        assert_eq!(
            refused(&[sampler("traceidratio"), share("2")]),
            "OTEL_TRACES_SAMPLER_ARG cannot be `2`: write a number from 0 to 1"
        );
        let good = [ENDPOINT, sampler("parentbased_traceidratio"), share("0.5")];
        assert_eq!(exported(&good), "TML");
    }

    #[test]
    fn what_is_not_exported_is_not_checked() {
        let protocol = ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json");
        assert_eq!(exported(&[protocol]), "");
        let off = ("OTEL_LOGS_EXPORTER", "none");
        let bad = ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "http/json");
        assert_eq!(exported(&[ENDPOINT, off, bad]), "TM");
    }
}
