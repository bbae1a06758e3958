//! `restart-strategy.*`: whether and when a failed job starts again, with Flink's names.

use proto::policy::{ExponentialDelay, RestartStrategy};

use crate::connector::duration_ms;

const TYPE: &str = "restart-strategy.type";
const ATTEMPTS: &str = "restart-strategy.fixed-delay.attempts";
const DELAY: &str = "restart-strategy.fixed-delay.delay";
const INITIAL: &str = "restart-strategy.exponential-delay.initial-backoff";
const MAX: &str = "restart-strategy.exponential-delay.max-backoff";
const MULTIPLIER: &str = "restart-strategy.exponential-delay.backoff-multiplier";
const JITTER: &str = "restart-strategy.exponential-delay.jitter-factor";
const RESET: &str = "restart-strategy.exponential-delay.reset-backoff-threshold";
const IN_A_ROW: &str = "restart-strategy.exponential-delay.attempts-before-reset-backoff";
const FAILURES: &str = "restart-strategy.failure-rate.max-failures-per-interval";
const INTERVAL: &str = "restart-strategy.failure-rate.failure-rate-interval";
const RATE_DELAY: &str = "restart-strategy.failure-rate.delay";

/// All options.
pub(super) const KEYS: [&str; 12] = [
    TYPE, ATTEMPTS, DELAY, INITIAL, MAX, MULTIPLIER, JITTER, RESET, IN_A_ROW, FAILURES, INTERVAL,
    RATE_DELAY,
];

/// Flink's defaults of the strategies that a job does not have by itself.
const ATTEMPTS_DEFAULT: u32 = 1;
const DELAY_DEFAULT_MS: u64 = 1000;
const FAILURES_DEFAULT: u32 = 1;
const INTERVAL_DEFAULT_MS: u64 = 60_000;

/// Most that a wait may grow by at once.
const MULTIPLIER_MAX: f64 = 100.0;

/// The strategies by their names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    None,
    Fixed,
    Exponential,
    Rate,
}

fn kind(value: &str) -> Option<Kind> {
    match value.to_lowercase().as_str() {
        "none" | "off" | "disable" => Some(Kind::None),
        "fixed-delay" | "fixeddelay" => Some(Kind::Fixed),
        "exponential-delay" | "exponentialdelay" => Some(Kind::Exponential),
        "failure-rate" | "failurerate" => Some(Kind::Rate),
        _ => None,
    }
}

/// Whether the value is one of the key's, and which are; `None`: the key is another room's.
pub(super) fn check(key: &str, value: &str) -> Option<(bool, String)> {
    let whole = |from: u32, to: u32| {
        let valid = value.parse().is_ok_and(|n: u32| (from..=to).contains(&n));
        let expected = match to {
            u32::MAX => format!("a whole number of at least {from}"),
            to => format!("a whole number, {from} to {to}"),
        };
        (valid, expected)
    };
    let duration = |least_ms: u64| {
        let valid = duration_ms(value).is_some_and(|ms| ms >= least_ms);
        let expected = match least_ms {
            0 => "a duration such as '10 s'",
            _ => "a duration above 0, such as '10 s'",
        };
        (valid, expected.to_owned())
    };
    Some(match key {
        TYPE => (
            kind(value).is_some(),
            "'exponential-delay', 'fixed-delay', 'failure-rate' or 'none'".to_owned(),
        ),
        ATTEMPTS => whole(0, u32::MAX),
        IN_A_ROW => whole(1, u32::MAX),
        FAILURES => whole(1, RestartStrategy::FAILURES_MAX),
        DELAY | RATE_DELAY => duration(0),
        INITIAL | MAX | RESET | INTERVAL => duration(1),
        MULTIPLIER => (
            percent(value).is_some_and(|p| (100..=(MULTIPLIER_MAX * 100.0) as u32).contains(&p)),
            format!("a number, 1 to {MULTIPLIER_MAX}"),
        ),
        JITTER => (
            percent(value).is_some_and(|p| p <= 100),
            "a number, 0 to 1".to_owned(),
        ),
        _ => return None,
    })
}

