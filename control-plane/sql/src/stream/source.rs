//! Scans: what a connector filters by itself, and which columns and fields it must make.
//!
//! While a job is built, a scan has all the table's columns and every reader is a Calc. Once all
//! readers are known, [`prune`] keeps what they (and the watermark, if anything waits for it)
//! read, fields within rows included. Parts of a job that scan a table alike share one scan.

use std::collections::BTreeMap;
use std::sync::Arc;

use proto::plan::{self as wire, ScalarFunction, connector_spec::Connector};
use proto::types::{DataType, Field, LogicalType};

use crate::catalog::{ColumnKind, Table};
use crate::connector;
use crate::logical::{Expr, ExprKind, Literal};
use crate::optimize::expr::{and, as_column, children, substitute, transform};
use crate::optimize::simplify::simplify;

use super::PlanOptions;
use super::calc;
use super::node::{Bound, Changes, Graph, Node, NodeId, Op, PrunedSource, SourceOp, tidy_keys};
use super::state_ttl;
use super::translate::Translator;

/// A Calc over a scan of the table: all columns, the rows that meet all conditions.
pub(crate) fn scan(
    translator: &mut Translator<'_>,
    table: &Arc<Table>,
    conditions: Vec<Expr>,
) -> NodeId {
    let (connector, constants, conditions) = push_down(table, conditions);
    let fields: Vec<Field> = table
        .columns
        .iter()
        .map(|column| Field::new(&column.name, column.data_type.clone()))
        .collect();
    let changes = if is_changelog(&connector) {
        Changes::ALL
    } else {
        Changes::NONE
    };
    let op = Op::Source(SourceOp {
        table: table.clone(),
        connector,
        constants: constants.clone(),
        pruned: None,
    });
    let node = Node {
        changes,
        keys: tidy_keys(table.primary_key.iter().cloned().collect()),
        rowtime: table.watermark.iter().map(|w| w.column).collect(),
        bound: Bound::Constant,
        tables: &["offsets"],
        ..Node::new(op, Vec::new(), fields)
    };
    let source = translator.graph.add(node);
    let (all, names) = calc::all_columns(translator.graph.node(source));
    let known = |e: Expr| simplify(with_constants(e, &constants));
    let projections = all
        .into_iter()
        .enumerate()
        .map(|(i, e)| constant(&constants, i).unwrap_or(e))
        .collect();
    let condition = and(conditions.into_iter().map(known).collect());
    calc::calc(&mut translator.graph, source, condition, projections, names)
}

fn constant(constants: &[(usize, Expr)], column: usize) -> Option<Expr> {
    constants
        .iter()
        .find(|(c, _)| *c == column)
        .map(|(_, value)| value.clone())
}

fn with_constants(expr: Expr, constants: &[(usize, Expr)]) -> Expr {
    transform(expr, &mut |part| {
        as_column(&part)
            .and_then(|c| constant(constants, c))
            .unwrap_or(part)
    })
}

/// Whether the source's rows may take others back.
fn is_changelog(spec: &wire::ConnectorSpec) -> bool {
    matches!(&spec.connector, Some(Connector::Filesystem(spec)) if connector::is_changelog(spec))
}

type PushedDown = (wire::ConnectorSpec, Vec<(usize, Expr)>, Vec<Expr>);

