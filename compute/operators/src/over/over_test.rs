//! OVER against its definition: for each row, the rows that it sees, aggregated by what GROUP BY is
//! computed with. With crashes, moves of key groups, and rows that are not in memory.

use std::{cmp::Ordering, sync::Arc};

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, Int64Array, RecordBatch, UInt32Array},
    compute::{concat, take},
    datatypes::{Int32Type, TimestampMillisecondType},
};
use engine::{
    ChangeBatch, Element,
    key::KeyEncoder,
    operator::{Operator, OperatorError, TaskScope},
    schema::arrow_schema,
    state::StateTtl,
};
use proptest::prelude::*;
use proto::{
    plan::{
        self, AggregateCall, Changelog, Lag, OverCall, OverNumber, OverOrder, SortKey,
        over_call::Function,
    },
    types::{Epoch, Field, TableId},
};

use super::OverOperator;
use crate::{
    aggregate::{AggregatePlan, AggregateStore, Rowset, StateTables},
    testing::{
        Event, Fold, Folded, after_a_minute_of_rest, changelog, crash_at_each_barrier, drive,
        drive_with_seed, fields, insert, left_behind, rows, scope,
    },
};

const TABLES: [TableId; 2] = [TableId(1), TableId(2)];

/// Partition, time, number, text, fraction, filter, default, identity.
fn columns() -> Vec<Field> {
    fields(&[
        ("p", "INT"),
        ("t", "TIMESTAMP(3)"),
        ("v", "INT"),
        ("s", "STRING"),
        ("x", "DOUBLE"),
        ("f", "BOOLEAN"),
        ("d", "INT"),
        ("id", "INT"),
    ])
}
const T: u32 = 1;
const V: u32 = 2;
const S: u32 = 3;
const X: u32 = 4;
const F: u32 = 5;
const D: u32 = 6;
const ID: u32 = 7;

/// Functions with an argument, whether values count once, and their types.
const AGGREGATES: &[(&str, Option<u32>, bool, &str)] = &[
    ("COUNT", None, false, "BIGINT NOT NULL"),
    ("COUNT", Some(S), false, "BIGINT NOT NULL"),
    ("SUM", Some(V), false, "INT"),
    ("SUM", Some(X), false, "DOUBLE"),
    ("AVG", Some(V), false, "INT"),
    ("AVG", Some(X), false, "DOUBLE"),
    ("MIN", Some(V), false, "INT"),
    ("MAX", Some(X), false, "DOUBLE"),
    ("MIN", Some(F), false, "BOOLEAN"),
    ("MAX", Some(S), false, "STRING"),
    ("STDDEV_POP", Some(V), false, "INT"),
    ("COUNT", Some(V), true, "BIGINT NOT NULL"),
    ("SUM", Some(V), true, "INT"),
    ("AVG", Some(X), true, "DOUBLE"),
];

/// Likewise those that depend on the order of equal rows.
const ORDERED: &[(&str, Option<u32>, bool, &str)] = &[
    ("FIRST_VALUE", Some(V), false, "INT"),
    ("LAST_VALUE", Some(X), false, "DOUBLE"),
    ("FIRST_VALUE", Some(S), false, "STRING"),
    ("LAST_VALUE", Some(F), false, "BOOLEAN"),
    ("VAR_SAMP", Some(X), false, "DOUBLE"),
    ("VAR_POP", Some(X), true, "DOUBLE"),
    ("LIST_AGG", Some(S), false, "STRING"),
    ("LIST_AGG", Some(S), true, "STRING"),
    ("ARRAY_AGG", Some(V), true, "ARRAY<INT>"),
];

fn aggregate(at: usize, is_filtered: bool) -> OverCall {
    let all = [AGGREGATES, ORDERED].concat();
    let (function, arg, distinct, data_type) = all[at % all.len()];
    let data_type = match is_filtered && function == "COUNT" {
        true => "BIGINT NOT NULL",
        false => data_type,
    };
    OverCall {
        function: Some(Function::Aggregate(AggregateCall {
            function: function.to_owned(),
            args: arg.into_iter().collect(),
            distinct,
            filter: is_filtered.then_some(F),
            r#type: data_type.to_owned(),
            name: function.to_owned(),
        })),
        r#type: data_type.to_owned(),
        name: function.to_owned(),
    }
}

