//! Late rows leave beside the output: of random rows out of order, each is used or comes out as late,
//! once, wherever the operator crashes and whatever moves.

use std::collections::BTreeSet;

use arrow::{
    array::{Array as _, AsArray as _},
    datatypes::{Int64Type, TimestampMillisecondType},
};
use engine::{
    ChangeBatch,
    operator::{Operator, OperatorError, TaskScope},
    state::StateTtl,
};
use proptest::prelude::*;
use proto::{
    plan::{
        self, AggregateCall, AttachedWindow, Changelog, JoinType, SortKey, WindowKind,
        WindowProperty, WindowSpec, window_aggregate::Windowing,
    },
    types::{Epoch, Field, TableId},
};

use crate::{
    IntervalJoinOperator, RankOperator, SortOperator, TemporalJoinOperator, WindowJoinOperator,
    testing::{Event, batches, drive_late, fields, insert},
    window::{WindowAggregateOperator, WindowAssignOperator},
};

const TABLES: [TableId; 3] = [TableId(1), TableId(2), TableId(3)];

/// Windows that rows carry are of so many milliseconds.
const WINDOW_MS: i64 = 10;

/// Key, number of the row, time, and its window.
fn columns() -> Vec<Field> {
    fields(&[
        ("k", "BIGINT"),
        ("id", "BIGINT"),
        ("t", "TIMESTAMP(3)"),
        ("window_start", "TIMESTAMP(3)"),
        ("window_end", "TIMESTAMP(3)"),
    ])
}

fn attached() -> AttachedWindow {
    AttachedWindow {
        window_start: 3,
        window_end: 4,
    }
}

/// Makes an operator.
type Make = dyn Fn(&TaskScope) -> Result<Box<dyn Operator>, OperatorError>;

/// An operator under test, and where its output has the numbers of the rows that it has used.
struct Subject {
    make: Box<Make>,
    inputs: usize,
    used: Used,
}

