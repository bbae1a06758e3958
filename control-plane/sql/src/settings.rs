//! `SET 'key' = 'value'`: what can be set, and what it means for jobs started afterwards.

mod autoscale;
mod restart;

use std::{collections::BTreeMap, num::NonZero};

use proto::policy::{AutoscalePolicy, RestartStrategy};

use crate::connector::duration_ms;
use crate::error::{Span, SqlError};
use crate::suggest::nearest;

/// How results of a bare SELECT are shown (`sql-client.execution.result-mode`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ResultMode {
    /// The rows as they stand at the end.
    Table,
    /// Every change.
    Changelog,
}

/// The options of a session.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Settings {
    /// As written, valid, by key.
    values: BTreeMap<String, String>,
}

/// Keys with an effect.
const KEYS: &[&str] = &[
    "execution.checkpointing.aligned-checkpoint-timeout",
    "execution.checkpointing.alignment-timeout",
    "execution.checkpointing.interval",
    "execution.checkpointing.num-retained",
    "execution.checkpointing.unaligned",
    "execution.checkpointing.unaligned.enabled",
    "execution.runtime-mode",
    "execution.savepoint.ignore-unclaimed-state",
    "execution.savepoint.path",
    "execution.state-recovery.ignore-unclaimed-state",
    "execution.state-recovery.path",
    LATE_ROWS_TABLE,
    "millstream.state.ttl.time-domain",
    "parallelism.default",
    "pipeline.name",
    "sql-client.execution.result-mode",
    "state.checkpoints.num-retained",
    "table.exec.sink.not-null-enforcer",
    "table.exec.source.idle-timeout",
    "table.exec.state.ttl",
    "table.local-time-zone",
    DISTINCT_BUCKETS,
    SPLIT_DISTINCT,
    MULTI_JOIN,
];

const LATE_ROWS_TABLE: &str = "millstream.late-rows.table";

const SPLIT_DISTINCT: &str = "table.optimizer.distinct-agg.split.enabled";
const DISTINCT_BUCKETS: &str = "table.optimizer.distinct-agg.split.bucket-num";

const MULTI_JOIN: &str = "table.optimizer.multi-join.enabled";

/// Buckets that are made if nothing is said, as in Flink.
const DISTINCT_BUCKETS_DEFAULT: NonZero<u32> = NonZero::new(1024).expect("more than none");
/// More buckets than key groups spread nothing further.
const DISTINCT_BUCKETS_MAX: u32 = 1 << 15;

/// Keys of older releases of Flink that mean the same as newer ones.
const RENAMED: &[(&str, &str)] = &[
    (
        "execution.checkpointing.alignment-timeout",
        "execution.checkpointing.aligned-checkpoint-timeout",
    ),
    (
        "execution.checkpointing.unaligned",
        "execution.checkpointing.unaligned.enabled",
    ),
    (
        "execution.savepoint.ignore-unclaimed-state",
        "execution.state-recovery.ignore-unclaimed-state",
    ),
    ("execution.savepoint.path", "execution.state-recovery.path"),
    (
        "state.checkpoints.num-retained",
        "execution.checkpointing.num-retained",
    ),
];

/// Checkpoints of a job that may be kept for more than its own restarts.
const RETAINED_MAX: u32 = 64;

/// Keys that Flink jobs often set and that have nothing to switch here, with the reason.
const IGNORED: &[(&str, &str)] = &[
    ("table.exec.mini-batch.allow-latency", MINI_BATCH),
    ("table.exec.mini-batch.enabled", MINI_BATCH),
    ("table.exec.mini-batch.size", MINI_BATCH),
];

const MINI_BATCH: &str = "rows are always processed in batches, and updates sent once per batch";

/// Names of the one time zone.
const UTC: &[&str] = &["UTC", "Etc/UTC", "GMT", "Z", "+00:00", "UTC+00:00", "UTC+0"];

