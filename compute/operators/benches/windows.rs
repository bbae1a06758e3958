//! Time per row of what is computed by time or in an order: windows that share slices, sessions, OVER, first and
//! last rows, Top-N. On one core, keys in cache; watermarks pass and windows close.

mod support;

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMillisecondArray};
use divan::{Bencher, counter::ItemsCount};
use engine::{
    ChangeBatch,
    clock::ManualClock,
    operator::{Counters, Operator, OperatorContext, Outbox, Step},
    schema::arrow_schema,
    state::StateTtl,
};
use operators::{DeduplicateOperator, OverOperator, RankOperator, window::WindowAggregateOperator};
use proto::{
    plan::{
        AggregateCall, Changelog, Deduplicate, OverAggregate, OverCall, OverFrame, OverOrder, Rank,
        SortKey, WindowAggregate, WindowKind, WindowProperty, WindowSpec, over_call::Function,
        window_aggregate::Windowing,
    },
    types::{Field, TableId},
};

use support::scope;

const ROWS: usize = 4096;
const BATCHES: usize = 16;
/// Between two rows.
const ROW_US: i64 = 100;
/// Rows come out of order by less than this.
const DISORDER_MS: i64 = 100;
const KEYS: i64 = 1_000;

fn main() {
    divan::main();
}

fn fields(columns: &[(&str, &str)]) -> Vec<Field> {
    let field = |(name, text): &(&str, &str)| Field::new(*name, text.parse().expect("a data type"));
    columns.iter().map(field).collect()
}

fn input() -> Vec<Field> {
    fields(&[("k", "BIGINT"), ("price", "BIGINT"), ("t", "TIMESTAMP(3)")])
}

/// Rows whose time goes on from one batch to the next.
struct Rows {
    seed: u64,
    made: i64,
}

impl Rows {
    fn next(&mut self, below: i64) -> i64 {
        self.seed = (self.seed)
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.seed >> 33) as i64 % below
    }

    /// A batch, and the watermark behind it.
    fn batch(&mut self) -> (ChangeBatch, i64) {
        let keys: Vec<i64> = (0..ROWS).map(|_| self.next(KEYS)).collect();
        let prices: Vec<i64> = (0..ROWS).map(|_| self.next(1_000_000)).collect();
        let from = self.made;
        let times: Vec<i64> = (from..from + ROWS as i64)
            .map(|row| row * ROW_US / 1_000 + self.next(DISORDER_MS))
            .collect();
        self.made += ROWS as i64;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(keys)),
            Arc::new(Int64Array::from(prices)),
            Arc::new(TimestampMillisecondArray::from(times)),
        ];
        let rows = RecordBatch::try_new(arrow_schema(&input()), columns);
        let rows = rows.expect("columns of the schema");
        (ChangeBatch::inserts(rows), self.made * ROW_US / 1_000 - 1)
    }
}

fn run(bencher: Bencher<'_, '_>, mut operator: Box<dyn Operator>) {
    let (scope, clock) = (scope(ROWS), ManualClock::default());
    let mut counters = Counters::default();
    let mut out = Outbox::default();
    let mut dead_letters = Vec::new();
    let mut rows = Rows { seed: 42, made: 0 };
    let counter = ItemsCount::new(ROWS * BATCHES);
    bencher
        .counter(counter)
        .with_inputs(|| (0..BATCHES).map(|_| rows.batch()).collect::<Vec<_>>())
        .bench_local_values(|batches| {
            for (batch, watermark) in batches {
                let mut context = OperatorContext {
                    out: &mut out,
                    clock: &clock,
                    scope: &scope,
                    counters: &mut counters,
                    dead_letters: &mut dead_letters,
                };
                operator.batch(0, batch, &mut context).expect("rows");
                let mut step = operator.watermark(watermark, &mut context).expect("time");
                // It stops when it has put out enough for now.
                while step != Step::Done {
                    while let Some(element) = context.out.pop() {
                        divan::black_box(element);
                    }
                    step = operator.resume(&mut context).expect("more");
                }
                while let Some(element) = context.out.pop() {
                    divan::black_box(element);
                }
            }
        });
}

fn call(function: &str, args: &[u32]) -> AggregateCall {
    AggregateCall {
        function: function.to_owned(),
        args: args.to_vec(),
        distinct: false,
        filter: None,
        r#type: "BIGINT".to_owned(),
        name: function.to_lowercase(),
    }
}