/// Gives the connector the conditions it can take. What it takes is true for every row, so it is
/// dropped, and a column that it fixes is a constant.
fn push_down(table: &Table, conditions: Vec<Expr>) -> PushedDown {
    let mut spec = table.connector.clone();
    let Some(Connector::Nexmark(nexmark)) = &mut spec.connector else {
        return (spec, Vec::new(), conditions);
    };
    let physical = |column: &crate::catalog::Column| column.kind == ColumnKind::Physical;
    let Some(event_type) = table
        .columns
        .iter()
        .position(|c| c.name == "event_type" && physical(c))
    else {
        return (spec, Vec::new(), conditions);
    };
    let mut wanted: Option<Vec<i64>> = None;
    let mut rest = Vec::new();
    for condition in conditions {
        match values_of(&condition, event_type) {
            Some(values) => {
                wanted = Some(match wanted {
                    None => values,
                    Some(known) => known.into_iter().filter(|v| values.contains(v)).collect(),
                });
            }
            None => rest.push(condition),
        }
    }
    let Some(mut types) = wanted else {
        return (spec, Vec::new(), rest);
    };
    types.sort_unstable();
    types.dedup();
    let known = |t: &i64| (0..=2).contains(t);
    if types.is_empty() || !types.iter().all(known) {
        // No such events: the generator cannot say "nothing", a condition can.
        rest.push(crate::optimize::expr::truth(false));
        return (spec, Vec::new(), rest);
    }
    nexmark.event_types = types
        .iter()
        .filter_map(|t| u32::try_from(*t).ok())
        .collect();
    let constants = match types.as_slice() {
        [only] => {
            let data_type = table.columns[event_type].data_type.clone();
            let value = Expr::literal(Literal::Integer(*only), data_type.with_nullable(false));
            vec![(event_type, value)]
        }
        _ => Vec::new(),
    };
    (spec, constants, rest)
}

/// The values that `column = 2`, `column IN (0, 2)` and ORs of them admit.
fn values_of(condition: &Expr, column: usize) -> Option<Vec<i64>> {
    let ExprKind::Call { function, args } = &condition.kind else {
        return None;
    };
    let integer = |e: &Expr| match e.kind {
        ExprKind::Literal(Literal::Integer(value)) => Some(value),
        _ => None,
    };
    let is_column = |e: &Expr| match &e.kind {
        ExprKind::Cast { input, .. } => {
            as_column(input) == Some(column) && e.data_type.logical.is_integer()
        }
        _ => as_column(e) == Some(column),
    };
    match (function, args.as_slice()) {
        (ScalarFunction::Equal, [a, b]) if is_column(a) => Some(vec![integer(b)?]),
        (ScalarFunction::Equal, [a, b]) if is_column(b) => Some(vec![integer(a)?]),
        (ScalarFunction::In, [a, list @ ..]) if is_column(a) => list.iter().map(integer).collect(),
        (ScalarFunction::Or, parts) => {
            let sets: Option<Vec<Vec<i64>>> =
                parts.iter().map(|part| values_of(part, column)).collect();
            Some(sets?.concat())
        }
        _ => None,
    }
}

/// What of a column is read: all of it, or some fields.
#[derive(Clone, Default, Debug)]
struct Usage {
    whole: bool,
    fields: BTreeMap<usize, Usage>,
}

type Used = BTreeMap<usize, Usage>;

/// Adds what an expression reads.
fn add_usage(expr: &Expr, used: &mut Used) {
    let mut path = Vec::new();
    let mut end = expr;
    while let ExprKind::Field { input, index } = &end.kind {
        path.push(*index);
        end = input;
    }
    if let Some(column) = as_column(end) {
        let mut usage = used.entry(column).or_default();
        for field in path.into_iter().rev() {
            usage = usage.fields.entry(field).or_default();
        }
        usage.whole = true;
        return;
    }
    for child in children(expr) {
        add_usage(child, used);
    }
}

/// The type with only the fields that are read.
fn narrow(data_type: &DataType, usage: &Usage) -> DataType {
    let LogicalType::Row(fields) = &data_type.logical else {
        return data_type.clone();
    };
    if usage.whole {
        return data_type.clone();
    }
    let kept = usage
        .fields
        .iter()
        .map(|(i, usage)| Field::new(&fields[*i].name, narrow(&fields[*i].data_type, usage)))
        .collect();
    DataType {
        logical: LogicalType::Row(kept),
        nullable: data_type.nullable,
    }
}

/// Columns that are left, where they are now and what is left of them.
struct Layout<'a> {
    used: &'a Used,
    fields: &'a [Field],
}

