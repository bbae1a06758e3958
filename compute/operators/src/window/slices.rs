//! Arithmetic of windows and slices. A slice is the longest interval whose rows belong to the
//! same windows, so each row changes one slice, and a window is some slices next to each other.
//! Slices and windows are named by their end; all times are milliseconds.

use engine::{Timestamp, operator::OperatorError};
use proto::plan::{WindowKind, WindowSpec};

/// How time is cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Slices {
    kind: WindowKind,
    /// Of the (longest) window.
    size: i64,
    /// Between starts of windows.
    slide: i64,
    /// Of a slice.
    slice: i64,
    offset: i64,
}

impl Slices {
    /// The windows of a plan.
    pub(crate) fn of_window(spec: &WindowSpec) -> Result<Self, OperatorError> {
        let fail = |message: String| Err(OperatorError::Plan(message));
        let length = |length: u64| i64::try_from(length).ok().filter(|length| *length > 0);
        let kind = spec.kind();
        if kind == WindowKind::Session {
            return fail("SESSION windows are supported only under an aggregate".to_owned());
        }
        let Some(size) = length(spec.size_ms) else {
            return fail(format!("a window of {} ms", spec.size_ms));
        };
        let step = match kind {
            WindowKind::Tumble => Some(size),
            _ => length(spec.step_ms),
        };
        let Some(step) = step else {
            return fail(format!("a window step of {} ms", spec.step_ms));
        };
        let (slide, slice) = match kind {
            WindowKind::Tumble => (size, size),
            WindowKind::Hop => (step, gcd(size, step)),
            WindowKind::Cumulate if size % step == 0 => (size, step),
            WindowKind::Cumulate => {
                return fail(format!("CUMULATE of {size} ms in steps of {step} ms"));
            }
            WindowKind::Session | WindowKind::Unspecified => {
                return fail("a window of no kind".to_owned());
            }
        };
        Ok(Slices {
            kind,
            size,
            slide,
            slice,
            offset: spec.offset_ms,
        })
    }

    /// Whether [`Slices::fired_before`] loses nothing.
    pub(crate) fn is_cumulate(&self) -> bool {
        self.kind == WindowKind::Cumulate
    }

    /// The slice of a time.
    #[inline]
    pub(crate) fn of_time(&self, time: Timestamp) -> i64 {
        let shifted = time.saturating_sub(self.offset);
        shifted
            .div_euclid(self.slice)
            .saturating_mul(self.slice)
            .saturating_add(self.offset.saturating_add(self.slice))
    }

    /// The last window of a slice. Before the slice itself: it has none.
    #[inline]
    pub(crate) fn last_window(&self, slice: i64) -> i64 {
        let start = floor(slice, self.slice.saturating_add(self.offset), self.slide);
        start.saturating_add(self.offset.saturating_add(self.size))
    }

    /// The first window of a slice that ends after `after`.
    pub(crate) fn next_window(&self, slice: i64, after: i64) -> Option<i64> {
        let end = self.first_end(slice.max(after.saturating_add(1)));
        // At the end of time there is none after it.
        (end > after && end <= self.last_window(slice)).then_some(end)
    }

    /// The first window that ends at `from` or later.
    pub(crate) fn first_end(&self, from: i64) -> i64 {
        // Ends of windows are congruent to this.
        let base = self.offset.saturating_add(self.size);
        floor(from.saturating_sub(1), base, self.step())
            .saturating_add(self.step())
            .saturating_add(base)
    }

    /// Time between the ends of windows.
    pub(crate) fn step(&self) -> i64 {
        match self.kind {
            WindowKind::Cumulate => self.slice,
            _ => self.slide,
        }
    }

    /// Where a window starts.
    pub(crate) fn start(&self, window: i64) -> i64 {
        match self.kind {
            WindowKind::Cumulate => {
                floor(window, self.slice + self.offset, self.size) + self.offset
            }
            _ => window - self.size,
        }
    }

    /// The first slice of a window.
    pub(crate) fn first_slice(&self, window: i64) -> i64 {
        self.start(window) + self.slice
    }

    /// The first slice that some window after `fired` needs.
    pub(crate) fn open_from(&self, fired: i64) -> i64 {
        let base = self.offset.saturating_add(self.size);
        floor(fired, base, self.slide)
            .saturating_add(self.slide)
            .saturating_add(self.offset)
            .saturating_add(self.slice)
    }

    /// The last window of which every slice that no later window needs is before `open_from`:
    /// the inverse of [`Slices::open_from`].
    pub(crate) fn fired_before(&self, open_from: i64) -> i64 {
        open_from - self.slice - self.slide + self.size
    }
}

