//! What operators have stored, looked at from outside: each is driven, and what it left in its tables is
//! decoded.

use engine::{
    operator::{Operator, OperatorError, TaskScope},
    state::{StateTtl, TimeDomain},
};
use proto::{
    plan::{
        self, AggregateCall, Changelog, ColumnSet, JoinType, OverCall, OverFrame, OverNumber,
        OverOrder, SortKey, StateTable, WindowKind, WindowProperty, WindowSpec,
        node::Operator as Spec, over_call::Function, window_aggregate::Windowing,
    },
    types::{Field, KeyGroupCount, TableId},
};
use state_client::LoadedRow;

use super::{InspectedNode, InspectedTable, inspect};
use crate::{
    ChangelogNormalizeOperator, DeduplicateOperator, IntervalJoinOperator, JoinOperator,
    MultiJoinOperator, OverOperator, RankOperator, SortOperator, TemporalJoinOperator,
    aggregate::GroupAggregateOperator,
    testing::{Event, changelog, fields, insert, left_behind},
    window::WindowAggregateOperator,
};

type Made = Result<Box<dyn Operator>, OperatorError>;

const TABLES: [TableId; 3] = [TableId(1), TableId(2), TableId(3)];

fn columns() -> Vec<Field> {
    fields(&[("k", "INT"), ("v", "INT"), ("t", "TIMESTAMP(3)")])
}

fn ttl(is_set: bool) -> StateTtl {
    match is_set {
        true => StateTtl::new(vec![1_000, 1_000], TimeDomain::Processing),
        false => StateTtl::NEVER,
    }
}

fn tables(spec: &Spec, changelogs: Vec<Changelog>, ttl: StateTtl) -> Vec<InspectedTable> {
    let names = ["one", "two", "three"];
    let tables: Vec<StateTable> = (1..)
        .zip(names)
        .map(|(id, name)| StateTable {
            id,
            name: name.to_owned(),
        })
        .collect();
    let inputs = changelogs.iter().map(|_| columns()).collect();
    inspect(&InspectedNode {
        operator: spec,
        tables: &tables,
        inputs,
        changelogs,
        ttl,
        key_groups: KeyGroupCount::new(8).expect("a power of two"),
    })
    .expect("a plan that fits")
}

/// What a table has after the events, a row per line, sorted.
fn stored(
    table: &InspectedTable,
    make: &dyn Fn(&TaskScope) -> Made,
    events: &[Event],
) -> Vec<String> {
    let events = [events, &[Event::Barrier]].concat();
    let left = |table: TableId| left_behind(make, &events, 1, |_| false, &[table]).0;
    let rows: Vec<LoadedRow> = left(table.id())
        .into_iter()
        .filter(|r| table.is_row(r))
        .collect();
    let mut beside = Vec::new();
    for read in table.reads_beside(&rows) {
        let is_it = |row: &LoadedRow| row.hash == read.hash && row.namespace == read.namespace;
        beside.extend(left(read.table).into_iter().filter(is_it));
    }
    let batch = table.decode(&rows, &beside).expect("rows that decode");
    // Rows without a key are found by going through all of them.
    let keyed = if table.key_columns.is_empty() {
        0
    } else {
        rows.len()
    };
    for (row, key) in rows[..keyed].iter().zip(0..) {
        let columns = table.key_columns.iter();
        let key: Vec<_> = columns.map(|c| batch.column(*c).slice(key, 1)).collect();
        assert_eq!(table.hash(&key).expect("a hash"), row.hash);
        let found = table.matching(&batch, &key).expect("it compares");
        assert!(!found.is_empty());
    }
    let batch = engine::Element::Batch(engine::ChangeBatch::inserts(batch));
    let text = changelog(&[batch]).replace("1970-01-01T00:00:00", "0");
    let mut lines: Vec<String> = text.lines().map(|line| line[3..].to_owned()).collect();
    lines.sort();
    lines
}

fn rows(text: &str) -> Event {
    insert(0, &columns(), text)
}

