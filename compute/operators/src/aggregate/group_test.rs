//! Grouping operators by scripts.

use engine::{
    operator::{Operator, OperatorError, TaskScope},
    state::StateTtl,
};
use expect_test::{Expect, expect};
use proto::{
    plan::{self, AggregateCall},
    types::{Field, TableId},
};

use super::{GroupAggregateOperator, LocalAggregateOperator};
use crate::testing::{
    Event, Fold, batches, changelog, crash_at_each_barrier, drive, fields, insert, left_behind,
    rows,
};

const TABLES: [TableId; 4] = [TableId(1), TableId(2), TableId(3), TableId(4)];

/// `COUNT(1) DISTINCT FILTER 2 BIGINT`: function, argument columns, and so on.
fn call(text: &str) -> AggregateCall {
    let (head, data_type) = text.split_once(": ").expect("function: type");
    let (function, rest) = head.split_once('(').expect("arguments");
    let (args, rest) = rest.split_once(')').expect("arguments");
    let filter = rest
        .split_once("FILTER ")
        .map(|(_, column)| column.parse().expect("column"));
    AggregateCall {
        function: function.to_owned(),
        args: args
            .split_whitespace()
            .map(|arg| arg.parse().expect("column"))
            .collect(),
        distinct: rest.contains("DISTINCT"),
        filter,
        r#type: data_type.to_owned(),
        name: head.to_owned(),
    }
}

pub(super) fn group(keys: &[u32], calls: &[&str], update_before: bool) -> plan::GroupAggregate {
    plan::GroupAggregate {
        keys: keys.to_vec(),
        calls: calls.iter().map(|text| call(text)).collect(),
        from_partial: false,
        emit_update_before: update_before,
    }
}

pub(super) fn maker<'a>(
    spec: &'a plan::GroupAggregate,
    input: &'a [Field],
    append_only: bool,
) -> impl Fn(&TaskScope) -> Result<Box<dyn Operator>, OperatorError> + 'a {
    move |scope| {
        GroupAggregateOperator::build(spec, input, &TABLES, append_only, &StateTtl::NEVER, scope)
    }
}

fn check(
    spec: &plan::GroupAggregate,
    input: &[Field],
    append_only: bool,
    script: &[&str],
    expected: Expect,
) {
    let events: Vec<Event> = script
        .iter()
        .map(|step| match *step {
            "barrier" => Event::Barrier,
            rows => insert(0, input, rows),
        })
        .chain([Event::End])
        .collect();
    let make = maker(spec, input, append_only);
    expected.assert_eq(&changelog(&drive(&make, &events)));
    let fold = match spec.emit_update_before {
        true => Fold::Retract,
        false => Fold::Upsert((0..spec.keys.len()).collect()),
    };
    let _ = crash_at_each_barrier(&make, &events, &fold);
}