/// What stands against the values together, though each is fine.
pub(super) fn conflict(get: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let delays = exponential(get);
    (delays.initial_ms > delays.max_ms).then(|| {
        let (initial, max) = (delays.initial_ms, delays.max_ms);
        format!("an initial backoff that is not above the longest: {initial} ms and {max} ms")
    })
}

/// A remark where the option belongs to a strategy that is not the one in force.
pub(super) fn remark(key: &str, get: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let of = if [ATTEMPTS, DELAY].contains(&key) {
        (Kind::Fixed, "fixed-delay")
    } else if [FAILURES, INTERVAL, RATE_DELAY].contains(&key) {
        (Kind::Rate, "failure-rate")
    } else if KEYS.contains(&key) && key != TYPE {
        (Kind::Exponential, "exponential-delay")
    } else {
        return None;
    };
    let in_force = get(TYPE).and_then(|value| kind(&value));
    let (kind, name) = of;
    (in_force.unwrap_or(Kind::Exponential) != kind)
        .then(|| format!("it counts where '{TYPE}' is '{name}'"))
}

/// The strategy that is set, if anything is.
pub(super) fn strategy(get: &dyn Fn(&str) -> Option<String>) -> Option<RestartStrategy> {
    if !KEYS.iter().any(|key| get(key).is_some()) {
        return None;
    }
    let ms = |key| get(key).and_then(|value| duration_ms(&value));
    let whole = |key| get(key).and_then(|value| value.parse().ok());
    let kind = get(TYPE).and_then(|value| kind(&value));
    Some(match kind.unwrap_or(Kind::Exponential) {
        Kind::None => RestartStrategy::None,
        Kind::Fixed => RestartStrategy::FixedDelay {
            attempts: whole(ATTEMPTS).unwrap_or(ATTEMPTS_DEFAULT),
            delay_ms: ms(DELAY).unwrap_or(DELAY_DEFAULT_MS),
        },
        Kind::Exponential => RestartStrategy::ExponentialDelay(exponential(get)),
        Kind::Rate => RestartStrategy::FailureRate {
            failures_max: whole(FAILURES).unwrap_or(FAILURES_DEFAULT),
            interval_ms: ms(INTERVAL).unwrap_or(INTERVAL_DEFAULT_MS),
            delay_ms: ms(RATE_DELAY).unwrap_or(DELAY_DEFAULT_MS),
        },
    })
}

fn exponential(get: &dyn Fn(&str) -> Option<String>) -> ExponentialDelay {
    let ms = |key| get(key).and_then(|value| duration_ms(&value));
    let part = |key| get(key).and_then(|value| percent(&value));
    let default = ExponentialDelay::default();
    ExponentialDelay {
        initial_ms: ms(INITIAL).unwrap_or(default.initial_ms),
        max_ms: ms(MAX).unwrap_or(default.max_ms),
        multiplier_percent: part(MULTIPLIER).unwrap_or(default.multiplier_percent),
        jitter_percent: part(JITTER).unwrap_or(default.jitter_percent),
        reset_after_ms: ms(RESET).unwrap_or(default.reset_after_ms),
        attempts: get(IN_A_ROW).and_then(|value| value.parse().ok()),
    }
}

