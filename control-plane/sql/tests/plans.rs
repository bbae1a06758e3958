//! Plan goldens: `plans/<area>.sql` and beside it what the planner makes of each of its queries:
//! stream plan and fragments, all stages for EXPLAIN, or the error. `UPDATE_EXPECT=1 cargo test
//! -p sql` records them anew; `lint` runs on every plan within the planner.

use std::fmt::Write as _;
use std::path::Path;

use proto::plan::input;
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
    let (with, without) = (plans(true), plans(false));
    assert!(without.len() > 50, "{}", without.len());
    assert_eq!(with.len(), without.len());
    for (with, without) in with.iter().zip(&without) {
        assert_eq!(stateful(with), stateful(without));
    }
}

/// Ids of operators with state, and how many tables they have.
fn stateful(plan: &proto::plan::Plan) -> Vec<(String, usize)> {
    let nodes = plan.fragments.iter().flat_map(|fragment| &fragment.nodes);
    let nodes = nodes.filter(|node| !node.tables.is_empty());
    let mut ids: Vec<_> = nodes
        .map(|node| (node.id.clone(), node.tables.len()))
        .collect();
    ids.sort();
    ids
}

/// Operators with state: their ids, and by which columns, rows and keys their inputs come.
fn with_inputs(plan: &proto::plan::Plan) -> Vec<(String, String)> {
    let mut operators = Vec::new();
    for fragment in &plan.fragments {
        for node in fragment.nodes.iter().filter(|node| !node.tables.is_empty()) {
            let inputs = node.inputs.iter().map(|input| match input.from {
                Some(input::From::Node(index)) => (None, &fragment.nodes[index as usize]),
                Some(input::From::Exchange(id)) => {
                    let exchange = &plan.exchanges[id as usize];
                    let from = &plan.fragments[exchange.from_fragment as usize];
                    let from = &from.nodes[exchange.from_node as usize];
                    (exchange.partitioning.as_ref(), from)
                }
                None => unreachable!("every input is one"),
            });
            let inputs = inputs.map(|(cut, from)| {
                let columns = from.output.iter().flat_map(|output| &output.fields);
                let types: Vec<&str> = columns.map(|field| field.r#type.as_str()).collect();
                format!(
                    "{cut:?} {types:?} {:?} {:?}",
                    from.changelog, from.upsert_keys
                )
            });
            operators.push((node.id.clone(), inputs.collect()));
        }
    }
    operators.sort();
    operators
}

/// [`with_inputs`] of a job of these queries, each into a sink of its own, by the sink's number.
fn of_set(queries: &[(usize, &str)]) -> Vec<(String, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans");
    let mut script = std::fs::read_to_string(directory.join("tables.ddl")).expect("readable");
    script.push_str(
        "CREATE TABLE scores (k STRING, n BIGINT)
         WITH ('connector' = 'filesystem', 'path' = '/scores', 'format' = 'json');",
    );
    for (sink, _) in queries {
        write!(
            script,
            "CREATE TABLE sink{sink} (k STRING, n BIGINT) WITH ('connector' = 'blackhole');"
        )
        .expect("a String");
    }
    script.push_str("EXECUTE STATEMENT SET BEGIN ");
    for (sink, query) in queries {
        write!(script, "INSERT INTO sink{sink} {query};").expect("a String");
    }
    script.push_str("END;");
    let mut session = Session::new(PlanOptions::default());
    let mut operators = Vec::new();
    for statement in parse_script(&script).expect("statements") {
        if let Outcome::Job { plan, .. } = session.execute(&statement).expect("valid") {
            operators.extend(with_inputs(&plan));
        }
    }
    assert!(!operators.is_empty());
    operators
}

/// A query that is added to a job takes no state from another one, and gets none of it, whatever both read.
#[test]
fn queries_with_joins_in_common_keep_their_ids() {
    let joined = "files a JOIN orders b ON a.k = b.product JOIN scores c ON b.product = c.k";
    let by_first = "files a JOIN orders b ON a.k = b.product JOIN scores c ON a.k = c.k";
    let part = "files a JOIN orders b ON a.k = b.product";
    let right = "files a JOIN (SELECT b.product AS b, c.k AS c, c.n FROM orders b JOIN scores c \
                 ON b.product = c.k) x ON a.k = x.b";
    let queries = [
        // All columns, so that the joins of these are the same.
        format!("SELECT a.k || b.product || c.k, a.n + c.n FROM {by_first}"),
        format!("SELECT a.k || x.b || x.c, a.n + x.n FROM {right}"),
        // The same inputs joined otherwise: other columns, or spread by the key of another input.
        format!("SELECT a.k || b.product || c.k, a.n + c.n FROM {joined}"),
        format!("SELECT a.k, a.n + c.n FROM {joined}"),
        format!("SELECT a.k, a.n + x.n FROM {right}"),
        format!(
            "SELECT a.k || b.product || c.k AS k, COUNT(a.n + c.n) FROM {by_first} GROUP BY b.product, a.k, c.k"
        ),
        format!("SELECT b.product, COUNT(*) FROM {joined} GROUP BY b.product"),
        format!("SELECT a.k, COUNT(*) FROM {by_first} GROUP BY a.k"),
        format!("SELECT x.b, COUNT(*) FROM {right} GROUP BY x.b"),
        // Parts of it, and more.
        format!("SELECT a.k, a.n FROM {part}"),
        format!("SELECT a.k, COUNT(*) FROM {part} GROUP BY a.k"),
        format!("SELECT a.k, MAX(a.n) FROM {part} GROUP BY a.k"),
        format!("SELECT a.k, a.n FROM {joined} JOIN files d ON a.k = d.k"),
        // Its best pairs.
        format!("SELECT a.k, MAX(c.n) FROM {joined} GROUP BY a.k"),
        format!("SELECT a.k, MIN(c.n) FROM {joined} GROUP BY a.k"),
        format!(
            "SELECT k, n FROM (SELECT a.k, c.n, ROW_NUMBER() OVER (PARTITION BY a.k ORDER BY c.n DESC) AS r \
             FROM {joined}) WHERE r = 1"
        ),
    ];
    let queries: Vec<(usize, &str)> = queries.iter().map(String::as_str).enumerate().collect();
    let alone: Vec<_> = queries.iter().map(|query| of_set(&[*query])).collect();
    let joins = |ids: &[(String, String)]| -> Vec<String> {
        let ids = ids.iter().map(|(id, _)| id.clone());
        ids.filter(|id| id.starts_with("multi-join")).collect()
    };
    assert_eq!(joins(&alone[0]), joins(&alone[1]));
    assert_eq!(joins(&alone[0]).len(), 1);
    assert_ne!(joins(&alone[0]), joins(&alone[2]));
    let check = |set: &[(usize, &str)]| {
        let together = of_set(set);
        let mut wanted: Vec<_> = set
            .iter()
            .flat_map(|(sink, _)| alone[*sink].clone())
            .collect();
        wanted.sort();
        wanted.dedup();
        assert_eq!(together, wanted, "{set:?}");
    };
    for one in &queries {
        for other in queries.iter().filter(|other| other.0 != one.0) {
            check(&[*one, *other]);
        }
    }
    check(&queries);
    check(&queries.iter().rev().copied().collect::<Vec<_>>());
}
