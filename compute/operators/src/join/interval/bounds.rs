//! How far apart the times of rows may be that meet, and what follows from that.

use engine::{
    TIMESTAMP_MAX, Timestamp,
    operator::OperatorError,
    state::{TimeDomain, Ttl},
};
use proto::{plan, types::Field};

use crate::{
    join::shape::{LEFT, RIGHT},
    rows::column,
};

/// How far the time of a right row may be from that of a left one, both ends inclusive.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Columns of the times.
    pub(super) columns: [usize; 2],
    lower: i64,
    upper: i64,
}

impl Bounds {
    pub(super) fn new(
        spec: &plan::IntervalJoin,
        inputs: [&[Field]; 2],
    ) -> Result<Bounds, OperatorError> {
        let [left, right] = inputs;
        Ok(Bounds {
            columns: [
                column(spec.left_time, left)?,
                column(spec.right_time, right)?,
            ],
            lower: spec.lower_ms,
            upper: spec.upper_ms,
        })
    }

    /// So long after the time of a row of a side the watermark says that it meets nothing that comes.
    pub(super) fn life(&self, side: usize) -> i64 {
        match side {
            LEFT => self.upper,
            _ => self.lower.saturating_neg(),
        }
    }

    /// Times of the other side that a row meets.
    pub(super) fn range(&self, side: usize, time: Timestamp) -> (Timestamp, Timestamp) {
        let (before, after) = (self.life(1 - side), self.life(side));
        (time.saturating_sub(before), time.saturating_add(after))
    }

    /// What is still true of the rows that come out once the watermark is here.
    pub(super) fn delayed(&self, watermark: Timestamp) -> Timestamp {
        let delay = self.life(LEFT).max(self.life(RIGHT)).max(0);
        match watermark {
            TIMESTAMP_MAX => TIMESTAMP_MAX,
            watermark => watermark.saturating_sub(delay),
        }
    }

    /// How long rows of each side live.
    pub(super) fn ttl(&self) -> [Ttl; 2] {
        [LEFT, RIGHT].map(|side| Ttl {
            ms: self.life(side),
            domain: TimeDomain::Event,
        })
    }

    /// How much time there may be between two rows that meet the same.
    pub(super) fn span(&self) -> i64 {
        self.upper.saturating_sub(self.lower).max(1)
    }
}
