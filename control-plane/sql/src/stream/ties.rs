//! A join of a stream with its own windowed MAX or MIN, by that value: only the rows that tie with it
//! come through. Recognises such a join, and has rows left out before it that cannot.

use proto::plan::{self as wire, AggregateFunction, WindowKind, window_aggregate::Windowing};
use proto::types::LogicalType;

use crate::logical::{Expr, JoinKind};
use crate::optimize::expr::{as_column, conjuncts, is_deterministic, substitute};

use super::interval::{comparison, is_in_ms, sum};
use super::join::pair;
use super::node::{Bound, Node, NodeId, Op};
use super::translate::Translator;

/// More windows than this are not looked at for a row, be it that they count it or that it meets them.
const WINDOWS_PER_ROW_MAX: u64 = 16;

/// An aggregate over whole windows of a relation.
struct WindowedBest {
    /// Of the relation that it aggregates.
    value: usize,
    relation: NodeId,
    spec: wire::WindowSpec,
    is_least: bool,
}

/// Expressions over a node that is no projection, and what its rows must meet.
struct Origin {
    node: NodeId,
    conditions: Vec<Expr>,
    exprs: Vec<Expr>,
}

impl Translator<'_> {
    /// Both inputs of a join, the one of which the other is the windowed MAX or MIN without rows that
    /// are below it.
    pub(super) fn without_lesser(
        &mut self,
        conditions: &[Expr],
        sides: [NodeId; 2],
        kind: JoinKind,
    ) -> [NodeId; 2] {
        let width = self.graph.node(sides[0]).fields.len();
        // Not of a side whose rows come out although they meet nothing.
        let is_outer = match kind {
            JoinKind::Left | JoinKind::Anti => [true, false],
            JoinKind::Right => [false, true],
            JoinKind::Full => [true, true],
            JoinKind::Inner | JoinKind::Semi => [false, false],
        };
        let pairs = conditions
            .iter()
            .filter_map(|condition| pair(condition, width));
        for pair in pairs.filter(|pair| !pair.null_safe) {
            let (Some(left), Some(right)) = (as_column(&pair.left), as_column(&pair.right)) else {
                continue;
            };
            for (side, value, best) in [(0, left, right), (1, right, left)] {
                let filter = match is_outer[side] {
                    true => None,
                    false => self.tie_filter(conditions, sides, side, (value, best)),
                };
                if let Some(filter) = filter {
                    let mut sides = sides;
                    sides[side] = self.add_tie_filter(sides[side], filter);
                    return sides;
                }
            }
        }
        sides
    }

    /// The filter of a side whose column `value` equals the other's column `best`.
    fn tie_filter(
        &self,
        conditions: &[Expr],
        sides: [NodeId; 2],
        side: usize,
        (value, best): (usize, usize),
    ) -> Option<wire::TieFilter> {
        let (stream, aggregate) = (sides[side], sides[1 - side]);
        if !self.graph.node(stream).changes.is_append() {
            return None;
        }
        let best = self.windowed_best(aggregate, best)?;
        let logical = &self.graph.node(stream).fields[value].data_type.logical;
        let is_number = matches!(logical, LogicalType::Date | LogicalType::Timestamp(_));
        if !is_number && !logical.is_integer() {
            return None;
        }
        let (time, (from_ms, to_ms)) = self.ends(conditions, sides, side)?;
        // All rows of the stream are among those that are aggregated, by the same time.
        let own = self.origin(stream, &[value, time]);
        let of_best = self.origin(best.relation, &[best.value, best.spec.time_column as usize]);
        let is_among = of_best
            .conditions
            .iter()
            .all(|c| own.conditions.contains(c));
        let mut all = own.exprs.iter().chain(&of_best.conditions);
        let same = own.node == of_best.node && own.exprs == of_best.exprs && is_among;
        if !same || !all.all(is_deterministic) {
            return None;
        }
        let step_ms = match best.spec.kind() {
            WindowKind::Tumble => best.spec.size_ms,
            _ => best.spec.step_ms,
        };
        let span_ms = u64::try_from(to_ms.checked_sub(from_ms)?).ok()?;
        let longest_ms = span_ms.max(best.spec.size_ms);
        if step_ms == 0 || longest_ms / step_ms > WINDOWS_PER_ROW_MAX {
            return None;
        }
        Some(wire::TieFilter {
            value: value as u32,
            window: Some(wire::WindowSpec {
                time_column: time as u32,
                ..best.spec
            }),
            end_from_ms: from_ms,
            end_to_ms: to_ms,
            least: best.is_least,
        })
    }

    /// The aggregate that a column is of, if it is one of all rows of each window.
    fn windowed_best(&self, id: NodeId, column: usize) -> Option<WindowedBest> {
        let node = self.graph.node(id);
        let op = match &node.op {
            Op::Calc { projections, .. } => {
                let column = as_column(projections.get(column)?)?;
                return self.windowed_best(node.inputs[0], column);
            }
            Op::WindowAggregate(op) if op.keys.is_empty() => op,
            _ => return None,
        };
        let Some(Windowing::Window(spec)) = &op.windowing else {
            return None;
        };
        // Times of a local time zone are not told from others in the columns of the window.
        let is_utc = |time: usize| {
            matches!(
                node.fields[time].data_type.logical,
                LogicalType::Timestamp(0..=3)
            )
        };
        let has_windows = matches!(
            spec.kind(),
            WindowKind::Tumble | WindowKind::Hop | WindowKind::Cumulate
        );
        let time = node.windowed.and_then(|windowed| windowed.time)?;
        if spec.processing_time || !has_windows || !is_utc(time) {
            return None;
        }
        // Pre-aggregated rows have the call's arguments further down.
        let below = self.graph.node(node.inputs[0]);
        let (calls, spec, relation) = match &below.op {
            Op::LocalAggregate(local) if op.from_partial => {
                (&local.calls, local.window.as_ref()?, below.inputs[0])
            }
            _ if op.from_partial => return None,
            _ => (&op.calls, spec, node.inputs[0]),
        };
        let call = calls.get(column)?;
        let is_least = match call.function.parse() {
            Ok(AggregateFunction::Max) => false,
            Ok(AggregateFunction::Min) => true,
            _ => return None,
        };
        let [value] = call.args[..] else { return None };
        let same_type = self.graph.node(relation).fields[value as usize]
            .data_type
            .logical
            == node.fields[column].data_type.logical;
        (call.filter.is_none() && same_type).then(|| WindowedBest {
            value: value as usize,
            relation,
            spec: spec.clone(),
            is_least,
        })
    }

    /// A column of the stream, and how long after it those windows end, from and to, that conditions let
    /// its rows meet.
    fn ends(
        &self,
        conditions: &[Expr],
        sides: [NodeId; 2],
        side: usize,
    ) -> Option<(usize, (i64, i64))> {
        let nodes = sides.map(|id| self.graph.node(id));
        let width = nodes[0].fields.len();
        let is_time = |column: usize| {
            let field = match column.checked_sub(width) {
                None => &nodes[0].fields[column],
                Some(column) => &nodes[1].fields[column],
            };
            is_in_ms(&field.data_type.logical)
        };
        let mut found: Option<(usize, Option<i64>, Option<i64>)> = None;
        for condition in conditions {
            let Some(said) = comparison(condition, width, &is_time) else {
                continue;
            };
            let negative = |ms: Option<i64>| ms.and_then(i64::checked_neg);
            // How far the window's column is from the row's.
            let (time, window, from, to) = match side {
                0 => (said.left, said.right - width, said.lower_ms, said.upper_ms),
                _ => (
                    said.right - width,
                    said.left,
                    negative(said.upper_ms),
                    negative(said.lower_ms),
                ),
            };
            let Some(after_ms) = self.after_end_ms(sides[1 - side], window) else {
                continue;
            };
            let less = |ms: Option<i64>| ms.and_then(|ms| ms.checked_sub(after_ms));
            let (from, to) = (less(from), less(to));
            match &mut found {
                Some((known, known_from, known_to)) if *known == time => {
                    *known_from = (*known_from).max(from);
                    *known_to = [*known_to, to].into_iter().flatten().min();
                }
                Some(_) => {}
                None => found = Some((time, from, to)),
            }
        }
        let (time, from, to) = found?;
        Some((time, (from?, to?)))
    }

    /// How long after the end of a row's window, in milliseconds, the time in one of its columns is.
    fn after_end_ms(&self, id: NodeId, column: usize) -> Option<i64> {
        let node = self.graph.node(id);
        match &node.op {
            Op::Calc { projections, .. } => {
                let below = self.graph.node(node.inputs[0]);
                let is_time = |column: usize| is_in_ms(&below.fields[column].data_type.logical);
                let sum = sum(projections.get(column)?, &is_time)?;
                let [(column, 1)] = sum.times[..] else {
                    return None;
                };
                self.after_end_ms(node.inputs[0], column)?
                    .checked_add(sum.ms)
            }
            Op::WindowAggregate(_) => {
                let windowed = node.windowed?;
                match column {
                    _ if column == windowed.end => Some(0),
                    _ if Some(column) == windowed.time => Some(-1),
                    _ if column == windowed.start && windowed.kind != WindowKind::Cumulate => {
                        i64::try_from(windowed.size_ms).ok()?.checked_neg()
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// Columns of a node as expressions over what its projections read.
    fn origin(&self, id: NodeId, columns: &[usize]) -> Origin {
        let fields = &self.graph.node(id).fields;
        let column = |column: &usize| Expr::column(*column, fields[*column].data_type.clone());
        let mut origin = Origin {
            node: id,
            conditions: Vec::new(),
            exprs: columns.iter().map(column).collect(),
        };
        while let Op::Calc {
            condition,
            projections,
        } = &self.graph.node(origin.node).op
        {
            let below = |expr: Expr| substitute(expr, projections);
            origin.exprs = origin.exprs.into_iter().map(below).collect();
            origin.conditions = origin.conditions.into_iter().map(below).collect();
            origin
                .conditions
                .extend(condition.clone().map(conjuncts).unwrap_or_default());
            origin.node = self.graph.node(origin.node).inputs[0];
        }
        origin
    }

    fn add_tie_filter(&mut self, input: NodeId, filter: wire::TieFilter) -> NodeId {
        let below = self.graph.node(input);
        let node = Node {
            changes: below.changes,
            distribution: below.distribution.clone(),
            keys: below.keys.clone(),
            rowtime: below.rowtime.clone(),
            windowed: below.windowed,
            bound: Bound::Stateless,
            ..Node::new(Op::TieFilter(filter), vec![input], below.fields.clone())
        };
        self.graph.add(node)
    }
}
