//! The window join against a naive join, window by window.

use std::collections::BTreeMap;

use engine::operator::TaskScope;
use proptest::prelude::*;
use proto::{
    plan::{self, AttachedWindow, JoinType},
    types::{Field, TableId},
};

use super::WindowJoinOperator;
use crate::testing::{
    Event, Fold, Folded, changelog, crash_at_each_barrier, drive, drive_with_seed, fields, insert,
};

fn side_fields() -> Vec<Field> {
    fields(&[
        ("k", "INT"),
        ("v", "INT"),
        ("s", "TIMESTAMP(3)"),
        ("e", "TIMESTAMP(3)"),
    ])
}

fn spec(join_type: JoinType) -> plan::WindowJoin {
    let window = AttachedWindow {
        window_start: 2,
        window_end: 3,
    };
    plan::WindowJoin {
        r#type: join_type.into(),
        left_keys: vec![0],
        right_keys: vec![0],
        null_safe: vec![false],
        condition: None,
        left_window: Some(window),
        right_window: Some(window),
    }
}

/// k, v, window end; windows are 10 ms long.
type Row = (Option<i64>, i64, i64);

fn line(row: &Row) -> String {
    let key = row
        .0
        .map_or_else(|| "NULL".to_owned(), |key| key.to_string());
    format!("{key}, {}, {}, {}", row.1, row.2 - 10, row.2)
}

fn shown(row: &Row) -> String {
    let key = row
        .0
        .map_or_else(|| "NULL".to_owned(), |key| key.to_string());
    let time = |ms: i64| format!("1970-01-01T00:00:00.{ms:03}").replace(".000", "");
    format!("{key}, {}, {}, {}", row.1, time(row.2 - 10), time(row.2))
}

fn naive(join_type: JoinType, left: &[Row], right: &[Row]) -> Folded {
    let matches = |l: &Row, r: &Row| l.2 == r.2 && l.0.is_some() && l.0 == r.0;
    let nulls = "NULL, NULL, NULL, NULL";
    let mut out: BTreeMap<String, i64> = BTreeMap::new();
    let mut put = |text: String| *out.entry(text).or_default() += 1;
    for l in left {
        let found: Vec<&Row> = right.iter().filter(|r| matches(l, r)).collect();
        match (join_type, found.is_empty()) {
            (JoinType::Semi, true) | (JoinType::Anti, false) => {}
            (JoinType::Semi | JoinType::Anti, _) => put(shown(l)),
            (JoinType::Left | JoinType::Full, true) => put(format!("{}, {nulls}", shown(l))),
            _ => found
                .iter()
                .for_each(|r| put(format!("{}, {}", shown(l), shown(r)))),
        }
    }
    if matches!(join_type, JoinType::Right | JoinType::Full) {
        for r in right.iter().filter(|r| !left.iter().any(|l| matches(l, r))) {
            put(format!("{nulls}, {}", shown(r)));
        }
    }
    out
}

fn make(
    spec: &plan::WindowJoin,
) -> impl Fn(&TaskScope) -> Result<Box<dyn engine::operator::Operator>, engine::operator::OperatorError>
{
    move |scope| {
        let columns = side_fields();
        WindowJoinOperator::build(
            spec,
            &[&columns, &columns],
            &[TableId(1), TableId(2)],
            scope,
        )
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn equals_the_naive_join(
        join_type in prop::sample::select(vec![
            JoinType::Inner, JoinType::Left, JoinType::Right,
            JoinType::Full, JoinType::Semi, JoinType::Anti,
        ]),
        steps in prop::collection::vec(
            (
                0..2_usize,
                prop::collection::vec((prop::option::weighted(0.9, 0..4_i64), 0..9_i64, 0..3_i64), 1..8),
                0..3_u8,
            ),
            1..15,
        ),
    ) {
        let mut rows: [Vec<Row>; 2] = [Vec::new(), Vec::new()];
        let mut events = Vec::new();
        let mut watermark = 0;
        for (side, batch, then) in steps {
            // Windows ahead of the watermark only: no row is late.
            let next_end = (watermark + 1) / 10 * 10 + 10;
            let batch: Vec<Row> = batch.iter().map(|(k, v, w)| (*k, *v, next_end + w * 10)).collect();
            let lines: Vec<String> = batch.iter().map(line).collect();
            rows[side].extend(batch);
            events.push(insert(side, &side_fields(), &lines.join("\n")));
            match then {
                0 => events.push(Event::Barrier),
                1 => {
                    watermark += 7;
                    events.push(Event::Watermark(watermark));
                }
                _ => {}
            }
        }
        events.push(Event::Watermark(i64::MAX));
        events.push(Event::End);
        let spec = spec(join_type);
        let folded = crash_at_each_barrier(&make(&spec), &events, &Fold::Retract);
        prop_assert_eq!(folded, naive(join_type, &rows[0], &rows[1]));
    }
}

#[test]
fn a_window_comes_out_when_the_watermark_passes_it() {
    let columns = side_fields();
    let spec = spec(JoinType::Full);
    let events = [
        insert(0, &columns, "1, 1, 0, 10\n2, 2, 0, 10\n1, 3, 10, 20"),
        insert(1, &columns, "1, 4, 0, 10\n3, 5, 0, 10"),
        Event::Watermark(8),
        Event::Watermark(9),
        insert(1, &columns, "1, 6, 0, 10"),
        Event::Watermark(30),
    ];
    let expected = "\
watermark 8
+I 1, 1, 1970-01-01T00:00:00, 1970-01-01T00:00:00.010, 1, 4, 1970-01-01T00:00:00, 1970-01-01T00:00:00.010
+I 2, 2, 1970-01-01T00:00:00, 1970-01-01T00:00:00.010, NULL, NULL, NULL, NULL
+I NULL, NULL, NULL, NULL, 3, 5, 1970-01-01T00:00:00, 1970-01-01T00:00:00.010
watermark 9
+I 1, 3, 1970-01-01T00:00:00.010, 1970-01-01T00:00:00.020, NULL, NULL, NULL, NULL
watermark 30
";
    assert_eq!(changelog(&drive(&make(&spec), &events)), expected);
    let (_, counters) = drive_with_seed(&make(&spec), &events, 0, |_| false);
    assert_eq!(counters.late_rows, 1);
}
