//! Joins: keys out of the condition, window joins where both sides agree on a window, else the
//! join that keeps both inputs whole.

use std::collections::BTreeSet;

use proto::plan::{JoinType, ScalarFunction};
use proto::types::Field;

use crate::error::SqlError;
use crate::logical::{Expr, ExprKind, JoinKind, LogicalPlan};
use crate::optimize::expr::{and, as_column, columns, conjuncts, is_deterministic, remap};

use super::calc;
use super::node::{Bound, Changes, Distribution, Node, NodeId, Op, Windowed, tidy_keys};
use super::rank::distribution;
use super::translate::{Translator, fields};

/// `left = right`, each side's expression over its own input.
pub(super) struct Pair {
    pub(super) left: Expr,
    pub(super) right: Expr,
    pub(super) null_safe: bool,
}

/// Key columns of both sides, pair by pair.
pub(super) struct Keys {
    pub(super) left: Vec<usize>,
    pub(super) right: Vec<usize>,
    pub(super) null_safe: Vec<bool>,
}

impl Translator<'_> {
    pub(crate) fn join(&mut self, plan: &LogicalPlan) -> Result<NodeId, SqlError> {
        let LogicalPlan::Join {
            left,
            right,
            kind,
            condition,
            schema,
            ttl_ms,
        } = plan
        else {
            return Err(SqlError::plan("a join expected"));
        };
        let (l, r) = (left.schema().len(), right.schema().len());
        let left = self.relation(left)?;
        let right = self.relation(right)?;
        let all = condition.clone().map(conjuncts).unwrap_or_default();
        let [left, right] = self.without_lesser(&all, [left, right], *kind);
        let (mut pairs, mut residual) = equi_pairs(all.clone(), l);
        let window = self.common_window(left, right, &mut pairs);
        let interval = match window {
            None => self.interval(&all, left, right),
            Some(_) => None,
        };
        let interval = interval.map(|(interval, rest)| {
            (pairs, residual) = equi_pairs(rest, l);
            interval
        });
        let until = self.until(&all, [left, right]);
        let (left, left_keys) = self.key_columns(left, pairs.iter().map(|p| &p.left));
        let (right, right_keys) = self.key_columns(right, pairs.iter().map(|p| &p.right));
        let mut keys = Keys {
            left: left_keys,
            right: right_keys,
            null_safe: pairs.iter().map(|p| p.null_safe).collect(),
        };
        self.order_keys(&mut keys, left, right);
        let wide_left = self.graph.node(left).fields.len();
        let condition =
            and(residual).map(|c| remap(c, &|i| if i < l { i } else { i - l + wide_left }));
        let ages = window.is_none() && interval.is_none();
        let mut node = match interval {
            Some(interval) => self.interval_node((left, right), *kind, keys, condition, interval),
            None => self.join_node(left, right, *kind, keys, condition, window),
        };
        if ages {
            node.ttl_ms = ttl_ms.to_vec();
            self.bound_by_time(&mut node, until);
        } else if ttl_ms.iter().any(Option::is_some) {
            self.warn_of_window();
        }
        let id = self.graph.add(node);
        let mut kept: Vec<usize> = (0..l).collect();
        if !matches!(kind, JoinKind::Semi | JoinKind::Anti) {
            kept.extend(wide_left..wide_left + r);
        }
        debug_assert_eq!(kept.len(), fields(schema).len());
        Ok(calc::select(&mut self.graph, id, &kept))
    }

    /// Both sides' windows, if the pairs equate their starts and ends; those pairs are taken out. None
    /// where rows are taken back: what a window had been joined to when it was over would stay.
    fn common_window(
        &self,
        left: NodeId,
        right: NodeId,
        pairs: &mut Vec<Pair>,
    ) -> Option<(Windowed, Windowed)> {
        let (left, right) = (self.graph.node(left), self.graph.node(right));
        let (l, r) = (left.windowed?, right.windowed?);
        let equates = |pair: &Pair, a: usize, b: usize| {
            as_column(&pair.left) == Some(a) && as_column(&pair.right) == Some(b)
        };
        let starts = pairs.iter().any(|p| equates(p, l.start, r.start));
        let ends = pairs.iter().any(|p| equates(p, l.end, r.end));
        let append = left.changes.union(right.changes).is_append();
        if !starts || !ends || !l.same_windows(&r) || !append {
            return None;
        }
        pairs.retain(|p| !equates(p, l.start, r.start) && !equates(p, l.end, r.end));
        Some((l, r))
    }

    pub(super) fn key_columns<'e>(
        &mut self,
        mut input: NodeId,
        exprs: impl Iterator<Item = &'e Expr>,
    ) -> (NodeId, Vec<usize>) {
        let mut found = Vec::new();
        for expr in exprs {
            let (next, column) = self.column_of(input, expr);
            input = next;
            found.push(column);
        }
        (input, found)
    }

    /// Puts the key pairs into the order by which an input is spread already.
    pub(super) fn order_keys(&self, keys: &mut Keys, left: NodeId, right: NodeId) {
        let order_of = |node: NodeId, own: &[usize]| -> Option<Vec<usize>> {
            let Distribution::Hash(spread) = &self.graph.node(node).distribution else {
                return None;
            };
            let places: Vec<usize> = spread
                .iter()
                .map(|column| own.iter().position(|key| key == column))
                .collect::<Option<_>>()?;
            let distinct: BTreeSet<&usize> = places.iter().collect();
            (places.len() == own.len() && distinct.len() == own.len()).then_some(places)
        };
        let Some(order) = order_of(left, &keys.left).or_else(|| order_of(right, &keys.right))
        else {
            return;
        };
        keys.left = order.iter().map(|i| keys.left[*i]).collect();
        keys.right = order.iter().map(|i| keys.right[*i]).collect();
        keys.null_safe = order.iter().map(|i| keys.null_safe[*i]).collect();
    }

    fn join_node(
        &mut self,
        left: NodeId,
        right: NodeId,
        kind: JoinKind,
        keys: Keys,
        condition: Option<Expr>,
        window: Option<(Windowed, Windowed)>,
    ) -> Node {
        let (l, r) = (self.graph.node(left), self.graph.node(right));
        let width = l.fields.len();
        let shift = |columns: &[usize]| columns.iter().map(|c| c + width).collect::<Vec<_>>();
        let windowed = window.and_then(|(lw, rw)| match kind {
            JoinKind::Full => None,
            JoinKind::Right => Some(rw.shifted(width).closed()),
            _ => Some(lw.closed()),
        });
        let append = l.changes.union(r.changes).is_append();
        let changes = changes(window.is_some(), append, kind);
        let output = match (kind, distribution(&keys.left)) {
            (_, Distribution::Single) => Distribution::Single,
            (JoinKind::Full, _) => Distribution::Any,
            (JoinKind::Right, _) => Distribution::Hash(shift(&keys.right)),
            (_, spread) => spread,
        };
        let rowtime = windowed.map_or_else(Vec::new, Windowed::closed_times);
        let bound = if window.is_some() {
            Bound::Window
        } else {
            Bound::Unbounded("row of both inputs".to_owned())
        };
        let unique = unique_keys(l, r, kind, &keys, window.as_ref());
        let required = vec![distribution(&keys.left), distribution(&keys.right)];
        let output_fields = output_fields(&l.fields, &r.fields, kind);
        let op = operator(kind, keys, condition, window);
        Node {
            required,
            changes,
            distribution: output,
            keys: tidy_keys(unique),
            rowtime,
            windowed,
            bound,
            tables: &["left rows", "right rows"],
            ..Node::new(op, vec![left, right], output_fields)
        }
    }
}