fn number(number: OverNumber) -> OverCall {
    OverCall {
        function: Some(Function::Number(number.into())),
        r#type: "BIGINT NOT NULL".to_owned(),
        name: number.as_str_name().to_owned(),
    }
}

fn lag(offset: u64, has_default: bool) -> OverCall {
    OverCall {
        function: Some(Function::Lag(Lag {
            column: V,
            offset,
            default: has_default.then_some(D),
        })),
        r#type: "INT".to_owned(),
        name: "lag".to_owned(),
    }
}

fn key(column: u32, descending: bool) -> SortKey {
    SortKey {
        column,
        descending,
        nulls_last: descending,
    }
}

fn spec(
    order: OverOrder,
    order_by: Vec<SortKey>,
    (range, preceding): (bool, Option<u64>),
    calls: Vec<OverCall>,
) -> plan::OverAggregate {
    plan::OverAggregate {
        partition_by: vec![0],
        order_by,
        order: order.into(),
        frame: Some(plan::OverFrame { range, preceding }),
        calls,
        emit_update_before: true,
    }
}

fn make(
    spec: &plan::OverAggregate,
    input: Changelog,
) -> impl Fn(&TaskScope) -> Result<Box<dyn Operator>, OperatorError> {
    let running =
        spec.order() != OverOrder::Kept && spec.frame.unwrap_or_default().preceding.is_none();
    let tables = if running { &TABLES[..] } else { &TABLES[..1] };
    move |scope| OverOperator::build(spec, &columns(), tables, &input, &StateTtl::NEVER, scope)
}

/// A partition's rows in order, as columns; rows of `all` by number.
struct Model<'a> {
    spec: &'a plan::OverAggregate,
    all: &'a RecordBatch,
    /// Rows of a partition in order.
    rows: Vec<u32>,
}

impl Model<'_> {
    fn time(&self, at: usize) -> i64 {
        let times = self.all.column(T as usize);
        times
            .as_primitive::<TimestampMillisecondType>()
            .value(self.rows[at] as usize)
    }

    fn is_peer(&self, a: usize, b: usize) -> bool {
        if self.spec.order() == OverOrder::ByArrival {
            return a == b;
        }
        let (a, b) = (self.rows[a], self.rows[b]);
        compare(self.spec, self.all, a, b) == Ordering::Equal
    }

    /// Places of the rows that one sees.
    fn frame(&self, at: usize) -> Vec<usize> {
        let frame = self.spec.frame.unwrap_or_default();
        let by_arrival = self.spec.order() == OverOrder::ByArrival;
        let sees = |other: usize| match (frame.range && !by_arrival, frame.preceding) {
            (false, None) => other <= at,
            (true, None) => other <= at || self.is_peer(other, at),
            (false, Some(rows)) => other <= at && (at - other) as u64 <= rows,
            (true, Some(0)) => self.is_peer(other, at),
            (true, Some(ms)) => {
                let is_before = other <= at || self.is_peer(other, at);
                is_before && self.time(other).abs_diff(self.time(at)) <= ms
            }
        };
        (0..self.rows.len()).filter(|other| sees(*other)).collect()
    }

    fn aggregates(&self, at: usize) -> Vec<ArrayRef> {
        let calls = self
            .spec
            .calls
            .iter()
            .filter_map(|call| match &call.function {
                Some(Function::Aggregate(call)) => Some(call.clone()),
                _ => None,
            });
        let calls: Vec<AggregateCall> = calls.collect();
        let plan = AggregatePlan::new(&calls, &columns(), Rowset::Appended).expect("a plan");
        let plan = Arc::new(plan);
        let tables = StateTables::new(&TABLES, &plan).expect("tables");
        let nothing = KeyEncoder::new(Vec::new(), Vec::new()).expect("no key");
        let scope = scope(Epoch::ZERO);
        let width = nothing.width();
        let mut store =
            AggregateStore::new(plan, tables, 0, width, &scope, false, None).expect("a store");
        let rows: UInt32Array = self
            .frame(at)
            .iter()
            .map(|at| Some(self.rows[*at]))
            .collect();
        let rows = ChangeBatch::inserts(self.all.clone())
            .take(&rows)
            .expect("rows")
            .rows;
        let mut slots = Vec::new();
        store
            .main
            .find_or_insert(&nothing.encode(&rows).expect("keys"), &mut slots);
        store.update(&rows, None, &slots).expect("it adds");
        store.results(&slots[..1]).expect("results")
    }

    fn results(&self, at: usize) -> Vec<ArrayRef> {
        let mut aggregates = self.aggregates(at).into_iter();
        let first = (0..=at)
            .find(|other| self.is_peer(*other, at))
            .expect("it is one");
        let begins = |at: &usize| *at == 0 || !self.is_peer(*at - 1, *at);
        let result = |call: &OverCall| match &call.function {
            Some(Function::Aggregate(_)) => aggregates.next().expect("one each"),
            Some(Function::Lag(lag)) => {
                let source = at
                    .checked_sub(lag.offset as usize)
                    .map(|at| (V, self.rows[at]));
                let source = source.or(lag.default.map(|default| (default, self.rows[at])));
                let (column, row) = source.map_or((V, None), |(c, row)| (c, Some(row)));
                take(
                    self.all.column(column as usize),
                    &UInt32Array::from(vec![row]),
                    None,
                )
                .expect("a row")
            }
            Some(Function::Number(number)) => {
                let number = match OverNumber::try_from(*number).expect("a number") {
                    OverNumber::RowNumber => at + 1,
                    OverNumber::Rank => first + 1,
                    _ => (0..=at).filter(begins).count(),
                };
                Arc::new(Int64Array::from(vec![number as i64]))
            }
            None => panic!("a call has no function"),
        };
        self.spec.calls.iter().map(result).collect()
    }
}

