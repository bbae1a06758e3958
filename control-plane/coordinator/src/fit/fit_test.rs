//! Plans that go on with the state of others, and plans that do not.

use std::sync::Arc;

use proto::{
    control::JobOptions,
    plan::{
        AggregateCall, BestPair, Exchange, Field, Fragment, GroupAggregate, HashPartitioning,
        Input, Join, MultiJoin, Partitioning, RowType, Source, StateBound, StateTable, TtlBound,
        WindowAggregate, WindowSpec, input, partitioning::Kind, state_bound::Kind as Bound,
        window_aggregate::Windowing,
    },
};

use super::{place::best_of_key, *};

fn tables(names: &[(u32, &str)]) -> Vec<StateTable> {
    let table = |(id, name): &(u32, &str)| StateTable {
        id: *id,
        name: (*name).to_owned(),
    };
    names.iter().map(table).collect()
}

fn source(table: u32, columns: &[&str]) -> Node {
    let field = |r#type: &&str| Field {
        name: "c".into(),
        r#type: (*r#type).into(),
    };
    Node {
        id: "source-1".into(),
        tables: tables(&[(table, "offsets")]),
        output: Some(RowType {
            fields: columns.iter().map(field).collect(),
        }),
        operator: Some(Operator::Source(Source {
            table: "t".into(),
            ..Source::default()
        })),
        ..Node::default()
    }
}

fn aggregate(id: &str, first: u32, keys: Vec<u32>) -> Node {
    Node {
        id: id.into(),
        description: format!("Aggregate({id})"),
        tables: tables(&[(first, "accumulators"), (first + 1, "distinct")]),
        inputs: vec![Input {
            from: Some(input::From::Exchange(0)),
        }],
        operator: Some(Operator::GroupAggregate(GroupAggregate {
            keys,
            ..GroupAggregate::default()
        })),
        ..Node::default()
    }
}

fn spec(source: Node, others: Vec<Node>) -> JobSpec {
    let plan = Plan {
        key_groups: 256,
        hash_version: 1,
        fragments: vec![
            Fragment {
                id: 0,
                nodes: vec![source],
                singleton: false,
            },
            Fragment {
                id: 1,
                nodes: others,
                singleton: false,
            },
        ],
        exchanges: vec![Exchange {
            to_fragment: 1,
            partitioning: Some(Partitioning {
                kind: Some(Kind::Hash(HashPartitioning { columns: vec![0] })),
            }),
            ..Exchange::default()
        }],
        ..Plan::default()
    };
    JobSpec {
        name: "job".into(),
        sql: String::new(),
        plan: Arc::new(plan),
        options: JobOptions::default(),
        select: None,
        origin: None,
        tables_max: 0,
    }
}

fn numbers(spec: &JobSpec) -> Vec<u32> {
    let nodes = spec
        .plan
        .fragments
        .iter()
        .flat_map(|fragment| &fragment.nodes);
    nodes
        .flat_map(|node| &node.tables)
        .map(|table| table.id)
        .collect()
}

#[test]
fn operators_keep_their_tables_whatever_else_changes() {
    let old = spec(
        source(1, &["INT"]),
        vec![aggregate("a", 2, vec![0]), aggregate("b", 4, vec![0])],
    );
    // Another one comes first, and more columns are read.
    let new = || {
        spec(
            source(1, &["INT"]),
            vec![aggregate("new", 2, vec![0]), aggregate("b", 4, vec![0])],
        )
    };
    assert_eq!(
        fit(&old, new(), false),
        Err(Misfit::Unclaimed {
            operators: vec!["Aggregate(a)".into()],
            multi_joins: None,
        })
    );
    let fitted = fit(&old, new(), true).expect("it fits");
    assert_eq!(numbers(&fitted), [1, 6, 7, 4, 5]);
    assert_eq!(fitted.tables_max, 7);
    // What was left alone is still there, and its number is never used again.
    let third = spec(source(1, &["INT"]), vec![aggregate("a", 2, vec![0])]);
    let third = fit(&fitted, third, true).expect("it fits");
    assert_eq!(numbers(&third), [1, 8, 9]);
}

