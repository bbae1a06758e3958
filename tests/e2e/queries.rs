//! State of running jobs, read over REST: by key and in pages, for every kind of operator, while the job
//! runs, right after its process was killed, and in a fork that begins with a savepoint.

use std::{collections::BTreeSet, ffi::OsStr, path::Path, time::Duration};

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{DevProcess, wait_until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_millstream-under-test");

/// A test that takes longer has hung.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

pub(super) struct Server {
    dev: Option<DevProcess>,
    folder: TempDir,
}

impl Server {
    pub(super) fn start() -> Server {
        let folder = TempDir::new().expect("a folder");
        let mut server = Server { dev: None, folder };
        server.restart();
        server
    }

    /// The process is killed, if it runs, and another one takes its place.
    pub(super) fn restart(&mut self) {
        self.dev = None;
        let data = self.folder.path().join("data");
        let arguments = [OsStr::new("--data-dir"), data.as_os_str()];
        self.dev = Some(DevProcess::start_with(Path::new(PROGRAM), &arguments, &[]));
    }

    pub(super) fn dev(&self) -> &DevProcess {
        self.dev.as_ref().expect("it runs")
    }

    pub(super) fn ask(&self, path: &str) -> (u16, Value) {
        let (status, _, body) = self.dev().get(path, true);
        (status, serde_json::from_str(&body).unwrap_or_default())
    }

    pub(super) fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask(path);
        assert_eq!(status, 200, "{path}: {body} {}", self.dev().log());
        body
    }

    /// The operator of a job whose description begins so.
    pub(super) fn operator(&self, job: &str, begins: &str) -> String {
        let list = self.get(&format!("/v1/jobs/{job}/operators"));
        let operators = list["operators"].as_array().expect("operators");
        let is_it = |operator: &&Value| {
            let description = operator["description"].as_str();
            description.is_some_and(|description| description.starts_with(begins))
        };
        let found = operators.iter().find(is_it);
        let found = found.unwrap_or_else(|| panic!("{begins}: {list}"));
        let id = found["id"].as_str().expect("an id");
        format!("/v1/jobs/{job}/operators/{id}/state")
    }

    pub(super) fn rows(&self, path: &str) -> Vec<Value> {
        self.get(path)["rows"].as_array().expect("rows").clone()
    }

    /// Asks until the answer has these rows.
    fn wait_for_rows(&self, path: &str, rows: &Value) {
        let mut last = Value::Null;
        let came = wait_until(PATIENCE, || {
            last = self.ask(path).1;
            last["rows"] == *rows
        });
        assert!(came, "{path}: {last}, not {rows}; {}", self.dev().log());
    }
}

/// How the description of its GROUP BY with keys begins.
pub(super) const GROUPS: &str = "GroupAggregate(groupBy";

/// A job that has read a thousand numbers and then waits, with state of every kind.
const SCRIPT: &str = "
    SET 'execution.checkpointing.interval' = '100 ms';
    SET 'parallelism.default' = '2';
    CREATE TABLE numbers (id BIGINT, ts AS TO_TIMESTAMP_LTZ(id * 1000, 3),
        WATERMARK FOR ts AS ts)
      WITH ('connector' = 'datagen', 'fields.id.kind' = 'sequence', 'fields.id.start' = '0',
            'fields.id.end' = '999');
    CREATE TABLE ticks (id BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '1',
        'fields.id.min' = '1000000', 'fields.id.max' = '2000000');
    CREATE TABLE held (id BIGINT, ts AS TO_TIMESTAMP_LTZ(id, 3),
        WATERMARK FOR ts AS ts - INTERVAL '1' DAY)
      WITH ('connector' = 'datagen', 'rows-per-second' = '1', 'number-of-rows' = '600',
            'fields.id.min' = '2000000', 'fields.id.max' = '2000000');
    CREATE TABLE waits (id BIGINT) WITH ('connector' = 'blackhole');
    CREATE TABLE total (n BIGINT) WITH ('connector' = 'blackhole');
    CREATE VIEW mixed AS SELECT id FROM numbers UNION ALL SELECT id FROM ticks;
    CREATE TABLE pairs (a BIGINT, b BIGINT) WITH ('connector' = 'blackhole');
    CREATE TABLE counts (k BIGINT, s STRING, n BIGINT, d BIGINT)
      WITH ('connector' = 'blackhole');
    CREATE TABLE tops (k BIGINT, id BIGINT) WITH ('connector' = 'blackhole');
    EXECUTE STATEMENT SET BEGIN
      INSERT INTO counts SELECT k, s, COUNT(*), COUNT(DISTINCT id % 3) FROM (
        SELECT id % 5 AS k, id, CASE WHEN id % 2 = 0 THEN 'even' END AS s FROM mixed)
        GROUP BY k, s;
      INSERT INTO pairs SELECT l.id, r.id FROM mixed AS l JOIN numbers AS r ON l.id = r.id;
      INSERT INTO waits SELECT id FROM (SELECT id, ts FROM held) ORDER BY ts;
      INSERT INTO total SELECT COUNT(*) FROM mixed;
      INSERT INTO tops SELECT k, id FROM (
        SELECT k, id, ROW_NUMBER() OVER (PARTITION BY k ORDER BY id) AS rn
        FROM (SELECT id % 3 AS k, id FROM mixed)) WHERE rn <= 2;
    END";