/// `1.5` as 150.
pub(super) fn percent(value: &str) -> Option<u32> {
    let number: f64 = value.parse().ok()?;
    let percent = (number * 100.0).round();
    (0.0..=f64::from(u32::MAX))
        .contains(&percent)
        .then_some(percent as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The strategy of these options, or what is wrong with one.
    fn of(options: &[(&str, &str)]) -> Result<Option<RestartStrategy>, String> {
        for (key, value) in options {
            let (valid, expected) = check(key, value).expect("one of the keys");
            if !valid {
                return Err(expected);
            }
        }
        let get = |key: &str| {
            let mut set = options.iter();
            let of = set.find(|(known, _)| *known == key);
            of.map(|(_, value)| (*value).to_owned())
        };
        match conflict(&get) {
            Some(expected) => Err(expected),
            None => Ok(strategy(&get)),
        }
    }

    #[test]
    fn strategies_are_those_of_flink() {
        let check = |options: &[(&str, &str)], expected| assert_eq!(of(options), Ok(expected));
        check(&[], None);
        for none in ["none", "off", "disable", "NONE"] {
            check(&[(TYPE, none)], Some(RestartStrategy::None));
        }
        check(
            &[(TYPE, "fixed-delay")],
            Some(RestartStrategy::FixedDelay {
                attempts: 1,
                delay_ms: 1000,
            }),
        );
        check(
            &[(TYPE, "fixeddelay"), (ATTEMPTS, "3"), (DELAY, "10 s")],
            Some(RestartStrategy::FixedDelay {
                attempts: 3,
                delay_ms: 10_000,
            }),
        );
        check(
            &[(TYPE, "failure-rate"), (FAILURES, "3"), (INTERVAL, "5 min")],
            Some(RestartStrategy::FailureRate {
                failures_max: 3,
                interval_ms: 300_000,
                delay_ms: 1000,
            }),
        );
        check(
            &[(TYPE, "exponential-delay")],
            Some(RestartStrategy::default()),
        );
        check(
            &[
                (INITIAL, "1 s"),
                (MAX, "1 min"),
                (MULTIPLIER, "1.5"),
                (JITTER, "0.1"),
                (RESET, "1 h"),
                (IN_A_ROW, "20"),
            ],
            Some(RestartStrategy::ExponentialDelay(ExponentialDelay {
                initial_ms: 1000,
                max_ms: 60_000,
                multiplier_percent: 150,
                jitter_percent: 10,
                reset_after_ms: 3_600_000,
                attempts: Some(20),
            })),
        );
    }

    #[test]
    fn wrong_values_are_refused() {
        let check = |options: &[(&str, &str)], expected: &str| {
            let error = of(options).expect_err("refused");
            assert!(error.contains(expected), "{error}");
        };
        check(&[(TYPE, "sometimes")], "'failure-rate' or 'none'");
        check(&[(ATTEMPTS, "-1")], "a whole number of at least 0");
        check(&[(IN_A_ROW, "0")], "a whole number of at least 1");
        check(&[(FAILURES, "1001")], "a whole number, 1 to 1000");
        check(&[(DELAY, "soon")], "a duration such as '10 s'");
        check(&[(INTERVAL, "0")], "a duration above 0");
        check(&[(MULTIPLIER, "0.9")], "a number, 1 to 100");
        check(&[(MULTIPLIER, "NaN")], "a number, 1 to 100");
        check(&[(JITTER, "1.1")], "a number, 0 to 1");
        check(&[(JITTER, "-0.1")], "a number, 0 to 1");
        check(
            &[(INITIAL, "2 min")],
            "an initial backoff that is not above the longest: 120000 ms and 30000 ms",
        );
    }

    #[test]
    fn options_of_another_strategy_are_remarked_on() {
        let with = |value: Option<&'static str>| {
            move |key: &str| value.filter(|_| key == TYPE).map(str::to_owned)
        };
        let remarked = |key, value| remark(key, &with(value));
        assert_eq!(
            remarked(ATTEMPTS, None).as_deref(),
            Some("it counts where 'restart-strategy.type' is 'fixed-delay'")
        );
        assert_eq!(remarked(ATTEMPTS, Some("fixed-delay")), None);
        assert_eq!(remarked(JITTER, None), None);
        assert!(remarked(JITTER, Some("none")).is_some());
        assert!(remarked(FAILURES, None).is_some());
        assert_eq!(remarked(TYPE, Some("none")), None);
    }
}
