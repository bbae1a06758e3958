//! `job.autoscaler.*`: whether a job's parallelism follows its load, with the names of Flink's
//! Kubernetes operator.

use proto::policy::AutoscalePolicy;

use super::restart::percent;
use crate::connector::duration_ms;

const ENABLED: &str = "job.autoscaler.enabled";
const MIN: &str = "job.autoscaler.vertex.min-parallelism";
const MAX: &str = "job.autoscaler.vertex.max-parallelism";
const TARGET: &str = "job.autoscaler.utilization.target";
const CATCH_UP: &str = "job.autoscaler.catch-up.duration";

/// All options.
pub(super) const KEYS: [&str; 5] = [ENABLED, MIN, MAX, TARGET, CATCH_UP];

/// Options of the operator's that have nothing to switch here, with the reason.
pub(super) const IGNORED: [(&str, &str); 4] = [
    ("job.autoscaler.metrics.window", WINDOWS),
    ("job.autoscaler.stabilization.interval", WINDOWS),
    ("job.autoscaler.scale-down.interval", WINDOWS),
    ("job.autoscaler.restart.time", "a change restarts nothing"),
];

const WINDOWS: &str = "windows are of seconds, since a change costs little";

/// Whether the value is one of the key's, and which are; `None`: the key is another room's.
pub(super) fn check(key: &str, value: &str, parallelism_max: u32) -> Option<(bool, String)> {
    let least = AutoscalePolicy::TARGET_PERCENT_MIN;
    let most = AutoscalePolicy::TARGET_PERCENT_MAX;
    Some(match key {
        ENABLED => (boolean(value).is_some(), "'true' or 'false'".to_owned()),
        MIN | MAX => {
            let valid = |tasks: u32| (1..=parallelism_max).contains(&tasks);
            (
                value.parse().is_ok_and(valid),
                format!("a whole number, 1 to {parallelism_max}"),
            )
        }
        TARGET => (
            percent(value).is_some_and(|percent| (least..=most).contains(&percent)),
            format!(
                "a number, {} to {}",
                f64::from(least) / 100.0,
                f64::from(most) / 100.0
            ),
        ),
        CATCH_UP => (
            duration_ms(value).is_some_and(|ms| ms >= AutoscalePolicy::CATCH_UP_MS_MIN),
            "a duration of at least 1 s, such as '1 min'".to_owned(),
        ),
        _ => return None,
    })
}

/// What stands against the values together, though each is fine.
pub(super) fn conflict(get: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let policy = bounds(get);
    (policy.min > policy.max).then(|| {
        let (min, max) = (policy.min, policy.max);
        format!("no more tasks at least than at most, which would be {min} and {max}")
    })
}

/// A remark where nothing is scaled.
pub(super) fn remark(key: &str, get: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let off = get(ENABLED).and_then(|value| boolean(&value)) != Some(true);
    (off && key != ENABLED && KEYS.contains(&key))
        .then(|| format!("it counts where '{ENABLED}' is 'true'"))
}

/// The policy, if there is to be one.
pub(super) fn policy(get: &dyn Fn(&str) -> Option<String>) -> Option<AutoscalePolicy> {
    let enabled = boolean(&get(ENABLED)?) == Some(true);
    enabled.then(|| bounds(get))
}

fn bounds(get: &dyn Fn(&str) -> Option<String>) -> AutoscalePolicy {
    let whole = |key| get(key).and_then(|value| value.parse().ok());
    let min: Option<u32> = whole(MIN);
    let max: Option<u32> = whole(MAX);
    // One bound alone is no reason to refuse it for the sake of the other's default.
    let most = AutoscalePolicy::MAX_DEFAULT.max(min.unwrap_or_default());
    let policy = AutoscalePolicy::between(min.unwrap_or(1), max.unwrap_or(most));
    let target = get(TARGET).and_then(|value| percent(&value));
    let catch_up = get(CATCH_UP).and_then(|value| duration_ms(&value));
    AutoscalePolicy {
        target_percent: target.unwrap_or(policy.target_percent),
        catch_up_ms: catch_up.unwrap_or(policy.catch_up_ms),
        ..policy
    }
}

fn boolean(value: &str) -> Option<bool> {
    match value.to_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get<'a>(options: &'a [(&str, &str)]) -> impl Fn(&str) -> Option<String> + 'a {
        |key| {
            let mut set = options.iter();
            let of = set.find(|(known, _)| *known == key);
            of.map(|(_, value)| (*value).to_owned())
        }
    }

    #[test]
    fn a_policy_is_there_when_it_is_enabled() {
        let check = |options: &[(&str, &str)], expected| {
            assert_eq!(policy(&get(options)), expected);
        };
        check(&[], None);
        check(&[(MAX, "8")], None);
        check(&[(ENABLED, "false"), (MAX, "8")], None);
        let on = (ENABLED, "true");
        check(&[on], Some(AutoscalePolicy::between(1, 32)));
        check(&[on, (MIN, "40")], Some(AutoscalePolicy::between(40, 40)));
        check(
            &[
                on,
                (MIN, "2"),
                (MAX, "8"),
                (TARGET, "0.7"),
                (CATCH_UP, "5 min"),
            ],
            Some(AutoscalePolicy {
                min: 2,
                max: 8,
                target_percent: 70,
                catch_up_ms: 300_000,
            }),
        );
    }

    #[test]
    fn wrong_values_are_refused() {
        let refused = |key, value, expected: &str| {
            let (valid, text) = check(key, value, 256).expect("one of the keys");
            assert!(!valid, "{key} {value}");
            assert!(text.contains(expected), "{text}");
        };
        refused(ENABLED, "yes", "'true' or 'false'");
        refused(MIN, "0", "a whole number, 1 to 256");
        refused(MAX, "257", "a whole number, 1 to 256");
        refused(TARGET, "1", "a number, 0.1 to 0.95");
        refused(TARGET, "x", "a number, 0.1 to 0.95");
        refused(CATCH_UP, "10 ms", "at least 1 s");
        assert_eq!(conflict(&get(&[(MIN, "4"), (MAX, "4")])), None);
        let conflict = conflict(&get(&[(MIN, "5"), (MAX, "4")]));
        assert_eq!(
            conflict.as_deref(),
            Some("no more tasks at least than at most, which would be 5 and 4")
        );
    }

    #[test]
    fn options_of_a_job_that_is_not_scaled_are_remarked_on() {
        assert!(remark(MAX, &get(&[])).is_some());
        assert!(remark(MAX, &get(&[(ENABLED, "false")])).is_some());
        assert_eq!(remark(MAX, &get(&[(ENABLED, "true")])), None);
        assert_eq!(remark(ENABLED, &get(&[])), None);
    }
}
