//! A decision as it is remembered: what was changed, from which figures, why, and what came of it.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::figures::Figures;
use crate::caps::AUTOSCALE_DECISIONS_MAX;

/// A decision.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Decision {
    /// Counts the job's decisions.
    pub number: u64,
    /// When, on the shell's clock.
    pub at_us: u64,
    /// What it is.
    pub kind: DecisionKind,
    /// What it changes; nothing if it is advice.
    pub changes: Vec<Change>,
    /// Why, for people.
    pub reason: String,
    /// What it was made from.
    pub figures: Figures,
    /// What became of it.
    pub outcome: Outcome,
}

/// What a decision is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecisionKind {
    /// Other numbers of tasks.
    Rescale,
    /// The numbers of tasks from before a step that did not help.
    Revert,
    /// Something that no number of tasks helps against: said once, for people.
    Advice,
}

/// Another number of tasks for a fragment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Change {
    /// Fragment.
    pub fragment: u32,
    /// Tasks before.
    pub from: u32,
    /// Tasks afterwards.
    pub to: u32,
    /// Why, for people.
    pub reason: String,
}

/// What became of a decision.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// There is nothing to carry out.
    Said,
    /// There is no room yet for the tasks.
    Waiting,
    /// It is being carried out.
    Moving,
    /// It was carried out; whether it helps is being looked at.
    Verifying,
    /// It was carried out, and stays.
    Kept,
    /// It did not help and is taken back.
    DidNotHelp,
    /// It was not carried out.
    Failed {
        /// Why, for people.
        why: String,
    },
}

/// The last decisions, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Decisions {
    kept: VecDeque<Decision>,
    made: u64,
}

impl Decisions {
    /// Remembers a decision; its number.
    pub(super) fn push(
        &mut self,
        kind: DecisionKind,
        changes: Vec<Change>,
        reason: String,
        figures: Figures,
    ) -> u64 {
        if self.kept.len() == AUTOSCALE_DECISIONS_MAX {
            self.kept.pop_front();
        }
        self.made += 1;
        self.kept.push_back(Decision {
            number: self.made,
            at_us: figures.at_us,
            outcome: match kind {
                DecisionKind::Advice => Outcome::Said,
                DecisionKind::Rescale | DecisionKind::Revert => Outcome::Waiting,
            },
            kind,
            changes,
            reason,
            figures,
        });
        self.made
    }

    pub(super) fn set_outcome(&mut self, number: u64, outcome: Outcome) {
        let mut kept = self.kept.iter_mut();
        if let Some(decision) = kept.find(|decision| decision.number == number) {
            decision.outcome = outcome;
        }
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Decision> {
        self.kept.iter()
    }
}

/// The tasks that changes lead to.
pub(super) fn wanted(changes: &[Change]) -> BTreeMap<u32, u32> {
    let pairs = changes.iter().map(|change| (change.fragment, change.to));
    pairs.collect()
}