/// A window aggregate of rows, whose keys are the second column, or of their partial results.
fn windowed(from_partial: bool, size_ms: u64, repeated: bool) -> JobSpec {
    let call = |args: Vec<u32>, name: &str| AggregateCall {
        function: "SUM".into(),
        args,
        name: name.into(),
        ..AggregateCall::default()
    };
    let calls = match (from_partial, repeated) {
        (true, _) => vec![call(vec![1], "a"), call(vec![2], "b")],
        (false, false) => vec![call(vec![0], "a"), call(vec![2], "b")],
        (false, true) => vec![call(vec![0], "a"), call(vec![0], "b")],
    };
    let mut node = aggregate("a", 2, Vec::new());
    node.operator = Some(Operator::WindowAggregate(WindowAggregate {
        keys: vec![u32::from(!from_partial)],
        calls,
        windowing: Some(Windowing::Window(WindowSpec {
            size_ms,
            time_column: if from_partial { 3 } else { 2 },
            ..WindowSpec::default()
        })),
        from_partial,
        ..WindowAggregate::default()
    }));
    let columns = match from_partial {
        true => ["INT", "BIGINT", "BIGINT"],
        false => ["BIGINT", "INT", "TIMESTAMP(3)"],
    };
    spec(source(1, &columns), vec![node])
}

#[test]
fn which_pairs_a_join_leaves_out_is_no_state() {
    let joined = |best_pair| {
        let mut node = aggregate("a", 2, Vec::new());
        node.operator = Some(Operator::Join(Join {
            left_keys: vec![0],
            best_pair,
            ..Join::default()
        }));
        spec(source(1, &["INT"]), vec![node])
    };
    let (all, best) = (joined(None), joined(Some(BestPair::default())));
    assert!(fit(&all, best.clone(), false).is_ok());
    assert!(fit(&best, all.clone(), false).is_ok());
    // But rows that cannot be of the best pair of their key any more are not there.
    let per_key = |per_right| {
        joined(Some(BestPair {
            per_key: true,
            per_right,
            ..BestPair::default()
        }))
    };
    assert!(fit(&all, per_key(true), false).is_ok());
    assert!(fit(&per_key(true), per_key(true), false).is_ok());
    for other in [all, best, per_key(false)] {
        let error = fit(&per_key(true), other, false).expect_err("it does not fit");
        let error = error.to_string();
        assert!(
            error.contains("what may become the best pair only"),
            "{error}"
        );
    }
}

#[test]
fn a_new_reader_of_best_pairs_is_sent_all_that_may_be_its_best() {
    let ranked = |per_key: bool, reader: &str| {
        let mut join = aggregate("join", 2, Vec::new());
        let best_pair = per_key.then(|| BestPair {
            per_key,
            ..BestPair::default()
        });
        join.operator = Some(Operator::Join(Join {
            best_pair,
            ..Join::default()
        }));
        let calc = Node {
            inputs: vec![Input {
                from: Some(input::From::Node(0)),
            }],
            ..Node::default()
        };
        let mut reader = aggregate(reader, 4, vec![0]);
        reader.inputs[0].from = Some(input::From::Node(1));
        spec(source(1, &["INT"]), vec![join, calc, reader])
    };
    let keeps_all = |spec: &JobSpec| best_of_key(&spec.plan.fragments[1].nodes[0]).is_none();
    for was in [false, true] {
        let same = fit(&ranked(was, "a"), ranked(true, "a"), true);
        assert!(!keeps_all(&same.expect("it fits")));
    }
    let other = fit(&ranked(false, "a"), ranked(true, "b"), true);
    assert!(keeps_all(&other.expect("it fits")));
    let error = fit(&ranked(true, "a"), ranked(true, "b"), true).expect_err("rows are missing");
    let error = error.to_string();
    assert!(error.contains("whoever reads it now"), "{error}");
}

