//! Plans of OVER to test with.

use engine::{
    operator::{Operator, OperatorError, TaskScope},
    state::StateTtl,
};
use proto::{
    plan::{
        self, AggregateCall, Changelog, Lag, OverCall, OverNumber, OverOrder, SortKey,
        over_call::Function,
    },
    types::{Field, TableId},
};

use super::OverOperator;
use crate::testing::fields;

pub(super) const TABLES: [TableId; 2] = [TableId(1), TableId(2)];

/// Partition, time, number, text, fraction, filter, default, identity.
pub(super) fn columns() -> Vec<Field> {
    fields(&[
        ("p", "INT"),
        ("t", "TIMESTAMP(3)"),
        ("v", "INT"),
        ("s", "STRING"),
        ("x", "DOUBLE"),
        ("f", "BOOLEAN"),
        ("d", "INT"),
        ("id", "INT"),
    ])
}
pub(super) const T: u32 = 1;
pub(super) const V: u32 = 2;
pub(super) const S: u32 = 3;
pub(super) const X: u32 = 4;
pub(super) const F: u32 = 5;
pub(super) const D: u32 = 6;
pub(super) const ID: u32 = 7;

/// Functions with an argument, whether values count once, and their types.
pub(super) const AGGREGATES: &[(&str, Option<u32>, bool, &str)] = &[
    ("COUNT", None, false, "BIGINT NOT NULL"),
    ("COUNT", Some(S), false, "BIGINT NOT NULL"),
    ("SUM", Some(V), false, "INT"),
    ("SUM", Some(X), false, "DOUBLE"),
    ("AVG", Some(V), false, "INT"),
    ("AVG", Some(X), false, "DOUBLE"),
    ("MIN", Some(V), false, "INT"),
    ("MAX", Some(X), false, "DOUBLE"),
    ("MIN", Some(F), false, "BOOLEAN"),
    ("MAX", Some(S), false, "STRING"),
    ("STDDEV_POP", Some(V), false, "INT"),
    ("COUNT", Some(V), true, "BIGINT NOT NULL"),
    ("SUM", Some(V), true, "INT"),
    ("AVG", Some(X), true, "DOUBLE"),
];

/// Likewise those that depend on the order of equal rows.
pub(super) const ORDERED: &[(&str, Option<u32>, bool, &str)] = &[
    ("FIRST_VALUE", Some(V), false, "INT"),
    ("LAST_VALUE", Some(X), false, "DOUBLE"),
    ("FIRST_VALUE", Some(S), false, "STRING"),
    ("LAST_VALUE", Some(F), false, "BOOLEAN"),
    ("VAR_SAMP", Some(X), false, "DOUBLE"),
    ("VAR_POP", Some(X), true, "DOUBLE"),
    ("LIST_AGG", Some(S), false, "STRING"),
    ("LIST_AGG", Some(S), true, "STRING"),
    ("ARRAY_AGG", Some(V), true, "ARRAY<INT>"),
];

pub(super) fn aggregate(at: usize, is_filtered: bool) -> OverCall {
    let all = [AGGREGATES, ORDERED].concat();
    let (function, arg, distinct, data_type) = all[at % all.len()];
    let data_type = match is_filtered && function == "COUNT" {
        true => "BIGINT NOT NULL",
        false => data_type,
    };
    OverCall {
        function: Some(Function::Aggregate(AggregateCall {
            function: function.to_owned(),
            args: arg.into_iter().collect(),
            distinct,
            filter: is_filtered.then_some(F),
            r#type: data_type.to_owned(),
            name: function.to_owned(),
        })),
        r#type: data_type.to_owned(),
        name: function.to_owned(),
    }
}

pub(super) fn number(number: OverNumber) -> OverCall {
    OverCall {
        function: Some(Function::Number(number.into())),
        r#type: "BIGINT NOT NULL".to_owned(),
        name: number.as_str_name().to_owned(),
    }
}

pub(super) fn lag(offset: u64, has_default: bool) -> OverCall {
    OverCall {
        function: Some(Function::Lag(Lag {
            column: V,
            offset,
            default: has_default.then_some(D),
        })),
        r#type: "INT".to_owned(),
        name: "lag".to_owned(),
    }
}

pub(super) fn key(column: u32, descending: bool) -> SortKey {
    SortKey {
        column,
        descending,
        nulls_last: descending,
    }
}

pub(super) fn spec(
    order: OverOrder,
    order_by: Vec<SortKey>,
    (range, preceding): (bool, Option<u64>),
    calls: Vec<OverCall>,
) -> plan::OverAggregate {
    plan::OverAggregate {
        partition_by: vec![0],
        order_by,
        order: order.into(),
        frame: Some(plan::OverFrame { range, preceding }),
        calls,
        emit_update_before: true,
    }
}

pub(super) fn make(
    spec: &plan::OverAggregate,
    input: Changelog,
) -> impl Fn(&TaskScope) -> Result<Box<dyn Operator>, OperatorError> {
    let running =
        spec.order() != OverOrder::Kept && spec.frame.unwrap_or_default().preceding.is_none();
    let tables = if running { &TABLES[..] } else { &TABLES[..1] };
    move |scope| OverOperator::build(spec, &columns(), tables, &input, &StateTtl::NEVER, scope)
}
