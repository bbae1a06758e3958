//! Which generations of a job a state node's process has written for. Once it has written for one, it
//! knows of it, and takes nothing more from an older one.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// What was taken before it was known may be written so long after.
const UNDER_WAY: Duration = Duration::from_secs(2);

/// A process (host, which start of it) and a job.
type Writer = (String, u64, u64);

/// What processes have written to logs.
#[derive(Debug, Default)]
pub(crate) struct Fences {
    /// The newest generation, and since when it is known to be known.
    newest: BTreeMap<Writer, (u64, Duration)>,
    /// What was written, or is being written: an attempt may be one of many.
    known: BTreeSet<String>,
}

impl Fences {
    /// A process begins to write an object: what is wrong with that.
    pub(crate) fn write(
        &mut self,
        (host, start): (&str, u64),
        path: &str,
        now: Duration,
    ) -> Option<String> {
        let (job, generation) = logged(path)?;
        let is_new = self.known.insert(path.to_owned());
        let writer = (host.to_owned(), start, job);
        let newest = self.newest.entry(writer).or_insert((generation, now));
        if generation > newest.0 {
            *newest = (generation, now);
        }
        let is_late = is_new && generation < newest.0 && now - newest.1 > UNDER_WAY;
        is_late.then(|| format!("{host} writes {path}, and knows of generation {}", newest.0))
    }
}

/// The job and the generation of an object of a log: `…jobs/<job>/log/<generation>/…`.
fn logged(path: &str) -> Option<(u64, u64)> {
    let (_, path) = path.split_once("jobs/")?;
    let (job, path) = path.split_once("/log/")?;
    let (generation, _) = path.split_once('/')?;
    Some((job.parse().ok()?, generation.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_written_for_a_generation_takes_nothing_of_an_older_one() {
        let mut fences = Fences::default();
        let mut write = |start, path: &str, second| {
            let now = Duration::from_secs(second);
            fences.write(("s1", start), path, now)
        };
        assert_eq!(write(1, "jobs/1/log/1/5/a.rows", 1), None);
        assert_eq!(write(1, "jobs/1/log/2/21/a.rows", 2), None);
        // Under way when it came, tried again, another job's, another process, no log.
        assert_eq!(write(1, "jobs/1/log/1/6/a.rows", 3), None);
        assert_eq!(write(1, "jobs/1/log/1/6/a.rows", 9), None);
        assert_eq!(write(1, "jobs/2/log/1/5/a.rows", 9), None);
        assert_eq!(write(2, "jobs/1/log/1/7/a.rows", 9), None);
        assert_eq!(write(1, "jobs/1/shards/1/manifest/1", 9), None);
        assert!(write(1, "jobs/1/log/1/8/a.rows", 9).is_some());
    }
}