#[derive(Clone, Copy)]
enum Used {
    /// In these columns, once or more.
    Ids(&'static [usize]),
    /// How many in the one, their sum in the other.
    Sums(usize, usize),
}

fn of(
    make: impl Fn(&TaskScope) -> Result<Box<dyn Operator>, OperatorError> + 'static,
    inputs: usize,
    used: Used,
) -> Subject {
    Subject {
        make: Box::new(make),
        inputs,
        used,
    }
}

fn aggregate(windowing: Windowing) -> Subject {
    let call = |function: &str, args: &[u32]| AggregateCall {
        function: function.to_owned(),
        args: args.to_vec(),
        r#type: "BIGINT".to_owned(),
        name: function.to_lowercase(),
        ..AggregateCall::default()
    };
    let spec = plan::WindowAggregate {
        keys: vec![0],
        calls: vec![call("COUNT", &[]), call("SUM", &[1])],
        windowing: Some(windowing),
        properties: vec![WindowProperty::WindowEnd as i32],
        from_partial: false,
    };
    let output = fields(&[
        ("k", "BIGINT"),
        ("c", "BIGINT"),
        ("s", "BIGINT"),
        ("e", "TIMESTAMP(3)"),
    ]);
    let make = move |scope: &TaskScope| {
        WindowAggregateOperator::build(&spec, &columns(), &output, &TABLES, true, scope)
    };
    of(make, 1, Used::Sums(1, 2))
}

fn window(kind: WindowKind) -> WindowSpec {
    WindowSpec {
        kind: kind as i32,
        time_column: 2,
        size_ms: WINDOW_MS as u64,
        step_ms: 5,
        gap_ms: 4,
        partition_by: vec![0],
        ..WindowSpec::default()
    }
}

fn session_assign() -> Subject {
    let spec = plan::WindowAssign {
        window: Some(window(WindowKind::Session)),
    };
    let mut output = columns();
    output.extend(fields(&[
        ("s", "TIMESTAMP(3)"),
        ("e", "TIMESTAMP(3)"),
        ("w", "TIMESTAMP(3)"),
    ]));
    let make = move |scope: &TaskScope| {
        WindowAssignOperator::build(&spec, &columns(), &output, &TABLES[..1], scope)
    };
    of(make, 1, Used::Ids(&[1]))
}

fn sort(partition_by: Vec<u32>) -> Subject {
    let spec = plan::Sort {
        time_column: 2,
        then_by: Vec::new(),
        partition_by,
    };
    let make = move |scope: &TaskScope| SortOperator::build(&spec, &columns(), &TABLES[..1], scope);
    of(make, 1, Used::Ids(&[1]))
}

fn rank() -> Subject {
    let spec = plan::Rank {
        partition_by: vec![0],
        order_by: vec![SortKey {
            column: 1,
            ..SortKey::default()
        }],
        limit: 1_000,
        window: Some(attached()),
        ..plan::Rank::default()
    };
    let make = move |scope: &TaskScope| {
        let (append, ttl) = (Changelog::APPEND, StateTtl::NEVER);
        RankOperator::build(&spec, &columns(), &TABLES[..1], &append, &ttl, scope)
    };
    of(make, 1, Used::Ids(&[1]))
}

fn window_join() -> Subject {
    let spec = plan::WindowJoin {
        r#type: JoinType::Full.into(),
        left_keys: vec![0],
        right_keys: vec![0],
        null_safe: vec![false],
        condition: None,
        left_window: Some(attached()),
        right_window: Some(attached()),
    };
    let make = move |scope: &TaskScope| {
        let inputs = columns();
        WindowJoinOperator::build(&spec, &[&inputs, &inputs], &TABLES[..2], scope)
    };
    of(make, 2, Used::Ids(&[1, 6]))
}

fn interval_join(join_type: JoinType) -> Subject {
    let spec = plan::IntervalJoin {
        r#type: join_type.into(),
        left_keys: vec![0],
        right_keys: vec![0],
        null_safe: vec![false],
        condition: None,
        left_time: 2,
        right_time: 2,
        lower_ms: -5,
        upper_ms: 8,
    };
    let tables: Vec<TableId> = match join_type {
        JoinType::Full => (1..5).map(TableId).collect(),
        _ => TABLES[..2].to_vec(),
    };
    let make = move |scope: &TaskScope| {
        let inputs = columns();
        IntervalJoinOperator::build(&spec, &[&inputs, &inputs], &tables, scope)
    };
    of(make, 2, Used::Ids(&[1, 6]))
}

fn temporal_join() -> Subject {
    let spec = plan::TemporalJoin {
        r#type: JoinType::Inner.into(),
        left_keys: vec![0],
        right_keys: vec![0],
        null_safe: vec![false],
        condition: None,
        left_time: 2,
        right_time: 2,
    };
    let make = move |scope: &TaskScope| {
        let inputs = columns();
        TemporalJoinOperator::build(&spec, &[&inputs, &inputs], &TABLES[..2], scope)
    };
    of(make, 2, Used::Ids(&[1, 6]))
}

/// Rows (input, key, time less the watermark), then how far the watermark moves, and a barrier.
type Step = (Vec<(usize, i64, i64)>, Option<i64>, bool);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let row = (0..2_usize, 0..4_i64, -25..15_i64);
    let rows = prop::collection::vec(row, 0..9);
    let advance = prop::option::weighted(0.6, 1..20_i64);
    prop::collection::vec((rows, advance, any::<bool>()), 1..20)
}

/// The events, and how many rows there are: they are numbered from 1 on.
fn script(steps: &[Step], inputs: usize) -> (Vec<Event>, i64) {
    let (mut events, mut watermark, mut id) = (Vec::new(), 0, 0);
    for (rows, advance, barrier) in steps {
        for input in 0..inputs {
            let mine = rows.iter().filter(|(of, ..)| *of % inputs == input);
            let lines: Vec<String> = mine
                .map(|(_, key, after)| {
                    id += 1;
                    let time = watermark + after;
                    let start = time.div_euclid(WINDOW_MS) * WINDOW_MS;
                    format!("{key}, {id}, {time}, {start}, {}", start + WINDOW_MS)
                })
                .collect();
            if !lines.is_empty() {
                events.push(insert(input, &columns(), &lines.join("\n")));
            }
        }
        if let Some(advance) = advance {
            watermark += advance;
            events.push(Event::Watermark(watermark));
        }
        events.extend(barrier.then_some(Event::Barrier));
    }
    events.extend([Event::Watermark(i64::MAX), Event::End]);
    (events, id)
}

fn longs(batch: &ChangeBatch, column: usize) -> Vec<i64> {
    let values = batch.rows.column(column).as_primitive::<Int64Type>();
    values.iter().flatten().collect()
}

