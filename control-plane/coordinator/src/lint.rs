//! Invariants of placements, as predicates that tests and debug builds run on every one.

use std::collections::BTreeMap;

use proto::control::TaskSpec;

use crate::{
    caps::PARALLELISM_MAX,
    place::{Parallelism, PlanShape},
};

/// Every fragment has all of its tasks, each once, and each has the number that it has in every
/// routing.
///
/// # Errors
/// The first invariant that does not hold, in words.
pub fn placement(
    shape: &PlanShape,
    parallelism: &Parallelism,
    tasks: &[TaskSpec],
) -> Result<(), String> {
    let mut indices: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for task in tasks {
        if task.task.0 != task.fragment * PARALLELISM_MAX + task.index {
            return Err(format!(
                "{} is task {} of {}",
                task.task, task.index, task.fragment
            ));
        }
        indices.entry(task.fragment).or_default().push(task.index);
    }
    for (fragment, _) in (0..).zip(&shape.singletons) {
        let count = parallelism.of(shape, fragment);
        let mut got = indices.remove(&fragment).unwrap_or_default();
        got.sort_unstable();
        if got != (0..count).collect::<Vec<u32>>() {
            return Err(format!("fragment {fragment} has the tasks {got:?}"));
        }
    }
    match indices.keys().next() {
        Some(unknown) => Err(format!("fragment {unknown} is not in the plan")),
        None => Ok(()),
    }
}