fn call(function: &str, args: &[u32], distinct: bool) -> AggregateCall {
    AggregateCall {
        function: function.to_owned(),
        args: args.to_vec(),
        distinct,
        filter: None,
        r#type: "BIGINT".to_owned(),
        name: function.to_lowercase(),
    }
}

#[test]
fn groups_are_what_their_calls_give() {
    let mut min = call("MIN", &[1], false);
    min.r#type = "INT".to_owned();
    let spec = plan::GroupAggregate {
        keys: vec![0],
        calls: vec![call("COUNT", &[], false), call("COUNT", &[1], true), min],
        from_partial: false,
        emit_update_before: true,
    };
    let events = [
        rows("1, 5, 0\n1, 3, 0\nNULL, 7, 0\n2, 1, 0"),
        Event::Barrier,
        rows("-D 1, 3, 0\n1, 5, 0\n-D 2, 1, 0"),
    ];
    for is_set in [false, true] {
        let make = |scope: &TaskScope| {
            let input = columns();
            GroupAggregateOperator::build(&spec, &input, &TABLES, false, &ttl(is_set), scope)
        };
        let node = Spec::GroupAggregate(spec.clone());
        let tables = tables(&node, vec![Changelog::RETRACT], ttl(is_set));
        assert_eq!(tables.len(), 1);
        let found = stored(&tables[0], &make, &events);
        assert_eq!(found, ["1, 2, 1, 5", "NULL, 1, 1, 7"]);
    }
}

#[test]
fn windows_and_sessions_say_when_they_are() {
    let spec = |kind: WindowKind| plan::WindowAggregate {
        keys: vec![0],
        calls: vec![call("COUNT", &[], false)],
        windowing: Some(Windowing::Window(WindowSpec {
            kind: kind as i32,
            time_column: 2,
            size_ms: 10,
            gap_ms: 5,
            ..WindowSpec::default()
        })),
        properties: vec![WindowProperty::WindowEnd as i32],
        from_partial: false,
    };
    let output = fields(&[("k", "INT"), ("c", "BIGINT"), ("e", "TIMESTAMP(3)")]);
    let events = [
        rows("1, 0, 1\n1, 0, 3\n1, 0, 15\n2, 0, 16"),
        Event::Watermark(2),
    ];
    let check = |kind: WindowKind, expected: &[&str]| {
        let spec = spec(kind);
        let make = |scope: &TaskScope| {
            WindowAggregateOperator::build(&spec, &columns(), &output, &TABLES, true, scope)
        };
        let node = Spec::WindowAggregate(spec.clone());
        let tables = tables(&node, vec![Changelog::APPEND], StateTtl::NEVER);
        assert_eq!(stored(&tables[0], &make, &events), expected);
    };
    check(
        WindowKind::Tumble,
        &["1, 1, 0.020", "1, 2, 0.010", "2, 1, 0.020"],
    );
    check(
        WindowKind::Session,
        &[
            "1, 1, 0.015, 0.015",
            "1, 2, 0.001, 0.003",
            "2, 1, 0.016, 0.016",
        ],
    );
}

/// What the one table of an operator has after a few rows.
#[track_caller]
fn check(
    spec: Spec,
    input: Changelog,
    is_set: bool,
    make: &dyn Fn(&TaskScope) -> Made,
    expected: &[&str],
) {
    let tables = tables(&spec, vec![input], ttl(is_set));
    let events = [
        rows("1, 5, 1\n1, 4, 2\nNULL, 1, 3"),
        Event::Barrier,
        rows("2, 2, 0"),
    ];
    assert_eq!(stored(&tables[0], make, &events), expected, "{spec:?}");
}

