//! The filter against the join that it is below: what ties with a window's greatest (or least) value
//! comes through, whatever windows, order of rows and crashes.

use std::collections::{BTreeMap, BTreeSet};

use engine::{
    Timestamp,
    operator::{Operator, OperatorError, TaskScope},
};
use proptest::prelude::*;
use proto::{
    plan::{TieFilter, WindowKind, WindowSpec},
    types::{Epoch, Field},
};

use super::{Slices, tie_filter::TieFilterOperator};
use crate::testing::{
    Event, Fold, Folded, changelog, drive, drive_with_seed, fields, insert, scope,
};

fn columns() -> Vec<Field> {
    fields(&[("v", "INT"), ("t", "TIMESTAMP(3)")])
}

/// With a number for each row.
fn numbered() -> Vec<Field> {
    fields(&[("v", "INT"), ("t", "TIMESTAMP(3)"), ("id", "INT")])
}

fn spec(window: WindowSpec, (end_from_ms, end_to_ms): (i64, i64), least: bool) -> TieFilter {
    TieFilter {
        value: 0,
        window: Some(window),
        end_from_ms,
        end_to_ms,
        least,
    }
}

fn window(kind: WindowKind, size_ms: u64, step_ms: u64, offset_ms: i64) -> WindowSpec {
    WindowSpec {
        kind: kind.into(),
        time_column: 1,
        size_ms,
        step_ms,
        offset_ms,
        ..WindowSpec::default()
    }
}

fn make(spec: &TieFilter) -> impl Fn(&TaskScope) -> Result<Box<dyn Operator>, OperatorError> {
    move |_| TieFilterOperator::build(spec, &columns())
}

type Row = (Option<i64>, i64);

fn line(((value, time), id): (&Row, usize)) -> String {
    let value = value.map_or_else(|| "NULL".to_owned(), |value| value.to_string());
    format!("{value}, {time}, {id}")
}

/// What the windows of all rows that are not late reach.
#[derive(Default)]
struct Windows {
    best: BTreeMap<i64, i64>,
}

impl Windows {
    fn count(&mut self, slices: &Slices, (value, time): Row, watermark: Timestamp, least: bool) {
        let Some(value) = value else { return };
        let slice = slices.of_time(time);
        let mut next = slices.next_window(slice, i64::MIN);
        while let Some(end) = next {
            if end - 1 > watermark {
                let best = self.best.entry(end).or_insert(value);
                *best = match least {
                    true => value.min(*best),
                    false => value.max(*best),
                };
            }
            next = slices.next_window(slice, end);
        }
    }

    fn ties(&self, (value, time): Row, (from, to): (i64, i64)) -> bool {
        let mut ends = self.best.range(time + from..=time + to);
        ends.any(|(_, best)| value == Some(*best))
    }
}

fn windows() -> impl Strategy<Value = WindowSpec> {
    use WindowKind::{Cumulate, Hop, Tumble};
    let shapes = vec![
        (Tumble, 10, 0),
        (Hop, 10, 5),
        (Hop, 10, 4),
        (Hop, 5, 10),
        (Cumulate, 15, 5),
    ];
    let offset = -3..3_i64;
    (prop::sample::select(shapes), offset)
        .prop_map(|((kind, size, step), offset)| window(kind, size, step, offset))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn what_ties_comes_through(
        window in windows(),
        (from, length) in (-12..12_i64, 0..24_i64),
        least in any::<bool>(),
        steps in prop::collection::vec(
            (prop::collection::vec((prop::option::weighted(0.9, 0..6_i64), -8..25_i64), 1..9), 0..4_u8),
            1..20,
        ),
    ) {
        let slices = Slices::of_window(&window).expect("windows");
        let ends = (from, from + length);
        let (mut all, mut known): (Vec<Row>, _) = (Vec::new(), Windows::default());
        let (mut events, mut watermark) = (Vec::new(), 0);
        for (rows, then) in steps {
            // Some are late.
            let rows: Vec<Row> = rows.iter().map(|(v, ahead)| (*v, watermark + ahead)).collect();
            rows.iter().for_each(|row| known.count(&slices, *row, watermark, least));
            let lines = rows.iter().zip(all.len()..).map(line).collect::<Vec<_>>();
            events.push(insert(0, &numbered(), &lines.join("\n")));
            all.extend(rows);
            match then {
                0 => events.push(Event::Barrier),
                1 => {
                    watermark += 7;
                    events.push(Event::Watermark(watermark));
                }
                _ => {}
            }
        }
        let spec = spec(window, ends, least);
        let id = |row: &str| row.rsplit(", ").next().and_then(|id| id.parse::<usize>().ok());
        let checks: [(&str, &dyn Fn(Epoch) -> bool); 2] =
            [("no crash", &|_| false), ("crashes", &|epoch| epoch.0.is_multiple_of(2))];
        for (how, crashes) in checks {
            let (out, _) = drive_with_seed(&make(&spec), &events, 3, crashes);
            let folded = Fold::Retract.fold(&out);
            let through: BTreeSet<usize> = folded.keys().filter_map(|row| id(row)).collect();
            for (at, row) in all.iter().enumerate().filter(|(_, row)| known.ties(**row, ends)) {
                prop_assert!(through.contains(&at), "{row:?} of {all:?}, {spec:?}, {how}");
            }
        }
    }
}

