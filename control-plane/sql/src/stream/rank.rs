//! Top-N: `ROW_NUMBER() OVER (…) AS rn` under a condition on rn, and LIMIT.
//!
//! rn = 1 by a time attribute keeps the first or last row of a key and becomes a Deduplicate;
//! partitions that include a window are decided when it closes.

use proto::plan::{self as wire, ScalarFunction};
use proto::types::Field;

use crate::error::SqlError;
use crate::logical::{
    Expr, ExprKind, Literal, LogicalPlan, OverCall, OverFunction, SortKey, TimeAttribute,
};
use crate::optimize::expr::{and, as_column, columns, conjuncts};

use super::calc;
use super::node::{Bound, Changes, Distribution, Node, NodeId, Op, Windowed, tidy_keys};
use super::translate::{Translator, bigint};

/// Which ranks stay, both ends inclusive, from 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Range {
    first: u64,
    last: u64,
}

impl Translator<'_> {
    /// The plan of `[Project](Filter(Over(ROW_NUMBER)))` with an upper limit on the number; `None` for
    /// anything else.
    pub(crate) fn top_n(&mut self, plan: &LogicalPlan) -> Result<Option<NodeId>, SqlError> {
        let (project, filter) = match plan {
            LogicalPlan::Project {
                input,
                exprs,
                schema,
            } => (Some((exprs, schema)), &**input),
            other => (None, other),
        };
        let LogicalPlan::Filter { input, predicate } = filter else {
            return Ok(None);
        };
        let LogicalPlan::Over { input, calls, .. } = &**input else {
            return Ok(None);
        };
        let [call] = calls.as_slice() else {
            return Ok(None);
        };
        let rank_column = input.schema().len();
        let (range, rest) = rank_range(conjuncts(predicate.clone()), rank_column);
        let Some(range) = range else { return Ok(None) };
        match &call.function {
            OverFunction::RowNumber => {}
            OverFunction::Rank | OverFunction::DenseRank => return Err(self.rank_error(call)),
            OverFunction::Lag { .. } | OverFunction::Aggregate(_) => return Ok(None),
        }
        let reads_rank = |e: &Expr| columns(e).contains(&rank_column);
        let output_rank = project.is_none_or(|(exprs, _)| exprs.iter().any(reads_rank))
            || rest.iter().any(reads_rank);
        let ranked = self.rank(input, call, range, output_rank)?;
        let ranked = calc::filter(&mut self.graph, ranked, and(rest));
        Ok(Some(match project {
            None => ranked,
            Some((exprs, schema)) => {
                let names = super::translate::names(schema);
                calc::calc(&mut self.graph, ranked, None, exprs.clone(), names)
            }
        }))
    }

    fn rank(
        &mut self,
        input: &LogicalPlan,
        call: &OverCall,
        range: Range,
        output_rank: bool,
    ) -> Result<NodeId, SqlError> {
        let width = input.schema().len();
        if call.order_by.is_empty() {
            return Err(SqlError::plan("ROW_NUMBER() needs an ORDER BY")
                .hint("say which rows are the first"));
        }
        let time = self.time_order(input, &call.order_by);
        let mut node = self.relation(input)?;
        let mut partition = Vec::new();
        for key in &call.partition_by {
            let (next, column) = self.column_of(node, key);
            node = next;
            partition.push(column);
        }
        let (node, order_by) = self.sort_columns(node, &call.order_by);
        let appended = self.graph.node(node).fields.len() - width;
        let append_only = self.graph.node(node).changes.is_append();
        let first_only = range == Range { first: 1, last: 1 };
        let deduplicated = match time {
            Some(time) if first_only && append_only => {
                Some(self.deduplicate(node, &partition, time))
            }
            _ => None,
        };
        let (ranked, rank_at) = match deduplicated {
            Some(id) => (id, None),
            None => {
                let id = self.add_rank(node, &partition, order_by, range, output_rank);
                (id, output_rank.then_some(width + appended))
            }
        };
        let (all, names) = calc::all_columns(self.graph.node(ranked));
        let mut projections = all[..width].to_vec();
        let mut names = names[..width].to_vec();
        if output_rank {
            projections.push(match rank_at {
                Some(at) => all[at].clone(),
                None => crate::optimize::expr::bigint(1),
            });
            names.push(call.name.clone());
        }
        Ok(calc::calc(
            &mut self.graph,
            ranked,
            None,
            projections,
            names,
        ))
    }

    /// Whether the order is that of a time attribute alone: (column, or `None` for processing
    /// time; newest first).
    fn time_order(&self, input: &LogicalPlan, order: &[SortKey]) -> Option<(Option<usize>, bool)> {
        let [key] = order else { return None };
        let column = as_column(&key.expr)?;
        match input.schema()[column].time? {
            TimeAttribute::Rowtime => Some((Some(column), key.descending)),
            TimeAttribute::Proctime => Some((None, key.descending)),
        }
    }

    /// Splits window columns off the partition, if the node's rows have a window there and stay as they
    /// are once it is over.
    fn window_of(
        &self,
        input: NodeId,
        partition: &[usize],
    ) -> (Vec<usize>, Option<wire::AttachedWindow>) {
        let below = self.graph.node(input);
        let windowed = below
            .windowed
            .filter(|w| partition.contains(&w.start) && partition.contains(&w.end))
            .filter(|_| below.changes.is_append());
        match windowed {
            None => (partition.to_vec(), None),
            Some(w) => {
                let rest = partition
                    .iter()
                    .copied()
                    .filter(|c| *c != w.start && *c != w.end && Some(*c) != w.time)
                    .collect();
                (rest, Some(w.attached()))
            }
        }
    }

    fn deduplicate(
        &mut self,
        input: NodeId,
        partition: &[usize],
        (time_column, keep_last): (Option<usize>, bool),
    ) -> NodeId {
        let (keys, window) = self.window_of(input, partition);
        let below = self.graph.node(input);
        let windowed = below.windowed.filter(|_| window.is_some());
        // The first row by arrival is never replaced; the first by event time may be.
        let final_at_once = window.is_some() || (!keep_last && time_column.is_none());
        let node = Node {
            changes: if final_at_once {
                Changes::NONE
            } else {
                Changes::UPDATES
            },
            distribution: distribution(&keys),
            required: vec![distribution(&keys)],
            keys: tidy_keys(
                [partition.to_vec()]
                    .into_iter()
                    .chain(below.keys.clone())
                    .collect(),
            ),
            rowtime: windowed.map_or_else(|| below.rowtime.clone(), Windowed::closed_times),
            windowed: windowed.map(Windowed::closed).or(below.windowed),
            bound: if window.is_some() {
                Bound::Window
            } else {
                Bound::Unbounded(self.per_key("row", &keys, input))
            },
            tables: &["rows"],
            ..Node::new(
                Op::Deduplicate(wire::Deduplicate {
                    keys: wire_columns(&keys),
                    time_column: time_column.map(|c| c as u32),
                    keep_last,
                    window,
                    emit_update_before: false,
                }),
                vec![input],
                below.fields.clone(),
            )
        };
        self.graph.add(node)
    }

    fn add_rank(
        &mut self,
        input: NodeId,
        partition: &[usize],
        order_by: Vec<wire::SortKey>,
        range: Range,
        output_rank: bool,
    ) -> NodeId {
        let (keys, window) = self.window_of(input, partition);
        let below = self.graph.node(input);
        let windowed = below.windowed.filter(|_| window.is_some());
        let mut fields = below.fields.clone();
        let mut unique = below.keys.clone();
        if range.first == range.last {
            unique.push(partition.to_vec());
        }
        if output_rank {
            unique.push(partition.iter().copied().chain([fields.len()]).collect());
            fields.push(Field::new("rank", bigint()));
        }
        let node = Node {
            changes: if window.is_some() {
                Changes::NONE
            } else {
                Changes::ALL
            },
            distribution: distribution(&keys),
            required: vec![distribution(&keys)],
            keys: tidy_keys(unique),
            rowtime: windowed.map_or_else(Vec::new, Windowed::closed_times),
            windowed: windowed.map(Windowed::closed),
            bound: if window.is_some() {
                Bound::Window
            } else if keys.is_empty() && below.changes.is_append() {
                Bound::Constant
            } else if below.changes.is_append() {
                Bound::Unbounded(self.per_key("top row", &keys, input))
            } else {
                Bound::Unbounded("input row".to_owned())
            },
            tables: &["rows"],
            ..Node::new(
                Op::Rank(wire::Rank {
                    partition_by: wire_columns(&keys),
                    order_by,
                    offset: range.first - 1,
                    limit: range.last - range.first + 1,
                    output_rank,
                    window,
                    emit_update_before: false,
                }),
                vec![input],
                fields,
            )
        };
        self.graph.add(node)
    }

    /// `ORDER BY … LIMIT … OFFSET …`
    pub(crate) fn limit(
        &mut self,
        input: &LogicalPlan,
        keys: &[SortKey],
        offset: u64,
        limit: u64,
    ) -> Result<NodeId, SqlError> {
        let width = input.schema().len();
        let Some(last) = offset.checked_add(limit) else {
            return Err(SqlError::plan("LIMIT and OFFSET are too large"));
        };
        if limit == 0 {
            // Of a subquery; elsewhere it is gone by now.
            return self.relation(&LogicalPlan::Values {
                rows: Vec::new(),
                schema: input.schema().clone(),
            });
        }
        let input = self.relation(input)?;
        let (input, order_by) = self.sort_columns(input, keys);
        let range = Range {
            first: offset + 1,
            last,
        };
        let id = self.add_rank(input, &[], order_by, range, false);
        let columns: Vec<usize> = (0..width).collect();
        Ok(calc::select(&mut self.graph, id, &columns))
    }

    /// "row per (a, b)", for the bound of a state.
    pub(crate) fn per_key(&self, what: &str, keys: &[usize], input: NodeId) -> String {
        let fields = &self.graph.node(input).fields;
        let names: Vec<&str> = keys.iter().map(|k| fields[*k].name.as_str()).collect();
        format!("{what} per ({})", names.join(", "))
    }
}