#[test]
fn first_and_last_rows_are_as_they_came() {
    for is_set in [false, true] {
        for (keep_last, time_column, expected) in [
            (false, None, ["1", "2", "NULL"]),
            (true, None, ["1, 4, 0.002", "2, 2, 0", "NULL, 1, 0.003"]),
            (false, Some(2), ["1, 5, 0.001", "2, 2, 0", "NULL, 1, 0.003"]),
        ] {
            let spec = plan::Deduplicate {
                keys: vec![0],
                time_column,
                keep_last,
                window: None,
                emit_update_before: false,
            };
            let make = |scope: &TaskScope| {
                DeduplicateOperator::build(&spec, &columns(), &TABLES[..1], &ttl(is_set), scope)
            };
            let node = Spec::Deduplicate(spec.clone());
            check(node, Changelog::APPEND, is_set, &make, &expected);
        }
        let spec = plan::ChangelogNormalize {
            keys: vec![0],
            emit_update_before: false,
        };
        let make = |scope: &TaskScope| {
            ChangelogNormalizeOperator::build(&spec, &columns(), &TABLES[..1], &ttl(is_set), scope)
        };
        let latest = ["1, 4, 0.002", "2, 2, 0", "NULL, 1, 0.003"];
        let node = Spec::ChangelogNormalize(spec.clone());
        check(node, Changelog::UPSERT, is_set, &make, &latest);
    }
}

#[test]
fn rows_of_a_ranking_are_as_they_came() {
    let spec = plan::Rank {
        partition_by: vec![0],
        order_by: vec![SortKey {
            column: 1,
            descending: false,
            nulls_last: false,
        }],
        limit: 1,
        ..plan::Rank::default()
    };
    let appended = ["1, 4, 0.002", "2, 2, 0", "NULL, 1, 0.003"];
    let counted = [
        "1, 4, 0.002, 1",
        "1, 5, 0.001, 1",
        "2, 2, 0, 1",
        "NULL, 1, 0.003, 1",
    ];
    for is_set in [false, true] {
        for (input, expected) in [
            (Changelog::APPEND, &appended[..]),
            (Changelog::RETRACT, &counted),
        ] {
            let make = |scope: &TaskScope| {
                RankOperator::build(&spec, &columns(), &TABLES[..1], &input, &ttl(is_set), scope)
            };
            check(Spec::Rank(spec.clone()), input, is_set, &make, expected);
        }
    }
}

#[test]
fn rows_that_wait_to_be_sorted_are_as_they_came() {
    let spec = plan::Sort {
        time_column: 2,
        ..plan::Sort::default()
    };
    let make = |scope: &TaskScope| SortOperator::build(&spec, &columns(), &TABLES[..1], scope);
    let tables = tables(
        &Spec::Sort(spec.clone()),
        vec![Changelog::APPEND],
        StateTtl::NEVER,
    );
    assert_eq!(
        stored(&tables[0], &make, &[rows("1, 5, 1")]),
        ["1, 5, 0.001"]
    );
}

#[test]
fn over_calls_have_what_later_rows_look_back_at() {
    let over = |function: Function, data_type: &str| OverCall {
        function: Some(function),
        r#type: data_type.to_owned(),
        name: "result".to_owned(),
    };
    let mut sum = call("SUM", &[1], false);
    sum.r#type = "INT".to_owned();
    let sum = over(Function::Aggregate(sum), "INT");
    let ranks = over(Function::Number(OverNumber::DenseRank.into()), "BIGINT");
    let spec = |order: OverOrder, range: bool, preceding: Option<u64>, calls: &[OverCall]| {
        plan::OverAggregate {
            partition_by: vec![0],
            order_by: vec![SortKey {
                column: 2,
                descending: false,
                nulls_last: false,
            }],
            order: order.into(),
            frame: Some(OverFrame { range, preceding }),
            calls: calls.to_vec(),
            emit_update_before: false,
        }
    };
    let (by_time, kept) = (OverOrder::InOrder, OverOrder::Kept);
    let two = [sum.clone(), ranks];
    let one = &two[..1];
    let whole = ["1, 3, 0", "1, 4, 0.005", "1, 5, 0", "2, 1, 0"];
    for (spec, expected) in [
        (
            spec(by_time, true, None, &two),
            &["1, 12, 2", "2, 1, 1"][..],
        ),
        (spec(by_time, false, Some(1), one), &["1, 4", "2, 1"]),
        (spec(by_time, true, Some(4), one), &["1, 4", "2, 1"]),
        (
            spec(by_time, true, Some(5), one),
            &["1, 3", "1, 4", "1, 5", "2, 1"],
        ),
        (spec(by_time, true, Some(0), one), &[]),
        (spec(kept, false, Some(1), one), &whole),
    ] {
        for is_set in [false, true] {
            let append = Changelog::APPEND;
            let ids = &TABLES[..if spec.frame.is_some_and(|f| f.preceding.is_none()) {
                2
            } else {
                1
            }];
            let make = |scope: &TaskScope| {
                OverOperator::build(&spec, &columns(), ids, &append, &ttl(is_set), scope)
            };
            let node = Spec::OverAggregate(spec.clone());
            let table = &tables(&node, vec![append], ttl(is_set))[0];
            let events = [rows("1, 5, 0\n1, 3, 0\n2, 1, 0"), rows("1, 4, 5")];
            assert_eq!(stored(table, &make, &events), expected, "{spec:?}");
        }
    }
}

