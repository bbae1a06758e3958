//! The updating join against a naive join of the final inputs: random changes of both sides,
//! random batches, NULL keys, late state reads, crashes.

use engine::{operator::TaskScope, state::StateTtl};
use proptest::prelude::*;
use proto::{
    plan::{self, Changelog, ColumnSet, Expr, JoinType, ScalarFunction},
    types::{Field, LogicalType, TableId},
};

use super::JoinOperator;
use crate::testing::{
    Event, Fold, Folded, after_a_minute_of_rest, changelog, crash_at_each_barrier, drive,
    drive_with_seed, fields, insert,
};

/// How a side's input changes, and how its rows are told apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Input {
    Append,
    Retract,
    /// Updates and deletes by `id`, which is in each row.
    Unique,
}

#[derive(Clone, Debug)]
struct Case {
    join_type: JoinType,
    inputs: [Input; 2],
    condition: bool,
    null_safe: bool,
}

/// k, value, id; NULL is `None`.
type Row = (Option<i64>, i64, i64);

fn side_fields(value: &str) -> Vec<Field> {
    fields(&[("k", "BIGINT"), (value, "INT"), ("id", "INT")])
}

fn condition() -> Expr {
    let int = LogicalType::Int.nullable();
    let (left, right) = (Expr::column(1, &int), Expr::column(4, &int));
    let boolean = LogicalType::Boolean.nullable();
    Expr::call(ScalarFunction::Less, vec![left, right], &boolean)
}

fn spec(case: &Case) -> plan::Join {
    let key = |input| (input == Input::Unique).then(|| ColumnSet { columns: vec![2] });
    plan::Join {
        r#type: case.join_type.into(),
        left_keys: vec![0],
        right_keys: vec![0],
        null_safe: vec![case.null_safe],
        condition: case.condition.then(condition),
        left_unique_key: key(case.inputs[0]),
        right_unique_key: key(case.inputs[1]),
        ..plan::Join::default()
    }
}

fn text(row: &Row) -> String {
    let key = row
        .0
        .map_or_else(|| "NULL".to_owned(), |key| key.to_string());
    format!("{key}, {}, {}", row.1, row.2)
}

fn naive(case: &Case, left: &[Row], right: &[Row]) -> Folded {
    let matches = |l: &Row, r: &Row| {
        let keys = l.0 == r.0 && (l.0.is_some() || case.null_safe);
        keys && (!case.condition || l.1 < r.1)
    };
    let nulls = "NULL, NULL, NULL";
    let mut out = Folded::new();
    let mut put = |text: String| *out.entry(text).or_default() += 1;
    for l in left {
        let count = right.iter().filter(|r| matches(l, r)).count();
        match (case.join_type, count) {
            (JoinType::Semi, 0) | (JoinType::Anti, 1..) => {}
            (JoinType::Semi | JoinType::Anti, _) => put(text(l)),
            (JoinType::Left | JoinType::Full, 0) => put(format!("{}, {nulls}", text(l))),
            _ => {
                for r in right.iter().filter(|r| matches(l, r)) {
                    put(format!("{}, {}", text(l), text(r)));
                }
            }
        }
    }
    if matches!(case.join_type, JoinType::Right | JoinType::Full) {
        for r in right.iter().filter(|r| !left.iter().any(|l| matches(l, r))) {
            put(format!("{nulls}, {}", text(r)));
        }
    }
    out
}

/// Small pseudo-random numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) % below
    }
}

/// One change of a side, as a line of a batch.
fn change(input: Input, rows: &mut Vec<Row>, random: &mut Random, next_id: &mut i64) -> String {
    let mut row: Row = (
        (random.below(8) > 0).then(|| random.below(4) as i64),
        random.below(5) as i64,
        random.below(3) as i64,
    );
    let removes = input != Input::Append && !rows.is_empty() && random.below(3) == 0;
    if removes {
        let old = rows.swap_remove(random.below(rows.len() as u64) as usize);
        let kind = if random.below(2) == 0 { "-D" } else { "-U" };
        if input == Input::Unique {
            // Only what finds the row need be right.
            return format!("{kind} {}", text(&(old.0, 99, old.2)));
        }
        return format!("{kind} {}", text(&old));
    }
    if input == Input::Unique {
        *next_id += 1;
        row.2 = *next_id;
        let keyed = rows.iter_mut().find(|row| row.0.is_some());
        if let Some(old) = keyed.filter(|_| random.below(3) == 0) {
            old.1 = row.1;
            return format!("+U {}", text(old));
        }
        // A row without key is not kept, so its delete has to be whole: make none.
        row.0 = row.0.or(Some(1));
    }
    rows.push(row);
    let kind = if input == Input::Append || random.below(2) == 0 {
        "+I"
    } else {
        "+U"
    };
    format!("{kind} {}", text(&row))
}

