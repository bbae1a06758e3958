//! Joins that leave out pairs which are not the best of their row, against all pairs: what a reader that
//! keeps the best of each row would have is the same, whatever fails, moves or goes from memory between.

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
use crate::testing::{Event, changelog, drive, drive_with_seed, fields, insert, scope};

const TABLES: [TableId; 2] = [TableId(1), TableId(2)];

fn side_fields() -> Vec<Field> {
    fields(&[("k", "BIGINT"), ("v", "INT"), ("w", "INT")])
}

/// `per_right`: of each right row, else of each left row; the best has the greatest `v`, then the least
/// `w`, of the other side.
fn spec(per_right: bool, has_condition: bool) -> plan::Join {
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
            per_right,
            order_by: vec![key(1, true), key(2, false)],
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

/// The best of each row, by its `w`.
type Best = BTreeMap<i64, Order>;

fn offer(best: &mut Best, row: i64, order: Order) {
    let known = best.entry(row).or_insert(order);
    *known = (*known).min(order);
}

/// What a reader that keeps the best of each row has in the end.
fn kept(output: &[Element], per_right: bool) -> Best {
    let mut best = Best::new();
    for line in changelog(output).lines() {
        let Some(row) = line.strip_prefix("+I ") else {
            assert!(!line.starts_with(['-', '+']), "{line}");
            continue;
        };
        let numbers: Vec<Option<i64>> = row.split(", ").map(|cell| cell.parse().ok()).collect();
        let (own, other) = if per_right { (3, 0) } else { (0, 3) };
        let number = |at: usize| numbers[at].expect("no NULL there");
        let order = (std::cmp::Reverse(numbers[other + 1]), number(other + 2));
        offer(&mut best, number(own + 2), order);
    }
    best
}

fn naive(rows: &[Vec<Row>; 2], per_right: bool, has_condition: bool) -> Best {
    let mut best = Best::new();
    for l in &rows[0] {
        let matches = |r: &&Row| l.0.is_some() && l.0 == r.0 && (!has_condition || l.2 <= r.2);
        for r in rows[1].iter().filter(matches) {
            let (own, other) = if per_right { (r, l) } else { (l, r) };
            offer(&mut best, own.2, (std::cmp::Reverse(other.1), other.2));
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
    fn the_best_pair_of_each_row_is_always_put_out(
        (per_right, has_condition) in any::<(bool, bool)>(),
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
        let spec = spec(per_right, has_condition);
        let expected = naive(&rows, per_right, has_condition);
        for crashes in [0_u64, 1, 3] {
            let crash = |epoch: Epoch| crashes > 0 && epoch.0.is_multiple_of(crashes);
            let (output, _) = drive_with_seed(&make(&spec), &events, seed, crash);
            prop_assert_eq!(&kept(&output, per_right), &expected);
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
    let text = changelog(&drive(&make(&spec(false, false)), &events));
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
    let text = changelog(&drive(&make(&spec(true, false)), &mirrored));
    assert_eq!(text.lines().count(), 4, "{text}");
}

#[test]
fn pairs_that_may_be_taken_back_are_all_needed() {
    let refused = |spec: &plan::Join, changelogs| {
        let built = build(spec, changelogs, &scope(Epoch::ZERO));
        built.err().map(|error| error.to_string())
    };
    let expected = "failed to build operator: the best pairs are wanted of a join whose pairs may be taken \
                    back";
    let one = spec(false, false);
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
