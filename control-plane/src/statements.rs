//! SQL scripts to jobs: one catalog for the whole process. A script counts in whole or not at all.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coordinator::{
    meta::{Catalog, OriginSpec, RestoreAt, UpgradeMode},
    place,
};
use proto::{control::JobOptions, plan::row_type, types::JobId};
use sql::{
    PlanOptions,
    error::SqlError,
    parse::{ParsedStatement, parse_script},
    session::{JobKind, Outcome, Session},
    settings::{STATE_PATH, Settings},
};
use tracing::{Instrument as _, info_span};

use crate::{
    JobEntry, JobSpec, Jobs, JobsError, Replacement, Script, SelectColumns, SubmitError,
    caps::{JOB_NAME_CHARS, JOBS_ACTIVE_MAX, SQL_BYTES_MAX},
    restore::{Fork, Restore, RestoreError},
};

/// The catalog of a process and the way from its statements to jobs.
pub struct Statements {
    shared: Mutex<Shared>,
    /// Scripts follow each other: each is planned against the catalog of the one before.
    turn: tokio::sync::Mutex<()>,
    jobs: Jobs,
    defaults: JobOptions,
}

/// What scripts change.
struct Shared {
    session: Session,
    /// Version of the catalog that the session is, as the metadata counts.
    version: u64,
}

/// What a statement gave.
#[derive(Clone, Debug)]
pub enum StatementResult {
    /// Done; the text says what.
    Ok(String),
    /// An answer from the catalog.
    Rows {
        /// Names of the columns.
        columns: Vec<String>,
        /// Row by row; `None` is NULL.
        rows: Vec<Vec<Option<String>>>,
    },
    /// A job was started.
    Job(Arc<JobEntry>),
}

/// Why a script was refused.
#[derive(Debug, thiserror::Error)]
pub enum StatementsError {
    /// A statement is wrong.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// A job was not accepted.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// A job cannot begin with the state that it is to begin with.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// What is said of another job does not hold.
    #[error(transparent)]
    Jobs(#[from] JobsError),
    /// More jobs would run than may.
    #[error("the statements start {new} jobs and {active} are running: there can be at most {max}")]
    TooManyJobs {
        /// Jobs of the statements.
        new: usize,
        /// Jobs that have not ended.
        active: usize,
        /// The limit.
        max: usize,
    },
    /// The text is too long.
    #[error("the statements have {bytes} bytes, more than {max}")]
    TooLong {
        /// Length of the text.
        bytes: usize,
        /// The limit.
        max: usize,
    },
}

enum Prepared {
    Done(StatementResult),
    Job(Box<JobSpec>),
}

impl Statements {
    /// Statements over `session`; jobs run with `defaults` where SET says nothing else.
    #[must_use]
    pub fn new(session: Session, jobs: Jobs, defaults: JobOptions) -> Statements {
        Statements {
            shared: Mutex::new(Shared {
                session,
                version: 0,
            }),
            turn: tokio::sync::Mutex::new(()),
            jobs,
            defaults,
        }
    }

    /// Statements over the catalog that was written down.
    ///
    /// # Errors
    /// When this build does not understand one of its statements.
    pub fn of_catalog(
        catalog: &Catalog,
        options: PlanOptions,
        jobs: Jobs,
        defaults: JobOptions,
    ) -> Result<Statements, SqlError> {
        let session = Session::replay(options, &catalog.statements)?;
        let statements = Statements::new(session, jobs, defaults);
        statements.lock().version = catalog.version;
        Ok(statements)
    }

    /// The jobs.
    #[must_use]
    pub fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    /// The session as it is now.
    #[must_use]
    pub fn session(&self) -> Session {
        self.lock().session.clone()
    }

    /// Executes the statements of a script in order and starts its jobs.
    ///
    /// # Errors
    /// When a statement is refused or a job not accepted: then none has had an effect.
    pub async fn execute(&self, script: &str) -> Result<Vec<StatementResult>, StatementsError> {
        self.execute_on(script, None).await
    }

    /// The same, where the script's one job begins with the state of another one.
    ///
    /// # Errors
    /// As [`Statements::execute`].
    pub async fn execute_on(
        &self,
        script: &str,
        restore: Option<Restore>,
    ) -> Result<Vec<StatementResult>, StatementsError> {
        // Not the text: it may hold secrets of connectors.
        let span = info_span!("statements", bytes = script.len());
        self.execute_all(script, restore).instrument(span).await
    }

