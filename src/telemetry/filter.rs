//! What of that which happens in the process is told, and to whom.
//!
//! ```text
//!            standard error          collector: logs          collector: spans
//! default    errors; servers: info   info and above           info and above, ours only
//! set        MILLSTREAM_LOG          MILLSTREAM_LOG           the same
//! ```
//! Libraries that talk much show warnings only, unless MILLSTREAM_LOG names them.
//!
//! Logs of what carries telemetry out are never sent to the collector: each would make another.

use std::env;

use tracing::{Level, level_filters::LevelFilter};
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

/// Libraries whose work is not the user's; what begins with one of these belongs to it.
const TALKATIVE: &[&str] = &["slatedb", "openraft", "h2", "hyper", "tonic"];

/// Crates whose spans are kept.
const OURS: &[&str] = &[
    "millstream",
    "control_plane",
    "consensus",
    "compute",
    "connectors",
    "control_stream",
    "remote_store",
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
    /// Whether somebody watches a server that runs for long.
    is_server: bool,
}

impl LogFilter {
    pub(super) fn from_environment(is_server: bool) -> Result<LogFilter, LogFilterError> {
        let wanted = match env::var(LOG_VARIABLE) {
            Ok(wanted) if !wanted.trim().is_empty() => Some(wanted),
            Ok(_) | Err(env::VarError::NotPresent) => None,
            Err(env::VarError::NotUnicode(_)) => return Err(LogFilterError::NotText),
        };
        let filter = LogFilter { wanted, is_server };
        filter.standard_error()?;
        Ok(filter)
    }

    /// For standard error; unless somebody asks, only results and errors show there, and that a
    /// collector, which somebody did ask for, is out of reach.
    pub(super) fn standard_error(&self) -> Result<EnvFilter, LogFilterError> {
        match &self.wanted {
            // Whoever names the exporters wants to see them; else they are summed up elsewhere.
            Some(wanted) if wanted.contains("opentelemetry") => parse(wanted, &quieted(wanted)),
            Some(wanted) => parse(wanted, &format!("{},opentelemetry=off", quieted(wanted))),
            None if self.is_server => {
                parse("info", &format!("{},opentelemetry=off", quieted("info")))
            }
            None => parse("error", &format!(",opentelemetry=off,{OWN_TARGET}=warn")),
        }
    }

    /// For the collector.
    pub(super) fn exported_logs(&self) -> Result<EnvFilter, LogFilterError> {
        let wanted = self.wanted.as_deref().unwrap_or("info");
        let off = CARRIERS.iter().map(|target| format!(",{target}=off"));
        let off: String = off.collect();
        parse(wanted, &(quieted(wanted) + &off))
    }
}

/// Directives that keep talkative libraries to warnings, as far as they would say more and are not
/// named.
fn quieted(wanted: &str) -> String {
    let level = |directive: &str| directive.trim().parse::<LevelFilter>().ok();
    let general = wanted.split(',').filter_map(level).max();
    if general.is_none_or(|level| level <= LevelFilter::WARN) {
        return String::new();
    }
    let unnamed = TALKATIVE.iter().filter(|target| !wanted.contains(*target));
    unnamed.map(|target| format!(",{target}=warn")).collect()
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
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    fn filter(wanted: Option<&str>) -> LogFilter {
        LogFilter {
            wanted: wanted.map(str::to_owned),
            is_server: false,
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

    /// The most that a filter lets through of a target: E, W, I, D, T or nothing.
    fn most(filter: EnvFilter, target: &'static str) -> String {
        let subscriber = tracing_subscriber::registry().with(filter);
        tracing::subscriber::with_default(subscriber, || {
            // One place in the code is one event to a filter: each level and target needs its own.
            macro_rules! shown {
                ($($name:literal)*) => {
                    match target {
                        $($name => [
                            tracing::event_enabled!(target: $name, Level::ERROR),
                            tracing::event_enabled!(target: $name, Level::WARN),
                            tracing::event_enabled!(target: $name, Level::INFO),
                            tracing::event_enabled!(target: $name, Level::DEBUG),
                            tracing::event_enabled!(target: $name, Level::TRACE),
                        ],)*
                        _ => panic!("unknown target"),
                    }
                };
            }
            let shown = shown!("slatedb::compactor" "openraft::core" "hyper_util" "control_plane");
            let letters = "EWIDT".chars().zip(shown);
            letters
                .filter_map(|(letter, on)| on.then_some(letter))
                .collect()
        })
    }

    #[test]
    fn libraries_are_quiet_unless_named() {
        let check = |wanted: Option<&str>, shown: [&str; 3]| {
            let error = || filter(wanted).standard_error().expect("a filter");
            let targets = ["control_plane", "slatedb::compactor", "hyper_util"];
            assert_eq!(
                targets.map(|target| most(error(), target)),
                shown,
                "{wanted:?}"
            );
        };
        check(None, ["E", "E", "E"]);
        check(Some("info"), ["EWI", "EW", "EW"]);
        check(Some("debug,slatedb=info"), ["EWID", "EWI", "EW"]);
        check(
            Some("trace,slatedb=trace,hyper=off"),
            ["EWIDT", "EWIDT", ""],
        );
        // What is quieter than a warning stays so.
        check(Some("error"), ["E", "E", "E"]);
        check(Some("off"), ["", "", ""]);
        check(Some("slatedb=debug"), ["", "EWID", ""]);
        let exported = |target| most(filter(None).exported_logs().expect("a filter"), target);
        let targets = [
            "control_plane",
            "slatedb::compactor",
            "openraft::core",
            "hyper_util",
        ];
        assert_eq!(targets.map(exported), ["EWI", "EW", "EW", ""]);
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
