//! What goes in: plans, figures of operators, totals that begin anew.

use proto::{
    control::{JobMetrics, OperatorMetrics},
    plan::{self, Exchange, Input, Node, Plan, Source, StateTable, input::From, node::Operator},
};

use crate::autoscale::{
    Pipeline, Sample, TaskTotals,
    pipeline::{Entry, Feed},
    watch::{Measured, Watch},
};

fn node(id: &str, inputs: &[From], operator: Option<Operator>) -> Node {
    let input = |from: &From| Input { from: Some(*from) };
    Node {
        id: id.to_owned(),
        description: format!("{id}(x=[1])"),
        inputs: inputs.iter().map(input).collect(),
        operator,
        ..Node::default()
    }
}

fn source(id: &str, table: &str) -> Node {
    let source = Source {
        table: table.to_owned(),
        ..Source::default()
    };
    node(id, &[], Some(Operator::Source(source)))
}

fn exchange(id: u32, from: (u32, u32), to_fragment: u32) -> Exchange {
    Exchange {
        id,
        from_fragment: from.0,
        from_node: from.1,
        to_fragment,
        ..Exchange::default()
    }
}

/// Fragment 0 comes last in the data's order: it unites rows of fragment 2 with a source of its own.
fn plan() -> Plan {
    let union = node("union", &[From::Node(0), From::Exchange(0)], None);
    let mut count = node("count", &[From::Node(1)], None);
    count.tables.push(StateTable::default());
    let last = node("sink", &[From::Node(2)], None);
    let fragment = |id, singleton, nodes| plan::Fragment {
        id,
        nodes,
        singleton,
    };
    Plan {
        key_groups: 64,
        fragments: vec![
            fragment(0, true, vec![source("own", "b"), union, count, last]),
            fragment(
                2,
                false,
                vec![source("far", "a"), node("calc", &[From::Node(0)], None)],
            ),
        ],
        exchanges: vec![exchange(0, (2, 1), 0)],
        ..Plan::default()
    }
}

#[test]
fn a_plan_is_put_in_the_order_of_the_data() {
    let pipeline = Pipeline::of_plan(&plan());
    let [first, last] = &pipeline.fragments[..] else {
        panic!("two fragments: {pipeline:?}");
    };
    assert_eq!((first.id, first.name.as_str()), (2, "calc"));
    assert_eq!((last.id, last.name.as_str()), (0, "count"));
    assert_eq!(first.outs, ["calc"]);
    assert_eq!(last.feeds, [Feed { from: 0, out: 0 }]);
    let local = vec!["own".to_owned()];
    let entry = Entry {
        node: "union".to_owned(),
        local,
    };
    assert_eq!(last.entries, [entry]);
    assert_eq!(last.sources[0].table, "b");
    assert_eq!(first.tasks_max, 64);
    assert_eq!(pipeline.scalable().collect::<Vec<u32>>(), [2]);
}

#[test]
fn figures_of_operators_are_put_together_by_task() {
    let of = |rows_in, rows_out, busy_ns| OperatorMetrics {
        rows_in,
        rows_out,
        busy_ns,
        // A task lives for 100 ns, of which it waits 30.
        idle_ns: 70 - busy_ns,
        blocked_ns: 10,
        state_wait_ns: 20,
        ..OperatorMetrics::default()
    };
    let own = OperatorMetrics {
        backlog_rows: Some(9),
        ..of(0, 5, 1)
    };
    let figures = [
        ("own", own),
        ("union", of(12, 12, 2)),
        ("count", of(12, 3, 30)),
        ("sink", of(3, 0, 4)),
    ];
    let figures = figures.map(|(node, figures)| (node.to_owned(), [(0, figures)].into()));
    let mut metrics = JobMetrics::from(figures);
    let far = [(0, of(0, 4, 1)), (1, of(0, 3, 1))];
    metrics.insert("far".to_owned(), far.into());
    let calc = [(0, of(4, 4, 1)), (1, of(3, 3, 1))];
    metrics.insert("calc".to_owned(), calc.into());
    let sample = Sample::default().with_metrics(&Pipeline::of_plan(&plan()), &metrics);
    let united = TaskTotals {
        total_ns: 100,
        busy_ns: 37,
        blocked_ns: 10,
        state_wait_ns: 20,
        // Five of its own source, and of those that the union takes the other seven.
        rows_in: 12,
        rows_out: Vec::new(),
        sources: vec![(5, Some(9))],
    };
    assert_eq!(sample.tasks[&0][&0], united);
    assert_eq!(sample.tasks[&2][&1].rows_out, [3]);
    assert_eq!(sample.tasks[&2][&1].sources, [(3, None)]);
    assert_eq!(sample.tasks[&2].len(), 2);
}

