//! Joins whose rows go by event time, of rows that have come late to it: those of a window's Top-N, of
//! its first rows and of its joins come when the window is over, behind the watermark.

use std::{fs, path::Path};

use tempfile::TempDir;
use tests::{RunConfig, rows, run};

const AUCTIONS: u64 = 150;
const BIDS: u64 = 1_500;

/// When an auction begins and when it ends, in seconds.
fn auction(id: u64) -> (u64, u64) {
    (id * 4, id * 4 + id % 7 * 9)
}

/// The auction that is bid for, and when, in seconds.
fn bid(n: u64) -> (u64, u64) {
    let second = n * AUCTIONS * 4 / BIDS;
    ((second / 4).saturating_sub(n % 11), second)
}

fn time(second: u64) -> String {
    format!("2026-01-01 00:{:02}:{:02}", second / 60, second % 60)
}

fn write(folder: &Path) -> String {
    let auctions = (0..AUCTIONS).map(|id| {
        let (ts, expires) = auction(id);
        let (ts, expires) = (time(ts), time(expires));
        format!("{{\"id\":{id},\"ts\":\"{ts}\",\"expires\":\"{expires}\"}}\n")
    });
    fs::write(folder.join("auctions.json"), auctions.collect::<String>()).expect("written");
    let bids = (0..BIDS).map(|n| {
        let (auction, ts) = bid(n);
        format!(
            "{{\"n\":{n},\"auction\":{auction},\"ts\":\"{}\"}}\n",
            time(ts)
        )
    });
    fs::write(folder.join("bids.json"), bids.collect::<String>()).expect("written");
    let table = |name: &str, columns: &str| {
        format!(
            "CREATE TABLE {name} ({columns}, WATERMARK FOR ts AS ts - INTERVAL '1' SECOND)
             WITH ('connector' = 'filesystem', 'path' = '{}/{name}.json', 'format' = 'json',
               'json.timestamp-format.standard' = 'SQL');\n",
            folder.display()
        )
    };
    let auctions = "id BIGINT, ts TIMESTAMP(3), expires TIMESTAMP(3)";
    let tables =
        table("auctions", auctions) + &table("bids", "n BIGINT, auction BIGINT, ts TIMESTAMP(3)");
    format!(
        "{tables}
         CREATE VIEW w AS SELECT * FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '2' MINUTE));
         CREATE VIEW top AS SELECT * FROM (SELECT *, ROW_NUMBER() OVER (
             PARTITION BY window_start, window_end ORDER BY n DESC) AS rn FROM w) WHERE rn <= 100000;
         CREATE VIEW firsts AS SELECT * FROM (SELECT *, ROW_NUMBER() OVER (
             PARTITION BY n, window_start, window_end ORDER BY ts) AS rn FROM w) WHERE rn = 1;
         CREATE VIEW joined AS SELECT l.n, l.auction, l.ts FROM w AS l JOIN w AS r
           ON l.n = r.n AND l.window_start = r.window_start AND l.window_end = r.window_end;\n"
    )
}

/// What of the bids there is, all of them, is joined with the auctions that `meets` says.
fn check(on: &str, meets: impl Fn(u64, (u64, u64)) -> bool) {
    let folder = TempDir::new().expect("a folder");
    let tables = write(folder.path());
    let pairs = (0..BIDS).filter_map(|n| {
        let (id, ts) = bid(n);
        meets(ts, auction(id)).then(|| format!("{n}\t{id}"))
    });
    let mut expected: Vec<String> = pairs.collect();
    assert!(expected.len() > 300, "{}", expected.len());
    expected.sort_unstable();
    for bids in ["bids", "top", "firsts", "joined"] {
        for (parallelism, batch_rows) in [(1, 10), (3, 64)] {
            let config = RunConfig {
                parallelism,
                batch_rows,
                ..RunConfig::default()
            };
            let script = format!(
                "{tables}SELECT b.n, a.id FROM {bids} AS b JOIN auctions AS a ON b.auction = a.id AND {on};"
            );
            let output = run(&script, &config).expect(bids);
            let found = rows::sorted_rows(&output.text, 1);
            let same = rows::compare(&found, &expected, &[]);
            same.unwrap_or_else(|error| panic!("{bids}: {error}"));
        }
    }
}

#[test]
fn rows_that_come_when_their_window_is_over_meet_all_of_their_time() {
    check("b.ts BETWEEN a.ts AND a.expires", |ts, (from, to)| {
        (from..=to).contains(&ts)
    });
}

#[test]
fn rows_that_come_when_their_window_is_over_meet_all_within_an_interval() {
    let on = "b.ts BETWEEN a.ts AND a.ts + INTERVAL '30' SECOND";
    check(on, |ts, (from, _)| (from..=from + 30).contains(&ts));
}
