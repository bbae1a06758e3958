//! Top-N against sorting the final input, partition by partition.

use std::collections::BTreeMap;

use engine::{
    operator::{Operator, OperatorError, TaskScope},
    state::StateTtl,
};
use proptest::prelude::*;
use proto::{
    plan::{self, AttachedWindow, Changelog, SortKey},
    types::{Field, TableId},
};

use super::RankOperator;
use crate::{
    DeduplicateOperator,
    testing::{Event, Fold, Folded, changelog, crash_at_each_barrier, drive, fields, insert},
};

fn columns() -> Vec<Field> {
    fields(&[("p", "INT"), ("v", "INT"), ("id", "INT")])
}

fn spec(offset: u64, limit: u64, output_rank: bool, before: bool) -> plan::Rank {
    let key = |column, descending| SortKey {
        column,
        descending,
        nulls_last: descending,
    };
    plan::Rank {
        partition_by: vec![0],
        order_by: vec![key(1, true), key(2, false)],
        offset,
        limit,
        output_rank,
        window: None,
        emit_update_before: before,
    }
}

fn make(
    spec: &plan::Rank,
    changelog: Changelog,
) -> impl Fn(&TaskScope) -> Result<Box<dyn Operator>, OperatorError> {
    move |scope| {
        RankOperator::build(
            spec,
            &columns(),
            &[TableId(1)],
            &changelog,
            &StateTtl::NEVER,
            scope,
        )
    }
}

fn check(spec: &plan::Rank, input: Changelog, batches: &[&str], expected: &str) {
    let events: Vec<Event> = batches
        .iter()
        .map(|text| insert(0, &columns(), text))
        .collect();
    assert_eq!(changelog(&drive(&make(spec, input), &events)), expected);
}

#[test]
fn rows_leave_and_enter_the_top() {
    check(
        &spec(0, 2, false, true),
        Changelog::APPEND,
        &["1, 5, 1\n1, 6, 2\n2, 1, 3", "1, 4, 4\n1, 7, 5\n1, 8, 6"],
        "+I 1, 6, 2\n+I 1, 5, 1\n+I 2, 1, 3\n-D 1, 6, 2\n-D 1, 5, 1\n+I 1, 8, 6\n+I 1, 7, 5\n",
    );
}

#[test]
fn with_ranks_places_are_updated() {
    check(
        &spec(0, 2, true, true),
        Changelog::RETRACT,
        &["1, 5, 1\n1, 6, 2", "1, 7, 3", "-D 1, 7, 3\n-D 1, 6, 2"],
        "\
+I 1, 6, 2, 1
+I 1, 5, 1, 2
-U 1, 6, 2, 1
+U 1, 7, 3, 1
-U 1, 5, 1, 2
+U 1, 6, 2, 2
-U 1, 7, 3, 1
+U 1, 5, 1, 1
-D 1, 6, 2, 2
",
    );
}

#[test]
fn a_top_1_is_updated_in_place() {
    check(
        &spec(0, 1, false, false),
        Changelog::RETRACT,
        &["1, 5, 1", "1, 7, 3", "-D 1, 7, 3\n-D 1, 5, 1"],
        "+I 1, 5, 1\n+U 1, 7, 3\n-D 1, 7, 3\n",
    );
}

/// p, v, id
type Row = (i64, i64, i64);