fn compare(spec: &plan::OverAggregate, all: &RecordBatch, a: u32, b: u32) -> Ordering {
    let ordering = |key: &SortKey| {
        let column = all.column(key.column as usize);
        let value = |row: u32| {
            let row = row as usize;
            let value = match key.column {
                T => column.as_primitive::<TimestampMillisecondType>().value(row),
                _ => i64::from(column.as_primitive::<Int32Type>().value(row)),
            };
            column.is_valid(row).then_some(value)
        };
        let ordering = value(a).cmp(&value(b));
        if key.descending {
            ordering.reverse()
        } else {
            ordering
        }
    };
    let orderings = spec.order_by.iter().map(ordering);
    orderings.fold(Ordering::Equal, Ordering::then)
}

/// All rows with their results, by definition. Rows that the order does not tell apart are as they are
/// given.
fn expected(spec: &plan::OverAggregate, all: &RecordBatch) -> RecordBatch {
    let partitions = all.column(0).as_primitive::<Int32Type>();
    let partition = |row: u32| {
        let row = row as usize;
        partitions.is_valid(row).then(|| partitions.value(row))
    };
    let count = all.num_rows() as u32;
    let mut by_row: Vec<(u32, Vec<ArrayRef>)> = Vec::new();
    let mut keys: Vec<Option<i32>> = (0..count).map(partition).collect();
    keys.sort_unstable();
    keys.dedup();
    for key in keys {
        let mut rows: Vec<u32> = (0..count).filter(|row| partition(*row) == key).collect();
        rows.sort_by(|a, b| compare(spec, all, *a, *b));
        let model = Model { spec, all, rows };
        let results = (0..model.rows.len()).map(|at| (model.rows[at], model.results(at)));
        by_row.extend(results);
    }
    let rows = UInt32Array::from_iter_values(by_row.iter().map(|(row, _)| *row));
    let mut fields = columns();
    let mut arrays: Vec<ArrayRef> = all
        .columns()
        .iter()
        .map(|column| take(column, &rows, None).expect("rows"))
        .collect();
    for (at, call) in spec.calls.iter().enumerate() {
        fields.push(Field::new(&call.name, call.r#type.parse().expect("a type")));
        let results: Vec<_> = by_row
            .iter()
            .map(|(_, results)| results[at].as_ref())
            .collect();
        arrays.push(concat(&results).expect("of one type"));
    }
    RecordBatch::try_new(arrow_schema(&fields), arrays).expect("a batch")
}

fn folded(batch: RecordBatch) -> Folded {
    Fold::Retract.fold(&[Element::Batch(ChangeBatch::inserts(batch))])
}

/// What a row is made of, but for its time and identity.
type Row = (i64, Option<i64>, Option<u8>, Option<i64>, Option<bool>);

fn row() -> impl Strategy<Value = Row> {
    (
        0..4_i64,
        prop::option::weighted(0.8, -3..6_i64),
        prop::option::weighted(0.8, 0..5_u8),
        prop::option::weighted(0.8, -8..8_i64),
        prop::option::weighted(0.9, any::<bool>()),
    )
}

fn line(row: &Row, time: i64, id: usize) -> String {
    let (p, v, s, x, f) = row;
    let or_null = |value: Option<String>| value.unwrap_or_else(|| "NULL".to_owned());
    let p = match p {
        3 => "NULL".to_owned(),
        p => p.to_string(),
    };
    let v = or_null(v.map(|v| v.to_string()));
    let s = or_null(s.map(|s| "abcde"[..=usize::from(s)].to_owned()));
    let x = or_null(x.map(|x| (x as f64 / 4.0).to_string()));
    let f = or_null(f.map(|f| f.to_string()));
    format!("{p}, {time}, {v}, {s}, {x}, {f}, {}, {id}", id % 5)
}

fn all_rows(lines: &[String]) -> RecordBatch {
    rows(&columns(), &lines.join("\n")).rows
}

/// Calls that fit a frame of rows in order.
fn calls(picks: &[(usize, bool)], frame: (bool, Option<u64>), ordered: bool) -> Vec<OverCall> {
    let aggregates = AGGREGATES.len() + if ordered { ORDERED.len() } else { 0 };
    let mut calls = Vec::new();
    for (pick, flag) in picks {
        let numbers = [
            OverNumber::RowNumber,
            OverNumber::Rank,
            OverNumber::DenseRank,
        ];
        calls.push(match frame {
            (_, None) if pick % 5 == 0 => number(numbers[pick / 5 % 3]),
            (false, Some(_)) if pick % 5 == 0 => lag((pick / 5 % 6) as u64, *flag),
            _ => aggregate(pick % aggregates, *flag),
        });
    }
    calls
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    /// Rows in the order of time, and those in the order in which they come.
    #[test]
    fn rows_in_order_see_what_their_frames_say(
        steps in prop::collection::vec((row(), 0..5_i64, any::<(bool, bool)>()), 1..50),
        picks in prop::collection::vec((0..1_000_usize, any::<bool>()), 1..6),
        frame in (any::<bool>(), prop::option::weighted(0.7, 0..7_u64)),
        by_arrival in any::<bool>(),
        then_by in any::<bool>(),
    ) {
        let frame = match by_arrival {
            // A range of the clock is another matter.
            true => (false, frame.1),
            false => frame,
        };
        let by_range = frame.0 && frame.1.is_some_and(|ms| ms > 0);
        let (order, order_by) = match (by_arrival, then_by && !by_range) {
            (true, _) => (OverOrder::ByArrival, Vec::new()),
            (false, false) => (OverOrder::InOrder, vec![key(T, false)]),
            (false, true) => (OverOrder::InOrder, vec![key(T, false), key(V, true)]),
        };
        let spec = spec(order, order_by, frame, calls(&picks, frame, true));
        let mut lines: Vec<String> = Vec::new();
        let (mut time, mut cuts) = (0, Vec::new());
        for (id, (row, step, (cut, barrier))) in steps.iter().enumerate() {
            if *cut && (*step > 0 || by_arrival) {
                cuts.push((lines.len(), *barrier, time));
            }
            time += step;
            lines.push(line(row, time, id));
        }
        cuts.push((lines.len(), true, time));
        let all = all_rows(&lines);
        // A sort puts rows of one time in the order of the other keys.
        let mut places: Vec<u32> = (0..all.num_rows() as u32).collect();
        places.sort_by(|a, b| compare(&spec, &all, *a, *b));
        let all = ChangeBatch::inserts(all).take(&UInt32Array::from(places)).expect("rows");
        let mut events = Vec::new();
        let mut start = 0;
        for (end, barrier, time) in cuts {
            events.push(Event::Batch(0, all.slice(start, end - start)));
            start = end;
            events.push(Event::Watermark(time));
            if barrier {
                events.push(Event::Barrier);
            }
        }
        let out = crash_at_each_barrier(&make(&spec, Changelog::APPEND), &events, &Fold::Retract);
        prop_assert_eq!(out, folded(expected(&spec, &all.rows)));
    }

    /// Rows in any order, and rows that are taken back.
    #[test]
    fn rows_that_are_kept_see_what_their_frames_say(
        steps in prop::collection::vec(
            (row(), 0..12_i64, prop::bool::weighted(0.4), any::<(bool, bool)>()),
            1..50,
        ),
        picks in prop::collection::vec((0..1_000_usize, any::<bool>()), 1..6),
        frame in (any::<bool>(), prop::option::weighted(0.7, 0..7_u64)),
        (updating, descending, by_time) in any::<(bool, bool, bool)>(),
    ) {
        let by_range = frame.0 && frame.1.is_some_and(|ms| ms > 0);
        let first = if by_time || by_range { T } else { V };
        let mut order_by = vec![key(first, descending)];
        if !frame.0 && updating {
            // Rows that come and go are in no order but this one.
            order_by.extend([key(ID, false)]);
        }
        // Of equal rows that are taken back it is not known which one.
        let calls = calls(&picks, frame, !updating || !frame.0);
        let is_ordered = |call: &OverCall| matches!(call.function, Some(Function::Lag(_)));
        let numbered = calls.iter().any(|call| matches!(call.function, Some(Function::Number(_))));
        if updating && numbered || calls.iter().any(is_ordered) {
            order_by.truncate(1);
            order_by.push(key(ID, false));
        }
        if by_range {
            order_by.truncate(1);
        }
        let spec = spec(OverOrder::Kept, order_by, frame, calls);
        let mut live: Vec<String> = Vec::new();
        let (mut events, mut changes) = (Vec::new(), Vec::new());
        for (id, (row, time, goes, (cut, barrier))) in steps.iter().enumerate() {
            if updating && *goes && !live.is_empty() {
                let gone = live.swap_remove(*time as usize % live.len());
                changes.push(format!("-D {gone}"));
            } else {
                let line = line(row, *time, id);
                changes.push(format!("+I {line}"));
                live.push(line);
            }
            if *cut {
                events.push(insert(0, &columns(), &changes.join("\n")));
                changes.clear();
                if *barrier {
                    events.push(Event::Barrier);
                }
            }
        }
        events.push(insert(0, &columns(), &changes.join("\n")));
        let input = if updating { Changelog::RETRACT } else { Changelog::APPEND };
        let expected = match live.is_empty() {
            true => Folded::new(),
            false => folded(expected(&spec, &all_rows(&live))),
        };
        let out = crash_at_each_barrier(&make(&spec, input), &events, &Fold::Retract);
        prop_assert_eq!(&out, &expected);
        // By key, old rows of updates need not be told.
        let spec = plan::OverAggregate { emit_update_before: false, ..spec };
        let fold = Fold::Upsert(vec![ID as usize]);
        let out = crash_at_each_barrier(&make(&spec, input), &events, &fold);
        prop_assert_eq!(out, expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    /// Rows of which there are copies: each is a row of its own.
    #[test]
    fn copies_of_a_row_count_as_rows(
        steps in prop::collection::vec(
            (0..2_i64, 0..3_i64, 0..3_i64, prop::bool::weighted(0.4), any::<(bool, bool)>()),
            1..40,
        ),
        frame in (any::<bool>(), prop::option::weighted(0.6, 0..4_u64)),
    ) {
        let numbers = [OverNumber::RowNumber, OverNumber::Rank, OverNumber::DenseRank];
        let mut calls = vec![aggregate(2, false), aggregate(12, false), lag(1, true)];
        calls.extend(numbers.map(number));
        let order_by = match frame {
            (true, Some(1..)) => vec![key(T, true)],
            _ => vec![key(V, false), key(T, true)],
        };
        if order_by.len() == 1 {
            // Only the number of peers is known, not who is the first of them.
            calls.truncate(2);
        }
        let spec = spec(OverOrder::Kept, order_by, frame, calls);
        let (mut live, mut changes) = (Vec::<String>::new(), Vec::new());
        let mut events = Vec::new();
        for (p, v, t, goes, (cut, barrier)) in steps {
            if goes && !live.is_empty() {
                let gone = live.swap_remove((p * 7 + v * 3 + t) as usize % live.len());
                changes.push(format!("-D {gone}"));
            } else {
                let line = format!("{p}, {t}, {v}, a, NULL, true, 7, 0");
                changes.push(format!("+I {line}"));
                live.push(line);
            }
            if cut {
                events.push(insert(0, &columns(), &changes.join("\n")));
                changes.clear();
                if barrier {
                    events.push(Event::Barrier);
                }
            }
        }
        events.push(insert(0, &columns(), &changes.join("\n")));
        let expected = match live.is_empty() {
            true => Folded::new(),
            false => folded(expected(&spec, &all_rows(&live))),
        };
        let make = make(&spec, Changelog::RETRACT);
        prop_assert_eq!(crash_at_each_barrier(&make, &events, &Fold::Retract), expected);
    }
}

#[test]
fn only_what_differs_is_told() {
    let calls = vec![aggregate(2, false)];
    let by_id = vec![key(ID, false)];
    let spec = spec(OverOrder::Kept, by_id, (false, Some(1)), calls);
    let batches = [
        "1, 0, 1, a, 0, true, 0, 10\n1, 0, 2, a, 0, true, 0, 20\n1, 0, 4, a, 0, true, 0, 40",
        // The row behind it sees it, the next one does not.
        "1, 0, 5, a, 0, true, 0, 15",
        // Nothing that anybody sees.
        "1, 0, NULL, a, 0, true, 0, 50\n-D 1, 0, 4, a, 0, true, 0, 40",
        "-D 1, 0, 5, a, 0, true, 0, 15\n+I 1, 0, 5, a, 0, true, 0, 15",
        "-D 1, 0, 1, a, 0, true, 0, 10",
    ];
    let events: Vec<Event> = batches
        .iter()
        .map(|text| insert(0, &columns(), text))
        .collect();
    let text = changelog(&drive(&make(&spec, Changelog::RETRACT), &events));
    let short: Vec<String> = text
        .lines()
        .map(|line| {
            let values: Vec<&str> = line.split(", ").collect();
            format!("{} {} {}", &line[..2], values[7], values[8])
        })
        .collect();
    let expected = [
        "+I 10 1", "+I 20 3", "+I 40 6", "-U 20 3", "+U 20 7", "+I 15 6", "-D 40 6", "+I 50 2",
        "-D 10 1", "-U 15 6", "+U 15 5",
    ];
    assert_eq!(short, expected);
}

/// Rows of a batch, by their partition, time, number and identity.
fn some(lines: &[(i64, i64, i64)]) -> Event {
    let lines = lines
        .iter()
        .map(|(p, t, v)| format!("{p}, {t}, {v}, a, {v}.5, true, 0, {v}"));
    insert(0, &columns(), &lines.collect::<Vec<_>>().join("\n"))
}

#[test]
fn what_leaves_a_frame_leaves_the_state() {
    let by_time = || vec![key(T, false)];
    let sums = || {
        vec![
            aggregate(2, false),
            aggregate(3, false),
            aggregate(12, false),
        ]
    };
    let mut events: Vec<Event> = Vec::new();
    for time in 0..40 {
        events.push(some(&[
            (time % 3, time * 10, time),
            (7, time * 10 + 1, -time),
        ]));
        events.push(Event::Watermark(time * 10 + 1));
        events.extend((time % 4 == 0).then_some(Event::Barrier));
    }
    events.push(Event::Barrier);
    let stored = |frame: (bool, Option<u64>), events: &[Event], crashes: bool| {
        let spec = spec(OverOrder::InOrder, by_time(), frame, sums());
        let make = make(&spec, Changelog::APPEND);
        let (rows, size) = left_behind(&make, events, 3, |_| crashes, &TABLES[..1]);
        assert!(size.rows <= rows.len() as u64, "{size:?}");
        rows.len()
    };
    for crashes in [false, true] {
        assert_eq!(stored((false, Some(0)), &events, crashes), 0);
        assert_eq!(stored((false, Some(3)), &events, crashes), 4 * 3);
        assert_eq!(stored((true, Some(0)), &events, crashes), 0);
        // Of the last 50 ms: those of the partition that has one row every 10 ms, and two of each other.
        assert_eq!(stored((true, Some(50)), &events, crashes), 6 + 3 * 2);
        // Once time has passed a partition by, nobody needs to come for it to go.
        let later = [
            Event::Watermark(10_000),
            Event::Passes(60_000),
            Event::Barrier,
        ];
        let later = [&events[..], &later].concat();
        assert_eq!(stored((true, Some(50)), &later, crashes), 0);
        assert_eq!(stored((false, Some(3)), &later, crashes), 4 * 3);
    }
}

#[test]
fn floats_that_leave_a_frame_leave_no_trace() {
    let spec = spec(
        OverOrder::InOrder,
        vec![key(T, false)],
        (false, Some(1)),
        vec![aggregate(3, false), aggregate(5, false)],
    );
    let values = [
        "1e300", "0.1", "0.2", "NULL", "Infinity", "NaN", "0.3", "-0.25",
    ];
    let lines = values.iter().enumerate();
    let lines = lines.map(|(t, x)| format!("1, {t}, 0, a, {x}, true, 0, {t}"));
    let lines: Vec<String> = lines.collect();
    let events: Vec<Event> = lines
        .iter()
        .map(|line| insert(0, &columns(), line))
        .collect();
    let text = changelog(&drive(&make(&spec, Changelog::APPEND), &events));
    let results: Vec<String> = text
        .lines()
        .map(|line| line.split(", ").skip(8).collect::<Vec<_>>().join(", "))
        .collect();
    let sums = [
        "1e300, 1e300",
        "1e300, 5e299",
        "0.30000000000000004, 0.15000000000000002",
        "0.2, 0.2",
        "inf, inf",
        "NaN, NaN",
        "NaN, NaN",
        "0.04999999999999999, 0.024999999999999994",
    ];
    assert_eq!(results, sums);
}

#[test]
fn by_the_clock_a_row_sees_those_of_the_last_while() {
    let calls = vec![aggregate(0, false)];
    let spec = spec(OverOrder::ByArrival, Vec::new(), (true, Some(1_000)), calls);
    let make = make(&spec, Changelog::APPEND);
    let events = [
        some(&[(1, 0, 1), (1, 0, 2), (2, 0, 3)]),
        Event::Passes(1_000),
        some(&[(1, 0, 4)]),
        Event::Passes(500),
        some(&[(1, 0, 5), (2, 0, 6)]),
        Event::Barrier,
        Event::Passes(90_000),
        Event::Barrier,
    ];
    let text = changelog(&drive(&make, &events));
    let counts: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split(", ").nth(8))
        .collect();
    assert_eq!(counts, ["1", "2", "1", "3", "2", "1"]);
    let (rows, size) = left_behind(&make, &events, 1, |_| true, &TABLES[..1]);
    assert_eq!((rows.len(), size.rows), (0, 0));
}

#[test]
fn results_come_out_in_batches_of_their_size() {
    let by_id = vec![key(ID, false)];
    let calls = vec![number(OverNumber::RowNumber)];
    let spec = spec(OverOrder::Kept, by_id, (false, None), calls);
    let many: Vec<(i64, i64, i64)> = (1..40).map(|v| (1, 0, v)).collect();
    let events = [some(&many), some(&[(1, 0, 0)])];
    let (output, _) = drive_with_seed(&make(&spec, Changelog::APPEND), &events, 1, |_| false);
    let sizes = output.iter().map(|element| match element {
        Element::Batch(batch) => batch.num_rows(),
        _ => 0,
    });
    let sizes: Vec<usize> = sizes.collect();
    assert_eq!(sizes.iter().sum::<usize>(), 39 + 39 * 2 + 1);
    assert!(sizes.iter().all(|rows| (1..=7).contains(rows)), "{sizes:?}");
}

#[test]
fn plans_that_do_not_fit_are_refused() {
    let by_time = || vec![key(T, false)];
    let row_number = || vec![number(OverNumber::RowNumber)];
    let in_order = |frame: (bool, Option<u64>), calls: Vec<OverCall>| {
        spec(OverOrder::InOrder, by_time(), frame, calls)
    };
    let refused = [
        (
            in_order((false, None), vec![lag(1, false)]),
            Changelog::APPEND,
        ),
        (in_order((false, Some(1)), row_number()), Changelog::APPEND),
        (
            in_order((true, Some(1)), vec![lag(1, false)]),
            Changelog::APPEND,
        ),
        (in_order((false, None), row_number()), Changelog::RETRACT),
        (
            spec(
                OverOrder::Unspecified,
                by_time(),
                (false, None),
                row_number(),
            ),
            Changelog::APPEND,
        ),
        (
            spec(
                OverOrder::Kept,
                vec![key(V, false)],
                (true, Some(1)),
                vec![aggregate(2, false)],
            ),
            Changelog::APPEND,
        ),
    ];
    for (spec, input) in refused {
        let built = make(&spec, input)(&scope(Epoch::ZERO));
        assert!(matches!(built, Err(OperatorError::Plan(_))), "{spec:?}");
    }
}

#[test]
fn a_range_is_exact_below_the_millisecond() {
    let columns = fields(&[("p", "INT"), ("t", "TIMESTAMP(6)"), ("v", "INT")]);
    let calls = vec![aggregate(0, false)];
    let spec = spec(OverOrder::Kept, vec![key(T, false)], (true, Some(1)), calls);
    let make = |scope: &TaskScope| {
        let never = StateTtl::NEVER;
        OverOperator::build(
            &spec,
            &columns,
            &TABLES[..1],
            &Changelog::APPEND,
            &never,
            scope,
        )
    };
    let events = [insert(
        0,
        &columns,
        "1, -1, 1\n1, 0, 2\n1, 1000, 3\n1, 1001, 4\n1, NULL, 5",
    )];
    let text = changelog(&drive(&make, &events));
    let counts: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split(", ").nth(3))
        .collect();
    assert_eq!(counts, ["1", "1", "2", "2", "2"]);
}

#[test]
fn partitions_are_read_back_in_the_background() {
    let by_time = || vec![key(T, false)];
    let calls = || vec![aggregate(2, false), aggregate(12, false)];
    let specs = [
        spec(OverOrder::InOrder, by_time(), (true, None), calls()),
        spec(OverOrder::InOrder, by_time(), (false, Some(2)), calls()),
        spec(OverOrder::InOrder, by_time(), (true, Some(1_000)), calls()),
        spec(OverOrder::Kept, by_time(), (false, Some(2)), calls()),
    ];
    // Of the partitions of the second half, half are new.
    let first: Vec<Event> = (0..300).map(|p| some(&[(p, 1, p), (p, 2, p)])).collect();
    let second = (150..450).map(|p| some(&[(p, 3, p)]));
    let all: Vec<Event> = first.iter().cloned().chain(second).collect();
    for spec in specs {
        let make = make(&spec, Changelog::APPEND);
        let counters = after_a_minute_of_rest(&make, &all, first.len());
        assert_eq!(counters.state_misses, 0, "{spec:?}: {counters:?}");
    }
}