fn job(server: &Server) {
    let _ = server.dev().execute(SCRIPT, "");
    let groups = || server.operator("job_1", GROUPS);
    server.wait_for_rows(
        &format!("{}?key=[1,%22even%22]", groups()),
        &json!([{"k": 1, "s": "even", "COUNT(*)": 100, "COUNT(DISTINCT id % 3)": 3}]),
    );
}

/// What is counted in the background comes to what is counted at once.
#[track_caller]
fn assert_counted(server: &Server, groups: &str, size: &Value) {
    let id = groups.split('/').nth_back(1).expect("an id");
    let mut stored = Value::Null;
    let came = wait_until(PATIENCE, || {
        let list = server.get("/v1/jobs/job_1/operators");
        let operators = list["operators"].as_array().expect("operators");
        let of_groups = operators.iter().find(|operator| operator["id"] == id);
        stored = of_groups.expect("it is there")["state"]["stored"].clone();
        stored["estimated"] == false && stored["rows"] == size["rows"]
    });
    assert!(came, "{stored}, {size}; {}", server.dev().log());
    assert_eq!(stored["bytes"], size["bytes"], "{stored}");
    assert!(stored["checkpoint"].as_u64() > Some(0), "{stored}");
    let (_, _, metrics) = server.dev().get("/metrics", true);
    let figure = metrics.lines().find(|line| {
        line.starts_with("millstream_operator_state_stored_rows") && line.contains(id)
    });
    assert!(
        figure.is_some_and(|line| line.ends_with(&format!(" {}", size["rows"]))),
        "{figure:?}, {size}"
    );
}

