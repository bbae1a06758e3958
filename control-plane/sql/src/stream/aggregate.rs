//! GROUP BY: plain, in windows, over grouping sets; pre-aggregated before an exchange where the
//! input only grows.

use std::collections::BTreeSet;

use proto::plan::{self as wire, AggregateFunction, WindowProperty};
use proto::types::{DataType, Field};

use crate::error::SqlError;
use crate::logical::{
    AggregateCall, Expr, ExprKind, GroupingSet, LogicalPlan, Schema, WindowFunction,
};
use crate::optimize::expr::{as_column, columns, substitute};

use super::calc;
use super::columns::Columns;
use super::grouping_sets;
use super::local::Local;
use super::node::{Bound, Changes, Node, NodeId, Op, Windowed, tidy_keys};
use super::rank::{distribution, wire_columns};
use super::translate::Translator;
use super::window;

/// How rows get their window.
enum Windowing {
    /// They have none: an ordinary aggregate.
    None,
    /// From this time column of the input.
    Assigned(WindowFunction),
    /// They carry it, in these columns.
    Attached(Windowed),
}

/// What an aggregate is made from, window columns told apart from keys.
struct Grouping {
    input: NodeId,
    keys: Vec<GroupKey>,
    calls: Vec<AggregateCall>,
    windowing: Windowing,
    /// Types of window_start, window_end, window_time.
    window_types: Vec<DataType>,
}

/// One key of GROUP BY.
#[derive(Clone)]
enum GroupKey {
    Value(Expr),
    Window(WindowProperty),
}

/// The aggregate's input once keys and arguments are columns.
pub(crate) struct Prepared {
    pub(crate) node: NodeId,
    pub(crate) keys: Vec<usize>,
    pub(crate) calls: Vec<wire::AggregateCall>,
    pub(crate) time: Option<usize>,
    pub(crate) attached: Option<Windowed>,
}

