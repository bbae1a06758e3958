//! What figures should be, and whether they are.

use serde_json::{Value, json};

use crate::workload::Outcome;

/// Which side of its bound a figure should be on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bound {
    AtMost,
    AtLeast,
}

/// What a figure should be.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    what: String,
    bound: Bound,
    limit: f64,
    /// `None`: it could not be measured, and so is missed.
    value: Option<f64>,
}

impl Target {
    pub(crate) fn at_most(what: impl Into<String>, limit: f64, value: Option<f64>) -> Target {
        Target {
            what: what.into(),
            bound: Bound::AtMost,
            limit,
            value,
        }
    }

    pub(crate) fn at_least(what: impl Into<String>, limit: f64, value: Option<f64>) -> Target {
        Target {
            bound: Bound::AtLeast,
            ..Target::at_most(what, limit, value)
        }
    }

    fn is_met(&self) -> bool {
        self.value.is_some_and(|value| match self.bound {
            Bound::AtMost => value <= self.limit,
            Bound::AtLeast => value >= self.limit,
        })
    }

    fn side(&self) -> &'static str {
        match self.bound {
            Bound::AtMost => "at most",
            Bound::AtLeast => "at least",
        }
    }

    fn json(&self) -> Value {
        json!({
            "what": self.what,
            "target": format!("{} {}", self.side(), self.limit),
            "value": self.value,
            "met": self.is_met(),
        })
    }
}

/// The outcome of a run: its figures with the targets beside them, in one line. With `check` it is a
/// failure if one was missed.
pub(crate) fn outcome(mut figures: Value, targets: &[Target], check: bool) -> Outcome {
    let all: Vec<Value> = targets.iter().map(Target::json).collect();
    if let Some(figures) = figures.as_object_mut() {
        figures.insert("targets".to_owned(), all.into());
    }
    let missed = targets.iter().filter(|target| !target.is_met());
    let told = |target: &Target| {
        let (what, side, limit) = (&target.what, target.side(), target.limit);
        match target.value {
            Some(value) => format!("{what}: {value} instead of {side} {limit}"),
            None => format!("{what}: no figure, instead of {side} {limit}"),
        }
    };
    let missed: Vec<String> = missed.map(told).collect();
    Outcome {
        text: figures.to_string(),
        failed: check && !missed.is_empty(),
        missed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_target_fails_only_where_that_is_asked_for() {
        let targets = [
            Target::at_most("pause", 1000.0, Some(1000.0)),
            Target::at_least("ratio", 0.5, Some(0.4)),
            Target::at_most("time", 1.0, None),
        ];
        let told = outcome(json!({"a": 1}), &targets, false);
        assert_eq!(
            told.missed,
            [
                "ratio: 0.4 instead of at least 0.5",
                "time: no figure, instead of at most 1"
            ]
        );
        assert!(!told.failed && outcome(json!({}), &targets, true).failed);
        assert!(!outcome(json!({}), &targets[..1], true).failed);
        let figures: Value = serde_json::from_str(&told.text).expect("JSON");
        assert_eq!(figures["targets"][0]["met"], true);
        assert_eq!(figures["targets"][1]["target"], "at least 0.5");
        assert!(!told.text.contains('\n'));
    }
}
