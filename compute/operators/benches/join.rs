//! The updating join: what an inserted row and a match cost. Nexmark's shapes: bids of about 100
//! bytes meet auctions by a BIGINT (q20), with a condition on times (q4, q9), persons meet
//! auctions (q3), bids both (q23). And what looking up a row in a table of 10,000 costs (q13).

mod support;

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use divan::{Bencher, counter::ItemsCount};
use engine::{
    ChangeBatch,
    clock::ManualClock,
    operator::{Counters, Operator, OperatorContext, Outbox, Step, TaskScope},
    schema::arrow_schema,
    state::StateTtl,
};
use operators::{
    JoinOperator, LookupJoinOperator, LookupReader, LookupTable, MultiJoinOperator, RankOperator,
    window::TieFilterOperator,
};
use proto::{
    plan::{self, Changelog, Expr, JoinType, ScalarFunction},
    types::{DataType, Epoch, Field, LogicalType, TableId},
};

use support::scope;

const BATCH_ROWS: usize = 4096;
const ROWS: usize = 512 * 1024;

fn main() {
    divan::main();
}

fn columns(name: &str) -> Vec<Field> {
    let field = |suffix: &str, logical: LogicalType| {
        Field::new(format!("{name}_{suffix}"), logical.nullable())
    };
    vec![
        field("id", LogicalType::BigInt),
        field("other", LogicalType::BigInt),
        field("price", LogicalType::BigInt),
        field("channel", LogicalType::STRING),
        field("text", LogicalType::STRING),
        field("time", LogicalType::Timestamp(3)),
    ]
}

/// Rows of about 100 bytes; `key` of each row by its number.
fn batches(name: &str, rows: usize, key: impl Fn(usize) -> i64) -> Vec<ChangeBatch> {
    let schema = arrow_schema(&columns(name));
    let batch = |start: usize| {
        let numbers = start..(start + BATCH_ROWS).min(rows);
        let numbers = || numbers.clone();
        let int = |f: &dyn Fn(usize) -> i64| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values(numbers().map(f)))
        };
        let text = |f: &dyn Fn(usize) -> String| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(numbers().map(f)))
        };
        let times = TimestampMillisecondArray::from_iter_values(numbers().map(|i| i as i64));
        let arrays: Vec<ArrayRef> = vec![
            int(&|i| key(i)),
            int(&|i| i as i64),
            int(&|i| (i * 7919 % 10_000) as i64),
            text(&|i| format!("channel-{}", i % 100)),
            text(&|i| format!("{:040}", i)),
            Arc::new(times),
        ];
        let rows = RecordBatch::try_new(Arc::clone(&schema), arrays).expect("columns");
        ChangeBatch::inserts(rows)
    };
    (0..rows).step_by(BATCH_ROWS).map(batch).collect()
}

struct Run {
    operator: Box<dyn Operator>,
    out: Outbox,
    clock: ManualClock,
    scope: TaskScope,
    counters: Counters,
    rows_out: usize,
}

impl Run {
    /// Of any operator.
    fn around(operator: Box<dyn Operator>) -> Self {
        Run {
            operator,
            out: Outbox::default(),
            clock: ManualClock::default(),
            scope: scope(BATCH_ROWS),
            counters: Counters::default(),
            rows_out: 0,
        }
    }

    fn of(spec: &plan::Join) -> Self {
        let (left, right) = (columns("l"), columns("r"));
        let tables = [TableId(1), TableId(2)];
        let changelogs = [Changelog::APPEND; 2];
        let operator = JoinOperator::build(
            spec,
            &[&left, &right],
            &tables,
            &changelogs,
            &StateTtl::NEVER,
            &scope(BATCH_ROWS),
        );
        Run::around(operator.expect("a join"))
    }

    fn feed(&mut self, input: usize, batches: &[ChangeBatch]) {
        for batch in batches {
            let mut step = None;
            while step != Some(Step::Done) {
                let mut context = OperatorContext {
                    out: &mut self.out,
                    clock: &self.clock,
                    scope: &self.scope,
                    counters: &mut self.counters,
                    dead_letters: &mut Vec::new(),
                };
                let result = match step {
                    None => self.operator.batch(input, batch.clone(), &mut context),
                    Some(_) => self.operator.resume(&mut context),
                };
                step = Some(result.expect("the join goes on"));
                self.rows_out += self.out.num_rows();
                while self.out.pop().is_some() {}
            }
        }
    }

