//! Joins that leave out pairs which are not the best of their row or key, against all pairs: what a reader
//! that keeps the best would have is the same, whatever fails, moves or goes from memory between.

use std::collections::BTreeMap;

use engine::{
    Element,
    operator::{Operator, OperatorError, TaskScope},
    state::StateTtl,
};
use proptest::prelude::*;
use proto::{
    plan::{self, BestPair, Changelog, Expr, JoinType, ScalarFunction as F, SortKey},
    types::{Epoch, Field, LogicalType, TableId},
};

use super::JoinOperator;
use crate::testing::{
    Event, changelog, drive, drive_with_seed, fields, insert, left_behind, scope,
};

const TABLES: [TableId; 2] = [TableId(1), TableId(2)];

fn side_fields() -> Vec<Field> {
    fields(&[("k", "BIGINT"), ("v", "INT"), ("w", "INT")])
}

/// Of what the best pair is wanted; it has the greatest `v`, then the least `w`, of the other side.
#[derive(Clone, Copy, Debug, Default)]
struct Wanted {
    /// Of each right row, else of each left row.
    per_right: bool,
    /// Of each key even.
    per_key: bool,
}

impl Wanted {
    /// What the best is of, as the output has it: the key or the row's `w`.
    fn place(self) -> usize {
        match self.per_key {
            true => 0,
            false => 2,
        }
    }
}

fn spec(wanted: Wanted, has_condition: bool) -> plan::Join {
    let (int, boolean) = (LogicalType::Int.nullable(), LogicalType::Boolean.nullable());
    let args = vec![Expr::column(2, &int), Expr::column(5, &int)];
    let key = |column, descending| SortKey {
        column,
        descending,
        nulls_last: true,
    };
    plan::Join {
        r#type: JoinType::Inner.into(),
        left_keys: vec![0],
        right_keys: vec![0],
        null_safe: vec![false],
        condition: has_condition.then(|| Expr::call(F::LessOrEqual, args, &boolean)),
        best_pair: Some(BestPair {
            per_right: wanted.per_right,
            order_by: vec![key(1, true), key(2, false)],
            per_key: wanted.per_key,
        }),
        ..plan::Join::default()
    }
}

fn build(
    spec: &plan::Join,
    changelogs: [Changelog; 2],
    scope: &TaskScope,
) -> Result<Box<dyn Operator>, OperatorError> {
    let columns = side_fields();
    let inputs = [&columns[..], &columns[..]];
    JoinOperator::build(spec, &inputs, &TABLES, &changelogs, &StateTtl::NEVER, scope)
}

fn make(spec: &plan::Join) -> impl Fn(&TaskScope) -> Result<Box<dyn Operator>, OperatorError> {
    move |scope| build(spec, [Changelog::APPEND; 2], scope)
}

/// Key, `v`, a number of its own as `w`.
type Row = (Option<i64>, Option<i64>, i64);

/// Of two orders the first one in order is better: NULL is last.
type Order = (std::cmp::Reverse<Option<i64>>, i64);

/// The best of each row, by its `w`, or of each key.
type Best = BTreeMap<i64, Order>;

fn offer(best: &mut Best, row: i64, order: Order) {
    let known = best.entry(row).or_insert(order);
    *known = (*known).min(order);
}

/// What a reader that keeps the best has in the end.
fn kept(output: &[Element], wanted: Wanted) -> Best {
    let mut best = Best::new();
    for line in changelog(output).lines() {
        let Some(row) = line.strip_prefix("+I ") else {
            assert!(!line.starts_with(['-', '+']), "{line}");
            continue;
        };
        let numbers: Vec<Option<i64>> = row.split(", ").map(|cell| cell.parse().ok()).collect();
        let (own, other) = if wanted.per_right { (3, 0) } else { (0, 3) };
        let number = |at: usize| numbers[at].expect("no NULL there");
        let order = (std::cmp::Reverse(numbers[other + 1]), number(other + 2));
        offer(&mut best, number(own + wanted.place()), order);
    }
    best
}

fn naive(rows: &[Vec<Row>; 2], wanted: Wanted, has_condition: bool) -> Best {
    let mut best = Best::new();
    for l in &rows[0] {
        let matches = |r: &&Row| l.0.is_some() && l.0 == r.0 && (!has_condition || l.2 <= r.2);
        for r in rows[1].iter().filter(matches) {
            let (own, other) = if wanted.per_right { (r, l) } else { (l, r) };
            let of = if wanted.per_key { own.0 } else { Some(own.2) };
            let order = (std::cmp::Reverse(other.1), other.2);
            offer(&mut best, of.expect("NULL matches nothing"), order);
        }
    }
    best
}

