//! Queries to nodes: one step per relational node. Nodes that need a decision have a file of
//! their own; the plain ones are here.

use proto::plan as wire;
use proto::types::{Field, LogicalType};

use crate::error::SqlError;
use crate::logical::{Expr, LogicalPlan, Schema, SetOp, SortKey};
use crate::optimize::expr::{as_column, conjuncts};

use super::calc;
use super::node::{Bound, Changes, Distribution, Graph, Node, NodeId, Op, tidy_keys};
use super::{PlanOptions, source};

/// Builds the nodes of a job, query by query.
pub(crate) struct Translator<'a> {
    pub(crate) graph: Graph,
    pub(crate) options: &'a PlanOptions,
    pub(crate) warnings: Vec<String>,
}

impl<'a> Translator<'a> {
    pub(crate) fn new(options: &'a PlanOptions) -> Self {
        Translator {
            graph: Graph::default(),
            options,
            warnings: Vec::new(),
        }
    }

    pub(crate) fn finish(self) -> (Graph, Vec<String>) {
        (self.graph, self.warnings)
    }

    /// The node that gives a relation's rows, with the relation's columns.
    pub(crate) fn relation(&mut self, plan: &LogicalPlan) -> Result<NodeId, SqlError> {
        if let Some(node) = self.top_n(plan)? {
            return Ok(node);
        }
        match plan {
            LogicalPlan::Scan { table, .. } => Ok(source::scan(self, table, Vec::new())),
            LogicalPlan::Filter { input, predicate } => {
                if let LogicalPlan::Scan { table, .. } = &**input {
                    return Ok(source::scan(self, table, conjuncts(predicate.clone())));
                }
                let input = self.relation(input)?;
                Ok(calc::filter(
                    &mut self.graph,
                    input,
                    Some(predicate.clone()),
                ))
            }
            LogicalPlan::Project {
                input,
                exprs,
                schema,
            } => {
                let input = self.relation(input)?;
                let names = names(schema);
                Ok(calc::calc(
                    &mut self.graph,
                    input,
                    None,
                    exprs.clone(),
                    names,
                ))
            }
            LogicalPlan::Values { rows, schema } => Ok(self.values(rows.clone(), schema)),
            LogicalPlan::Join { .. } => self.join(plan),
            LogicalPlan::Aggregate { .. } => self.aggregate(plan),
            LogicalPlan::Window {
                input,
                function,
                schema,
            } => self.window_assign(input, function, schema),
            LogicalPlan::SetOperation {
                op: SetOp::Union,
                all: true,
                schema,
                ..
            } => self.union(plan, schema),
            LogicalPlan::Unnest { .. } => self.unnest(plan),
            LogicalPlan::Sort {
                input,
                keys,
                offset,
                limit,
            } => match limit {
                Some(limit) => self.limit(input, keys, *offset, *limit),
                None => self.sort(input, keys, *offset),
            },
            LogicalPlan::TemporalJoin { .. } => self.temporal_join(plan),
            LogicalPlan::Over { input, calls, .. } => {
                let schema = input.schema().clone();
                let input = self.relation(input)?;
                self.over(input, &schema, calls)
            }
            LogicalPlan::Distinct { .. } | LogicalPlan::SetOperation { .. } => Err(SqlError::plan(
                "a set operation reached the stream planner unoptimised",
            )),
        }
    }

    pub(crate) fn values(&mut self, mut rows: Vec<Vec<Expr>>, schema: &Schema) -> NodeId {
        let mut fields = fields(schema);
        if fields.is_empty() {
            // A batch needs a column to have rows.
            let marker = crate::optimize::expr::truth(true);
            fields.push(Field::new("$row", marker.data_type.clone()));
            for row in &mut rows {
                row.push(marker.clone());
            }
        }
        let keys = if rows.len() <= 1 {
            vec![Vec::new()]
        } else {
            Vec::new()
        };
        self.graph.add(Node {
            distribution: Distribution::Single,
            keys,
            ..Node::new(Op::Values(rows), Vec::new(), fields)
        })
    }

    fn union(&mut self, plan: &LogicalPlan, schema: &Schema) -> Result<NodeId, SqlError> {
        let mut inputs = Vec::new();
        self.union_inputs(plan, &mut inputs)?;
        let nodes: Vec<&Node> = inputs.iter().map(|id| self.graph.node(*id)).collect();
        let single = nodes
            .iter()
            .any(|node| node.distribution == Distribution::Single);
        let first = nodes[0];
        let distribution = if single {
            Distribution::Single
        } else if nodes
            .iter()
            .all(|node| node.distribution == first.distribution)
        {
            first.distribution.clone()
        } else {
            Distribution::Any
        };
        let changes = nodes
            .iter()
            .fold(Changes::NONE, |all, node| all.union(node.changes));
        let rowtime = first
            .rowtime
            .iter()
            .copied()
            .filter(|c| nodes.iter().all(|node| node.rowtime.contains(c)))
            .collect();
        let windowed = first
            .windowed
            .filter(|w| nodes.iter().all(|node| node.windowed == Some(*w)));
        let required = if single {
            Distribution::Single
        } else {
            Distribution::Any
        };
        let node = Node {
            required: vec![required; inputs.len()],
            changes,
            distribution,
            rowtime,
            windowed,
            ..Node::new(Op::Union, inputs.clone(), fields(schema))
        };
        Ok(self.graph.add(node))
    }

