//! The span of a decision about a job's parallelism: what was decided, why, and from which figures. It is
//! for who looks at traces; `GET /v1/jobs/{id}/autoscaler` has all of it. Bounded, whatever the plan.

use coordinator::autoscale::{Decision, DecisionKind, FragmentFigures, SourceFigures};
use proto::types::JobId;
use serde_json::{Value, json};
use tracing::{Span, field::Empty, info_span};

use crate::caps::DECISION_PARTS_TOLD;

/// Characters of a reason, and of a table's name.
const REASON_CHARS: usize = 1000;
const NAME_CHARS: usize = 40;

/// Tells a decision: its span, which begins a trace.
pub(super) fn decision_span(job: JobId, decision: &Decision) -> Span {
    let kind = match decision.kind {
        DecisionKind::Rescale => "rescale",
        DecisionKind::Revert => "revert",
        DecisionKind::Advice => "advice",
    };
    let (number, reason) = (decision.number, cut(&decision.reason, REASON_CHARS));
    let span = info_span!(
        parent: None,
        "autoscale.decide",
        %job,
        number,
        kind,
        reason,
        changes = Empty,
        catching_up = Empty,
        sources = Empty,
        operators = Empty,
    );
    span.in_scope(|| tracing::info!(%job, reason, "autoscaling has decided"));
    if !span.is_disabled() {
        // After the line of the log, which would have them, too.
        tell_figures(&span, decision);
    }
    span
}

fn tell_figures(span: &Span, decision: &Decision) {
    let figures = &decision.figures;
    let changes = decision.changes.iter();
    let changes = changes.map(|change| json!([change.fragment, change.from, change.to]));
    span.record("changes", list(changes));
    span.record("catching_up", figures.catching_up);
    span.record("sources", list(figures.sources.iter().map(source)));
    let operators = figures.fragments.iter().map(operators);
    span.record("operators", list(operators));
}

fn source(source: &SourceFigures) -> Value {
    json!({
        "fragment": source.fragment,
        "table": cut(&source.table, NAME_CHARS),
        "rows_per_s": rounded(source.rows_per_s),
        "arrival_per_s": rounded(source.arrival_per_s),
        "backlog_rows": source.backlog_rows,
        "target_per_s": rounded(source.target_per_s),
    })
}

/// Of a fragment, whose operators scale together.
fn operators(fragment: &FragmentFigures) -> Value {
    json!({
        "fragment": fragment.fragment,
        "name": fragment.name,
        "tasks": fragment.tasks,
        "needed": fragment.needed,
        "rows_per_s": rounded(fragment.rows_per_s),
        "target_per_s": rounded(fragment.target_per_s),
        "per_task_per_s": fragment.per_task_per_s.map(rounded),
        "busy": rounded(fragment.busy),
        "state_wait": rounded(fragment.state_wait),
    })
}

/// As JSON; what is left out is counted at its end.
fn list(parts: impl ExactSizeIterator<Item = Value>) -> String {
    let left_out = parts.len().saturating_sub(DECISION_PARTS_TOLD);
    let mut told: Vec<Value> = parts.take(DECISION_PARTS_TOLD).collect();
    if left_out > 0 {
        told.push(json!({ "left_out": left_out }));
    }
    Value::Array(told).to_string()
}

/// More digits say nothing.
fn rounded(figure: f64) -> f64 {
    (figure * 1000.0).round() / 1000.0
}

fn cut(text: &str, chars: usize) -> &str {
    match text.char_indices().nth(chars) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_bounded_and_says_what_is_missing() {
        let few = list((0..16).map(Value::from));
        assert_eq!(few, "[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15]");
        let many = list((0..20).map(Value::from));
        assert!(many.ends_with(r#",14,15,{"left_out":4}]"#), "{many}");
        assert_eq!(cut("äöü", 2), "äö");
        assert_eq!(cut("äöü", 3), "äöü");
    }
}