fn check(case: &Case, seed: u64, changes: usize) {
    let mut random = Random(seed | 1);
    let columns = [side_fields("a"), side_fields("b")];
    let mut rows: [Vec<Row>; 2] = [Vec::new(), Vec::new()];
    let mut next_id = 0;
    let mut events = Vec::new();
    let mut done = 0;
    while done < changes {
        let side = random.below(2) as usize;
        let mut lines = Vec::new();
        for _ in 0..=random.below(9) {
            lines.push(change(
                case.inputs[side],
                &mut rows[side],
                &mut random,
                &mut next_id,
            ));
            done += 1;
        }
        events.push(insert(side, &columns[side], &lines.join("\n")));
        if random.below(4) == 0 {
            events.push(Event::Barrier);
        }
    }
    events.push(Event::End);
    let spec = spec(case);
    let make = |scope: &TaskScope| {
        let changelog = |input| match input {
            Input::Append => Changelog::APPEND,
            Input::Retract => Changelog::RETRACT,
            Input::Unique => Changelog::UPSERT,
        };
        JoinOperator::build(
            &spec,
            &[&columns[0], &columns[1]],
            &[TableId(1), TableId(2)],
            &case.inputs.map(changelog),
            &StateTtl::NEVER,
            scope,
        )
    };
    let folded = crash_at_each_barrier(&make, &events, &Fold::Retract);
    assert_eq!(folded, naive(case, &rows[0], &rows[1]), "{case:?}");
}

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        Just(Input::Append),
        Just(Input::Retract),
        Just(Input::Unique)
    ]
}

fn join_type() -> impl Strategy<Value = JoinType> {
    use JoinType::{Anti, Full, Inner, Left, Right, Semi};
    prop::sample::select(vec![Inner, Left, Right, Full, Semi, Anti])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn equals_the_naive_join(
        join_type in join_type(),
        inputs in [input(), input()],
        condition in any::<bool>(),
        null_safe in any::<bool>(),
        seed in any::<u64>(),
        changes in 1..80_usize,
    ) {
        check(&Case { join_type, inputs, condition, null_safe }, seed, changes);
    }
}

fn build<'a>(
    spec: &'a plan::Join,
    columns: &'a [Vec<Field>; 2],
    changelogs: [Changelog; 2],
) -> impl Fn(&TaskScope) -> Result<Box<dyn engine::operator::Operator>, engine::operator::OperatorError>
{
    move |scope| {
        let inputs = [&columns[0][..], &columns[1][..]];
        JoinOperator::build(
            spec,
            &inputs,
            &[TableId(1), TableId(2)],
            &changelogs,
            &StateTtl::NEVER,
            scope,
        )
    }
}

#[test]
fn an_outer_row_loses_its_lonely_form_before_its_first_match() {
    let case = Case {
        join_type: JoinType::Left,
        inputs: [Input::Append, Input::Retract],
        condition: false,
        null_safe: false,
    };
    let (spec, columns) = (spec(&case), [side_fields("a"), side_fields("b")]);
    let make = build(&spec, &columns, [Changelog::APPEND, Changelog::RETRACT]);
    let events = [
        insert(0, &columns[0], "1, 10, 0\nNULL, 11, 0"),
        insert(1, &columns[1], "1, 20, 0"),
        insert(1, &columns[1], "-U 1, 20, 0\n+U 1, 21, 0"),
    ];
    let expected = "\
+I 1, 10, 0, NULL, NULL, NULL
+I NULL, 11, 0, NULL, NULL, NULL
-D 1, 10, 0, NULL, NULL, NULL
+I 1, 10, 0, 1, 20, 0
-D 1, 10, 0, 1, 20, 0
+I 1, 10, 0, NULL, NULL, NULL
-D 1, 10, 0, NULL, NULL, NULL
+I 1, 10, 0, 1, 21, 0
";
    assert_eq!(changelog(&drive(&make, &events)), expected);
}