fn naive(spec: &plan::Rank, rows: &[Row]) -> Folded {
    let mut partitions: BTreeMap<i64, Vec<Row>> = BTreeMap::new();
    rows.iter()
        .for_each(|row| partitions.entry(row.0).or_default().push(*row));
    let mut out = Folded::new();
    for mut rows in partitions.into_values() {
        rows.sort_by_key(|row| (-row.1, row.2));
        let top = rows.iter().enumerate();
        for (at, row) in top.skip(spec.offset as usize).take(spec.limit as usize) {
            let mut text = format!("{}, {}, {}", row.0, row.1, row.2);
            if spec.output_rank {
                text.push_str(&format!(", {}", at + 1));
            }
            *out.entry(text).or_default() += 1;
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn equals_the_sorted_input(
        (offset, limit) in (0..3_u64, 1..4_u64),
        (output_rank, updating) in (any::<bool>(), any::<bool>()),
        batches in prop::collection::vec(
            (
                // Few values: equal rows occur.
                prop::collection::vec((0..3_i64, 0..6_i64, 0..3_i64, prop::bool::weighted(0.4)), 1..12),
                any::<bool>(),
            ),
            1..14,
        ),
    ) {
        let mut rows: Vec<Row> = Vec::new();
        let mut events = Vec::new();
        for (batch, barrier) in batches {
            let mut lines = Vec::new();
            for (p, v, id, removes) in batch {
                if updating && removes && !rows.is_empty() {
                    let at = ((p * 7 + v * 3 + id) as usize) % rows.len();
                    let (p, v, id) = rows.swap_remove(at);
                    lines.push(format!("-D {p}, {v}, {id}"));
                } else {
                    rows.push((p, v, id));
                    lines.push(format!("+I {p}, {v}, {id}"));
                }
            }
            events.push(insert(0, &columns(), &lines.join("\n")));
            if barrier {
                events.push(Event::Barrier);
            }
        }
        let spec = spec(offset, limit, output_rank, true);
        let changelog = if updating { Changelog::RETRACT } else { Changelog::APPEND };
        let folded = crash_at_each_barrier(&make(&spec, changelog), &events, &Fold::Retract);
        prop_assert_eq!(folded, naive(&spec, &rows));
    }
}

fn windowed_columns() -> Vec<Field> {
    fields(&[
        ("k", "INT"),
        ("t", "TIMESTAMP(3)"),
        ("s", "TIMESTAMP(3)"),
        ("e", "TIMESTAMP(3)"),
    ])
}

fn windowed_events() -> Vec<Event> {
    let columns = windowed_columns();
    vec![
        insert(
            0,
            &columns,
            "1, 2, 0, 10\n1, 5, 0, 10\n2, 3, 0, 10\n1, 12, 10, 20",
        ),
        Event::Barrier,
        insert(0, &columns, "1, 7, 0, 10\n1, 1, 0, 10\n1, 7, 0, 10"),
        Event::Barrier,
        Event::Watermark(9),
        Event::Barrier,
        Event::Watermark(i64::MAX),
        Event::End,
    ]
}

fn windowed_text(make: &crate::testing::MakeOperator<'_>) -> String {
    let _ = crash_at_each_barrier(make, &windowed_events(), &Fold::Retract);
    changelog(&drive(make, &windowed_events()))
        .replace("1970-01-01T00:00:00", "")
        .lines()
        .filter(|line| line.starts_with('+'))
        .collect::<Vec<_>>()
        .join("\n")
}

const WINDOW: AttachedWindow = AttachedWindow {
    window_start: 2,
    window_end: 3,
};

#[test]
fn a_window_ranks_when_it_closes() {
    let spec = plan::Rank {
        partition_by: vec![],
        order_by: vec![SortKey {
            column: 1,
            descending: false,
            nulls_last: false,
        }],
        limit: 2,
        output_rank: true,
        window: Some(WINDOW),
        ..plan::Rank::default()
    };
    let make = |scope: &TaskScope| {
        let columns = windowed_columns();
        RankOperator::build(
            &spec,
            &columns,
            &[TableId(1)],
            &Changelog::APPEND,
            &StateTtl::NEVER,
            scope,
        )
    };
    let expected = "\
+I 1, .001, , .010, 1
+I 1, .002, , .010, 2
+I 1, .012, .010, .020, 1";
    assert_eq!(windowed_text(&make), expected);
}

#[test]
fn a_window_keeps_one_row_per_key() {
    for (keep_last, expected) in [
        (
            true,
            [
                "+I 1, .007, , .010",
                "+I 1, .012, .010, .020",
                "+I 2, .003, , .010",
            ],
        ),
        (
            false,
            [
                "+I 1, .001, , .010",
                "+I 1, .012, .010, .020",
                "+I 2, .003, , .010",
            ],
        ),
    ] {
        let spec = plan::Deduplicate {
            keys: vec![0],
            time_column: Some(1),
            keep_last,
            window: Some(WINDOW),
            emit_update_before: false,
        };
        let make = |scope: &TaskScope| {
            DeduplicateOperator::build(
                &spec,
                &windowed_columns(),
                &[TableId(1)],
                &StateTtl::NEVER,
                scope,
            )
        };
        let text = windowed_text(&make);
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, expected);
    }
}
