//! Plan goldens: `plans/<area>.sql` and beside it what the planner makes of each of its queries:
//! stream plan and fragments, all stages for EXPLAIN, or the error. `UPDATE_EXPECT=1 cargo test
//! -p sql` records them anew; `lint` runs on every plan within the planner.

use std::fmt::Write as _;
use std::path::Path;

use sql::PlanOptions;
use sql::parse::parse_script;
use sql::session::{Outcome, Session};

fn check(area: &str) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans");
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).expect("readable");
    let mut session = Session::new(PlanOptions::default());
    for statement in parse_script(&read("tables.ddl")).expect("tables parse") {
        session.execute(&statement).expect("tables are valid");
    }
    let mut text = String::new();
    for statement in parse_script(&read(&format!("{area}.sql"))).expect("queries parse") {
        let outcome = match session.execute(&statement) {
            Ok(Outcome::Job { plan, .. }) => {
                assert_eq!(sql::lint::check(&plan), Vec::<String>::new());
                sql::explain_plan(&plan)
            }
            Ok(Outcome::Ok(text)) => text,
            Ok(Outcome::Rows { rows, .. }) => format!("{rows:?}"),
            Err(error) => format!("error: {}\n", without_position(&error)),
        };
        if !outcome.is_empty() && outcome != "OK" {
            writeln!(text, "{}\n\n{}", statement.text.trim(), outcome.trim_end())
                .expect("a String");
            text.push_str("\n----\n\n");
        }
    }
    let recorded = directory.join(format!("{area}.plan"));
    expect_test::expect_file![recorded].assert_eq(&text);
}

/// Positions change with every line that is added to a file.
fn without_position(error: &sql::error::SqlError) -> String {
    let mut error = error.clone();
    error.span = None;
    error.to_string()
}

#[test]
fn scans() {
    check("scan");
}

#[test]
fn aggregates() {
    check("aggregate");
}

#[test]
fn windows() {
    check("window");
}

#[test]
fn joins() {
    check("join");
}

#[test]
fn subqueries() {
    check("subquery");
}

#[test]
fn set_operations() {
    check("set_operation");
}

#[test]
fn top_n() {
    check("top_n");
}

#[test]
fn over() {
    check("over");
}

#[test]
fn sinks() {
    check("sink");
}

#[test]
fn nexmark() {
    check("nexmark");
}

#[test]
fn stages() {
    check("stages");
}

#[test]
fn state_ttl() {
    check("state_ttl");
}

#[test]
fn interval_joins() {
    check("interval_join");
}

#[test]
fn joins_whose_rows_go_by_their_own_times() {
    check("until");
}

#[test]
fn temporal_joins() {
    check("temporal_join");
}

#[test]
fn lookup_joins() {
    check("lookup_join");
}

#[test]
fn best_pairs() {
    check("best");
}

#[test]
fn joins_of_many_inputs() {
    check("multi_join");
}

#[test]
fn ties() {
    check("ties");
}

#[test]
fn late_rows() {
    check("late_rows");
}

/// Whoever has late rows written goes on with the state of a job that has not, and the other way round.
#[test]
fn late_rows_change_the_ids_of_no_state() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans");
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).expect("readable");
    let plans = |late: bool| {
        let mut session = Session::new(PlanOptions::default());
        let mut script = read("tables.ddl");
        if late {
            script.push_str(
                "CREATE TABLE late (late_row STRING) WITH ('connector' = 'blackhole');
                 SET 'millstream.late-rows.table' = 'late';",
            );
        }
        let areas = [
            "window",
            "over",
            "interval_join",
            "temporal_join",
            "nexmark",
            "until",
        ];
        script.extend(areas.map(|area| read(&format!("{area}.sql"))));
        let statements = parse_script(&script).expect("statements");
        let outcomes = statements
            .iter()
            .map(|statement| session.execute(statement));
        let plans = outcomes.filter_map(|outcome| match outcome {
            Ok(Outcome::Job { plan, .. }) => Some(plan),
            _ => None,
        });
        plans.collect::<Vec<_>>()
    };
    let stateful = |plan: &proto::plan::Plan| -> Vec<(String, usize)> {
        let nodes = plan.fragments.iter().flat_map(|fragment| &fragment.nodes);
        let nodes = nodes.filter(|node| !node.tables.is_empty());
        let mut ids: Vec<_> = nodes
            .map(|node| (node.id.clone(), node.tables.len()))
            .collect();
        ids.sort();
        ids
    };
    let (with, without) = (plans(true), plans(false));
    assert!(without.len() > 50, "{}", without.len());
    assert_eq!(with.len(), without.len());
    for (with, without) in with.iter().zip(&without) {
        assert_eq!(stateful(with), stateful(without));
    }
}
