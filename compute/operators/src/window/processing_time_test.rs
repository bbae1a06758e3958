//! Windows over processing time: the clock is turned by hand.

use std::collections::BTreeMap;

use engine::operator::{Operator, OperatorError, TaskScope};
use expect_test::expect;
use proptest::prelude::*;
use proto::plan::{WindowKind, WindowSpec, window_aggregate::Windowing};

use super::{
    session_test::{session, session_model},
    window_test::{Row, aggregate, calls, in_ms, input, line, maker, model, short, window},
};
use crate::testing::{Event, Fold, changelog, crash_at_each_barrier, drive, insert};

fn by_clock(spec: WindowSpec) -> impl Fn(&TaskScope) -> Result<Box<dyn Operator>, OperatorError> {
    let spec = WindowSpec {
        processing_time: true,
        ..spec
    };
    maker(aggregate(Windowing::Window(spec), calls()), input(), true)
}

#[test]
fn windows_fire_when_the_clock_has_passed_them() {
    let make = by_clock(window(WindowKind::Tumble, 2, 10, 0, 0));
    let events = [
        // What rows say about time does not matter, nor do watermarks.
        insert(0, &input(), "a, 1, 500\na, 2, -7"),
        Event::Watermark(100),
        Event::Passes(9),
        insert(0, &input(), "b, 7, 0"),
        Event::Passes(1),
        Event::Barrier,
        insert(0, &input(), "a, 5, 0"),
        Event::Passes(25),
        insert(0, &input(), "a, 6, 0"),
        Event::Watermark(i64::MAX),
        Event::End,
    ];
    expect![[r#"
        watermark 100
        +I a, 2, 3, 2, 2, 0, 0.010
        +I b, 1, 7, 7, 1, 0, 0.010
        barrier 1
        +I a, 1, 5, 5, 1, 0.010, 0.020
        watermark 9223372036854775807
        +I a, 1, 6, 6, 1, 0.030, 0.040
        end
    "#]]
    .assert_eq(&short(&changelog(&drive(&make, &events))));
    let _ = crash_at_each_barrier(&make, &events, &Fold::Retract);
}

/// What is saved is how far windows have fired, not what time it was.
#[test]
fn a_window_fires_on_a_slower_clock_and_none_gets_rows_after_it_has_fired() {
    let make = by_clock(window(WindowKind::Tumble, 2, 10, 0, 0));
    let events = [
        insert(0, &input(), "a, 1, 0"),
        Event::Passes(12),
        insert(0, &input(), "a, 2, 0"),
        Event::Passes(3),
        Event::Barrier,
        // The clock is at 5: the window of 10 to 20 has rows and has not fired, the one before has.
        Event::Moves(10),
        insert(0, &input(), "a, 4, 0\nb, 4, 0"),
        Event::Passes(14),
        insert(0, &input(), "b, 1, 0"),
        Event::Passes(1),
        insert(0, &input(), "b, 2, 0"),
        Event::Passes(100),
        Event::End,
    ];
    expect![[r#"
        +I a, 1, 1, 1, 1, 0, 0.010
        barrier 1
        +I a, 2, 6, 4, 2, 0.010, 0.020
        +I b, 2, 5, 4, 2, 0.010, 0.020
        +I b, 1, 2, 2, 1, 0.020, 0.030
        end
    "#]]
    .assert_eq(&short(&changelog(&drive(&make, &events))));
}

/// Rows that come by and by, and the same rows with the times at which they come.
fn arrivals(steps: &[(i64, i64, u64, bool)]) -> (Vec<Event>, Vec<Row>) {
    let (mut events, mut rows, mut now) = (Vec::new(), Vec::new(), 0);
    for (key, value, wait, barrier) in steps {
        events.push(Event::Passes(wait * 2));
        now += (wait * 2) as i64;
        rows.push((*key, *value, now));
        events.push(insert(0, &input(), &line("+I", &(*key, *value, 0))));
        if *barrier {
            events.push(Event::Barrier);
        }
    }
    events.extend([Event::Barrier, Event::End]);
    (events, rows)
}

fn folded(spec: WindowSpec, events: &[Event]) -> BTreeMap<String, i64> {
    in_ms(crash_at_each_barrier(
        &by_clock(spec),
        events,
        &Fold::Retract,
    ))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_row_is_in_the_windows_of_its_arrival(
        steps in prop::collection::vec((0..3_i64, 0..5_i64, 0..5_u64, any::<bool>()), 1..12),
        step in 1..4_i64,
        count in 1..4_i64,
        kind in prop_oneof![Just(WindowKind::Tumble), Just(WindowKind::Hop), Just(WindowKind::Cumulate)],
    ) {
        let (events, rows) = arrivals(&steps);
        let (step, size) = (step * 2, step * count * 2);
        let spec = window(kind, 2, size as u64, step as u64, 0);
        prop_assert_eq!(folded(spec, &events), model(&rows, kind, size, step, 0));
    }

    #[test]
    fn sessions_end_a_gap_after_their_last_row_came(
        steps in prop::collection::vec((0..3_i64, 0..5_i64, 0..5_u64, any::<bool>()), 1..12),
        gap in 0..4_i64,
    ) {
        let (events, rows) = arrivals(&steps);
        // Never just when a row comes.
        let gap = gap * 2 + 1;
        prop_assert_eq!(folded(session(gap as u64), &events), session_model(&rows, gap));
    }
}
