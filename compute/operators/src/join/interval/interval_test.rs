//! The interval join against a naive join of all rows: every type, random bounds, rows out of order,
//! late state reads, moves and crashes in between.

use arrow::array::Array as _;
use engine::{
    Element,
    operator::{Operator, OperatorError, TaskScope},
};
use proptest::prelude::*;
use proto::{
    plan::{self, Expr, JoinType, ScalarFunction},
    types::{Field, LogicalType, TableId},
};

use super::IntervalJoinOperator;
use crate::{
    rows::milliseconds,
    testing::{
        Event, Fold, Folded, changelog, crash_at_each_barrier, drive, drive_with_seed, fields,
        insert, left_behind,
    },
};

const TABLES: [TableId; 4] = [TableId(1), TableId(2), TableId(3), TableId(4)];

fn side_fields() -> Vec<Field> {
    fields(&[("k", "BIGINT"), ("v", "INT"), ("t", "TIMESTAMP(3)")])
}

fn spec(join_type: JoinType, bounds: (i64, i64), has_condition: bool) -> plan::IntervalJoin {
    let int = LogicalType::Int.nullable();
    let values = vec![Expr::column(1, &int), Expr::column(4, &int)];
    let boolean = LogicalType::Boolean.nullable();
    let less = Expr::call(ScalarFunction::Less, values, &boolean);
    plan::IntervalJoin {
        r#type: join_type.into(),
        left_keys: vec![0],
        right_keys: vec![0],
        null_safe: vec![false],
        condition: has_condition.then_some(less),
        left_time: 2,
        right_time: 2,
        lower_ms: bounds.0,
        upper_ms: bounds.1,
    }
}

fn tables(spec: &plan::IntervalJoin) -> &'static [TableId] {
    match spec.r#type() {
        JoinType::Inner | JoinType::Semi => &TABLES[..2],
        JoinType::Full => &TABLES,
        _ => &TABLES[..3],
    }
}

fn make(
    spec: &plan::IntervalJoin,
) -> impl Fn(&TaskScope) -> Result<Box<dyn Operator>, OperatorError> {
    move |scope| {
        let columns = side_fields();
        IntervalJoinOperator::build(spec, &[&columns, &columns], tables(spec), scope)
    }
}

/// k, v, t.
type Row = (Option<i64>, i64, i64);

fn shown(key: Option<i64>) -> String {
    key.map_or_else(|| "NULL".to_owned(), |key| key.to_string())
}

fn line(row: &Row) -> String {
    format!("{}, {}, {}", shown(row.0), row.1, row.2)
}

fn text(row: &Row) -> String {
    let time = format!("1970-01-01T00:00:00.{:03}", row.2).replace(".000", "");
    format!("{}, {}, {time}", shown(row.0), row.1)
}

fn naive(spec: &plan::IntervalJoin, left: &[Row], right: &[Row]) -> Folded {
    let matches = |l: &Row, r: &Row| {
        let is_near = (spec.lower_ms..=spec.upper_ms).contains(&(r.2 - l.2));
        l.0.is_some() && l.0 == r.0 && is_near && (spec.condition.is_none() || l.1 < r.1)
    };
    let nulls = "NULL, NULL, NULL";
    let mut out = Folded::new();
    let mut put = |text: String| *out.entry(text).or_default() += 1;
    for l in left {
        let found: Vec<&Row> = right.iter().filter(|r| matches(l, r)).collect();
        match (spec.r#type(), found.is_empty()) {
            (JoinType::Semi, true) | (JoinType::Anti, false) => {}
            (JoinType::Semi | JoinType::Anti, _) => put(text(l)),
            (JoinType::Left | JoinType::Full, true) => put(format!("{}, {nulls}", text(l))),
            _ => found
                .iter()
                .for_each(|r| put(format!("{}, {}", text(l), text(r)))),
        }
    }
    if matches!(spec.r#type(), JoinType::Right | JoinType::Full) {
        for r in right.iter().filter(|r| !left.iter().any(|l| matches(l, r))) {
            put(format!("{nulls}, {}", text(r)));
        }
    }
    out
}

/// No row comes out whose times a watermark has passed that came out before, where they carry the
/// time of the stream.
fn assert_in_time(spec: &plan::IntervalJoin, elements: &[Element]) {
    let columns: &[usize] = match spec.r#type() {
        JoinType::Inner => &[2, 5],
        JoinType::Right => &[5],
        JoinType::Full => &[],
        _ => &[2],
    };
    let mut passed = i64::MIN;
    for element in elements {
        match element {
            Element::Watermark(watermark) => passed = *watermark,
            Element::Batch(batch) => {
                for column in columns {
                    let column = batch.rows.column(*column);
                    assert_eq!(column.null_count(), 0);
                    let times = milliseconds(column).expect("times");
                    assert!(
                        times.iter().all(|time| *time > passed),
                        "{batch:?}, {passed}"
                    );
                }
            }
            _ => {}
        }
    }
}

fn types() -> impl Strategy<Value = JoinType> {
    prop::sample::select(vec![
        JoinType::Inner,
        JoinType::Left,
        JoinType::Right,
        JoinType::Full,
        JoinType::Semi,
        JoinType::Anti,
    ])
}

