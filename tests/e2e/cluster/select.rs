//! Rows of a SELECT, read at a node that does not lead, until the leader dies.

use std::time::Duration;

use serde_json::Value;
use tests::Cluster;
use tokio::time::Instant;

use super::start;

/// A reader knows by then that nobody gives it rows any more.
const END_MAX: Duration = Duration::from_secs(20);

/// Starts the job at a node: the path of its rows.
fn select(cluster: &Cluster, node: usize) -> String {
    let sql =
        "CREATE TABLE numbers (n BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '100',
                 'fields.n.kind' = 'sequence', 'fields.n.start' = '0', 'fields.n.end' = '1000000');
               SELECT n, n % 2 FROM numbers";
    let (status, body) = cluster.execute_at(node, sql).expect("an answer");
    assert_eq!(status, 201, "{body}");
    let body: Value = serde_json::from_str(&body).expect("JSON");
    let results = body["results"][1]["results"].as_str();
    results.expect("a path").to_owned()
}

/// Reads the columns and the first rows, which are numbered.
fn read_rows(lines: &mut impl Iterator<Item = Value>, count: u64) {
    let columns = lines.next().expect("columns");
    let columns = columns["columns"].as_array().map(Vec::len);
    assert_eq!(columns, Some(2));
    for number in 0..count {
        let line = lines.next().expect("a row");
        assert_eq!(line["op"], "+I", "{line}");
        assert_eq!(line["row"]["n"], number, "{line}");
    }
}

#[test]
fn rows_of_a_select_stream_through_a_node_that_does_not_lead() {
    let mut cluster = start();
    let leader = cluster.leader();
    let follower = (leader + 1) % 3;
    let results = select(&cluster, follower);
    let mut lines = cluster.lines_at(follower, &results);
    // The job does not end: these rows come while it runs.
    read_rows(&mut lines, 150);

    cluster.nodes[leader].kill();
    let killed = Instant::now();
    lines.for_each(drop);
    assert!(
        killed.elapsed() < END_MAX,
        "a reader waits for one that is dead"
    );

    // Its rows were for that reader: the next leader begins none of it anew.
    cluster.wait_state("job_1", "CANCELED");
    let told: Vec<Value> = cluster.lines_at(follower, &results).collect();
    assert_eq!(told.last().map(|line| &line["end"]), Some(&"broken".into()));
}