#[test]
fn each_side_of_a_join_is_a_table() {
    let key = |columns: &[u32]| {
        Some(ColumnSet {
            columns: columns.to_vec(),
        })
    };
    let spec = plan::Join {
        r#type: JoinType::Inner.into(),
        left_keys: vec![0],
        right_keys: vec![0],
        null_safe: vec![false],
        condition: None,
        left_unique_key: None,
        right_unique_key: key(&[1]),
        ..plan::Join::default()
    };
    let (left, right) = (["1, 5, 0.001, 2", "2, 6, 0, 1"], ["1, 5, 0.002"]);
    let events = [
        rows("1, 5, 1\n2, 6, 0\n1, 5, 1"),
        insert(1, &columns(), "1, 5, 1\n+U 1, 5, 2"),
    ];
    let changelogs = [Changelog::RETRACT, Changelog::UPSERT];
    for ttl in [
        StateTtl::NEVER,
        StateTtl::new(vec![0, 1_000], TimeDomain::Processing),
        ttl(true),
    ] {
        let make = |scope: &TaskScope| {
            let input = columns();
            let inputs = [&input[..], &input[..]];
            JoinOperator::build(&spec, &inputs, &TABLES[..2], &changelogs, &ttl, scope)
        };
        let node = Spec::Join(spec.clone());
        let tables = tables(&node, changelogs.to_vec(), ttl.clone());
        assert_eq!(stored(&tables[0], &make, &events), left);
        assert_eq!(stored(&tables[1], &make, &events), right);
    }
}

#[test]
fn each_input_of_a_join_of_many_is_a_table() {
    let spec = plan::MultiJoin {
        inputs: [0, 0, 1]
            .map(|key| plan::MultiJoinInput { keys: vec![key] })
            .to_vec(),
        null_safe: vec![false],
        columns: vec![0],
    };
    let events = [
        rows("1, 5, 1\n1, 5, 1\nNULL, 6, 0"),
        insert(1, &columns(), "2, 7, 4"),
        insert(2, &columns(), "9, 3, 4\n9, 3, 4"),
    ];
    let changelogs = [Changelog::APPEND, Changelog::APPEND, Changelog::RETRACT];
    let make = |scope: &TaskScope| {
        let input = columns();
        let (inputs, never) = ([&input[..]; 3], StateTtl::NEVER);
        MultiJoinOperator::build(&spec, &inputs, &TABLES[..3], &changelogs, &never, scope)
    };
    let node = Spec::MultiJoin(spec.clone());
    let tables = tables(&node, changelogs.to_vec(), StateTtl::NEVER);
    let expected = [
        &["1, 5, 0.001"; 2][..],
        &["2, 7, 0.004"],
        &["9, 3, 0.004, 2"],
    ];
    for (table, expected) in tables.iter().zip(expected) {
        assert_eq!(stored(table, &make, &events), expected);
    }
}

