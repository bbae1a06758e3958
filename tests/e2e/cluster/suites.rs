//! Queries of the suites, from files to files over separate processes: what they write is what one
//! process gives.

use std::{collections::BTreeMap, path::Path};

use tests::{Cluster, RunConfig, rows, run};

use super::start;
use crate::{batch, nexmark};

/// Random queries.
const CASES: usize = 12;

/// How all jobs run; the catalog remembers it.
const OPTIONS: &str = "SET 'parallelism.default' = '4';
    SET 'execution.checkpointing.interval' = '200 ms';";

/// Options of a table of changes in files below the folder.
fn changes(folder: &Path, name: &str) -> String {
    format!(
        "'connector' = 'filesystem', 'path' = '{}', 'format' = 'debezium-json'",
        folder.join(name).display()
    )
}

/// A job that writes a table.
struct Written {
    job: String,
    /// The table's name and declaration.
    table: (String, String),
}

impl Written {
    /// Starts the statements' only job.
    fn start(cluster: &Cluster, statements: &str, table: (String, String)) -> Written {
        let jobs = cluster.execute(statements);
        assert_eq!(jobs.len(), 1, "{statements}");
        let job = jobs[0].clone();
        Written { job, table }
    }

    /// The rows at its end, as one process reads them from its files: TSV.
    fn rows(&self, cluster: &Cluster) -> Result<String, String> {
        cluster.wait_state(&self.job, "FINISHED");
        let (name, table) = &self.table;
        let script = format!("{table}\nSELECT * FROM {name};");
        Ok(run(&script, &RunConfig::default())?.text)
    }
}