fn batches() -> impl Strategy<Value = Vec<(Option<i64>, Option<i64>)>> {
    let key = prop::option::weighted(0.9, 0..3_i64);
    prop::collection::vec((key, prop::option::weighted(0.9, 0..6_i64)), 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]
    #[test]
    fn the_best_pair_is_always_put_out(
        (per_right, per_key, has_condition) in any::<(bool, bool, bool)>(),
        steps in prop::collection::vec((0..2_usize, batches(), 0..7_u8), 1..25),
        seed in any::<u64>(),
    ) {
        let mut rows: [Vec<Row>; 2] = Default::default();
        let mut events = Vec::new();
        let mut next = 0..;
        for (side, batch, then) in steps {
            let text = |value: Option<i64>| value.map_or_else(|| "NULL".to_owned(), |v| v.to_string());
            let mut lines = Vec::new();
            for (key, value) in batch {
                let own = next.next().unwrap_or_default();
                rows[side].push((key, value, own));
                lines.push(format!("{}, {}, {own}", text(key), text(value)));
            }
            events.push(insert(side, &side_fields(), &lines.join("\n")));
            match then {
                0 | 1 => events.push(Event::Barrier),
                2 => events.extend([Event::Barrier, Event::Moves(0)]),
                3 => events.push(Event::Passes(3_000)),
                _ => {}
            }
        }
        events.extend([Event::Barrier, Event::End]);
        let wanted = Wanted { per_right, per_key };
        let spec = spec(wanted, has_condition);
        let expected = naive(&rows, wanted, has_condition);
        for crashes in [0_u64, 1, 3] {
            let crash = |epoch: Epoch| crashes > 0 && epoch.0.is_multiple_of(crashes);
            let (output, _) = drive_with_seed(&make(&spec), &events, seed, crash);
            prop_assert_eq!(&kept(&output, wanted), &expected);
        }
    }
}

#[test]
fn pairs_that_are_not_better_are_left_out() {
    let columns = side_fields();
    let events = [
        insert(0, &columns, "1, 0, 1"),
        insert(
            1,
            &columns,
            "1, 5, 2\n1, 4, 3\n1, 5, 2\n1, 5, 1\n1, NULL, 0",
        ),
        insert(1, &columns, "1, 6, 9"),
        // A row that comes later has its own best: the last of these.
        insert(0, &columns, "1, 0, 2"),
    ];
    let text = changelog(&drive(&make(&spec(Wanted::default(), false)), &events));
    let expected = "\
+I 1, 0, 1, 1, 5, 2
+I 1, 0, 1, 1, 5, 1
+I 1, 0, 1, 1, 6, 9
+I 1, 0, 2, 1, 6, 9
";
    assert_eq!(text, expected);
    let mirrored: Vec<Event> = events
        .into_iter()
        .map(|event| match event {
            Event::Batch(side, batch) => Event::Batch(1 - side, batch),
            other => other,
        })
        .collect();
    let per_right = Wanted {
        per_right: true,
        per_key: false,
    };
    let text = changelog(&drive(&make(&spec(per_right, false)), &mirrored));
    assert_eq!(text.lines().count(), 4, "{text}");
}

/// Rows of the right side, of which the best pair of each key has the greatest `v`.
#[test]
fn rows_that_are_beaten_are_not_kept() {
    let columns = side_fields();
    let per_key = Wanted {
        per_right: false,
        per_key: true,
    };
    // A pair has a left `w` that is not more than the right one.
    let spec = spec(per_key, true);
    let mut events = vec![
        insert(1, &columns, "1, 1, 9\n1, 2, 9\n2, 7, 7\nNULL, 9, 9"),
        insert(0, &columns, "1, 0, 5"),
        // One that is beaten, the best of the batch, and one that is not beaten since nothing met it.
        insert(1, &columns, "1, 1, 8\n1, 3, 8\n1, 4, 8\n1, 2, 8\n1, 6, 4"),
        Event::Barrier,
        // Told after a crash from what is kept.
        insert(1, &columns, "1, 4, 8\n1, 3, 9\n1, 5, 3"),
        insert(0, &columns, "1, 0, 4"),
        Event::Barrier,
        insert(1, &columns, "1, 5, 9\n1, 7, 3"),
        Event::Barrier,
    ];
    for crashes in [false, true] {
        let (rows, _) = left_behind(&make(&spec), &events, 1, |_| crashes, &TABLES[1..]);
        // Three of the first batch, two of the second one, and of the others what meets no left row.
        assert_eq!(rows.len(), 7, "with crashes: {crashes}");
    }
    events.push(Event::End);
    let (output, _) = drive_with_seed(&make(&spec), &events, 1, |_| true);
    let order = (std::cmp::Reverse(Some(6)), 4);
    assert_eq!(kept(&output, per_key), Best::from([(1, order)]));
}

#[test]
fn pairs_that_may_be_taken_back_are_all_needed() {
    let refused = |spec: &plan::Join, changelogs| {
        let built = build(spec, changelogs, &scope(Epoch::ZERO));
        built.err().map(|error| error.to_string())
    };
    let expected = "failed to build operator: the best pairs are wanted of a join whose pairs may be taken \
                    back";
    let one = spec(Wanted::default(), false);
    let changelogs = [Changelog::APPEND, Changelog::RETRACT];
    assert_eq!(refused(&one, changelogs).as_deref(), Some(expected));
    let outer = plan::Join {
        r#type: JoinType::Left.into(),
        ..one
    };
    assert_eq!(
        refused(&outer, [Changelog::APPEND; 2]).as_deref(),
        Some(expected)
    );
}
