//! Sessions by scripts, and against a model that keeps all rows.

use std::collections::{BTreeMap, BTreeSet};

use engine::operator::{Operator, OperatorError, TaskScope};
use expect_test::expect;
use proptest::prelude::*;
use proto::{
    plan::{self, WindowKind, WindowSpec, window_aggregate::Windowing},
    types::{Field, TableId},
};

use super::{
    WindowAssignOperator,
    window_test::{Row, aggregate, calls, check, in_ms, input, line, maker, script, short, window},
};
use crate::testing::{
    Event, Fold, changelog, crash_at_each_barrier, drive, drive_with_seed, fields, insert,
    left_behind,
};

pub(super) fn session(gap_ms: u64) -> WindowSpec {
    WindowSpec {
        gap_ms,
        ..window(WindowKind::Session, 2, 0, 0, 0)
    }
}

#[test]
fn sessions_grow_and_join() {
    let events = [
        insert(0, &input(), "a, 1, 5\na, 2, 30\nb, 7, 4"),
        Event::Barrier,
        insert(0, &input(), "a, 3, 10\na, 9, 20\nb, 8, 24"),
        Event::Watermark(13),
        Event::Barrier,
        insert(0, &input(), "b, 1, 1\na, 1, 1"),
        Event::Watermark(39),
        Event::Barrier,
        Event::Watermark(i64::MAX),
        Event::End,
    ];
    check(
        session(10),
        &events,
        expect![[r#"
            barrier 1
            +I b, 1, 7, 7, 1, 0.004, 0.014
            watermark 13
            barrier 2
            +I b, 1, 8, 8, 1, 0.024, 0.034
            +I a, 5, 16, 9, 4, 0.001, 0.040
            watermark 39
            barrier 3
            watermark 9223372036854775807
            end
        "#]],
    );
}

/// Rows of all sessions, as the operator prints them with times in ms.
pub(super) fn session_model(rows: &[Row], gap: i64) -> BTreeMap<String, i64> {
    let mut sorted = rows.to_vec();
    sorted.sort_by_key(|row| (row.0, row.2));
    let together = |a: &Row, b: &Row| a.0 == b.0 && b.2 - a.2 <= gap;
    sorted
        .chunk_by(together)
        .map(|rows| {
            let distinct: BTreeSet<i64> = rows.iter().map(|row| row.1).collect();
            let (first, last) = (rows[0], rows[rows.len() - 1]);
            let text = format!(
                "k{}, {}, {}, {}, {}, {}, {}",
                first.0,
                rows.len(),
                rows.iter().map(|row| row.1).sum::<i64>(),
                distinct.last().expect("a session has rows"),
                distinct.len(),
                first.2,
                last.2 + gap
            );
            (text, 1)
        })
        .collect()
}

fn assigned() -> Vec<Field> {
    let mut output = input();
    output.extend(fields(&[
        ("window_start", "TIMESTAMP(3)"),
        ("window_end", "TIMESTAMP(3)"),
        ("window_time", "TIMESTAMP(3)"),
    ]));
    output
}

/// The SESSION function over rows of `input()`, by key or over all of them.
fn assign(
    gap_ms: u64,
    by_key: bool,
) -> impl Fn(&TaskScope) -> Result<Box<dyn Operator>, OperatorError> {
    let spec = plan::WindowAssign {
        window: Some(WindowSpec {
            partition_by: if by_key { vec![0] } else { Vec::new() },
            ..session(gap_ms)
        }),
    };
    move |scope| WindowAssignOperator::build(&spec, &input(), &assigned(), &[TableId(1)], scope)
}

#[test]
fn rows_leave_with_their_session() {
    let events = [
        insert(0, &input(), "a, 1, 5\na, 2, 30\nb, 7, 4"),
        Event::Barrier,
        insert(0, &input(), "a, 3, 10\na, 9, 20\nb, 8, 24"),
        Event::Watermark(13),
        Event::Barrier,
        insert(0, &input(), "b, 1, 1\na, 1, 1\nc, 5, 3"),
        Event::Watermark(39),
        Event::Barrier,
        Event::Watermark(i64::MAX),
        Event::End,
    ];
    let make = assign(10, true);
    expect![[r#"
        barrier 1
        +I b, 7, 0.004, 0.004, 0.014, 0.013
        watermark 13
        barrier 2
        +I b, 8, 0.024, 0.024, 0.034, 0.033
        +I a, 1, 0.001, 0.001, 0.040, 0.039
        +I a, 1, 0.005, 0.001, 0.040, 0.039
        +I a, 3, 0.010, 0.001, 0.040, 0.039
        +I a, 9, 0.020, 0.001, 0.040, 0.039
        +I a, 2, 0.030, 0.001, 0.040, 0.039
        watermark 39
        barrier 3
        watermark 9223372036854775807
        end
    "#]]
    .assert_eq(&short(&changelog(&drive(&make, &events))));
    let late = |crashes: fn(proto::types::Epoch) -> bool| {
        drive_with_seed(&make, &events, 1, crashes).1.late_rows
    };
    // `b, 1, 1` and `c, 5, 3`: their sessions were over. Lateness is known after a crash, too.
    assert_eq!(late(|_| false), 2);
    assert_eq!(late(|epoch| epoch.0 == 2), 2);
    let (rows, size) = left_behind(&make, &events[..9], 3, |_| true, &[TableId(1)]);
    assert!(rows.iter().all(|row| row.namespace == i64::MAX), "{rows:?}");
    assert_eq!(size.rows, 0);
}

/// Each row with its session, times in ms.
fn assign_model(rows: &[Row], gap: i64, by_key: bool) -> BTreeMap<String, i64> {
    let key = |row: &Row| if by_key { row.0 } else { 0 };
    let mut sorted = rows.to_vec();
    sorted.sort_by_key(|row| (key(row), row.2));
    let mut folded = BTreeMap::new();
    for rows in sorted.chunk_by(|a, b| key(a) == key(b) && b.2 - a.2 <= gap) {
        let (start, end) = (rows[0].2, rows[rows.len() - 1].2 + gap);
        for row in rows {
            let text = format!(
                "k{}, {}, {}, {start}, {end}, {}",
                row.0,
                row.1,
                row.2,
                end - 1
            );
            *folded.entry(text).or_insert(0) += 1;
        }
    }
    folded
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sessions_fold_to_the_model(
        gap in 1..8_i64,
        rows in prop::collection::vec((0..3_i64, 0..5_i64, -90..90_i64, 0..9_i64, 0..4_u8), 1..40),
        cuts in prop::collection::vec(0..6_usize, 1..4),
        append_only: bool,
    ) {
        let mut steps = Vec::new();
        for (key, value, time, early, copies) in &rows {
            let row = (*key, *value, *time);
            steps.push((time - early, line("+I", &row), *time));
            if !append_only {
                // A copy that comes and goes while its session is open.
                for _ in 0..*copies {
                    steps.push((time - early, line("+I", &row), *time));
                    steps.push((*time, line("-D", &row), *time));
                }
            }
        }
        steps.sort_by_key(|step| step.0);
        let steps = steps.into_iter().map(|(_, line, time)| (line, time)).collect();
        let events = script(steps, &cuts);
        let spec = aggregate(Windowing::Window(session(gap as u64)), calls());
        let make = maker(spec, input(), append_only);
        let folded = crash_at_each_barrier(&make, &events, &Fold::Retract);
        let rows: Vec<Row> = rows.iter().map(|row| (row.0, row.1, row.2)).collect();
        prop_assert_eq!(in_ms(folded), session_model(&rows, gap));
    }


    #[test]
    fn rows_of_sessions_fold_to_the_model(
        gap in 1..8_i64,
        rows in prop::collection::vec((0..3_i64, 0..5_i64, -90..90_i64, 0..9_i64), 1..40),
        cuts in prop::collection::vec(0..6_usize, 1..4),
        by_key: bool,
    ) {
        let step = |(key, value, time, early): &(i64, i64, i64, i64)| {
            (time - early, line("+I", &(*key, *value, *time)), *time)
        };
        let mut steps: Vec<_> = rows.iter().map(step).collect();
        steps.sort_by_key(|step| step.0);
        let steps = steps.into_iter().map(|(_, line, time)| (line, time)).collect();
        let folded = crash_at_each_barrier(&assign(gap as u64, by_key), &script(steps, &cuts), &Fold::Retract);
        let rows: Vec<Row> = rows.iter().map(|row| (row.0, row.1, row.2)).collect();
        prop_assert_eq!(in_ms(folded), assign_model(&rows, gap, by_key));
    }
}
