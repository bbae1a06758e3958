//! OVER: functions of the rows up to each row. Calls that see the same rows share a node; nodes of
//! several windows stand one on the other.
//!
//! By event time the rows of a partition are put in order first, and every result is final. By
//! processing time rows count as they come. By anything else, and of rows that are taken back, rows are
//! kept and results change.

use proto::plan as wire;
use proto::types::Field;

use crate::error::SqlError;
use crate::logical::{
    Expr, ExprKind, FrameBound, FrameUnits, Literal, OverCall, OverFunction, Schema, SortKey,
    TimeAttribute,
};
use crate::optimize::expr::as_column;

use super::aggregate::{check_calls, holds_all};
use super::calc;
use super::columns::Columns;
use super::node::{Bound, Changes, Node, NodeId, Op};
use super::rank::{distribution, wire_columns};
use super::translate::Translator;

/// Calls that see the same rows.
struct Window<'a> {
    partition_by: &'a [Expr],
    order_by: &'a [SortKey],
    order: wire::OverOrder,
    frame: wire::OverFrame,
    /// Positions in the list of all calls.
    calls: Vec<usize>,
}

/// A window whose expressions are columns.
struct Prepared {
    partition: Vec<usize>,
    order_by: Vec<wire::SortKey>,
    order: wire::OverOrder,
    frame: wire::OverFrame,
    /// Positions in the list of all calls, and their wire form.
    calls: Vec<(usize, wire::OverCall)>,
}

/// Frame of a node without aggregates: the current row alone.
const NO_FRAME: wire::OverFrame = wire::OverFrame {
    range: false,
    preceding: Some(0),
};

