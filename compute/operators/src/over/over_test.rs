//! OVER against its definition: for each row, the rows that it sees, aggregated by what GROUP BY is
//! computed with. With crashes, moves of key groups, and rows that are not in memory.

use std::{cmp::Ordering, sync::Arc};

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, Int64Array, RecordBatch, UInt32Array},
    compute::{concat, take},
    datatypes::{Int32Type, TimestampMillisecondType},
};
use engine::{ChangeBatch, Element, key::KeyEncoder, schema::arrow_schema};
use proptest::prelude::*;
use proto::{
    plan::{
        self, AggregateCall, Changelog, OverCall, OverNumber, OverOrder, SortKey,
        over_call::Function,
    },
    types::{Epoch, Field},
};

use super::testing::{
    AGGREGATES, ID, ORDERED, T, TABLES, V, aggregate, columns, key, lag, make, number, spec,
};
use crate::{
    aggregate::{AggregatePlan, AggregateStore, Rowset, StateTables},
    testing::{Event, Fold, Folded, crash_at_each_barrier, insert, rows, scope},
};

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
