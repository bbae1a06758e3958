//! Pre-aggregation before an exchange: less to send, and a hot key costs one row per batch.
//! Only for inputs that never take a row back and calls whose partial results can be merged.

use proto::plan::{self as wire, AggregateFunction};
use proto::types::{Field, LogicalType};

use crate::logical::WindowFunction;

use super::aggregate::Prepared;
use super::node::{Distribution, Node, NodeId, Op};
use super::rank::{distribution, wire_columns};
use super::translate::{Translator, bigint};
use super::window;

/// A LocalAggregate and how its output is read.
pub(crate) struct Local {
    pub(crate) node: NodeId,
    pub(crate) keys: Vec<usize>,
    pub(crate) calls: Vec<wire::AggregateCall>,
    pub(crate) slice_end: Option<usize>,
}

impl Translator<'_> {
    /// Pre-aggregates before the exchange where that is possible and there will be one.
    pub(crate) fn local_aggregate(
        &mut self,
        prepared: &Prepared,
        function: Option<&WindowFunction>,
    ) -> Option<Local> {
        let below = self.graph.node(prepared.node);
        let sliced = function.is_none_or(|f| {
            matches!(
                f.kind,
                wire::WindowKind::Tumble | wire::WindowKind::Hop | wire::WindowKind::Cumulate
            ) && f.step_ms <= f.size_ms
        });
        let spread = &below.distribution;
        let useful = self.options.parallelism_hint != Some(1)
            && *spread != distribution(&prepared.keys)
            && *spread != Distribution::Single;
        let splittable = !prepared.calls.is_empty() && prepared.calls.iter().all(is_splittable);
        if !below.changes.is_append()
            || !useful
            || !splittable
            || !sliced
            || prepared.attached.is_some()
        {
            return None;
        }
        let mut fields: Vec<Field> = prepared
            .keys
            .iter()
            .map(|k| below.fields[*k].clone())
            .collect();
        let mut calls = Vec::new();
        for call in &prepared.calls {
            let first = fields.len() as u32;
            let input = call.args.first().map(|c| &below.fields[*c as usize]);
            fields.extend(partial_fields(call, input));
            calls.push(wire::AggregateCall {
                args: (first..fields.len() as u32).collect(),
                filter: None,
                ..call.clone()
            });
        }
        let slice_end = function.map(|_| {
            fields.push(Field::new("$slice_end", bigint()));
            fields.len() - 1
        });
        let time = prepared.time.unwrap_or_default();
        let op = Op::LocalAggregate(wire::LocalAggregate {
            keys: wire_columns(&prepared.keys),
            calls: prepared.calls.clone(),
            window: function.map(|f| window::spec(f, time, &[])),
        });
        let node = Node::new(op, vec![prepared.node], fields);
        Some(Local {
            node: self.graph.add(node),
            keys: (0..prepared.keys.len()).collect(),
            calls,
            slice_end,
        })
    }
}

/// Whether partial results of the call can be merged, and it is worth it.
fn is_splittable(call: &wire::AggregateCall) -> bool {
    use AggregateFunction as A;
    let function = call.function.parse();
    !call.distinct && matches!(function, Ok(A::Count | A::Sum | A::Avg | A::Min | A::Max))
}

/// The partial columns of a call; see `LocalAggregate` in the plan's schema.
fn partial_fields(call: &wire::AggregateCall, input: Option<&Field>) -> Vec<Field> {
    let count = |suffix: &str| Field::new(format!("{}{suffix}", call.name), bigint());
    match call.function.parse() {
        Ok(AggregateFunction::Count) => vec![count("$count")],
        Ok(AggregateFunction::Avg) => {
            let sum = match input.map(|f| &f.data_type.logical) {
                Some(LogicalType::Decimal { scale, .. }) => LogicalType::Decimal {
                    precision: 38,
                    scale: *scale,
                },
                Some(logical) if logical.is_integer() => LogicalType::BigInt,
                _ => LogicalType::Double,
            };
            let sum = Field::new(format!("{}$sum", call.name), sum.nullable());
            vec![sum, count("$count")]
        }
        _ => {
            let data_type = wire::data_type(&call.r#type)
                .expect("the type was written from a type a moment ago");
            vec![Field::new(&call.name, data_type.with_nullable(true))]
        }
    }
}