    fn watermark(&mut self, time: i64) {
        let mut context = OperatorContext {
            out: &mut self.out,
            clock: &self.clock,
            scope: &self.scope,
            counters: &mut self.counters,
            dead_letters: &mut Vec::new(),
        };
        let step = self.operator.watermark(time, &mut context);
        step.expect("the join goes on");
        while self.out.pop().is_some() {}
    }

    /// A barrier, so that what has come so far is not changed state any more.
    fn checkpoint(&mut self, epoch: u64) {
        let state = self.operator.state().expect("a join has state");
        state.freeze(Epoch(epoch));
        while !state.encode(1 << 20) {}
        drop(state.take_delta());
    }
}

/// Rows that match nothing: the price of keeping a row.
#[divan::bench(sample_count = 5)]
fn insert_without_match(bencher: Bencher<'_, '_>) {
    let rows = batches("l", ROWS, |i| i as i64 / 4);
    bencher
        .counter(ItemsCount::new(ROWS))
        .with_inputs(|| Run::of(&inner(None)))
        .bench_local_values(|mut run| {
            run.feed(0, &rows);
            run
        });
}

/// q20: each bid finds its auction, most of them recent ones.
#[divan::bench(sample_count = 5)]
fn bids_meet_auctions(bencher: Bencher<'_, '_>) {
    with_auctions(bencher, inner(None), 2);
}

/// q9: of the bids of each auction only the highest is wanted.
#[divan::bench(sample_count = 5)]
fn bids_meet_auctions_for_the_highest(bencher: Bencher<'_, '_>) {
    let spec = plan::Join {
        best_pair: Some(plan::BestPair {
            per_right: true,
            order_by: vec![highest_price()],
            per_key: true,
        }),
        ..inner(None)
    };
    with_auctions(bencher, spec, 64);
}

/// q9 after its join: most bids are beyond the highest one of their auction.
#[divan::bench(sample_count = 5)]
fn bids_rank_below_the_highest(bencher: Bencher<'_, '_>) {
    let spec = plan::Rank {
        partition_by: vec![0],
        order_by: vec![highest_price()],
        limit: 1,
        ..plan::Rank::default()
    };
    let columns = columns("l");
    let operator = || {
        let (tables, never) = ([TableId(1)], StateTtl::NEVER);
        RankOperator::build(
            &spec,
            &columns,
            &tables,
            &Changelog::APPEND,
            &never,
            &scope(BATCH_ROWS),
        )
    };
    let bids = batches("l", ROWS, |i| (i / 64) as i64);
    bencher
        .counter(ItemsCount::new(ROWS))
        .with_inputs(|| Run::around(operator().expect("a ranking")))
        .bench_local_values(|mut run| {
            run.feed(0, &bids);
            assert!(run.rows_out < ROWS / 2, "{}", run.rows_out);
            run
        });
}

/// q4, q9: the bid's time must be before the auction's.
#[divan::bench(sample_count = 5)]
fn bids_meet_auctions_in_time(bencher: Bencher<'_, '_>) {
    let time = LogicalType::Timestamp(3).nullable();
    let boolean: DataType = LogicalType::Boolean.nullable();
    let sides = vec![Expr::column(5, &time), Expr::column(11, &time)];
    let in_time = Expr::call(ScalarFunction::GreaterOrEqual, sides, &boolean);
    with_auctions(bencher, inner(Some(in_time)), 2);
}