fn window(kind: WindowKind, size_ms: u64, step_ms: u64) -> WindowSpec {
    WindowSpec {
        kind: kind.into(),
        time_column: 2,
        size_ms,
        step_ms,
        ..WindowSpec::default()
    }
}

/// COUNT and SUM by key and window.
fn windowed(window: WindowSpec) -> Box<dyn Operator> {
    let spec = WindowAggregate {
        keys: vec![0],
        calls: vec![call("COUNT", &[]), call("SUM", &[1])],
        windowing: Some(Windowing::Window(window)),
        properties: vec![
            WindowProperty::WindowStart.into(),
            WindowProperty::WindowEnd.into(),
        ],
        from_partial: false,
    };
    let output = fields(&[
        ("k", "BIGINT"),
        ("count", "BIGINT"),
        ("sum", "BIGINT"),
        ("window_start", "TIMESTAMP(3)"),
        ("window_end", "TIMESTAMP(3)"),
    ]);
    let tables = [TableId(1), TableId(2), TableId(3)];
    WindowAggregateOperator::build(&spec, &input(), &output, &tables, true, &scope(ROWS))
        .expect("an operator")
}

/// Windows of ten seconds.
#[divan::bench]
fn tumble(bencher: Bencher<'_, '_>) {
    run(
        bencher,
        windowed(window(WindowKind::Tumble, 10_000, 10_000)),
    );
}

/// Windows of ten seconds that begin so often a second: a row counts in one slice, a window is put together of
/// its slices.
#[divan::bench(args = [1, 5])]
fn hop(bencher: Bencher<'_, '_>, per_second: u64) {
    run(
        bencher,
        windowed(window(WindowKind::Hop, 10_000, 1_000 / per_second)),
    );
}

/// Sessions that end after so many ms: many rows each, or few.
#[divan::bench(args = [200, 20])]
fn session(bencher: Bencher<'_, '_>, gap_ms: u64) {
    let window = WindowSpec {
        gap_ms,
        ..window(WindowKind::Session, 0, 0)
    };
    run(bencher, windowed(window));
}

fn descending(column: u32) -> SortKey {
    SortKey {
        column,
        descending: true,
        nulls_last: false,
    }
}

/// SUM over so many rows before, in the order in which they come; 0: over all.
#[divan::bench(args = [0, 10])]
fn over(bencher: Bencher<'_, '_>, preceding: u64) {
    let spec = OverAggregate {
        partition_by: vec![0],
        order_by: Vec::new(),
        order: OverOrder::ByArrival.into(),
        frame: Some(OverFrame {
            range: false,
            preceding: (preceding > 0).then_some(preceding),
        }),
        calls: vec![OverCall {
            function: Some(Function::Aggregate(call("SUM", &[1]))),
            r#type: "BIGINT".to_owned(),
            name: "sum".to_owned(),
        }],
        emit_update_before: false,
    };
    let tables = [TableId(1), TableId(2)];
    let tables = if preceding > 0 { &tables[..1] } else { &tables };
    let input_changes = Changelog::APPEND;
    let (input, never) = (input(), StateTtl::NEVER);
    let operator = OverOperator::build(&spec, &input, tables, &input_changes, &never, &scope(ROWS));
    run(bencher, operator.expect("an operator"));
}

/// The first or the last row of each key, by event time.
#[divan::bench(args = [false, true])]
fn deduplicate(bencher: Bencher<'_, '_>, keep_last: bool) {
    let spec = Deduplicate {
        keys: vec![0],
        time_column: Some(2),
        keep_last,
        window: None,
        emit_update_before: false,
    };
    let (input, never) = (input(), StateTtl::NEVER);
    let operator = DeduplicateOperator::build(&spec, &input, &[TableId(1)], &never, &scope(ROWS));
    run(bencher, operator.expect("an operator"));
}

/// The ten highest prices of each key.
#[divan::bench]
fn top_ten(bencher: Bencher<'_, '_>) {
    let spec = Rank {
        partition_by: vec![0],
        order_by: vec![descending(1)],
        offset: 0,
        limit: 10,
        output_rank: false,
        window: None,
        emit_update_before: false,
    };
    let (input, never) = (input(), StateTtl::NEVER);
    let changes = Changelog::APPEND;
    let operator =
        RankOperator::build(&spec, &input, &[TableId(1)], &changes, &never, &scope(ROWS));
    run(bencher, operator.expect("an operator"));
}
