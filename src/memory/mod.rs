//! How much memory a process may use, and what for.

mod arbiter;
mod resident;

use std::{fmt, num::NonZero, sync::Arc};

use crate::scratch::ScratchPlan;
use anyhow::bail;
use clap::Args;
use engine::memory::MemoryPool;
use state_service::{
    NodeLimits, StateNodeConfig,
    pages::{PageLimits, block_cache},
};
use sysinfo::{MemoryRefreshKind, RefreshKind, System};
use tokio::runtime::Handle;

pub(crate) use resident::resident_bytes;

/// Less is too little for anything.
const BYTES_MIN: u64 = 256 << 20;
/// What a process takes that holds no state: code, plans, connections.
const BYTES_OF_CODE: u64 = 96 << 20;
/// Files of state are not made smaller than this, however little memory there is.
const FILE_BYTES_MIN: usize = 8 << 20;
/// Of the memory that there is, what is taken if nothing is said.
const PERCENT_TAKEN: u64 = 80;

/// How much memory to use.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct MemoryArgs {
    /// Memory for this process, such as 4GiB. State beyond it is read from the store when it is
    /// needed [default: 80 % of what its control group or the machine has]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory: Option<u64>,
}

impl MemoryArgs {
    /// What is asked for, or what there is.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.memory.unwrap_or_else(available)
    }

    /// For a process that has nowhere to put what does not fit.
    ///
    /// # Errors
    /// When a size is given.
    pub(crate) fn check_unused(self) -> anyhow::Result<()> {
        match self.memory {
            Some(_) => {
                bail!("--memory needs a store to read state from: give --data-dir or --store")
            }
            None => Ok(()),
        }
    }
}

/// The argument that gives each of so many processes of this machine its part of `given`, or of what
/// there is: together they take no more, however many of them run.
///
/// # Errors
/// When that is too little.
pub(crate) fn part_for_each(
    given: Option<u64>,
    processes: NonZero<u32>,
) -> anyhow::Result<[String; 2]> {
    let part = match given {
        Some(all) => part_of("--workers-memory", all, processes)?,
        // A machine that is so small is for trying things out.
        None => (available() / u64::from(processes.get())).max(BYTES_MIN),
    };
    Ok(["--memory".to_owned(), in_mib(part)])
}

/// An equal part of the bytes that `argument` gives to so many processes together.
///
/// # Errors
/// When that is too little.
pub(crate) fn part_of(argument: &str, all: u64, processes: NonZero<u32>) -> anyhow::Result<u64> {
    let part = all / u64::from(processes.get());
    if part < BYTES_MIN {
        let (each, least) = (part >> 20, BYTES_MIN >> 20);
        bail!(
            "{argument} leaves {each}MiB for each of {processes} workers, and a worker needs at \
             least {least}MiB: give more, or fewer --workers-max"
        );
    }
    Ok(part)
}

/// Bytes as an argument.
pub(crate) fn in_mib(bytes: u64) -> String {
    format!("{}MiB", bytes >> 20)
}

/// Memory by purpose, in bytes. The rest is for what is on its way: batches, deltas, requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryPlan {
    /// All that the process may take.
    pub process: u64,
    /// State that operators hold, as far as all else takes what is expected.
    pub working_sets: u64,
    /// Merged pages of state, for reads.
    pub page_cache: u64,
    /// Blocks of files, their indexes and filters.
    pub block_cache: u64,
    /// Committed rows that are not in files yet, and as much again that is being flushed.
    pub tails: u64,
    /// Rows of epochs that are not committed. Beside tasks it is what these hold until then, so that nothing
    /// is won by refusing it.
    pub staged: u64,
}

impl MemoryPlan {
    /// Of a process that has all tiers.
    #[must_use]
    pub fn of_all_tiers(bytes: u64) -> MemoryPlan {
        let part = parts(bytes);
        MemoryPlan {
            process: bytes,
            working_sets: part(55),
            page_cache: part(6),
            block_cache: part(6),
            tails: part(6),
            staged: part(25),
        }
    }

    /// Of a worker.
    #[must_use]
    pub fn of_worker(bytes: u64) -> MemoryPlan {
        MemoryPlan {
            process: bytes,
            working_sets: parts(bytes)(75),
            page_cache: 0,
            block_cache: 0,
            tails: 0,
            staged: 0,
        }
    }

    /// Of a state node.
    #[must_use]
    pub fn of_state_node(bytes: u64) -> MemoryPlan {
        let part = parts(bytes);
        MemoryPlan {
            process: bytes,
            working_sets: 0,
            page_cache: part(30),
            block_cache: part(25),
            tails: part(12),
            staged: part(12),
        }
    }

    /// The pool of working sets, and where what it has no room for goes. On a runtime, where its bound is
    /// moved by what all else takes.
    #[must_use]
    pub fn pool(&self, scratch: &ScratchPlan) -> Arc<MemoryPool> {
        let pool = MemoryPool::with_scratch(arbiter::first_bound(self), scratch.open());
        arbiter::watch(&pool, self, &Handle::current());
        pool
    }