/// Key, value, time after the watermark.
fn batches() -> impl Strategy<Value = Vec<Row>> {
    let key = prop::option::weighted(0.9, 0..4_i64);
    prop::collection::vec((key, 0..9_i64, 1..40_i64), 1..10)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn equals_the_naive_join(
        join_type in types(),
        (lower, length) in (-30..30_i64, 0..40_i64),
        has_condition in any::<bool>(),
        steps in prop::collection::vec((0..2_usize, batches(), 0..6_u8), 1..25),
    ) {
        let mut rows: [Vec<Row>; 2] = [Vec::new(), Vec::new()];
        let mut events = Vec::new();
        let mut watermark = 0;
        for (side, batch, then) in steps {
            let row = |(key, value, ahead): &Row| (*key, *value, watermark + ahead);
            let batch: Vec<Row> = batch.iter().map(row).collect();
            let lines: Vec<String> = batch.iter().map(line).collect();
            rows[side].extend(batch);
            events.push(insert(side, &side_fields(), &lines.join("\n")));
            match then {
                0 => events.push(Event::Barrier),
                1 | 2 => {
                    watermark += 9 * i64::from(then);
                    events.push(Event::Watermark(watermark));
                }
                3 => events.push(Event::Passes(30)),
                _ => {}
            }
        }
        events.extend([Event::Watermark(i64::MAX), Event::Barrier, Event::End]);
        let spec = spec(join_type, (lower, lower + length), has_condition);
        let folded = crash_at_each_barrier(&make(&spec), &events, &Fold::Retract);
        prop_assert_eq!(folded, naive(&spec, &rows[0], &rows[1]));
        assert_in_time(&spec, &drive(&make(&spec), &events));
        // Nothing is left when time is over. (Keys that went to another task and came back are looked
        // for in the background.)
        let last = events.len() - 2;
        let is_end = |at: usize| at >= last;
        let mut at = 0..;
        events.retain(|event| {
            let at = at.next().unwrap_or_default();
            is_end(at) || !matches!(event, Event::Barrier)
        });
        let (stored, size) = left_behind(&make(&spec), &events, 7, |_| false, tables(&spec));
        prop_assert_eq!(stored, Vec::new());
        prop_assert_eq!(size.rows, 0);
    }
}

#[test]
fn a_row_without_a_match_comes_out_when_none_can_come() {
    let columns = side_fields();
    let spec = spec(JoinType::Full, (-10, 20), false);
    let events = [
        insert(0, &columns, "1, 1, 100\n2, 2, 100\nNULL, 3, 100"),
        insert(1, &columns, "1, 11, 90\n1, 12, 121\n3, 13, 130"),
        Event::Watermark(119),
        insert(1, &columns, "1, 14, 120"),
        Event::Watermark(120),
        Event::Watermark(131),
        // Late rows find what is not gone.
        insert(0, &columns, "1, 4, 101\n3, 5, 122"),
        Event::Watermark(140),
        Event::Watermark(i64::MAX),
    ];
    let text = changelog(&drive(&make(&spec), &events)).replace("1970-01-01T00:00:00.", "");
    let expected = "\
+I NULL, 3, 100, NULL, NULL, NULL
+I 1, 1, 100, 1, 11, 090
watermark 99
+I 1, 1, 100, 1, 14, 120
+I 2, 2, 100, NULL, NULL, NULL
watermark 100
+I NULL, NULL, NULL, 1, 12, 121
watermark 111
+I 3, 5, 122, 3, 13, 130
+I 1, 4, 101, NULL, NULL, NULL
watermark 120
watermark 9223372036854775807
";
    assert_eq!(text, expected);
    let late_rows = |join_type: JoinType| {
        let spec = plan::IntervalJoin {
            r#type: join_type.into(),
            ..spec.clone()
        };
        drive_with_seed(&make(&spec), &events, 0, |_| false)
            .1
            .late_rows
    };
    // What comes out alone is not lost.
    assert_eq!(late_rows(JoinType::Full), 0);
    assert_eq!(late_rows(JoinType::Inner), 1);
}

#[test]
fn rows_of_one_time_meet_whatever_comes_first() {
    let columns = side_fields();
    for join_type in [JoinType::Inner, JoinType::Semi, JoinType::Anti] {
        let spec = spec(join_type, (0, 0), false);
        let events = [
            insert(0, &columns, "1, 1, 5\n2, 2, 5"),
            insert(1, &columns, "1, 3, 5\n1, 4, 5\n1, 5, 6\n3, 6, 7"),
            insert(0, &columns, "1, 7, 6\n3, 8, 8"),
            Event::Watermark(i64::MAX),
        ];
        let folded = Fold::Retract.fold(&drive(&make(&spec), &events));
        let left = [
            (Some(1), 1, 5),
            (Some(2), 2, 5),
            (Some(1), 7, 6),
            (Some(3), 8, 8),
        ];
        let right = [
            (Some(1), 3, 5),
            (Some(1), 4, 5),
            (Some(1), 5, 6),
            (Some(3), 6, 7),
        ];
        assert_eq!(folded, naive(&spec, &left, &right));
    }
}

#[test]
fn keys_that_memory_has_no_room_for_are_read_again() {
    let columns = side_fields();
    for join_type in [JoinType::Inner, JoinType::Left] {
        let spec = spec(join_type, (-1_000, 1_000), false);
        let mut events = Vec::new();
        let mut rows: [Vec<Row>; 2] = [Vec::new(), Vec::new()];
        for round in 0..40 {
            for (side, keys) in [(0, 5), (1, 3)] {
                let row = (Some(round % keys), round, 10 * round + 1);
                events.push(insert(side, &columns, &line(&row)));
                rows[side].push(row);
            }
            events.extend([Event::Barrier, Event::Watermark(10 * round)]);
        }
        let (output, counters) = drive_with_seed(&make(&spec), &events, 5, |_| false);
        assert!(counters.evicted_keys > 10, "{counters:?}");
        assert!(counters.state_misses > 10, "{counters:?}");
        let pairs = naive(&spec, &rows[0], &rows[1]).into_iter();
        let pairs: Folded = pairs.filter(|(row, _)| !row.contains("NULL")).collect();
        assert_eq!(Fold::Retract.fold(&output), pairs);
    }
}
