//! Windows by scripts, and against a model that keeps all rows.

use std::collections::{BTreeMap, BTreeSet};

use engine::operator::{Operator, OperatorError, TaskScope};
use expect_test::{Expect, expect};
use proptest::prelude::*;
use proto::{
    plan::{
        self, AggregateCall, AttachedWindow, WindowKind, WindowProperty, WindowSpec,
        window_aggregate::Windowing,
    },
    types::{Field, TableId},
};

use super::{WindowAggregateOperator, WindowAssignOperator, session_test::session};
use crate::{
    aggregate::LocalAggregateOperator,
    testing::{
        Event, Fold, changelog, crash_at_each_barrier, drive, drive_with_seed, fields, insert,
        left_behind,
    },
};

pub(super) const TABLES: [TableId; 3] = [TableId(1), TableId(2), TableId(3)];

pub(super) fn call(function: &str, args: &[u32], distinct: bool) -> AggregateCall {
    AggregateCall {
        function: function.to_owned(),
        args: args.to_vec(),
        distinct,
        filter: None,
        r#type: "BIGINT".to_owned(),
        name: function.to_lowercase(),
    }
}

pub(super) fn window(
    kind: WindowKind,
    time_column: u32,
    size_ms: u64,
    step_ms: u64,
    offset_ms: i64,
) -> WindowSpec {
    WindowSpec {
        kind: kind as i32,
        time_column,
        size_ms,
        step_ms,
        offset_ms,
        ..WindowSpec::default()
    }
}

pub(super) fn input() -> Vec<Field> {
    fields(&[("k", "STRING"), ("v", "BIGINT"), ("ts", "TIMESTAMP(3)")])
}

pub(super) fn calls() -> Vec<AggregateCall> {
    vec![
        call("COUNT", &[], false),
        call("SUM", &[1], false),
        call("MAX", &[1], false),
        call("COUNT", &[1], true),
    ]
}

fn output() -> Vec<Field> {
    fields(&[
        ("k", "STRING"),
        ("c", "BIGINT"),
        ("s", "BIGINT"),
        ("m", "BIGINT"),
        ("d", "BIGINT"),
        ("window_start", "TIMESTAMP(3)"),
        ("window_end", "TIMESTAMP(3)"),
    ])
}

pub(super) fn aggregate(windowing: Windowing, calls: Vec<AggregateCall>) -> plan::WindowAggregate {
    plan::WindowAggregate {
        keys: vec![0],
        calls,
        windowing: Some(windowing),
        properties: vec![
            WindowProperty::WindowStart as i32,
            WindowProperty::WindowEnd as i32,
        ],
        from_partial: false,
    }
}

pub(super) fn maker(
    spec: plan::WindowAggregate,
    input: Vec<Field>,
    append_only: bool,
) -> impl Fn(&TaskScope) -> Result<Box<dyn Operator>, OperatorError> {
    move |scope| {
        WindowAggregateOperator::build(&spec, &input, &output(), &TABLES, append_only, scope)
    }
}

/// Milliseconds as text: `1970-01-01T00:00:00.010` is long.
pub(super) fn short(text: &str) -> String {
    text.replace("1970-01-01T00:00:00", "0")
        .replace("1969-12-31T23:59:59", "-1")
}

pub(super) fn check(spec: WindowSpec, events: &[Event], expected: Expect) {
    let make = maker(aggregate(Windowing::Window(spec), calls()), input(), true);
    expected.assert_eq(&short(&changelog(&drive(&make, events))));
    let _ = crash_at_each_barrier(&make, events, &Fold::Retract);
}

fn scripted() -> Vec<Event> {
    vec![
        insert(0, &input(), "a, 1, 1\na, 2, 9\nb, 7, 4\na, 1, 12"),
        Event::Barrier,
        Event::Watermark(8),
        insert(0, &input(), "a, 5, 7\nb, 7, 21"),
        Event::Barrier,
        Event::Watermark(9),
        Event::Barrier,
        insert(0, &input(), "a, 100, 3\na, 4, 11"),
        Event::Watermark(i64::MAX),
        Event::Barrier,
        Event::End,
    ]
}

