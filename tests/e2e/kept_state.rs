//! State of jobs as savepoints and checkpoints keep it, read over REST and shown by the client: what it
//! was stays, while the job goes on, after its process was killed, and when the job has ended.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tests::wait_until;

use super::queries::{GROUPS, PATIENCE, Server};

/// A job whose counts and rows go on changing.
const SCRIPT: &str = "
    SET 'execution.checkpointing.interval' = '100 ms';
    SET 'parallelism.default' = '2';
    CREATE TABLE clicks (id BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '100',
        'fields.id.kind' = 'sequence', 'fields.id.start' = '0', 'fields.id.end' = '9999999');
    CREATE TABLE counts (k BIGINT, n BIGINT) WITH ('connector' = 'blackhole');
    CREATE TABLE pairs (a BIGINT, b BIGINT) WITH ('connector' = 'blackhole');
    EXECUTE STATEMENT SET BEGIN
      INSERT INTO counts SELECT k, COUNT(*) FROM (SELECT id % 5 AS k FROM clicks) GROUP BY k;
      INSERT INTO pairs SELECT l.id, r.id FROM clicks AS l JOIN clicks AS r ON l.id = r.id;
    END";

/// The job, with a savepoint that it has gone on from.
struct Saved {
    server: Server,
    /// Paths of the states of its GROUP BY and its join.
    groups: String,
    join: String,
    /// What the savepoint has for the group 3.
    then: i64,
}

impl Saved {
    fn start() -> Saved {
        let server = Server::start();
        let _ = server.dev().execute(SCRIPT, "");
        let (groups, join) = (
            server.operator("job_1", GROUPS),
            server.operator("job_1", "Join"),
        );
        let mut saved = Saved {
            server,
            groups,
            join,
            then: 0,
        };
        saved.wait_for_more_than(3);
        let before = saved.count("");
        saved.server.dev().jobs(&["savepoint", "job_1", "kept"]);
        saved.then = saved.count("&savepoint=kept");
        assert!(saved.then >= before, "{} after {before}", saved.then);
        saved.wait_for_more_than(saved.then + 5);
        saved
    }

    fn wait_for_more_than(&self, count: i64) {
        let path = format!("{}?key=3", self.groups);
        let came = wait_until(PATIENCE, || {
            self.server.ask(&path).1["rows"][0]["COUNT(*)"].as_i64() > Some(count)
        });
        assert!(came, "{}", self.server.dev().log());
    }

    /// The count of group 3.
    fn count(&self, query: &str) -> i64 {
        let rows = self.server.rows(&format!("{}?key=3{query}", self.groups));
        assert_eq!(rows.len(), 1, "{query}: {rows:?}");
        rows[0]["COUNT(*)"].as_i64().expect("a count")
    }

    /// The same, as the client shows it.
    fn shown(&self) -> Option<i64> {
        let id = self.groups.split('/').nth_back(1).expect("an id");
        let arguments = ["state", "job_1", id, "--key", "3", "--savepoint", "kept"];
        let shown = self.server.dev().jobs(&arguments);
        let shown: Value = serde_json::from_str(shown.trim()).expect("JSON");
        shown["COUNT(*)"].as_i64()
    }

    /// Ids on one side of the join, page by page, and the epoch.
    fn side(&self, table: &str, query: &str) -> (u64, BTreeSet<i64>) {
        let path = format!("{}?table={}{query}", self.join, table.replace(' ', "%20"));
        let (mut after, mut seen) = (String::new(), BTreeSet::new());
        loop {
            let page = self.server.get(&format!("{path}{after}"));
            for row in page["rows"].as_array().expect("rows") {
                seen.extend(row["id"].as_i64());
            }
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => return (page["checkpoint"].as_u64().expect("an epoch"), seen),
            }
        }
    }
}

fn sum(rows: &[Value]) -> i64 {
    let counts = rows.iter().filter_map(|row| row["COUNT(*)"].as_i64());
    counts.sum()
}

