//! Which tasks a plan runs as: every fragment times the parallelism, singleton fragments once.

use std::collections::{BTreeMap, BTreeSet};

use proto::{
    control::TaskSpec,
    plan::Plan,
    types::{TaskId, WorkerId},
};

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
}

/// The tasks of `plan`: numbered densely, fragment by fragment.
///
/// # Errors
/// When the parallelism does not fit the plan.
pub fn tasks(plan: &Plan, parallelism: u32) -> Result<Vec<TaskSpec>, PlaceError> {
    let max = PARALLELISM_MAX.min(plan.key_groups.max(1));
    if parallelism == 0 || parallelism > max {
        return Err(PlaceError::Parallelism { parallelism, max });
    }
    if plan.fragments.is_empty() {
        return Err(PlaceError::Empty);
    }
    let instances = plan.fragments.iter().flat_map(|fragment| {
        let count = if fragment.singleton { 1 } else { parallelism };
        (0..count).map(|index| (fragment.id, index))
    });
    let tasks: Vec<TaskSpec> = (0..)
        .map(TaskId)
        .zip(instances)
        .map(|(task, (fragment, index))| TaskSpec {
            task,
            fragment,
            index,
        })
        .collect();
    debug_assert_eq!(lint::placement(plan, parallelism, &tasks), Ok(()));
    Ok(tasks)
}

/// The worker of each task. Tasks of one index go together, since most of what they send goes to
/// their like; fragments that run once are spread.
#[must_use]
pub fn workers(tasks: &[TaskSpec], workers: &BTreeSet<WorkerId>) -> BTreeMap<TaskId, WorkerId> {
    let singleton = |task: &TaskSpec| {
        let mut of_fragment = tasks.iter().filter(|other| other.fragment == task.fragment);
        of_fragment.nth(1).is_none()
    };
    let place = |task: &TaskSpec| {
        let nth = if singleton(task) {
            task.fragment
        } else {
            task.index
        };
        let worker = workers.iter().nth(nth as usize % workers.len().max(1))?;
        Some((task.task, *worker))
    };
    tasks.iter().filter_map(place).collect()
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
            "task_0=0.0 task_1=0.1 task_2=1.0 task_3=2.0 task_4=2.1"
        );
    }

    #[test]
    fn tasks_are_spread_over_workers_and_like_goes_with_like() {
        let tasks = tasks(&plan(&[false, true, false]), 3).expect("fits");
        let shown = |ids: &[u64]| -> String {
            let ids = ids.iter().copied().map(WorkerId).collect();
            let place = workers(&tasks, &ids);
            let shown: Vec<String> = place.values().map(|worker| worker.0.to_string()).collect();
            shown.join(" ")
        };
        assert_eq!(shown(&[7]), "7 7 7 7 7 7 7");
        assert_eq!(shown(&[7, 9]), "7 9 7 9 7 9 7");
        assert_eq!(shown(&[]), "");
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
