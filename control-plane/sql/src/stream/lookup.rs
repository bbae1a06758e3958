//! Lookup joins: what is read of the table outside, and by which of its columns rows are found. What
//! only the table decides is decided when it is read.

use std::sync::Arc;

use proto::types::Field;

use crate::catalog::Table;
use crate::error::SqlError;
use crate::logical::{Expr, ExprKind, JoinKind, LogicalPlan};
use crate::optimize::expr::{
    and, as_column, columns, conjuncts, is_deterministic, remap, substitute, volatile_function,
};
use proto::plan::ScalarFunction;

use super::calc;
use super::join::{Pair, equi_pairs, join_type, output_fields};
use super::node::{Distribution, JoinOn, LookupTable, Node, NodeId, Op, tidy_keys};
use super::source::over_produced;
use super::translate::{Translator, names};

/// A relation over the columns of the one table that it reads.
struct Outside {
    table: Arc<Table>,
    /// Its columns.
    columns: Vec<Expr>,
    /// What its rows meet.
    conditions: Vec<Expr>,
}

impl Translator<'_> {
    pub(crate) fn lookup_join(
        &mut self,
        (left, right): (&LogicalPlan, &LogicalPlan),
        kind: JoinKind,
        condition: &Expr,
    ) -> Result<NodeId, SqlError> {
        let (l, r) = (left.schema().len(), right.schema().len());
        let left = self.relation(left)?;
        self.require_append(left, "the left side of a lookup join")
            .map_err(|error| {
                error.hint(
                    "what a table outside holds may be another when a row is taken back; look up \
                     rows that are only inserted, or join the table as a stream, without FOR \
                     SYSTEM_TIME",
                )
            })?;
        let mut names = names(right.schema());
        let Outside {
            table,
            mut columns,
            mut conditions,
        } = outside(right)?;
        let (own, both) = conjuncts(condition.clone())
            .into_iter()
            .partition(|c| reads_only_right(c, l));
        let own: Vec<Expr> = own;
        let own = own.into_iter().map(|c| remap(c, &|i| i - l));
        conditions.extend(own.map(|c| substitute(c, &columns)));
        let (pairs, residual) = equi_pairs(both, l);
        let (left, left_keys) = self.key_columns(left, pairs.iter().map(|p| &p.left));
        let wide = self.graph.node(left).fields.len();
        let place = |i: usize| if i < l { i } else { i - l + wide };
        let residual = residual.into_iter().map(|c| remap(c, &place)).collect();
        let right_keys = right_keys(&pairs, &mut columns, &mut names);
        let finds_one = has_key(&table, &right_keys, &columns, &conditions);
        let table = read(table, columns, names, conditions)?;
        let on = JoinOn {
            kind: join_type(kind),
            left_keys,
            right_keys,
            null_safe: pairs.iter().map(|p| p.null_safe).collect(),
            condition: and(residual),
        };
        let node = self.lookup_node(left, kind, on, table, finds_one);
        let id = self.graph.add(node);
        let kept: Vec<usize> = (0..l).chain(wide..wide + r).collect();
        Ok(calc::select(&mut self.graph, id, &kept))
    }

    fn lookup_node(
        &self,
        left: NodeId,
        kind: JoinKind,
        on: JoinOn,
        table: LookupTable,
        finds_one: bool,
    ) -> Node {
        let l = self.graph.node(left);
        let fields = output_fields(&l.fields, &table.fields, kind);
        let table = Box::new(table);
        Node {
            required: vec![Distribution::Any],
            // Rows stay where they are, in their order and in their time.
            distribution: l.distribution.clone(),
            rowtime: l.rowtime.clone(),
            windowed: l.windowed,
            keys: match finds_one {
                true => tidy_keys(l.keys.clone()),
                false => Vec::new(),
            },
            ..Node::new(Op::LookupJoin { on, table }, vec![left], fields)
        }
    }
}

/// What the relation is of its table; the binder has let nothing else through.
fn outside(plan: &LogicalPlan) -> Result<Outside, SqlError> {
    match plan {
        LogicalPlan::Scan { table, .. } => {
            let columns = table.columns.iter().enumerate();
            let columns = columns.map(|(i, column)| Expr::column(i, column.data_type.clone()));
            Ok(Outside {
                columns: columns.collect(),
                table: table.clone(),
                conditions: Vec::new(),
            })
        }
        LogicalPlan::Project { input, exprs, .. } => {
            let below = outside(input)?;
            let exprs = exprs.iter().cloned();
            Ok(Outside {
                columns: exprs.map(|e| substitute(e, &below.columns)).collect(),
                ..below
            })
        }
        LogicalPlan::Filter { input, predicate } => {
            let mut below = outside(input)?;
            let own = conjuncts(predicate.clone()).into_iter();
            below
                .conditions
                .extend(own.map(|c| substitute(c, &below.columns)));
            Ok(below)
        }
        _ => Err(SqlError::plan(
            "only a table, or a view that selects and filters one, can be looked up",
        )),
    }
}

fn reads_only_right(condition: &Expr, left: usize) -> bool {
    let read = columns(condition);
    !read.is_empty() && read.iter().all(|i| *i >= left) && is_deterministic(condition)
}

/// Columns of the table that rows are found by; expressions become columns.
fn right_keys(pairs: &[Pair], columns: &mut Vec<Expr>, names: &mut Vec<String>) -> Vec<usize> {
    let width = columns.len();
    let mut keys = Vec::new();
    for pair in pairs {
        keys.push(as_column(&pair.right).unwrap_or_else(|| {
            let key = substitute(pair.right.clone(), &columns[..width]);
            names.push(format!("$key{}", columns.len() - width));
            columns.push(key);
            columns.len() - 1
        }));
    }
    keys
}

/// Whether no more than one row is found, for the whole primary key of the table is given.
fn has_key(table: &Table, keys: &[usize], columns: &[Expr], conditions: &[Expr]) -> bool {
    let fixed = |condition: &Expr| match &condition.kind {
        ExprKind::Call {
            function: ScalarFunction::Equal,
            args,
        } => match args.as_slice() {
            [a, b] if matches!(b.kind, ExprKind::Literal(_)) => as_column(a),
            [a, b] if matches!(a.kind, ExprKind::Literal(_)) => as_column(b),
            _ => None,
        },
        _ => None,
    };
    let given = keys.iter().filter_map(|key| as_column(&columns[*key]));
    let given: Vec<usize> = given.chain(conditions.iter().filter_map(fixed)).collect();
    let key = table.primary_key.as_ref();
    key.is_some_and(|key| key.iter().all(|column| given.contains(column)))
}

/// What is read of the table, and what becomes of it.
fn read(
    table: Arc<Table>,
    columns: Vec<Expr>,
    names: Vec<String>,
    conditions: Vec<Expr>,
) -> Result<LookupTable, SqlError> {
    let width = columns.len();
    let all: Vec<Expr> = columns.into_iter().chain(and(conditions)).collect();
    let (produced, mut projections) = over_produced(&table, all);
    if let Some(name) = projections.iter().find_map(volatile_function) {
        return Err(SqlError::plan(format!(
            "{name} of `{}` would be computed when the table is read, not when a row is looked up",
            table.name
        ))
        .hint(format!("call {name} on the rows of the left side")));
    }
    let condition = projections.split_off(width).pop();
    let fields = projections
        .iter()
        .zip(names)
        .map(|(e, name)| Field::new(name, e.data_type.clone()))
        .collect();
    Ok(LookupTable {
        table,
        produced,
        condition,
        projections,
        fields,
    })
}
