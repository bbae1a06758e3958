//! Rows that workers print: `load:2> +U[17, 3, 4711]`. A `print` sink writes rows as soon as they come,
//! not after the commit of their epoch; so when one is seen here is when the job had it, and no part of
//! the time between checkpoints.

use std::{
    io::{BufRead as _, BufReader, Read},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use engine::key::hash_u64;
use proto::types::KeyGroupCount;

use crate::clock::wall_ms;

/// Jobs that are told apart by the identifier of their `print` sink.
pub(crate) const IDENTIFIERS: [&str; 2] = ["load", "fork"];

/// The task that printed a row.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Owner {
    /// Which worker.
    pub(crate) worker: u16,
    /// Index among the sink's tasks.
    pub(crate) task: u16,
}

/// A row that was seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Row {
    /// When, in ms since 1970.
    pub(crate) at_ms: i64,
    /// Which of the identifiers.
    pub(crate) job: u8,
    /// Key group of its key.
    pub(crate) group: u16,
    /// Number of the newest of the source's rows that is in it.
    pub(crate) newest: u64,
    /// Where it comes from.
    pub(crate) owner: Owner,
}

/// What is printed.
#[derive(Debug, Default)]
pub(crate) struct Printed {
    recording: AtomicBool,
    rows: Mutex<Vec<Row>>,
    /// By identifier: 1 above the newest of the source's rows that was seen.
    newest: [AtomicU64; 2],
}

impl Printed {
    /// Reads what a worker prints, until it ends.
    ///
    /// # Errors
    /// When there is no thread for it.
    pub(crate) fn listen(
        self: &Arc<Self>,
        worker: u16,
        output: impl Read + Send + 'static,
    ) -> anyhow::Result<()> {
        let printed = Arc::clone(self);
        let read = move || {
            let mut output = BufReader::with_capacity(1 << 16, output);
            let mut line = Vec::new();
            while output
                .read_until(b'\n', &mut line)
                .is_ok_and(|bytes| bytes > 0)
            {
                if let Some(row) = parse(&line, worker) {
                    printed.see(row);
                }
                line.clear();
            }
        };
        thread::Builder::new().name("rows".to_owned()).spawn(read)?;
        Ok(())
    }

    /// From now on rows are kept; those that were are forgotten.
    pub(crate) fn record(&self) {
        self.lock().clear();
        self.recording.store(true, Ordering::Relaxed);
    }

    /// The rows that were kept, in the order in which they came; none more are kept.
    pub(crate) fn take(&self) -> Vec<Row> {
        self.recording.store(false, Ordering::Relaxed);
        let mut rows = std::mem::take(&mut *self.lock());
        rows.sort_by_key(|row| row.at_ms);
        rows
    }

    /// When the first kept row of a job came.
    pub(crate) fn first_ms(&self, job: u8) -> Option<i64> {
        let rows = self.lock();
        let of_job = rows.iter().filter(|row| row.job == job);
        of_job.map(|row| row.at_ms).min()
    }

    /// How many of the source's rows were seen, or are older than one that was.
    pub(crate) fn rows_seen(&self, job: u8) -> u64 {
        self.newest[usize::from(job)].load(Ordering::Relaxed)
    }

    fn see(&self, row: Row) {
        self.newest[usize::from(row.job)].fetch_max(row.newest + 1, Ordering::Relaxed);
        if self.recording.load(Ordering::Relaxed) {
            self.lock().push(row);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Row>> {
        // Nothing panics while it is held.
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The key group of an INT key, as the engine has it: an integer and its NULL bit are one word.
pub(crate) fn key_group(key: i32) -> u16 {
    let word = u64::from(key.cast_unsigned());
    KeyGroupCount::DEFAULT.of_hash(hash_u64(word)).0
}

/// A row that is new, or has new values; `None`: anything else.
fn parse(line: &[u8], worker: u16) -> Option<Row> {
    let line = std::str::from_utf8(line).ok()?;
    let (prefix, row) = line.trim_end().split_once("> ")?;
    let row = row
        .strip_prefix("+I[")
        .or_else(|| row.strip_prefix("+U["))?;
    let (identifier, task) = prefix.split_once(':').unwrap_or((prefix, "1"));
    let job = IDENTIFIERS.iter().position(|known| *known == identifier)?;
    let mut fields = row.strip_suffix(']')?.split(',');
    let key = fields.next()?.parse().ok()?;
    let newest = fields.next_back()?.trim_start().parse().ok()?;
    // Tasks are counted from 1 in print.
    let task = task.parse::<u16>().ok()?.checked_sub(1)?;
    Some(Row {
        at_ms: wall_ms(),
        job: u8::try_from(job).ok()?,
        group: key_group(key),
        newest,
        owner: Owner { worker, task },
    })
}

#[cfg(test)]
mod tests {
    use arrow::{
        array::{ArrayRef, Int32Array},
        datatypes::DataType,
    };
    use engine::key::KeyEncoder;

    use super::*;

    #[test]
    fn key_groups_are_the_engines() {
        let keys = vec![0, 1, 77, i32::MAX, -1];
        let array: ArrayRef = Arc::new(Int32Array::from(keys.clone()));
        let encoder = KeyEncoder::new(vec![0], vec![DataType::Int32]).expect("an encoder");
        let batch = encoder.encode_arrays(&[array], keys.len()).expect("keys");
        for (key, hash) in keys.into_iter().zip(batch.hashes) {
            let group = KeyGroupCount::DEFAULT.of_hash(hash).0;
            assert_eq!(key_group(key), group, "{key}");
        }
    }

    #[test]
    fn rows_are_read_from_what_is_printed() {
        let row =
            |line: &str| parse(line.as_bytes(), 3).map(|row| (row.job, row.newest, row.owner));
        let owner = |task| Owner { worker: 3, task };
        assert_eq!(row("load:2> +U[17, 3, 4711]\n"), Some((0, 4711, owner(1))));
        assert_eq!(row("fork> +I[17, 1, 0]\n"), Some((1, 0, owner(0))));
        for other in [
            "load:2> -U[17, 2, 1]",
            "x> +I[1, 1, 1]",
            "load> +I[1, 1, null]",
            "A worker",
        ] {
            assert_eq!(row(other), None, "{other}");
        }
    }

    #[test]
    fn only_what_comes_while_one_records_is_kept() {
        let printed = Printed::default();
        let see = |newest: u64, at_ms: i64| {
            printed.see(Row {
                at_ms,
                job: 0,
                group: 1,
                newest,
                owner: Owner { worker: 0, task: 0 },
            });
        };
        see(9, 100);
        assert_eq!((printed.rows_seen(0), printed.first_ms(0)), (10, None));
        printed.record();
        see(8, 120);
        see(11, 110);
        assert_eq!((printed.rows_seen(0), printed.first_ms(0)), (12, Some(110)));
        assert_eq!(printed.first_ms(1), None);
        let newest: Vec<u64> = printed.take().iter().map(|row| row.newest).collect();
        assert_eq!(newest, [11, 8]);
    }
}
