//! The temporal join against a look-up in all versions there ever were: random changes of the
//! versioned table, out of order, with batches, late state reads, moves and crashes in between.

use std::collections::BTreeMap;

use engine::operator::{Operator, OperatorError, TaskScope};
use proptest::prelude::*;
use proto::{
    plan::{self, Expr, JoinType, ScalarFunction},
    types::{Field, LogicalType, TableId},
};

use super::TemporalJoinOperator;
use crate::testing::{
    Event, Fold, Folded, changelog, crash_at_each_barrier, drive, drive_with_seed, fields, insert,
    left_behind,
};

const TABLES: [TableId; 2] = [TableId(1), TableId(2)];

fn side_fields() -> Vec<Field> {
    fields(&[("k", "BIGINT"), ("v", "INT"), ("t", "TIMESTAMP(3)")])
}

fn spec(join_type: JoinType, has_condition: bool) -> plan::TemporalJoin {
    let int = LogicalType::Int.nullable();
    let values = vec![Expr::column(1, &int), Expr::column(4, &int)];
    let less = Expr::call(
        ScalarFunction::Less,
        values,
        &LogicalType::Boolean.nullable(),
    );
    plan::TemporalJoin {
        r#type: join_type.into(),
        left_keys: vec![0],
        right_keys: vec![0],
        null_safe: vec![false],
        condition: has_condition.then_some(less),
        left_time: 2,
        right_time: 2,
    }
}

fn make(
    spec: &plan::TemporalJoin,
) -> impl Fn(&TaskScope) -> Result<Box<dyn Operator>, OperatorError> {
    move |scope| {
        let columns = side_fields();
        TemporalJoinOperator::build(spec, &[&columns, &columns], &TABLES, scope)
    }
}

/// k, v, t.
type Row = (Option<i64>, i64, i64);

fn shown(value: Option<i64>) -> String {
    value.map_or_else(|| "NULL".to_owned(), |value| value.to_string())
}

fn line(row: &Row) -> String {
    format!("{}, {}, {}", shown(row.0), row.1, row.2)
}

fn text(row: &Row) -> String {
    let time = format!("1970-01-01T00:00:00.{:03}", row.2).replace(".000", "");
    format!("{}, {}, {time}", shown(row.0), row.1)
}

/// What a key had from a time on; `None`: nothing.
type History = BTreeMap<(i64, i64), Option<i64>>;

fn naive(spec: &plan::TemporalJoin, left: &[Row], versions: &History) -> Folded {
    let mut out = Folded::new();
    for row in left {
        let version = row.0.and_then(|key| {
            let ((_, time), value) = versions.range((key, i64::MIN)..=(key, row.2)).next_back()?;
            Some((row.0, (*value)?, *time))
        });
        let version = version.filter(|version| spec.condition.is_none() || row.1 < version.1);
        let joined = match version {
            Some(version) => format!("{}, {}", text(row), text(&version)),
            None if spec.r#type() == JoinType::Left => format!("{}, NULL, NULL, NULL", text(row)),
            None => continue,
        };
        *out.entry(joined).or_default() += 1;
    }
    out
}

/// Key (none: NULL), value, time after the watermark, and what happens: an insert, an update or a
/// delete.
type Change = (Option<i64>, i64, i64, usize);

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let key = prop::option::weighted(0.9, 0..4_i64);
    prop::collection::vec((key, 0..9_i64, 1..30_i64, 0..5_usize), 1..8)
}

#[derive(Default)]
struct Script {
    events: Vec<Event>,
    left: Vec<Row>,
    versions: History,
    watermark: i64,
}

impl Script {
    fn left(&mut self, batch: &[Change]) {
        let row = |(key, value, ahead, _): &Change| (*key, *value, self.watermark + ahead);
        let rows: Vec<Row> = batch.iter().map(row).collect();
        let lines: Vec<String> = rows.iter().map(line).collect();
        self.left.extend(rows);
        self.events
            .push(insert(0, &side_fields(), &lines.join("\n")));
    }