/// Takes the conditions on the rank out of the others.
fn rank_range(all: Vec<Expr>, rank_column: usize) -> (Option<Range>, Vec<Expr>) {
    let (mut first, mut last) = (1i64, None::<i64>);
    let mut rest = Vec::new();
    for condition in all {
        match comparison(&condition, rank_column) {
            Some((ScalarFunction::LessOrEqual, n)) => last = Some(last.map_or(n, |l| l.min(n))),
            Some((ScalarFunction::Less, n)) => {
                last = Some(last.map_or(n - 1, |l| l.min(n - 1)));
            }
            Some((ScalarFunction::GreaterOrEqual, n)) => first = first.max(n),
            Some((ScalarFunction::Greater, n)) => first = first.max(n + 1),
            Some((ScalarFunction::Equal, n)) => {
                first = first.max(n);
                last = Some(last.map_or(n, |l| l.min(n)));
            }
            _ => rest.push(condition),
        }
    }
    let range = last.filter(|last| *last >= first).map(|last| Range {
        first: first.unsigned_abs(),
        last: last.unsigned_abs(),
    });
    (range, rest)
}

fn comparison(condition: &Expr, rank_column: usize) -> Option<(ScalarFunction, i64)> {
    use ScalarFunction as F;
    let ExprKind::Call { function, args } = &condition.kind else {
        return None;
    };
    let [a, b] = args.as_slice() else { return None };
    let number = |e: &Expr| match e.kind {
        ExprKind::Literal(Literal::Integer(n)) => Some(n),
        _ => None,
    };
    if as_column(a) == Some(rank_column) {
        return Some((*function, number(b)?));
    }
    if as_column(b) != Some(rank_column) {
        return None;
    }
    let flipped = match function {
        F::Less => F::Greater,
        F::LessOrEqual => F::GreaterOrEqual,
        F::Greater => F::Less,
        F::GreaterOrEqual => F::LessOrEqual,
        other => *other,
    };
    Some((flipped, number(a)?))
}

/// By these keys; none means a single task.
pub(crate) fn distribution(keys: &[usize]) -> Distribution {
    if keys.is_empty() {
        Distribution::Single
    } else {
        Distribution::Hash(keys.to_vec())
    }
}

/// Positions in the plan's width.
pub(crate) fn wire_columns(columns: &[usize]) -> Vec<u32> {
    columns.iter().map(|c| *c as u32).collect()
}
