//! Interval joins: finds the bounds that a condition sets to the distance of two event times, in
//! whatever way it says so, and plans the join whose rows go when the watermark has passed them.

use proto::plan::ScalarFunction as F;
use proto::types::LogicalType;

use crate::logical::{Expr, ExprKind, JoinKind, Literal};

use super::join::{Keys, join_type, output_fields, pair};
use super::node::{Bound, Distribution, JoinOn, Node, NodeId, Op, Windowed, tidy_keys};
use super::rank::distribution;
use super::temporal::times_not_before;
use super::translate::Translator;

/// How far the time of a right row may be from that of a left row, in milliseconds; both ends
/// inclusive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Interval {
    /// Column of the left side.
    pub(super) left_time: usize,
    /// Column of the right side.
    pub(super) right_time: usize,
    pub(super) lower_ms: i64,
    pub(super) upper_ms: i64,
}

/// A sum of times and constants.
#[derive(Clone, Debug, Default)]
pub(super) struct Sum {
    /// Columns and how often each is in it.
    pub(super) times: Vec<(usize, i64)>,
    pub(super) ms: i64,
}

/// What a condition says about the distance of two times: that of the right one from the left one.
pub(super) struct Comparison {
    /// Columns of both sides.
    pub(super) left: usize,
    pub(super) right: usize,
    pub(super) lower_ms: Option<i64>,
    pub(super) upper_ms: Option<i64>,
    /// The condition says nothing else.
    is_range: bool,
}

impl Translator<'_> {
    /// The bounds that conditions over both inputs set to the distance of two of their event times, if
    /// they do on both ends and equate something too; and the other conditions. None of inputs that take
    /// rows back, for rows that time has passed by are gone.
    pub(super) fn interval(
        &self,
        conditions: &[Expr],
        left: NodeId,
        right: NodeId,
    ) -> Option<(Interval, Vec<Expr>)> {
        let (l, r) = (self.graph.node(left), self.graph.node(right));
        if !l.changes.union(r.changes).is_append() {
            return None;
        }
        let width = l.fields.len();
        let is_time = |column: usize| {
            let (node, column) = match column.checked_sub(width) {
                None => (l, column),
                Some(column) => (r, column),
            };
            node.rowtime.contains(&column) && is_in_ms(&node.fields[column].data_type.logical)
        };
        let said: Vec<Option<Comparison>> = conditions
            .iter()
            .map(|condition| comparison(condition, width, &is_time))
            .collect();
        let about = |one: &Comparison, other: &Comparison| {
            (one.left, one.right) == (other.left, other.right)
        };
        said.iter().flatten().find_map(|first| {
            let same = |found: &&Comparison| about(first, found);
            let found = || said.iter().flatten().filter(same);
            let interval = Interval {
                left_time: first.left,
                right_time: first.right - width,
                lower_ms: found().filter_map(|c| c.lower_ms).max()?,
                upper_ms: found().filter_map(|c| c.upper_ms).min()?,
            };
            let is_rest = |said: &Option<Comparison>| {
                !said.as_ref().is_some_and(|c| about(first, c) && c.is_range)
            };
            let all = conditions.iter().zip(&said);
            let rest = all.filter(|(_, said)| is_rest(said));
            let rest: Vec<Expr> = rest.map(|(condition, _)| condition.clone()).collect();
            let has_key = rest
                .iter()
                .any(|condition| pair(condition, width).is_some());
            has_key.then_some((interval, rest))
        })
    }

    /// The join of two inputs that only append, `interval` apart.
    pub(super) fn interval_node(
        &self,
        (left, right): (NodeId, NodeId),
        kind: JoinKind,
        keys: Keys,
        condition: Option<Expr>,
        interval: Interval,
    ) -> Node {
        let (l, r) = (self.graph.node(left), self.graph.node(right));
        let width = l.fields.len();
        let required = vec![distribution(&keys.left), distribution(&keys.right)];
        let spread = match (kind, distribution(&keys.left)) {
            (JoinKind::Full, Distribution::Hash(_)) => Distribution::Any,
            (JoinKind::Right, Distribution::Hash(_)) => {
                Distribution::Hash(keys.right.iter().map(|key| key + width).collect())
            }
            (_, spread) => spread,
        };
        let (rowtime, windowed) = times(l, r, kind, interval);
        let unique = match kind {
            JoinKind::Semi | JoinKind::Anti => l.keys.clone(),
            _ => pairs_of_keys(l, r),
        };
        let op = Op::IntervalJoin {
            on: JoinOn {
                kind: join_type(kind),
                left_keys: keys.left,
                right_keys: keys.right,
                null_safe: keys.null_safe,
                condition,
            },
            left_time: interval.left_time,
            right_time: interval.right_time,
            lower_ms: interval.lower_ms,
            upper_ms: interval.upper_ms,
        };
        Node {
            required,
            distribution: spread,
            keys: tidy_keys(unique),
            rowtime,
            windowed,
            bound: Bound::Window,
            tables: tables(kind),
            ..Node::new(
                op,
                vec![left, right],
                output_fields(&l.fields, &r.fields, kind),
            )
        }
    }
}

