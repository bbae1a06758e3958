//! What of that which happens in the process is told, and to whom.
//!
//! ```text
//!            standard error          collector: logs          collector: spans
//! default    errors                  info and above           info and above, ours only
//! set        MILLSTREAM_LOG          MILLSTREAM_LOG           the same
//! ```
//! Logs of what carries telemetry out are never sent to the collector: each would make another.

use std::env;

use tracing::Level;
use tracing_subscriber::{EnvFilter, filter::Targets};

/// Variable that says what is logged.
const LOG_VARIABLE: &str = "MILLSTREAM_LOG";

/// Where telemetry's own troubles are logged.
pub(super) const OWN_TARGET: &str = "millstream::telemetry";

/// What carries telemetry out.
const CARRIERS: &[&str] = &[
    OWN_TARGET,
    "opentelemetry",
    "tracing_opentelemetry",
    "tonic",
    "tower",
    "hyper",
    "hyper_util",
    "h2",
    "rustls",
];

/// Crates whose spans are kept.
const OURS: &[&str] = &[
    "millstream",
    "control_plane",
    "consensus",
    "compute",
    "connectors",
    "state_service",
    "state_client",
    "rpc",
];

/// The variable cannot be understood.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LogFilterError {
    /// Not a filter.
    #[error("{LOG_VARIABLE} cannot be `{0}`: write a level such as info, or target=level")]
    Filter(String),
    /// Not UTF-8.
    #[error("{LOG_VARIABLE} is not text")]
    NotText,
}

/// What is logged, as the user wants it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct LogFilter {
    /// What the variable says.
    wanted: Option<String>,
}

impl LogFilter {
    pub(super) fn from_environment() -> Result<LogFilter, LogFilterError> {
        let wanted = match env::var(LOG_VARIABLE) {
            Ok(wanted) if !wanted.trim().is_empty() => Some(wanted),
            Ok(_) | Err(env::VarError::NotPresent) => None,
            Err(env::VarError::NotUnicode(_)) => return Err(LogFilterError::NotText),
        };
        let filter = LogFilter { wanted };
        filter.standard_error()?;
        Ok(filter)
    }

    /// For standard error; unless somebody asks, only results and errors show there, and that a
    /// collector, which somebody did ask for, is out of reach.
    pub(super) fn standard_error(&self) -> Result<EnvFilter, LogFilterError> {
        match &self.wanted {
            // Whoever names the exporters wants to see them; else they are summed up elsewhere.
            Some(wanted) if wanted.contains("opentelemetry") => parse(wanted, ""),
            Some(wanted) => parse(wanted, ",opentelemetry=off"),
            None => parse("error", &format!(",opentelemetry=off,{OWN_TARGET}=warn")),
        }
    }

    /// For the collector.
    pub(super) fn exported_logs(&self) -> Result<EnvFilter, LogFilterError> {
        let off = CARRIERS.iter().map(|target| format!(",{target}=off"));
        let off: String = off.collect();
        parse(self.wanted.as_deref().unwrap_or("info"), &off)
    }
}

/// Spans that are kept.
pub(super) fn exported_spans() -> Targets {
    let ours = OURS.iter().map(|target| (*target, Level::INFO));
    Targets::new().with_targets(ours)
}

fn parse(wanted: &str, more: &str) -> Result<EnvFilter, LogFilterError> {
    // Checked alone first, so that the message shows what the user wrote.
    EnvFilter::try_new(wanted).map_err(|_| LogFilterError::Filter(wanted.to_owned()))?;
    let filter = EnvFilter::try_new(format!("{wanted}{more}"));
    filter.map_err(|_| LogFilterError::Filter(wanted.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(wanted: Option<&str>) -> LogFilter {
        LogFilter {
            wanted: wanted.map(str::to_owned),
        }
    }

    #[test]
    fn what_carries_telemetry_out_is_never_exported() {
        for wanted in [None, Some("trace"), Some("h2=trace,info")] {
            let filter = filter(wanted).exported_logs().expect("a filter");
            let shown = filter.to_string();
            for carrier in CARRIERS {
                assert!(shown.contains(&format!("{carrier}=off")), "{shown}");
            }
        }
    }

    #[test]
    fn a_wrong_filter_is_shown_as_it_was_written() {
        let error = filter(Some("a=b=c")).standard_error().expect_err("wrong");
        assert_eq!(
            error.to_string(),
            "MILLSTREAM_LOG cannot be `a=b=c`: write a level such as info, or target=level"
        );
    }

    #[test]
    fn the_exporters_are_quiet_unless_named() {
        let shown = |wanted| {
            let filter = filter(wanted).standard_error().expect("a filter");
            filter.to_string()
        };
        assert!(shown(None).contains("opentelemetry=off"));
        assert!(shown(Some("debug")).contains("opentelemetry=off"));
        assert!(!shown(Some("opentelemetry=debug")).contains("off"));
    }
}
