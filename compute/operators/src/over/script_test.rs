//! OVER by scripts: what is put out, what stays in the state, what is refused.

use engine::{
    Element,
    operator::{OperatorError, TaskScope},
    state::StateTtl,
};
use proto::{
    plan::{Changelog, OverCall, OverNumber, OverOrder},
    types::Epoch,
};

use super::{
    OverOperator,
    testing::{ID, T, TABLES, V, aggregate, columns, key, lag, make, number, spec},
};
use crate::testing::{
    Event, after_a_minute_of_rest, changelog, drive, drive_with_seed, fields, insert, left_behind,
    scope,
};

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
