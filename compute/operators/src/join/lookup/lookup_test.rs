//! The lookup join against two nested loops: random tables, keys of several kinds, NULLs, conditions,
//! more rows per key than a batch takes.

use std::cell::RefCell;

use engine::{
    ChangeBatch, Element,
    operator::{Operator, OperatorError, TaskScope},
    source::SourceError,
};
use proptest::prelude::*;
use proto::{
    plan::{self, Expr, JoinType, ScalarFunction},
    types::{Field, LogicalType},
};

use super::{LookupJoinOperator, LookupReader, LookupTable};
use crate::testing::{
    Event, Fold, Folded, changelog, crash_at_each_barrier, drive, fields, insert, rows,
};

const BYTES_MAX: usize = 1 << 20;

fn left_fields() -> Vec<Field> {
    fields(&[("k", "BIGINT"), ("s", "STRING"), ("v", "INT")])
}

/// What the connector makes; the last column decides which rows count.
fn produced() -> Vec<Field> {
    fields(&[
        ("k", "BIGINT"),
        ("s", "STRING"),
        ("w", "INT"),
        ("live", "BOOLEAN"),
    ])
}

fn right_fields() -> Vec<Field> {
    produced()[..3].to_vec()
}

fn spec(join_type: JoinType, keys: &[u32], null_safe: bool, condition: bool) -> plan::LookupJoin {
    let int = LogicalType::Int.nullable();
    let values = vec![Expr::column(2, &int), Expr::column(5, &int)];
    let boolean = LogicalType::Boolean.nullable();
    let less = Expr::call(ScalarFunction::Less, values, &boolean);
    let columns = right_fields().into_iter().enumerate();
    let columns = columns.map(|(i, field)| Expr::column(i, &field.data_type));
    plan::LookupJoin {
        r#type: join_type.into(),
        left_keys: keys.to_vec(),
        right_keys: keys.to_vec(),
        null_safe: vec![null_safe; keys.len()],
        condition: condition.then_some(less),
        table: Some(plan::LookupTable {
            table: "side".to_owned(),
            connector: None,
            produced: Some(plan::row_type(&produced())),
            calc: Some(plan::Calc {
                condition: Some(Expr::column(3, &boolean)),
                projections: columns.collect(),
            }),
            columns: Some(plan::row_type(&right_fields())),
        }),
    }
}

fn table(spec: &plan::LookupJoin, batches: &[ChangeBatch]) -> super::LookupIndex {
    let mut reader = LookupReader::new(spec, BYTES_MAX).expect("a plan");
    for batch in batches {
        reader.add(batch.rows.clone()).expect("rows");
    }
    reader.finish().expect("an index")
}

fn make(
    spec: &plan::LookupJoin,
    table: LookupTable,
) -> impl Fn(&TaskScope) -> Result<Box<dyn Operator>, OperatorError> {
    move |scope| LookupJoinOperator::build(spec, &left_fields(), table.clone(), scope)
}

/// Two keys and a value; `None` is NULL.
type Row = (Option<i64>, Option<char>, Option<i64>);

fn cell<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "NULL".to_owned(), |value| value.to_string())
}

fn line((k, s, v): &Row) -> String {
    format!("{}, {}, {}", cell(*k), cell(*s), cell(*v))
}

fn row() -> impl Strategy<Value = Row> {
    let key = prop::option::weighted(0.9, 0..5_i64);
    let name = prop::option::weighted(0.9, prop::sample::select(vec!['a', 'b']));
    (key, name, prop::option::weighted(0.9, 0..5_i64))
}

