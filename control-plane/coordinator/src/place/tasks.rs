//! Which tasks a plan runs as: every fragment times the parallelism, singleton fragments once.

use std::collections::{BTreeMap, BTreeSet};

use proto::{
    control::TaskSpec,
    plan::Plan,
    types::{TaskId, WorkerId},
};

use super::{Parallelism, PlanShape};
use crate::{caps::PARALLELISM_MAX, lint};

/// Why a plan cannot be placed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PlaceError {
    /// Not a number of tasks.
    #[error("parallelism must be between 1 and {max}, not {parallelism}")]
    Parallelism {
        /// What was asked for.
        parallelism: u32,
        /// The most there can be: the plan's key groups, or the limit of this build.
        max: u32,
    },
    /// Nothing to run.
    #[error("the plan has no fragments")]
    Empty,
    /// Not of this plan.
    #[error("the plan has no fragment {0}")]
    NoFragment(u32),
    /// It has the one place that all of its rows go to.
    #[error("fragment {0} runs as one task: all of its rows go to one place")]
    Singleton(u32),
}

/// The tasks of `plan`, fragment by fragment.
///
/// # Errors
/// When the parallelism does not fit the plan.
pub fn tasks(plan: &Plan, parallelism: u32) -> Result<Vec<TaskSpec>, PlaceError> {
    let shape = PlanShape::of(plan);
    let parallelism = Parallelism::uniform(parallelism);
    parallelism.check(&shape)?;
    if plan.fragments.is_empty() {
        return Err(PlaceError::Empty);
    }
    Ok(specs(&shape, &parallelism))
}

/// The tasks of a plan of this shape. A task has the same number whatever other tasks there are.
pub(super) fn specs(shape: &PlanShape, parallelism: &Parallelism) -> Vec<TaskSpec> {
    let fragments = (0..).zip(&shape.singletons).map(|(fragment, _)| fragment);
    let tasks = fragments.flat_map(|fragment| {
        let count = parallelism.of(shape, fragment);
        (0..count).map(move |index| TaskSpec {
            task: TaskId(fragment * PARALLELISM_MAX + index),
            fragment,
            index,
        })
    });
    let tasks: Vec<TaskSpec> = tasks.collect();
    debug_assert_eq!(lint::placement(shape, parallelism, &tasks), Ok(()));
    tasks
}

/// Tasks that go together: those of one index, since most of what they send goes to their like; a
/// fragment that runs once goes by itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Unit {
    Index(u32),
    Single(u32),
}

/// The worker of each task. No unit moves without need: one stays where it was unless the worker is
/// gone or has too much, and what must be placed goes where the least is. Where one of several has to
/// go, it is the one nearest to the sources, for what comes later has the state.
///
/// The same input gives the same places.
#[must_use]
pub fn workers(
    tasks: &[TaskSpec],
    workers: &BTreeSet<WorkerId>,
    previous: &BTreeMap<TaskId, WorkerId>,
) -> BTreeMap<TaskId, WorkerId> {
    if workers.is_empty() {
        return BTreeMap::new();
    }
    let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
    for task in tasks {
        *counts.entry(task.fragment).or_default() += 1;
    }
    let mut units: BTreeMap<Unit, Vec<TaskId>> = BTreeMap::new();
    for task in tasks {
        let unit = match counts.get(&task.fragment) {
            Some(1) => Unit::Single(task.fragment),
            _ => Unit::Index(task.index),
        };
        units.entry(unit).or_default().push(task.task);
    }
    let room = tasks.len().div_ceil(workers.len());
    let mut loads: BTreeMap<WorkerId, usize> = workers.iter().map(|id| (*id, 0)).collect();
    let before = |unit: &[TaskId]| {
        let mut latest_first = unit.iter().rev();
        latest_first.find_map(|task| previous.get(task)).copied()
    };
    let mut places: BTreeMap<Unit, WorkerId> = BTreeMap::new();
    for (unit, members) in units.iter().rev() {
        let worker = before(members);
        let load = worker.and_then(|worker| loads.get_mut(&worker));
        if let (Some(worker), Some(load)) = (worker, load)
            && (*load == 0 || *load + members.len() <= room)
        {
            *load += members.len();
            places.insert(*unit, worker);
        }
    }
    for (unit, members) in &units {
        if places.contains_key(unit) {
            continue;
        }
        let was = before(members);
        let order =
            |(worker, load): &(&WorkerId, &mut usize)| (**load, Some(**worker) != was, **worker);
        if let Some((worker, load)) = loads.iter_mut().min_by_key(order) {
            *load += members.len();
            places.insert(*unit, *worker);
        }
    }
    let placed = units.into_iter().flat_map(|(unit, members)| {
        let worker = places.get(&unit).copied();
        members
            .into_iter()
            .filter_map(move |task| Some((task, worker?)))
    });
    placed.collect()
}