impl Settings {
    /// Sets `key`; the answer is a message for the user. A job has at most `parallelism_max` tasks
    /// per operator.
    ///
    /// # Errors
    /// For a key that does not exist and a value that it cannot have.
    pub(crate) fn set(
        &mut self,
        (key, value): (&str, &str),
        span: Span,
        parallelism_max: u32,
    ) -> Result<String, SqlError> {
        if let Some((_, reason)) = ignored().find(|(ignored, _)| *ignored == key) {
            return Ok(format!("option '{key}' is ignored: {reason}"));
        }
        known(key, span)?;
        let value = value.trim();
        let with = |name: &str| match name == key {
            true => Some(value.to_owned()),
            false => self.get(name).map(str::to_owned),
        };
        let checked = check(key, value, parallelism_max);
        let together = || conflict(key, &with);
        if let Some(expected) = checked.err().or_else(together) {
            let message = format!("option '{key}' cannot be '{value}'");
            return Err(SqlError::validate(message)
                .at(span)
                .hint(format!("expected {expected}")));
        }
        let remark = restart::remark(key, &with).or_else(|| autoscale::remark(key, &with));
        self.values.insert(newest(key).to_owned(), value.to_owned());
        Ok(match remark {
            Some(remark) => format!("'{key}' is now '{value}'; {remark}"),
            None => format!("'{key}' is now '{value}'"),
        })
    }

    /// Forgets one key, or all.
    ///
    /// # Errors
    /// For a key that does not exist.
    pub(crate) fn reset(&mut self, key: Option<(&str, Span)>) -> Result<String, SqlError> {
        let Some((key, span)) = key else {
            self.values.clear();
            return Ok("all options have their defaults again".to_owned());
        };
        if !ignored().any(|(ignored, _)| *ignored == key) {
            known(key, span)?;
        }
        self.values.remove(newest(key));
        Ok(format!("'{key}' has its default again"))
    }

    /// Everything that is set, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// `parallelism.default`
    #[must_use]
    pub fn parallelism(&self) -> Option<u32> {
        self.get("parallelism.default")?.parse().ok()
    }

    /// `execution.checkpointing.interval`
    #[must_use]
    pub fn checkpoint_interval_ms(&self) -> Option<u64> {
        duration_ms(self.get("execution.checkpointing.interval")?)
    }

    /// `execution.checkpointing.aligned-checkpoint-timeout`, which is for ever where
    /// `execution.checkpointing.unaligned.enabled` says so; `None`: neither says anything.
    #[must_use]
    pub fn alignment_timeout_ms(&self) -> Option<Option<u64>> {
        let enabled = self.get("execution.checkpointing.unaligned.enabled");
        if enabled.is_some_and(|enabled| enabled.eq_ignore_ascii_case("false")) {
            return Some(None);
        }
        let timeout = self.get("execution.checkpointing.aligned-checkpoint-timeout")?;
        duration_ms(timeout).map(Some)
    }

    /// `execution.checkpointing.num-retained`
    #[must_use]
    pub fn retained_checkpoints(&self) -> Option<u32> {
        self.get("execution.checkpointing.num-retained")?
            .parse()
            .ok()
    }

    /// `execution.state-recovery.path`: the state that the next job begins with.
    #[must_use]
    pub fn state_path(&self) -> Option<&str> {
        self.get(STATE_PATH)
    }

    /// `execution.state-recovery.ignore-unclaimed-state`
    #[must_use]
    pub fn ignore_unclaimed_state(&self) -> bool {
        let ignore = self.get("execution.state-recovery.ignore-unclaimed-state");
        ignore.is_some_and(|ignore| ignore.eq_ignore_ascii_case("true"))
    }

    /// `table.exec.state.ttl`
    #[must_use]
    pub fn state_ttl_ms(&self) -> Option<u64> {
        duration_ms(self.get("table.exec.state.ttl")?)
    }

    /// `millstream.state.ttl.time-domain`: whether state ages by event time.
    #[must_use]
    pub fn state_ttl_in_event_time(&self) -> Option<bool> {
        let domain = self.get("millstream.state.ttl.time-domain")?;
        Some(domain.eq_ignore_ascii_case("event-time"))
    }

    /// `millstream.late-rows.table`: the table that rows go to which come too late.
    #[must_use]
    pub fn late_rows_table(&self) -> Option<&str> {
        self.get(LATE_ROWS_TABLE)
    }

    /// `table.exec.source.idle-timeout`
    #[must_use]
    pub fn idle_timeout_ms(&self) -> Option<u64> {
        duration_ms(self.get("table.exec.source.idle-timeout")?)
    }

