//! Joins whose rows go by times of their own against a naive join of all rows: every type, bounds on one
//! side or both, rows out of order, late state reads, moves and crashes in between.

use engine::{
    operator::{Operator, OperatorError, TaskScope},
    state::{StateTtl, TimeDomain},
};
use proptest::prelude::*;
use proto::{
    plan::{self, Changelog, Expr, JoinType, RowTime, ScalarFunction as F},
    types::{DataType, Field, LogicalType, TableId},
};

use super::JoinOperator;
use crate::testing::{
    Event, Fold, Folded, changelog, crash_at_each_barrier, drive, drive_with_seed, fields, insert,
    left_behind, scope,
};

const TABLES: [TableId; 2] = [TableId(1), TableId(2)];
/// So far before a left row's time a right row's may be.
const EARLIER_MS: i64 = 700;

#[derive(Clone, Copy, Debug)]
struct Case {
    join_type: JoinType,
    /// A right row's time is at most a left row's `e`; a left row's is at most a right row's and a bit.
    bounds: [bool; 2],
    has_condition: bool,
}

fn side_fields() -> Vec<Field> {
    fields(&[
        ("k", "BIGINT"),
        ("v", "INT"),
        ("t", "TIMESTAMP(3)"),
        ("e", "TIMESTAMP(3)"),
    ])
}

fn time() -> DataType {
    LogicalType::Timestamp(3).nullable()
}

fn spec(case: &Case) -> plan::Join {
    let boolean = LogicalType::Boolean.nullable();
    let call = |function, args: Vec<Expr>| Expr::call(function, args, &boolean);
    let column = |at: u32, data_type: &DataType| Expr::column(at as usize, data_type);
    let int = LogicalType::Int.nullable();
    let mut all = Vec::new();
    let mut until = [Vec::new(), Vec::new()];
    if case.bounds[0] {
        all.push(call(
            F::LessOrEqual,
            vec![column(6, &time()), column(3, &time())],
        ));
        until[0].push(row_time(3, 0));
    }
    if case.bounds[1] {
        // `e` of right rows is their time and a bit.
        all.push(call(
            F::LessOrEqual,
            vec![column(2, &time()), column(7, &time())],
        ));
        until[1].push(row_time(2, EARLIER_MS));
    }
    if case.has_condition {
        all.push(call(F::Less, vec![column(1, &int), column(5, &int)]));
    }
    let [left_until, right_until] = until;
    plan::Join {
        r#type: case.join_type.into(),
        left_keys: vec![0],
        right_keys: vec![0],
        null_safe: vec![false],
        condition: (!all.is_empty()).then(|| call(F::And, all)),
        left_until,
        right_until,
        ..plan::Join::default()
    }
}

fn row_time(column: usize, plus_ms: i64) -> RowTime {
    RowTime {
        time: Some(Expr::column(column, &time())),
        plus_ms,
    }
}

fn make(spec: &plan::Join) -> impl Fn(&TaskScope) -> Result<Box<dyn Operator>, OperatorError> {
    move |scope| {
        let columns = side_fields();
        let inputs = [&columns[..], &columns[..]];
        let changelogs = [Changelog::APPEND; 2];
        JoinOperator::build(spec, &inputs, &TABLES, &changelogs, &StateTtl::NEVER, scope)
    }
}

/// k, v, t, e.
#[derive(Clone, Debug)]
struct Row(Option<i64>, i64, i64, Option<i64>);

fn shown(time: i64) -> String {
    let (seconds, ms) = (time / 1_000, time % 1_000);
    let (minutes, seconds) = (seconds / 60, seconds % 60);
    let fraction = match ms {
        0 => String::new(),
        ms => format!(".{ms:03}"),
    };
    format!("1970-01-01T00:{minutes:02}:{seconds:02}{fraction}")
}

fn text(row: &Row, time: impl Fn(i64) -> String) -> String {
    let null = || "NULL".to_owned();
    let key = row.0.map_or_else(null, |key| key.to_string());
    let end = row.3.map_or_else(null, &time);
    format!("{key}, {}, {}, {end}", row.1, time(row.2))
}

