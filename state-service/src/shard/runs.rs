//! Runs of one (table, key group, namespace), oldest first. Shared by the tail, by readers and by a
//! flush: whoever needs them merged first merges them for all.

use std::sync::OnceLock;

use state_client::page::{Run, merge};

/// At least one run.
#[derive(Debug)]
pub(super) struct Runs {
    runs: Vec<Run>,
    merged: OnceLock<Run>,
}

impl Runs {
    pub(super) fn new(run: Run) -> Self {
        Runs {
            runs: vec![run],
            merged: OnceLock::new(),
        }
    }

    /// These and a newer one. What was merged stays merged.
    pub(super) fn with(&self, run: Run) -> Runs {
        let mut runs = match self.merged.get() {
            Some(merged) => vec![merged.clone()],
            None => self.runs.clone(),
        };
        runs.push(run);
        Runs {
            runs,
            merged: OnceLock::new(),
        }
    }

    /// Adds a newer one, when nobody else holds these.
    pub(super) fn push(&mut self, run: Run) {
        if let Some(merged) = self.merged.take() {
            self.runs = vec![merged];
        }
        self.runs.push(run);
    }

    /// Bytes of the runs as they came.
    pub(super) fn bytes(&self) -> usize {
        self.runs.iter().map(Run::encoded_len).sum()
    }

    /// One run of all; delete marks stay, for older rows may lie below.
    pub(super) fn merged(&self) -> &Run {
        let merge = || match &self.runs[..] {
            [run] => run.clone(),
            runs => Run::open(merge(runs, false)).expect("merge writes runs"),
        };
        self.merged.get_or_init(merge)
    }

    /// The runs, at most `most` of them: more are merged.
    pub(super) fn at_most(&self, most: usize) -> &[Run] {
        match self.merged.get() {
            Some(merged) => std::slice::from_ref(merged),
            None if self.runs.len() <= most => &self.runs,
            None => std::slice::from_ref(self.merged()),
        }
    }
}
