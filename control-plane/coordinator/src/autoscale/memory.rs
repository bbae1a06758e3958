//! What was tried and did not help, and at which load: it is not tried again until that is another.

use std::collections::BTreeMap;

use super::figures::Figures;
use crate::caps::AUTOSCALE_LOAD_CHANGE;

/// A number of tasks, and the arriving rows at which it turned out.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Mark {
    tasks: u32,
    arrival_per_s: f64,
}

/// Marks by fragment.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    /// More tasks than these did not help.
    ceilings: BTreeMap<u32, Mark>,
    /// Fewer tasks than these were not enough.
    floors: BTreeMap<u32, Mark>,
    /// What a fragment had before it was given fewer.
    lowered: BTreeMap<u32, Mark>,
}

impl Memory {
    /// Forgets what was at another load.
    pub(super) fn compare(&mut self, figures: &Figures) {
        for marks in [&mut self.ceilings, &mut self.floors, &mut self.lowered] {
            marks.retain(|id, mark| {
                let mut known = figures.fragments.iter();
                let now = known.find(|fragment| fragment.fragment == *id);
                now.is_some_and(|now| same_load(now.arrival_per_s, mark.arrival_per_s))
            });
        }
    }

    /// More tasks than `tasks` did not help.
    pub(super) fn did_not_help(&mut self, fragment: u32, tasks: u32, arrival_per_s: f64) {
        let mark = Mark {
            tasks,
            arrival_per_s,
        };
        self.ceilings.insert(fragment, mark);
    }

    /// A fragment is given fewer than `tasks`.
    pub(super) fn lower(&mut self, fragment: u32, tasks: u32, arrival_per_s: f64) {
        let mark = Mark {
            tasks,
            arrival_per_s,
        };
        self.lowered.insert(fragment, mark);
    }

    /// A fragment is given `tasks`, more than it has: what it was lowered from was not too much.
    pub(super) fn raise(&mut self, fragment: u32, tasks: u32) {
        if let Some(mut mark) = self.lowered.remove(&fragment) {
            mark.tasks = mark.tasks.min(tasks);
            self.floors.insert(fragment, mark);
        }
    }

    /// Tasks above which there is nothing to be won.
    pub(super) fn ceiling(&self, fragment: u32) -> Option<u32> {
        self.ceilings.get(&fragment).map(|mark| mark.tasks)
    }

    /// Tasks below which there are too few.
    pub(super) fn floor(&self, fragment: u32) -> Option<u32> {
        self.floors.get(&fragment).map(|mark| mark.tasks)
    }
}

fn same_load(now: f64, then: f64) -> bool {
    (now - then).abs() <= AUTOSCALE_LOAD_CHANGE * now.max(then)
}