impl Translator<'_> {
    pub(crate) fn aggregate(&mut self, plan: &LogicalPlan) -> Result<NodeId, SqlError> {
        let LogicalPlan::Aggregate {
            input,
            keys,
            grouping_sets,
            calls,
            schema,
            ttl_ms,
        } = plan
        else {
            return Err(SqlError::plan("an aggregate expected"));
        };
        check_calls(calls)?;
        let sets = grouping_sets.as_deref();
        let grouping = self.grouping(input, keys, calls, sets)?;
        let windowed = !matches!(grouping.windowing, Windowing::None);
        let prepared = self.prepare(&grouping, sets, keys.len(), schema)?;
        let id = if windowed {
            if ttl_ms.is_some() {
                self.warn_of_window();
            }
            self.window_aggregate(&grouping, &prepared)
        } else {
            self.group_aggregate(&prepared, *ttl_ms)
        };
        Ok(self.restore_layout(id, &grouping, &prepared, sets, schema))
    }

    /// Finds out whether the keys are those of windows, and of which.
    fn grouping(
        &mut self,
        input: &LogicalPlan,
        keys: &[Expr],
        calls: &[AggregateCall],
        sets: Option<&[GroupingSet]>,
    ) -> Result<Grouping, SqlError> {
        if let Some(grouping) = self.assigned_window(input, keys, calls, sets)? {
            return Ok(grouping);
        }
        let node = self.relation(input)?;
        let attached = self.graph.node(node).windowed.filter(|w| {
            let is_key = |column: usize| keys.iter().any(|key| as_column(key) == Some(column));
            let of_window = |column| [Some(w.start), Some(w.end), w.time].contains(&Some(column));
            let decides = |key: &Expr| as_column(key).is_some_and(of_window);
            is_key(w.start) && is_key(w.end) && in_all_sets(sets, keys.iter().map(decides))
        });
        let Some(w) = attached else {
            return Ok(Grouping {
                input: node,
                keys: keys.iter().cloned().map(GroupKey::Value).collect(),
                calls: calls.to_vec(),
                windowing: Windowing::None,
                window_types: Vec::new(),
            });
        };
        let fields = &self.graph.node(node).fields;
        let keys = keys
            .iter()
            .map(|key| match as_column(key) {
                Some(c) if c == w.start => GroupKey::Window(WindowProperty::WindowStart),
                Some(c) if c == w.end => GroupKey::Window(WindowProperty::WindowEnd),
                Some(c) if Some(c) == w.time => GroupKey::Window(WindowProperty::WindowTime),
                _ => GroupKey::Value(key.clone()),
            })
            .collect();
        let start = fields[w.start].data_type.clone();
        let time = w
            .time
            .map_or_else(|| start.clone(), |t| fields[t].data_type.clone());
        Ok(Grouping {
            input: node,
            keys,
            calls: calls.to_vec(),
            windowing: Windowing::Attached(w),
            window_types: vec![start, fields[w.end].data_type.clone(), time],
        })
    }

    /// `GROUP BY …, window_start, window_end` right above the window function, nothing else
    /// reading the window: then rows need not be copied into their windows at all.
    fn assigned_window(
        &mut self,
        input: &LogicalPlan,
        keys: &[Expr],
        calls: &[AggregateCall],
        sets: Option<&[GroupingSet]>,
    ) -> Result<Option<Grouping>, SqlError> {
        let (window, exprs) = match input {
            LogicalPlan::Project { input, exprs, .. } => (&**input, Some(exprs)),
            other => (other, None),
        };
        let LogicalPlan::Window {
            input: below,
            function,
            schema,
        } = window
        else {
            return Ok(None);
        };
        let inline = |e: &Expr| exprs.map_or_else(|| e.clone(), |p| substitute(e.clone(), p));
        let width = below.schema().len();
        let properties = [
            WindowProperty::WindowStart,
            WindowProperty::WindowEnd,
            WindowProperty::WindowTime,
        ];
        let keys: Vec<GroupKey> = keys
            .iter()
            .map(inline)
            .map(|key| match as_column(&key) {
                Some(c) if c >= width => GroupKey::Window(properties[c - width]),
                _ => GroupKey::Value(key),
            })
            .collect();
        let calls: Vec<AggregateCall> = calls
            .iter()
            .map(|call| AggregateCall {
                args: call.args.iter().map(inline).collect(),
                filter: call.filter.as_ref().map(inline),
                ..call.clone()
            })
            .collect();
        let has = |p: WindowProperty| {
            keys.iter()
                .any(|key| matches!(key, GroupKey::Window(found) if *found == p))
        };
        let values = keys.iter().filter_map(|key| match key {
            GroupKey::Value(e) => Some(e),
            GroupKey::Window(_) => None,
        });
        let reads_window = |e: &Expr| columns(e).iter().any(|c| *c >= width);
        let args = calls.iter().flat_map(|c| c.args.iter().chain(&c.filter));
        let needs_rows = function.kind == wire::WindowKind::Session
            && (sets.is_some() || !is_partition(function, values.clone()));
        if !has(properties[0])
            || !has(properties[1])
            || !in_all_sets(sets, keys.iter().map(|key| !is_value(key)))
            || values.chain(args).any(reads_window)
            || needs_rows
        {
            return Ok(None);
        }
        let node = self.relation(below)?;
        self.check_window(below, node, function)?;
        Ok(Some(Grouping {
            input: node,
            keys,
            calls,
            windowing: Windowing::Assigned(function.clone()),
            window_types: schema[width..]
                .iter()
                .map(|f| f.data_type.clone())
                .collect(),
        }))
    }

    /// Makes columns of keys and arguments, and repeats rows for grouping sets.
    fn prepare(
        &mut self,
        grouping: &Grouping,
        sets: Option<&[GroupingSet]>,
        key_count: usize,
        schema: &Schema,
    ) -> Result<Prepared, SqlError> {
        let fields = self.graph.node(grouping.input).fields.clone();
        let mut made = Columns::default();
        let mut keys = Vec::new();
        for (i, key) in grouping.keys.iter().enumerate() {
            if let GroupKey::Value(e) = key {
                // With grouping sets a key is NULL where its set lacks it; an argument is not.
                let name = &schema[i].name;
                keys.push(if sets.is_some() {
                    made.push(e, name)
                } else {
                    made.get(e, name)
                });
            }
        }
        if sets.is_some() {
            made.seal();
        }
        let calls = made.calls(&grouping.calls, &fields);
        let mut column = |c: usize| {
            let field = &fields[c];
            made.get(&Expr::column(c, field.data_type.clone()), &field.name)
        };
        let (time, attached) = match &grouping.windowing {
            Windowing::None => (None, None),
            Windowing::Assigned(function) if function.processing_time => (None, None),
            Windowing::Assigned(function) => (Some(column(function.time_column)), None),
            Windowing::Attached(w) => (
                None,
                Some(Windowed {
                    start: column(w.start),
                    end: column(w.end),
                    time: None,
                    by: None,
                    ..*w
                }),
            ),
        };
        let mut seen = BTreeSet::new();
        keys.retain(|key| seen.insert(*key));
        let mut node = calc::calc(
            &mut self.graph,
            grouping.input,
            None,
            made.exprs,
            made.names,
        );
        if let Some(sets) = sets {
            // Positions among the keys that are values, which are the columns to be made NULL.
            let values = (0..key_count).filter(|i| is_value(&grouping.keys[*i]));
            let columns: Vec<(usize, usize)> = values.zip(keys.iter().copied()).collect();
            let (expanded, number) = self.expand(node, sets, key_count, &columns);
            node = expanded;
            keys.push(number);
        }
        Ok(Prepared {
            node,
            keys,
            calls,
            time,
            attached,
        })
    }

    fn group_aggregate(&mut self, prepared: &Prepared, ttl_ms: Option<u64>) -> NodeId {
        let local = self.local_aggregate(prepared, None);
        let (input, keys, calls, from_partial) = match local {
            Some(local) => (local.node, local.keys, local.calls, true),
            None => (
                prepared.node,
                prepared.keys.clone(),
                prepared.calls.clone(),
                false,
            ),
        };
        let below = self.graph.node(input);
        let append = below.changes.is_append();
        let changes = match (append, calls.is_empty()) {
            (true, true) => Changes::NONE,
            (true, false) => Changes::UPDATES,
            (false, true) => Changes {
                update: false,
                delete: true,
            },
            (false, false) => Changes::ALL,
        };
        let remembers_values = calls
            .iter()
            .any(|call| call.distinct || !append && !is_invertible(&call.function));
        let bound = if !keys.is_empty() {
            Bound::Unbounded(self.per_key("group", &keys, input))
        } else if remembers_values {
            Bound::Unbounded("distinct value".to_owned())
        } else if calls.iter().any(|call| holds_all(&call.function)) {
            Bound::Unbounded("input row".to_owned())
        } else {
            Bound::Constant
        };
        let below = self.graph.node(input);
        let width = keys.len();
        let node = Node {
            required: vec![distribution(&keys)],
            changes,
            distribution: distribution(&(0..width).collect::<Vec<_>>()),
            keys: vec![(0..width).collect()],
            bound,
            ttl_ms: vec![ttl_ms],
            tables: GROUP_TABLES,
            ..Node::new(
                Op::GroupAggregate(wire::GroupAggregate {
                    keys: wire_columns(&keys),
                    calls: calls.clone(),
                    from_partial,
                    emit_update_before: false,
                }),
                vec![input],
                output_fields(&below.fields, &keys, &calls, &prepared.calls),
            )
        };
        self.graph.add(node)
    }

    fn window_aggregate(&mut self, grouping: &Grouping, prepared: &Prepared) -> NodeId {
        let function = match &grouping.windowing {
            Windowing::Assigned(function) => Some(function),
            _ => None,
        };
        // By the clock, rows have no window before they are here.
        let by_clock = function.is_some_and(|function| function.processing_time);
        let local = self.local_aggregate(prepared, function.filter(|_| !by_clock));
        let Some(local) = local else {
            return self.window_aggregate_of(grouping, prepared, None);
        };
        let of_partials = self.window_aggregate_of(grouping, prepared, Some(local));
        if self.options.late_rows.is_none() {
            return of_partials;
        }
        // Of a partial result that is late nobody knows the rows: they go to the aggregate one by one.
        let of_rows = self.window_aggregate_of(grouping, prepared, None);
        self.graph.nodes[of_rows].known_as = Some(of_partials);
        of_rows
    }

    /// A window aggregate of rows, or of their partial results.
    fn window_aggregate_of(
        &mut self,
        grouping: &Grouping,
        prepared: &Prepared,
        local: Option<Local>,
    ) -> NodeId {
        let function = match &grouping.windowing {
            Windowing::Assigned(function) => Some(function),
            _ => None,
        };
        let by_clock = function.is_some_and(|function| function.processing_time);
        let (input, keys, calls, from_partial, time) = match local {
            Some(local) => (local.node, local.keys, local.calls, true, local.slice_end),
            None => (
                prepared.node,
                prepared.keys.clone(),
                prepared.calls.clone(),
                false,
                prepared.time,
            ),
        };
        let below = self.graph.node(input);
        let width = keys.len() + calls.len();
        let mut fields = output_fields(&below.fields, &keys, &calls, &prepared.calls);
        let names = ["window_start", "window_end", "window_time"];
        for (name, data_type) in names.iter().zip(&grouping.window_types) {
            fields.push(Field::new(*name, data_type.clone()));
        }
        let Some((windowed, windowing)) = window::of_aggregate(
            function,
            prepared.attached,
            time.unwrap_or_default(),
            &keys,
            width,
        ) else {
            return self.group_aggregate(prepared, None);
        };
        let mut unique: Vec<usize> = (0..keys.len()).collect();
        unique.extend([width, width + 1]);
        let node = Node {
            required: vec![distribution(&keys)],
            distribution: distribution(&(0..keys.len()).collect::<Vec<_>>()),
            keys: tidy_keys(vec![unique]),
            rowtime: if by_clock {
                Vec::new()
            } else {
                vec![width + 2]
            },
            windowed: Some(windowed).filter(|_| !by_clock),
            bound: Bound::Window,
            tables: &["accumulators", "distinct", "values"],
            ..Node::new(
                Op::WindowAggregate(wire::WindowAggregate {
                    keys: wire_columns(&keys),
                    calls,
                    windowing: Some(windowing),
                    properties: vec![
                        WindowProperty::WindowStart as i32,
                        WindowProperty::WindowEnd as i32,
                        WindowProperty::WindowTime as i32,
                    ],
                    from_partial,
                }),
                vec![input],
                fields,
            )
        };
        self.graph.add(node)
    }

    /// Keys, calls and the grouping id in the order of GROUP BY.
    fn restore_layout(
        &mut self,
        id: NodeId,
        grouping: &Grouping,
        prepared: &Prepared,
        sets: Option<&[GroupingSet]>,
        schema: &Schema,
    ) -> NodeId {
        let has_sets = sets.is_some();
        let key_width = prepared.keys.len();
        let call_width = prepared.calls.len();
        let properties_at = key_width + call_width;
        let mut distinct: Vec<&Expr> = Vec::new();
        let mut order = Vec::new();
        for key in &grouping.keys {
            order.push(match key {
                GroupKey::Window(property) => {
                    properties_at
                        + match property {
                            WindowProperty::WindowEnd => 1,
                            WindowProperty::WindowTime => 2,
                            _ => 0,
                        }
                }
                GroupKey::Value(e) => {
                    let known = distinct.iter().position(|d| *d == e && !has_sets);
                    known.unwrap_or_else(|| {
                        distinct.push(e);
                        distinct.len() - 1
                    })
                }
            });
        }
        order.extend(key_width..key_width + call_width);
        if has_sets {
            order.push(key_width - 1);
        }
        let (all, _) = calc::all_columns(self.graph.node(id));
        let mut projections: Vec<Expr> = order.iter().map(|c| all[*c].clone()).collect();
        if let Some(sets) = sets
            && let Some(number) = projections.pop()
        {
            projections.push(grouping_sets::id_of(number, sets, grouping.keys.len()));
        }
        let names = super::translate::names(schema);
        calc::calc(&mut self.graph, id, None, projections, names)
    }
}

