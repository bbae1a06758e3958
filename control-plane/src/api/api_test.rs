//! Requests through the whole router, over jobs whose worker never answers.

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, StatusCode},
};
use proto::{
    control::{JobMetrics, JobOptions, WorkerEvent},
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
    results::{FeedEnd, ResultRow},
};

struct Server {
    app: Router,
    jobs: Jobs,
    /// Keeps the worker's end of the channel open.
    _events: mpsc::Sender<WorkerEvent>,
}

fn server() -> Server {
    let (events, receiver) = mpsc::channel(1);
    let (jobs, driver) = Jobs::new(Tiers {
        worker: Arc::new(|_| {}),
        events: receiver,
        state: Arc::new(MemoryStore::new(KeyGroupCount::DEFAULT)),
        figures: Arc::new(|_| JobMetrics::new()),
        wall_ms: Arc::new(|| 1_700_000_000_000),
        seed: 1,
    });
    tokio::spawn(driver.run());
    let session = Session::new(PlanOptions::default());
    let statements = Statements::new(session, jobs.clone(), JobOptions::default());
    Server {
        app: router(Arc::new(statements), Token::new("secret-token")),
        jobs,
        _events: events,
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

    async fn ask(&self, method: &str, path: &str, body: &str) -> (StatusCode, Value) {
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

    async fn execute(&self, sql: &str) -> (StatusCode, Value) {
        let body = json!({ "sql": sql }).to_string();
        self.ask("POST", "/v1/statements", &body).await
    }
}

const TABLE: &str = "CREATE TABLE t (a INT, b STRING) WITH ('connector' = 'datagen');";

#[tokio::test]
async fn every_route_but_health_asks_for_the_token() {
    let server = server();
    let without = |path: &str| Request::get(path).body(Body::empty()).expect("a request");
    let (status, body) = server.send(without("/v1/health")).await;
    assert_eq!((status, body.as_str()), (StatusCode::OK, "ok\n"));
    for path in ["/v1/jobs", "/v1/tables", "/v1/openapi.json", "/v1/nothing"] {
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
    let (status, _) = server.ask("DELETE", "/v1/jobs/job_1", "").await;
    assert_eq!(status, StatusCode::ACCEPTED);
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
    let long = json!({"sql": " ".repeat(600 << 10)}).to_string();
    check("POST", "/v1/statements", &long, 413, "request.size").await;
    let longer = json!({"sql": " ".repeat(2 << 20)}).to_string();
    check("POST", "/v1/statements", &longer, 413, "request.size").await;
    check("GET", "/v1/jobs/job_9", "", 404, "job.unknown").await;
    check("GET", "/v1/jobs/nine", "", 404, "job.unknown").await;
    check("GET", "/v1/nothing", "", 404, "route.unknown").await;
    check("PUT", "/v1/jobs", "", 405, "route.method").await;
    let many = "SET 'parallelism.default' = '9999'; CREATE TABLE t (a INT) WITH ('connector' = 'datagen'); SELECT a FROM t";
    let body = json!({ "sql": many }).to_string();
    check("POST", "/v1/statements", &body, 400, "job.placement").await;
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

#[test]
fn the_description_has_every_route() {
    let description = serde_json::to_value(openapi()).expect("JSON");
    let paths = description["paths"].as_object().expect("paths");
    let mut routes: Vec<String> = Vec::new();
    for (path, operations) in paths {
        let methods = operations.as_object().expect("operations").keys();
        routes.extend(methods.map(|method| format!("{method} {path}")));
    }
    routes.sort();
    expect_test::expect![[r#"
        delete /v1/jobs/{id}
        get /v1/jobs
        get /v1/jobs/{id}
        get /v1/jobs/{id}/checkpoints
        get /v1/jobs/{id}/dead-letters
        get /v1/jobs/{id}/exceptions
        get /v1/jobs/{id}/metrics
        get /v1/jobs/{id}/plan
        get /v1/jobs/{id}/results
        get /v1/tables
        post /v1/statements"#]]
    .assert_eq(&routes.join("\n"));
}
