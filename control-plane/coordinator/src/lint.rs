//! Invariants of placements, as predicates that tests and debug builds run on every one.

use std::collections::BTreeMap;

use proto::{control::TaskSpec, plan::Plan};

/// Every fragment has all of its tasks, each once, and task ids are dense.
///
/// # Errors
/// The first invariant that does not hold, in words.
pub fn placement(plan: &Plan, parallelism: u32, tasks: &[TaskSpec]) -> Result<(), String> {
    let mut indices: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (position, task) in tasks.iter().enumerate() {
        if task.task.0 as usize != position {
            return Err(format!("{} stands at place {position}", task.task));
        }
        indices.entry(task.fragment).or_default().push(task.index);
    }
    for fragment in &plan.fragments {
        let count = if fragment.singleton { 1 } else { parallelism };
        let mut got = indices.remove(&fragment.id).unwrap_or_default();
        got.sort_unstable();
        if got != (0..count).collect::<Vec<u32>>() {
            return Err(format!("fragment {} has the tasks {got:?}", fragment.id));
        }
    }
    match indices.keys().next() {
        Some(unknown) => Err(format!("fragment {unknown} is not in the plan")),
        None => Ok(()),
    }
}
