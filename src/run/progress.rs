//! One line on the terminal about a job that runs.

use std::io::{self, IsTerminal as _, Write as _};

use control_plane::{JobEntry, JobState, Jobs};
use proto::plan::node::Operator;
use tokio::time::Instant;

use super::report::rows;

/// Shows how far a job is; shows nothing when nobody watches.
pub(super) struct Progress {
    started: Instant,
    enabled: bool,
    shown: bool,
    /// Restarts that were told of.
    generation: u64,
}

impl Progress {
    /// `rows_on_stdout`: rows are printed to standard output meanwhile.
    pub(super) fn new(wanted: bool, rows_on_stdout: bool) -> Progress {
        let beside_rows = rows_on_stdout && io::stdout().is_terminal();
        Progress {
            started: Instant::now(),
            enabled: wanted && io::stderr().is_terminal() && !beside_rows,
            shown: false,
            generation: 0,
        }
    }

    pub(super) fn show(&mut self, jobs: &Jobs, entry: &JobEntry) {
        if !self.enabled {
            return;
        }
        let read = rows(jobs, entry, |operator| {
            matches!(operator, Operator::Source(_))
        })
        .1;
        let written = rows(jobs, entry, |operator| {
            matches!(operator, Operator::Sink(_))
        })
        .0;
        self.tell_restart(entry);
        let checkpoints = entry.checkpoint_summary().count;
        // The line is for eyes only: a terminal that is gone is no reason to stop.
        let _ = write!(
            io::stderr().lock(),
            "\r\x1b[K{} {}: {} s, {read} rows read, {written} written, {checkpoints} checkpoints",
            entry.id,
            entry.state().name().to_lowercase(),
            self.started.elapsed().as_secs(),
        );
        self.shown = true;
    }

    /// A job that fails again and again looks as if it only took long.
    fn tell_restart(&mut self, entry: &JobEntry) {
        let restarting = entry.state() == JobState::Restarting;
        let generation = entry.generation().0;
        if !restarting || generation == self.generation {
            return;
        }
        self.generation = generation;
        let cause = entry.last_error().unwrap_or_default();
        let _ = writeln!(
            io::stderr().lock(),
            "\r\x1b[K{} failed and starts again: {cause}",
            entry.id
        );
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(io::stderr().lock(), "\r\x1b[K");
        }
    }
}
