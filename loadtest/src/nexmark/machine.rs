//! What figures were measured on and of.

use std::{fs, path::Path, process::Command};

use serde::Serialize;

/// A machine, and the program that ran on it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Machine {
    pub(super) cores: usize,
    pub(super) processor: String,
    pub(super) memory_bytes: u64,
    pub(super) system: String,
    /// The commit that the working directory is at; with `+` if there are changes to it.
    pub(super) commit: String,
    /// The day, UTC.
    pub(super) day: String,
}

impl Machine {
    /// This one.
    pub(super) fn here() -> Machine {
        let read = |path: &str| fs::read_to_string(Path::new(path)).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            let value = line.and_then(|line| line.split_once(':'));
            value.map(|(_, value)| value.trim().to_owned())
        };
        let memory = field(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
        let kilobytes = memory.split(' ').next().and_then(|n| n.parse::<u64>().ok());
        let processor = field(&read("/proc/cpuinfo"), "model name");
        Machine {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            processor: processor.unwrap_or_else(|| "unknown".to_owned()),
            memory_bytes: kilobytes.unwrap_or_default() * 1024,
            system: said("uname", &["-sr"]),
            commit: commit(),
            day: said("date", &["-u", "+%Y-%m-%d"]),
        }
    }

    /// The same for people.
    pub(super) fn line(&self) -> String {
        let gibibytes = self.memory_bytes as f64 / f64::from(1 << 30);
        format!(
            "{}, commit {}, {} cores ({}), {gibibytes:.0} GiB, {}.",
            self.day, self.commit, self.cores, self.processor, self.system,
        )
    }
}

fn commit() -> String {
    let commit = said("git", &["rev-parse", "--short=12", "HEAD"]);
    let changed = !said("git", &["status", "--porcelain", "--untracked-files=no"]).is_empty();
    match commit.as_str() {
        "" => "unknown".to_owned(),
        commit if changed => format!("{commit}+"),
        commit => commit.to_owned(),
    }
}

/// What a program prints; nothing if it fails.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.ok().filter(|output| output.status.success());
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_default()
}