#[test]
fn random_queries_give_the_batch_result() {
    let cluster = start();
    let output = cluster.folder().join("output");
    let _none = cluster.execute(OPTIONS);
    let cases = batch::some_cases(CASES, cluster.folder());
    let mut jobs = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let name = format!("out_{number}");
        let table = format!(
            "CREATE TABLE {name} ({}) WITH ({});",
            case.columns,
            changes(&output, &name)
        );
        let statements = format!(
            "{}{table}\nINSERT INTO {name} {};\nDROP TABLE a;\nDROP TABLE b;\nDROP TABLE u;",
            case.ddl, case.select
        );
        jobs.push(Written::start(&cluster, &statements, (name, table)));
    }
    let mut failures = BTreeMap::new();
    for (case, job) in cases.iter().zip(&jobs) {
        let same = job
            .rows(&cluster)
            .and_then(|text| rows::compare(&rows::sorted_rows(&text, 1), &case.rows, &[]));
        if let Err(error) = same {
            failures.insert(&case.select, error);
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn nexmark_gives_flinks_answers() {
    let cluster = start();
    let output = cluster.folder().join("output");
    let events = nexmark::write_events(cluster.folder());
    let tables = nexmark::event_tables(&events);
    let _none = cluster.execute(&format!("{OPTIONS}\n{tables}"));
    let job = |query: &&str| {
        let [table, insert] = nexmark::insert(query, &changes(&output, query));
        let statements = format!("{table}\n{insert}");
        let name = format!("nexmark_{query}");
        Written::start(&cluster, &statements, (name, table))
    };
    let jobs: Vec<Written> = nexmark::QUERIES.iter().map(job).collect();
    let mut failures = BTreeMap::new();
    for (query, job) in nexmark::QUERIES.iter().zip(&jobs) {
        let same = job.rows(&cluster);
        let same = same.and_then(|text| nexmark::compare(query, &text));
        if let Err(error) = same {
            failures.insert(query, error);
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// Rows in the order of time: numbered, summed up, with those before them.
const BY_BIDDER: &str = "SELECT bidder, price, ROW_NUMBER() OVER w AS n, SUM(price) OVER w AS total,
    LAG(price, 2) OVER w AS before_last, COUNT(DISTINCT auction) OVER (PARTITION BY bidder ORDER BY dateTime
      RANGE BETWEEN INTERVAL '2' SECOND PRECEDING AND CURRENT ROW) AS auctions
  FROM bid WINDOW w AS (PARTITION BY bidder ORDER BY dateTime, auction, price)";

/// Events of 15 seconds, which come in as many where they are limited, and else as fast as they are made.
const EVENTS: &str = "'connector' = 'nexmark', 'events.num' = '30000', 'first-event.rate' = '2000', \
                      'next-event.rate' = '2000'";

/// How many jobs come by their events in time on a small machine.
const JOBS_AT_ONCE: usize = 5;

/// A query and the table that takes its rows.
struct Query {
    name: String,
    table: String,
    insert: String,
    select: String,
}

impl Query {
    /// One of Nexmark's, into files below the folder.
    fn nexmark(query: &str, output: &Path) -> Query {
        let [table, insert] = nexmark::insert(query, &changes(output, query));
        let (_, select) = insert.split_once('\n').expect("a SELECT");
        let select = select.trim_end().trim_end_matches(';').to_owned();
        Query {
            name: format!("nexmark_{query}"),
            table,
            insert,
            select,
        }
    }

    /// Whether the job that was rescaled wrote what one process gives.
    fn compare(&self, cluster: &Cluster, job: &Written) -> Result<(), String> {
        let script = format!("{}\n{};", nexmark::tables(EVENTS), self.select);
        let expected = run(&script, &RunConfig::default())?.text;
        let rows = job.rows(cluster)?;
        let (rows, expected) = (rows::sorted_rows(&rows, 1), rows::sorted_rows(&expected, 1));
        if expected.is_empty() {
            return Err("nothing to compare".to_owned());
        }
        rows::compare(&rows, &expected, &[])
    }
}

/// Runs the queries with four tasks, gives each `steps` of parallelism on its way, and compares.
fn check_rescaled(cluster: &Cluster, queries: &[Query], steps: &[u32]) {
    let mut failures = BTreeMap::new();
    for queries in queries.chunks(JOBS_AT_ONCE) {
        let start = |query: &Query| {
            let statements = format!("{}\n{}", query.table, query.insert);
            let table = (query.name.clone(), query.table.clone());
            Written::start(cluster, &statements, table)
        };
        let jobs: Vec<Written> = queries.iter().map(start).collect();
        for parallelism in steps {
            for job in &jobs {
                cluster.wait_progress(&job.job);
                cluster.rescale(&job.job, *parallelism);
            }
        }
        for (query, job) in queries.iter().zip(&jobs) {
            if let Err(error) = query.compare(cluster, job) {
                failures.insert(query.name.clone(), error);
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// A cluster with Nexmark's tables, whose events come at their rate.
fn start_with_events() -> Cluster {
    let cluster = start();
    let slow = nexmark::tables(&format!("{EVENTS}, 'rate.limited' = 'true'"));
    let _none = cluster.execute(&format!("{OPTIONS}\n{slow}"));
    cluster
}

#[test]
fn over_calls_do_not_depend_on_how_often_a_job_is_rescaled() {
    let cluster = start_with_events();
    let output = cluster.folder().join("output");
    let columns =
        "bidder BIGINT, price BIGINT, n BIGINT, total BIGINT, before_last BIGINT, auctions BIGINT";
    let bids = Query {
        name: "bids".to_owned(),
        table: format!(
            "CREATE TABLE bids ({columns}) WITH ({});",
            changes(&output, "bids")
        ),
        insert: format!("INSERT INTO bids {BY_BIDDER};"),
        select: BY_BIDDER.to_owned(),
    };
    let queries = [bids, Query::nexmark("q6", &output)];
    check_rescaled(&cluster, &queries, &[3, 1, 4]);
}

#[test]
fn nexmark_does_not_depend_on_rescales() {
    let cluster = start_with_events();
    let output = cluster.folder().join("output");
    let queries = nexmark::QUERIES.iter().filter(|query| **query != "q6");
    let queries: Vec<Query> = queries.map(|q| Query::nexmark(q, &output)).collect();
    check_rescaled(&cluster, &queries, &[3, 1]);
}
