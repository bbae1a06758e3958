//! A job's routing: which tasks it runs as, which key groups each owns, where each runs. From one
//! routing to the next as little moves as can be.

use std::collections::{BTreeMap, BTreeSet};

use proto::{
    control::TaskSpec,
    plan::Plan,
    running::PlacedTasks,
    types::{KeyGroupCount, KeyGroupMap, TaskId, WorkerId},
};
use serde::{Deserialize, Serialize};

use super::{PlaceError, tasks};
use crate::caps::PARALLELISM_MAX;

/// What routings need to know of a plan.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlanShape {
    /// Key groups of the job.
    pub key_groups: KeyGroupCount,
    /// By fragment, in order: whether it runs as one task whatever the parallelism.
    pub singletons: Vec<bool>,
}

impl PlanShape {
    /// Of `plan`.
    #[must_use]
    pub fn of(plan: &Plan) -> PlanShape {
        PlanShape {
            key_groups: KeyGroupCount::new(plan.key_groups).unwrap_or(KeyGroupCount::DEFAULT),
            singletons: plan.fragments.iter().map(|f| f.singleton).collect(),
        }
    }

    /// The most tasks that a fragment can have.
    #[must_use]
    pub fn parallelism_max(&self) -> u32 {
        PARALLELISM_MAX.min(self.key_groups.count())
    }
}

/// How many tasks a job's fragments are to have.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Parallelism {
    /// Of every fragment that nothing else is said of.
    pub all: u32,
    /// Of single fragments.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fragments: BTreeMap<u32, u32>,
}

impl Parallelism {
    /// The same for all fragments.
    #[must_use]
    pub fn uniform(all: u32) -> Parallelism {
        Parallelism {
            all,
            fragments: BTreeMap::new(),
        }
    }

    /// Of a fragment of a plan.
    #[must_use]
    pub fn of(&self, shape: &PlanShape, fragment: u32) -> u32 {
        match shape.singletons.get(fragment as usize) {
            Some(true) => 1,
            _ => self.fragments.get(&fragment).copied().unwrap_or(self.all),
        }
    }

    /// Whether a plan can be run so.
    ///
    /// # Errors
    /// When it is too many tasks or none, or names a fragment that is not there or runs once.
    pub fn check(&self, shape: &PlanShape) -> Result<(), PlaceError> {
        let max = shape.parallelism_max();
        let all = std::iter::once(&self.all).chain(self.fragments.values());
        for parallelism in all.copied() {
            if parallelism == 0 || parallelism > max {
                return Err(PlaceError::Parallelism { parallelism, max });
            }
        }
        for (fragment, parallelism) in &self.fragments {
            match shape.singletons.get(*fragment as usize) {
                None => return Err(PlaceError::NoFragment(*fragment)),
                Some(true) if *parallelism > 1 => return Err(PlaceError::Singleton(*fragment)),
                Some(_) => {}
            }
        }
        Ok(())
    }
}

/// Which tasks a job runs as, which key groups each owns, and where each runs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Routing {
    /// Grows by one with every change.
    pub version: u32,
    /// The numbers of tasks that it was made for.
    pub parallelism: Parallelism,
    /// Every task, fragment by fragment.
    pub tasks: Vec<TaskSpec>,
    /// By fragment: who owns its key groups.
    pub groups: BTreeMap<u32, KeyGroupMap>,
    /// The worker of each task.
    pub place: BTreeMap<TaskId, WorkerId>,
}

impl Routing {
    /// The first routing of a job: each task owns a range.
    #[must_use]
    pub fn first(shape: &PlanShape, parallelism: &Parallelism) -> Routing {
        let groups = fragments(shape).map(|fragment| {
            let tasks = parallelism.of(shape, fragment);
            (fragment, KeyGroupMap::even(shape.key_groups, tasks))
        });
        Routing {
            version: 0,
            parallelism: parallelism.clone(),
            tasks: tasks::specs(shape, parallelism),
            groups: groups.collect(),
            place: BTreeMap::new(),
        }
    }

    /// The routing that workers tell of; `None`: it is none of a plan of this shape. `known` are numbers
    /// of tasks that it may have been made for.
    #[must_use]
    pub(crate) fn of_placed(
        shape: &PlanShape,
        placed: &PlacedTasks,
        known: &[&Parallelism],
    ) -> Option<Routing> {
        let count = |fragment: u32| {
            let tasks = placed.tasks.iter();
            tasks.filter(|task| task.fragment == fragment).count() as u32
        };
        let fits = |parallelism: &Parallelism| {
            fragments(shape).all(|fragment| parallelism.of(shape, fragment) == count(fragment))
        };
        let made_for = known.iter().copied().find(|known| fits(known));
        let parallelism = made_for.cloned().unwrap_or_else(|| Parallelism {
            all: fragments(shape).map(count).max().unwrap_or(1),
            fragments: fragments(shape)
                .map(|fragment| (fragment, count(fragment)))
                .filter(|(fragment, _)| shape.singletons.get(*fragment as usize) == Some(&false))
                .collect(),
        });
        parallelism.check(shape).ok()?;
        let has_map = |fragment: u32| {
            let map = placed.groups.get(&fragment);
            map.is_some_and(|map| map.tasks() == count(fragment))
        };
        let is_placed = |task: &TaskSpec| placed.place.contains_key(&task.task);
        let is_whole = placed.tasks == tasks::specs(shape, &parallelism)
            && fragments(shape).all(has_map)
            && placed.tasks.iter().all(is_placed);
        is_whole.then(|| Routing {
            version: placed.routing,
            parallelism,
            tasks: placed.tasks.clone(),
            groups: placed.groups.clone(),
            place: placed.place.clone(),
        })
    }

