//! The statements of a script, one after the other; a job ends before the next statement begins.

use std::{
    io::{self, IsTerminal as _, Write},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use control_plane::{
    JobEntry, JobSpec, SubmitError, job_options, job_spec,
    results::{Chunk, Feed, FeedEnd, Fold, FoldError},
};
use proto::{
    control::JobOptions,
    types::{DataType, Field},
};
use sql::{
    PlanOptions,
    error::SqlError,
    parse::parse_script,
    session::{Outcome, Session},
};

use super::{
    Format, JobReport, ResultMode,
    output::{Printer, inserts},
    progress::Progress,
};
use crate::Process;

/// Time between two looks at a running job's figures.
const PROGRESS_MS: u64 = 300;

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
    /// A result does not fold.
    #[error(transparent)]
    Fold(#[from] FoldError),
    /// The output cannot be written.
    #[error("failed to write the output: {0}")]
    Output(#[from] io::Error),
}

/// Executes the statements; rows go to `out`. When `interrupted` completes, the running job is
/// cancelled and the rest left out.
///
/// # Errors
/// At the first statement that is wrong and the first job that fails.
pub async fn run_script(
    process: &Process,
    script: &str,
    options: &ScriptOptions,
    out: &mut (dyn Write + Send),
    interrupted: impl Future<Output = ()>,
) -> Result<(Vec<JobReport>, Ended), RunError> {
    let statements = parse_script(script)?;
    let mut session = Session::new(PlanOptions::default());
    let mut run = Run {
        process,
        options,
        out,
        reports: Vec::new(),
    };
    let mut interrupted = pin!(interrupted);
    for statement in &statements {
        match session.execute(statement)? {
            Outcome::Ok(message) => run.message(&statement.text, &message)?,
            Outcome::Rows { columns, rows } => run.rows(&columns, &rows)?,
            Outcome::Job { plan, kind } => {
                let job = job_options(session.settings(), &options.job);
                let spec = job_spec(statement, session.settings(), (*plan, kind), job);
                let mode = options
                    .result
                    .unwrap_or(match session.settings().result_mode() {
                        Some(sql::settings::ResultMode::Table) => ResultMode::Final,
                        _ => ResultMode::Changelog,
                    });
                let ended = run.job(spec, mode, interrupted.as_mut()).await?;
                if ended != Ended::AtEnd {
                    return Ok((run.reports, ended));
                }
            }
        }
    }
    Ok((run.reports, Ended::AtEnd))
}

struct Run<'a> {
    process: &'a Process,
    options: &'a ScriptOptions,
    out: &'a mut (dyn Write + Send),
    reports: Vec<JobReport>,
}

impl Run<'_> {
    /// EXPLAIN's answer is a result; that a table was created is worth a word to a person only.
    fn message(&mut self, statement: &str, message: &str) -> Result<(), RunError> {
        let first = statement.split_whitespace().next().unwrap_or_default();
        if first.eq_ignore_ascii_case("EXPLAIN") {
            writeln!(self.out, "{}", message.trim_end())?;
        } else if self.options.progress && io::stderr().is_terminal() {
            writeln!(io::stderr(), "{message}")?;
        }
        Ok(())
    }

    fn rows(&mut self, columns: &[String], rows: &[Vec<Option<String>>]) -> Result<(), RunError> {
        let text: DataType = "STRING".parse().expect("the name of a type");
        let columns = columns.iter().map(|name| Field::new(name, text.clone()));
        let mut printer = Printer::new(
            &mut *self.out,
            self.options.format,
            columns.collect(),
            false,
        );
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
        printer.rows(&inserts(rows.iter().map(line).collect()))?;
        Ok(())
    }

    async fn job(
        &mut self,
        spec: JobSpec,
        mode: ResultMode,
        mut interrupted: std::pin::Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Ended, RunError> {
        let jobs = &self.process.jobs;
        let entry = jobs.submit(spec).await?;
        let mut progress = Progress::new(self.options.progress, entry.feed.is_some());
        let mut ticks = tokio::time::interval(Duration::from_millis(PROGRESS_MS));
        let result = {
            let mut work = pin!(follow(&entry, mode, self.options.format, &mut *self.out));
            loop {
                tokio::select! {
                    result = &mut work => break result,
                    () = interrupted.as_mut() => break Ok(Ended::Interrupted),
                    _ = ticks.tick() => progress.show(jobs, &entry),
                }
            }
        };
        drop(progress);
        if !matches!(result, Ok(Ended::AtEnd)) {
            // An error of the store or the worker is the one that counts.
            let _ = jobs.cancel(entry.id).await;
        }
        entry.ended().await;
        self.reports.push(JobReport::of(jobs, &entry));
        let letters = entry.dead_letters().0;
        if letters > 0 {
            writeln!(
                io::stderr(),
                "{letters} records could not be read and were left out"
            )?;
        }
        result
    }
}

/// Waits for the job's end; prints the rows of a SELECT meanwhile.
async fn follow(
    entry: &JobEntry,
    mode: ResultMode,
    format: Format,
    out: &mut (dyn Write + Send),
) -> Result<Ended, RunError> {
    let failed = |cause: String| RunError::Job {
        job: entry.id.to_string(),
        cause,
    };
    match &entry.feed {
        Some(feed) => match print(feed, mode, format, out).await {
            Ok(FeedEnd::Complete) => Ok(Ended::AtEnd),
            Ok(FeedEnd::Broken(cause)) => Err(failed(cause)),
            Err(RunError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                Ok(Ended::ReaderGone)
            }
            Err(error) => Err(error),
        },
        None => match entry.ended().await {
            control_plane::JobState::Finished => Ok(Ended::AtEnd),
            state => {
                Err(failed(entry.last_error().unwrap_or_else(|| {
                    format!("it is {}", state.name().to_lowercase())
                })))
            }
        },
    }
}

async fn print(
    feed: &Arc<Feed>,
    mode: ResultMode,
    format: Format,
    out: &mut (dyn Write + Send),
) -> Result<FeedEnd, RunError> {
    let changelog = mode == ResultMode::Changelog;
    let mut printer = Printer::new(out, format, feed.columns().to_vec(), changelog);
    let mut fold = Fold::new(feed.upsert_key());
    let mut reader = feed.reader();
    let mut printed = false;
    loop {
        match reader.next().await {
            Chunk::Rows { rows, .. } if changelog => {
                printer.rows(&rows)?;
                printed = true;
            }
            Chunk::Rows { rows, .. } => rows.iter().for_each(|row| fold.apply(row)),
            Chunk::End(FeedEnd::Complete) => break,
            Chunk::End(end) => return Ok(end),
        }
    }
    if !changelog {
        printer.rows(&inserts(fold.finish()?))?;
    } else if !printed {
        printer.rows(&[])?;
    }
    Ok(FeedEnd::Complete)
}