    /// Finds out whether a script would be executed, as far as that can be known: nothing happens.
    ///
    /// # Errors
    /// As [`Statements::execute`].
    pub fn check(&self, script: &str, restore: Option<&Restore>) -> Result<(), StatementsError> {
        self.prepare(script, restore).map(drop)
    }

    /// Starts a copy of a job from a state of it, with other options for some of its sinks.
    ///
    /// # Errors
    /// When it is not accepted; nothing was started then, unless the error leaves that open.
    pub async fn fork(&self, fork: &Fork) -> Result<Arc<JobEntry>, StatementsError> {
        let source = self.jobs.get(fork.origin.job)?;
        self.jobs.check_kept(true)?;
        let spec = fork.spec(&source.spec, &self.session())?;
        Ok(self.jobs.submit(spec).await?)
    }

    /// Has the one job of a script take another job's place, with its state or without; which job that
    /// is, unless the other one has to end before.
    ///
    /// # Errors
    /// As [`Statements::execute`]; the job runs on as it did then.
    pub async fn upgrade(
        &self,
        job: JobId,
        script: &str,
        mode: UpgradeMode,
        savepoint: Option<String>,
        allow_unclaimed: bool,
    ) -> Result<Option<JobId>, StatementsError> {
        let _turn = self.turn.lock().await;
        let at = RestoreAt::Newest;
        let restore = (mode != UpgradeMode::Stateless).then_some(Restore {
            origin: OriginSpec { job, at },
            allow_unclaimed,
        });
        let (prepared, session) = self.prepare(script, restore.as_ref())?;
        let mut specs = prepared.into_iter().filter_map(|prepared| match prepared {
            Prepared::Job(spec) => Some(*spec),
            Prepared::Done(_) => None,
        });
        let spec = specs.next().ok_or(RestoreError::NoJob)?;
        if specs.next().is_some() {
            return Err(RestoreError::OneJob.into());
        }
        if spec.select.is_some() {
            return Err(RestoreError::Select.into());
        }
        let (before, version) = {
            let shared = self.lock();
            (shared.session.statements(), shared.version)
        };
        let statements = Some(session.statements()).filter(|after| *after != before);
        let changed = statements.is_some();
        let replacement = Replacement {
            mode,
            savepoint,
            catalog: (version, statements),
            spec,
        };
        let successor = self.jobs.upgrade(job, replacement).await?;
        *self.lock() = Shared {
            session,
            version: version + u64::from(changed),
        };
        Ok(successor)
    }

    async fn execute_all(
        &self,
        script: &str,
        restore: Option<Restore>,
    ) -> Result<Vec<StatementResult>, StatementsError> {
        let _turn = self.turn.lock().await;
        let (prepared, session) = self.prepare(script, restore.as_ref())?;
        let (before, version) = {
            let shared = self.lock();
            (shared.session.statements(), shared.version)
        };
        let statements = Some(session.statements()).filter(|after| *after != before);
        let changed = statements.is_some();
        let jobs = prepared.iter().filter_map(|prepared| match prepared {
            Prepared::Job(spec) => Some(JobSpec::clone(spec)),
            Prepared::Done(_) => None,
        });
        let jobs: Vec<JobSpec> = jobs.collect();
        let mut entries = Vec::new();
        if changed || !jobs.is_empty() {
            let script = Script {
                catalog: Some((version, statements)),
                jobs,
            };
            entries = self.jobs.accept(script).await?;
        }
        *self.lock() = Shared {
            session,
            version: version + u64::from(changed),
        };
        let mut entries = entries.into_iter();
        let results = prepared.into_iter().map(|prepared| match prepared {
            Prepared::Done(result) => Ok(result),
            Prepared::Job(_) => match entries.next() {
                Some(entry) => Ok(StatementResult::Job(entry)),
                None => Err(SubmitError::Interrupted.into()),
            },
        });
        results.collect()
    }

