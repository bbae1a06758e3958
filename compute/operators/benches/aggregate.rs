//! Time per row of grouped aggregation, on one core, keys in cache.

mod support;

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch};
use divan::{Bencher, counter::ItemsCount};
use engine::{
    ChangeBatch,
    clock::ManualClock,
    operator::{Counters, Operator, OperatorContext, Outbox},
    schema::arrow_schema,
    state::StateTtl,
};
use operators::aggregate::{GroupAggregateOperator, LocalAggregateOperator};
use proto::{
    plan::{AggregateCall, GroupAggregate, LocalAggregate},
    types::{Field, TableId},
};

use support::scope;

const ROWS: usize = 4096;
const BATCHES: usize = 16;

fn main() {
    divan::main();
}

/// (key, bidder, price, three flags), by a small linear congruence.
fn input() -> Vec<Field> {
    let columns = [
        ("k", "BIGINT"),
        ("bidder", "BIGINT"),
        ("price", "BIGINT"),
        ("low", "BOOLEAN"),
        ("middle", "BOOLEAN"),
        ("high", "BOOLEAN"),
    ];
    columns
        .iter()
        .map(|(name, text)| Field::new(*name, text.parse().expect("a type")))
        .collect()
}

fn batches(keys: i64) -> Vec<ChangeBatch> {
    let mut seed = 42_u64;
    let mut next = |below: i64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) as i64 % below
    };
    let mut batch = || {
        let mut column = |below: i64| (0..ROWS).map(|_| next(below)).collect::<Vec<i64>>();
        let (key, bidder, price) = (column(keys), column(5_000), column(1_000_000));
        let flag = |from: i64, to: i64| -> ArrayRef {
            let inside = price.iter().map(|price| Some((from..to).contains(price)));
            Arc::new(inside.collect::<BooleanArray>())
        };
        let flags = [
            flag(0, 10_000),
            flag(10_000, 500_000),
            flag(500_000, 1_000_000),
        ];
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(key)),
            Arc::new(Int64Array::from(bidder)),
            Arc::new(Int64Array::from(price.clone())),
        ];
        columns.extend(flags);
        ChangeBatch::inserts(
            RecordBatch::try_new(arrow_schema(&input()), columns).expect("columns of the schema"),
        )
    };
    (0..BATCHES).map(|_| batch()).collect()
}

fn call(function: &str, args: &[u32], distinct: bool, filter: Option<u32>) -> AggregateCall {
    AggregateCall {
        function: function.to_owned(),
        args: args.to_vec(),
        distinct,
        filter,
        r#type: "BIGINT".to_owned(),
        name: function.to_owned(),
    }
}

fn run(bencher: Bencher<'_, '_>, mut operator: Box<dyn Operator>, keys: i64) {
    let batches = batches(keys);
    let (scope, clock) = (scope(ROWS), ManualClock::default());
    let mut counters = Counters::default();
    let mut out = Outbox::default();
    let mut dead_letters = Vec::new();
    bencher
        .counter(ItemsCount::new(ROWS * BATCHES))
        .bench_local(|| {
            for batch in &batches {
                let mut context = OperatorContext {
                    out: &mut out,
                    clock: &clock,
                    scope: &scope,
                    counters: &mut counters,
                    dead_letters: &mut dead_letters,
                };
                operator
                    .batch(0, batch.clone(), &mut context)
                    .expect("rows");
                while let Some(element) = out.pop() {
                    divan::black_box(element);
                }
            }
        });
}

fn group(calls: Vec<AggregateCall>) -> Box<dyn Operator> {
    let spec = GroupAggregate {
        keys: vec![0],
        calls,
        from_partial: false,
        emit_update_before: false,
    };
    let tables = [TableId(1), TableId(2), TableId(3), TableId(4)];
    GroupAggregateOperator::build(
        &spec,
        &input(),
        &tables,
        true,
        &StateTtl::NEVER,
        &scope(ROWS),
    )
    .expect("an operator")
}

/// COUNT(*) by a BIGINT key.
#[divan::bench(args = [100, 10_000])]
fn count(bencher: Bencher<'_, '_>, keys: i64) {
    run(bencher, group(vec![call("COUNT", &[], false, None)]), keys);
}

/// SUM, MIN, MAX, AVG by a BIGINT key: the old result is compared with the new one.
#[divan::bench(args = [100, 10_000])]
fn four_of_price(bencher: Bencher<'_, '_>, keys: i64) {
    let calls = ["SUM", "MIN", "MAX", "AVG"].map(|name| call(name, &[2], false, None));
    run(bencher, group(calls.to_vec()), keys);
}

/// Twelve calls, half of them COUNT(DISTINCT …), most with a FILTER.
#[divan::bench(args = [10, 1_000])]
fn twelve_with_distinct(bencher: Bencher<'_, '_>, keys: i64) {
    let mut calls = Vec::new();
    for filter in [None, Some(3), Some(4), Some(5)] {
        calls.push(call("COUNT", &[], false, filter));
        calls.push(call("COUNT", &[1], true, filter));
        calls.push(call("COUNT", &[2], true, filter));
    }
    run(bencher, group(calls), keys);
}

/// COUNT(*) before an exchange; of many keys it passes rows through.
#[divan::bench(args = [100, 1_000_000])]
fn local_count(bencher: Bencher<'_, '_>, keys: i64) {
    let spec = LocalAggregate {
        keys: vec![0],
        calls: vec![call("COUNT", &[], false, None)],
        window: None,
    };
    let operator =
        LocalAggregateOperator::build(&spec, &input(), &scope(ROWS)).expect("an operator");
    run(bencher, operator, keys);
}