#[cfg(test)]
mod tests {
    use proto::plan::Fragment;

    use super::*;

    fn plan(singletons: &[bool]) -> Plan {
        let fragment = |(id, singleton): (usize, &bool)| Fragment {
            id: id as u32,
            singleton: *singleton,
            ..Fragment::default()
        };
        Plan {
            key_groups: 256,
            fragments: singletons.iter().enumerate().map(fragment).collect(),
            ..Plan::default()
        }
    }

    #[test]
    fn fragments_run_as_many_times_as_asked_and_singletons_once() {
        let tasks = tasks(&plan(&[false, true, false]), 2).expect("fits");
        let shown: Vec<String> = tasks
            .iter()
            .map(|task| format!("{}={}.{}", task.task, task.fragment, task.index))
            .collect();
        assert_eq!(
            shown.join(" "),
            "task_0=0.0 task_1=0.1 task_1024=1.0 task_2048=2.0 task_2049=2.1"
        );
    }

    #[test]
    fn tasks_are_spread_over_workers_and_like_goes_with_like() {
        let tasks = tasks(&plan(&[false, true, false]), 3).expect("fits");
        let shown = |ids: &[u64]| -> String {
            let ids = ids.iter().copied().map(WorkerId).collect();
            let place = workers(&tasks, &ids, &BTreeMap::new());
            let shown: Vec<String> = place.values().map(|worker| worker.0.to_string()).collect();
            shown.join(" ")
        };
        assert_eq!(shown(&[7]), "7 7 7 7 7 7 7");
        assert_eq!(shown(&[7, 9]), "7 9 7 9 7 9 7");
        assert_eq!(shown(&[]), "");
    }

    #[test]
    fn only_what_must_moves_when_workers_come_and_go() {
        let tasks = tasks(&plan(&[false, false]), 4).expect("fits");
        let ids = |ids: &[u64]| ids.iter().copied().map(WorkerId).collect();
        let first = workers(&tasks, &ids(&[1, 2]), &BTreeMap::new());
        let moved = |from: &BTreeMap<TaskId, WorkerId>, to: &BTreeMap<TaskId, WorkerId>| {
            from.iter()
                .filter(|(task, worker)| to[task] != **worker)
                .count()
        };
        // A third one takes over from one of them what is too much; nothing else moves.
        let more = workers(&tasks, &ids(&[1, 2, 3]), &first);
        assert_eq!(moved(&first, &more), 2);
        let loads = |place: &BTreeMap<TaskId, WorkerId>| {
            let mut loads: BTreeMap<WorkerId, usize> = BTreeMap::new();
            place
                .values()
                .for_each(|worker| *loads.entry(*worker).or_default() += 1);
            loads.into_values().collect::<Vec<_>>()
        };
        assert_eq!(loads(&more).iter().sum::<usize>(), 8);
        assert!(
            loads(&more).iter().all(|load| *load >= 2),
            "{:?}",
            loads(&more)
        );
        // When it goes, only what it had moves.
        let fewer = workers(&tasks, &ids(&[1, 2]), &more);
        assert_eq!(moved(&more, &fewer), 2);
        assert_eq!(workers(&tasks, &ids(&[1, 2]), &fewer), fewer);
    }

    #[test]
    fn what_has_state_stays_when_tasks_that_went_together_part_and_meet_again() {
        let plan = plan(&[false, false]);
        let ids: BTreeSet<WorkerId> = [1, 2].map(WorkerId).into();
        let mut place = workers(&tasks(&plan, 4).expect("fits"), &ids, &BTreeMap::new());
        let counts = TaskId(PARALLELISM_MAX);
        let was = place[&counts];
        assert_eq!(place[&TaskId(0)], was);
        for (parallelism, together) in [(1, false), (3, true), (1, false), (2, true)] {
            place = workers(&tasks(&plan, parallelism).expect("fits"), &ids, &place);
            assert_eq!(place[&counts], was, "at {parallelism}");
            assert_eq!(place[&TaskId(0)] == was, together, "at {parallelism}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let refuse = |plan: &Plan, parallelism| tasks(plan, parallelism).expect_err("refused");
        assert_eq!(
            refuse(&plan(&[false]), 0).to_string(),
            "parallelism must be between 1 and 256, not 0"
        );
        assert_eq!(
            refuse(&plan(&[false]), 257).to_string(),
            "parallelism must be between 1 and 256, not 257"
        );
        assert_eq!(refuse(&plan(&[]), 1), PlaceError::Empty);
    }
}