#[test]
fn rows_within_an_interval_are_apart_from_those_that_have_met_none() {
    let spec = plan::IntervalJoin {
        r#type: JoinType::Left.into(),
        left_keys: vec![0],
        right_keys: vec![0],
        null_safe: vec![false],
        condition: None,
        left_time: 2,
        right_time: 2,
        lower_ms: 0,
        upper_ms: 5,
    };
    let events = [
        rows("1, 5, 1\n2, 6, 9\nNULL, 7, 9"),
        insert(1, &columns(), "1, 7, 4"),
        Event::Watermark(2),
    ];
    let make = |scope: &TaskScope| {
        let input = columns();
        IntervalJoinOperator::build(&spec, &[&input, &input], &TABLES, scope)
    };
    let changelogs = vec![Changelog::APPEND, Changelog::APPEND];
    let node = Spec::IntervalJoin(spec.clone());
    let tables = tables(&node, changelogs, StateTtl::NEVER);
    let expected = [["1, 5, 0.001"], ["1, 7, 0.004"], ["2, 6, 0.009"]];
    for (table, expected) in tables.iter().zip(expected) {
        assert_eq!(stored(table, &make, &events), expected);
    }
}

#[test]
fn versions_are_kept_beside_the_rows_that_wait_for_them() {
    let spec = plan::TemporalJoin {
        r#type: JoinType::Left.into(),
        left_keys: vec![0],
        right_keys: vec![0],
        null_safe: vec![false],
        condition: None,
        left_time: 2,
        right_time: 2,
    };
    let events = [
        rows("1, 5, 1\n2, 6, 9"),
        insert(1, &columns(), "1, 7, 0\n1, 8, 3\n-D 2, 9, 4"),
        Event::Watermark(2),
    ];
    let make = |scope: &TaskScope| {
        let input = columns();
        TemporalJoinOperator::build(&spec, &[&input, &input], &TABLES[..2], scope)
    };
    let changelogs = vec![Changelog::APPEND, Changelog::UPSERT];
    let node = Spec::TemporalJoin(spec.clone());
    let tables = tables(&node, changelogs, StateTtl::NEVER);
    assert_eq!(stored(&tables[0], &make, &events), ["2, 6, 0.009"]);
    let versions = ["1, 7, 0, false", "1, 8, 0.003, false", "2, 9, 0.004, true"];
    assert_eq!(stored(&tables[1], &make, &events), versions);
}

#[test]
fn rows_that_expire_by_themselves_are_judged_by_their_time() {
    let join = Spec::Join(plan::Join {
        left_keys: vec![0],
        right_keys: vec![0],
        ..plan::Join::default()
    });
    let normalize = Spec::ChangelogNormalize(plan::ChangelogNormalize {
        keys: vec![0],
        emit_update_before: false,
    });
    let rank = Spec::Rank(plan::Rank {
        partition_by: vec![0],
        ..plan::Rank::default()
    });
    let event = StateTtl::new(vec![1_000, 1_000], TimeDomain::Event);
    let row = |value: Vec<u8>| LoadedRow {
        namespace: 0,
        hash: 0,
        identity: Vec::new().into(),
        value: value.into(),
    };
    let stamp = 5_000_i64.to_le_bytes();
    let (first, last) = (
        row([&stamp[..], &[0xff; 20]].concat()),
        row([&[0xff; 20], &stamp[..]].concat()),
    );
    let check = |spec: &Spec, ttl: StateTtl, row: &LoadedRow, expires: bool| {
        let append = Changelog::APPEND;
        let changelogs = match spec {
            Spec::Join(_) => vec![append, append],
            _ => vec![append],
        };
        for table in tables(spec, changelogs, ttl) {
            assert!(!table.has_expired(row, 5_999), "{spec:?}");
            assert_eq!(table.has_expired(row, 6_000), expires, "{spec:?}");
        }
    };
    check(&join, ttl(true), &first, true);
    check(&normalize, ttl(true), &last, true);
    for (spec, row) in [(&join, &first), (&normalize, &last)] {
        check(spec, ttl(false), row, false);
        check(spec, event.clone(), row, false);
    }
    // A partition is as young as its youngest row.
    check(&rank, ttl(true), &first, false);
}