    /// `table.exec.sink.not-null-enforcer`: whether it is DROP.
    #[must_use]
    pub fn drop_sink_nulls(&self) -> Option<bool> {
        let enforcer = self.get("table.exec.sink.not-null-enforcer")?;
        Some(enforcer.eq_ignore_ascii_case("drop"))
    }

    /// `table.optimizer.distinct-agg.split.*`: buckets of DISTINCT aggregates, if they are split.
    #[must_use]
    pub fn distinct_buckets(&self) -> Option<NonZero<u32>> {
        let enabled = self.get(SPLIT_DISTINCT)?;
        let buckets = || self.get(DISTINCT_BUCKETS)?.parse().ok();
        (enabled.eq_ignore_ascii_case("true"))
            .then(|| buckets().unwrap_or(DISTINCT_BUCKETS_DEFAULT))
    }

    /// `table.optimizer.multi-join.enabled`
    #[must_use]
    pub fn multi_joins(&self) -> Option<bool> {
        Some(self.get(MULTI_JOIN)?.eq_ignore_ascii_case("true"))
    }

    /// `pipeline.name`: the name of jobs.
    #[must_use]
    pub fn pipeline_name(&self) -> Option<&str> {
        self.get("pipeline.name")
    }

    /// `sql-client.execution.result-mode`
    #[must_use]
    pub fn result_mode(&self) -> Option<ResultMode> {
        let mode = self.get("sql-client.execution.result-mode")?;
        Some(if mode.eq_ignore_ascii_case("table") {
            ResultMode::Table
        } else {
            ResultMode::Changelog
        })
    }

    /// `restart-strategy.*`: whether and when jobs start again.
    #[must_use]
    pub fn restart_strategy(&self) -> Option<RestartStrategy> {
        restart::strategy(&|key| self.get(key).map(str::to_owned))
    }

    /// `job.autoscaler.*`: within what the parallelism of jobs follows their load.
    #[must_use]
    pub fn autoscale(&self) -> Option<AutoscalePolicy> {
        autoscale::policy(&|key| self.get(key).map(str::to_owned))
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }
}

/// All keys with an effect.
fn keys() -> impl Iterator<Item = &'static str> {
    let groups = autoscale::KEYS.iter().chain(&restart::KEYS);
    KEYS.iter().chain(groups).copied()
}

fn ignored() -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    IGNORED.iter().chain(&autoscale::IGNORED)
}

/// What stands against the options of a key's group together.
fn conflict(key: &str, with: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    if restart::KEYS.contains(&key) {
        restart::conflict(with)
    } else if autoscale::KEYS.contains(&key) {
        autoscale::conflict(with)
    } else {
        None
    }
}

/// The key by which the state is set that the next job begins with.
pub const STATE_PATH: &str = "execution.state-recovery.path";

/// The key as the newest release of Flink has it.
fn newest(key: &str) -> &str {
    let renamed = RENAMED.iter().find(|(old, _)| *old == key);
    renamed.map_or(key, |(_, new)| new)
}

fn known(key: &str, span: Span) -> Result<(), SqlError> {
    if keys().any(|known| known == key) {
        return Ok(());
    }
    let error = SqlError::validate(format!("there is no option '{key}'")).at(span);
    let ignored = ignored().map(|(key, _)| *key);
    Err(match nearest(key, keys().chain(ignored)) {
        Some(near) => error.hint(format!("did you mean '{near}'?")),
        None => {
            let known: Vec<&str> = keys().collect();
            error.hint(format!("options are {}", known.join(", ")))
        }
    })
}

