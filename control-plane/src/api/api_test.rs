//! Requests through the whole router, over jobs whose worker never answers.

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, StatusCode},
};
use proto::{
    control::JobOptions,
    types::{Epoch, JobId, KeyGroupCount, RowKind},
};
use serde_json::{Value, json};
use sql::{PlanOptions, session::Session};
use state_client::MemoryStore;
use tokio::sync::mpsc;
use tower::ServiceExt as _;

use super::*;
use crate::{
    Jobs, Statements, Tiers,
    metadata::LocalMetadata,
    results::{FeedEnd, ResultRow},
    workers::WorkerNews,
};

pub(super) struct Server {
    app: Router,
    pub(super) jobs: Jobs,
    /// What happens to workers.
    pub(super) workers: mpsc::Sender<WorkerNews>,
}

pub(super) fn server() -> Server {
    server_over(|statements| Backend::alone(statements, "127.0.0.1:7878".to_owned()))
}

pub(super) fn server_over(backend: impl FnOnce(Arc<Statements>) -> Backend) -> Server {
    let (events, receiver) = mpsc::channel(1);
    let (jobs, driver) = Jobs::new(Tiers {
        workers: receiver,
        state: Arc::new(MemoryStore::new(KeyGroupCount::DEFAULT)),
        metadata: Arc::new(LocalMetadata::default()),
        wall_ms: Arc::new(|| 1_700_000_000_000),
        seed: 1,
    });
    tokio::spawn(driver.run());
    let session = Session::new(PlanOptions::default());
    let statements = Statements::new(session, jobs.clone(), JobOptions::default());
    Server {
        app: router(backend(Arc::new(statements)), Token::new("secret-token")),
        jobs,
        workers: events,
    }
}

impl Server {
    async fn send(&self, request: Request<Body>) -> (StatusCode, String) {
        let response = self.app.clone().oneshot(request).await.expect("infallible");
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20)
            .await
            .expect("a body");
        (status, String::from_utf8(body.to_vec()).expect("text"))
    }

    pub(super) async fn ask(&self, method: &str, path: &str, body: &str) -> (StatusCode, Value) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("Authorization", "Bearer secret-token")
            .header("Content-Type", "application/json")
            .body(Body::from(body.to_owned()))
            .expect("a request");
        let (status, text) = self.send(request).await;
        let json = serde_json::from_str(&text).unwrap_or(Value::String(text));
        (status, json)
    }

    pub(super) async fn execute(&self, sql: &str) -> (StatusCode, Value) {
        let body = json!({ "sql": sql }).to_string();
        self.ask("POST", "/v1/statements", &body).await
    }

    /// Checks that it is refused, so.
    pub(super) async fn refuses(
        &self,
        (method, path, body): (&str, &str, &str),
        status: u16,
        code: &str,
    ) {
        let (got, problem) = self.ask(method, path, body).await;
        assert_eq!(got.as_u16(), status, "{method} {path} {body}: {problem}");
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status, "{problem}");
        assert!(problem["hint"].is_string(), "{problem}");
    }

    /// Looks until the field of the job has this value.
    pub(super) async fn wait_for_job(&self, job: &str, field: &str, value: &str) -> Value {
        let path = format!("/v1/jobs/{job}");
        loop {
            let (_, job) = self.ask("GET", &path, "").await;
            if job[field] == value {
                return job;
            }
            tokio::task::yield_now().await;
        }
    }
}

pub(super) const TABLE: &str = "CREATE TABLE t (a INT, b STRING) WITH ('connector' = 'datagen');";

#[tokio::test]
async fn every_route_but_health_asks_for_the_token() {
    let server = server();
    let without = |path: &str| Request::get(path).body(Body::empty()).expect("a request");
    let (status, body) = server.send(without("/v1/health")).await;
    assert_eq!((status, body.as_str()), (StatusCode::OK, "ok\n"));
    let described: Vec<String> = operations().into_iter().map(|(_, path, _)| path).collect();
    let described = described.iter().filter(|path| *path != "/v1/health");
    for path in described.map(String::as_str).chain(["/v1/nothing"]) {
        let (status, body) = server.send(without(path)).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{path}");
        assert!(body.contains("auth.token"), "{body}");
    }
}

