//! What a check has found, for people and for programs.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    Check,
    look::{Look, Unneeded},
};

/// Files that are named in a report, of each kind.
const NAMED_MAX: usize = 1000;

/// What is wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// A file that is needed is not there.
    Missing,
    /// A file is not what was written.
    Damaged,
    /// A file is there that nothing needs.
    Unneeded,
}

/// Something that is wrong.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// What sort.
    pub kind: FindingKind,
    /// The file, as the store names it.
    pub path: String,
    /// What is wrong with it.
    pub what: String,
    /// What needs it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub needed_by: Vec<String>,
    /// What to do.
    pub advice: String,
}

/// What was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Read {
    pub(super) files: u64,
    pub(super) bytes: u64,
}

/// What a check has found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct CheckReport {
    /// Where the store is.
    pub store: String,
    /// Jobs of which there may be files.
    pub jobs: usize,
    /// Files that are needed.
    pub needed_files: u64,
    /// Their bytes, as far as they are there.
    pub needed_bytes: u64,
    /// Files that were read, all of them.
    pub read_files: u64,
    /// Their bytes.
    pub read_bytes: u64,
    /// Files that nothing needs, and that nodes are about to delete.
    pub waiting_files: u64,
    /// Their bytes.
    pub waiting_bytes: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// Findings that are left out, for there are too many.
    pub left_out: u64,
}

impl CheckReport {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

impl Check {
    pub(super) fn report(
        &self,
        look: &Look,
        mut findings: Vec<Finding>,
        unneeded: &BTreeMap<String, Unneeded>,
        read: Read,
    ) -> CheckReport {
        let leaked = unneeded.iter().map(|(path, file)| Finding {
            kind: FindingKind::Unneeded,
            path: path.clone(),
            what: format!("{}: {} bytes", file.what, file.bytes),
            needed_by: Vec::new(),
            advice: "state nodes delete such files by themselves: see whether one is connected and what \
                     its log says. What two checks an hour apart find, you can delete"
                .to_owned(),
        });
        findings.extend(leaked);
        findings.sort_by(|a, b| (a.kind, &a.path).cmp(&(b.kind, &b.path)));
        findings.dedup_by(|a, b| (a.kind, &a.path) == (b.kind, &b.path));
        let left_out = findings.len().saturating_sub(NAMED_MAX) as u64;
        findings.truncate(NAMED_MAX);
        let waiting = look.unneeded.iter();
        let waiting = waiting.filter(|(path, _)| !unneeded.contains_key(*path));
        let (mut files, mut bytes) = (0, 0);
        for (_, file) in waiting {
            files += 1;
            bytes += file.bytes;
        }
        CheckReport {
            store: self.config.store.place(),
            jobs: look.jobs,
            needed_files: look.needed.len() as u64,
            needed_bytes: look.needed_bytes,
            read_files: read.files,
            read_bytes: read.bytes,
            waiting_files: files,
            waiting_bytes: bytes,
            findings,
            left_out,
        }
    }
}