impl Translator<'_> {
    /// The nodes of OVER calls above `input`, whose columns have this schema.
    pub(crate) fn over(
        &mut self,
        input: NodeId,
        schema: &Schema,
        calls: &[OverCall],
    ) -> Result<NodeId, SqlError> {
        let width = schema.len();
        let mut windows: Vec<Window<'_>> = Vec::new();
        // Whose frame is given comes first, so that the others find a node to go with.
        for turn in [is_aggregate, is_number, is_lag] {
            for (at, call) in calls.iter().enumerate().filter(|(_, call)| turn(call)) {
                self.place(&mut windows, (at, call), (input, schema))?;
            }
        }
        let windows = clustered(windows);
        let (mut node, prepared) = self.over_columns(input, &windows, calls)?;
        let mut columns: Vec<usize> = (0..width).chain(vec![0; calls.len()]).collect();
        let mut sorted_by = None;
        for window in prepared {
            let order = (window.partition.clone(), window.order_by.clone());
            if window.order == wire::OverOrder::InOrder && sorted_by.as_ref() != Some(&order) {
                node = self.sort_partitions(node, &window);
            }
            sorted_by = (window.order == wire::OverOrder::InOrder).then_some(order);
            let first = self.graph.node(node).fields.len();
            for (i, (call, _)) in window.calls.iter().enumerate() {
                columns[width + call] = first + i;
            }
            node = self.over_aggregate(node, window);
        }
        Ok(calc::select(&mut self.graph, node, &columns))
    }

    /// Puts a call to the window that sees the rows that it needs.
    fn place<'a>(
        &self,
        windows: &mut Vec<Window<'a>>,
        (at, call): (usize, &'a OverCall),
        (input, schema): (NodeId, &Schema),
    ) -> Result<(), SqlError> {
        if let OverFunction::Aggregate(aggregate) = &call.function {
            check_calls(std::slice::from_ref(aggregate))?;
        }
        let order = self.order_of(call, input, schema)?;
        let frame = frame_of(call);
        let fits = |window: &Window<'_>| {
            let kept = order == wire::OverOrder::Kept;
            let goes = match &call.function {
                OverFunction::Aggregate(_) => window.frame == frame,
                // Where rows are not kept, numbers are counted on from row to row, and rows that LAG
                // looks back at are kept as those of a frame are.
                OverFunction::Lag { .. } => {
                    kept || !window.frame.range && window.frame.preceding.is_some()
                }
                _ => kept || window.frame.preceding.is_none(),
            };
            goes && window.partition_by == call.partition_by && window.order_by == call.order_by
        };
        if let Some(window) = windows.iter_mut().find(|window| fits(window)) {
            window.calls.push(at);
            return Ok(());
        }
        windows.push(Window {
            partition_by: &call.partition_by,
            order_by: &call.order_by,
            order,
            frame,
            calls: vec![at],
        });
        Ok(())
    }

    /// How rows come to be in the order of a call.
    fn order_of(
        &self,
        call: &OverCall,
        input: NodeId,
        schema: &Schema,
    ) -> Result<wire::OverOrder, SqlError> {
        let Some(key) = call.order_by.first() else {
            return Err(SqlError::plan("OVER needs an ORDER BY").hint("order by the event time"));
        };
        let Some(column) = as_column(&key.expr) else {
            return Ok(wire::OverOrder::Kept);
        };
        match schema[column].time {
            Some(TimeAttribute::Proctime) if key.descending => Err(SqlError::plan(
                "OVER in descending order of processing time is not supported",
            )
            .hint("order by an event time, descending")),
            Some(TimeAttribute::Proctime) => {
                self.require_append(input, "OVER in the order of processing time")?;
                Ok(wire::OverOrder::ByArrival)
            }
            Some(TimeAttribute::Rowtime)
                if !key.descending && self.comes_in_order(input, column) =>
            {
                Ok(wire::OverOrder::InOrder)
            }
            _ => Ok(wire::OverOrder::Kept),
        }
    }

    /// Whether what is final can be said once the watermark is there: rows that may be taken back later
    /// must be kept, as in any other order.
    fn comes_in_order(&self, input: NodeId, column: usize) -> bool {
        let below = self.graph.node(input);
        below.rowtime.contains(&column) && below.changes.is_append()
    }

    /// Makes columns of all that the calls of all windows read, behind those of the input.
    fn over_columns(
        &mut self,
        input: NodeId,
        windows: &[Window<'_>],
        calls: &[OverCall],
    ) -> Result<(NodeId, Vec<Prepared>), SqlError> {
        let below = self.graph.node(input);
        let mut made = Columns::default();
        let (all, names) = calc::all_columns(below);
        for (column, name) in all.iter().zip(&names) {
            made.push(column, name);
        }
        let fields = below.fields.clone();
        let mut prepared = Vec::with_capacity(windows.len());
        for window in windows {
            let mut partition: Vec<usize> = Vec::new();
            for key in window.partition_by {
                let column = made.get(key, "$partition");
                if !partition.contains(&column) {
                    partition.push(column);
                }
            }
            // Of rows that come at once, none is before the other by the clock.
            let keys = match window.order {
                wire::OverOrder::ByArrival => &[],
                _ => window.order_by,
            };
            let order_by = keys.iter().map(|key| wire::SortKey {
                column: made.get(&key.expr, "$order") as u32,
                descending: key.descending,
                nulls_last: key.nulls_last,
            });
            let order_by = order_by.collect();
            let calls = window.calls.iter().map(|at| {
                let call = wire_call(&calls[*at], &mut made, &fields)?;
                let name = format!("$o{at}");
                Ok((*at, wire::OverCall { name, ..call }))
            });
            prepared.push(Prepared {
                calls: calls.collect::<Result<_, SqlError>>()?,
                partition,
                order_by,
                order: window.order,
                frame: window.frame,
            });
        }
        let node = calc::calc(&mut self.graph, input, None, made.exprs, made.names);
        Ok((node, prepared))
    }

    /// The rows of each partition in the order of a window.
    fn sort_partitions(&mut self, input: NodeId, window: &Prepared) -> NodeId {
        let below = self.graph.node(input);
        let time = window.order_by[0].column;
        let node = Node {
            required: vec![distribution(&window.partition)],
            distribution: distribution(&window.partition),
            keys: below.keys.clone(),
            // Rows wait for this time; another one may be over by then.
            rowtime: vec![time as usize],
            windowed: below.windowed.filter(|_| below.rowtime == [time as usize]),
            bound: Bound::Window,
            tables: &["rows"],
            ..Node::new(
                Op::Sort(wire::Sort {
                    time_column: time,
                    then_by: window.order_by[1..].to_vec(),
                    partition_by: wire_columns(&window.partition),
                }),
                vec![input],
                below.fields.clone(),
            )
        };
        self.graph.add(node)
    }

    fn over_aggregate(&mut self, input: NodeId, window: Prepared) -> NodeId {
        let below = self.graph.node(input);
        let mut fields = below.fields.clone();
        for (_, call) in &window.calls {
            let data_type = wire::data_type(&call.r#type)
                .expect("the type was written from a type a moment ago");
            fields.push(Field::new(&call.name, data_type));
        }
        let kept = window.order == wire::OverOrder::Kept;
        let running = !kept && window.frame.preceding.is_none();
        let changes = match (kept, below.changes.is_append()) {
            (false, _) => Changes::NONE,
            (true, true) => Changes::UPDATES,
            (true, false) => Changes::ALL,
        };
        let node = Node {
            required: vec![distribution(&window.partition)],
            changes,
            distribution: distribution(&window.partition),
            keys: below.keys.clone(),
            rowtime: match kept {
                true => Vec::new(),
                false => below.rowtime.clone(),
            },
            windowed: below.windowed.filter(|_| !kept),
            bound: self.over_bound(input, &window),
            tables: match running {
                true => &["accumulators", "distinct"],
                false => &["rows"],
            },
            ..Node::new(
                Op::OverAggregate(wire::OverAggregate {
                    partition_by: wire_columns(&window.partition),
                    order_by: window.order_by,
                    order: window.order as i32,
                    frame: Some(window.frame),
                    calls: window.calls.into_iter().map(|(_, call)| call).collect(),
                    emit_update_before: false,
                }),
                vec![input],
                fields,
            )
        };
        self.graph.add(node)
    }

    fn over_bound(&self, input: NodeId, window: &Prepared) -> Bound {
        let by_partition = |what: &str| match window.partition.is_empty() {
            true => Bound::Constant,
            false => Bound::Unbounded(self.per_key(what, &window.partition, input)),
        };
        let aggregates = || {
            let calls = window.calls.iter().map(|(_, call)| &call.function);
            calls.filter_map(|function| match function {
                Some(wire::over_call::Function::Aggregate(call)) => Some(call),
                _ => None,
            })
        };
        let remembers_values = aggregates().any(|call| call.distinct);
        let holds_all = aggregates().any(|call| holds_all(&call.function));
        match (window.order, window.frame.range, window.frame.preceding) {
            (wire::OverOrder::Kept, ..) => Bound::Unbounded("input row".to_owned()),
            (_, _, None) if remembers_values && window.partition.is_empty() => {
                Bound::Unbounded("distinct value".to_owned())
            }
            (_, _, None) if holds_all && window.partition.is_empty() => {
                Bound::Unbounded("input row".to_owned())
            }
            (_, _, None) => by_partition("partition"),
            // Rows go once time has passed them by.
            (_, true, Some(_)) => Bound::Window,
            (_, false, Some(_)) => by_partition("frame"),
        }
    }

    /// Why a rank other than ROW_NUMBER is no Top-N.
    pub(crate) fn rank_error(&self, call: &OverCall) -> SqlError {
        let name = match &call.function {
            OverFunction::DenseRank => "DENSE_RANK",
            _ => "RANK",
        };
        SqlError::plan(format!("{name}() is not supported as a Top-N"))
            .hint("ROW_NUMBER() with a condition such as `rn <= 10` around it is")
    }
}

fn is_aggregate(call: &OverCall) -> bool {
    matches!(call.function, OverFunction::Aggregate(_))
}

fn is_lag(call: &OverCall) -> bool {
    matches!(call.function, OverFunction::Lag { .. })
}

fn is_number(call: &OverCall) -> bool {
    !is_aggregate(call) && !is_lag(call)
}

fn frame_of(call: &OverCall) -> wire::OverFrame {
    if is_lag(call) {
        return NO_FRAME;
    }
    wire::OverFrame {
        range: call.units == FrameUnits::Range,
        preceding: match call.start {
            FrameBound::UnboundedPreceding => None,
            FrameBound::Preceding(amount) => Some(amount),
            FrameBound::CurrentRow => Some(0),
        },
    }
}

/// Windows of one partition and order next to each other, so that rows are put in order once; and those
/// last whose results change.
fn clustered(windows: Vec<Window<'_>>) -> Vec<Window<'_>> {
    let mut clustered: Vec<Window<'_>> = Vec::with_capacity(windows.len());
    for window in windows {
        let alike = |other: &Window<'_>| {
            other.partition_by == window.partition_by && other.order_by == window.order_by
        };
        let at = clustered.iter().rposition(alike);
        clustered.insert(at.map_or(clustered.len(), |at| at + 1), window);
    }
    clustered.sort_by_key(|window| window.order == wire::OverOrder::Kept);
    clustered
}

fn wire_call(
    call: &OverCall,
    made: &mut Columns,
    input: &[Field],
) -> Result<wire::OverCall, SqlError> {
    use wire::over_call::Function;
    let number = |number: wire::OverNumber| Function::Number(number as i32);
    let function = match &call.function {
        OverFunction::RowNumber => number(wire::OverNumber::RowNumber),
        OverFunction::Rank => number(wire::OverNumber::Rank),
        OverFunction::DenseRank => number(wire::OverNumber::DenseRank),
        OverFunction::Lag { args } => {
            let Some(ExprKind::Literal(Literal::Integer(offset))) = args.get(1).map(|e| &e.kind)
            else {
                return Err(SqlError::plan("LAG needs a constant offset"));
            };
            Function::Lag(wire::Lag {
                column: made.get(&args[0], "$lag") as u32,
                offset: offset.unsigned_abs(),
                default: args.get(2).map(|e| made.get(e, "$default") as u32),
            })
        }
        OverFunction::Aggregate(aggregate) => {
            let mut calls = made.calls(std::slice::from_ref(aggregate), input);
            Function::Aggregate(calls.remove(0))
        }
    };
    Ok(wire::OverCall {
        function: Some(function),
        r#type: call.data_type.to_string(),
        name: call.name.clone(),
    })
}
