//! How a job's parallelism follows its load: `GET /v1/jobs/{id}/autoscaler`.

use axum::Json;
use coordinator::autoscale::{
    Autoscaler, AutoscalerState, Decision, DecisionKind, Figures, FragmentFigures, Outcome,
    SourceFigures,
};
use proto::policy::AutoscalePolicy;
use serde::Serialize;
use utoipa::ToSchema;

use super::{jobs::Named, problem::Problem};
use crate::{JobEntry, caps::DECISIONS_LISTED};

/// How a job's parallelism follows its load.
#[derive(Serialize, ToSchema, Debug)]
pub(super) struct AutoscalerView {
    /// Within what it follows it; null: its parallelism is fixed.
    policy: Option<PolicyView>,
    /// off, watching, waiting_for_capacity, moving or verifying.
    state: &'static str,
    /// What more tasks do not help against, as it is now.
    notes: Vec<String>,
    /// What was measured last.
    observation: Option<ObservationView>,
    /// The last decisions, newest first. A server that begins to lead knows no older ones.
    decisions: Vec<DecisionView>,
}

/// Within what a job's parallelism follows its load.
#[derive(Serialize, ToSchema, Debug)]
pub(super) struct PolicyView {
    /// Tasks that each part of the plan has at least.
    min: u32,
    /// Tasks that it has at most.
    max: u32,
    /// Part of its time that a task should be at work.
    #[schema(example = 0.8)]
    target_utilisation: f64,
    /// Time in which what has piled up before a source should be worked off.
    catch_up_ms: u64,
}

/// What a window of some seconds showed.
#[derive(Serialize, ToSchema, Debug)]
pub(super) struct ObservationView {
    /// When it ended, in ms since the job was submitted.
    after_ms: u64,
    /// Whether more rows wait before a source than is usual.
    catching_up: bool,
    /// What comes in.
    sources: Vec<SourceView>,
    /// What is done with it, in the order of the data.
    fragments: Vec<FragmentView>,
}

/// A source.
#[derive(Serialize, ToSchema, Debug)]
pub(super) struct SourceView {
    /// Part of the plan that reads it.
    fragment: u32,
    table: String,
    /// Rows read per second.
    rows_per_s: f64,
    /// New rows per second.
    arrival_per_s: f64,
    /// Rows that wait; null: it cannot tell.
    backlog_rows: Option<u64>,
    /// Rows that must be read per second to work off what waits in time.
    target_per_s: f64,
}

/// A part of the plan. Shares are parts of its tasks' time.
#[derive(Serialize, ToSchema, Debug)]
pub(super) struct FragmentView {
    fragment: u32,
    /// What it does, in a word.
    name: String,
    tasks: u32,
    /// Whether it runs as one task whatever comes.
    singleton: bool,
    /// Rows taken in per second.
    rows_per_s: f64,
    /// Rows that it must take in per second for all that is wanted and can be had.
    target_per_s: f64,
    /// Rows that one task takes in per second at work: its true processing rate.
    per_task_per_s: Option<f64>,
    /// At work, on average.
    busy: f64,
    /// At work, of the busiest task.
    busiest: f64,
    /// Without room downstream, on average.
    blocked: f64,
    /// Waiting for state, on average.
    state_wait: f64,
    /// Part of its rows that stays at one task, as a hot key does.
    hot: f64,
    /// Tasks that it needs, without regard to bounds.
    needed: u32,
}

/// A decision.
#[derive(Serialize, ToSchema, Debug)]
pub(super) struct DecisionView {
    /// Counts the job's decisions.
    number: u64,
    /// When, in ms since the job was submitted.
    after_ms: u64,
    /// rescale, revert (of a step that did not help) or advice.
    kind: &'static str,
    /// Why.
    reason: String,
    /// What it changes.
    changes: Vec<ChangeView>,
    /// said, waiting (for capacity), moving, verifying, kept, did_not_help or failed.
    outcome: &'static str,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// What it was made from.
    observation: ObservationView,
}

/// Another number of tasks.
#[derive(Serialize, ToSchema, Debug)]
pub(super) struct ChangeView {
    fragment: u32,
    from: u32,
    to: u32,
}

impl PolicyView {
    pub(super) fn of(policy: AutoscalePolicy) -> PolicyView {
        PolicyView {
            min: policy.min,
            max: policy.max,
            target_utilisation: f64::from(policy.target_percent) / 100.0,
            catch_up_ms: policy.catch_up_ms,
        }
    }
}