#[test]
fn rows_of_every_operator_are_read_by_key_and_in_pages() {
    let server = Server::start();
    job(&server);
    let groups = server.operator("job_1", GROUPS);
    let answer = server.get(&format!("{groups}?key=%7B%22s%22:null,%22k%22:1%7D"));
    let row = json!({"k": 1, "s": null, "COUNT(*)": 100, "COUNT(DISTINCT id % 3)": 3});
    assert_eq!(answer["rows"], json!([row]), "{answer}");
    assert_eq!(answer["key"], json!(["k", "s"]));
    assert_eq!(answer["columns"][0], json!({"name": "k", "type": "INT"}));
    assert!(answer["checkpoint"].as_u64() > Some(0), "{answer}");
    assert_eq!(
        server.rows(&format!("{groups}?key=[7,null]")),
        [] as [Value; 0]
    );
    assert_eq!(server.rows(&format!("{groups}?prefix=[1]")).len(), 2);

    // Page by page, each group once.
    let (mut after, mut seen, mut pages) = (String::new(), BTreeSet::new(), 0);
    loop {
        let page = server.get(&format!("{groups}?limit=3{after}"));
        let rows = page["rows"].as_array().expect("rows");
        assert!(rows.len() <= 3, "{page}");
        for row in rows {
            let key = (row["k"].to_string(), row["s"].to_string());
            assert!(seen.insert(key), "{page}");
        }
        pages += 1;
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(seen.len(), 10);
    assert!(pages >= 4, "{pages}");

    let join = server.operator("job_1", "Join");
    let left = server.rows(&format!("{join}?table=left%20rows&key=17"));
    assert_eq!(left.len(), 1);
    assert_eq!(left[0]["id"], 17);
    server.wait_for_rows(
        &format!("{join}?table=right%20rows&key=17"),
        &json!([{"id": 17}]),
    );
    let top = server.operator("job_1", "Rank");
    let ids = |rows: Vec<Value>| -> Vec<i64> {
        let mut ids: Vec<i64> = rows.iter().filter_map(|row| row["id"].as_i64()).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(ids(server.rows(&format!("{top}?key=1"))), [1, 4]);

    // Neither rows that wait for the watermark have a key, nor has a count of everything.
    let all = |begins: &str| server.rows(&format!("{}?key=[]", server.operator("job_1", begins)));
    let came = wait_until(PATIENCE, || !all("Sort").is_empty());
    assert!(came && ids(all("Sort")).iter().all(|id| *id == 2_000_000));
    assert_eq!(all("GroupAggregate(select").len(), 1);

    let size = server.get(&format!("{groups}/size"));
    assert_eq!(size["complete"], true);
    assert_eq!(size["tables"][0]["name"], "accumulators");
    assert_eq!(size["tables"][0]["rows"], 10, "{size}");
    assert!(size["bytes"].as_u64() > Some(100), "{size}");
    assert_counted(&server, &groups, &size);
    let list = server.get("/v1/jobs/job_1/operators");
    let rows = |operator: &Value| operator["state"]["memory_rows"].as_u64();
    let operators = list["operators"].as_array().expect("operators");
    assert!(
        operators
            .iter()
            .any(|operator| rows(operator) >= Some(1_000)),
        "{list}"
    );
}

#[test]
fn state_that_is_old_goes_from_what_is_stored_also_over_a_kill() {
    let mut server = Server::start();
    let ttl = "SET 'table.exec.state.ttl' = '3 s'";
    let _ = server.dev().execute(&format!("{ttl};{SCRIPT}"), "");
    let join = server.operator("job_1", "Join");
    let rows = |server: &Server, table: usize| {
        let (_, size) = server.ask(&format!("{join}/size"));
        size["tables"][table]["rows"].as_u64()
    };
    // All of them were there before the first was three seconds old.
    let wait = |server: &Server, wanted: u64| {
        let came = wait_until(PATIENCE, || rows(server, 1) == Some(wanted));
        let (_, size) = server.ask(&format!("{join}/size"));
        assert!(came, "{size}, not {wanted}; {}", server.dev().log());
    };
    wait(&server, 1_000);
    server.restart();
    // Nobody asks for these keys any more, and the process that knew them is dead.
    wait(&server, 0);
    // A few rows that have come since: one each second.
    let came = wait_until(PATIENCE, || rows(&server, 0) < Some(20));
    assert!(came, "{:?}", rows(&server, 0));
    let text = server.get("/v1/jobs/job_1/operators").to_string();
    assert!(text.contains("until untouched for 3 s"), "{text}");
}

#[test]
fn questions_that_have_no_answer_are_told_why() {
    let server = Server::start();
    job(&server);
    let groups = server.operator("job_1", GROUPS);
    let join = server.operator("job_1", "Join");
    let source = server.operator("job_1", "Source");
    let check = |path: &str, status: u16, code: &str, why: &str| {
        let (got, problem) = server.ask(path);
        assert_eq!(
            (got, problem["code"].as_str()),
            (status, Some(code)),
            "{path}: {problem}"
        );
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(detail.contains(why), "{path}: {problem}");
        assert!(problem["hint"].is_string(), "{problem}");
    };
    let of_groups = |query: &str, code, why| check(&format!("{groups}?{query}"), 400, code, why);
    let columns = "1 of 2 columns are given; the key is (k INT, s CHAR(4))";
    of_groups("key=1", "state.key", columns);
    of_groups("key=[%22x%22,null]", "state.key", "`x` is no INT for `k`");
    of_groups(
        "key=[1,null]&prefix=1",
        "request.query",
        "exclude each other",
    );
    of_groups("after=00", "state.after", "not where an answer has ended");
    of_groups("limit=0", "request.query", "`limit` must be");
    of_groups("kay=1", "request.query", "kay");
    let tables = "the operator's tables are left rows, right rows";
    check(&format!("{join}?key=1"), 400, "state.table", tables);
    check(
        &format!("{join}?key=1&table=middle"),
        400,
        "state.table",
        "no table `middle`",
    );
    check(&source, 409, "state.none", "keeps no state that has keys");
    let nothing = |job: &str| format!("/v1/jobs/{job}/operators/nothing/state");
    check(
        &nothing("job_1"),
        404,
        "operator.unknown",
        "group-aggregate-",
    );
    assert_eq!(server.ask(&nothing("job_9")).0, 404);
    let (status, _, _) = server.dev().get(&groups, false);
    assert_eq!(status, 401);
}

#[test]
fn state_is_there_right_after_a_kill_and_that_of_a_savepoint_in_a_fork() {
    let mut server = Server::start();
    job(&server);
    let key = "?key=[1,%22even%22]";
    let rows = json!([{"k": 1, "s": "even", "COUNT(*)": 100, "COUNT(DISTINCT id % 3)": 3}]);
    server.restart();
    let groups = server.operator("job_1", GROUPS);
    server.wait_for_rows(&format!("{groups}{key}"), &rows);
    let cli = |arguments: &[&str]| server.dev().jobs(arguments);
    cli(&["savepoint", "job_1", "kept"]);
    cli(&["fork", "job_1", "--savepoint", "kept"]);
    let forked = server.operator("job_2", GROUPS);
    server.wait_for_rows(&format!("{forked}{key}"), &rows);
    let id = groups.split('/').nth_back(1).expect("an id").to_owned();
    let shown = cli(&["state", "job_1", &id, "--key", "[1, \"even\"]"]);
    let shown: Value = serde_json::from_str(shown.trim()).expect("JSON");
    assert_eq!(json!([shown]), rows);
    assert!(cli(&["operators", "job_1"]).contains(&id));
    assert!(cli(&["state", "job_1", &id, "--size"]).contains("accumulators"));
}