    /// The inputs of a UNION ALL, nested ones flattened.
    fn union_inputs(
        &mut self,
        plan: &LogicalPlan,
        found: &mut Vec<NodeId>,
    ) -> Result<(), SqlError> {
        if let LogicalPlan::SetOperation {
            op: SetOp::Union,
            all: true,
            left,
            right,
            ..
        } = plan
        {
            self.union_inputs(left, found)?;
            return self.union_inputs(right, found);
        }
        found.push(self.relation(plan)?);
        Ok(())
    }

    fn unnest(&mut self, plan: &LogicalPlan) -> Result<NodeId, SqlError> {
        let LogicalPlan::Unnest {
            input,
            collection,
            left,
            with_ordinality,
            schema,
        } = plan
        else {
            return Err(SqlError::plan("UNNEST expected"));
        };
        let width = input.schema().len();
        let input = self.relation(input)?;
        let (input, column) = self.column_of(input, collection);
        let below = self.graph.node(input);
        let appended = below.fields.len() - width;
        let elements = fields(schema).split_off(width);
        let mut all = below.fields.clone();
        all.extend(elements);
        let node = Node {
            changes: below.changes,
            distribution: below.distribution.clone(),
            rowtime: below.rowtime.clone(),
            windowed: below.windowed,
            ..Node::new(
                Op::Unnest(wire::Unnest {
                    column: column as u32,
                    left: *left,
                    with_ordinality: *with_ordinality,
                }),
                vec![input],
                all,
            )
        };
        let id = self.graph.add(node);
        let columns: Vec<usize> = (0..width)
            .chain(width + appended..schema.len() + appended)
            .collect();
        Ok(calc::select(&mut self.graph, id, &columns))
    }

    /// The node with the expression among its columns, and where.
    pub(crate) fn column_of(&mut self, input: NodeId, expr: &Expr) -> (NodeId, usize) {
        if let Some(column) = as_column(expr) {
            return (input, column);
        }
        let (mut projections, mut names) = calc::all_columns(self.graph.node(input));
        let column = projections.len();
        projections.push(expr.clone());
        names.push(format!("$f{column}"));
        let id = calc::calc(&mut self.graph, input, None, projections, names);
        (id, column)
    }

    /// Sort keys as columns; expressions are appended to the input.
    pub(crate) fn sort_columns(
        &mut self,
        mut input: NodeId,
        keys: &[SortKey],
    ) -> (NodeId, Vec<wire::SortKey>) {
        let mut columns = Vec::new();
        for key in keys {
            let (next, column) = self.column_of(input, &key.expr);
            input = next;
            columns.push(wire::SortKey {
                column: column as u32,
                descending: key.descending,
                nulls_last: key.nulls_last,
            });
        }
        (input, columns)
    }

    fn sort(
        &mut self,
        input: &LogicalPlan,
        keys: &[SortKey],
        offset: u64,
    ) -> Result<NodeId, SqlError> {
        if offset > 0 {
            return Err(
                SqlError::plan("OFFSET without LIMIT is not supported on a stream")
                    .hint("add a LIMIT"),
            );
        }
        let width = input.schema().len();
        let input = self.relation(input)?;
        let first = keys.first().and_then(|key| {
            let column = as_column(&key.expr)?;
            let rowtime = self.graph.node(input).rowtime.contains(&column);
            (rowtime && !key.descending).then_some(column)
        });
        let Some(time_column) = first else {
            return Err(SqlError::plan(
                "ORDER BY without LIMIT on a stream must begin with an ascending event time attribute",
            )
            .hint("add a LIMIT, or order by the time attribute first"));
        };
        self.require_append(input, "ORDER BY")?;
        let (input, then_by) = self.sort_columns(input, &keys[1..]);
        let below = self.graph.node(input);
        let node = Node {
            required: vec![Distribution::Single],
            distribution: Distribution::Single,
            keys: tidy_keys(below.keys.clone()),
            rowtime: below.rowtime.clone(),
            windowed: below.windowed,
            bound: Bound::Window,
            tables: &["rows"],
            ..Node::new(
                Op::Sort(wire::Sort {
                    time_column: time_column as u32,
                    then_by,
                    partition_by: Vec::new(),
                }),
                vec![input],
                below.fields.clone(),
            )
        };
        let id = self.graph.add(node);
        let columns: Vec<usize> = (0..width).collect();
        Ok(calc::select(&mut self.graph, id, &columns))
    }

    /// Says that a hint about state is of no use.
    pub(crate) fn warn_of_window(&mut self) {
        let warning =
            "STATE_TTL has no effect on windows and interval joins: their state goes with time";
        self.warnings.push(warning.to_owned());
    }

    /// Refuses an updating input, naming who makes the updates.
    pub(crate) fn require_append(&self, input: NodeId, what: &str) -> Result<(), SqlError> {
        if self.graph.node(input).changes.is_append() {
            return Ok(());
        }
        let culprit = super::describe::updating_operator(&self.graph, input);
        Err(SqlError::plan(format!(
            "{what} does not take updates and deletes, which {culprit} produces"
        )))
    }
}

/// A schema's columns without what only the binder needs.
pub(crate) fn fields(schema: &Schema) -> Vec<Field> {
    schema
        .iter()
        .map(|field| Field::new(&field.name, field.data_type.clone()))
        .collect()
}

/// A schema's column names.
pub(crate) fn names(schema: &Schema) -> Vec<String> {
    schema.iter().map(|field| field.name.clone()).collect()
}

/// `BIGINT NOT NULL`
pub(crate) fn bigint() -> proto::types::DataType {
    LogicalType::BigInt.not_null()
}