/// A look at the far fragment at a second: life in s and rows of each of its tasks.
fn look(at_s: u64, tasks: &[(u32, u64, u64)], count: u32) -> Sample {
    let totals = |(index, life_s, rows): &(u32, u64, u64)| {
        let totals = TaskTotals {
            total_ns: life_s * 1_000_000_000,
            rows_in: *rows,
            rows_out: vec![*rows],
            sources: vec![(*rows, Some(7))],
            ..TaskTotals::default()
        };
        (*index, totals)
    };
    Sample {
        at_us: at_s * 1_000_000,
        parallelism: [(0, 1), (2, count)].into(),
        tasks: [(2, tasks.iter().map(totals).collect())].into(),
        ..Sample::default()
    }
}

fn watched(samples: &[Sample]) -> Measured {
    let pipeline = Pipeline::of_plan(&plan());
    let mut watch = Watch::default();
    let measured = samples.iter().map(|sample| watch.push(&pipeline, sample));
    measured.last().flatten().expect("a window")
}

fn rows(measured: &Measured) -> Vec<(f64, f64)> {
    let tasks = measured.fragments[0].tasks.iter();
    tasks.map(|task| (task.life, task.rows_in)).collect()
}

#[test]
fn what_a_window_shows_are_differences() {
    let measured = watched(&[
        look(10, &[(0, 10, 1000), (1, 10, 900)], 2),
        look(13, &[(0, 13, 1300), (1, 13, 930)], 2),
        look(15, &[(0, 15, 1500), (1, 15, 950)], 2),
    ]);
    assert_eq!(rows(&measured), [(5.0, 500.0), (5.0, 50.0)]);
    let source = measured.fragments[0].sources[0];
    assert_eq!(source.rows, 550.0);
    assert_eq!(source.backlog, Some((14.0, 14.0)));
}

#[test]
fn a_task_that_begins_anew_or_comes_late_counts_with_all_that_it_did() {
    let measured = watched(&[
        look(10, &[(0, 10, 1000)], 2),
        look(13, &[(0, 1, 50), (1, 2, 60)], 2),
        look(15, &[(0, 3, 150), (1, 4, 120)], 2),
    ]);
    assert_eq!(rows(&measured), [(3.0, 150.0), (4.0, 120.0)]);
}

#[test]
fn a_task_that_was_out_of_sight_does_not_look_fast() {
    // Its worker was silent for a while; the rows were read over ten seconds, not over two.
    let measured = watched(&[
        look(10, &[(0, 10, 1000)], 2),
        look(13, &[(0, 13, 1300), (1, 13, 1300)], 2),
        look(15, &[(0, 15, 1500), (1, 15, 1500)], 2),
    ]);
    assert_eq!(rows(&measured), [(5.0, 500.0), (2.0, 200.0)]);
}

#[test]
fn a_window_without_a_task_is_not_the_whole() {
    let samples = |count| {
        [
            look(10, &[(0, 10, 10)], count),
            look(15, &[(0, 15, 20)], count),
        ]
    };
    let mut one = watched(&samples(1));
    // The other fragment says nothing either.
    assert!(!one.is_complete());
    one.fragments.truncate(1);
    assert!(one.is_complete());
    let mut two = watched(&samples(2));
    two.fragments.truncate(1);
    assert!(!two.is_complete());
}