/// State tables by kind. Rows that have matched nothing are kept apart where they are put out for it.
fn tables(kind: JoinKind) -> &'static [&'static str] {
    const LEFT: &str = "left rows without a match";
    const RIGHT: &str = "right rows without a match";
    match kind {
        JoinKind::Inner | JoinKind::Semi => &["left rows", "right rows"],
        JoinKind::Left | JoinKind::Anti => &["left rows", "right rows", LEFT],
        JoinKind::Right => &["left rows", "right rows", RIGHT],
        JoinKind::Full => &["left rows", "right rows", LEFT, RIGHT],
    }
}

/// Columns of the output that carry event time: those of times that are joined by and never missing.
fn times(
    left: &Node,
    right: &Node,
    kind: JoinKind,
    interval: Interval,
) -> (Vec<usize>, Option<Windowed>) {
    let width = left.fields.len();
    let of_left = || left.windowed.and_then(|w| w.not_before(interval.left_time));
    let of_right = || {
        let windowed = right
            .windowed
            .and_then(|w| w.not_before(interval.right_time));
        windowed.map(|w| w.shifted(width))
    };
    let right_time = interval.right_time + width;
    match kind {
        JoinKind::Full => (Vec::new(), None),
        JoinKind::Right => (times_not_before(of_right(), right_time), of_right()),
        JoinKind::Inner => {
            let mut times = times_not_before(of_left(), interval.left_time);
            times.extend(times_not_before(of_right(), right_time));
            (times, of_left().or_else(of_right))
        }
        JoinKind::Left | JoinKind::Semi | JoinKind::Anti => {
            (times_not_before(of_left(), interval.left_time), of_left())
        }
    }
}

fn pairs_of_keys(left: &Node, right: &Node) -> Vec<Vec<usize>> {
    let width = left.fields.len();
    let mut pairs = Vec::new();
    for l in &left.keys {
        for r in &right.keys {
            pairs.push(
                l.iter()
                    .copied()
                    .chain(r.iter().map(|c| c + width))
                    .collect(),
            );
        }
    }
    pairs
}

/// Whether times of this type have no parts of a millisecond.
pub(super) fn is_in_ms(logical: &LogicalType) -> bool {
    matches!(
        logical,
        LogicalType::Timestamp(0..=3) | LogicalType::TimestampLtz(0..=3)
    )
}

