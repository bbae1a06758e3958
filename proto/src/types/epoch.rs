//! The numbers that order a job's history: epochs within a job, generations of its incarnations.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The interval between two barriers of one job. Never reused within a job; 0 is "before the
/// first".
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// Before any barrier.
    pub const ZERO: Epoch = Epoch(0);

    /// How far above every earlier number a generation's first epoch lies: room for what an older
    /// generation may still have named.
    pub const GENERATION_GAP: u64 = 16;

    /// The first epoch of a generation that starts from `restored`, when the job has committed up
    /// to `committed` on any line, and its previous generation began with `first`.
    #[must_use]
    pub fn first_of_generation(committed: Epoch, first: Epoch, restored: Epoch) -> Epoch {
        Epoch(committed.max(first).max(restored).0 + Epoch::GENERATION_GAP)
    }

    /// The epoch after this one.
    #[must_use]
    pub fn next(self) -> Epoch {
        Epoch(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Fencing number of one incarnation of a job: what an older one sends is refused.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl Generation {
    /// The generation that replaces this one.
    #[must_use]
    pub fn next(self) -> Generation {
        Generation(self.0 + 1)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "g{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_begins_above_all_three_that_may_have_been_named() {
        for (committed, first, restored, expected) in [
            (0, 0, 0, 16),
            // Each of the three is the highest once.
            (100, 20, 30, 116),
            (20, 100, 30, 116),
            (20, 30, 100, 116),
            // A job that goes back to an old checkpoint never uses the epochs in between again.
            (100, 90, 40, 116),
            // One that was copied from another job's checkpoint begins above that one's.
            (0, 0, 100, 116),
        ] {
            let begun = Epoch::first_of_generation(Epoch(committed), Epoch(first), Epoch(restored));
            let case = (committed, first, restored);
            assert_eq!(begun, Epoch(expected), "{case:?}");
        }
    }
}