impl Layout<'_> {
    fn position(&self, column: usize) -> usize {
        self.used.range(..column).count()
    }

    /// The expression over the columns that are left.
    fn rewrite(&self, expr: Expr) -> Expr {
        if let Some(found) = self.path(&expr) {
            return found.0;
        }
        let Expr { kind, data_type } = expr;
        let each = |exprs: Vec<Expr>| exprs.into_iter().map(|e| self.rewrite(e)).collect();
        let kind = match kind {
            ExprKind::Call { function, args } => ExprKind::Call {
                function,
                args: each(args),
            },
            ExprKind::Cast { input, r#try } => ExprKind::Cast {
                input: Box::new(self.rewrite(*input)),
                r#try,
            },
            ExprKind::Field { input, index } => ExprKind::Field {
                input: Box::new(self.rewrite(*input)),
                index,
            },
            ExprKind::Case {
                branches,
                otherwise,
            } => ExprKind::Case {
                branches: branches
                    .into_iter()
                    .map(|(c, r)| (self.rewrite(c), self.rewrite(r)))
                    .collect(),
                otherwise: Box::new(self.rewrite(*otherwise)),
            },
            other => other,
        };
        Expr { kind, data_type }
    }

    /// A column or a field of one, and what is left of it.
    fn path(&self, expr: &Expr) -> Option<(Expr, &Usage)> {
        match &expr.kind {
            ExprKind::Column(column) => {
                let usage = self.used.get(column)?;
                let position = self.position(*column);
                let data_type = self.fields[position].data_type.clone();
                Some((Expr::column(position, data_type), usage))
            }
            ExprKind::Field { input, index } => {
                let (input, usage) = self.path(input)?;
                if usage.whole {
                    let kind = ExprKind::Field {
                        input: Box::new(input),
                        index: *index,
                    };
                    let data_type = expr.data_type.clone();
                    return Some((Expr { kind, data_type }, usage));
                }
                let below = usage.fields.get(index)?;
                let kept = usage.fields.range(..index).count();
                let mut data_type = narrow(&expr.data_type, below);
                data_type.nullable = expr.data_type.nullable;
                let kind = ExprKind::Field {
                    input: Box::new(input),
                    index: kept,
                };
                Some((Expr { kind, data_type }, below))
            }
            _ => None,
        }
    }
}

/// Keeps of every scan what its readers need.
pub(crate) fn prune(graph: &mut Graph, options: &PlanOptions) {
    let live = graph.live();
    for id in 0..graph.nodes.len() {
        if live[id] && matches!(graph.node(id).op, Op::Source(_)) {
            prune_source(graph, id, &live, options);
        }
    }
    bypass_identities(graph);
}

fn prune_source(graph: &mut Graph, id: NodeId, live: &[bool], options: &PlanOptions) {
    let Op::Source(source) = &graph.node(id).op else {
        return;
    };
    let mut source = source.clone();
    let table = source.table.clone();
    let readers: Vec<NodeId> = (0..graph.nodes.len())
        .filter(|n| live[*n] && graph.node(*n).inputs.contains(&id))
        .collect();
    let mut used = Used::new();
    for reader in &readers {
        if let Op::Calc {
            condition,
            projections,
        } = &graph.node(*reader).op
        {
            projections
                .iter()
                .chain(condition)
                .for_each(|e| add_usage(e, &mut used));
        }
    }
    let watermark = table
        .watermark
        .as_ref()
        .filter(|_| waits_for_watermark(graph, id, live, options));
    if let Some(watermark) = watermark {
        used.entry(watermark.column).or_default().whole = true;
        add_usage(&watermark.expr, &mut used);
    }
    if used.is_empty() {
        used.entry(cheapest(&table)).or_default().whole = true;
    }
    let (produced, calc, fields) = columns_of(&table, &mut used, &source.constants);
    let layout = Layout {
        used: &used,
        fields: &fields,
    };
    let watermark = watermark.map(|w| {
        let expr = simplify(with_constants(w.expr.clone(), &source.constants));
        (layout.position(w.column), layout.rewrite(expr))
    });
    for reader in readers {
        if let Op::Calc {
            condition,
            projections,
        } = &mut graph.nodes[reader].op
        {
            let taken = std::mem::take(projections);
            *projections = taken.into_iter().map(|e| layout.rewrite(e)).collect();
            *condition = condition.take().map(|c| layout.rewrite(c));
        }
    }
    let node = &mut graph.nodes[id];
    let place = |column: &usize| used.contains_key(column).then(|| layout.position(*column));
    node.keys = node
        .keys
        .iter()
        .filter_map(|key| key.iter().map(&place).collect())
        .collect();
    node.rowtime = node.rowtime.iter().filter_map(&place).collect();
    node.fields = fields.clone();
    source.pruned = Some(Box::new(PrunedSource {
        produced,
        calc,
        watermark,
    }));
    node.op = Op::Source(source);
}

