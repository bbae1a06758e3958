//! What reads of state found, and what was asked of the object store: since the start, or between two
//! moments.
//!
//! Workers count by task, since the task began, and tell it once a second; state nodes count since they began.
//! So tasks are looked at before and after what ends them, and what they did after the last look is lost.
//! The pages are those of all jobs.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    client::{Client, Operator, Task},
    scrape,
};

/// A count of a task, and its name.
type Read = (&'static str, fn(&Task) -> u64);

/// Counts of an operator's tasks.
const READS: [Read; 4] = [
    ("rows", |task| task.rows_in),
    ("misses", |task| task.state_misses),
    ("evicted_keys", |task| task.evicted_keys),
    ("scratch_reads", |task| task.scratch_reads),
];

/// Of one task, in the order of [`READS`].
type Reads = [u64; READS.len()];

/// The tasks of an operator, which come and go.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    now: BTreeMap<u32, Reads>,
    /// Of those that are not there any more, or began anew.
    before: Reads,
}

/// Counts up to a moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Counts {
    reads: Reads,
    pages_cached: u64,
    pages_fetched: u64,
    /// Of the object store, by operation.
    requests: BTreeMap<String, u64>,
    bytes: BTreeMap<String, u64>,
}

impl Tasks {
    /// Takes a look at all of them.
    pub(crate) fn look(&mut self, operator: &Operator) {
        let of = |task: &Task| (task.index, READS.map(|(_, figure)| figure(task)));
        self.see(operator.tasks.iter().map(of).collect());
    }

    fn see(&mut self, now: BTreeMap<u32, Reads>) {
        for (index, before) in std::mem::replace(&mut self.now, now) {
            let goes_on = (self.now.get(&index)).is_some_and(|now| now[0] >= before[0]);
            if !goes_on {
                add(&mut self.before, &before);
            }
        }
    }

    /// What they have done so far, and what state nodes with these metrics have.
    pub(crate) fn counts(&self, state_node_metrics: &str) -> Counts {
        let mut reads = self.before;
        self.now.values().for_each(|task| add(&mut reads, task));
        let pages = |name| scrape::sum(state_node_metrics, name, &[]) as u64;
        Counts {
            reads,
            pages_cached: pages("millstream_state_pages_cached"),
            pages_fetched: pages("millstream_state_pages_fetched"),
            requests: scrape::by_operation(state_node_metrics, scrape::REQUESTS),
            bytes: scrape::by_operation(state_node_metrics, scrape::BYTES),
        }
    }
}

fn add(sum: &mut Reads, reads: &Reads) {
    sum.iter_mut()
        .zip(reads)
        .for_each(|(sum, more)| *sum += more);
}

impl Counts {
    /// Of an operator whose tasks are those that it had from the start.
    pub(crate) fn of(operator: &Operator, state_node_metrics: &str) -> Counts {
        let mut tasks = Tasks::default();
        tasks.look(operator);
        tasks.counts(state_node_metrics)
    }

    /// What came after another moment.
    pub(crate) fn since(&self, before: &Counts) -> Counts {
        let mut reads = self.reads;
        let pairs = reads.iter_mut().zip(&before.reads);
        pairs.for_each(|(now, before)| *now = now.saturating_sub(*before));
        Counts {
            reads,
            // A shard that is opened elsewhere counts from there on.
            pages_cached: self.pages_cached.saturating_sub(before.pages_cached),
            pages_fetched: self.pages_fetched.saturating_sub(before.pages_fetched),
            requests: less(&self.requests, &before.requests),
            bytes: less(&self.bytes, &before.bytes),
        }
    }

    /// Part of the rows whose state was in memory.
    pub(crate) fn hit_rate(&self) -> Option<f64> {
        let [rows, misses, ..] = self.reads;
        rate(rows.saturating_sub(misses), rows)
    }