/// What became of the rows of a script: how many were used, their sum, and which were late.
fn outcome(
    subject: &Subject,
    events: &[Event],
    seed: u64,
    crashes: impl Fn(Epoch) -> bool,
) -> (i64, i64, BTreeSet<i64>) {
    let (output, late, counters) = drive_late(&*subject.make, events, seed, &crashes);
    let mut late_ids = BTreeSet::new();
    for (input, batch) in &late {
        assert!(*input < subject.inputs && batch.is_append());
        assert_eq!(batch.rows.num_columns(), columns().len() + 2);
        for id in longs(batch, 1) {
            assert!(late_ids.insert(id), "row {id} was late twice");
        }
        let time = |column: usize| {
            batch
                .rows
                .column(column)
                .as_primitive::<TimestampMillisecondType>()
        };
        let passed = time(5).iter().zip(time(2).values());
        for (watermark, time) in passed {
            assert!(
                watermark >= Some(*time),
                "{time} was not passed by {watermark:?}"
            );
        }
        let kinds = batch.rows.column(6).as_string::<i32>();
        assert!((0..kinds.len()).all(|row| kinds.value(row) == "+I"));
    }
    let rows = late_ids.len() as u64;
    let has_crashed = (1..=events.len() as u64).any(|epoch| crashes(Epoch(epoch)));
    // The counter begins anew with a crash.
    assert!(counters.late_rows == rows || has_crashed && counters.late_rows <= rows);
    let (mut count, mut sum) = (0, 0);
    match subject.used {
        Used::Ids(columns) => {
            let mut used = BTreeSet::new();
            for batch in batches(&output) {
                let width = batch.rows.num_columns();
                let there = columns.iter().filter(|column| **column < width);
                used.extend(there.flat_map(|column| longs(&batch, *column)));
            }
            assert!(used.is_disjoint(&late_ids), "{used:?} and {late_ids:?}");
            (count, sum) = (used.len() as i64, used.iter().sum());
        }
        Used::Sums(counts, sums) => {
            for batch in batches(&output) {
                count += longs(&batch, counts).iter().sum::<i64>();
                sum += longs(&batch, sums).iter().sum::<i64>();
            }
        }
    }
    (count, sum, late_ids)
}

/// Each row is used or late, whatever happens.
fn check_all_are_there(subject: &Subject, steps: &[Step]) {
    let (events, rows) = script(steps, subject.inputs);
    let barriers = steps.iter().filter(|(.., barrier)| *barrier).count() as u64;
    for crash in 0..=barriers + 1 {
        let crashes = |epoch: Epoch| epoch.0 == crash || crash > barriers;
        let (count, sum, late) = outcome(subject, &events, crash, crashes);
        assert_eq!(count + late.len() as i64, rows, "with a crash at {crash}");
        let all = rows * (rows + 1) / 2;
        assert_eq!(
            sum + late.iter().sum::<i64>(),
            all,
            "with a crash at {crash}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn every_row_is_used_or_put_out_as_late(steps in steps()) {
        for kind in [WindowKind::Tumble, WindowKind::Session] {
            check_all_are_there(&aggregate(Windowing::Window(window(kind))), &steps);
        }
        check_all_are_there(&aggregate(Windowing::Attached(attached())), &steps);
        check_all_are_there(&session_assign(), &steps);
        check_all_are_there(&sort(Vec::new()), &steps);
        check_all_are_there(&sort(vec![0]), &steps);
        check_all_are_there(&rank(), &steps);
        check_all_are_there(&window_join(), &steps);
        check_all_are_there(&interval_join(JoinType::Full), &steps);
    }

    /// How far time was, these joins forget in a crash.
    #[test]
    fn what_a_join_puts_out_as_late_it_has_not_joined(steps in steps()) {
        for join_type in [JoinType::Inner, JoinType::Semi] {
            let subject = interval_join(join_type);
            let (events, _) = script(&steps, subject.inputs);
            let first = outcome(&subject, &events, 0, |_| false);
            prop_assert_eq!(first, outcome(&subject, &events, 7, |_| false));
        }
        // What is still known of the time of a late row depends on what was read when.
        for seed in [0, 7] {
            let (events, _) = script(&steps, 2);
            let _ = outcome(&temporal_join(), &events, seed, |_| false);
        }
    }
}