type SourceColumns = (Vec<Field>, Option<Vec<Expr>>, Vec<Field>);

/// What the connector makes, the computed columns over it (if any), and the scan's output. What
/// computed columns read of a row is added to what is used of it.
fn columns_of(table: &Table, used: &mut Used, constants: &[(usize, Expr)]) -> SourceColumns {
    let physical: Vec<usize> = (0..table.columns.len())
        .filter(|i| table.columns[*i].kind == ColumnKind::Physical)
        .collect();
    // Constants by position among the physical columns, which computed ones are written over.
    let constants: Vec<(usize, Expr)> = constants
        .iter()
        .filter_map(|(c, e)| Some((physical.iter().position(|p| p == c)?, e.clone())))
        .collect();
    let computed: BTreeMap<usize, Expr> = used
        .keys()
        .filter_map(|i| match &table.columns[*i].kind {
            ColumnKind::Physical => None,
            ColumnKind::Computed(e) => Some((*i, e.clone())),
        })
        .map(|(i, e)| (i, simplify(with_constants(e, &constants))))
        .collect();
    let mut made = Used::new();
    for (position, column) in physical.iter().enumerate() {
        if let Some(usage) = used.get(column) {
            made.insert(position, usage.clone());
        }
    }
    computed.values().for_each(|e| add_usage(e, &mut made));
    if made.is_empty()
        && let Some(position) = physical.iter().position(|c| *c == cheapest(table))
    {
        made.entry(position).or_default().whole = true;
    }
    for (position, column) in physical.iter().enumerate() {
        if let (Some(usage), Some(all)) = (used.get_mut(column), made.get(&position)) {
            usage.clone_from(all);
        }
    }
    let produced: Vec<Field> = made
        .iter()
        .map(|(position, usage)| {
            let column = &table.columns[physical[*position]];
            Field::new(&column.name, narrow(&column.data_type, usage))
        })
        .collect();
    let layout = Layout {
        used: &made,
        fields: &produced,
    };
    let mut fields = Vec::new();
    let mut exprs = Vec::new();
    for column in used.keys() {
        let declared = &table.columns[*column];
        let expr = match computed.get(column) {
            Some(e) => layout.rewrite(e.clone()),
            None => {
                let position = physical.iter().position(|p| p == column).unwrap_or(0);
                let position = layout.position(position);
                Expr::column(position, produced[position].data_type.clone())
            }
        };
        let data_type = if computed.contains_key(column) {
            declared.data_type.clone()
        } else {
            expr.data_type.clone()
        };
        fields.push(Field::new(&declared.name, data_type));
        exprs.push(expr);
    }
    let identity = exprs.len() == produced.len()
        && exprs
            .iter()
            .enumerate()
            .all(|(i, e)| as_column(e) == Some(i));
    (produced, (!identity).then_some(exprs), fields)
}