fn naive(spec: &plan::LookupJoin, left: &[Row], right: &[(Row, bool)]) -> Folded {
    let safe = spec.null_safe.first() == Some(&true);
    let same = |key: u32, l: &Row, r: &Row| {
        let (equal, known) = match key {
            0 => (l.0 == r.0, l.0.is_some()),
            _ => (l.1 == r.1, l.1.is_some()),
        };
        equal && (known || safe)
    };
    let mut out = Folded::new();
    for l in left {
        let less = |r: &Row| matches!((l.2, r.2), (Some(v), Some(w)) if v < w);
        let found = right.iter().filter(|(r, live)| {
            let keys = spec.left_keys.iter().all(|key| same(*key, l, r));
            *live && keys && (spec.condition.is_none() || less(r))
        });
        let mut joined: Vec<String> = found
            .map(|(r, _)| format!("{}, {}", line(l), line(r)))
            .collect();
        if joined.is_empty() && spec.r#type() == JoinType::Left {
            joined.push(format!("{}, NULL, NULL, NULL", line(l)));
        }
        for row in joined {
            *out.entry(row).or_default() += 1;
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn equals_two_nested_loops(
        join_type in prop::sample::select(vec![JoinType::Inner, JoinType::Left]),
        keys in prop::sample::select(vec![vec![], vec![0], vec![1], vec![0, 1]]),
        null_safe in any::<bool>(),
        condition in any::<bool>(),
        right in prop::collection::vec(prop::collection::vec((row(), any::<bool>()), 0..20), 0..4),
        steps in prop::collection::vec((prop::collection::vec(row(), 1..12), any::<bool>()), 1..8),
    ) {
        let spec = spec(join_type, &keys, null_safe, condition);
        let batch = |batch: &Vec<(Row, bool)>| {
            let lines = batch.iter().map(|(row, live)| format!("{}, {live}", line(row)));
            rows(&produced(), &lines.collect::<Vec<_>>().join("\n"))
        };
        let read: Vec<ChangeBatch> = right.iter().map(batch).collect();
        let table = LookupTable::new(table(&spec, &read));
        let mut events = Vec::new();
        for (batch, barrier) in &steps {
            let lines: Vec<String> = batch.iter().map(line).collect();
            events.push(insert(0, &left_fields(), &lines.join("\n")));
            events.extend(barrier.then_some(Event::Barrier));
        }
        events.push(Event::End);
        let folded = crash_at_each_barrier(&make(&spec, table), &events, &Fold::Retract);
        let left: Vec<Row> = steps.into_iter().flat_map(|(batch, _)| batch).collect();
        prop_assert_eq!(folded, naive(&spec, &left, &right.concat()));
    }
}

#[test]
fn rows_come_out_in_their_order_and_time_passes() {
    let spec = spec(JoinType::Left, &[0], false, false);
    let side = rows(
        &produced(),
        "2, x, 20, true\n1, y, 10, true\n2, z, 21, true\n1, n, 0, NULL",
    );
    let table = LookupTable::new(table(&spec, &[side]));
    let events = [
        insert(0, &left_fields(), "2, a, 1\nNULL, b, 2\n1, c, 3"),
        Event::Watermark(5),
        insert(0, &left_fields(), "1, d, 4\n1, e, 5"),
        Event::End,
    ];
    let expected = "\
+I 2, a, 1, 2, x, 20
+I 2, a, 1, 2, z, 21
+I NULL, b, 2, NULL, NULL, NULL
+I 1, c, 3, 1, y, 10
watermark 5
+I 1, d, 4, 1, y, 10
+I 1, e, 5, 1, y, 10
end
";
    assert_eq!(changelog(&drive(&make(&spec, table), &events)), expected);
}

#[test]
fn what_is_read_again_counts_from_the_next_batch_on() {
    let spec = spec(JoinType::Inner, &[0], false, false);
    let read = |text: &str| table(&spec, &[rows(&produced(), text)]);
    let known = LookupTable::new(read("1, old, 1, true"));
    let output = RefCell::new(Vec::<Element>::new());
    let made = make(&spec, known.clone());
    let one = [insert(0, &left_fields(), "1, a, 1\n2, b, 2")];
    output.borrow_mut().extend(drive(&made, &one));
    known.replace(read("1, new, 2, true\n2, new, 3, true"));
    output.borrow_mut().extend(drive(&made, &one));
    let expected = "\
+I 1, a, 1, 1, old, 1
+I 1, a, 1, 1, new, 2
+I 2, b, 2, 2, new, 3
";
    assert_eq!(changelog(&output.borrow()), expected);
}

#[test]
fn a_key_with_many_rows_comes_out_in_pieces() {
    for condition in [false, true] {
        let spec = spec(JoinType::Left, &[0], false, condition);
        let side: Vec<String> = (0..50).map(|w| format!("1, x, {w}, true")).collect();
        let table = LookupTable::new(table(&spec, &[rows(&produced(), &side.join("\n"))]));
        let events = [insert(
            0,
            &left_fields(),
            "1, a, -1\n1, b, 60\n2, c, 1\n1, d, 48",
        )];
        let output = drive(&make(&spec, table), &events);
        let sizes: Vec<usize> = crate::testing::batches(&output)
            .iter()
            .map(ChangeBatch::num_rows)
            .collect();
        assert!(sizes.iter().all(|rows| *rows <= 9), "{sizes:?}");
        let rows: usize = sizes.iter().sum();
        // Of 60 none is larger, of 48 one is.
        assert_eq!(
            rows,
            if condition {
                50 + 1 + 1 + 1
            } else {
                3 * 50 + 1
            }
        );
    }
}

#[test]
fn a_table_that_is_too_large_is_refused() {
    let spec = spec(JoinType::Inner, &[0], false, false);
    let mut reader = LookupReader::new(&spec, 100).expect("a plan");
    let lines: Vec<String> = (0..50).map(|w| format!("1, x, {w}, true")).collect();
    let added = reader.add(rows(&produced(), &lines.join("\n")).rows);
    let error = added.expect_err("too much");
    let refused = matches!(
        &error,
        OperatorError::Source {
            source: SourceError::Refused { .. },
            ..
        }
    );
    assert!(refused, "{error}");
    assert!(error.to_string().contains("table `side`"), "{error}");
}

#[test]
fn what_finds_rows_counts_as_memory_too() {
    let spec = spec(JoinType::Inner, &[0], false, false);
    let lines: Vec<String> = (0..1_000).map(|k| format!("{k}, x, 1, true")).collect();
    let side = rows(&produced(), &lines.join("\n")).rows;
    let columns = side.project(&[0, 1, 2]).expect("columns");
    let index_bytes = 30 * side.num_rows();
    for (bytes_max, fits) in [
        (columns.get_array_memory_size() + index_bytes, false),
        (2 * columns.get_array_memory_size() + 2 * index_bytes, true),
    ] {
        let mut reader = LookupReader::new(&spec, bytes_max).expect("a plan");
        assert_eq!(reader.add(side.clone()).is_ok(), fits, "{bytes_max}");
    }
}