#[test]
fn state_of_a_savepoint_stays_what_it_was_while_its_job_goes_on() {
    let saved = Saved::start();
    let Saved {
        server,
        groups,
        join,
        then,
    } = &saved;
    let kept = server.get("/v1/jobs/job_1/savepoints/kept");
    let epoch = kept["checkpoint"].as_u64().expect("an epoch");
    let size = server.get(&format!("{join}/size?savepoint=kept"));
    assert_eq!(size["checkpoint"].as_u64(), Some(epoch));
    for (at, table) in ["left rows", "right rows"].into_iter().enumerate() {
        let (of, was) = saved.side(table, "&savepoint=kept");
        assert_eq!(of, epoch);
        let counted = &size["tables"][at];
        assert_eq!(counted["name"], table);
        assert_eq!(counted["rows"].as_u64(), Some(was.len() as u64), "{size}");
        let (_, is) = saved.side(table, "");
        assert!(!was.is_empty() && was.is_subset(&is) && was.len() < is.len());
        let new = is.difference(&was).next().expect("it is larger");
        let path = format!("{join}?table={}&key={new}", table.replace(' ', "%20"));
        assert_eq!(server.rows(&path).len(), 1);
        let before = server.rows(&format!("{path}&savepoint=kept"));
        assert_eq!(before, [] as [Value; 0]);
    }

    // In pages, and by a prefix, which here is all of the key.
    let all = server.rows(&format!("{groups}?savepoint=kept"));
    let page = server.get(&format!("{groups}?limit=2&savepoint=kept"));
    let next = page["next"].as_str().expect("there are five");
    let rest = server.get(&format!("{groups}?after={next}&savepoint=kept"));
    assert_eq!(rest["next"], Value::Null);
    let both = [&page["rows"], &rest["rows"]];
    let both = both.map(|rows| rows.as_array().expect("rows").clone());
    assert_eq!((both.concat().len(), both.concat()), (5, all));
    let rows = server.rows(&format!("{groups}?prefix=3&savepoint=kept"));
    assert_eq!(sum(&rows), *then);
    assert_eq!(saved.count("&savepoint=kept"), *then);
    assert_eq!(saved.shown(), Some(*then));

    // A checkpoint that is still kept is what its savepoint is.
    let now = server.get(&format!("{groups}?key=3"))["checkpoint"].to_string();
    let at_checkpoint = saved.count(&format!("&checkpoint={now}"));
    assert!(at_checkpoint > *then);
    let arguments = ["savepoint", "job_1", "later", "--checkpoint", &now];
    server.dev().jobs(&arguments);
    assert_eq!(saved.count("&savepoint=later"), at_checkpoint);
}

#[test]
fn state_of_a_savepoint_is_there_after_a_kill_and_after_its_job_until_it_is_let_go_of() {
    let mut saved = Saved::start();
    let then = saved.then;
    saved.server.restart();
    assert_eq!(saved.count("&savepoint=kept"), then);
    let server = &saved.server;
    server.dev().jobs(&["cancel", "job_1"]);
    let ended = wait_until(PATIENCE, || {
        server.get("/v1/jobs/job_1")["state"] == "CANCELED"
    });
    assert!(ended, "{}", server.dev().log());
    let (status, problem) = server.ask(&format!("{}?key=3", saved.groups));
    assert_eq!((status, &problem["code"]), (409, &json!("job.state")));
    assert_eq!(saved.count("&savepoint=kept"), then);
    assert_eq!(saved.shown(), Some(then));
    let path = format!("{}?key=3&savepoint=kept", saved.groups);
    let (status, _, _) = server.dev().get(&path, false);
    assert_eq!(status, 401);
    let delete = ["savepoint", "job_1", "kept", "--delete"];
    server.dev().jobs(&delete);
    let (status, problem) = server.ask(&path);
    assert_eq!(
        (status, &problem["code"]),
        (404, &json!("savepoint.unknown"))
    );
}

#[test]
fn state_that_is_not_kept_is_refused_with_the_reason() {
    let server = Server::start();
    let rarely = SCRIPT.replace("'100 ms'", "'1 h'");
    let _ = server.dev().execute(&rarely, "");
    let groups = server.operator("job_1", GROUPS);
    let check = |path: &str, status: u16, code: &str, why: &str| {
        let (got, problem) = server.ask(&format!("{groups}{path}"));
        assert_eq!((got, &problem["code"]), (status, &json!(code)), "{problem}");
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(detail.contains(why), "{path}: {problem}");
        assert!(problem["hint"].is_string(), "{problem}");
    };
    let none = "job_1 has no checkpoint yet";
    check("?key=3", 409, "checkpoint.not_kept", none);
    check("/size", 409, "checkpoint.not_kept", none);
    let both = "checkpoint=17&savepoint=a";
    for path in ["?", "/size?"] {
        let ask =
            |query: &str, status, code, why| check(&format!("{path}{query}"), status, code, why);
        ask(both, 400, "request.query", "exclude each other");
        ask("checkpoint=x", 400, "request.query", "");
        ask("savepoint=a", 404, "savepoint.unknown", "no savepoint `a`");
        ask(
            "checkpoint=1",
            409,
            "checkpoint.not_kept",
            "checkpoint 1 of",
        );
    }
    let error = server
        .dev()
        .jobs_refused(&["state", "job_1", "x", "--savepoint", "a"]);
    assert!(error.contains("no savepoint `a`"), "{error}");
}