/// `v @ t`, in order.
fn kept(spec: &TieFilter, events: &[Event]) -> String {
    changelog(&drive(&make(spec), events))
        .replace("1970-01-01T00:00:00.", "")
        .replace("1970-01-01T00:00:00", "000")
}

#[test]
fn rows_below_what_their_windows_have_reached_are_left_out() {
    // Nexmark's q7: windows of a row end at its time at the earliest, and a window's length after it.
    let spec = spec(window(WindowKind::Tumble, 10, 0, 0), (0, 10), false);
    let events = [
        // Before there is a watermark nothing is known.
        insert(0, &columns(), "9, 1\n3, 2"),
        Event::Watermark(0),
        insert(0, &columns(), "5, 3\n4, 4\n5, 5\n6, 5\n2, 12"),
        // At the end of a window: of either.
        insert(0, &columns(), "NULL, 6\n6, 10\n5, 10\n2, 10\n6, 20\n5, 21"),
        Event::Watermark(10),
        // Late for the first window; the second one has reached 6.
        insert(0, &columns(), "8, 9\n1, 9\n5, 15\n6, 15"),
    ];
    let expected = "\
+I 9, 001
+I 3, 002
watermark 0
+I 6, 005
+I 2, 012
+I 6, 010
+I 6, 020
watermark 10
+I 8, 009
+I 1, 009
+I 6, 015
";
    assert_eq!(kept(&spec, &events), expected);
}

#[test]
fn the_least_value_is_what_is_to_be_reached_where_it_counts() {
    let spec = spec(window(WindowKind::Tumble, 10, 0, 0), (1, 10), true);
    let events = [
        Event::Watermark(0),
        insert(0, &columns(), "5, 3\n-4, 4\n-5, 5\n-4, 5\n2, 12\n3, 13"),
    ];
    let expected = "watermark 0\n+I -5, 005\n+I 2, 012\n";
    assert_eq!(kept(&spec, &events), expected);
}

#[test]
fn what_may_be_late_elsewhere_raises_nothing() {
    let spec = spec(window(WindowKind::Tumble, 10, 0, 0), (0, 10), false);
    let scope = scope(Epoch::ZERO);
    let mut operator = make(&spec)(&scope).expect("an operator");
    operator.idle();
    // It is put behind what is driven: an operator that has been idle lets all rows through.
    let cell = std::cell::RefCell::new(Some(operator));
    let make = |_: &TaskScope| Ok(cell.borrow_mut().take().expect("made once"));
    let events = [Event::Watermark(0), insert(0, &columns(), "5, 3\n4, 4")];
    let folded: Folded = Fold::Retract.fold(&drive(&make, &events));
    assert_eq!(folded.len(), 2);
}

#[test]
fn rows_at_the_ends_of_time_hold_nothing_up() {
    use WindowKind::{Cumulate, Hop, Tumble};
    for (kind, size, step) in [(Tumble, 10, 0), (Hop, 10, 4), (Cumulate, 15, 5)] {
        for (from, to) in [(0, 15), (-15, 0), (-3, 3)] {
            let spec = spec(window(kind, size, step, 1), (from, to), false);
            let times = (0..40).flat_map(|i| [i64::MAX - i, i64::MIN + 1 + i]);
            let lines: Vec<String> = times.map(|time| format!("5, {time}\n4, {time}")).collect();
            let events = [
                Event::Watermark(0),
                insert(0, &columns(), &lines.join("\n")),
                insert(0, &columns(), "5, 3\n4, 4"),
            ];
            let batches = crate::testing::batches(&drive(&make(&spec), &events));
            let rows: usize = batches.iter().map(engine::ChangeBatch::num_rows).sum();
            assert!(rows > 0, "{spec:?}");
        }
    }
}

#[test]
fn values_that_are_no_numbers_are_refused() {
    let spec = spec(window(WindowKind::Tumble, 10, 0, 0), (0, 10), false);
    let columns = fields(&[("v", "STRING"), ("t", "TIMESTAMP(3)")]);
    let error = TieFilterOperator::build(&spec, &columns).err();
    let text = error.map(|error| error.to_string()).unwrap_or_default();
    assert!(text.contains("a tie filter over values of type"), "{text}");
}