/// What the value should have been, if it is wrong.
fn check(key: &str, value: &str, parallelism_max: u32) -> Result<(), String> {
    if key == "parallelism.default" {
        let valid = |tasks: u32| (1..=parallelism_max).contains(&tasks);
        if !value.parse().is_ok_and(valid) {
            return Err(format!("a whole number, 1 to {parallelism_max}"));
        }
        return Ok(());
    }
    let of_group = restart::check(key, value);
    let of_group = of_group.or_else(|| autoscale::check(key, value, parallelism_max));
    if let Some((valid, expected)) = of_group {
        return if valid { Ok(()) } else { Err(expected) };
    }
    let word = |words: &[&str]| words.iter().any(|word| word.eq_ignore_ascii_case(value));
    let retained = || {
        value
            .parse()
            .is_ok_and(|kept| (1..=RETAINED_MAX).contains(&kept))
    };
    let buckets = || {
        value
            .parse()
            .is_ok_and(|buckets| (1..=DISTINCT_BUCKETS_MAX).contains(&buckets))
    };
    let (valid, expected) = match newest(key) {
        "execution.checkpointing.num-retained" => (retained(), "a whole number, 1 to 64"),
        "execution.checkpointing.unaligned.enabled"
        | "execution.state-recovery.ignore-unclaimed-state"
        | MULTI_JOIN
        | SPLIT_DISTINCT => (word(&["true", "false"]), "'true' or 'false'"),
        DISTINCT_BUCKETS => (buckets(), "a whole number, 1 to 32768"),
        STATE_PATH => (
            !value.is_empty(),
            "'job_1/savepoints/a', 'job_1/checkpoints/17' or 'job_1', its newest checkpoint",
        ),
        "table.local-time-zone" => (word(UTC), "'UTC': the session's time zone is always UTC"),
        "execution.runtime-mode" => (word(&["streaming"]), "'streaming', the only mode"),
        "sql-client.execution.result-mode" => (
            word(&["table", "changelog", "tableau"]),
            "'table', 'changelog' or 'tableau'",
        ),
        "table.exec.sink.not-null-enforcer" => (word(&["error", "drop"]), "'ERROR' or 'DROP'"),
        "pipeline.name" => (!value.is_empty(), "a name"),
        LATE_ROWS_TABLE => (!value.is_empty(), "the name of a table"),
        "millstream.state.ttl.time-domain" => (
            word(&["processing-time", "event-time"]),
            "'processing-time' or 'event-time'",
        ),
        "table.exec.state.ttl" => (
            duration_ms(value).is_some(),
            "a duration such as '1 h', or '0': for ever",
        ),
        "execution.checkpointing.aligned-checkpoint-timeout" => (
            duration_ms(value).is_some(),
            "a duration such as '1 s', or '0 s': barriers overtake at once",
        ),
        "execution.checkpointing.interval" => (
            duration_ms(value).is_some_and(|ms| ms > 0),
            "a duration above 0, such as '10 s'",
        ),
        _ => (duration_ms(value).is_some(), "a duration such as '10 s'"),
    };
    if valid {
        Ok(())
    } else {
        Err(expected.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOWHERE: Span = Span {
        line: 1,
        column: 1,
        end_line: 1,
        end_column: 2,
    };

    #[track_caller]
    fn check(key: &str, value: &str, expected: &str) {
        let shown = match Settings::default().set((key, value), NOWHERE, 256) {
            Ok(message) => message,
            Err(error) => error.to_string(),
        };
        assert!(shown.contains(expected), "{shown}");
    }

    #[test]
    fn how_long_state_is_kept_can_be_set() {
        check("table.exec.state.ttl", "0 s", "is now '0 s'");
        check("table.exec.state.ttl", "1 h", "is now '1 h'");
        check(
            "table.exec.state.ttl",
            "1 fortnight",
            "cannot be '1 fortnight' (expected a duration such as '1 h', or '0': for ever)",
        );
        let domain = "millstream.state.ttl.time-domain";
        check(domain, "event-time", "is now 'event-time'");
        check(
            domain,
            "ingestion-time",
            "'processing-time' or 'event-time'",
        );
    }

    #[test]
    fn what_can_be_set() {
        check(
            "parallelism.default",
            "4",
            "'parallelism.default' is now '4'",
        );
        check(
            "parallelism.default",
            "0",
            "cannot be '0' (expected a whole number, 1 to 256)",
        );
        check(
            "paralelism.default",
            "4",
            "no option 'paralelism.default' (did you mean 'parallelism.default'?)",
        );
        check(
            "execution.checkpointing.interval",
            "0",
            "a duration above 0",
        );
        check(
            "execution.checkpointing.aligned-checkpoint-timeout",
            "soon",
            "or '0 s': barriers overtake at once",
        );
        check(
            "execution.checkpointing.unaligned.enabled",
            "yes",
            "'true' or 'false'",
        );
        check(
            "table.exec.mini-batch.enabled",
            "true",
            "is ignored: rows are always processed in batches",
        );
        check("table.local-time-zone", "Europe/Berlin", "always UTC");
        check("table.exec.sink.not-null-enforcer", "DROP", "is now 'DROP'");
        check(
            "table.exec.sink.not-null-enforcer",
            "x",
            "'ERROR' or 'DROP'",
        );
        check("execution.runtime-mode", "batch", "the only mode");
        check(
            "restart-strategy.type",
            "never",
            "cannot be 'never' (expected 'exponential-delay', 'fixed-delay', 'failure-rate' or 'none')",
        );
        check(
            "restart-strategy",
            "none",
            "did you mean 'restart-strategy.type'?",
        );
        check(
            "restart-strategy.fixed-delay.attempts",
            "3",
            "is now '3'; it counts where 'restart-strategy.type' is 'fixed-delay'",
        );
        check(
            "restart-strategy.exponential-delay.initial-backoff",
            "1 min",
            "cannot be '1 min' (expected an initial backoff that is not above the longest",
        );
        check("job.autoscaler.enabled", "true", "is now 'true'");
        check(
            "job.autoscaler.metrics.window",
            "15 min",
            "is ignored: windows are of seconds",
        );
    }

    #[test]
    fn how_distinct_aggregates_are_split_can_be_set() {
        check(SPLIT_DISTINCT, "on", "'true' or 'false'");
        check(DISTINCT_BUCKETS, "0", "a whole number, 1 to 32768");
        let mut settings = Settings::default();
        let mut set = |key, value| settings.set((key, value), NOWHERE, 256).expect("valid");
        set(DISTINCT_BUCKETS, "8");
        set(SPLIT_DISTINCT, "TRUE");
        assert_eq!(settings.distinct_buckets(), NonZero::new(8));
    }

    #[test]
    fn whether_joins_become_one_can_be_set() {
        check(MULTI_JOIN, "maybe", "'true' or 'false'");
        let mut settings = Settings::default();
        assert_eq!(settings.multi_joins(), None);
        settings
            .set((MULTI_JOIN, "FALSE"), NOWHERE, 256)
            .expect("valid");
        assert_eq!(settings.multi_joins(), Some(false));
    }

    #[test]
    fn options_that_contradict_each_other_are_refused() {
        let mut settings = Settings::default();
        let mut set = |key, value| settings.set((key, value), NOWHERE, 256);
        let max = "job.autoscaler.vertex.max-parallelism";
        let min = "job.autoscaler.vertex.min-parallelism";
        set(max, "4").expect("valid");
        let error = set(min, "5").expect_err("above the maximum").to_string();
        assert!(
            error.contains("no more tasks at least than at most"),
            "{error}"
        );
        set(min, "4").expect("valid");
        set("job.autoscaler.enabled", "true").expect("valid");
        let policy = settings.autoscale();
        assert_eq!(policy, Some(AutoscalePolicy::between(4, 4)));
        assert_eq!(settings.restart_strategy(), None);
    }

    #[test]
    fn what_is_set_can_be_read_and_reset() {
        let mut settings = Settings::default();
        settings
            .set(("table.exec.state.ttl", "0 s"), NOWHERE, 256)
            .expect("valid");
        settings
            .set(("sql-client.execution.result-mode", "TABLE"), NOWHERE, 256)
            .expect("valid");
        assert_eq!(settings.state_ttl_ms(), Some(0));
        assert_eq!(settings.alignment_timeout_ms(), None);
        let timeout = "execution.checkpointing.aligned-checkpoint-timeout";
        let set = settings.set((timeout, "0 s"), NOWHERE, 256);
        set.expect("valid");
        assert_eq!(settings.alignment_timeout_ms(), Some(Some(0)));
        let enabled = "execution.checkpointing.unaligned";
        let set = settings.set((enabled, "FALSE"), NOWHERE, 256);
        set.expect("valid");
        assert_eq!(settings.alignment_timeout_ms(), Some(None));
        assert_eq!(settings.result_mode(), Some(ResultMode::Table));
        settings
            .reset(Some(("table.exec.state.ttl", NOWHERE)))
            .expect("a key");
        assert_eq!(settings.state_ttl_ms(), None);
        settings.reset(None).expect("always works");
        assert_eq!(settings.iter().count(), 0);
        assert!(settings.reset(Some(("x", NOWHERE))).is_err());
    }
}