/// The greatest multiple of `step` that is not above `value - base`.
fn floor(value: i64, base: i64, step: i64) -> i64 {
    let shifted = value.saturating_sub(base);
    shifted.saturating_sub(shifted.rem_euclid(step))
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slices(kind: WindowKind, size: u64, step: u64, offset: i64) -> Slices {
        let spec = WindowSpec {
            kind: kind as i32,
            size_ms: size,
            step_ms: step,
            offset_ms: offset,
            ..WindowSpec::default()
        };
        Slices::of_window(&spec).expect("windows")
    }

    /// The windows of a time, in order of their ends.
    fn windows(slices: &Slices, time: Timestamp) -> impl Iterator<Item = i64> + '_ {
        let slice = slices.of_time(time);
        let next = move |window: &i64| slices.next_window(slice, *window);
        std::iter::successors(next(&i64::MIN), next).take(9)
    }

    fn check(slices: Slices, time: i64, expected: &[(i64, i64)]) {
        let windows: Vec<(i64, i64)> = windows(&slices, time)
            .map(|end| (slices.start(end), end))
            .collect();
        assert_eq!(windows, expected, "{slices:?} {time}");
        let slice = slices.of_time(time);
        assert!((slice - slices.slice..slice).contains(&time));
        if let Some((_, last)) = expected.last() {
            assert_eq!(slices.last_window(slice), *last);
        } else {
            assert!(slices.last_window(slice) < slice);
        }
    }

    #[test]
    fn rows_belong_to_windows() {
        use WindowKind::{Cumulate, Hop, Tumble};
        check(slices(Tumble, 10, 0, 0), 0, &[(0, 10)]);
        check(slices(Tumble, 10, 0, 0), 9, &[(0, 10)]);
        check(slices(Tumble, 10, 0, 0), -1, &[(-10, 0)]);
        check(slices(Tumble, 10, 0, -3), 7, &[(7, 17)]);
        check(slices(Tumble, 10, 0, -3), 6, &[(-3, 7)]);
        check(slices(Hop, 10, 5, 0), 7, &[(0, 10), (5, 15)]);
        check(slices(Hop, 10, 4, 0), 7, &[(0, 10), (4, 14)]);
        check(slices(Hop, 10, 4, 0), 8, &[(0, 10), (4, 14), (8, 18)]);
        check(slices(Hop, 10, 4, 1), -1, &[(-7, 3), (-3, 7)]);
        check(slices(Hop, 5, 10, 0), 7, &[]);
        check(slices(Hop, 5, 10, 0), 13, &[(10, 15)]);
        check(slices(Cumulate, 15, 5, 0), 7, &[(0, 10), (0, 15)]);
        check(slices(Cumulate, 15, 5, 0), -1, &[(-15, 0)]);
        check(slices(Cumulate, 15, 5, 2), 1, &[(-13, 2)]);
        check(slices(Cumulate, 15, 5, 2), 2, &[(2, 7), (2, 12), (2, 17)]);
    }

    #[test]
    fn closed_slices_are_those_whose_last_window_has_fired() {
        use WindowKind::{Cumulate, Hop, Tumble};
        for (kind, size, step) in [
            (Tumble, 10, 0),
            (Hop, 10, 4),
            (Hop, 4, 10),
            (Cumulate, 15, 5),
        ] {
            for offset in [-3, 0, 2] {
                let slices = slices(kind, size, step, offset);
                for fired in -40..40 {
                    let open_from = slices.open_from(fired);
                    for time in -80..80 {
                        let slice = slices.of_time(time);
                        if slices.last_window(slice) < slice {
                            continue;
                        }
                        let is_open = slices.last_window(slice) > fired;
                        assert_eq!(is_open, slice >= open_from, "{slices:?} {fired} {time}");
                        if kind != Cumulate {
                            let restored = slices.fired_before(open_from);
                            let next = slices.next_window(slice, fired);
                            assert_eq!(next, slices.next_window(slice, restored));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_ends_of_time_do_not_overflow() {
        use WindowKind::{Cumulate, Hop, Tumble};
        for (kind, size, step) in [(Tumble, 10, 0), (Hop, 10, 4), (Cumulate, 15, 5)] {
            let slices = slices(kind, size, step, 1);
            for time in [i64::MIN, i64::MAX] {
                let slice = slices.of_time(time);
                let _ = (slices.last_window(slice), slices.open_from(time));
                let _ = slices.next_window(slice, time);
            }
            for time in i64::MAX - 40..=i64::MAX {
                assert!(windows(&slices, time).count() <= 3, "{slices:?} {time}");
            }
        }
    }
}
