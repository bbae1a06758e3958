//! Many seeds: each runs twice, in two processes, and both must succeed with the same trace. With a
//! planted bug, seeds must fail: how many do is told in a table.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use planted::Bug;
use tempfile::TempDir;

use crate::run::{Options, run};

/// Seeds of a run of all tests: they take about a minute.
const COUNT: u64 = 6;
/// Seeds that each planted bug is shown to.
const BUG_COUNT: u64 = 40;
/// What the code says of itself in traces, where nobody says another.
const LOG: &str = "info";
/// A run that takes longer spins.
const PATIENCE: Duration = Duration::from_secs(300);
/// Between two looks whether a run has ended.
const POLL: Duration = Duration::from_millis(10);

const HELP: &str = "\
Runs whole clusters in one thread, with faults that a seed draws.
  --seed N      run this seed, twice, and show the end of its trace
  --from N      run seeds from this one on [default: 1]
  --count N     run so many
  --bug NAME    plant a bug (a build with the feature `planted`); `all`: each in turn
  --log FILTER  what the code says of itself in the trace [default: info]
  --keep DIR    leave traces there";

/// The test's main.
#[must_use]
pub fn main() -> ExitCode {
    match Campaign::of_arguments(env::args_os().skip(1)) {
        Ok(Task::One(options, bug)) => one(&options, bug),
        Ok(Task::Many(campaign)) => campaign.run(),
        Ok(Task::Nothing) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why}\n{HELP}");
            ExitCode::from(2)
        }
    }
}

/// What the arguments ask for.
enum Task {
    /// One run, in this process.
    One(Options, Option<Bug>),
    Many(Campaign),
    /// Another test of the workspace is meant.
    Nothing,
}

struct Campaign {
    from: u64,
    count: Option<u64>,
    single: bool,
    bugs: Vec<Bug>,
    log: String,
    keep: Option<PathBuf>,
}

fn one(options: &Options, bug: Option<Bug>) -> ExitCode {
    planted::plant(bug);
    match run(options) {
        Ok(summary) => {
            println!("{summary}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            println!("{why}");
            ExitCode::FAILURE
        }
    }
}

impl Campaign {
    fn of_arguments(arguments: impl Iterator<Item = OsString>) -> Result<Task, String> {
        let mut campaign = Campaign {
            from: 1,
            count: None,
            single: false,
            bugs: Vec::new(),
            log: LOG.to_owned(),
            keep: None,
        };
        let (mut one, mut trace) = (None, PathBuf::new());
        let text = |argument: OsString| argument.into_string().map_err(|_| "not text".to_owned());
        let mut arguments = arguments.map(text);
        while let Some(argument) = arguments.next() {
            let argument = argument?;
            let mut value = || {
                arguments
                    .next()
                    .unwrap_or(Err(format!("{argument}: of what?")))
            };
            match argument.as_str() {
                "--one" => one = Some(number(&value()?)?),
                "--trace" => trace = PathBuf::from(value()?),
                "--seed" => {
                    campaign.from = number(&value()?)?;
                    campaign.count = Some(1);
                    campaign.single = true;
                }
                "--from" => campaign.from = number(&value()?)?,
                "--count" => campaign.count = Some(number(&value()?)?),
                "--bug" => campaign.bugs = bugs(&value()?)?,
                "--log" => campaign.log = value()?,
                "--keep" => campaign.keep = Some(PathBuf::from(value()?)),
                "--list" => {
                    println!("sim: test");
                    return Ok(Task::Nothing);
                }
                // What all tests of a workspace are given.
                "--nocapture" | "--quiet" | "-q" => {}
                "--test-threads" => drop(value()?),
                filter if !filter.starts_with('-') && !"sim".contains(filter) => {
                    return Ok(Task::Nothing);
                }
                filter if !filter.starts_with('-') => {}
                unknown => return Err(format!("`{unknown}` is not known")),
            }
        }
        let Some(seed) = one else {
            return Ok(Task::Many(campaign));
        };
        let options = Options {
            seed,
            trace,
            log: campaign.log,
        };
        Ok(Task::One(options, campaign.bugs.first().copied()))
    }

    fn run(&self) -> ExitCode {
        if !self.bugs.is_empty() {
            return self.table();
        }
        let count = self.count.unwrap_or(COUNT);
        println!("simulating {count} seeds from {}, each twice", self.from);
        let failures = self.each(count, |seed| self.twice(seed));
        let failed = failures.iter().filter(|(_, result)| result.is_err());
        match failed.count() {
            0 => ExitCode::SUCCESS,
            failed => {
                println!("{failed} of {count} seeds failed");
                ExitCode::FAILURE
            }
        }
    }

    /// Plants one bug after the other.
    fn table(&self) -> ExitCode {
        let count = self.count.unwrap_or(BUG_COUNT);
        let mut missed = false;
        let mut table = String::new();
        for bug in &self.bugs {
            println!(
                "planting {} in {count} seeds from {}",
                bug.name(),
                self.from
            );
            let mut results = self.each(count, |seed| self.once(seed, Some(*bug), "bug").0);
            results.sort_by_key(|(seed, _)| *seed);
            let caught: Vec<_> = results.iter().filter(|(_, r)| r.is_err()).collect();
            let first = caught
                .first()
                .map_or("-".to_owned(), |(seed, _)| seed.to_string());
            let percent = caught.len() as f64 * 100.0 / count.max(1) as f64;
            let (name, caught) = (bug.name(), caught.len());
            table += &format!("{name:<24} {caught:>5} of {count:<5} {percent:>5.1} % {first:>8}\n");
            missed |= caught == 0;
        }
        println!(
            "{:<24} {:>14} {:>7} {:>8}",
            "planted", "caught", "rate", "first"
        );
        print!("{table}");
        match missed {
            true => ExitCode::FAILURE,
            false => ExitCode::SUCCESS,
        }
    }

    /// Runs seeds side by side, and tells of each.
    fn each(
        &self,
        count: u64,
        run: impl Fn(u64) -> Result<String, String> + Sync,
    ) -> Vec<(u64, Result<String, String>)> {
        let next = AtomicU64::new(self.from);
        let end = self.from.saturating_add(count);
        let results = Mutex::new(Vec::new());
        let work = || {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= end {
                    return;
                }
                let result = run(seed);
                match &result {
                    Ok(summary) => println!("seed {seed}: {summary}"),
                    Err(why) if self.bugs.is_empty() => {
                        println!("seed {seed} FAILED: {why}\n  replay: make sim SEED={seed}");
                    }
                    Err(why) => println!("seed {seed}: caught: {why}"),
                }
                let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                results.push((seed, result));
            }
        };
        let side_by_side = thread::available_parallelism().map_or(1, usize::from);
        thread::scope(|scope| {
            for _ in 0..side_by_side {
                scope.spawn(work);
            }
        });
        results.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn twice(&self, seed: u64) -> Result<String, String> {
        let (first, first_trace) = self.once(seed, None, "first");
        let (second, second_trace) = self.once(seed, None, "second");
        if self.single {
            show_end(&first_trace.file);
        }
        if let Some(difference) = difference(&first_trace.file, &second_trace.file) {
            return Err(format!("two runs differ\n{difference}"));
        }
        first.and(second)
    }

    /// One run, in a process and a folder of its own.
    fn once(
        &self,
        seed: u64,
        bug: Option<Bug>,
        which: &str,
    ) -> (Result<String, String>, TraceFile) {
        let folder = folder();
        let file = match &self.keep {
            Some(keep) => {
                fs::create_dir_all(keep).expect("a folder");
                let keep = fs::canonicalize(keep).expect("a folder");
                keep.join(format!("{seed}-{which}.trace"))
            }
            None => folder.path().join("trace"),
        };
        let mut command = Command::new(env::current_exe().expect("a program has a name"));
        command
            .args(["--one", &seed.to_string(), "--log", &self.log, "--trace"])
            .arg(&file)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        if let Some(bug) = bug {
            command.args(["--bug", bug.name()]);
        }
        let result = end_of(command.spawn().expect("a process"));
        let trace = TraceFile {
            file,
            _folder: folder,
        };
        (result, trace)
    }
}

/// A trace, which is there as long as this is.
struct TraceFile {
    file: PathBuf,
    _folder: TempDir,
}

/// In memory where there is such a thing: files of sinks are synced one by one.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    };
    made.expect("a folder")
}