/// Get a job's autoscaler
///
/// Within what its parallelism follows its load, what was measured last, and the last decisions with
/// what they were made from.
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}/autoscaler",
    operation_id = "getAutoscaler",
    tag = "jobs",
    params(("id" = String, Path, description = "Id of the job")),
    responses(
        (status = 200, description = "How it follows its load", body = AutoscalerView),
        (status = 404, description = "There is no such job", body = Problem),
    ),
)]
pub(super) async fn get(Named(entry): Named) -> Json<AutoscalerView> {
    let policy = entry.autoscale();
    Json(entry.with_autoscaler(|scaler| {
        AutoscalerView {
            state: match scaler {
                _ if policy.is_none() => "off",
                None => "watching",
                Some(scaler) => state(scaler.state()),
            },
            notes: notes(scaler.filter(|_| policy.is_some())),
            observation: scaler
                .and_then(Autoscaler::figures)
                .map(|figures| observation(&entry, figures)),
            decisions: scaler.map_or_else(Vec::new, |scaler| decisions(&entry, scaler)),
            policy: policy.map(PolicyView::of),
        }
    }))
}

fn state(state: AutoscalerState) -> &'static str {
    match state {
        AutoscalerState::Watching => "watching",
        AutoscalerState::WaitingForCapacity => "waiting_for_capacity",
        AutoscalerState::Moving => "moving",
        AutoscalerState::Verifying => "verifying",
    }
}

fn notes(scaler: Option<&Autoscaler>) -> Vec<String> {
    let notes = scaler.into_iter().flat_map(Autoscaler::notes);
    notes.map(str::to_owned).collect()
}

fn decisions(entry: &JobEntry, scaler: &Autoscaler) -> Vec<DecisionView> {
    let newest = scaler.decisions().rev().take(DECISIONS_LISTED);
    newest
        .map(|decision| decision_view(entry, decision))
        .collect()
}

fn decision_view(entry: &JobEntry, decision: &Decision) -> DecisionView {
    let change = |change: &coordinator::autoscale::Change| ChangeView {
        fragment: change.fragment,
        from: change.from,
        to: change.to,
    };
    DecisionView {
        number: decision.number,
        after_ms: after_ms(entry, decision.at_us),
        kind: match decision.kind {
            DecisionKind::Rescale => "rescale",
            DecisionKind::Revert => "revert",
            DecisionKind::Advice => "advice",
        },
        reason: decision.reason.clone(),
        changes: decision.changes.iter().map(change).collect(),
        outcome: match decision.outcome {
            Outcome::Said => "said",
            Outcome::Waiting => "waiting",
            Outcome::Moving => "moving",
            Outcome::Verifying => "verifying",
            Outcome::Kept => "kept",
            Outcome::DidNotHelp => "did_not_help",
            Outcome::Failed { .. } => "failed",
        },
        error: match &decision.outcome {
            Outcome::Failed { why } => Some(why.clone()),
            _ => None,
        },
        observation: observation(entry, &decision.figures),
    }
}

fn after_ms(entry: &JobEntry, at_us: u64) -> u64 {
    at_us.saturating_sub(entry.created_us) / 1000
}

fn observation(entry: &JobEntry, figures: &Figures) -> ObservationView {
    ObservationView {
        after_ms: after_ms(entry, figures.at_us),
        catching_up: figures.catching_up,
        sources: figures.sources.iter().map(source).collect(),
        fragments: figures.fragments.iter().map(fragment).collect(),
    }
}

fn source(source: &SourceFigures) -> SourceView {
    SourceView {
        fragment: source.fragment,
        table: source.table.clone(),
        rows_per_s: source.rows_per_s,
        arrival_per_s: source.arrival_per_s,
        backlog_rows: source.backlog_rows,
        target_per_s: source.target_per_s,
    }
}

fn fragment(fragment: &FragmentFigures) -> FragmentView {
    FragmentView {
        fragment: fragment.fragment,
        name: fragment.name.clone(),
        tasks: fragment.tasks,
        singleton: fragment.singleton,
        rows_per_s: fragment.rows_per_s,
        target_per_s: fragment.target_per_s,
        per_task_per_s: fragment.per_task_per_s,
        busy: fragment.busy,
        busiest: fragment.busiest,
        blocked: fragment.blocked,
        state_wait: fragment.state_wait,
        hot: fragment.hot,
        needed: fragment.needed,
    }
}