    fn right(&mut self, batch: &[Change]) {
        let mut lines = Vec::new();
        for (key, value, ahead, kind) in batch {
            let row = (*key, *value, self.watermark + ahead);
            let kind = ["+I", "+U", "+U", "-U", "-D"][*kind];
            lines.push(format!("{kind} {}", line(&row)));
            // Old rows of updates say nothing.
            if let Some(key) = key
                && kind != "-U"
            {
                let value = (kind != "-D").then_some(*value);
                self.versions.insert((*key, row.2), value);
            }
        }
        self.events
            .push(insert(1, &side_fields(), &lines.join("\n")));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn equals_a_look_up_in_all_versions(
        join_type in prop::sample::select(vec![JoinType::Inner, JoinType::Left]),
        has_condition in any::<bool>(),
        steps in prop::collection::vec((any::<bool>(), changes(), 0..5_u8), 1..25),
    ) {
        let mut script = Script::default();
        for (is_left, batch, then) in steps {
            match is_left {
                true => script.left(&batch),
                false => script.right(&batch),
            }
            match then {
                0 => script.events.push(Event::Barrier),
                1 | 2 => {
                    script.watermark += 9 * i64::from(then);
                    script.events.push(Event::Watermark(script.watermark));
                }
                3 => script.events.push(Event::Passes(10)),
                _ => {}
            }
        }
        script.events.extend([Event::Watermark(i64::MAX), Event::Barrier, Event::End]);
        let spec = spec(join_type, has_condition);
        let folded = crash_at_each_barrier(&make(&spec), &script.events, &Fold::Retract);
        prop_assert_eq!(folded, naive(&spec, &script.left, &script.versions));
        // Nothing is left but the newest version of each key that has one.
        let mut newest = BTreeMap::new();
        for ((key, _), value) in &script.versions {
            newest.insert(*key, *value);
        }
        let live = newest.values().flatten().count();
        // (Keys that went to another task and came back are looked at when they are used.)
        let (mut events, end) = (script.events, [Event::Barrier, Event::End]);
        events.retain(|event| !matches!(event, Event::Barrier | Event::End));
        events.extend(end);
        let (stored, size) = left_behind(&make(&spec), &events, 7, |_| false, &TABLES);
        prop_assert_eq!(stored.len(), live);
        prop_assert!(size.rows as usize <= live);
    }
}

#[test]
fn rows_come_out_when_the_watermark_passes_them() {
    let columns = side_fields();
    let spec = spec(JoinType::Left, false);
    let events = [
        insert(
            0,
            &columns,
            "1, 1, 10\n1, 2, 5\n2, 3, 12\nNULL, 4, 11\n1, 5, NULL",
        ),
        insert(1, &columns, "1, 100, 5\n1, 101, 11"),
        Event::Watermark(9),
        insert(
            1,
            &columns,
            "-U 1, 100, 5\n+U 1, 102, 10\n2, 200, 10\n-D 2, 200, 12",
        ),
        Event::Watermark(12),
        // A late row has what is still known, and an older version than that changes nothing.
        insert(0, &columns, "1, 6, 10\n1, 7, 11"),
        insert(1, &columns, "1, 99, 7"),
        Event::Watermark(13),
    ];
    let text = changelog(&drive(&make(&spec), &events)).replace("1970-01-01T00:00:00.", "");
    let expected = "\
+I NULL, 4, 011, NULL, NULL, NULL
+I 1, 5, NULL, NULL, NULL, NULL
+I 1, 2, 005, 1, 100, 005
watermark 9
+I 1, 1, 010, 1, 102, 010
+I 2, 3, 012, NULL, NULL, NULL
watermark 12
+I 1, 6, 010, NULL, NULL, NULL
+I 1, 7, 011, 1, 101, 011
watermark 13
";
    assert_eq!(text, expected);
    let (_, counters) = drive_with_seed(&make(&spec), &events, 0, |_| false);
    // The version: rows that come out are not lost.
    assert_eq!(counters.late_rows, 1);
}

#[test]
fn keys_that_memory_has_no_room_for_are_read_again() {
    let spec = spec(JoinType::Left, false);
    let mut script = Script::default();
    for round in 0..60_i64 {
        script.right(&[(Some(round % 5), round, 1, 1)]);
        script.left(&[(Some((round + 2) % 5), round, 1, 0)]);
        script.watermark += 2;
        let passed = Event::Watermark(script.watermark);
        script.events.extend([passed, Event::Barrier]);
    }
    let (output, counters) = drive_with_seed(&make(&spec), &script.events, 5, |_| false);
    assert!(counters.evicted_keys > 10, "{counters:?}");
    assert!(counters.state_misses > 10, "{counters:?}");
    let expected = naive(&spec, &script.left, &script.versions);
    assert_eq!(Fold::Retract.fold(&output), expected);
}
