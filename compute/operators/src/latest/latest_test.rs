//! Deduplication and normalisation: what comes out, and that random input amounts to what a map
//! per key says, crashes included.

use std::collections::BTreeMap;

use engine::{
    operator::{Operator, OperatorError, TaskScope},
    state::StateTtl,
};
use proptest::prelude::*;
use proto::{
    plan,
    types::{Field, TableId},
};

use super::{ChangelogNormalizeOperator, DeduplicateOperator};
use crate::testing::{
    Event, Fold, Folded, changelog, crash_at_each_barrier, drive, fields, insert, left_behind,
};

fn columns() -> Vec<Field> {
    fields(&[("k", "STRING"), ("v", "INT"), ("t", "TIMESTAMP(3)")])
}

fn deduplicate(keep_last: bool, by_time: bool, before: bool) -> plan::Deduplicate {
    plan::Deduplicate {
        keys: vec![0],
        time_column: by_time.then_some(2),
        keep_last,
        window: None,
        emit_update_before: before,
    }
}

fn make_deduplicate(
    spec: &plan::Deduplicate,
) -> impl Fn(&TaskScope) -> Result<Box<dyn Operator>, OperatorError> {
    move |scope| {
        DeduplicateOperator::build(spec, &columns(), &[TableId(1)], &StateTtl::NEVER, scope)
    }
}

fn make_normalize(before: bool) -> impl Fn(&TaskScope) -> Result<Box<dyn Operator>, OperatorError> {
    move |scope| {
        let spec = plan::ChangelogNormalize {
            keys: vec![0],
            emit_update_before: before,
        };
        ChangelogNormalizeOperator::build(&spec, &columns(), &[TableId(1)], &StateTtl::NEVER, scope)
    }
}

fn check(make: &crate::testing::MakeOperator<'_>, batches: &[&str], expected: &str) {
    let events: Vec<Event> = batches
        .iter()
        .map(|text| insert(0, &columns(), text))
        .collect();
    let text = changelog(&drive(make, &events)).replace("1970-01-01T00:00:00.", "");
    assert_eq!(text, expected);
}

#[test]
fn the_first_row_by_arrival_stays() {
    check(
        &make_deduplicate(&deduplicate(false, false, true)),
        &["a, 1, 9\nb, 2, 9\na, 3, 1", "b, 4, 1\nc, 5, 1"],
        "+I a, 1, 009\n+I b, 2, 009\n+I c, 5, 001\n",
    );
}

#[test]
fn the_last_row_by_time_replaces_older_ones_once_per_batch() {
    check(
        &make_deduplicate(&deduplicate(true, true, true)),
        &["a, 1, 5\na, 2, 6\nb, 3, 5", "a, 4, 4\nb, 5, 5\nb, 6, 7"],
        "+I a, 2, 006\n+I b, 3, 005\n-U b, 3, 005\n+U b, 6, 007\n",
    );
}

#[test]
fn the_first_row_by_time_gives_way_to_an_earlier_one() {
    check(
        &make_deduplicate(&deduplicate(false, true, false)),
        &["a, 1, 5", "a, 2, 5\na, 3, 4"],
        "+I a, 1, 005\n+U a, 3, 004\n",
    );
}

#[test]
fn upserts_become_updates_with_their_old_rows() {
    check(
        &make_normalize(true),
        &[
            "+U a, 1, 1\n+I b, 2, 1",
            "+U a, 3, 1\n-D b, NULL, NULL\n-D c, NULL, NULL",
            "+U a, 3, 1\n+I d, 1, 1\n-D d, NULL, NULL",
        ],
        "+I a, 1, 001\n+I b, 2, 001\n-U a, 1, 001\n+U a, 3, 001\n-D b, 2, 001\n",
    );
}

