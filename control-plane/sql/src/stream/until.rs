//! How long a join needs a row: finds the conditions by which nothing meets it any more whose event
//! time is after a time that the row has itself, so that it can go when the watermark is there.

use proto::plan::{self as wire, ScalarFunction as F};
use proto::types::LogicalType;

use crate::logical::{Expr, ExprKind};
use crate::optimize::expr::{children, columns, remap};

use super::interval::{DISTANCE_MS_MAX, comparison, is_in_ms, mirrored, negated, sum};
use super::node::{Bound, NodeId, Op};
use super::state_ttl;
use super::translate::Translator;

/// A time of a row.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct RowTime {
    /// Over the columns of the row's side; NULL: the row meets nothing.
    pub(crate) time: Expr,
    /// Added to it, in milliseconds.
    pub(crate) plus_ms: i64,
}

/// `low <= high`, or `low < high`.
struct Order<'e> {
    low: &'e Expr,
    high: &'e Expr,
    is_strict: bool,
}

impl Translator<'_> {
    /// Per side the times of a row of which the least is the last one that it meets rows of.
    /// `conditions` are over the columns of both.
    pub(super) fn until(&self, conditions: &[Expr], sides: [NodeId; 2]) -> [Vec<RowTime>; 2] {
        let mut until = [Vec::new(), Vec::new()];
        let append = |side: NodeId| self.graph.node(side).changes.is_append();
        if !sides.into_iter().all(append) {
            return until;
        }
        for condition in conditions {
            for (side, time) in self.times_in(condition, sides) {
                if !until[side].contains(&time) {
                    until[side].push(time);
                }
            }
        }
        until
    }

    /// What one condition says.
    fn times_in(&self, condition: &Expr, sides: [NodeId; 2]) -> Vec<(usize, RowTime)> {
        let nodes = sides.map(|side| self.graph.node(side));
        let width = nodes[0].fields.len();
        let place = |column: usize| match column.checked_sub(width) {
            None => (0, column),
            Some(column) => (1, column),
        };
        let is_time = |column: usize| {
            let (side, column) = place(column);
            is_in_ms(&nodes[side].fields[column].data_type.logical)
        };
        if let Some(said) = comparison(condition, width, &is_time) {
            let until = |side: usize, column: usize, other: usize, ms: Option<i64>| {
                let data_type = nodes[side].fields[column].data_type.clone();
                let ahead = self.ahead_ms(sides[1 - side], other)?;
                let plus_ms = ms?.checked_sub(ahead)?;
                let time = Expr::column(column, data_type);
                Some((side, RowTime { time, plus_ms }))
            };
            let right = said.right - width;
            let later = until(0, said.left, right, said.upper_ms);
            let earlier = said.lower_ms.and_then(i64::checked_neg);
            return later
                .into_iter()
                .chain(until(1, right, said.left, earlier))
                .collect();
        }
        orders(condition)
            .iter()
            .filter_map(|order| {
                let [(column, 1)] = sum(order.low, &is_time)?.times[..] else {
                    return None;
                };
                let low_ms = sum(order.low, &is_time)?.ms;
                let (other, column) = place(column);
                let side = 1 - other;
                let read = columns(order.high);
                let is_own = !read.is_empty() && read.iter().all(|c| place(*c).0 == side);
                let logical = &order.high.data_type.logical;
                if !is_own || !is_point(logical) || !is_total(order.high) {
                    return None;
                }
                // Of a finer time only the millisecond that it is in is looked at.
                let strict_ms = i64::from(order.is_strict && is_in_ms(logical));
                let ahead = self.ahead_ms(sides[other], column)?;
                let sum_ms = low_ms.checked_add(strict_ms)?.checked_add(ahead)?;
                let plus_ms = sum_ms.checked_neg()?;
                let fits = plus_ms.unsigned_abs() <= DISTANCE_MS_MAX;
                let time = remap(order.high.clone(), &|c| place(c).1);
                fits.then_some((side, RowTime { time, plus_ms }))
            })
            .collect()
    }

    /// By how much more than the watermark the values of a column are, at least, in rows that are to
    /// come: they are above their sum. `None`: nothing is known of them.
    fn ahead_ms(&self, id: NodeId, column: usize) -> Option<i64> {
        let node = self.graph.node(id);
        if node.rowtime.contains(&column) {
            return is_in_ms(&node.fields[column].data_type.logical).then_some(0);
        }
        // window_time, which is just before the end, is above the watermark. (That of a local time
        // zone is not told from window_end.)
        if let Some(windowed) = node.windowed
            && let Some(time) = windowed.time.filter(|time| node.rowtime.contains(time))
            && matches!(
                node.fields[time].data_type.logical,
                LogicalType::Timestamp(0..=3)
            )
        {
            let size = i64::try_from(windowed.size_ms).ok()?;
            return match column {
                _ if column == windowed.end => Some(1),
                _ if column == windowed.start && windowed.has_size() => Some(1 - size),
                _ => None,
            };
        }
        let Op::Calc { projections, .. } = &node.op else {
            return None;
        };
        let below = self.graph.node(node.inputs[0]);
        let is_time = |column: usize| is_in_ms(&below.fields[column].data_type.logical);
        let sum = sum(projections.get(column)?, &is_time)?;
        let [(column, 1)] = sum.times[..] else {
            return None;
        };
        self.ahead_ms(node.inputs[0], column)?.checked_add(sum.ms)
    }

    /// Has the rows of a join go by what its conditions say, unless they go by age.
    pub(super) fn bound_by_time(&self, node: &mut super::node::Node, until: [Vec<RowTime>; 2]) {
        if state_ttl::of(node, self.options).is_some() {
            return;
        }
        let Op::Join {
            kind, until: own, ..
        } = &mut node.op
        else {
            return;
        };
        let per = match [&until[0], &until[1]].map(|times| times.is_empty()) {
            [true, true] => return,
            [false, false] => None,
            // Rows that others count as met stay with them.
            [true, false] if is_counting(*kind, 0) => Some("row of both inputs".to_owned()),
            [false, true] if is_counting(*kind, 1) => Some("row of both inputs".to_owned()),
            [true, false] => Some("row of the left input".to_owned()),
            [false, true] => Some("row of the right input".to_owned()),
        };
        *own = until;
        // Time passes with the slower input, and one without watermark has none before its end.
        let timeless = |input: &NodeId| state_ttl::timeless(&self.graph, *input);
        let per = match node.inputs.iter().find_map(timeless) {
            Some(table) => Some(format!(
                "row of both inputs, as long as table `{table}` goes on, which has no watermark"
            )),
            None => per,
        };
        node.bound = per.map_or(Bound::Window, Bound::Unbounded);
    }
}

