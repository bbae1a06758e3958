//! The join of many inputs against nested loops over the rows that are left: random changes of all
//! inputs, NULL keys, late state reads, crashes, key groups that move, memory that is short.

use engine::{
    operator::{Operator, OperatorError, TaskScope},
    state::{StateTtl, TimeDomain},
};
use proptest::prelude::*;
use proto::{
    plan::{self, Changelog, MultiJoinInput},
    types::{Epoch, Field, TableId},
};

use super::MultiJoinOperator;
use crate::testing::{
    Event, Fold, Folded, after_a_minute_of_rest, batches, changelog, drive, drive_with_seed,
    fields, insert, scope,
};

/// Two columns that may be keys, and a number of the row's own or nearly so.
type Row = (Option<i64>, Option<&'static str>, i64);

#[derive(Clone, Debug)]
struct Case {
    inputs: usize,
    /// How many columns the key has: none, the number, or the text too.
    keys: usize,
    null_safe: [bool; 2],
    /// Of which inputs rows are taken back.
    updating: [bool; 4],
    /// Choices of columns of the output.
    columns: Vec<u32>,
}

impl Case {
    /// Every other input has its columns in another order.
    fn fields(&self, input: usize) -> Vec<Field> {
        match input % 2 {
            0 => fields(&[("k", "BIGINT"), ("t", "STRING"), ("v", "INT")]),
            _ => fields(&[("v", "INT"), ("t", "STRING"), ("k", "BIGINT")]),
        }
    }

    fn spec(&self) -> plan::MultiJoin {
        let keys = |input: usize| MultiJoinInput {
            keys: [[0, 1], [2, 1]][input % 2][..self.keys].to_vec(),
        };
        plan::MultiJoin {
            inputs: (0..self.inputs).map(keys).collect(),
            null_safe: self.null_safe[..self.keys].to_vec(),
            columns: self.columns(),
        }
    }

    fn columns(&self) -> Vec<u32> {
        let width = self.inputs as u32 * 3;
        self.columns.iter().map(|column| column % width).collect()
    }

    fn are_equal(&self, one: &Row, other: &Row) -> bool {
        let number = one.0 == other.0 && (self.null_safe[0] || one.0.is_some());
        let text = one.1 == other.1 && (self.null_safe[1] || one.1.is_some());
        (self.keys < 1 || number) && (self.keys < 2 || text)
    }

    /// Adds what comes of the rows chosen so far and any of the other inputs.
    fn pair(&self, rows: &[Vec<Row>], chosen: &mut Vec<Row>, out: &mut Folded) {
        let Some(next) = rows.get(chosen.len()) else {
            let chosen = chosen.iter().enumerate();
            let cells: Vec<String> = chosen.flat_map(|(input, row)| cells(input, row)).collect();
            let columns = self.columns();
            let columns = columns.iter().map(|column| cells[*column as usize].clone());
            let text = columns.collect::<Vec<_>>().join(", ");
            *out.entry(text).or_default() += 1;
            return;
        };
        for row in next {
            // Rows whose own key matches nothing are equal to no row, themselves either.
            let first = *chosen.first().unwrap_or(row);
            if self.are_equal(&first, row) {
                chosen.push(*row);
                self.pair(rows, chosen, out);
                chosen.pop();
            }
        }
    }

    fn make(&self) -> impl Fn(&TaskScope) -> Result<Box<dyn Operator>, OperatorError> {
        let (spec, all, updating) = (self.spec(), 0..self.inputs, self.updating);
        let inputs: Vec<Vec<Field>> = all.clone().map(|input| self.fields(input)).collect();
        let tables: Vec<TableId> = all.map(|input| TableId(input as u32 + 1)).collect();
        move |scope| {
            let inputs: Vec<&[Field]> = inputs.iter().map(Vec::as_slice).collect();
            let changelogs = updating.map(|updates| match updates {
                true => Changelog::RETRACT,
                false => Changelog::APPEND,
            });
            let changelogs = &changelogs[..inputs.len()];
            let never = StateTtl::NEVER;
            MultiJoinOperator::build(&spec, &inputs, &tables, changelogs, &never, scope)
        }
    }
}

fn cells(input: usize, (number, text, own): &Row) -> [String; 3] {
    let number = number.map_or_else(|| "NULL".to_owned(), |number| number.to_string());
    let text = text.unwrap_or("NULL").to_owned();
    match input % 2 {
        0 => [number, text, own.to_string()],
        _ => [own.to_string(), text, number],
    }
}

fn line(kind: &str, input: usize, row: &Row) -> String {
    format!("{kind} {}", cells(input, row).join(", "))
}

fn batch(case: &Case, input: usize, rows: &[Row]) -> Event {
    let lines: Vec<String> = rows.iter().map(|row| line("+I", input, row)).collect();
    insert(input, &case.fields(input), &lines.join("\n"))
}

fn case() -> impl Strategy<Value = Case> {
    let columns = prop::collection::vec(0..12_u32, 1..10);
    let keys = prop_oneof![1 => Just(0), 4 => Just(1), 4 => Just(2_usize)];
    let updating = any::<[bool; 4]>();
    (3..5_usize, keys, any::<[bool; 2]>(), updating, columns).prop_map(
        |(inputs, keys, null_safe, updating, columns)| Case {
            inputs,
            keys,
            null_safe,
            updating,
            columns,
        },
    )
}

fn row() -> impl Strategy<Value = Row> {
    let number = prop::option::weighted(0.9, 0..4_i64);
    let text = prop::option::weighted(0.9, prop::sample::select(vec!["a", "bc"]));
    (number, text, 0..8_i64)
}

/// Rows of one input, or of this one and the next, each of which may have an older one taken back, and
/// what happens then.
type Step = (usize, bool, Vec<(Row, Option<prop::sample::Index>)>, u8);

fn step() -> impl Strategy<Value = Step> {
    let older = prop::option::weighted(0.4, any::<prop::sample::Index>());
    let rows = prop::collection::vec((row(), older), 1..6);
    (0..4_usize, prop::bool::weighted(0.2), rows, 0..8_u8)
}

/// Changes of an input, of which `rows` are left.
fn changes(
    case: &Case,
    input: usize,
    of: &[(Row, Option<prop::sample::Index>)],
    rows: &mut Vec<Row>,
) -> Event {
    let mut lines = Vec::new();
    for (row, older) in of {
        if let Some(older) = older.filter(|_| case.updating[input] && !rows.is_empty()) {
            let old = rows.swap_remove(older.index(rows.len()));
            let kind = if row.2 % 2 == 0 { "-D" } else { "-U" };
            lines.push(line(kind, input, &old));
        }
        rows.push(*row);
        lines.push(line("+I", input, row));
    }
    insert(input, &case.fields(input), &lines.join("\n"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn equals_the_nested_loops(
        case in case(),
        steps in prop::collection::vec(step(), 1..14),
        seed in any::<u64>(),
    ) {
        let mut rows = vec![Vec::new(); case.inputs];
        let mut events = Vec::new();
        // Where everything meets everything, a few rows are many.
        let most = if case.keys == 0 { 5 } else { steps.len() };
        for (input, twice, of, then) in steps.into_iter().take(most) {
            let input = input % case.inputs;
            let next = (input + 1) % case.inputs;
            for input in [Some(input), twice.then_some(next)].into_iter().flatten() {
                events.push(changes(&case, input, &of, &mut rows[input]));
            }
            match then {
                0 | 1 => events.push(Event::Barrier),
                2 => events.extend([Event::Barrier, Event::Moves(0)]),
                3 => events.push(Event::Passes(3_000)),
                4 => events.push(Event::Watermark(7)),
                _ => {}
            }
        }
        events.extend([Event::Barrier, Event::End]);
        let mut expected = Folded::new();
        case.pair(&rows, &mut Vec::new(), &mut expected);
        for crashes in [0_u64, 1, 3] {
            let crash = |epoch: Epoch| crashes > 0 && epoch.0.is_multiple_of(crashes);
            let (output, _) = drive_with_seed(&case.make(), &events, seed, crash);
            prop_assert_eq!(&Fold::Retract.fold(&output), &expected);
        }
    }
}

fn one_key(inputs: usize) -> Case {
    Case {
        inputs,
        keys: 1,
        null_safe: [false; 2],
        updating: [false; 4],
        columns: (0..inputs as u32 * 3).collect(),
    }
}

#[test]
fn a_row_meets_every_choice_of_the_others() {
    let case = Case {
        columns: vec![2, 3, 8, 6],
        ..one_key(3)
    };
    let (x, y) = ((Some(1), None, 1), (Some(1), None, 2));
    let events = [
        batch(&case, 0, &[x, y, (None, None, 3)]),
        batch(&case, 1, &[(Some(1), None, 5), (None, None, 4)]),
        // Nothing came of two of them.
        batch(
            &case,
            2,
            &[(None, None, 8), (Some(1), None, 6), (Some(2), None, 7)],
        ),
        batch(&case, 0, &[(Some(1), None, 9)]),
    ];
    let expected = "\
+I 2, 5, 6, 1
+I 1, 5, 6, 1
+I 9, 5, 6, 1
";
    assert_eq!(changelog(&drive(&case.make(), &events)), expected);
}

#[test]
fn what_comes_of_a_row_goes_with_it_copy_by_copy() {
    let mut case = one_key(3);
    case.columns = vec![2, 3, 8];
    case.updating = [false, true, true, false];
    let two = [(Some(1), None, 5); 2];
    let going = |input: usize, own: i64| {
        let line = line("-D", input, &(Some(1), None, own));
        insert(input, &case.fields(input), &line)
    };
    let events = [
        batch(&case, 0, &[(Some(1), None, 1)]),
        batch(&case, 1, &two),
        batch(&case, 2, &[(Some(1), None, 6)]),
        going(1, 5),
        going(1, 4),
        going(2, 6),
        going(1, 5),
    ];
    let expected = "\
+I 1, 5, 6
+I 1, 5, 6
-D 1, 5, 6
-D 1, 5, 6
";
    assert_eq!(changelog(&drive(&case.make(), &events)), expected);
}

#[test]
fn a_hot_key_comes_out_in_small_batches() {
    let case = one_key(4);
    let rows = |count: i64| -> Vec<Row> { (0..count).map(|own| (Some(1), None, own)).collect() };
    let counts = [5, 6, 3, 4];
    let events: Vec<Event> = (0..4)
        .map(|input| batch(&case, input, &rows(counts[input])))
        .collect();
    let batches = batches(&drive(&case.make(), &events));
    let all: usize = batches.iter().map(|batch| batch.num_rows()).sum();
    assert_eq!(all, 5 * 6 * 3 * 4);
    assert!(
        batches
            .iter()
            .all(|batch| batch.num_rows() <= 7 && batch.kinds.is_none())
    );
}

#[test]
fn keys_that_memory_has_no_room_for_are_read_again() {
    let case = one_key(3);
    let mut events = Vec::new();
    for round in 0..40 {
        for (input, keys) in [(0, 5), (1, 3), (2, 4)] {
            events.push(batch(&case, input, &[(Some(round % keys), None, round)]));
        }
        events.push(Event::Barrier);
    }
    let (output, counters) = drive_with_seed(&case.make(), &events, 5, |_| false);
    assert!(counters.evicted_keys > 10, "{counters:?}");
    assert!(counters.state_misses > 10, "{counters:?}");
    let of = |keys: usize, key: usize| (0..40).filter(|round| round % keys == key).count();
    let expected: usize = (0..3).map(|key| of(5, key) * of(3, key) * of(4, key)).sum();
    let rows: usize = batches(&output).iter().map(|batch| batch.num_rows()).sum();
    assert_eq!(rows, expected);
}

#[test]
fn state_is_read_back_in_the_background_and_then_nothing_is_looked_for() {
    let case = one_key(3);
    let events = |keys: std::ops::Range<i64>| -> Vec<Event> {
        let of_key = |key: i64| (0..3).map(move |input| (input, [(Some(key), None, 1)]));
        let rows = keys.flat_map(of_key);
        rows.map(|(input, rows)| batch(&case, input, &rows))
            .collect()
    };
    let before = events(0..200);
    // Half of the keys are new.
    let all: Vec<Event> = before.iter().cloned().chain(events(100..300)).collect();
    let counters = after_a_minute_of_rest(&case.make(), &all, before.len());
    assert_eq!(counters.state_misses, 0, "{counters:?}");
}

#[test]
fn what_cannot_run_is_refused() {
    let refused = |spec: &plan::MultiJoin, changelog: Changelog, ttl: &StateTtl| {
        let columns = one_key(3).fields(0);
        let inputs = [&columns[..]; 3];
        let tables = [TableId(1), TableId(2), TableId(3)];
        let changelogs = [Changelog::APPEND, changelog, Changelog::APPEND];
        let scope = scope(Epoch::ZERO);
        let built = MultiJoinOperator::build(spec, &inputs, &tables, &changelogs, ttl, &scope);
        let error = built.err().map(|error| error.to_string());
        error
            .unwrap_or_default()
            .replace("failed to build operator: ", "")
    };
    let keys = |keys: [u32; 3]| plan::MultiJoin {
        inputs: keys.map(|key| MultiJoinInput { keys: vec![key] }).to_vec(),
        null_safe: vec![false],
        columns: vec![8],
    };
    let (append, never) = (Changelog::APPEND, StateTtl::NEVER);
    assert_eq!(refused(&keys([0; 3]), append, &never), "");
    assert_eq!(
        refused(&keys([0, 0, 1]), append, &never),
        "join keys of types [Int64] and [Utf8]"
    );
    assert_eq!(refused(&keys([0; 3]), Changelog::RETRACT, &never), "");
    let ttl = StateTtl::new(vec![0, 0, 1_000], TimeDomain::Processing);
    assert_eq!(
        refused(&keys([0; 3]), append, &ttl),
        "rows of a join of many inputs have no lifetime"
    );
    let wide = plan::MultiJoin {
        columns: vec![9],
        ..keys([0; 3])
    };
    assert_eq!(
        refused(&wide, append, &never),
        "a join puts out a column that no input has"
    );
}