#[test]
fn a_hot_key_comes_out_in_small_batches() {
    let case = Case {
        join_type: JoinType::Inner,
        inputs: [Input::Append; 2],
        condition: false,
        null_safe: false,
    };
    let (mut spec, columns) = (spec(&case), [side_fields("a"), side_fields("b")]);
    // A cross join: no keys.
    (spec.left_keys, spec.right_keys) = (vec![], vec![]);
    let make = build(&spec, &columns, [Changelog::APPEND; 2]);
    let lines: Vec<String> = (0..30).map(|i| format!("{i}, {i}, 0")).collect();
    let events = [
        insert(0, &columns[0], &lines.join("\n")),
        insert(1, &columns[1], &lines.join("\n")),
    ];
    let batches = crate::testing::batches(&drive(&make, &events));
    assert_eq!(
        batches.iter().map(|batch| batch.num_rows()).sum::<usize>(),
        900
    );
    assert!(
        batches
            .iter()
            .all(|batch| batch.num_rows() <= 7 && batch.kinds.is_none())
    );
}

#[test]
fn a_join_that_cannot_run_is_refused() {
    let case = Case {
        join_type: JoinType::Inner,
        inputs: [Input::Append; 2],
        condition: false,
        null_safe: false,
    };
    let (mut spec, columns) = (spec(&case), [side_fields("a"), side_fields("b")]);
    spec.right_keys = vec![1];
    let make = build(&spec, &columns, [Changelog::APPEND; 2]);
    let error = make(&crate::testing::scope(proto::types::Epoch::ZERO)).err();
    let text = error.map(|error| error.to_string()).unwrap_or_default();
    assert_eq!(
        text,
        "failed to build operator: join keys of types [Int64] and [Int32]"
    );
}

#[test]
fn keys_that_memory_has_no_room_for_are_read_again() {
    let case = Case {
        join_type: JoinType::Inner,
        inputs: [Input::Append, Input::Retract],
        condition: false,
        null_safe: false,
    };
    let (spec, columns) = (spec(&case), [side_fields("a"), side_fields("b")]);
    let make = build(&spec, &columns, [Changelog::APPEND, Changelog::RETRACT]);
    let mut events = Vec::new();
    for round in 0..40 {
        events.push(insert(
            0,
            &columns[0],
            &format!("{}, {round}, 0", round % 5),
        ));
        events.push(insert(
            1,
            &columns[1],
            &format!("{}, {round}, 0", round % 3),
        ));
        events.push(Event::Barrier);
    }
    let (output, counters) = drive_with_seed(&make, &events, 5, |_| false);
    assert!(counters.evicted_keys > 10, "{counters:?}");
    assert!(counters.state_misses > 10, "{counters:?}");
    // Of 40 rows each: a left row of key 0, 1 or 2 meets all right rows of its key.
    let pairs = |left: usize, right: usize| {
        let of = |modulus: usize, key: usize| (0..40).filter(|n| n % modulus == key).count();
        of(5, left) * of(3, right)
    };
    let expected: usize = (0..3).map(|key| pairs(key, key)).sum();
    let rows: usize = crate::testing::batches(&output)
        .iter()
        .map(|batch| batch.num_rows())
        .sum();
    assert_eq!(rows, expected);
}

#[test]
fn state_is_read_back_in_the_background_and_then_nothing_is_looked_for() {
    let case = Case {
        join_type: JoinType::Inner,
        inputs: [Input::Append, Input::Retract],
        condition: false,
        null_safe: false,
    };
    let (spec, columns) = (spec(&case), [side_fields("a"), side_fields("b")]);
    let make = build(&spec, &columns, [Changelog::APPEND, Changelog::RETRACT]);
    let row = |key: usize, number: usize| format!("{key}, {number}, 0");
    let events = |keys: std::ops::Range<usize>| -> Vec<Event> {
        let of_key = |key: usize| {
            (0..2).map(move |side| (side, format!("{}\n{}", row(key, 1), row(key, 2))))
        };
        let rows = keys.flat_map(of_key);
        rows.map(|(side, text)| insert(side, &columns[side], &text))
            .collect()
    };
    let before = events(0..300);
    // Half of the keys are new.
    let all: Vec<Event> = before.iter().cloned().chain(events(150..450)).collect();
    let counters = after_a_minute_of_rest(&make, &all, before.len());
    assert_eq!(counters.state_misses, 0, "{counters:?}");
}
