//! The one decision that is under way: waits for room, is carried out, is verified.

use super::{
    decision::Change,
    demand::Demand,
    figures::{Figures, FragmentFigures},
};
use crate::caps::{AUTOSCALE_GAIN_MIN, AUTOSCALE_VERIFY_WINDOWS};

/// A decision under way.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    /// The decision's.
    pub(super) number: u64,
    pub(super) changes: Vec<Change>,
    /// Whether what it brings is looked at.
    pub(super) verify: bool,
    pub(super) stage: Stage,
    /// What fragments that get more tasks could do before.
    before: Vec<Before>,
}

/// How far it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// Since then there is no room for its tasks.
    Waiting(u64),
    /// Since then it is being carried out.
    Moving(u64),
    /// It is carried out.
    Done,
}

#[derive(Clone, Debug)]
struct Before {
    change: Change,
    capacity: f64,
    /// Sums over the windows since.
    rows: f64,
    used: f64,
    windows: usize,
}

/// A step that brought nothing.
#[derive(Clone, Debug)]
pub(super) struct NoHelp {
    pub(super) change: Change,
    /// What it can do now as a part of what it could do before.
    pub(super) gain: f64,
}

impl Flight {
    pub(super) fn new(
        number: u64,
        changes: Vec<Change>,
        figures: &Figures,
        verify: bool,
    ) -> Flight {
        let ups = changes.iter().filter(|change| change.to > change.from);
        let before = ups.filter_map(|change| {
            let fragment = find(figures, change.fragment)?;
            Some(Before {
                change: change.clone(),
                capacity: fragment.rows_per_s / used(fragment),
                rows: 0.0,
                used: 0.0,
                windows: 0,
            })
        });
        Flight {
            number,
            stage: Stage::Waiting(figures.at_us),
            verify,
            before: before.collect(),
            changes,
        }
    }

    /// Takes a window since it was carried out; the steps that brought nothing, once that can be
    /// said.
    pub(super) fn verify(&mut self, demand: &Demand) -> Option<Vec<NoHelp>> {
        for before in &mut self.before {
            if let Some(fragment) = find(&demand.figures, before.change.fragment) {
                before.rows += fragment.rows_per_s;
                before.used += used(fragment);
            }
            before.windows += 1;
        }
        if (self.before.iter()).any(|before| before.windows < AUTOSCALE_VERIFY_WINDOWS) {
            return None;
        }
        let behind = demand.figures.sources.iter().any(|source| {
            source.target_per_s > source.arrival_per_s && source.arrival_per_s > source.rows_per_s
        });
        let no_help = self.before.iter().filter_map(|before| {
            let change = &before.change;
            let gain = (before.rows / before.used) / before.capacity;
            let tasks = f64::from(change.to) / f64::from(change.from.max(1));
            let expected = 1.0 + AUTOSCALE_GAIN_MIN * (tasks - 1.0);
            // What has what it needs by now was helped, by whatever.
            let pressed = behind || lacks(demand, change);
            (pressed && gain < expected).then(|| NoHelp {
                change: change.clone(),
                gain,
            })
        });
        Some(no_help.collect())
    }

    /// Whether any of its fragments still needs more than it has.
    pub(super) fn is_wanted(&self, demand: &Demand) -> bool {
        let down = |change: &Change| change.to < change.from;
        let needs = |change: &Change| {
            let from = Change {
                to: change.from,
                ..change.clone()
            };
            lacks(demand, &from)
        };
        self.changes
            .iter()
            .any(|change| down(change) || needs(change))
    }
}

/// Whether a fragment needs more tasks than it was given.
fn lacks(demand: &Demand, change: &Change) -> bool {
    let fragments = demand.figures.fragments.iter().zip(&demand.needs);
    let mut of = fragments.filter(|(fragment, _)| fragment.fragment == change.fragment);
    of.any(|(_, need)| need.least > change.to)
}

fn find(figures: &Figures, fragment: u32) -> Option<&FragmentFigures> {
    let mut known = figures.fragments.iter();
    known.find(|known| known.fragment == fragment)
}

/// Part of its time that the busiest task has no time for more.
fn used(fragment: &FragmentFigures) -> f64 {
    (fragment.busiest + fragment.state_wait).clamp(0.01, 1.0)
}