/// Whether it matters to rows of a side whether they have met others.
fn is_counting(kind: wire::JoinType, side: usize) -> bool {
    use wire::JoinType as J;
    match side {
        0 => matches!(kind, J::Left | J::Full | J::Semi | J::Anti),
        _ => matches!(kind, J::Right | J::Full),
    }
}

/// The orders of two values that a condition demands.
fn orders(condition: &Expr) -> Vec<Order<'_>> {
    let call = |expr: &'_ Expr| match &expr.kind {
        ExprKind::Call { function, .. } => Some(*function),
        _ => None,
    };
    let (function, args) = match &condition.kind {
        ExprKind::Call {
            function: F::Not,
            args,
        } => match args.as_slice() {
            [inner] => (call(inner).and_then(negated), children(inner)),
            _ => return Vec::new(),
        },
        ExprKind::Call { function, args } => (Some(*function), args.iter().collect()),
        _ => return Vec::new(),
    };
    let ([a, b], Some(function)) = (args.as_slice(), function) else {
        return Vec::new();
    };
    let order = |low, high, function| Order {
        low,
        high,
        is_strict: function == F::Less,
    };
    match function {
        F::Less | F::LessOrEqual => vec![order(a, b, function)],
        F::Greater | F::GreaterOrEqual => vec![order(b, a, mirrored(function))],
        F::Equal => vec![order(a, b, F::LessOrEqual), order(b, a, F::LessOrEqual)],
        _ => Vec::new(),
    }
}

/// Whether values are points in time.
fn is_point(logical: &LogicalType) -> bool {
    matches!(
        logical,
        LogicalType::Timestamp(_) | LogicalType::TimestampLtz(_)
    )
}

/// Whether an expression always gives the same value and never fails, so that it can be computed for
/// rows that meet nothing as well.
fn is_total(expr: &Expr) -> bool {
    let is_it = match &expr.kind {
        ExprKind::Column(_) | ExprKind::Literal(_) | ExprKind::Field { .. } => true,
        ExprKind::Case { .. } => true,
        ExprKind::Cast {
            input,
            r#try: false,
        } => match (&input.data_type.logical, &expr.data_type.logical) {
            (LogicalType::Timestamp(from), LogicalType::Timestamp(to))
            | (LogicalType::TimestampLtz(from), LogicalType::TimestampLtz(to)) => {
                from <= to && *to <= 6
            }
            (LogicalType::Date, LogicalType::Timestamp(to)) => *to <= 6,
            _ => false,
        },
        // A sum of nanoseconds may lie beyond what is counted.
        ExprKind::Call {
            function: F::AddInterval,
            ..
        } => matches!(
            expr.data_type.logical,
            LogicalType::Date | LogicalType::Timestamp(0..=6) | LogicalType::TimestampLtz(0..=6)
        ),
        ExprKind::Call { function, .. } => matches!(
            function,
            F::Coalesce
                | F::NullIf
                | F::Greatest
                | F::Least
                | F::Equal
                | F::NotEqual
                | F::Less
                | F::LessOrEqual
                | F::Greater
                | F::GreaterOrEqual
                | F::And
                | F::Or
                | F::Not
                | F::IsNull
                | F::IsNotNull
                | F::IsTrue
                | F::IsNotTrue
                | F::IsFalse
                | F::IsNotFalse
        ),
        _ => false,
    };
    is_it && children(expr).into_iter().all(is_total)
}
