//! The statements of a script, one after the other; a job ends before the next statement begins.

use std::{
    collections::VecDeque,
    io::{self, IsTerminal as _, Write as _},
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use control_plane::{
    JobEntry, JobSpec, JobState, Jobs, JobsError, SubmitError, job_options, job_spec,
    results::{Chunk, FeedEnd, Fold, FoldError, ResultRow},
    shortened,
};
use proto::{
    control::JobOptions,
    types::{DataType, Epoch, Field, JobId},
};
use serde_json::{Value, json};
use sql::{
    PlanOptions,
    error::SqlError,
    parse::parse_script,
    session::{Outcome, Session},
};
use tokio::io::AsyncWriteExt as _;

use super::{
    Format, JobReport, ResultMode, ScriptChanged,
    input::unbounded_table,
    output::{Output, Printer, inserts},
    progress::Progress,
    resume::Step,
};

#[cfg(test)]
#[path = "script_test.rs"]
mod script_test;

/// Time between two looks at a running job's figures.
const PROGRESS_MS: u64 = 300;

/// Characters of a statement in a word about its job.
const SQL_CHARS: usize = 60;

/// Records that could not be read and are shown; all are counted.
const DEAD_LETTERS_TOLD: usize = 3;

/// How a script is run.
#[derive(Clone, Debug)]
pub struct ScriptOptions {
    /// How rows of a SELECT are given; `None`: as SET says.
    pub result: Option<ResultMode>,
    /// How they are printed.
    pub format: Format,
    /// Defaults for jobs.
    pub job: JobOptions,
    /// Whether a terminal is told how far it is.
    pub progress: bool,
}

/// How a script ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// All statements were executed.
    AtEnd,
    /// The user wanted no more.
    Interrupted,
    /// Whoever read the output has gone.
    ReaderGone,
}