#[test]
fn zeros_of_either_sign_are_two_groups() {
    let input = fields(&[("k", "DOUBLE")]);
    check(
        &group(&[0], &["COUNT(): BIGINT"], true),
        &input,
        true,
        &["0.0\n-0.0\nNaN", "barrier", "-0.0\nNaN"],
        expect![[r#"
            +I 0.0, 1
            +I -0.0, 1
            +I NaN, 1
            barrier 1
            -U -0.0, 1
            +U -0.0, 2
            -U NaN, 1
            +U NaN, 2
            end
        "#]],
    );
}

#[test]
fn groups_are_told_once_per_batch() {
    let input = fields(&[("k", "STRING"), ("v", "INT")]);
    let spec = group(
        &[0],
        &[
            "COUNT(): BIGINT",
            "SUM(1): INT",
            "MAX(1): INT",
            "AVG(1): INT",
        ],
        true,
    );
    check(
        &spec,
        &input,
        true,
        &[
            "a, 1\nb, 5\na, 2",
            "barrier",
            "c, NULL\na, -10",
            "barrier",
            "a, NULL",
        ],
        expect![[r#"
            +I a, 2, 3, 2, 1
            +I b, 1, 5, 5, 5
            barrier 1
            +I c, 1, NULL, NULL, NULL
            -U a, 2, 3, 2, 1
            +U a, 3, -7, 2, -2
            barrier 2
            -U a, 3, -7, 2, -2
            +U a, 4, -7, 2, -2
            end
        "#]],
    );
}

#[test]
fn what_does_not_change_is_not_told() {
    let input = fields(&[("k", "BIGINT"), ("v", "INT")]);
    let spec = group(&[0], &["MAX(1): INT", "COUNT(1) DISTINCT: BIGINT"], false);
    check(
        &spec,
        &input,
        true,
        &["1, 5\n2, 7", "barrier", "1, 5\n2, 8", "1, 4\n1, 4\n3, 1"],
        expect![[r#"
            +I 1, 5, 1
            +I 2, 7, 1
            barrier 1
            +U 2, 8, 2
            +U 1, 5, 2
            +I 3, 1, 1
            end
        "#]],
    );
}

#[test]
fn groups_vanish_with_their_last_row() {
    let input = fields(&[("k", "STRING"), ("v", "INT")]);
    let spec = group(
        &[0],
        &[
            "MIN(1): INT",
            "MAX(1): INT",
            "SUM(1): INT",
            "COUNT(1) DISTINCT: BIGINT",
        ],
        true,
    );
    check(
        &spec,
        &input,
        false,
        &[
            "a, 1\na, 1\na, 9\nb, 3",
            "barrier",
            "-D a, 9\n-D b, 3",
            "barrier",
            "-U a, 1\n+U a, 2\nb, NULL",
            "barrier",
            "-D a, 1\n-D a, 2\n-D b, NULL\nc, 1\n-D c, 1",
        ],
        expect![[r#"
            +I a, 1, 9, 11, 2
            +I b, 3, 3, 3, 1
            barrier 1
            -U a, 1, 9, 11, 2
            +U a, 1, 1, 2, 1
            -D b, 3, 3, 3, 1
            barrier 2
            -U a, 1, 1, 2, 1
            +U a, 1, 2, 3, 2
            +I b, NULL, NULL, NULL, 0
            barrier 3
            -D a, 1, 2, 3, 2
            -D b, NULL, NULL, NULL, 0
            end
        "#]],
    );
}

#[test]
fn a_global_aggregate_of_nothing_has_no_row() {
    let input = fields(&[("v", "INT")]);
    let spec = group(&[], &["COUNT(): BIGINT"], true);
    check(&spec, &input, true, &[], expect!["end\n"]);
    check(
        &spec,
        &input,
        true,
        &["1\n2", "barrier", "3"],
        expect![[r#"
            +I 2
            barrier 1
            -U 2
            +U 3
            end
        "#]],
    );
}

#[test]
fn groups_without_calls_are_distinct_rows() {
    let input = fields(&[("a", "INT"), ("b", "STRING")]);
    let spec = group(&[0, 1], &[], false);
    check(
        &spec,
        &input,
        true,
        &["1, x\n1, x\n2, NULL", "barrier", "1, x\n2, NULL\n2, y"],
        expect![[r#"
            +I 1, x
            +I 2, NULL
            barrier 1
            +I 2, y
            end
        "#]],
    );
}

#[test]
fn filters_share_distinct_values() {
    let input = fields(&[
        ("k", "INT"),
        ("bidder", "BIGINT"),
        ("f", "BOOLEAN"),
        ("g", "BOOLEAN"),
    ]);
    let calls = [
        "COUNT(1) DISTINCT: BIGINT",
        "COUNT(1) DISTINCT FILTER 2: BIGINT",
        "COUNT(1) DISTINCT FILTER 3: BIGINT",
        "COUNT() FILTER 2: BIGINT",
        "SUM(1) DISTINCT: BIGINT",
    ];
    let spec = group(&[0], &calls, false);
    let script = [
        "1, 7, true, NULL\n1, 7, false, false\n1, NULL, true, true",
        "barrier",
        "1, 7, true, true\n1, 8, false, false\n2, 8, true, true",
        "barrier",
        "1, 8, true, false",
    ];
    let expected = expect![[r#"
        +I 1, 1, 1, 0, 2, 7
        barrier 1
        +U 1, 2, 1, 1, 3, 15
        +I 2, 1, 1, 1, 1, 8
        barrier 2
        +U 1, 2, 2, 1, 4, 15
        end
    "#]];
    check(&spec, &input, true, &script, expected);
}

#[test]
fn every_value_is_kept_by_collecting_calls() {
    let input = fields(&[("k", "INT"), ("s", "STRING"), ("v", "INT"), ("p", "DOUBLE")]);
    let calls = [
        "LIST_AGG(1): STRING",
        "ARRAY_AGG(2): ARRAY<INT>",
        "COLLECT(1): MULTISET<STRING>",
        "PERCENTILE(2 3): DOUBLE",
        "FIRST_VALUE(1): STRING",
        "LAST_VALUE(2): INT",
        "STDDEV_POP(2): INT",
        "VAR_SAMP(3): DOUBLE",
    ];
    let script = [
        "1, a, 4, 0.5\n1, b, NULL, 0.5",
        "barrier",
        "1, a, 8, 0.5",
        "barrier",
        "1, NULL, 1, 0.5\n2, NULL, NULL, 0.5",
    ];
    let append = [
        "+I 1, a,b, [4, NULL], {a: 1, b: 1}, 4.0, a, 4, 0, 0.0",
        "barrier 1",
        "+U 1, a,b,a, [4, NULL, 8], {a: 2, b: 1}, 6.0, a, 8, 2, 0.0",
        "barrier 2",
        "+U 1, a,b,a, [4, NULL, 8, 1], {a: 2, b: 1}, 4.0, a, 1, 2, 0.0",
        "+I 2, NULL, [NULL], {}, NULL, NULL, NULL, NULL, NULL",
        "end",
    ];
    let spec = group(&[0], &calls, false);
    let expected = append.join("\n") + "\n";
    for append_only in [true, false] {
        let events: Vec<Event> = script
            .iter()
            .map(|step| match *step {
                "barrier" => Event::Barrier,
                text => insert(0, &input, text),
            })
            .chain([Event::End])
            .collect();
        let make = maker(&spec, &input, append_only);
        assert_eq!(changelog(&drive(&make, &events)), expected);
        let _ = crash_at_each_barrier(&make, &events, &Fold::Upsert(vec![0]));
    }
    let taken_back = [
        "1, a, 4, 0.5\n1, b, 2, 0.5\n1, c, 3, 0.5",
        "barrier",
        "-D 1, a, 4, 0.5",
    ];
    let expected = expect![[r#"
        +I 1, a,b,c, [4, 2, 3], {a: 1, b: 1, c: 1}, 3.0, a, 3, 0, 0.0
        barrier 1
        +U 1, b,c, [2, 3], {b: 1, c: 1}, 2.5, b, 3, 0, 0.0
        end
    "#]];
    check(&spec, &input, false, &taken_back, expected);
}

#[test]
fn a_second_row_is_not_a_single_value() {
    let input = fields(&[("v", "INT")]);
    let spec = group(&[], &["SINGLE_VALUE(0): INT"], true);
    check(
        &spec,
        &input,
        false,
        &["5", "barrier", "-U 5\n+U 6"],
        expect![[r#"
            +I 5
            barrier 1
            -U 5
            +U 6
            end
        "#]],
    );
    let make = maker(&spec, &input, false);
    let fails = std::panic::catch_unwind(|| drive(&make, &[insert(0, &input, "1\n2")]));
    assert!(fails.is_err());
}

/// A local and a global aggregation as one script.
fn by_partials(calls: &[&str], input: &[Field], keys: &[u32], events: &[Event]) -> Vec<Event> {
    let spec = plan::LocalAggregate {
        keys: keys.to_vec(),
        calls: calls.iter().map(|text| call(text)).collect(),
        window: None,
    };
    let make = |scope: &TaskScope| LocalAggregateOperator::build(&spec, input, scope);
    let elements = drive(&make, events);
    elements
        .into_iter()
        .map(|element| match element {
            engine::Element::Batch(batch) => Event::Batch(0, batch),
            engine::Element::Barrier(_) => Event::Barrier,
            engine::Element::Watermark(time) => Event::Watermark(time),
            _ => Event::End,
        })
        .collect()
}

fn fields_of(events: &[Event]) -> Vec<Field> {
    // The partial columns' types, by way of arrow: what the plan says of them is not at hand.
    let schema = events.iter().find_map(|event| match event {
        Event::Batch(_, batch) => Some(batch.rows.schema()),
        _ => None,
    });
    let text = |data_type: &arrow::datatypes::DataType| match data_type {
        arrow::datatypes::DataType::Int64 => "BIGINT".to_owned(),
        arrow::datatypes::DataType::Int32 => "INT".to_owned(),
        arrow::datatypes::DataType::Utf8 => "STRING".to_owned(),
        arrow::datatypes::DataType::Decimal128(p, s) => format!("DECIMAL({p}, {s})"),
        other => panic!("no name for {other}"),
    };
    let schema = schema.expect("a batch");
    schema
        .fields()
        .iter()
        .map(|field| {
            Field::new(
                field.name(),
                text(field.data_type()).parse().expect("a type"),
            )
        })
        .collect()
}

#[test]
fn partials_amount_to_the_same() {
    let input = fields(&[
        ("k", "STRING"),
        ("v", "INT"),
        ("d", "DECIMAL(10, 2)"),
        ("s", "STRING"),
    ]);
    let calls = [
        "COUNT(): BIGINT",
        "COUNT(1): BIGINT",
        "SUM(1): INT",
        "SUM(2): DECIMAL(38, 2)",
        "AVG(1): INT",
        "AVG(2): DECIMAL(38, 6)",
        "MIN(3): STRING",
        "MAX(1): INT",
    ];
    let events = [
        insert(
            0,
            &input,
            "a, 1, 1.50, x\na, 4, 2.25, w\nb, NULL, NULL, NULL",
        ),
        insert(0, &input, "a, NULL, 9.99, NULL"),
        Event::Barrier,
        insert(0, &input, "b, 5, NULL, q\na, 2147483647, 0.01, z"),
        Event::End,
    ];
    let direct = group(&[0], &calls, true);
    let expected = Fold::Retract.fold(&drive(&maker(&direct, &input, true), &events));
    let partials = by_partials(&calls, &input, &[0], &events);
    let partial_input = fields_of(&partials);
    let merging = plan::GroupAggregate {
        from_partial: true,
        ..direct
    };
    let make = maker(&merging, &partial_input, true);
    assert_eq!(
        crash_at_each_barrier(&make, &partials, &Fold::Retract),
        expected
    );
}

/// Of more groups than columns are made for, one in twenty is left, in another slot.
#[test]
fn what_is_left_of_many_groups_is_what_it_was_and_takes_little_memory() {
    let input = fields(&[("k", "INT"), ("v", "INT"), ("s", "STRING"), ("d", "DOUBLE")]);
    let row = |key: i64| format!("{key}, {}, s{key}, {key}.5", key % 7);
    let all = 0..12_000_i64;
    let gone = all.clone().filter(|key| key % 20 != 3);
    let lines = |kind: &str, keys: &mut dyn Iterator<Item = i64>| -> String {
        keys.map(|key| format!("{kind}{}\n", row(key))).collect()
    };
    let events = [
        insert(0, &input, &lines("+I", &mut all.clone())),
        Event::Barrier,
        insert(0, &input, &lines("-D", &mut gone.clone())),
        Event::Barrier,
        insert(0, &input, "3, 1, x, 1.5\n11983, 2, y, 2.5"),
        Event::Barrier,
        Event::End,
    ];
    let calls = [
        "COUNT(): BIGINT",
        "SUM(1): INT",
        "AVG(3): DOUBLE",
        "VAR_POP(3): DOUBLE",
        "LAST_VALUE(2): STRING",
    ];
    let spec = group(&[0], &calls, true);
    let make = maker(&spec, &input, false);
    let output = changelog(&drive(&make, &events));
    let (_, last) = output.split_once("barrier 2\n").expect("two barriers");
    let expected = "-U 3, 1, 3, 3.5, 0.0, s3\n+U 3, 2, 4, 2.5, 1.0, x\n\
        -U 11983, 1, 6, 11983.5, 0.0, s11983\n+U 11983, 2, 8, 5993.0, 35886090.25, y\n\
        barrier 3\nend\n";
    assert_eq!(last, expected);
    let _ = crash_at_each_barrier(&make, &events, &Fold::Retract);
    let (_, full) = left_behind(&make, &events[..1], 1, |_| false, &[]);
    let (_, left) = left_behind(&make, &events, 1, |_| false, &[]);
    assert!(left.bytes * 4 < full.bytes, "{left:?}, before {full:?}");
}

#[test]
fn keys_that_do_not_repeat_pass_through() {
    let input = fields(&[("k", "BIGINT"), ("v", "INT")]);
    let lines = |from: usize| -> String {
        (from..from + 5000)
            .map(|key| format!("{key}, 1\n"))
            .collect()
    };
    let events: Vec<Event> = (0..4)
        .map(|batch| insert(0, &input, &lines(batch * 5000)))
        .chain([Event::End])
        .collect();
    let partials = by_partials(&["SUM(1): INT"], &input, &[0], &events);
    let rows: Vec<usize> = partials
        .iter()
        .filter_map(|event| match event {
            Event::Batch(_, batch) => Some(batch.num_rows()),
            _ => None,
        })
        .collect();
    assert_eq!(rows.iter().sum::<usize>(), 20_000);
    assert_eq!(
        rows.iter().filter(|rows| **rows == 5000).count(),
        2,
        "two batches pass whole"
    );
}

#[test]
fn batches_of_the_harness_have_kinds() {
    let input = fields(&[("k", "INT")]);
    assert!(rows(&input, "1\n2").kinds.is_none());
    assert!(rows(&input, "-D 1").kinds.is_some());
    assert!(batches(&[]).is_empty());
}