/// Whether every grouping set has all keys of which this is said. A set without the window is over all
/// windows, and its groups are complete in none.
fn in_all_sets(sets: Option<&[GroupingSet]>, keys: impl Iterator<Item = bool>) -> bool {
    let mut wanted = keys.enumerate().filter(|(_, wanted)| *wanted);
    wanted.all(|(at, _)| sets.is_none_or(|sets| sets.iter().all(|set| set.contains(&at))))
}

fn is_value(key: &GroupKey) -> bool {
    matches!(key, GroupKey::Value(_))
}

/// Whether the keys are just the columns that a session is apart by.
fn is_partition<'e>(function: &WindowFunction, keys: impl Iterator<Item = &'e Expr>) -> bool {
    let keys: Option<BTreeSet<usize>> = keys.map(as_column).collect();
    keys == Some(function.partition_by.iter().copied().collect())
}

/// State tables of a GroupAggregate: accumulators, distinct values, values of retracted MIN, MAX
/// and the like, and expiry.
const GROUP_TABLES: &[&str] = &["accumulators", "distinct", "values", "timers"];

fn output_fields(
    input: &[Field],
    keys: &[usize],
    calls: &[wire::AggregateCall],
    declared: &[wire::AggregateCall],
) -> Vec<Field> {
    debug_assert_eq!(calls.len(), declared.len());
    let keys = keys.iter().map(|k| input[*k].clone());
    let calls = declared.iter().map(|call| {
        let data_type =
            wire::data_type(&call.r#type).expect("the type was written from a type a moment ago");
        Field::new(&call.name, data_type)
    });
    keys.chain(calls).collect()
}

/// Refuses aggregates that no operator computes.
pub(crate) fn check_calls(calls: &[AggregateCall]) -> Result<(), SqlError> {
    for call in calls {
        if call.function == AggregateFunction::Count && call.args.len() > 1 {
            return Err(SqlError::plan("COUNT of several columns is not supported")
                .hint("count a ROW or a concatenation of them"));
        }
        let constant = |e: &Expr| matches!(e.kind, ExprKind::Literal(_));
        if call.function == AggregateFunction::Count
            && call.distinct
            && call.args.iter().all(constant)
            && call.args.is_empty()
        {
            return Err(SqlError::plan("COUNT(DISTINCT *) is not supported"));
        }
    }
    Ok(())
}

/// Whether the accumulator grows with every row.
pub(super) fn holds_all(function: &str) -> bool {
    use AggregateFunction as A;
    matches!(
        function.parse(),
        Ok(A::ListAgg
            | A::ArrayAgg
            | A::Collect
            | A::Percentile
            | A::JsonObjectAgg
            | A::JsonArrayAgg)
    )
}

/// Whether the accumulator alone can take a value back.
fn is_invertible(function: &str) -> bool {
    use AggregateFunction as A;
    matches!(
        function.parse(),
        Ok(A::Count | A::Sum | A::Avg | A::StddevPop | A::StddevSamp | A::VarPop | A::VarSamp)
    )
}