/// What a join may do to rows that it put out.
fn changes(windowed: bool, append_inputs: bool, kind: JoinKind) -> Changes {
    let grows_only = append_inputs && matches!(kind, JoinKind::Inner | JoinKind::Semi);
    // A pair that changes is deleted and inserted, for it has no key of its own.
    Changes {
        update: false,
        delete: !windowed && !grows_only,
    }
}

fn operator(
    kind: JoinKind,
    keys: Keys,
    condition: Option<Expr>,
    window: Option<(Windowed, Windowed)>,
) -> Op {
    let kind = join_type(kind);
    let Keys {
        left: left_keys,
        right: right_keys,
        null_safe,
    } = keys;
    match window {
        None => Op::Join {
            kind,
            left_keys,
            right_keys,
            null_safe,
            condition,
            until: Default::default(),
            best: None,
        },
        Some((left, right)) => Op::WindowJoin {
            kind,
            left_keys,
            right_keys,
            null_safe,
            condition,
            left_window: left.attached(),
            right_window: right.attached(),
        },
    }
}

pub(super) fn output_fields(left: &[Field], right: &[Field], kind: JoinKind) -> Vec<Field> {
    let pad = |fields: &[Field], nullable: bool| {
        fields
            .iter()
            .cloned()
            .map(|mut field| {
                field.data_type.nullable |= nullable;
                field
            })
            .collect::<Vec<_>>()
    };
    let mut all = pad(left, matches!(kind, JoinKind::Right | JoinKind::Full));
    if !matches!(kind, JoinKind::Semi | JoinKind::Anti) {
        all.extend(pad(right, matches!(kind, JoinKind::Left | JoinKind::Full)));
    }
    all
}

