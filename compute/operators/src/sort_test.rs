//! Sorting by time: against sorting all rows that are in time.

use std::collections::BTreeSet;

use engine::{
    Element,
    operator::{Operator, OperatorError, TaskScope},
};
use proptest::prelude::*;
use proto::{
    plan,
    types::{Field, TableId},
};

use super::SortOperator;
use crate::testing::{
    Event, Fold, Folded, batches, changelog, crash_at_each_barrier, drive, drive_with_seed, fields,
    insert, rows,
};

#[test]
fn rows_come_in_order_once_the_watermark_has_passed_them() {
    let columns = fields(&[("t", "TIMESTAMP(3)"), ("v", "INT")]);
    let spec = plan::Sort {
        time_column: 0,
        then_by: vec![plan::SortKey {
            column: 1,
            descending: true,
            nulls_last: true,
        }],
        partition_by: Vec::new(),
    };
    let make = |scope: &TaskScope| SortOperator::build(&spec, &columns, &[TableId(1)], scope);
    let many: Vec<String> = (0..20).map(|i| format!("{}, {i}", 40 - i)).collect();
    let events = [
        insert(0, &columns, "3, 1\n1, 2\n3, NULL\n3, 9\n7, 0"),
        Event::Barrier,
        Event::Watermark(3),
        insert(0, &columns, "2, 5\n5, 5"),
        Event::Barrier,
        Event::Watermark(6),
        insert(0, &columns, &many.join("\n")),
        Event::Barrier,
        Event::Watermark(i64::MAX),
        Event::End,
    ];
    let text = changelog(&drive(&make, &events)).replace("1970-01-01T00:00:00.", "");
    let expected = "\
barrier 1
+I 001, 2
+I 003, 9
+I 003, 1
+I 003, NULL
watermark 3
barrier 2
+I 005, 5
watermark 6
barrier 3
+I 007, 0
";
    assert_eq!(&text[..expected.len()], expected);
    let tail: Vec<&str> = text[expected.len()..].lines().collect();
    let rows: Vec<String> = (0..20)
        .rev()
        .map(|i| format!("+I 0{}, {i}", 40 - i))
        .collect();
    assert_eq!(tail[..20], rows);
    assert_eq!(drive_with_seed(&make, &events, 0, |_| false).1.late_rows, 1);
    let folded = crash_at_each_barrier(&make, &events[..2], &Fold::Retract);
    assert!(folded.is_empty());
    let _ = crash_at_each_barrier(
        &make,
        &[&events[..3], &events[4..]].concat(),
        &Fold::Retract,
    );
}

fn partitioned() -> Vec<Field> {
    fields(&[
        ("p", "INT"),
        ("t", "TIMESTAMP(3)"),
        ("v", "INT"),
        ("id", "INT"),
    ])
}

fn make_partitioned(
    spec: &plan::Sort,
) -> impl Fn(&TaskScope) -> Result<Box<dyn Operator>, OperatorError> {
    move |scope| SortOperator::build(spec, &partitioned(), &[TableId(1)], scope)
}

/// Partition, time, value, number.
type Row = (i64, i64, i64, usize);

fn text(rows: &[Row]) -> String {
    let lines = rows
        .iter()
        .map(|(p, t, v, id)| format!("{p}, {t}, {v}, {id}"));
    lines.collect::<Vec<_>>().join("\n")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn rows_in_time_come_in_order_and_others_do_not_come(
        steps in prop::collection::vec(
            (
                prop::collection::vec((0..5_i64, 0..12_i64, 0..3_i64), 0..9),
                prop::option::weighted(0.5, 0..6_i64),
                any::<bool>(),
            ),
            1..20,
        ),
        by_value in any::<bool>(),
    ) {
        let then_by = plan::SortKey { column: 2, descending: true, nulls_last: true };
        let spec = plan::Sort {
            time_column: 1,
            then_by: Vec::from_iter(by_value.then_some(then_by)),
            partition_by: vec![0],
        };
        let (mut events, mut in_time) = (Vec::new(), Vec::new());
        let (mut watermark, mut late, mut id) = (0, 0, 0);
        for (rows, advance, barrier) in steps {
            // Some are too late.
            let rows: Vec<Row> = rows
                .into_iter()
                .map(|(p, after, v)| {
                    id += 1;
                    (p, watermark + after - 1, v, id)
                })
                .collect();
            // Before the first watermark there is no time that has passed.
            let is_in_time = |row: &&Row| watermark == 0 || row.1 > watermark;
            in_time.extend(rows.iter().filter(is_in_time).copied());
            late += rows.iter().filter(|row| !is_in_time(row)).count() as u64;
            events.push(insert(0, &partitioned(), &text(&rows)));
            if let Some(advance) = advance {
                watermark += advance + 1;
                events.push(Event::Watermark(watermark));
            }
            events.extend(barrier.then_some(Event::Barrier));
        }
        events.push(Event::Watermark(i64::MAX));
        events.push(Event::End);
        let make = make_partitioned(&spec);
        let (output, counters) = drive_with_seed(&make, &events, 0, |_| false);
        prop_assert_eq!(counters.late_rows, late);
        in_time.sort_by_key(|(_, t, v, id)| (*t, if by_value { -*v } else { 0 }, *id));
        let expected = match in_time.is_empty() {
            true => String::new(),
            false => changelog(&[Element::Batch(rows(&partitioned(), &text(&in_time)))]),
        };
        let lines = |elements: &[Element]| {
            let text = changelog(elements);
            text.lines().filter(|line| line.starts_with('+')).map(|line| format!("{line}\n")).collect::<String>()
        };
        prop_assert_eq!(lines(&output), expected);
        // Rows of one time are in one batch.
        let mut seen = BTreeSet::new();
        for batch in batches(&output) {
            let times = crate::rows::milliseconds(batch.rows.column(1)).expect("times");
            let times: BTreeSet<i64> = times.iter().copied().collect();
            prop_assert!(times.iter().all(|time| seen.insert(*time)), "{times:?} again");
        }
        let folded: Folded = Fold::Retract.fold(&output);
        prop_assert_eq!(crash_at_each_barrier(&make, &events, &Fold::Retract), folded);
    }
}