    /// What of the state was in memory, what of the rest in scratch files, and what of the state nodes' pages in
    /// their caches. (Rows that wait for the same key are one read: the second rate is of rows that wait, and
    /// so at least that of keys.)
    pub(crate) fn reads(&self) -> Value {
        let [_, misses, _, scratch] = self.reads;
        let pages = self.pages_cached + self.pages_fetched;
        let figures = READS.iter().zip(self.reads);
        let mut all: BTreeMap<&str, Value> = figures
            .map(|((name, _), figure)| (*name, figure.into()))
            .collect();
        all.extend([
            ("hit_rate", json!(self.hit_rate())),
            ("scratch_hit_rate", json!(rate(scratch.min(misses), misses))),
            ("pages_cached", self.pages_cached.into()),
            ("pages_fetched", self.pages_fetched.into()),
            ("page_hit_rate", json!(rate(self.pages_cached, pages))),
        ]);
        json!(all)
    }

    /// Requests and bytes by operation.
    pub(crate) fn object_store(&self) -> Value {
        json!({ "requests": self.requests, "bytes": self.bytes })
    }

    /// All of it.
    pub(crate) fn json(&self) -> Value {
        json!({ "reads": self.reads(), "object_store": self.object_store() })
    }
}

fn rate(hits: u64, all: u64) -> Option<f64> {
    (all > 0).then(|| hits as f64 / all as f64)
}

fn less(now: &BTreeMap<String, u64>, before: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let known = |name: &String| before.get(name).copied().unwrap_or_default();
    let left = |(name, count): (&String, &u64)| (name.clone(), count.saturating_sub(known(name)));
    now.iter().map(left).collect()
}

/// How much state an operator has: in memory, and in the store. That is counted now, and all of it is read
/// for that.
///
/// # Errors
/// When the server does not tell.
pub(crate) fn state(
    client: &Client,
    job: &str,
    operator: &Operator,
    state_node_metrics: &str,
) -> anyhow::Result<Value> {
    let id = &operator.id;
    let stored: Value = client.get(&format!("/v1/jobs/{job}/operators/{id}/state/size"))?;
    Ok(json!({
        "memory_rows": operator.sum(|task| task.state_rows),
        "memory_bytes": operator.sum(|task| task.state_bytes),
        "stored_bytes": stored["bytes"],
        "stored_complete": stored["complete"],
        "file_bytes": scrape::sum(state_node_metrics, "millstream_state_files_bytes", &[]),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(cached: u64, gets: u64, puts: u64) -> String {
        format!(
            "millstream_state_pages_cached {cached}\nmillstream_state_pages_fetched 10\n\
             millstream_object_store_requests_total{{operation=\"get\"}} {gets}\n\
             millstream_object_store_bytes_total{{operation=\"put\"}} {puts}\n"
        )
    }

    #[test]
    fn what_came_between_two_moments_is_told_whatever_tasks_come_and_go() {
        let mut tasks = Tasks::default();
        tasks.see([(0, [100, 50, 4, 30]), (1, [100, 10, 0, 0])].into());
        let before = tasks.counts(&metrics(10, 3, 7));
        // One goes on, one began anew, one has come; then two have gone.
        tasks.see([(0, [180, 60, 4, 36]), (1, [20, 2, 0, 1]), (2, [5, 0, 0, 0])].into());
        tasks.see([(0, [200, 70, 4, 40])].into());
        let after = tasks.counts(&metrics(40, 5, 7));
        let between = after.since(&before);
        // 100 of the first, 20 and 5 of the others.
        assert_eq!(between.reads, [125, 22, 0, 11]);
        let reads = between.reads();
        assert_eq!(reads["hit_rate"], 103.0 / 125.0);
        assert_eq!(reads["scratch_hit_rate"], 0.5);
        assert_eq!(reads["page_hit_rate"], 1.0);
        let asked = json!({"requests": {"get": 2}, "bytes": {"put": 0}});
        assert_eq!(between.object_store(), asked);
        assert_eq!(after.since(&Counts::default()), after);
        let nothing = before.since(&before).reads();
        assert_eq!(nothing["hit_rate"], Value::Null);
    }
}