/// Column sets that identify a row of the output.
fn unique_keys(
    left: &Node,
    right: &Node,
    kind: JoinKind,
    keys: &Keys,
    window: Option<&(Windowed, Windowed)>,
) -> Vec<Vec<usize>> {
    if matches!(kind, JoinKind::Semi | JoinKind::Anti) {
        return left.keys.clone();
    }
    let width = left.fields.len();
    let joined = |own: &[usize], window: Option<&Windowed>| {
        let mut columns = own.to_vec();
        columns.extend(window.into_iter().flat_map(|w| [w.start, w.end]));
        columns
    };
    let on_left = joined(&keys.left, window.map(|(l, _)| l));
    let on_right = joined(&keys.right, window.map(|(_, r)| r));
    let covers = |unique: &[Vec<usize>], columns: &[usize]| {
        unique
            .iter()
            .any(|key| key.iter().all(|column| columns.contains(column)))
    };
    let shift = |key: &Vec<usize>| key.iter().map(|c| c + width).collect::<Vec<_>>();
    let mut found = Vec::new();
    // A side that meets one row of the other at most keeps its own key.
    if covers(&right.keys, &on_right) && matches!(kind, JoinKind::Inner | JoinKind::Left) {
        found.extend(left.keys.clone());
    }
    if covers(&left.keys, &on_left) && matches!(kind, JoinKind::Inner | JoinKind::Right) {
        found.extend(right.keys.iter().map(shift));
    }
    for l in &left.keys {
        for r in &right.keys {
            found.push(l.iter().copied().chain(shift(r)).collect());
        }
    }
    found
}

pub(super) fn join_type(kind: JoinKind) -> JoinType {
    match kind {
        JoinKind::Inner => JoinType::Inner,
        JoinKind::Left => JoinType::Left,
        JoinKind::Right => JoinType::Right,
        JoinKind::Full => JoinType::Full,
        JoinKind::Semi => JoinType::Semi,
        JoinKind::Anti => JoinType::Anti,
    }
}

/// Splits a condition into equalities between the sides and the rest.
pub(super) fn equi_pairs(all: Vec<Expr>, width: usize) -> (Vec<Pair>, Vec<Expr>) {
    let mut pairs = Vec::new();
    let mut residual = Vec::new();
    for condition in all {
        match pair(&condition, width) {
            Some(pair) => pairs.push(pair),
            None => residual.push(condition),
        }
    }
    (pairs, residual)
}

/// The equality between the sides that a condition is, if it is one.
pub(super) fn pair(condition: &Expr, width: usize) -> Option<Pair> {
    let ExprKind::Call { function, args } = &condition.kind else {
        return None;
    };
    let null_safe = match function {
        ScalarFunction::Equal => false,
        ScalarFunction::IsNotDistinctFrom => true,
        _ => return None,
    };
    let [a, b] = args.as_slice() else { return None };
    let on_left = |e: &Expr| {
        let read = columns(e);
        !read.is_empty() && read.iter().all(|c| *c < width)
    };
    let on_right = |e: &Expr| {
        let read = columns(e);
        !read.is_empty() && read.iter().all(|c| *c >= width)
    };
    // Both sides are hashed, which tells different types apart even where `=` does not.
    let (ta, tb) = (&a.data_type.logical, &b.data_type.logical);
    let same_hash = ta == tb || ta.is_character() && tb.is_character();
    if !same_hash || !is_deterministic(condition) {
        return None;
    }
    let (left, right) = if on_left(a) && on_right(b) {
        (a, b)
    } else if on_left(b) && on_right(a) {
        (b, a)
    } else {
        return None;
    };
    Some(Pair {
        left: left.clone(),
        right: remap(right.clone(), &|i| i - width),
        null_safe,
    })
}
