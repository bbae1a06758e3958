//! Temporal joins of event time: each left row with the version of the right row that was valid at
//! its time. What the right side's rows are versions of, and which filters decide whether a version
//! counts, is found out here.

use proto::types::LogicalType;

use crate::error::SqlError;
use crate::logical::{Expr, ExprKind, JoinKind, LogicalPlan};
use crate::optimize::expr::{and, as_column, conjuncts, remap};

use super::calc;
use super::join::{Keys, Pair, join_type, output_fields, pair};
use super::node::{Bound, JoinOn, Node, NodeId, Op, Windowed, tidy_keys};
use super::rank::distribution;
use super::translate::Translator;

/// A relation whose rows are versions.
struct Versions {
    node: NodeId,
    /// Column sets that tell which row one is a version of.
    keys: Vec<Vec<usize>>,
    time: Option<usize>,
    /// Columns of which all must be TRUE for a version to count.
    valid: Vec<usize>,
}

impl Translator<'_> {
    pub(crate) fn temporal_join(&mut self, plan: &LogicalPlan) -> Result<NodeId, SqlError> {
        let LogicalPlan::TemporalJoin {
            left,
            right,
            kind,
            time_column,
            condition,
            ..
        } = plan
        else {
            return Err(SqlError::plan("a temporal join expected"));
        };
        let Some(time_column) = time_column else {
            return self.lookup_join((&**left, &**right), *kind, condition);
        };
        let (l, r) = (left.schema().len(), right.schema().len());
        let time_name = &left.schema()[*time_column].name;
        let left = self.relation(left)?;
        if !self.graph.node(left).rowtime.contains(time_column) {
            return Err(SqlError::plan(format!(
                "column `{time_name}` no longer carries event time here, so nothing can be joined as of it"
            ))
            .hint("a join without a bound on time and most aggregates lose the time attribute"));
        }
        self.require_append(left, "the left side of a temporal join")?;
        let right = self.relation(right)?;
        let versions = self.versions(right)?;
        let Some(right_time) = versions.time else {
            return Err(SqlError::plan(
                "the right side of FOR SYSTEM_TIME AS OF a rowtime has no event time",
            )
            .hint("declare a WATERMARK for the table, and keep that column in a view of it"));
        };
        let (pairs, mut residual) = self.version_key(conjuncts(condition.clone()), l, &versions)?;
        let (left, left_keys) = self.key_columns(left, pairs.iter().map(|p| &p.left));
        let (right, right_keys) = self.key_columns(versions.node, pairs.iter().map(|p| &p.right));
        let mut keys = Keys {
            left: left_keys,
            right: right_keys,
            null_safe: pairs.iter().map(|p| p.null_safe).collect(),
        };
        let right = self.without_old_rows(right);
        self.order_keys(&mut keys, left, right);
        let width = self.graph.node(left).fields.len();
        let place = |column: usize| {
            if column < l {
                column
            } else {
                column - l + width
            }
        };
        residual = residual.into_iter().map(|c| remap(c, &place)).collect();
        let valid = |column: &usize| Expr::column(column + width, LogicalType::Boolean.nullable());
        residual.extend(versions.valid.iter().map(valid));
        let times = (*time_column, right_time);
        let node = self.temporal_node((left, right), *kind, keys, and(residual), times);
        let id = self.graph.add(node);
        let kept: Vec<usize> = (0..l).chain(width..width + r).collect();
        Ok(calc::select(&mut self.graph, id, &kept))
    }

    fn temporal_node(
        &self,
        (left, right): (NodeId, NodeId),
        kind: JoinKind,
        keys: Keys,
        condition: Option<Expr>,
        (left_time, right_time): (usize, usize),
    ) -> Node {
        let (l, r) = (self.graph.node(left), self.graph.node(right));
        let bound = Bound::Unbounded(self.per_key("version", &keys.right, right));
        let required = vec![distribution(&keys.left), distribution(&keys.right)];
        let spread = distribution(&keys.left);
        let windowed = l
            .windowed
            .and_then(|windowed| windowed.not_before(left_time));
        let op = Op::TemporalJoin {
            on: JoinOn {
                kind: join_type(kind),
                left_keys: keys.left,
                right_keys: keys.right,
                null_safe: keys.null_safe,
                condition,
            },
            left_time,
            right_time,
        };
        Node {
            required,
            distribution: spread,
            // Each left row comes out once at most.
            keys: tidy_keys(l.keys.clone()),
            // Rows come out when the watermark has passed this time of theirs, whatever others they have.
            rowtime: times_not_before(windowed, left_time),
            windowed,
            bound,
            tables: &["left rows", "versions"],
            ..Node::new(
                op,
                vec![left, right],
                output_fields(&l.fields, &r.fields, kind),
            )
        }
    }

    /// The rows of a relation as versions: its columns, and after them what decides whether a version
    /// counts. A filter of a versioned table is such a decision, for a version that does not meet it
    /// still ends the one before.
    fn versions(&mut self, id: NodeId) -> Result<Versions, SqlError> {
        let node = self.graph.node(id);
        match node.op.clone() {
            Op::Calc {
                condition,
                mut projections,
            } => {
                let mut names: Vec<String> = node.fields.iter().map(|f| f.name.clone()).collect();
                let width = projections.len();
                let below = self.versions(node.inputs[0])?;
                let boolean = LogicalType::Boolean.nullable();
                let known = |column: &usize| Expr::column(*column, boolean.clone());
                projections.extend(below.valid.iter().map(known));
                projections.extend(condition);
                names.extend((width..projections.len()).map(|i| format!("$valid{i}")));
                let place = |column: &usize| {
                    projections[..width]
                        .iter()
                        .position(|e| as_column(e) == Some(*column))
                };
                let all = |key: &Vec<usize>| key.iter().map(place).collect();
                let (keys, time) = (
                    below.keys.iter().filter_map(all).collect(),
                    below.time.as_ref().and_then(place),
                );
                let valid = (width..projections.len()).collect();
                let node = calc::calc(&mut self.graph, below.node, None, projections, names);
                Ok(Versions {
                    node,
                    keys,
                    time,
                    valid,
                })
            }
            // Every row that it reads was the last one from its time on.
            Op::Deduplicate(op) if op.keep_last && op.time_column.is_some() && op.window.is_none() => {
                Ok(Versions {
                    node: node.inputs[0],
                    keys: vec![op.keys.iter().map(|key| *key as usize).collect()],
                    time: op.time_column.map(|column| column as usize),
                    valid: Vec::new(),
                })
            }
            op if node.changes.is_append() || matches!(op, Op::Source(_)) => Ok(Versions {
                node: id,
                keys: node.keys.clone(),
                time: node.rowtime.first().copied(),
                valid: Vec::new(),
            }),
            _ => Err(SqlError::plan(format!(
                "{} has no versions to join as of a rowtime",
                super::describe::node(&self.graph, id)
            ))
            .hint(
                "join a table with PRIMARY KEY and WATERMARK, or a view that keeps ROW_NUMBER() OVER \
                 (PARTITION BY key ORDER BY rowtime DESC) = 1",
            )),
        }
    }

    /// Takes those equalities out of the conditions that give the whole key of a version.
    fn version_key(
        &self,
        conditions: Vec<Expr>,
        l: usize,
        versions: &Versions,
    ) -> Result<(Vec<Pair>, Vec<Expr>), SqlError> {
        let pairs: Vec<Option<Pair>> = conditions.iter().map(|c| pair(c, l)).collect();
        let position = |key: &usize| {
            let gives = |pair: &Option<Pair>| {
                pair.as_ref()
                    .is_some_and(|pair| as_key(&pair.right) == Some(*key))
            };
            pairs.iter().position(gives)
        };
        let whole = |key: &Vec<usize>| key.iter().map(position).collect::<Option<Vec<usize>>>();
        let Some(taken) = versions.keys.iter().find_map(whole) else {
            return Err(self.no_key_error(versions));
        };
        let (mut keys, mut rest) = (Vec::new(), Vec::new());
        for (i, (condition, pair)) in conditions.into_iter().zip(pairs).enumerate() {
            match pair.filter(|_| taken.contains(&i)) {
                Some(pair) => keys.push(pair),
                None => rest.push(condition),
            }
        }
        Ok((keys, rest))
    }

    fn no_key_error(&self, versions: &Versions) -> SqlError {
        let fields = &self.graph.node(versions.node).fields;
        let name = |column: &usize| fields[*column].name.as_str();
        let Some(key) = versions.keys.first() else {
            return SqlError::plan("the right side of FOR SYSTEM_TIME AS OF a rowtime has no key")
                .hint(
                    "declare PRIMARY KEY (…) NOT ENFORCED for the table, keep its columns in a view of \
                     it, and equate all of them in ON",
                );
        };
        let names: Vec<&str> = key.iter().map(name).collect();
        let names = names.join(", ");
        SqlError::plan(format!(
            "ON must equate the whole key of the versioned table: ({names})"
        ))
        .hint("without all of it more than one row is valid at a time")
    }
}

/// Columns that carry event time where it is that of `column`.
pub(super) fn times_not_before(windowed: Option<Windowed>, column: usize) -> Vec<usize> {
    let window = windowed.and_then(|windowed| windowed.time);
    let mut times: Vec<usize> = window.into_iter().chain([column]).collect();
    times.sort_unstable();
    times.dedup();
    times
}

/// The column whose value the expression tells apart: the column itself, or it as a wider integer.
fn as_key(expr: &Expr) -> Option<usize> {
    match &expr.kind {
        ExprKind::Cast {
            input,
            r#try: false,
        } => {
            let (from, to) = (&input.data_type.logical, &expr.data_type.logical);
            let widens = integer_bits(from)? <= integer_bits(to)?;
            as_column(input).filter(|_| widens)
        }
        _ => as_column(expr),
    }
}

fn integer_bits(logical: &LogicalType) -> Option<u32> {
    match logical {
        LogicalType::TinyInt => Some(8),
        LogicalType::SmallInt => Some(16),
        LogicalType::Int => Some(32),
        LogicalType::BigInt => Some(64),
        _ => None,
    }
}