fn end_of(mut child: Child) -> Result<String, String> {
    let mut left = PATIENCE;
    let ended = loop {
        match child.try_wait().expect("a child") {
            Some(ended) => break Some(ended),
            None if left.is_zero() => break None,
            None => thread::sleep(POLL),
        }
        left = left.saturating_sub(POLL);
    };
    if ended.is_none() {
        child.kill().expect("it is ours");
        child.wait().expect("a child");
    }
    let mut said = String::new();
    let mut out = child.stdout.take().expect("a pipe");
    out.read_to_string(&mut said).expect("text");
    match ended {
        Some(ended) if ended.success() => Ok(said.trim().to_owned()),
        Some(ended) if ended.code() == Some(1) => Err(said.trim().to_owned()),
        Some(ended) => Err(format!("{ended} {}", said.trim())),
        None => Err(format!("no end after {PATIENCE:?}")),
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("`{text}` is no number"))
}

fn bugs(name: &str) -> Result<Vec<Bug>, String> {
    if !planted::POSSIBLE {
        return Err("this build has no planted bugs: build it with --features planted".to_owned());
    }
    if name == "all" {
        return Ok(Bug::ALL.to_vec());
    }
    let names = Bug::ALL.map(Bug::name).join(", ");
    let bug = Bug::of_name(name).ok_or(format!("`{name}` is none of {names}"))?;
    Ok(vec![bug])
}

/// Where two traces differ first.
fn difference(first: &Path, second: &Path) -> Option<String> {
    let lines = |path: &Path| BufReader::new(File::open(path).expect("a trace")).lines();
    let (mut ours, mut theirs) = (lines(first), lines(second));
    for line in 1.. {
        let (one, other) = (ours.next(), theirs.next());
        let text = |line: Option<Result<String, _>>| line.map(|line| line.expect("text"));
        let (one, other) = (text(one), text(other));
        if one != other {
            let shown = |text: Option<String>| text.unwrap_or("(the end)".to_owned());
            let (one, other) = (shown(one), shown(other));
            return Some(format!(
                "  line {line}, first:  {one}\n  line {line}, second: {other}"
            ));
        }
        one.as_ref()?;
    }
    None
}

fn show_end(trace: &Path) {
    const LINES: usize = 60;
    let text = fs::read_to_string(trace).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    for line in &lines[lines.len().saturating_sub(LINES)..] {
        println!("{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::draw;

    #[test]
    fn seeds_of_a_run_of_all_tests_have_state_beyond_memory_and_files() {
        let files = (1..=COUNT).filter_map(|seed| draw(seed).0.room);
        assert!(files.map(|room| room.files).max() > Some(0));
    }
}