/// Why a script failed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A statement is wrong.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// A job was not accepted.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// A job failed.
    #[error("{job} failed: {cause}")]
    Job {
        /// Its name.
        job: String,
        /// Why.
        cause: String,
    },
    /// A job of the store is another script's.
    #[error(transparent)]
    Changed(#[from] ScriptChanged),
    /// What the store has of a job cannot be used, or not be forgotten.
    #[error(transparent)]
    Jobs(#[from] JobsError),
    /// A result does not fold.
    #[error(transparent)]
    Fold(#[from] FoldError),
    /// The output cannot be written.
    #[error("failed to write the output")]
    Output(#[from] io::Error),
}

/// What came of a script.
#[derive(Debug)]
pub struct ScriptRun {
    /// Its jobs, up to the one that failed.
    pub reports: Vec<JobReport>,
    /// How it ended.
    pub ended: Result<Ended, RunError>,
}

impl ScriptRun {
    /// One that came to no job.
    pub(super) fn failed(error: RunError) -> ScriptRun {
        ScriptRun {
            reports: Vec::new(),
            ended: Err(error),
        }
    }
}

/// What earlier runs of the script have done, and this one.
pub(super) struct Kept {
    /// For the first INSERTs of the script.
    steps: VecDeque<Step>,
    /// Jobs of the script that have finished; the store remembers them until all have.
    done: Vec<JobId>,
}

impl Kept {
    pub(super) fn new(steps: VecDeque<Step>) -> Kept {
        Kept {
            steps,
            done: Vec::new(),
        }
    }
}

/// Executes the statements; rows go to `out`. When `interrupted` completes, the running job is
/// cancelled and the rest left out. Ends at the first statement that is wrong and the first job that
/// fails.
pub async fn run_script(
    jobs: &Jobs,
    script: &str,
    options: &ScriptOptions,
    out: &mut Output,
    interrupted: impl Future<Output = ()>,
) -> ScriptRun {
    run_script_over(jobs, None, script, options, out, interrupted).await
}

/// The same, where `kept` says what of the script is there already.
pub(super) async fn run_script_over(
    jobs: &Jobs,
    kept: Option<Kept>,
    script: &str,
    options: &ScriptOptions,
    out: &mut Output,
    interrupted: impl Future<Output = ()>,
) -> ScriptRun {
    let mut run = Run {
        jobs,
        kept,
        options,
        out,
        reports: Vec::new(),
    };
    let ended = match run.script(script, pin!(interrupted)).await {
        Err(RunError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            Ok(Ended::ReaderGone)
        }
        ended => ended,
    };
    ScriptRun {
        reports: run.reports,
        ended,
    }
}

struct Run<'a> {
    jobs: &'a Jobs,
    /// `None`: jobs end with the process.
    kept: Option<Kept>,
    options: &'a ScriptOptions,
    out: &'a mut Output,
    reports: Vec<JobReport>,
}

impl Run<'_> {
    async fn script(
        &mut self,
        script: &str,
        mut interrupted: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Ended, RunError> {
        let statements = parse_script(script)?;
        if statements.is_empty() {
            self.note("nothing to run: the script has no statements");
        }
        let mut session = Session::new(PlanOptions::default());
        for statement in &statements {
            let ended = match session.execute(statement)? {
                Outcome::Ok(message) => {
                    let message = self.message(&statement.text, &message);
                    unless(interrupted.as_mut(), message).await?
                }
                Outcome::Rows { columns, rows } => {
                    let rows = self.rows(&columns, &rows);
                    unless(interrupted.as_mut(), rows).await?
                }
                Outcome::Job { plan, kind } => {
                    let job = job_options(session.settings(), &self.options.job);
                    let spec = job_spec(statement, session.settings(), (*plan, kind), job);
                    let set = session.settings().result_mode();
                    let mode = self.options.result.unwrap_or(match set {
                        Some(sql::settings::ResultMode::Table) => ResultMode::Final,
                        _ => ResultMode::Changelog,
                    });
                    self.job(spec, mode, interrupted.as_mut()).await?
                }
            };
            if ended != Ended::AtEnd {
                return Ok(ended);
            }
        }
        self.forget_jobs().await?;
        Ok(Ended::AtEnd)
    }

    /// All has been executed: the next run is a new one.
    async fn forget_jobs(&mut self) -> Result<(), JobsError> {
        match self.kept.take() {
            // At once: half of them would look like a run that was stopped.
            Some(kept) => self.jobs.delete_all(kept.done).await,
            None => Ok(()),
        }
    }

    /// A word to a person, beside the results.
    fn note(&self, text: &str) {
        if self.options.progress {
            // Nobody there to read it is no reason to stop.
            let _ = writeln!(io::stderr(), "{text}");
        }
    }

    /// EXPLAIN's answer is a result; that a table was created is worth a word to a person only.
    async fn message(&mut self, statement: &str, message: &str) -> Result<(), RunError> {
        let first = statement.split_whitespace().next().unwrap_or_default();
        if first.eq_ignore_ascii_case("EXPLAIN") {
            let text = match self.options.format {
                Format::Json => json!({"plan": plan_json(message)}).to_string(),
                Format::Table | Format::Tsv => message.trim_end().to_owned(),
            };
            self.out.write_all(format!("{text}\n").as_bytes()).await?;
            self.out.flush().await?;
        } else if io::stderr().is_terminal() {
            self.note(message);
        }
        Ok(())
    }

    async fn rows(
        &mut self,
        columns: &[String],
        rows: &[Vec<Option<String>>],
    ) -> Result<(), RunError> {
        let text: DataType = "STRING".parse().expect("the name of a type");
        let columns = columns.iter().map(|name| Field::new(name, text.clone()));
        let mut printer = Printer::new(self.options.format, columns.collect(), false);
        let line = |row: &Vec<Option<String>>| {
            let mut line = String::new();
            for (index, value) in row.iter().enumerate() {
                if index > 0 {
                    line.push('\t');
                }
                match value {
                    Some(value) => control_plane::results::escape(value, &mut line),
                    None => line.push_str("\\N"),
                }
            }
            Arc::from(line)
        };
        let rows = inserts(rows.iter().map(line).collect());
        Ok(printer.print(self.out, &rows).await?)
    }

    async fn job(
        &mut self,
        spec: JobSpec,
        mode: ResultMode,
        mut interrupted: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Ended, RunError> {
        let jobs = self.jobs;
        let Some(entry) = self.begin(spec).await? else {
            return Ok(Ended::AtEnd);
        };
        let rows_at_the_end = mode == ResultMode::Final && entry.feed.is_some();
        if rows_at_the_end && let Some(table) = unbounded_table(&entry.spec.plan) {
            self.note(&format!(
                "`{table}` never ends, and rows are printed at its end: use --result changelog to see them as they change"
            ));
        }
        let mut progress = Progress::new(
            self.options.progress,
            entry.feed.is_some() && !rows_at_the_end,
        );
        let mut ticks = tokio::time::interval(Duration::from_millis(PROGRESS_MS));
        let mut printer = Printer::new(
            self.options.format,
            entry
                .feed
                .as_ref()
                .map_or_else(Vec::new, |feed| feed.columns().to_vec()),
            mode == ResultMode::Changelog,
        );
        let followed = {
            let mut work = pin!(follow(&entry, mode, &mut printer, &mut *self.out));
            loop {
                tokio::select! {
                    result = &mut work => break result,
                    () = interrupted.as_mut() => break Ok(Followed::Interrupted),
                    _ = ticks.tick() => progress.show(jobs, &entry),
                }
            }
        };
        drop(progress);
        let interrupted_at_work = matches!(followed, Ok(Followed::Interrupted));
        // What is kept goes on in the next run, and is not waited for in this one.
        if !(interrupted_at_work && self.kept.is_some() && entry.feed.is_none()) {
            if !matches!(followed, Ok(Followed::Ended | Followed::Rows(_))) {
                // An error of the store or the worker is the one that counts.
                let _ = jobs.cancel(entry.id).await;
            }
            entry.ended().await;
        }
        self.reports.push(JobReport::of(jobs, &entry));
        self.tell_dead_letters(&entry);
        self.keep(&entry).await?;
        match followed? {
            Followed::Ended => Ok(Ended::AtEnd),
            Followed::Interrupted => Ok(Ended::Interrupted),
            Followed::Rows(rows) => {
                let print = async { Ok(printer.print(self.out, &rows).await?) };
                unless(interrupted, print).await
            }
        }
    }

    /// The job of a statement; `None`: an earlier run has finished it.
    async fn begin(&mut self, spec: JobSpec) -> Result<Option<Arc<JobEntry>>, RunError> {
        let jobs = self.jobs;
        let step = match &mut self.kept {
            Some(kept) if spec.select.is_none() => kept.steps.pop_front(),
            _ => None,
        };
        let Some(step) = step else {
            return Ok(Some(jobs.submit(spec).await?));
        };
        let sql = shortened(&spec.sql, SQL_CHARS);
        Ok(match step {
            Step::Skip(job) => {
                self.note(&format!(
                    "{job} has finished already, and is left out: {sql}"
                ));
                self.kept.iter_mut().for_each(|kept| kept.done.push(job));
                None
            }
            Step::Attach(job, from) => {
                let entry = jobs.get(job)?;
                let from = match from {
                    Epoch::ZERO => "the beginning of its input",
                    _ => "its last checkpoint",
                };
                let options = match entry.spec.options == spec.options {
                    true => "",
                    false => " and with the options that it was started with",
                };
                self.note(&format!("{job} goes on from {from}{options}: {sql}"));
                Some(entry)
            }
            Step::Again(job, state, cause) => {
                // First: of two jobs of one statement the next run would not know which counts.
                jobs.delete(job).await?;
                let entry = jobs.submit(spec).await?;
                let state = state.name().to_lowercase();
                let cause = cause.map_or_else(String::new, |cause| format!(" ({cause})"));
                let new = entry.id;
                self.note(&format!(
                    "{job} is {state}{cause}; {new} starts anew: {sql}"
                ));
                Some(entry)
            }
        })
    }

    /// What the store has to remember of a job that was followed.
    async fn keep(&mut self, entry: &JobEntry) -> Result<(), JobsError> {
        let Some(kept) = &mut self.kept else {
            return Ok(());
        };
        if entry.feed.is_some() {
            return self.jobs.delete(entry.id).await;
        }
        if entry.state() == JobState::Finished {
            kept.done.push(entry.id);
        }
        Ok(())
    }

    fn tell_dead_letters(&self, entry: &JobEntry) {
        let (count, letters) = entry.dead_letters();
        if count == 0 {
            return;
        }
        let records = if count == 1 { "record" } else { "records" };
        let mut text = format!("{count} {records} could not be read:");
        for letter in letters.iter().take(DEAD_LETTERS_TOLD) {
            let (split, position, cause) = (&letter.split, &letter.position, &letter.cause);
            text.push_str(&format!("\n  {split}, {position}: {cause}"));
        }
        if letters.len() > DEAD_LETTERS_TOLD {
            text.push_str("\n  …");
        }
        // Whoever wants results only has them; nobody there to read it is no reason to stop.
        let _ = writeln!(io::stderr(), "{text}");
    }
}

/// What comes first: the end of `work`, or that the user wants no more.
async fn unless(
    interrupted: Pin<&mut impl Future<Output = ()>>,
    work: impl Future<Output = Result<(), RunError>>,
) -> Result<Ended, RunError> {
    tokio::select! {
        result = work => result.map(|()| Ended::AtEnd),
        () = interrupted => Ok(Ended::Interrupted),
    }
}

/// A compiled plan is JSON already.
fn plan_json(message: &str) -> Value {
    match serde_json::from_str(message) {
        Ok(plan @ Value::Object(_)) => plan,
        _ => message.trim_end().into(),
    }
}

/// What following a job gave.
enum Followed {
    /// It has ended, and its rows, if there are any, are printed.
    Ended,
    /// It has ended; these are its rows.
    Rows(Vec<ResultRow>),
    /// The user wanted no more.
    Interrupted,
}

/// Waits for the job's end; prints the changes of a SELECT meanwhile.
async fn follow(
    entry: &JobEntry,
    mode: ResultMode,
    printer: &mut Printer,
    out: &mut Output,
) -> Result<Followed, RunError> {
    let failed = |cause: String| RunError::Job {
        job: entry.id.to_string(),
        cause,
    };
    let Some(feed) = &entry.feed else {
        return match entry.ended().await {
            JobState::Finished => Ok(Followed::Ended),
            state => {
                let cause = entry.last_error();
                Err(failed(cause.unwrap_or_else(|| {
                    format!("it is {}", state.name().to_lowercase())
                })))
            }
        };
    };
    let mut fold = Fold::new(feed.upsert_key());
    let mut reader = feed.reader();
    let mut printed = false;
    loop {
        match reader.next().await {
            Chunk::Rows { rows, .. } if mode == ResultMode::Changelog => {
                printer.print(out, &rows).await?;
                printed = true;
            }
            Chunk::Rows { rows, .. } => rows.iter().for_each(|row| fold.apply(row)),
            Chunk::End(FeedEnd::Complete) => break,
            Chunk::End(FeedEnd::Broken(cause)) => return Err(failed(cause)),
        }
    }
    if mode == ResultMode::Final {
        return Ok(Followed::Rows(inserts(fold.finish()?)));
    }
    if !printed {
        printer.print(out, &[]).await?;
    }
    Ok(Followed::Ended)
}