/// q4, q9 with time going on: a bid goes after 400,000 others, as in four seconds of 100 a millisecond.
#[divan::bench(sample_count = 5)]
fn bids_go_in_time(bencher: Bencher<'_, '_>) {
    let time = LogicalType::Timestamp(3).nullable();
    let boolean: DataType = LogicalType::Boolean.nullable();
    let sides = vec![Expr::column(5, &time), Expr::column(11, &time)];
    let spec = plan::Join {
        r#type: JoinType::Inner.into(),
        left_keys: vec![0],
        right_keys: vec![0],
        condition: Some(Expr::call(ScalarFunction::GreaterOrEqual, sides, &boolean)),
        left_until: vec![plan::RowTime {
            time: Some(Expr::column(5, &time)),
            plus_ms: 0,
        }],
        ..plan::Join::default()
    };
    let bids = batches("l", ROWS, |i| (i / 16) as i64);
    bencher
        .counter(ItemsCount::new(ROWS))
        .with_inputs(|| Run::of(&spec))
        .bench_local_values(|mut run| {
            for (number, batch) in bids.iter().enumerate() {
                run.feed(0, std::slice::from_ref(batch));
                run.watermark((number * BATCH_ROWS) as i64 - 400_000);
            }
            run
        });
}

/// q7: of bids in windows of 10,000 those that reach the highest price, as far as it is known.
#[divan::bench(sample_count = 5)]
fn bids_tie_with_the_highest(bencher: Bencher<'_, '_>) {
    let spec = plan::TieFilter {
        value: 2,
        window: Some(plan::WindowSpec {
            kind: plan::WindowKind::Tumble.into(),
            time_column: 5,
            size_ms: 10_000,
            ..plan::WindowSpec::default()
        }),
        end_from_ms: 0,
        end_to_ms: 10_000,
        least: false,
    };
    let bids = batches("l", ROWS, |i| (i / 16) as i64);
    let operator = || TieFilterOperator::build(&spec, &columns("l")).expect("a filter");
    bencher
        .counter(ItemsCount::new(ROWS))
        .with_inputs(|| Run::around(operator()))
        .bench_local_values(|mut run| {
            for (number, batch) in bids.iter().enumerate() {
                run.watermark((number * BATCH_ROWS) as i64 - 1);
                run.feed(0, std::slice::from_ref(batch));
            }
            assert!(run.rows_out < ROWS / 100, "{}", run.rows_out);
            run
        });
}

fn inner(condition: Option<Expr>) -> plan::Join {
    plan::Join {
        r#type: JoinType::Inner.into(),
        left_keys: vec![0],
        right_keys: vec![0],
        condition,
        ..plan::Join::default()
    }
}

fn highest_price() -> plan::SortKey {
    plan::SortKey {
        column: 2,
        descending: true,
        nulls_last: true,
    }
}

/// At least one bid in `few` comes out.
fn with_auctions(bencher: Bencher<'_, '_>, spec: plan::Join, few: usize) {
    let auctions = ROWS / 16;
    let right = batches("r", auctions, |i| i as i64);
    let left = batches("l", ROWS, |i| {
        let newest = i / 16;
        let back = (i.wrapping_mul(2_654_435_761) >> 8) % 100;
        newest.saturating_sub(back) as i64
    });
    bencher
        .counter(ItemsCount::new(ROWS))
        .with_inputs(|| {
            let mut run = Run::of(&spec);
            run.feed(1, &right);
            run.checkpoint(1);
            run
        })
        .bench_local_values(|mut run| {
            run.feed(0, &left);
            assert!(run.rows_out > ROWS / few, "{}", run.rows_out);
            run
        });
}

