//! What of a script an earlier run over the same store has done: the jobs that the store has kept
//! against the INSERTs of the script. Decides only.
//!
//! A run starts the jobs of a script one after the other, so what it leaves is the beginning of the
//! script. Anything else is another script's, or the script was changed.

use std::collections::VecDeque;

use control_plane::{JobRecord, JobSpec, JobState, shortened};
use proto::{
    plan::{ConnectorSpec, Plan, node::Operator},
    types::{Epoch, JobId},
};
use sql::{
    PlanOptions,
    error::SqlError,
    parse::ParsedStatement,
    session::{JobKind, Outcome, Session},
};

use super::RunError;

#[cfg(test)]
#[path = "resume_test.rs"]
mod resume_test;

/// Characters of a statement in an error.
const SQL_CHARS: usize = 60;

/// An INSERT or a statement set of the script.
#[derive(Clone, Debug)]
pub(super) struct ScriptJob {
    sql: String,
    plan: Plan,
}

/// A job that the store has kept.
#[derive(Clone, Debug)]
pub(super) struct KeptJob {
    id: JobId,
    spec: JobSpec,
    /// How far it is.
    committed: Epoch,
    /// How it ended, and why if it failed; `None`: it has not.
    ended: Option<(JobState, Option<String>)>,
}

/// What is done about the next INSERT of the script that the store has kept a job of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// Nothing: the job has finished.
    Skip(JobId),
    /// Wait for the job, which goes on.
    Attach(JobId, Epoch),
    /// Forget the job, which has ended in this way, and start another.
    Again(JobId, JobState, Option<String>),
}

/// The script is not the one that the store's jobs are from.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "{job}, which the store has kept of an earlier run (`{sql}`), does not belong to this script: \
     {why}; run the script as it was then, or give this one another --data-dir or --store"
)]
pub struct ScriptChanged {
    job: JobId,
    sql: String,
    why: String,
}

impl KeptJob {
    /// The job of a record that a run goes on with; `None` where nobody wants it any more. A SELECT
    /// always starts again: its rows were for a reader who has gone.
    pub(super) fn of_record(record: &JobRecord) -> Option<KeptJob> {
        let wanted = !record.forgotten && record.spec.select.is_none();
        let ended = record.outcome.as_ref();
        wanted.then(|| KeptJob {
            id: record.id,
            spec: record.spec.clone(),
            committed: record.committed,
            ended: ended.map(|outcome| (outcome.state, outcome.error.clone())),
        })
    }

    fn step(&self) -> Step {
        match &self.ended {
            None => Step::Attach(self.id, self.committed),
            Some((JobState::Finished, _)) => Step::Skip(self.id),
            Some((state, cause)) => Step::Again(self.id, *state, cause.clone()),
        }
    }

    fn does_not_fit(&self, why: String) -> ScriptChanged {
        ScriptChanged {
            job: self.id,
            sql: shortened(&self.spec.sql, SQL_CHARS),
            why,
        }
    }
}

/// What is done about the first INSERTs of the script. `kept`: the jobs of the store, in the order
/// in which they were started.
///
/// # Errors
/// When they are not from this script, or a statement is wrong before that is known.
pub(super) fn resume(
    statements: &[ParsedStatement],
    kept: &[KeptJob],
) -> Result<VecDeque<Step>, RunError> {
    let (jobs, error) = script_jobs(statements);
    match (steps(&jobs, kept), error) {
        (Err(_), Some(error)) if kept.len() > jobs.len() => Err(error.into()),
        (steps, _) => Ok(steps?),
    }
}

/// The script's INSERTs up to its end or the first statement that is wrong.
fn script_jobs(statements: &[ParsedStatement]) -> (Vec<ScriptJob>, Option<SqlError>) {
    let mut session = Session::new(PlanOptions::default());
    let mut jobs = Vec::new();
    for statement in statements {
        match session.execute(statement) {
            Ok(Outcome::Job {
                plan,
                kind: JobKind::Insert,
            }) => jobs.push(ScriptJob {
                sql: statement.text.clone(),
                plan: *plan,
            }),
            Ok(_) => {}
            Err(error) => return (jobs, Some(error)),
        }
    }
    (jobs, None)
}

fn steps(jobs: &[ScriptJob], kept: &[KeptJob]) -> Result<VecDeque<Step>, ScriptChanged> {
    let mut steps = VecDeque::with_capacity(kept.len());
    for (at, job) in kept.iter().enumerate() {
        let number = at + 1;
        let Some(wanted) = jobs.get(at) else {
            return Err(job.does_not_fit(format!("it has no INSERT number {number}")));
        };
        if wanted.sql != job.spec.sql {
            return Err(job.does_not_fit(format!("its INSERT number {number} is another")));
        }
        if wanted.plan != *job.spec.plan {
            return Err(job.does_not_fit(difference(&wanted.plan, &job.spec.plan)));
        }
        if let Some(Step::Again(before, state, _)) = steps.back() {
            let state = state.name().to_lowercase();
            let why = format!("it was started though {before}, which comes before it, is {state}");
            return Err(job.does_not_fit(why));
        }
        steps.push_back(job.step());
    }
    Ok(steps)
}

/// What it is that makes plans of the same statement differ.
fn difference(now: &Plan, then: &Plan) -> String {
    let (now, then) = (tables(now), tables(then));
    let same_names = now
        .iter()
        .map(|(name, ..)| name)
        .eq(then.iter().map(|(name, ..)| name));
    let mut pairs = now.iter().zip(&then);
    match pairs.find(|(now, then)| now != then) {
        Some(((table, ..), _)) if same_names => format!("table `{table}` was another then"),
        _ => {
            "the views, options or version of Millstream that it depends on were others then".into()
        }
    }
}

/// What a plan says of its tables: name, where it is, columns.
fn tables(plan: &Plan) -> Vec<(&str, Option<&ConnectorSpec>, String)> {
    let nodes = plan.fragments.iter().flat_map(|fragment| &fragment.nodes);
    let tables = nodes.filter_map(|node| match &node.operator {
        Some(Operator::Source(source)) => Some((
            source.table.as_str(),
            source.connector.as_ref(),
            format!(
                "{:?} {:?} {:?}",
                source.produced, source.calc, source.watermark
            ),
        )),
        Some(Operator::Sink(sink)) => Some((
            sink.table.as_str(),
            sink.connector.as_ref(),
            format!("{:?} {:?}", sink.key, sink.not_null),
        )),
        _ => None,
    });
    tables.collect()
}