    /// The next routing, with other numbers of tasks. Tasks that stay keep all the key groups that
    /// they may.
    #[must_use]
    pub fn rescaled(&self, shape: &PlanShape, parallelism: &Parallelism) -> Routing {
        let groups = fragments(shape).map(|fragment| {
            let tasks = parallelism.of(shape, fragment);
            let map = match self.groups.get(&fragment) {
                Some(map) if map.tasks() == tasks => map.clone(),
                Some(map) => map.rescaled(tasks),
                None => KeyGroupMap::even(shape.key_groups, tasks),
            };
            (fragment, map)
        });
        Routing {
            version: self.version + 1,
            parallelism: parallelism.clone(),
            tasks: tasks::specs(shape, parallelism),
            groups: groups.collect(),
            place: self.place.clone(),
        }
    }

    /// The same tasks, placed on these workers.
    #[must_use]
    pub fn placed(&self, workers: &BTreeSet<WorkerId>) -> Routing {
        Routing {
            place: tasks::workers(&self.tasks, workers, &self.place),
            ..self.clone()
        }
    }

    /// Whether it is the other one but for its number.
    #[must_use]
    pub fn agrees(&self, other: &Routing) -> bool {
        self.has_tasks_of(other) && self.place == other.place
    }

    /// Whether it has the tasks of the other one, with the same key groups, wherever they run.
    #[must_use]
    pub fn has_tasks_of(&self, other: &Routing) -> bool {
        self.tasks == other.tasks && self.groups == other.groups
    }

    /// Workers that have tasks.
    #[must_use]
    pub fn workers(&self) -> BTreeSet<WorkerId> {
        self.place.values().copied().collect()
    }

    /// Number of tasks of each fragment.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<u32, u32> {
        let mut counts = BTreeMap::new();
        for task in &self.tasks {
            *counts.entry(task.fragment).or_default() += 1;
        }
        counts
    }

    /// How many of the key groups of all fragments have another task in the other routing.
    #[must_use]
    pub fn moved_key_groups(&self, other: &Routing) -> usize {
        let maps = self.groups.iter();
        let moved = maps.filter_map(|(fragment, map)| Some(map.moved(other.groups.get(fragment)?)));
        moved.sum()
    }
}

fn fragments(shape: &PlanShape) -> impl Iterator<Item = u32> {
    (0..).zip(&shape.singletons).map(|(fragment, _)| fragment)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> PlanShape {
        PlanShape {
            key_groups: KeyGroupCount::DEFAULT,
            singletons: vec![false, false, true],
        }
    }

    fn ids(ids: &[u64]) -> BTreeSet<WorkerId> {
        ids.iter().copied().map(WorkerId).collect()
    }

    #[test]
    fn tasks_that_stay_keep_their_names_places_and_key_groups() {
        let shape = shape();
        let two = Routing::first(&shape, &Parallelism::uniform(2)).placed(&ids(&[1, 2]));
        let four = two
            .rescaled(&shape, &Parallelism::uniform(4))
            .placed(&ids(&[1, 2]));
        assert_eq!(four.version, 1);
        assert!(two.tasks.iter().all(|task| four.tasks.contains(task)));
        for (task, worker) in &two.place {
            assert_eq!(four.place[task], *worker);
        }
        // Half of the key groups of each of the two fragments go to new tasks, the rest stays.
        assert_eq!(two.moved_key_groups(&four), 256);
        let again = four
            .rescaled(&shape, &Parallelism::uniform(2))
            .placed(&ids(&[1, 2]));
        assert_eq!(again.tasks, two.tasks);
        assert_eq!(four.moved_key_groups(&again), 256);
    }

    #[test]
    fn one_fragment_can_have_more_tasks_than_others() {
        let shape = shape();
        let parallelism = Parallelism {
            all: 1,
            fragments: [(1, 3)].into(),
        };
        assert_eq!(parallelism.check(&shape), Ok(()));
        let routing = Routing::first(&shape, &parallelism);
        assert_eq!(routing.counts(), [(0, 1), (1, 3), (2, 1)].into());
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let shape = shape();
        let check = |all, fragments: &[(u32, u32)]| {
            let fragments = fragments.iter().copied().collect();
            let refused = Parallelism { all, fragments }.check(&shape);
            refused.expect_err("refused").to_string()
        };
        assert_eq!(
            check(257, &[]),
            "parallelism must be between 1 and 256, not 257"
        );
        assert_eq!(
            check(1, &[(1, 0)]),
            "parallelism must be between 1 and 256, not 0"
        );
        assert_eq!(check(1, &[(7, 2)]), "the plan has no fragment 7");
        assert!(check(1, &[(2, 2)]).starts_with("fragment 2 runs as one task"));
    }
}