    /// All that can be refused is refused here, before the session changes.
    fn prepare(
        &self,
        script: &str,
        restore: Option<&Restore>,
    ) -> Result<(Vec<Prepared>, Session), StatementsError> {
        let (bytes, max) = (script.len(), SQL_BYTES_MAX);
        if bytes > max {
            return Err(StatementsError::TooLong { bytes, max });
        }
        let statements = info_span!("sql.parse").in_scope(|| parse_script(script))?;
        let mut session = self.session();
        let mut prepared = Vec::with_capacity(statements.len());
        let mut new_jobs = 0;
        let mut restore = restore.cloned();
        let mut restored = false;
        for statement in &statements {
            let outcome = info_span!("sql.plan").in_scope(|| session.execute(statement))?;
            prepared.push(match outcome {
                Outcome::Ok(message) => Prepared::Done(StatementResult::Ok(message)),
                Outcome::Rows { columns, rows } => {
                    Prepared::Done(StatementResult::Rows { columns, rows })
                }
                Outcome::Job { plan, kind } => {
                    let options = job_options(session.settings(), &self.defaults);
                    place::tasks(&plan, options.parallelism).map_err(SubmitError::from)?;
                    new_jobs += 1;
                    let spec = job_spec(statement, session.settings(), (*plan, kind), options);
                    let set = Restore::of_settings(session.settings())?;
                    let spec = match restore.take().or(set) {
                        None => spec,
                        Some(_) if restored => return Err(RestoreError::OneJob.into()),
                        Some(restore) => {
                            restored = true;
                            // It holds for one job: whoever comes next does not expect it.
                            session.execute(&forget_path()?)?;
                            restore.spec(&self.jobs, spec)?
                        }
                    };
                    Prepared::Job(Box::new(spec))
                }
            });
        }
        if restore.is_some() {
            return Err(RestoreError::NoJob.into());
        }
        let active = self.jobs.active();
        if new_jobs > 0 && active + new_jobs > JOBS_ACTIVE_MAX {
            let max = JOBS_ACTIVE_MAX;
            return Err(StatementsError::TooManyJobs {
                new: new_jobs,
                active,
                max,
            });
        }
        Ok((prepared, session))
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // A panic leaves the session as it was: it is replaced in one step.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the path of the state back that the next job begins with.
fn forget_path() -> Result<ParsedStatement, SqlError> {
    let mut reset = parse_script(&format!("RESET '{STATE_PATH}'"))?;
    reset
        .pop()
        .ok_or_else(|| SqlError::plan("RESET is a statement"))
}

/// `defaults` with what SET says.
#[must_use]
pub fn job_options(settings: &Settings, defaults: &JobOptions) -> JobOptions {
    let autoscale = settings.autoscale().or(defaults.autoscale);
    let parallelism = settings.parallelism().unwrap_or(defaults.parallelism);
    JobOptions {
        // It begins within its bounds.
        parallelism: autoscale.map_or(parallelism, |policy| {
            parallelism.max(policy.min).min(policy.max)
        }),
        autoscale,
        restart: settings.restart_strategy().unwrap_or(defaults.restart),
        checkpoint_interval_ms: settings
            .checkpoint_interval_ms()
            .unwrap_or(defaults.checkpoint_interval_ms),
        alignment_timeout_ms: settings
            .alignment_timeout_ms()
            .unwrap_or(defaults.alignment_timeout_ms),
        retained_checkpoints: settings
            .retained_checkpoints()
            .unwrap_or(defaults.retained_checkpoints),
        ..defaults.clone()
    }
}

/// The job of a planned statement.
#[must_use]
pub fn job_spec(
    statement: &ParsedStatement,
    settings: &Settings,
    (plan, kind): (proto::plan::Plan, JobKind),
    options: JobOptions,
) -> JobSpec {
    let name = match settings.pipeline_name() {
        Some(name) => name.to_owned(),
        None => shortened(&statement.text, JOB_NAME_CHARS),
    };
    JobSpec {
        name,
        sql: statement.text.clone(),
        plan: Arc::new(plan),
        options,
        select: match kind {
            JobKind::Select {
                columns,
                upsert_key,
            } => Some(SelectColumns {
                columns: row_type(&columns),
                upsert_key,
            }),
            JobKind::Insert => None,
        },
        origin: None,
        tables_max: 0,
    }
}

/// A statement in one line of so many characters at most.
#[must_use]
pub fn shortened(text: &str, characters: usize) -> String {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        // Bytes are no fewer than characters: the rest of a long text need not be read.
        if line.len() > 4 * characters {
            break;
        }
    }
    if let Some((cut, _)) = line.char_indices().nth(characters) {
        line.truncate(cut);
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short() {
        assert_eq!(shortened("SELECT\n  1", 80), "SELECT 1");
        let long = shortened(&"ü ".repeat(200), JOB_NAME_CHARS);
        assert_eq!(long.chars().count(), JOB_NAME_CHARS + 1);
    }
}