    /// Bounds a state node, but for its pages.
    pub fn bound(&self, node: &mut StateNodeConfig) {
        node.block_cache = Some(block_cache(self.block_cache));
        let usual = NodeLimits::default();
        let at_most =
            |usual: usize, bytes: u64| usize::try_from(bytes).map_or(usual, |b| b.min(usual));
        node.limits = NodeLimits {
            tail_bytes: at_most(usual.tail_bytes, self.tails),
            unflushed_bytes: at_most(usual.unflushed_bytes, 2 * self.tails),
            shard_tail_bytes: at_most(usual.shard_tail_bytes, self.tails / 2),
            // What is flushed is in memory thrice meanwhile.
            flushes_max: if self.tails < usual.tail_bytes as u64 {
                1
            } else {
                usual.flushes_max
            },
            staged_bytes: at_most(usual.staged_bytes, self.staged),
            kept_bytes: at_most(usual.kept_bytes, self.staged),
            output_bytes: at_most(usual.output_bytes, self.tails / 4),
            ..usual
        };
        let pages = PageLimits::default();
        node.page_limits.rewritten_bytes_max = at_most(pages.rewritten_bytes_max, self.tails / 4);
        let file = at_most(pages.file_bytes_max, self.tails);
        node.page_limits.file_bytes_max = file.max(FILE_BYTES_MIN);
    }
}

fn parts(bytes: u64) -> impl Fn(u64) -> u64 {
    let state = bytes.saturating_sub(BYTES_OF_CODE);
    move |percent| state / 100 * percent
}

/// What a process may take here.
fn available() -> u64 {
    let kind = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    let system = System::new_with_specifics(kind);
    let machine = system.total_memory();
    let group = system.cgroup_limits().map(|limits| limits.total_memory);
    let bytes = group.unwrap_or(machine).min(machine);
    (bytes / 100 * PERCENT_TAKEN).max(BYTES_MIN)
}

/// Why a text is no amount of memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SizeError {
    NoNumber,
    Unit(String),
    TooSmall,
    TooLarge,
}

impl fmt::Display for SizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SizeError::NoNumber => write!(f, "a number and a unit are needed, such as 4GiB"),
            SizeError::Unit(unit) => {
                write!(f, "`{unit}` is no unit: use MiB, GiB, TiB (or MB, GB, TB)")
            }
            SizeError::TooSmall => write!(f, "a process needs at least 256MiB"),
            SizeError::TooLarge => write!(f, "so many bytes do not exist"),
        }
    }
}

impl std::error::Error for SizeError {}

/// Reads an amount of memory that a process can do with.
pub(crate) fn size(text: &str) -> Result<u64, SizeError> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    if number.is_empty() {
        return Err(SizeError::NoNumber);
    }
    let number: u64 = number.parse().map_err(|_| SizeError::TooLarge)?;
    let unit = unit.trim();
    let bytes: u64 = match unit.to_ascii_lowercase().as_str() {
        "m" | "mi" | "mib" => 1 << 20,
        "g" | "gi" | "gib" => 1 << 30,
        "t" | "ti" | "tib" => 1 << 40,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "" => return Err(SizeError::NoNumber),
        _ => return Err(SizeError::Unit(unit.to_owned())),
    };
    let bytes = number.checked_mul(bytes).ok_or(SizeError::TooLarge)?;
    match bytes < BYTES_MIN {
        true => Err(SizeError::TooSmall),
        false => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_refused() {
        assert_eq!(size("256MiB"), Ok(256 << 20));
        assert_eq!(size(" 2 g"), Ok(2 << 30));
        assert_eq!(size("1TB"), Ok(1_000_000_000_000));
        assert_eq!(size("GiB"), Err(SizeError::NoNumber));
        assert_eq!(size("1024"), Err(SizeError::NoNumber));
        assert_eq!(size("1.5GiB"), Err(SizeError::Unit(".5GiB".to_owned())));
        assert_eq!(size("100MiB"), Err(SizeError::TooSmall));
        assert_eq!(size("99999999999999999TB"), Err(SizeError::TooLarge));
    }

    #[test]
    fn processes_of_one_machine_share_its_memory() {
        let processes = |count| NonZero::new(count).expect("some");
        let given = Some(4 << 30);
        for (count, part) in [(1, "4096MiB"), (3, "1365MiB"), (16, "256MiB")] {
            let argument = part_for_each(given, processes(count)).expect("enough");
            assert_eq!(argument, ["--memory".to_owned(), part.to_owned()]);
            let bytes = size(&argument[1]).expect("a process takes it");
            assert!(bytes * u64::from(count) <= 4 << 30);
        }
        let error = part_for_each(given, processes(17)).expect_err("too little");
        let error = error.to_string();
        assert!(error.contains("240MiB for each of 17"), "{error}");
        let all = part_for_each(None, processes(1)).expect("what there is");
        assert_eq!(size(&all[1]), Ok(available() >> 20 << 20));
        let small = part_for_each(None, processes(u32::MAX)).expect("it is tried");
        assert_eq!(small[1], "256MiB");
    }

    #[test]
    fn what_is_given_away_is_less_than_there_is() {
        for bytes in [BYTES_MIN, 4 << 30] {
            for plan in [
                MemoryPlan::of_all_tiers(bytes),
                MemoryPlan::of_worker(bytes),
                MemoryPlan::of_state_node(bytes),
            ] {
                let tails = 2 * plan.tails;
                let given = plan.working_sets + plan.page_cache + plan.block_cache + tails;
                assert!(given <= bytes / 100 * 90, "{plan:?} of {bytes}");
            }
        }
        assert!(available() >= BYTES_MIN);
    }
}
