//! Upgrades: a job ends, and another statement goes on with its state. Both count together, or neither:
//! whoever dies in between, there is one of the two jobs.
//!
//! | mode | the job | its successor |
//! |---|---|---|
//! | savepoint | is stopped with a savepoint | begins with that, when the job has ended |
//! | last state | gets a savepoint of its last checkpoint and ends at once | begins with that, in the same step |
//! | stateless | ends at once | begins from nothing, in the same step |
//!
//! Invariant: a job with a successor in store either ends with its savepoint or goes on as it was: a
//! failure, a user that cancels it, quarantine drop the successor.

use proto::types::JobId;
use serde::{Deserialize, Serialize};

use super::{
    Answer, Change, Desired, JobRecord, JobSpec, MetaState, OriginSpec, Outcome, Refusal,
    RestoreAt, Stop,
};
use crate::JobState;

/// What of a job's state its successor begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpgradeMode {
    /// That of a last checkpoint, all of whose output is written.
    Savepoint,
    /// That of the last checkpoint.
    LastState,
    /// None.
    Stateless,
}

/// A job that is to take another one's place.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Successor {
    /// What is to run.
    pub spec: JobSpec,
    /// Random; makes the job's [`JobRecord::run`].
    pub seed: u64,
}

/// What became of an upgrade.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Upgrade {
    /// What the successor begins with.
    pub mode: UpgradeMode,
    /// The savepoint that is made for it.
    pub savepoint: Option<String>,
    /// What is to run once the job has ended.
    pub waiting: Option<Box<Successor>>,
    /// The job that has taken its place.
    pub successor: Option<JobId>,
    /// Why it was given up.
    pub given_up: Option<String>,
}

impl JobRecord {
    /// The job does not end as it was to: nobody takes its place.
    pub(super) fn keep_place(&mut self, why: &str) {
        if let Some(upgrade) = self
            .upgrade
            .as_mut()
            .filter(|known| known.waiting.is_some())
        {
            upgrade.waiting = None;
            upgrade.given_up = Some(why.to_owned());
        }
    }

    /// Who is to take its place.
    #[must_use]
    pub fn successor(&self) -> Option<&Successor> {
        self.upgrade.as_ref()?.waiting.as_deref()
    }
}

impl MetaState {
    /// A job is to be replaced.
    pub(super) fn upgrade(&mut self, change: Change) -> Result<Answer, Refusal> {
        let Change::Upgrade {
            job,
            catalog,
            statements,
            mode,
            savepoint,
            spec,
            now_ms,
            seed,
        } = change
        else {
            return Ok(Answer::Done);
        };
        self.check_upgrade(job, mode, savepoint.as_ref())?;
        let mut spec = *spec;
        let origin = |at| Some(OriginSpec { job, at });
        spec.origin = match (mode, &savepoint) {
            (UpgradeMode::Stateless, _) => None,
            (_, Some(name)) => origin(RestoreAt::Savepoint(name.clone())),
            (_, None) => origin(RestoreAt::Newest),
        };
        if catalog.is_some_and(|version| version != self.catalog.version) {
            return Err(Refusal::CatalogMoved(self.catalog.version));
        }
        if mode != UpgradeMode::Stateless {
            self.check_cut(&spec, job)?;
        }
        let mut upgrade = Upgrade {
            mode,
            savepoint: savepoint.clone().filter(|_| mode != UpgradeMode::Stateless),
            waiting: None,
            successor: None,
            given_up: None,
        };
        let answer = match mode {
            UpgradeMode::Savepoint => {
                let successor = Successor { spec, seed };
                upgrade.waiting = Some(Box::new(successor));
                let record = self.any(job)?;
                record.desired = Desired::Stop(Stop {
                    savepoint,
                    drain: false,
                });
                record.upgrade = Some(upgrade);
                Answer::Upgraded { successor: None }
            }
            UpgradeMode::LastState | UpgradeMode::Stateless => {
                let successor = self.replace(job, upgrade, spec, (now_ms, seed))?;
                Answer::Upgraded {
                    successor: Some(successor),
                }
            }
        };
        if let Some(statements) = statements {
            self.catalog.version += 1;
            self.catalog.statements = statements;
        }
        Ok(answer)
    }

    /// A job ends at once, and another one begins.
    fn replace(
        &mut self,
        job: JobId,
        mut upgrade: Upgrade,
        spec: JobSpec,
        (now_ms, seed): (u64, u64),
    ) -> Result<JobId, Refusal> {
        if let Some(name) = upgrade.savepoint.clone() {
            // Should the successor come to nothing, there is still this.
            self.save(job, name, RestoreAt::Newest, now_ms)?;
        }
        // What it begins with is held from here on; then the other one ends.
        let successor = self.insert(spec, now_ms, seed)?;
        upgrade.successor = Some(successor);
        self.any(job)?.upgrade = Some(upgrade);
        let outcome = Outcome {
            state: JobState::Canceled,
            error: None,
            at_ms: now_ms,
        };
        self.end(job, outcome)?;
        Ok(successor)
    }

    fn check_upgrade(
        &self,
        job: JobId,
        mode: UpgradeMode,
        savepoint: Option<&String>,
    ) -> Result<(), Refusal> {
        let record = self.job(job)?;
        if record.outcome.is_some() {
            return Err(Refusal::Ended(job));
        }
        if record.spec.select.is_some() {
            return Err(Refusal::IsSelect(job));
        }
        if record.desired != Desired::Run {
            return Err(Refusal::Stopping(job));
        }
        if mode == UpgradeMode::Savepoint && record.quarantine.is_some() {
            return Err(Refusal::Quarantined(job));
        }
        if mode == UpgradeMode::LastState && record.overtaken.contains_key(&record.committed) {
            // An older one is no way out: the job has written what came after it.
            let epoch = record.committed;
            return Err(Refusal::Overtaken { job, epoch });
        }
        match savepoint {
            Some(name) => self.check_savepoint(job, name),
            None => Ok(()),
        }
    }

    /// A job that has ended well gives its place to the one that waits for it.
    pub(super) fn succeed(&mut self, job: JobId, at_ms: u64) -> Option<JobId> {
        let record = self.jobs.get_mut(&job)?;
        let upgrade = record.upgrade.as_mut()?;
        let Successor { spec, seed } = *upgrade.waiting.take()?;
        let begun = self.insert(spec, at_ms, seed);
        let upgrade = self.jobs.get_mut(&job)?.upgrade.as_mut()?;
        match begun {
            Ok(successor) => upgrade.successor = Some(successor),
            Err(refusal) => upgrade.given_up = Some(refusal.to_string()),
        }
        upgrade.successor
    }
}