/// Expressions over a table's columns, over those alone that its connector must make for them.
pub(super) fn over_produced(table: &Table, exprs: Vec<Expr>) -> (Vec<Field>, Vec<Expr>) {
    let mut used = Used::new();
    exprs.iter().for_each(|e| add_usage(e, &mut used));
    if used.is_empty() {
        used.entry(cheapest(table)).or_default().whole = true;
    }
    let (produced, calc, fields) = columns_of(table, &mut used, &[]);
    let layout = Layout {
        used: &used,
        fields: &fields,
    };
    let placed = exprs.into_iter().map(|e| {
        let e = layout.rewrite(e);
        match &calc {
            Some(calc) => simplify(substitute(e, calc)),
            None => e,
        }
    });
    let placed = placed.collect();
    (produced, placed)
}

/// The physical column that costs least, for readers that only count rows.
fn cheapest(table: &Table) -> usize {
    let cost = |i: &usize| {
        let logical = &table.columns[*i].data_type.logical;
        match logical {
            LogicalType::Row(_) | LogicalType::Array(_) | LogicalType::Map(..) => 3,
            _ if logical.is_character() || logical.is_binary() => 2,
            LogicalType::Decimal { .. } => 1,
            _ => 0,
        }
    };
    (0..table.columns.len())
        .filter(|i| table.columns[*i].kind == ColumnKind::Physical)
        .min_by_key(cost)
        .unwrap_or(0)
}

/// Whether anything downstream acts on the passing of event time.
fn waits_for_watermark(graph: &Graph, id: NodeId, live: &[bool], options: &PlanOptions) -> bool {
    let mut reached = vec![false; graph.nodes.len()];
    reached[id] = true;
    for n in id + 1..graph.nodes.len() {
        let node = graph.node(n);
        if !live[n] || !node.inputs.iter().any(|input| reached[*input]) {
            continue;
        }
        reached[n] = true;
        let windowed_rank = matches!(
            &node.op,
            Op::Rank(wire::Rank {
                window: Some(_),
                ..
            }) | Op::Deduplicate(wire::Deduplicate {
                window: Some(_),
                ..
            })
        );
        let by_time = match &node.op {
            Op::WindowAggregate(op) => !is_by_clock(op),
            Op::WindowAssign(_)
            | Op::WindowJoin { .. }
            | Op::IntervalJoin { .. }
            | Op::TemporalJoin { .. }
            | Op::Sort(_) => true,
            Op::Join { until, .. } => until.iter().any(|times| !times.is_empty()),
            _ => false,
        };
        let asks = matches!(&node.op, Op::Calc { condition, projections }
            if projections.iter().chain(condition).any(reads_watermark));
        let ages = options.state_ttl_in_event_time && state_ttl::of(node, options).is_some();
        if windowed_rank || by_time || asks || ages {
            return true;
        }
    }
    false
}

fn is_by_clock(op: &wire::WindowAggregate) -> bool {
    matches!(
        &op.windowing,
        Some(wire::window_aggregate::Windowing::Window(window)) if window.processing_time
    )
}

fn reads_watermark(expr: &Expr) -> bool {
    let here = matches!(
        expr.kind,
        ExprKind::Call {
            function: ScalarFunction::CurrentWatermark,
            ..
        }
    );
    here || children(expr).into_iter().any(reads_watermark)
}

/// Calcs that only pass all columns on are left out.
fn bypass_identities(graph: &mut Graph) {
    for id in 0..graph.nodes.len() {
        let node = graph.node(id);
        let Op::Calc {
            condition: None,
            projections,
        } = &node.op
        else {
            continue;
        };
        let input = node.inputs[0];
        let identity = projections.len() == graph.node(input).fields.len()
            && projections
                .iter()
                .enumerate()
                .all(|(i, e)| as_column(e) == Some(i));
        if identity {
            for consumer in &mut graph.nodes[id + 1..] {
                for slot in &mut consumer.inputs {
                    if *slot == id {
                        *slot = input;
                    }
                }
            }
        }
    }
}