#[tokio::test]
async fn statements_make_tables_and_jobs() {
    let server = server();
    let (status, answer) = server.execute(TABLE).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    assert_eq!(answer["results"][0]["kind"], "ok");
    let (_, tables) = server.ask("GET", "/v1/tables", "").await;
    assert_eq!(tables["tables"][0]["columns"][1]["name"], "b");

    let (status, answer) = server.execute("SELECT a, b FROM t WHERE a > 1").await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    assert_eq!(answer["results"][0]["job"], "job_1");
    assert_eq!(answer["results"][0]["results"], "/v1/jobs/job_1/results");
    let (_, job) = server.ask("GET", "/v1/jobs/job_1", "").await;
    assert_eq!(job["name"], "SELECT a, b FROM t WHERE a > 1");
    assert_eq!(job["created_ms"], 1_700_000_000_000_u64);
    let (_, plan) = server.ask("GET", "/v1/jobs/job_1/plan", "").await;
    assert_eq!(plan["version"], 1);
    for resource in ["metrics", "checkpoints", "exceptions", "dead-letters"] {
        let path = format!("/v1/jobs/job_1/{resource}");
        assert_eq!(server.ask("GET", &path, "").await.0, StatusCode::OK);
    }
    let (status, _) = server.ask("POST", "/v1/jobs/job_1/cancel", "").await;
    assert_eq!(status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn a_job_is_deleted_when_it_has_ended() {
    let server = server();
    server.execute(&format!("{TABLE} SELECT a FROM t")).await;
    let path = "/v1/jobs/job_1";
    server
        .refuses(("DELETE", path, ""), 409, "job.not_ended")
        .await;
    let feed = server.jobs.get(JobId(1)).expect("it exists").feed.clone();
    let feed = feed.expect("it is a SELECT");
    let row = ResultRow {
        kind: RowKind::Insert,
        line: "7".into(),
    };
    feed.publish(Epoch(16), 0, vec![row]).await;
    assert_eq!(feed.kept_bytes(), Some(1));

    server.ask("POST", "/v1/jobs/job_1/cancel", "").await;
    server.wait_for_job("job_1", "state", "CANCELED").await;
    // It has ended: nothing is left to cancel, and nothing changes.
    let (status, job) = server.ask("POST", "/v1/jobs/job_1/cancel", "").await;
    assert_eq!(status, StatusCode::ACCEPTED);
    assert_eq!(job["state"], "CANCELED");
    assert_eq!(feed.kept_bytes(), Some(1));

    let (status, body) = server.ask("DELETE", path, "").await;
    assert_eq!((status, body), (StatusCode::NO_CONTENT, json!("")));
    assert_eq!(feed.kept_bytes(), Some(0));
    for (method, path) in [
        ("DELETE", path.to_owned()),
        ("GET", path.to_owned()),
        ("GET", format!("{path}/results")),
        ("POST", format!("{path}/cancel")),
    ] {
        let (status, _) = server.ask(method, &path, "").await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{method} {path}");
    }
    let (_, list) = server.ask("GET", "/v1/jobs", "").await;
    assert_eq!(list, json!({"jobs": [], "total": 0}));
}

#[tokio::test]
async fn refusals_are_problems_and_change_nothing() {
    let server = server();
    let (status, problem) = server.execute(&format!("{TABLE}\nSELECT x FROM t")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(problem["code"], "sql.validate");
    assert_eq!(problem["status"], 400);
    assert_eq!(problem["position"], json!({"line": 2, "column": 8}));
    let (_, tables) = server.ask("GET", "/v1/tables", "").await;
    assert_eq!(tables["tables"], json!([]));

    let check = async |method: &str, path: &str, body: &str, status: u16, code: &str| {
        let (got, problem) = server.ask(method, path, body).await;
        assert_eq!(got.as_u16(), status, "{problem}");
        assert_eq!(problem["code"], code, "{problem}");
    };
    check("POST", "/v1/statements", "{}", 422, "request.malformed").await;
    check("POST", "/v1/statements", "{", 400, "request.malformed").await;
    let array = r#"["SELECT 1"]"#;
    check("POST", "/v1/statements", array, 422, "request.malformed").await;
    let unknown = r#"{"sql": "SELECT 1", "x": 1}"#;
    check("POST", "/v1/statements", unknown, 422, "request.malformed").await;
    check("GET", "/v1/jobs/%ff", "", 404, "job.unknown").await;
    check("GET", "/v1/jobs?limit=0", "", 400, "request.query").await;
    check("GET", "/v1/jobs?limit=x", "", 400, "request.query").await;
    check("PUT", "/v1/health", "", 405, "route.method").await;
    let long = json!({"sql": " ".repeat(600 << 10)}).to_string();
    check("POST", "/v1/statements", &long, 413, "request.size").await;
    let longer = json!({"sql": " ".repeat(2 << 20)}).to_string();
    check("POST", "/v1/statements", &longer, 413, "request.size").await;
    check("GET", "/v1/jobs/job_9", "", 404, "job.unknown").await;
    check("GET", "/v1/jobs/nine", "", 404, "job.unknown").await;
    check("GET", "/v1/nothing", "", 404, "route.unknown").await;
    check("PUT", "/v1/jobs", "", 405, "route.method").await;
    let parallel = json!({"sql": "SET 'parallelism.default' = '257'"}).to_string();
    check("POST", "/v1/statements", &parallel, 400, "sql.validate").await;
    let many = format!("{TABLE} {}", "SELECT a FROM t;".repeat(300));
    let (status, problem) = server.execute(&many).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(
        problem["detail"],
        "the statements start 300 jobs and 0 are running: there can be at most 256"
    );
}

#[tokio::test]
async fn texts_of_refusals_are_ours() {
    let server = server();
    let check = async |body: &str, expected: &str| {
        let (_, problem) = server.ask("POST", "/v1/statements", body).await;
        assert_eq!(problem["detail"], expected);
    };
    check("{\n x", "the body is not JSON (line 2, column 2)").await;
    check("[]", "the body is not a JSON object").await;
    check("{}", "the body has no field `sql`").await;
    check(r#"{"sql": 1}"#, "the field `sql` is not text").await;
    check(r#"{"x": 1}"#, "the body has an unknown field `x`").await;
    let long = " ".repeat(2 << 20);
    check(&long, "the request has more than 1048576 bytes").await;
    let request = Request::post("/v1/statements")
        .header("Authorization", "bearer secret-token")
        .header("Content-Type", "text/plain")
        .body(Body::from("SELECT 1"))
        .expect("a request");
    let (status, body) = server.send(request).await;
    assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert!(body.contains("the body must be JSON"), "{body}");
}

#[tokio::test]
async fn lists_are_short_and_cancelled_jobs_say_so() {
    let server = server();
    let columns = "a, ".repeat(200);
    let sql = format!("{TABLE} SELECT {columns} b FROM t; SELECT b FROM t");
    server.execute(&sql).await;
    let (_, list) = server.ask("GET", "/v1/jobs", "").await;
    let shown = list["jobs"][0]["sql"].as_str().expect("text");
    assert_eq!(shown.chars().count(), 201);
    let (_, job) = server.ask("GET", "/v1/jobs/job_1", "").await;
    assert!(job["sql"].as_str().is_some_and(|sql| sql.len() > 600));
    let (_, list) = server.ask("GET", "/v1/jobs?limit=1", "").await;
    assert_eq!(list["jobs"].as_array().map(Vec::len), Some(1));
    assert_eq!(list["jobs"][0]["id"], "job_2");
    assert_eq!(list["total"], 2);
    let (_, job) = server.ask("POST", "/v1/jobs/job_2/cancel", "").await;
    assert!(
        ["CANCELING", "CANCELED"]
            .map(Value::from)
            .contains(&job["state"]),
        "{job}"
    );
}

#[tokio::test]
async fn results_come_as_lines_or_events() {
    let server = server();
    let sql = format!("{TABLE} SELECT a, b FROM t");
    let (_, answer) = server.execute(&sql).await;
    assert_eq!(answer["results"][1]["job"], "job_1");
    let entry = server.jobs.get(JobId(1)).expect("it exists");
    let feed = entry.feed.clone().expect("it is a SELECT");
    let row = ResultRow {
        kind: RowKind::UpdateAfter,
        line: "7\t\\N".into(),
    };
    feed.publish(Epoch(16), 0, vec![row]).await;
    feed.end(FeedEnd::Complete);
    let read = async |accept: &str| {
        let request = Request::get("/v1/jobs/job_1/results")
            .header("Authorization", "Bearer secret-token")
            .header("Accept", accept)
            .body(Body::empty())
            .expect("a request");
        server.send(request).await.1
    };
    expect_test::expect![[r#"
        {"columns":[{"name":"a","type":"INT"},{"name":"b","type":"STRING"}],"upsert_key":null}
        {"op":"+U","row":{"a":7,"b":null}}
        {"end":"complete"}
    "#]]
    .assert_eq(&read("*/*").await);
    expect_test::expect![[r#"
        event: columns
        data: {"columns":[{"name":"a","type":"INT"},{"name":"b","type":"STRING"}],"upsert_key":null}

        event: row
        data: {"op":"+U","row":{"a":7,"b":null}}

        event: end
        data: {"end":"complete"}

    "#]]
    .assert_eq(&read("text/event-stream").await);
}

/// Method, path and description of every operation.
fn operations() -> Vec<(String, String, Value)> {
    let description = serde_json::to_value(openapi()).expect("JSON");
    let paths = description["paths"].as_object().expect("paths");
    let mut operations = Vec::new();
    for (path, item) in paths {
        for (method, operation) in item.as_object().expect("operations") {
            operations.push((method.to_uppercase(), path.clone(), operation.clone()));
        }
    }
    operations
        .sort_by(|(method, path, _), (method2, path2, _)| (path, method).cmp(&(path2, method2)));
    operations
}

#[test]
fn the_description_has_every_route() {
    let routes: Vec<String> = operations()
        .iter()
        .map(|(method, path, operation)| {
            let id = operation["operationId"].as_str().unwrap_or_default();
            format!("{method} {path} {id}")
        })
        .collect();
    expect_test::expect![[r#"
        GET /v1/cluster getCluster
        POST /v1/cluster/nodes addControlNode
        DELETE /v1/cluster/nodes/{id} removeControlNode
        GET /v1/files listNeededFiles
        GET /v1/health getHealth
        GET /v1/jobs listJobs
        DELETE /v1/jobs/{id} deleteJob
        GET /v1/jobs/{id} getJob
        PATCH /v1/jobs/{id} changeJob
        GET /v1/jobs/{id}/autoscaler getAutoscaler
        POST /v1/jobs/{id}/cancel cancelJob
        GET /v1/jobs/{id}/checkpoints getCheckpoints
        GET /v1/jobs/{id}/dead-letters getDeadLetters
        GET /v1/jobs/{id}/exceptions getExceptions
        POST /v1/jobs/{id}/forks forkJob
        GET /v1/jobs/{id}/metrics getMetrics
        GET /v1/jobs/{id}/operators listOperators
        GET /v1/jobs/{id}/operators/{operator}/state getState
        GET /v1/jobs/{id}/operators/{operator}/state/size getStateSize
        GET /v1/jobs/{id}/plan getPlan
        GET /v1/jobs/{id}/results readResults
        POST /v1/jobs/{id}/resume resumeJob
        GET /v1/jobs/{id}/savepoints listSavepoints
        POST /v1/jobs/{id}/savepoints createSavepoint
        DELETE /v1/jobs/{id}/savepoints/{name} deleteSavepoint
        GET /v1/jobs/{id}/savepoints/{name} getSavepoint
        POST /v1/jobs/{id}/savepoints/{name}/export exportSavepoint
        POST /v1/jobs/{id}/stop stopJob
        GET /v1/jobs/{id}/upgrade getUpgrade
        POST /v1/jobs/{id}/upgrade upgradeJob
        GET /v1/openapi.json getDescription
        POST /v1/savepoints/import importSavepoint
        GET /v1/state-nodes listStateNodes
        POST /v1/statements executeStatements
        GET /v1/tables listTables
        GET /v1/transfers listTransfers
        GET /v1/transfers/{id} getTransfer
        POST /v1/transfers/{id}/cancel cancelTransfer
        GET /v1/workers listWorkers
        GET /v1/workers/{id} getWorker"#]]
    .assert_eq(&routes.join("\n"));
}

#[test]
fn every_problem_is_described_as_one_and_ids_are_unique() {
    let mut ids = std::collections::BTreeSet::new();
    for (method, path, operation) in operations() {
        let id = operation["operationId"].as_str().expect("an id");
        assert!(ids.insert(id.to_owned()), "{id} is there twice");
        let responses = operation["responses"].as_object().expect("responses");
        let problems = responses
            .iter()
            .filter(|(status, _)| status.starts_with(['4', '5']));
        for (status, response) in problems {
            let types: Vec<&String> = response["content"]
                .as_object()
                .expect("content")
                .keys()
                .collect();
            assert_eq!(
                types,
                ["application/problem+json"],
                "{method} {path} {status}"
            );
        }
        let mut expected = vec!["405"];
        if path != "/v1/health" {
            expected.extend(["401", "503"]);
        }
        if path.contains("{id}") {
            expected.push("404");
        }
        if operation["requestBody"].is_object() {
            expected.extend(["400", "413", "415", "422"]);
        }
        for status in expected {
            assert!(
                responses.contains_key(status),
                "{method} {path} lacks {status}"
            );
        }
    }
}

/// What is described is there, with these methods and no others; all answers are described.
#[tokio::test]
async fn routes_are_as_described() {
    let server = server();
    let described = operations();
    for path in described.iter().map(|(_, path, _)| path) {
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH"] {
            let known = described.iter().find(|(m, p, _)| m == method && p == path);
            let concrete = path.replace("{id}", "job_7");
            let (status, answer) = server.ask(method, &concrete, "{}").await;
            let code = answer["code"].as_str().unwrap_or_default().to_owned();
            let Some((_, _, operation)) = known else {
                assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
                assert_eq!(code, "route.method");
                continue;
            };
            assert_ne!(code, "route.unknown", "{method} {path}");
            let responses = operation["responses"].as_object().expect("responses");
            assert!(
                responses.contains_key(status.as_str()),
                "{method} {path}: {status}"
            );
        }
    }
}