/// What a comparison says about the distance of a time of the right side from one of the left side.
pub(super) fn comparison(
    condition: &Expr,
    width: usize,
    is_time: &dyn Fn(usize) -> bool,
) -> Option<Comparison> {
    let ExprKind::Call { function, args } = &condition.kind else {
        return None;
    };
    let (function, args) = match (function, args.as_slice()) {
        (F::Not, [inner]) => match &inner.kind {
            ExprKind::Call { function, args } => (negated(*function)?, args),
            _ => return None,
        },
        _ => (*function, args),
    };
    let [a, b] = args.as_slice() else { return None };
    let sum = sum(a, is_time)?.minus(sum(b, is_time)?)?;
    let (plus, minus) = match sum.times.as_slice() {
        [(plus, 1), (minus, -1)] | [(minus, -1), (plus, 1)] => (*plus, *minus),
        _ => return None,
    };
    // How far right is from left, compared with a constant.
    let (left, right, function, ms) = match (plus < width, minus < width) {
        (false, true) => (minus, plus, function, sum.ms.checked_neg()?),
        (true, false) => (plus, minus, mirrored(function), sum.ms),
        _ => return None,
    };
    let (lower_ms, upper_ms) = match function {
        F::Less => (None, Some(ms.checked_sub(1)?)),
        F::LessOrEqual => (None, Some(ms)),
        F::Greater => (Some(ms.checked_add(1)?), None),
        F::GreaterOrEqual => (Some(ms), None),
        F::Equal => (Some(ms), Some(ms)),
        _ => return None,
    };
    let bounds = [lower_ms, upper_ms].into_iter().flatten();
    let fits = bounds
        .clone()
        .all(|ms| ms.unsigned_abs() <= DISTANCE_MS_MAX);
    fits.then_some(Comparison {
        left,
        right,
        lower_ms,
        upper_ms,
        is_range: function != F::Equal,
    })
}

/// Longer intervals are as good as none, and sums of them with a time would not fit.
pub(super) const DISTANCE_MS_MAX: u64 = 1 << 60;

/// The comparison with its sides exchanged.
pub(super) fn mirrored(function: F) -> F {
    match function {
        F::Less => F::Greater,
        F::LessOrEqual => F::GreaterOrEqual,
        F::Greater => F::Less,
        F::GreaterOrEqual => F::LessOrEqual,
        other => other,
    }
}

pub(super) fn negated(function: F) -> Option<F> {
    match function {
        F::Less => Some(F::GreaterOrEqual),
        F::LessOrEqual => Some(F::Greater),
        F::Greater => Some(F::LessOrEqual),
        F::GreaterOrEqual => Some(F::Less),
        _ => None,
    }
}

/// An expression of times and constant intervals as a sum.
pub(super) fn sum(expr: &Expr, is_time: &dyn Fn(usize) -> bool) -> Option<Sum> {
    let is_constant = expr.data_type.logical == LogicalType::IntervalDayTime;
    match &expr.kind {
        ExprKind::Column(column) if is_time(*column) => Some(Sum {
            times: vec![(*column, 1)],
            ms: 0,
        }),
        ExprKind::Literal(Literal::Integer(ms)) if is_constant => Some(Sum {
            times: Vec::new(),
            ms: *ms,
        }),
        // A finer type holds the same time.
        ExprKind::Cast {
            input,
            r#try: false,
        } => match (&input.data_type.logical, &expr.data_type.logical) {
            (LogicalType::Timestamp(from), LogicalType::Timestamp(to))
            | (LogicalType::TimestampLtz(from), LogicalType::TimestampLtz(to))
                if from <= to =>
            {
                sum(input, is_time)
            }
            _ => None,
        },
        ExprKind::Call { function, args } => match (function, args.as_slice()) {
            (F::AddInterval | F::Add, [a, b]) => sum(a, is_time)?.plus(sum(b, is_time)?),
            (F::SubtractTimestamps | F::Subtract, [a, b]) => {
                sum(a, is_time)?.minus(sum(b, is_time)?)
            }
            (F::Negate, [a]) => Sum::default().minus(sum(a, is_time)?),
            _ => None,
        },
        _ => None,
    }
}

impl Sum {
    fn plus(mut self, other: Sum) -> Option<Sum> {
        for (column, count) in other.times {
            match self.times.iter_mut().find(|(known, _)| *known == column) {
                Some((_, known)) => *known += count,
                None => self.times.push((column, count)),
            }
        }
        self.times.retain(|(_, count)| *count != 0);
        self.ms = self.ms.checked_add(other.ms)?;
        Some(self)
    }

    fn minus(self, mut other: Sum) -> Option<Sum> {
        other
            .times
            .iter_mut()
            .for_each(|(_, count)| *count = -*count);
        other.ms = other.ms.checked_neg()?;
        self.plus(other)
    }
}