fn line(row: &Row) -> String {
    text(row, |time| time.to_string())
}

fn matches(case: &Case, l: &Row, r: &Row) -> bool {
    let in_time = !case.bounds[0] || l.3.is_some_and(|end| r.2 <= end);
    let not_before = !case.bounds[1] || l.2 <= r.2 + EARLIER_MS;
    let holds = !case.has_condition || l.1 < r.1;
    l.0.is_some() && l.0 == r.0 && in_time && not_before && holds
}

fn naive(case: &Case, left: &[Row], right: &[Row]) -> Folded {
    let matches = |l: &Row, r: &Row| matches(case, l, r);
    let text = |row: &Row| text(row, shown);
    let nulls = "NULL, NULL, NULL, NULL";
    let mut out = Folded::new();
    let mut put = |text: String| *out.entry(text).or_default() += 1;
    for l in left {
        let found: Vec<&Row> = right.iter().filter(|r| matches(l, r)).collect();
        match (case.join_type, found.is_empty()) {
            (JoinType::Semi, true) | (JoinType::Anti, false) => {}
            (JoinType::Semi | JoinType::Anti, _) => put(text(l)),
            (JoinType::Left | JoinType::Full, true) => put(format!("{}, {nulls}", text(l))),
            _ => found
                .iter()
                .for_each(|r| put(format!("{}, {}", text(l), text(r)))),
        }
    }
    if matches!(case.join_type, JoinType::Right | JoinType::Full) {
        for r in right.iter().filter(|r| !left.iter().any(|l| matches(l, r))) {
            put(format!("{nulls}, {}", text(r)));
        }
    }
    out
}

fn types() -> impl Strategy<Value = JoinType> {
    use JoinType::{Anti, Full, Inner, Left, Right, Semi};
    prop::sample::select(vec![Inner, Left, Right, Full, Semi, Anti])
}

/// Key, value, time after the watermark, how long after that a left row's end is.
type Drawn = (Option<i64>, i64, i64, Option<i64>);

fn batches() -> impl Strategy<Value = Vec<Drawn>> {
    let key = prop::option::weighted(0.9, 0..3_i64);
    let long = prop::option::weighted(0.9, -3_000..9_000_i64);
    prop::collection::vec((key, 0..9_i64, 1..4_000_i64, long), 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]
    #[test]
    fn equals_the_naive_join(
        join_type in types(),
        bounds in prop::sample::select(vec![[true, true], [true, false], [false, true]]),
        has_condition in any::<bool>(),
        steps in prop::collection::vec((0..2_usize, batches(), 0..7_u8), 1..25),
    ) {
        let case = Case { join_type, bounds, has_condition };
        let mut rows: [Vec<Row>; 2] = [Vec::new(), Vec::new()];
        let mut events = Vec::new();
        let mut watermark = 10_000;
        for (side, batch, then) in steps {
            let row = |(key, value, ahead, long): &Drawn| {
                let time = watermark + ahead;
                let end = match side {
                    0 => long.map(|long| time + long),
                    _ => Some(time + EARLIER_MS),
                };
                Row(*key, *value, time, end)
            };
            let batch: Vec<Row> = batch.iter().map(row).collect();
            let lines: Vec<String> = batch.iter().map(line).collect();
            rows[side].extend(batch);
            events.push(insert(side, &side_fields(), &lines.join("\n")));
            match then {
                0 => events.push(Event::Barrier),
                1 => events.extend([Event::Barrier, Event::Moves(0)]),
                2 | 3 => {
                    watermark += 1_100 * i64::from(then);
                    events.push(Event::Watermark(watermark));
                }
                4 => events.push(Event::Passes(3_000)),
                _ => {}
            }
        }
        events.extend([Event::Watermark(i64::MAX - 1), Event::Barrier, Event::End]);
        let spec = spec(&case);
        let folded = crash_at_each_barrier(&make(&spec), &events, &Fold::Retract);
        prop_assert_eq!(folded, naive(&case, &rows[0], &rows[1]));
        // Nothing is left when time is over, where both sides go. (Keys that went from memory or to
        // another task are looked for in the background.)
        if bounds == [true, true] {
            let last = events.len() - 2;
            let mut at = 0..;
            events.retain(|event| {
                let at = at.next().unwrap_or_default();
                at >= last || !matches!(event, Event::Barrier | Event::Moves(_))
            });
            let (stored, size) = left_behind(&make(&spec), &events, 7, |_| false, &TABLES);
            prop_assert_eq!(stored, Vec::new());
            prop_assert_eq!(size.rows, 0);
        }
    }
}