#[test]
fn tumbling_windows_fire_once_and_drop_what_is_late() {
    check(
        window(WindowKind::Tumble, 2, 10, 0, 0),
        &scripted(),
        expect![[r#"
            barrier 1
            watermark 8
            barrier 2
            +I a, 3, 8, 5, 3, 0, 0.010
            +I b, 1, 7, 7, 1, 0, 0.010
            watermark 9
            barrier 3
            +I a, 2, 5, 4, 2, 0.010, 0.020
            +I b, 1, 7, 7, 1, 0.020, 0.030
            watermark 9223372036854775807
            barrier 4
            end
        "#]],
    );
    let spec = aggregate(
        Windowing::Window(window(WindowKind::Tumble, 2, 10, 0, 0)),
        calls(),
    );
    let make = maker(spec, input(), true);
    let (_, counters) = drive_with_seed(&make, &scripted(), 1, |_| false);
    assert_eq!(counters.late_rows, 1);
    // Lateness is known after a crash, too.
    let (_, counters) = drive_with_seed(&make, &scripted(), 1, |epoch| epoch.0 == 3);
    assert_eq!(counters.late_rows, 1);
}

#[test]
fn closed_windows_leave_nothing_behind() {
    let kinds = [
        window(WindowKind::Tumble, 2, 10, 0, 0),
        window(WindowKind::Hop, 2, 10, 5, 0),
        window(WindowKind::Cumulate, 2, 20, 5, 0),
        session(5),
    ];
    // The last watermark but one leaves a window open: what is counted is what there is.
    let open = [&scripted()[..7], &[Event::Barrier]].concat();
    let closed = [
        &open[..],
        &[Event::Watermark(1_000), Event::Barrier, Event::Barrier],
    ]
    .concat();
    for kind in &kinds {
        let make = maker(
            aggregate(Windowing::Window(kind.clone()), calls()),
            input(),
            true,
        );
        for crashes in [false, true] {
            let left = |events: &[Event]| {
                let (mut rows, size) = left_behind(&make, events, 3, |_| crashes, &TABLES);
                // One row per key group says how far windows have fired.
                rows.retain(|row| row.namespace != i64::MAX);
                (rows, size)
            };
            let (rows, size) = left(&open);
            assert!(!rows.is_empty() && size.rows > 0, "{kind:?}");
            let (rows, size) = left(&closed);
            assert!(rows.is_empty() && size.rows == 0, "{kind:?}: {rows:?}");
        }
    }
}

#[test]
fn hopping_windows_share_slices() {
    check(
        window(WindowKind::Hop, 2, 10, 5, 0),
        &scripted(),
        expect![[r#"
            barrier 1
            +I a, 1, 1, 1, 1, -1.995, 0.005
            +I b, 1, 7, 7, 1, -1.995, 0.005
            watermark 8
            barrier 2
            +I a, 3, 8, 5, 3, 0, 0.010
            +I b, 1, 7, 7, 1, 0, 0.010
            watermark 9
            barrier 3
            +I a, 4, 12, 5, 4, 0.005, 0.015
            +I a, 2, 5, 4, 2, 0.010, 0.020
            +I b, 1, 7, 7, 1, 0.015, 0.025
            +I b, 1, 7, 7, 1, 0.020, 0.030
            watermark 9223372036854775807
            barrier 4
            end
        "#]],
    );
}

#[test]
fn cumulating_windows_grow() {
    check(
        window(WindowKind::Cumulate, 2, 15, 5, 0),
        &scripted(),
        expect![[r#"
            barrier 1
            +I a, 1, 1, 1, 1, 0, 0.005
            +I b, 1, 7, 7, 1, 0, 0.005
            watermark 8
            barrier 2
            +I a, 3, 8, 5, 3, 0, 0.010
            +I b, 1, 7, 7, 1, 0, 0.010
            watermark 9
            barrier 3
            +I a, 6, 113, 100, 5, 0, 0.015
            +I b, 1, 7, 7, 1, 0, 0.015
            +I b, 1, 7, 7, 1, 0.015, 0.025
            +I b, 1, 7, 7, 1, 0.015, 0.030
            watermark 9223372036854775807
            barrier 4
            end
        "#]],
    );
}

#[test]
fn attached_windows_are_their_own_slices() {
    let input = fields(&[
        ("k", "STRING"),
        ("v", "BIGINT"),
        ("window_start", "TIMESTAMP(3)"),
        ("window_end", "TIMESTAMP(3)"),
    ]);
    let attached = Windowing::Attached(AttachedWindow {
        window_start: 2,
        window_end: 3,
    });
    let events = [
        insert(
            0,
            &input,
            "a, 1, 0, 10\na, 2, 5, 15\na, 3, 5, 10\na, 4, 0, 10",
        ),
        Event::Barrier,
        Event::Watermark(9),
        Event::Barrier,
        insert(0, &input, "a, 1, 0, 10\na, 9, 5, 15"),
        Event::Watermark(20),
        Event::End,
    ];
    let make = maker(aggregate(attached, calls()), input.clone(), true);
    expect![[r#"
        barrier 1
        +I a, 2, 5, 4, 2, 0, 0.010
        +I a, 1, 3, 3, 1, 0.005, 0.010
        watermark 9
        barrier 2
        +I a, 2, 11, 9, 2, 0.005, 0.015
        watermark 20
        end
    "#]]
    .assert_eq(&short(&changelog(&drive(&make, &events))));
    let _ = crash_at_each_barrier(&make, &events, &Fold::Retract);
}

#[test]
fn a_row_is_repeated_for_each_of_its_windows() {
    let spec = plan::WindowAssign {
        window: Some(window(WindowKind::Hop, 2, 10, 4, 0)),
    };
    let mut output = input();
    output.extend(fields(&[
        ("window_start", "TIMESTAMP(3)"),
        ("window_end", "TIMESTAMP(3)"),
        ("window_time", "TIMESTAMP(3)"),
    ]));
    let make =
        |scope: &TaskScope| WindowAssignOperator::build(&spec, &input(), &output, &[], scope);
    let events = [
        insert(0, &input(), "a, 1, 7\n-D b, 2, -1"),
        Event::Watermark(5),
        Event::End,
    ];
    expect![[r#"
        +I a, 1, 0.007, 0, 0.010, 0.009
        +I a, 1, 0.007, 0.004, 0.014, 0.013
        -D b, 2, -1.999, -1.992, 0.002, 0.001
        -D b, 2, -1.999, -1.996, 0.006, 0.005
        watermark 5
        end
    "#]]
    .assert_eq(&short(&changelog(&drive(&make, &events))));
}

#[test]
fn rows_without_time_are_refused() {
    let spec = window(WindowKind::Tumble, 2, 10, 0, 0);
    let make = maker(aggregate(Windowing::Window(spec), calls()), input(), true);
    let fails = std::panic::catch_unwind(|| drive(&make, &[insert(0, &input(), "a, 1, NULL")]));
    assert!(fails.is_err());
}

pub(super) type Row = (i64, i64, i64);

/// Rows of all windows, as the operator prints them with times in ms.
pub(super) fn model(
    rows: &[Row],
    kind: WindowKind,
    size: i64,
    step: i64,
    offset: i64,
) -> BTreeMap<String, i64> {
    let mut windows: BTreeMap<(i64, i64, i64), Vec<i64>> = BTreeMap::new();
    for (key, value, time) in rows {
        let mut add = |start: i64, end: i64| {
            if start <= *time && *time < end {
                windows.entry((start, end, *key)).or_default().push(*value);
            }
        };
        for index in -60..60 {
            match kind {
                WindowKind::Tumble => add(index * size + offset, (index + 1) * size + offset),
                WindowKind::Hop => add(index * step + offset, index * step + offset + size),
                _ => {
                    let start = index * size + offset;
                    (1..=size / step).for_each(|n| add(start, start + n * step));
                }
            }
        }
    }
    let mut folded = BTreeMap::new();
    for ((start, end, key), values) in windows {
        let distinct: BTreeSet<&i64> = values.iter().collect();
        let max = values.iter().max().expect("a window has rows");
        let text = format!(
            "k{key}, {}, {}, {max}, {}, {start}, {end}",
            values.len(),
            values.iter().sum::<i64>(),
            distinct.len()
        );
        *folded.entry(text).or_insert(0) += 1;
    }
    folded
}

/// Times within a second of 1970 as milliseconds.
pub(super) fn in_ms(folded: BTreeMap<String, i64>) -> BTreeMap<String, i64> {
    let parse = |cell: &str| {
        let (sign, rest) = match cell.strip_prefix("1970-01-01T00:00:00") {
            Some(rest) => (0, rest),
            None => match cell.strip_prefix("1969-12-31T23:59:59") {
                Some(rest) => (-1000, rest),
                None => return cell.to_owned(),
            },
        };
        let ms: i64 = rest.trim_start_matches('.').parse().unwrap_or(0);
        (sign + ms).to_string()
    };
    let line = |(text, count): (String, i64)| {
        let cells: Vec<String> = text.split(", ").map(parse).collect();
        (cells.join(", "), count)
    };
    folded.into_iter().map(line).collect()
}

fn random_window() -> impl Strategy<Value = (WindowKind, i64, i64, i64)> {
    prop_oneof![
        (1..12_i64, -5..5_i64).prop_map(|(size, offset)| (WindowKind::Tumble, size, 0, offset)),
        (1..12_i64, 1..8_i64, -5..5_i64).prop_map(|(size, step, offset)| (
            WindowKind::Hop,
            size,
            step,
            offset
        )),
        (1..4_i64, 1..5_i64, -5..5_i64).prop_map(|(step, count, offset)| (
            WindowKind::Cumulate,
            step * count,
            step,
            offset
        )),
    ]
}

pub(super) fn line(kind: &str, row: &Row) -> String {
    format!("{kind} k{}, {}, {}\n", row.0, row.1, row.2)
}

/// Rows in about the order of their times, with watermarks that make none late.
pub(super) fn script(mut steps: Vec<(String, i64)>, cuts: &[usize]) -> Vec<Event> {
    let input = input();
    let mut events = Vec::new();
    let mut turn = 0;
    while !steps.is_empty() {
        let count = steps.len().min(1 + cuts[turn % cuts.len()]);
        let lines: String = steps.drain(..count).map(|(line, _)| line).collect();
        events.push(insert(0, &input, &lines));
        if turn % 2 == 1 {
            events.push(Event::Barrier);
        }
        if let Some(next) = steps.iter().map(|(_, time)| *time).min() {
            events.push(Event::Watermark(next - 2));
        }
        turn += 1;
    }
    events.push(Event::Barrier);
    events.push(Event::Watermark(i64::MAX));
    events.push(Event::Barrier);
    events.push(Event::End);
    monotone(events)
}

fn monotone(events: Vec<Event>) -> Vec<Event> {
    let mut greatest = i64::MIN;
    events
        .into_iter()
        .map(|event| match event {
            Event::Watermark(time) => {
                greatest = greatest.max(time);
                Event::Watermark(greatest)
            }
            event => event,
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn windows_fold_to_the_model(
        (kind, size, step, offset) in random_window(),
        mut rows in prop::collection::vec((0..3_i64, 0..5_i64, -30..30_i64, -4..4_i64), 1..40),
        cuts in prop::collection::vec(0..6_usize, 1..4),
    ) {
        rows.sort_by_key(|row| row.2 + row.3);
        let rows: Vec<Row> = rows.into_iter().map(|(key, value, time, _)| (key, value, time)).collect();
        let steps = rows.iter().map(|row| (line("+I", row), row.2)).collect();
        let events = script(steps, &cuts);
        let spec = window(kind, 2, size as u64, step as u64, offset);
        let make = maker(aggregate(Windowing::Window(spec), calls()), input(), true);
        let folded = crash_at_each_barrier(&make, &events, &Fold::Retract);
        prop_assert_eq!(in_ms(folded), model(&rows, kind, size, step, offset));
    }

    #[test]
    fn changed_rows_in_windows_fold_to_the_model(
        (kind, size, step, offset) in random_window(),
        mut rows in prop::collection::vec((0..3_i64, 0..5_i64, -30..30_i64, any::<bool>()), 1..40),
        cuts in prop::collection::vec(0..6_usize, 1..4),
    ) {
        rows.sort_by_key(|row| row.2);
        let mut kept = Vec::new();
        let mut steps = Vec::new();
        for (key, value, time, goes) in rows {
            let row = (key, value, time);
            steps.push((line("+I", &row), time));
            if goes {
                steps.push((line("-D", &row), time));
            } else {
                kept.push(row);
            }
        }
        let events = script(steps, &cuts);
        let spec = window(kind, 2, size as u64, step as u64, offset);
        let make = maker(aggregate(Windowing::Window(spec), calls()), input(), false);
        let folded = crash_at_each_barrier(&make, &events, &Fold::Retract);
        prop_assert_eq!(in_ms(folded), model(&kept, kind, size, step, offset));
    }

    #[test]
    fn partials_per_slice_amount_to_the_same(
        (kind, size, step, offset) in random_window(),
        mut rows in prop::collection::vec((0..3_i64, 0..5_i64, -30..30_i64), 1..40),
        cuts in prop::collection::vec(0..6_usize, 1..4),
    ) {
        rows.sort_by_key(|row| row.2);
        let steps = rows.iter().map(|row| (line("+I", row), row.2)).collect();
        let events = script(steps, &cuts);
        let spec = window(kind, 2, size as u64, step as u64, offset);
        let calls = vec![call("COUNT", &[], false), call("SUM", &[1], false), call("MAX", &[1], false)];
        let local = plan::LocalAggregate { keys: vec![0], calls: calls.clone(), window: Some(spec.clone()) };
        let partials: Vec<Event> = drive(&|scope: &TaskScope| LocalAggregateOperator::build(&local, &input(), scope), &events)
            .into_iter()
            .map(|element| match element {
                engine::Element::Batch(batch) => Event::Batch(0, batch),
                engine::Element::Barrier(_) => Event::Barrier,
                engine::Element::Watermark(time) => Event::Watermark(time),
                _ => Event::End,
            })
            .collect();
        let mut spec = aggregate(Windowing::Window(spec), calls);
        let mut output = output();
        output.remove(4);
        let build = |spec: plan::WindowAggregate, input: Vec<Field>| {
            let output = output.clone();
            move |scope: &TaskScope| WindowAggregateOperator::build(&spec, &input, &output, &TABLES, true, scope)
        };
        let direct = crash_at_each_barrier(&build(spec.clone(), input()), &events, &Fold::Retract);
        spec.from_partial = true;
        let partial_input = fields(&[("k", "STRING"), ("c", "BIGINT"), ("s", "BIGINT"), ("m", "BIGINT"), ("e", "BIGINT")]);
        let merged = crash_at_each_barrier(&build(spec, partial_input), &partials, &Fold::Retract);
        prop_assert_eq!(merged, direct);
    }
}
