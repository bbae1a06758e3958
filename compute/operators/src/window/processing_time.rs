//! Processing time: a window has the rows that come while it is open by the worker's clock, and fires
//! when the clock passes its end. Time is never before what has fired, so that a clock that is behind
//! the one of the task before adds to no window that is over, and what has not fired fires here (it is not
//! time that is saved, but how far windows have fired). What is open when the input ends fires then.

use engine::{Element, clock::Clock};

/// When windows are to be looked at.
#[derive(Debug)]
pub(super) struct Alarm {
    /// By the monotonic clock.
    at_ns: Option<u64>,
}

impl Alarm {
    /// At once: who knows what was read.
    pub(super) fn new() -> Self {
        Alarm { at_ns: Some(0) }
    }

    /// When it is, by the monotonic clock.
    pub(super) fn at_ns(&self) -> Option<u64> {
        self.at_ns
    }

    /// At once.
    pub(super) fn ring(&mut self) {
        self.at_ns = Some(0);
    }

    /// When the wall clock reaches `end`, as far as can be told now; `None`: never.
    pub(super) fn set(&mut self, end: Option<i64>, clock: &dyn Clock) {
        self.at_ns = end.map(|end| {
            let ms = u64::try_from(end.saturating_sub(clock.wall_ms())).unwrap_or(0);
            clock
                .monotonic_ns()
                .saturating_add(ms.saturating_mul(1_000_000))
        });
    }
}

/// Up to where windows are to fire, and what leaves when they have.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) due: i64,
    pub(super) then: Option<Element>,
}

impl Target {
    /// What a watermark makes due.
    pub(super) fn of_watermark(watermark: i64) -> Self {
        Target {
            due: watermark.saturating_add(1),
            then: Some(Element::Watermark(watermark)),
        }
    }

    /// What is due by the clock.
    pub(super) fn of_clock(clock: &dyn Clock) -> Self {
        Target {
            due: clock.wall_ms(),
            then: None,
        }
    }

    /// All there is.
    pub(super) fn of_end() -> Self {
        Target {
            due: i64::MAX,
            then: Some(Element::End),
        }
    }
}
