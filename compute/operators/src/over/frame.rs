//! Which rows come into the frame of a row and which leave it, as one goes through a partition in
//! order. Knows positions only: what stands there is the caller's.

/// Where frames start; they end with the row itself, RANGE with all that the order does not tell
/// apart from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Frame {
    /// With the first row.
    Unbounded {
        /// RANGE.
        range: bool,
    },
    /// So many rows before.
    Rows(u64),
    /// With the first row that is no further away.
    Range(i64),
}

impl Frame {
    /// Whether rows that the order does not tell apart see each other.
    pub(super) fn has_peers(self) -> bool {
        match self {
            Frame::Unbounded { range } => range,
            Frame::Rows(_) => false,
            Frame::Range(_) => true,
        }
    }
}

/// Rows of a partition in order.
pub(super) trait InOrder {
    /// Whether the order tells a row apart from the one before it.
    fn begins(&self, at: usize) -> bool;

    /// How far the first of two rows is before the second.
    fn distance(&self, from: usize, to: usize) -> i64;
}

/// What happens to a frame.
pub(super) trait FrameSteps {
    /// A row comes into it.
    fn comes(&mut self, at: usize);

    /// The oldest row leaves it.
    fn goes(&mut self, at: usize);

    /// All rows of the frame of row `at` are there: from `start` to before `end`.
    fn is_complete(&mut self, at: usize, start: usize, end: usize);
}

/// Goes through the rows from `from` to before `to`, whose first one begins after a frame that starts
/// at `start`. Peers are never parted: `from` and `to` are not among rows that the order does not tell
/// apart, where the frame has peers. Returns where the frame starts that is left for the next row.
pub(super) fn go_through(
    frame: Frame,
    rows: &impl InOrder,
    mut start: usize,
    (from, to): (usize, usize),
    steps: &mut impl FrameSteps,
) -> usize {
    if !frame.has_peers() {
        for at in from..to {
            steps.comes(at);
            steps.is_complete(at, start, at + 1);
            // Rows that the next one does not see leave at once: they need not be kept.
            if let Frame::Rows(before) = frame
                && (at + 1 - start) as u64 > before
            {
                steps.goes(start);
                start += 1;
            }
        }
        return start;
    }
    let mut at = from;
    while at < to {
        let end = (at + 1..to).find(|next| rows.begins(*next)).unwrap_or(to);
        if let Frame::Range(reach) = frame {
            // A reach of nothing is that of the peers, whatever they are ordered by.
            while start < at && (reach == 0 || rows.distance(start, at) > reach) {
                steps.goes(start);
                start += 1;
            }
        }
        (at..end).for_each(|row| steps.comes(row));
        (at..end).for_each(|row| steps.is_complete(row, start, end));
        at = end;
    }
    start
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Times(Vec<i64>);

    impl InOrder for Times {
        fn begins(&self, at: usize) -> bool {
            self.0[at] != self.0[at - 1]
        }

        fn distance(&self, from: usize, to: usize) -> i64 {
            self.0[to] - self.0[from]
        }
    }

    /// Frames as they are told, and as what came and went leaves them.
    #[derive(Default)]
    struct Told {
        there: std::collections::VecDeque<usize>,
        frames: Vec<(usize, Vec<usize>)>,
    }

    impl FrameSteps for Told {
        fn comes(&mut self, at: usize) {
            self.there.push_back(at);
        }

        fn goes(&mut self, at: usize) {
            assert_eq!(self.there.pop_front(), Some(at));
        }

        fn is_complete(&mut self, at: usize, start: usize, end: usize) {
            let there: Vec<usize> = self.there.iter().copied().collect();
            assert_eq!(there, (start..end).collect::<Vec<_>>());
            self.frames.push((at, there));
        }
    }

    fn expected(frame: Frame, times: &[i64], at: usize) -> Vec<usize> {
        let sees = |other: usize| match frame {
            Frame::Unbounded { range: false } => other <= at,
            Frame::Unbounded { range: true } => times[other] <= times[at],
            Frame::Rows(before) => other <= at && (at - other) as u64 <= before,
            Frame::Range(reach) => (0..=reach).contains(&(times[at] - times[other])),
        };
        (0..times.len()).filter(|other| sees(*other)).collect()
    }

    proptest! {
        #[test]
        fn a_row_sees_what_its_frame_says(
            steps in prop::collection::vec((0..4_i64, any::<bool>()), 0..30),
            reach in 0..6_u8,
            kind in 0..4_u8,
        ) {
            let frame = match kind {
                0 => Frame::Unbounded { range: false },
                1 => Frame::Unbounded { range: true },
                2 => Frame::Rows(reach.into()),
                _ => Frame::Range(reach.into()),
            };
            let mut times = Vec::new();
            let mut cuts = vec![0];
            for (step, cut) in steps {
                let time = times.last().copied().unwrap_or(0) + step;
                if cut && (step > 0 || !frame.has_peers()) {
                    cuts.push(times.len());
                }
                times.push(time);
            }
            cuts.push(times.len());
            let rows = Times(times.clone());
            let mut told = Told::default();
            let mut start = 0;
            for cut in cuts.windows(2) {
                start = go_through(frame, &rows, start, (cut[0], cut[1]), &mut told);
            }
            let all = (0..times.len()).map(|at| (at, expected(frame, &times, at)));
            prop_assert_eq!(told.frames, all.collect::<Vec<_>>());
        }
    }
}