#[test]
fn joins_that_are_one_here_and_several_there_are_told() {
    let one = |id: &str| {
        let mut node = aggregate(id, 2, vec![0]);
        node.operator = Some(Operator::MultiJoin(MultiJoin::default()));
        node
    };
    let several = |id: &str, r#type: JoinType| {
        let mut node = aggregate(id, 2, vec![0]);
        node.operator = Some(Operator::Join(Join {
            r#type: r#type.into(),
            ..Join::default()
        }));
        node
    };
    let inner = |id: &str| several(id, JoinType::Inner);
    let check = |old: Vec<Node>, new: Vec<Node>, wanted: Option<bool>| {
        let job = |nodes: Vec<Node>| spec(source(1, &["INT"]), nodes);
        match fit(&job(old), job(new), false) {
            Err(Misfit::Unclaimed { multi_joins, .. }) => assert_eq!(multi_joins, wanted),
            other => panic!("{other:?}"),
        }
    };
    check(vec![inner("a"), inner("b")], vec![one("c")], Some(false));
    check(vec![one("c")], vec![inner("a"), inner("b")], Some(true));
    check(vec![one("c")], vec![one("d")], None);
    check(vec![one("c")], vec![several("a", JoinType::Left)], None);
    check(vec![inner("a")], vec![inner("b")], None);
    // A join that goes on with its state is not what the other one is made of.
    check(vec![inner("a"), one("c")], vec![inner("a")], None);
    check(vec![inner("a"), one("c")], vec![inner("b"), one("d")], None);
}

#[test]
fn windows_of_rows_go_on_with_those_of_partial_results() {
    let (rows, partials) = (windowed(false, 5, false), windowed(true, 5, false));
    assert!(fit(&rows, partials.clone(), false).is_ok());
    assert!(fit(&partials, rows.clone(), false).is_ok());
    for other in [windowed(false, 6, false), windowed(false, 5, true)] {
        let error = fit(&partials, other, false).expect_err("it does not fit");
        assert_eq!(
            error.to_string(),
            "Aggregate(a) cannot use its state: it does something else with its columns"
        );
    }
}

#[test]
fn a_plan_that_does_not_fit_is_refused_with_the_reason() {
    let old = spec(source(1, &["INT"]), vec![aggregate("a", 2, vec![0])]);
    let check = |new: JobSpec, wanted: &str| {
        let error = fit(&old, new, true).expect_err("it does not fit");
        assert_eq!(error.to_string(), wanted);
    };
    let changed = |why| format!("Aggregate(a) cannot use its state: {why}");
    check(
        spec(source(1, &["BIGINT"]), vec![aggregate("a", 2, vec![0])]),
        &changed("its input has other types"),
    );
    check(
        spec(source(1, &["INT"]), vec![aggregate("a", 2, vec![1])]),
        &changed("it does something else with its columns"),
    );
    let mut other = aggregate("a", 2, vec![0]);
    other.tables.pop();
    check(
        spec(source(1, &["INT"]), vec![other]),
        &changed("it keeps other tables"),
    );
    let expiring = |ms: u64| {
        let mut node = aggregate("a", 2, vec![0]);
        node.state_bound = Some(StateBound {
            kind: Some(Bound::Ttl(TtlBound {
                input_ms: vec![ms],
                event_time: false,
            })),
        });
        spec(source(1, &["INT"]), vec![node])
    };
    let error = fit(&old, expiring(5), true).expect_err("it does not fit");
    assert!(
        error.to_string().contains("but not whether they do"),
        "{error}"
    );
    assert!(fit(&expiring(5), expiring(9), true).is_ok());
    let mut moved = source(1, &["INT"]);
    moved.id = "source-2".into();
    check(
        spec(moved, vec![aggregate("a", 2, vec![0])]),
        "Aggregate(a) would go on with its state and read table `t` from the beginning, of which \
         the state knows nothing",
    );
    let mut plan = (*old.plan).clone();
    plan.key_groups = 128;
    let cut = JobSpec {
        plan: Arc::new(plan),
        ..old.clone()
    };
    check(
        cut,
        "the state is cut into 256 key groups and the plan needs 128: that is fixed for good",
    );
    let mut plan = (*old.plan).clone();
    plan.exchanges[0].partitioning = None;
    let spread = JobSpec {
        plan: Arc::new(plan),
        ..old.clone()
    };
    check(spread, &changed("its keys are spread otherwise"));
}
