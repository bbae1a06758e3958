//! State that ages, over several operators: what one of them keeps alive lives in those that follow.

use std::fs;

use tests::{RunConfig, rows, run};

/// A row a second of each of two groups. After the third second only one comes that changes any result.
fn check(query: &str, expected: &[&str]) {
    let folder = tempfile::tempdir().expect("a folder");
    let line = |second: u64| {
        let value = |k: u64| {
            if (k, second) == (1, 60) {
                7
            } else {
                second % 3
            }
        };
        let time = format!("2026-01-01 00:{:02}:{:02}", second / 60, second % 60);
        let row = |k: u64| format!("{{\"k\":{k},\"v\":{},\"ts\":\"{time}\"}}\n", value(k));
        row(1) + &row(2)
    };
    let lines: String = (0..100).map(line).collect();
    fs::write(folder.path().join("rows.json"), lines).expect("written");
    let script = format!(
        "CREATE TABLE t (k BIGINT, v BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' SECOND)
         WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json',
           'json.timestamp-format.standard' = 'SQL');
         SET 'table.exec.state.ttl' = '10 s';
         SET 'millstream.state.ttl.time-domain' = 'event-time';
         SET 'table.optimizer.distinct-agg.split.bucket-num' = '3';\n",
        folder.path().display()
    );
    for split in [false, true] {
        let split = format!("SET 'table.optimizer.distinct-agg.split.enabled' = '{split}';\n");
        let config = RunConfig {
            batch_rows: 4,
            ..RunConfig::default()
        };
        let output = run(&format!("{script}{split}{query};"), &config).expect(query);
        assert_eq!(
            rows::sorted_rows(&output.text, 1),
            expected,
            "{split}{query}"
        );
    }
}

#[test]
fn a_group_of_groups_lives_as_long_as_they_do() {
    check(
        "SELECT COUNT(*) AS n, SUM(m) AS s FROM (SELECT k, MAX(v) AS m FROM t GROUP BY k)",
        &["2\t9"],
    );
}

#[test]
fn a_group_lives_as_long_as_its_buckets_do() {
    check(
        "SELECT k, COUNT(DISTINCT v) AS n FROM t GROUP BY k",
        &["1\t4", "2\t3"],
    );
}