/// Of more keys than columns are made for, one in twenty is left, in another slot.
#[test]
fn what_is_left_of_many_keys_is_what_it_was_and_takes_little_memory() {
    let all = 0..12_000;
    let upserts: String = all
        .clone()
        .map(|key| format!("+U k{key}, {key}, 1\n"))
        .collect();
    let gone = all.clone().filter(|key| key % 20 != 3);
    let gone: String = gone.map(|key| format!("-D k{key}, NULL, NULL\n")).collect();
    let events = [
        insert(0, &columns(), &upserts),
        Event::Barrier,
        insert(0, &columns(), &gone),
        Event::Barrier,
        insert(0, &columns(), "+U k3, 1, 1\n-D k11983, NULL, NULL"),
        Event::Barrier,
        Event::End,
    ];
    let make = make_normalize(true);
    let output = changelog(&drive(&make, &events)).replace("1970-01-01T00:00:00.", "");
    let (_, last) = output.split_once("barrier 2\n").expect("two barriers");
    let expected = "-U k3, 3, 001\n+U k3, 1, 001\n-D k11983, 11983, 001\nbarrier 3\nend\n";
    assert_eq!(last, expected);
    let _ = crash_at_each_barrier(&make, &events, &Fold::Retract);
    let (_, full) = left_behind(&make, &events[..1], 1, |_| false, &[]);
    let (_, left) = left_behind(&make, &events, 1, |_| false, &[]);
    assert!(left.bytes * 2 < full.bytes, "{left:?}, before {full:?}");
}

#[derive(Clone, Copy, Debug)]
enum Case {
    Deduplicate { keep_last: bool, by_time: bool },
    Normalize,
}

/// What a map per key comes to.
fn naive(case: Case, rows: &[(char, i64, i64, bool)]) -> Folded {
    let mut model: BTreeMap<char, (i64, i64)> = BTreeMap::new();
    for (key, value, time, is_delete) in rows {
        let row = (*value, *time);
        let old = model.get(key).map(|row| row.1);
        let replaces = match (case, old) {
            (Case::Normalize, _) if *is_delete => {
                model.remove(key);
                false
            }
            (_, None) | (Case::Normalize, _) => true,
            (Case::Deduplicate { keep_last, by_time }, Some(old)) => match (keep_last, by_time) {
                (true, true) => *time >= old,
                (false, true) => *time < old,
                (keep_last, false) => keep_last,
            },
        };
        if replaces {
            model.insert(*key, row);
        }
    }
    let shown = |(key, (value, time)): (&char, &(i64, i64))| {
        let time = format!("1970-01-01T00:00:00.{time:03}").replace(".000", "");
        (format!("{key}, {value}, {time}"), 1)
    };
    model.iter().map(shown).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn amounts_to_a_map(
        case in prop_oneof![
            (any::<bool>(), any::<bool>())
                .prop_map(|(keep_last, by_time)| Case::Deduplicate { keep_last, by_time }),
            Just(Case::Normalize),
        ],
        before in any::<bool>(),
        batches in prop::collection::vec(
            (
                prop::collection::vec((0..5_u8, 0..9_i64, 0..9_i64, prop::bool::weighted(0.3)), 1..10),
                any::<bool>(),
            ),
            1..12,
        ),
    ) {
        let mut rows = Vec::new();
        let mut events = Vec::new();
        for (batch, barrier) in batches {
            let mut lines = Vec::new();
            for (key, value, time, is_delete) in batch {
                let key = char::from(b'a' + key);
                let kind = match case {
                    Case::Normalize if is_delete => "-D",
                    Case::Normalize => "+U",
                    Case::Deduplicate { .. } => "+I",
                };
                lines.push(format!("{kind} {key}, {value}, {time}"));
                rows.push((key, value, time, is_delete));
            }
            events.push(insert(0, &columns(), &lines.join("\n")));
            if barrier {
                events.push(Event::Barrier);
            }
        }
        let fold = if before { Fold::Retract } else { Fold::Upsert(vec![0]) };
        let folded = match case {
            Case::Normalize => crash_at_each_barrier(&make_normalize(before), &events, &fold),
            Case::Deduplicate { keep_last, by_time } => {
                let spec = deduplicate(keep_last, by_time, before);
                crash_at_each_barrier(&make_deduplicate(&spec), &events, &fold)
            }
        };
        prop_assert_eq!(folded, naive(case, &rows));
    }
}
