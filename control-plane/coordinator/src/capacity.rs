//! How many workers there should be for the tasks that jobs want: more at once, fewer only after a
//! while, because tasks that go may come back and a worker takes time to start.

use std::collections::BTreeMap;

use proto::types::JobId;
use serde::{Deserialize, Serialize};

/// Within what the number of workers follows the jobs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CapacityPolicy {
    /// Tasks of each fragment that a worker has room for, over all jobs.
    pub slots_per_worker: u32,
    /// Workers at least.
    pub workers_min: u32,
    /// Workers at most.
    pub workers_max: u32,
    /// How long fewer must be enough before any is removed.
    pub removal_delay_us: u64,
}

/// A number of workers, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Want {
    /// Workers.
    pub workers: u32,
    /// Why, for people.
    pub reason: String,
}

/// Follows what jobs want.
#[derive(Clone, Debug)]
pub struct Capacity {
    policy: CapacityPolicy,
    wanted: Option<Want>,
    /// Since when fewer would be enough, and the most that would have been meanwhile.
    fewer: Option<(u64, u32)>,
}

impl Capacity {
    /// Nothing is wanted yet.
    #[must_use]
    pub fn new(policy: CapacityPolicy) -> Capacity {
        Capacity {
            policy,
            wanted: None,
            fewer: None,
        }
    }

    /// What it keeps to.
    #[must_use]
    pub fn policy(&self) -> CapacityPolicy {
        self.policy
    }

    /// What is wanted by now.
    #[must_use]
    pub fn wanted(&self) -> Option<&Want> {
        self.wanted.as_ref()
    }

    /// When [`Capacity::update`] may have something to say though nothing has changed.
    #[must_use]
    pub fn wake_at_us(&self) -> Option<u64> {
        let (since_us, _) = self.fewer?;
        Some(since_us.saturating_add(self.policy.removal_delay_us))
    }

    /// Takes the slots that jobs want; the number of workers if it is another one now.
    pub fn update(&mut self, jobs: &BTreeMap<JobId, u32>, now_us: u64) -> Option<&Want> {
        let needed = self.needed(jobs);
        let wanted = self.wanted.as_ref().map(|wanted| wanted.workers);
        let workers = match wanted {
            Some(wanted) if needed < wanted => {
                let (since_us, most) = self.fewer.get_or_insert((now_us, needed));
                *most = needed.max(*most);
                if now_us.saturating_sub(*since_us) < self.policy.removal_delay_us {
                    return None;
                }
                *most
            }
            _ => needed,
        };
        self.fewer = None;
        if wanted == Some(workers) {
            return None;
        }
        let reason = self.reason(jobs, workers);
        Some(self.wanted.insert(Want { workers, reason }))
    }

    fn needed(&self, jobs: &BTreeMap<JobId, u32>) -> u32 {
        let most = self.policy.workers_max.max(self.policy.workers_min);
        self.unbounded(jobs).clamp(self.policy.workers_min, most)
    }

    fn unbounded(&self, jobs: &BTreeMap<JobId, u32>) -> u32 {
        let slots: u64 = jobs.values().copied().map(u64::from).sum();
        let workers = slots.div_ceil(u64::from(self.policy.slots_per_worker.max(1)));
        u32::try_from(workers).unwrap_or(u32::MAX)
    }

    fn reason(&self, jobs: &BTreeMap<JobId, u32>, workers: u32) -> String {
        let slots: u64 = jobs.values().copied().map(u64::from).sum();
        let text = format!(
            "{} {}, a worker has {}",
            wanting(jobs.len()),
            counted(slots, "slot"),
            self.policy.slots_per_worker
        );
        match self.unbounded(jobs) {
            needed if needed > workers => {
                format!("{text}: {needed} workers are needed and there may be {workers}")
            }
            _ => format!("{text}: {}", counted(u64::from(workers), "worker")),
        }
    }
}

fn wanting(jobs: usize) -> String {
    match jobs {
        1 => "1 job wants".to_owned(),
        jobs => format!("{jobs} jobs want"),
    }
}

fn counted(count: u64, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn capacity() -> Capacity {
        Capacity::new(CapacityPolicy {
            slots_per_worker: 2,
            workers_min: 1,
            workers_max: 5,
            removal_delay_us: 60 * SECOND,
        })
    }

    /// Jobs with so many slots each, at a second; what is wanted if that changes.
    fn update(capacity: &mut Capacity, at_s: u64, slots: &[u32]) -> Option<u32> {
        let jobs = (1..).map(JobId).zip(slots.iter().copied()).collect();
        let want = capacity.update(&jobs, at_s * SECOND);
        want.map(|want| want.workers)
    }

    #[test]
    fn workers_come_at_once() {
        let mut capacity = capacity();
        assert_eq!(update(&mut capacity, 0, &[]), Some(1));
        assert_eq!(update(&mut capacity, 1, &[1]), None);
        assert_eq!(update(&mut capacity, 2, &[3, 4]), Some(4));
        assert_eq!(
            capacity.wanted().expect("something").reason,
            "2 jobs want 7 slots, a worker has 2: 4 workers"
        );
        assert_eq!(update(&mut capacity, 3, &[30, 4]), Some(5));
        assert_eq!(
            capacity.wanted().expect("something").reason,
            "2 jobs want 34 slots, a worker has 2: 17 workers are needed and there may be 5"
        );
    }

    #[test]
    fn workers_go_after_a_while_in_which_fewer_were_always_enough() {
        let mut capacity = capacity();
        assert_eq!(update(&mut capacity, 0, &[8]), Some(4));
        assert_eq!(capacity.wake_at_us(), None);
        assert_eq!(update(&mut capacity, 10, &[2]), None);
        assert_eq!(capacity.wake_at_us(), Some(70 * SECOND));
        // In between three were needed.
        assert_eq!(update(&mut capacity, 40, &[6]), None);
        assert_eq!(update(&mut capacity, 69, &[2]), None);
        assert_eq!(update(&mut capacity, 70, &[2]), Some(3));
        assert_eq!(update(&mut capacity, 71, &[2]), None);
        assert_eq!(update(&mut capacity, 130, &[2]), None);
        assert_eq!(update(&mut capacity, 131, &[2]), Some(1));
        // All of them were needed again: the wait begins anew.
        assert_eq!(update(&mut capacity, 140, &[8]), Some(4));
        assert_eq!(update(&mut capacity, 150, &[2]), None);
        assert_eq!(update(&mut capacity, 200, &[8]), None);
        assert_eq!(update(&mut capacity, 211, &[2]), None);
        assert_eq!(update(&mut capacity, 271, &[2]), Some(1));
    }
}
