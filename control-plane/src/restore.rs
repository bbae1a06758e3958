//! Jobs that begin with the state of others: what a user writes for it, and the specs that come of
//! it. A plan that does not fit is refused before anything happens.

use std::{collections::BTreeMap, sync::Arc};

use coordinator::{
    fit::{Misfit, fit},
    meta::{JobSpec, OriginSpec, RestoreAt},
};
use proto::{
    plan::{Plan, node::Operator},
    types::{Epoch, JobId},
};
use sql::{error::SqlError, session::Session, settings::Settings};

use crate::{Jobs, JobsError};

/// Why a job cannot begin with a state.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The path does not name one.
    #[error("`{0}` is not the path of a state")]
    Path(String),
    /// There is no such job.
    #[error(transparent)]
    Jobs(#[from] JobsError),
    /// The plan does not fit.
    #[error("the state of {job} does not fit: {why}")]
    Misfit {
        /// The job whose state it is.
        job: JobId,
        /// Why.
        why: Misfit,
    },
    /// A SELECT cannot go on with anything: who reads it would not know what was before.
    #[error("a SELECT cannot begin with the state of another job")]
    Select,
    /// Several jobs would.
    #[error("one job can begin with a state, and the statements start several")]
    OneJob,
    /// None would.
    #[error("the statements start no job that could begin with a state")]
    NoJob,
    /// A sink is not one of the job's.
    #[error("{job} writes to no table `{table}`, but to {}", .tables.join(", "))]
    Sink {
        /// The job.
        job: JobId,
        /// What was named.
        table: String,
        /// What it has.
        tables: Vec<String>,
    },
    /// A sink cannot be written elsewhere.
    #[error(transparent)]
    Sql(#[from] SqlError),
}

/// The state that a new job begins with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Restore {
    /// Which.
    pub origin: OriginSpec,
    /// State that the job's plan has no use for is left alone; else it is refused.
    pub allow_unclaimed: bool,
}

impl Restore {
    /// What SET says.
    pub(crate) fn of_settings(settings: &Settings) -> Result<Option<Restore>, RestoreError> {
        let Some(path) = settings.state_path() else {
            return Ok(None);
        };
        Ok(Some(Restore {
            origin: origin_of(path)?,
            allow_unclaimed: settings.ignore_unclaimed_state(),
        }))
    }

    /// The spec of a job that begins with it.
    pub(crate) fn spec(&self, jobs: &Jobs, new: JobSpec) -> Result<JobSpec, RestoreError> {
        if new.select.is_some() {
            return Err(RestoreError::Select);
        }
        jobs.check_kept(true)?;
        let job = self.origin.job;
        let source = jobs.get(job)?;
        let fitted = fit(&source.spec, new, self.allow_unclaimed);
        let mut spec = fitted.map_err(|why| RestoreError::Misfit { job, why })?;
        // How state is cut is fixed.
        spec.options.shards = source.spec.options.shards;
        spec.origin = Some(self.origin.clone());
        Ok(spec)
    }
}

/// `job_1/savepoints/a`, `job_1/checkpoints/17` or `job_1`.
fn origin_of(path: &str) -> Result<OriginSpec, RestoreError> {
    let bad = || RestoreError::Path(path.to_owned());
    let mut parts = path.trim_end_matches('/').split('/');
    let job = parts.next().filter(|job| job.starts_with("job_"));
    let job: JobId = job.and_then(|job| job.parse().ok()).ok_or_else(bad)?;
    let at = match (parts.next(), parts.next()) {
        (None, _) => RestoreAt::Newest,
        (Some("savepoints"), Some(name)) => RestoreAt::Savepoint(name.to_owned()),
        (Some("checkpoints"), Some(epoch)) => {
            RestoreAt::Checkpoint(Epoch(epoch.parse().map_err(|_| bad())?))
        }
        _ => return Err(bad()),
    };
    match parts.next() {
        None => Ok(OriginSpec { job, at }),
        Some(_) => Err(bad()),
    }
}

/// A copy of a job.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fork {
    /// The state that it begins with.
    pub origin: OriginSpec,
    /// Its name; `None`: made from that of the job.
    pub name: Option<String>,
    /// Other options of tables that it writes to.
    pub sinks: BTreeMap<String, BTreeMap<String, String>>,
}

impl Fork {
    /// The copy's spec.
    pub(crate) fn spec(
        &self,
        source: &JobSpec,
        session: &Session,
    ) -> Result<JobSpec, RestoreError> {
        if source.select.is_some() {
            return Err(RestoreError::Select);
        }
        let mut plan = (*source.plan).clone();
        self.write_elsewhere(&mut plan, session)?;
        let name = (self.name.clone()).unwrap_or_else(|| format!("{} (fork)", source.name));
        Ok(JobSpec {
            name,
            plan: Arc::new(plan),
            origin: Some(self.origin.clone()),
            ..source.clone()
        })
    }

    fn write_elsewhere(&self, plan: &mut Plan, session: &Session) -> Result<(), RestoreError> {
        let mut tables = Vec::new();
        let nodes = plan
            .fragments
            .iter_mut()
            .flat_map(|fragment| &mut fragment.nodes);
        for node in nodes {
            let Some(Operator::Sink(sink)) = node.operator.clone() else {
                continue;
            };
            tables.push(sink.table.clone());
            let Some(options) = self.sinks.get(&sink.table) else {
                continue;
            };
            let options: Vec<(String, String)> = options.clone().into_iter().collect();
            let spec = session.sink_elsewhere(node, &sink, &options)?;
            if let Some(Operator::Sink(sink)) = &mut node.operator {
                sink.connector = Some(spec);
            }
        }
        let is_known = |table: &&String| tables.contains(*table);
        match self.sinks.keys().find(|table| !is_known(table)) {
            None => Ok(()),
            Some(table) => Err(RestoreError::Sink {
                job: self.origin.job,
                table: table.clone(),
                tables,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_states() {
        let job = JobId(1);
        for (path, at) in [
            ("job_1", RestoreAt::Newest),
            ("job_1/", RestoreAt::Newest),
            ("job_1/checkpoints/17", RestoreAt::Checkpoint(Epoch(17))),
            ("job_1/savepoints/a", RestoreAt::Savepoint("a".into())),
        ] {
            let origin = origin_of(path).expect("a path");
            assert_eq!(origin, OriginSpec { job, at }, "{path}");
        }
        for path in [
            "",
            "1",
            "job_x",
            "job_1/savepoints",
            "job_1/checkpoints/x",
            "job_1/savepoints/a/b",
            "file:///tmp/savepoint",
        ] {
            assert!(origin_of(path).is_err(), "{path}");
        }
    }
}