/// q23: each bid finds its bidder and what that one has put up for auction.
#[divan::bench(sample_count = 5)]
fn bids_meet_bidders_and_their_auctions(bencher: Bencher<'_, '_>) {
    const PEOPLE: usize = ROWS / 46;
    let all = [columns("b"), columns("p"), columns("a")];
    let spec = plan::MultiJoin {
        inputs: vec![plan::MultiJoinInput { keys: vec![0] }; all.len()],
        null_safe: vec![false],
        columns: (0..all.len() as u32 * 6).collect(),
    };
    let people = batches("p", PEOPLE, |i| i as i64);
    // Three of four bids are by a few people, and three of four auctions by a few others.
    let someone = |i: usize, each: usize, hot: usize| match i % 4 {
        0 => (i / each) as i64,
        _ => (i / each / 100 * 100 + hot) as i64,
    };
    let auctions = batches("a", PEOPLE * 3, |i| someone(i, 3, 1));
    let bids = batches("b", ROWS, |i| someone(i, 46, 0));
    let make = || {
        let inputs = all.each_ref().map(Vec::as_slice);
        let tables = [TableId(1), TableId(2), TableId(3)];
        let changelogs = [Changelog::APPEND; 3];
        let never = StateTtl::NEVER;
        MultiJoinOperator::build(
            &spec,
            &inputs,
            &tables,
            &changelogs,
            &never,
            &scope(BATCH_ROWS),
        )
    };
    bencher
        .counter(ItemsCount::new(ROWS))
        .with_inputs(|| {
            let mut run = Run::around(make().expect("a join"));
            run.feed(1, &people);
            run.feed(2, &auctions);
            run.checkpoint(1);
            run
        })
        .bench_local_values(|mut run| {
            run.feed(0, &bids);
            assert!(run.rows_out > ROWS, "{}", run.rows_out);
            run
        });
}

/// One row that matches very many: the price of a match.
#[divan::bench(sample_count = 5)]
fn matches_of_hot_keys(bencher: Bencher<'_, '_>) {
    let right = batches("r", ROWS, |i| (i % 8) as i64);
    let left = batches("l", 8, |i| i as i64);
    bencher
        .counter(ItemsCount::new(ROWS))
        .with_inputs(|| {
            let mut run = Run::of(&inner(None));
            run.feed(1, &right);
            run
        })
        .bench_local_values(|mut run| {
            run.feed(0, &left);
            assert_eq!(run.rows_out, ROWS);
            run
        });
}

/// q13: each bid finds its row of a table.
#[divan::bench(sample_count = 5)]
fn lookups(bencher: Bencher<'_, '_>) {
    const SIDE_ROWS: usize = 10_000;
    let side = columns("r");
    let row = plan::row_type(&side);
    let read = side.iter().enumerate();
    let read = read.map(|(i, field)| Expr::column(i, &field.data_type));
    let spec = plan::LookupJoin {
        r#type: JoinType::Inner.into(),
        left_keys: vec![0],
        right_keys: vec![0],
        table: Some(plan::LookupTable {
            produced: Some(row.clone()),
            calc: Some(plan::Calc {
                condition: None,
                projections: read.collect(),
            }),
            columns: Some(row),
            ..plan::LookupTable::default()
        }),
        ..plan::LookupJoin::default()
    };
    let mut reader = LookupReader::new(&spec, usize::MAX).expect("a table");
    for batch in batches("r", SIDE_ROWS, |i| i as i64) {
        reader.add(batch.rows).expect("rows");
    }
    let table = LookupTable::new(reader.finish().expect("rows"));
    let key = |i: usize| (i.wrapping_mul(2_654_435_761) % SIDE_ROWS) as i64;
    let left = batches("l", ROWS, key);
    bencher
        .counter(ItemsCount::new(ROWS))
        .with_inputs(|| {
            let table = table.clone();
            let operator =
                LookupJoinOperator::build(&spec, &columns("l"), table, &scope(BATCH_ROWS));
            Run::around(operator.expect("a join"))
        })
        .bench_local_values(|mut run| {
            run.feed(0, &left);
            assert_eq!(run.rows_out, ROWS);
            run
        });
}

/// Outer rows lose and regain nothing, but their matches are counted.
#[divan::bench(sample_count = 5)]
fn left_join(bencher: Bencher<'_, '_>) {
    let right = batches("r", ROWS / 16, |i| i as i64);
    let left = batches("l", ROWS, |i| (i / 8) as i64);
    bencher
        .counter(ItemsCount::new(ROWS))
        .with_inputs(|| {
            let mut run = Run::of(&plan::Join {
                r#type: JoinType::Left.into(),
                ..inner(None)
            });
            run.feed(1, &right);
            run
        })
        .bench_local_values(|mut run| {
            run.feed(0, &left);
            assert_eq!(run.rows_out, ROWS);
            run
        });
}