/// A row that has come, with a number of its own, at which place, and whether it is late.
struct Come {
    row: Row,
    at: usize,
    is_late: bool,
}

/// Checks the output of a join of rows of which some are late: each pair that it has belongs together, and
/// is there if the later one of them was in time; and what is said of a row that has met others, or none,
/// fits its pairs.
fn check_late(case: &Case, rows: &[Vec<Come>; 2], output: &Folded) -> Result<(), String> {
    let texts = rows.each_ref().map(|rows| {
        let text = |come: &Come| text(&come.row, shown);
        rows.iter().map(text).collect::<Vec<String>>()
    });
    let nulls = "NULL, NULL, NULL, NULL";
    let count = |text: &str| output.get(text).copied().unwrap_or(0);
    let mut known = 0;
    let mut met = rows.each_ref().map(|rows| vec![false; rows.len()]);
    let mut must = met.clone();
    let mut may = met.clone();
    for (l, left) in rows[0].iter().enumerate() {
        for (r, right) in rows[1].iter().enumerate() {
            let pair = count(&format!("{}, {}", texts[0][l], texts[1][r]));
            let fits = matches(case, &left.row, &right.row);
            let last = if left.at > right.at { left } else { right };
            let shows_pairs = !matches!(case.join_type, JoinType::Semi | JoinType::Anti);
            if pair > i64::from(fits) || shows_pairs && fits && !last.is_late && pair == 0 {
                return Err(format!("{pair} of {} and {}", texts[0][l], texts[1][r]));
            }
            known += pair;
            for (side, row) in [(0, l), (1, r)] {
                met[side][row] |= pair > 0;
                must[side][row] |= fits && !last.is_late;
                may[side][row] |= fits;
            }
        }
    }
    for (side, texts) in texts.iter().enumerate() {
        for (row, text) in texts.iter().enumerate() {
            let bare = match (case.join_type, side) {
                (JoinType::Semi | JoinType::Anti, 0) => text.clone(),
                (JoinType::Left | JoinType::Full, 0) => format!("{text}, {nulls}"),
                (JoinType::Right | JoinType::Full, 1) => format!("{nulls}, {text}"),
                _ => continue,
            };
            let bare = count(&bare);
            let (least, most) = match case.join_type {
                JoinType::Semi => (must[side][row], may[side][row]),
                JoinType::Anti => (!may[side][row], !must[side][row]),
                _ => (!met[side][row], !met[side][row]),
            };
            if !(i64::from(least)..=i64::from(most)).contains(&bare) {
                return Err(format!("{bare} of {text} by itself"));
            }
            known += bare;
        }
    }
    let all: i64 = output.values().sum();
    (all == known)
        .then_some(())
        .ok_or_else(|| format!("{all} rows, {known} known"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]
    #[test]
    fn late_rows_meet_what_is_there_and_nothing_contradicts_itself(
        join_type in types(),
        bounds in prop::sample::select(vec![[true, true], [true, false], [false, true]]),
        steps in prop::collection::vec((0..2_usize, batches(), 0..7_u8, any::<bool>()), 1..25),
        seed in 0..9_u64,
    ) {
        let case = Case { join_type, bounds, has_condition: false };
        let mut rows: [Vec<Come>; 2] = [Vec::new(), Vec::new()];
        let (mut events, mut watermark, mut came) = (Vec::new(), 10_000, 0);
        for (side, batch, then, is_late) in steps {
            let mut lines = Vec::new();
            for (key, _, ahead, long) in batch {
                let time = if is_late { watermark + 1 - ahead } else { watermark + ahead };
                let end = match side {
                    0 => long.map(|long| time + long),
                    _ => Some(time + EARLIER_MS),
                };
                came += 1;
                let row = Row(key, came, time, end);
                lines.push(line(&row));
                rows[side].push(Come { row, at: events.len(), is_late });
            }
            events.push(insert(side, &side_fields(), &lines.join("\n")));
            match then {
                0 | 1 => events.push(Event::Barrier),
                2 | 3 => {
                    watermark += 1_100 * i64::from(then);
                    events.push(Event::Watermark(watermark));
                }
                4 => events.push(Event::Passes(3_000)),
                _ => {}
            }
        }
        events.extend([Event::Watermark(i64::MAX - 1), Event::Barrier, Event::End]);
        let spec = spec(&case);
        for crashes in [2, 1_000] {
            let (output, _) = drive_with_seed(&make(&spec), &events, seed, |epoch| epoch.0.is_multiple_of(crashes));
            let same = check_late(&case, &rows, &Fold::Retract.fold(&output));
            prop_assert!(same.is_ok(), "{:?} of {events:?}", same);
        }
    }
}

#[test]
fn rows_go_when_none_can_come_that_meets_them() {
    let case = Case {
        join_type: JoinType::Inner,
        bounds: [true, true],
        has_condition: false,
    };
    let (spec, columns) = (spec(&case), side_fields());
    let mut events = vec![
        insert(
            0,
            &columns,
            "1, 1, 5000, 20000\n2, 2, 5000, 9000\n3, 3, 5000, NULL",
        ),
        insert(
            1,
            &columns,
            "1, 1, 6000, 6700\n2, 2, 9000, 9700\n3, 3, 6000, 6700",
        ),
    ];
    let rows = |events: &[Event]| {
        left_behind(&make(&spec), events, 1, |_| false, &TABLES)
            .1
            .rows
    };
    // The left row that has no end meets nothing at all.
    assert_eq!(rows(&events), 5);
    let mut left_at = |watermark: i64| {
        events.push(Event::Watermark(watermark));
        rows(&events)
    };
    // A second late at most.
    assert_eq!(left_at(6_000), 5);
    assert_eq!(left_at(8_000), 3);
    assert_eq!(left_at(9_000), 3);
    assert_eq!(left_at(10_000), 1);
    assert_eq!(left_at(21_000), 0);
    // The end of the input lets nothing go: it would be work for nothing.
    let last = [
        insert(0, &columns, "1, 1, 5000, 20000"),
        Event::Watermark(i64::MAX),
    ];
    assert_eq!(rows(&last), 1);
}

#[test]
fn what_is_over_when_it_comes_meets_what_is_there_and_is_not_kept() {
    let case = Case {
        join_type: JoinType::Inner,
        bounds: [true, true],
        has_condition: false,
    };
    let (spec, columns) = (spec(&case), side_fields());
    let events = [
        Event::Watermark(8_000),
        insert(1, &columns, "1, 1, 9000, 9700"),
        // Late, but what it meets is there.
        insert(0, &columns, "1, 2, 7000, 9000\n1, 3, 7000, 7500"),
        Event::Watermark(9_000),
        insert(0, &columns, "1, 4, 9600, 9600\n1, 5, 9200, 8900"),
        Event::Barrier,
    ];
    let text = changelog(&drive(&make(&spec), &events)).replace("1970-01-01T00:00:0", "");
    let expected = "\
watermark 8000
+I 1, 2, 7, 9, 1, 1, 9, 9.700
watermark 9000
+I 1, 4, 9.600, 9.600, 1, 1, 9, 9.700
barrier 1
";
    assert_eq!(text, expected);
    let (stored, _) = left_behind(&make(&spec), &events, 1, |_| false, &TABLES);
    // Of the left rows the first two that are not over; one goes later, in the background.
    assert_eq!(stored.len(), 3, "{stored:?}");
}

#[test]
fn an_outer_row_that_has_met_others_stays_so_when_they_are_read_again() {
    for (join_type, bounds) in [
        (JoinType::Left, [true, true]),
        (JoinType::Full, [true, true]),
        (JoinType::Semi, [true, true]),
        (JoinType::Anti, [false, true]),
    ] {
        let case = Case {
            join_type,
            bounds,
            has_condition: false,
        };
        let (spec, columns) = (spec(&case), side_fields());
        let (left, first) = (Row(Some(1), 1, 1_000, Some(90_000)), (1_500, 2_200));
        let right = |(time, end): (i64, i64)| Row(Some(1), 2, time, Some(end));
        let (first, second) = (right(first), right((60_000, 60_700)));
        let events = [
            insert(0, &columns, &line(&left)),
            insert(1, &columns, &line(&first)),
            // Time for the right row to go.
            Event::Watermark(30_000),
            Event::Barrier,
            Event::Watermark(50_000),
            insert(1, &columns, &line(&second)),
            Event::Barrier,
        ];
        let expected = naive(&case, &[left], &[first, second]);
        for seed in 0..8 {
            let (output, _) = drive_with_seed(&make(&spec), &events, seed, |_| seed % 2 == 1);
            assert_eq!(Fold::Retract.fold(&output), expected, "{case:?}");
        }
    }
}

#[test]
fn keys_that_memory_has_no_room_for_are_read_again_and_go() {
    let case = Case {
        join_type: JoinType::Inner,
        bounds: [true, true],
        has_condition: false,
    };
    let (spec, columns) = (spec(&case), side_fields());
    let mut events = Vec::new();
    let mut rows: [Vec<Row>; 2] = [Vec::new(), Vec::new()];
    for round in 0..60 {
        let time = 10_000 + 1_000 * round;
        for (side, keys, end) in [(0, 5, time + 20_000), (1, 3, time + EARLIER_MS)] {
            let row = Row(Some(round % keys), round, time, Some(end));
            events.push(insert(side, &columns, &line(&row)));
            rows[side].push(row);
        }
        events.extend([Event::Barrier, Event::Watermark(time - 1_500)]);
    }
    let (output, counters) = drive_with_seed(&make(&spec), &events, 5, |_| false);
    assert!(counters.evicted_keys > 10, "{counters:?}");
    assert!(counters.state_misses > 10, "{counters:?}");
    assert_eq!(
        Fold::Retract.fold(&output),
        naive(&case, &rows[0], &rows[1])
    );
    events.push(Event::Watermark(i64::MAX - 1));
    // The walk through what is stored takes a while.
    for _ in 0..4 {
        events.extend([Event::Passes(200_000), Event::Barrier]);
    }
    let (stored, size) = left_behind(&make(&spec), &events, 5, |_| false, &TABLES);
    assert_eq!((stored.len(), size.rows), (0, 0));
}

#[test]
fn rows_that_may_be_taken_back_or_age_do_not_go_by_time() {
    let case = Case {
        join_type: JoinType::Inner,
        bounds: [true, false],
        has_condition: false,
    };
    let (spec, columns) = (spec(&case), side_fields());
    let inputs = [&columns[..], &columns[..]];
    let by_age = StateTtl::new(vec![1_000, 0], TimeDomain::Event);
    let scope = scope(proto::types::Epoch::ZERO);
    for (changelog, ttl) in [
        (Changelog::RETRACT, StateTtl::NEVER),
        (Changelog::APPEND, by_age),
    ] {
        let changelogs = [Changelog::APPEND, changelog];
        let built = JoinOperator::build(&spec, &inputs, &TABLES, &changelogs, &ttl, &scope);
        let error = built.err().map(|error| error.to_string());
        let expected = "failed to build operator: rows of a join go by times of their own though they \
                        are taken back or age";
        assert_eq!(error.as_deref(), Some(expected));
    }
}
