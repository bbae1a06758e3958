//! What the API says of the processes behind it: workers, state nodes, control-plane nodes.

use std::sync::Arc;

use axum::http::StatusCode;
use futures::{FutureExt as _, future::BoxFuture};
use proto::{
    control::{JobMetrics, WorkerCommand},
    types::{JobId, StateNodeId, WorkerId},
};
use serde_json::{Value, json};

use super::{
    Backend, StateNodes,
    api_test::{Server, TABLE, server, server_over},
};
use crate::{
    WorkerLink,
    membership::{ControlNode, Membership, MembershipError},
    state_tier::{StateNodeStatus, StateTierStatus},
    workers::{Worker, WorkerNews},
};

/// Takes commands and says nothing.
struct SilentLink;

impl WorkerLink for SilentLink {
    fn release(&self) {}

    fn send(&self, _command: WorkerCommand) {}

    fn metrics(&self, _job: JobId) -> JobMetrics {
        JobMetrics::new()
    }
}

/// State nodes that are always so.
struct FixedNodes(Option<StateTierStatus>);

impl StateNodes for FixedNodes {
    fn status(&self) -> BoxFuture<'static, Option<StateTierStatus>> {
        let status = self.0.clone();
        async { status }.boxed()
    }
}

/// A cluster that answers every change so.
struct FixedMembers(Result<(), MembershipError>);

impl Membership for FixedMembers {
    fn nodes(&self) -> Vec<ControlNode> {
        let node = |id, leader| ControlNode {
            id,
            address: format!("10.0.0.{id}:7879"),
            leader,
            voter: true,
        };
        vec![node(1, true), node(2, false)]
    }

    fn add(&self, _id: u64, _address: String) -> BoxFuture<'static, Result<(), MembershipError>> {
        let answer = self.0.clone();
        async { answer }.boxed()
    }

    fn remove(&self, _id: u64) -> BoxFuture<'static, Result<(), MembershipError>> {
        let answer = self.0.clone();
        async { answer }.boxed()
    }
}

#[tokio::test]
async fn a_job_says_what_holds_it_up() {
    let status = StateTierStatus {
        nodes: Vec::new(),
        degraded: [(JobId(2), "sn_1: the object store is slow".to_owned())].into(),
    };
    let server = server_over(|statements| Backend {
        state_nodes: Arc::new(FixedNodes(Some(status))),
        ..Backend::alone(statements, String::new())
    });
    server
        .execute(&format!("{TABLE} SELECT a FROM t; SELECT b FROM t"))
        .await;
    let job = server.wait_for_job("job_1", "health", "DEGRADED").await;
    assert_eq!(job["health_reason"], "no worker is connected");
    assert_eq!(job["waits_for"], "no worker is connected");
    let (_, list) = server.ask("GET", "/v1/jobs", "").await;
    let reason = &list["jobs"][1]["health_reason"];
    assert_eq!(*reason, "sn_1: the object store is slow");
    // One that has ended is held up by nothing.
    server.ask("POST", "/v1/jobs/job_2/cancel", "").await;
    let job = server.wait_for_job("job_2", "state", "CANCELED").await;
    assert_eq!(
        (&job["health"], &job["health_reason"]),
        (&json!("OK"), &Value::Null)
    );
}

#[tokio::test]
async fn a_state_tier_that_does_not_answer_is_said_to() {
    let server = server_over(|statements| Backend {
        state_nodes: Arc::new(FixedNodes(None)),
        ..Backend::alone(statements, String::new())
    });
    server.execute(&format!("{TABLE} SELECT a FROM t")).await;
    let (_, job) = server.ask("GET", "/v1/jobs/job_1", "").await;
    assert_eq!(job["health_reason"], "the state tier does not answer");
    let asked = ("GET", "/v1/state-nodes", "");
    server.refuses(asked, 503, "state_tier.unavailable").await;
}

#[tokio::test]
async fn workers_are_listed_with_the_tasks_they_have() {
    let server = server();
    let (_, none) = server.ask("GET", "/v1/workers", "").await;
    assert_eq!(none, json!({"workers": []}));
    server.execute(&format!("{TABLE} SELECT a FROM t")).await;
    for (id, address) in [(7, "10.0.0.7:7900"), (9, "")] {
        let joined = WorkerNews::Joined(
            Worker {
                id: WorkerId(id),
                address: address.to_owned(),
                since_ms: 1_700_000_000_000 + id,
                link: Arc::new(SilentLink),
            },
            Vec::new(),
        );
        server
            .workers
            .send(joined)
            .await
            .expect("the driver listens");
    }
    let list = loop {
        let (_, list) = server.ask("GET", "/v1/workers", "").await;
        if list["workers"][0]["tasks"] != json!(0) && list["workers"][1].is_object() {
            break list;
        }
        tokio::task::yield_now().await;
    };
    let tasks = server
        .jobs
        .get(JobId(1))
        .expect("it exists")
        .spec
        .plan
        .fragments
        .len();
    let worker = json!({
        "id": "wk_7",
        "address": "10.0.0.7:7900",
        "connected_ms": 1_700_000_000_007_u64,
        "tasks": tasks,
        "jobs": [{"id": "job_1", "tasks": tasks}],
    });
    let idle = json!({
        "id": "wk_9",
        "connected_ms": 1_700_000_000_009_u64,
        "tasks": 0,
        "jobs": [],
    });
    assert_eq!(list, json!({"workers": [worker, idle]}));
    assert_eq!(server.ask("GET", "/v1/workers/wk_7", "").await.1, worker);
    for id in ["wk_8", "seven", "%ff"] {
        let path = format!("/v1/workers/{id}");
        server
            .refuses(("GET", &path, ""), 404, "worker.unknown")
            .await;
    }
}

#[tokio::test]
async fn state_nodes_are_listed_with_what_they_miss() {
    let (_, none) = server().ask("GET", "/v1/state-nodes", "").await;
    assert_eq!(none, json!({"state_nodes": []}));
    let node = |id, connected, degraded: Option<&str>| StateNodeStatus {
        node: StateNodeId(id),
        address: format!("10.0.0.{id}:7901"),
        connected,
        shards: 4,
        degraded: degraded.map(str::to_owned),
    };
    let nodes = vec![
        node(1, true, None),
        node(2, true, Some("puts take 9 s")),
        node(3, false, None),
    ];
    let degraded = Default::default();
    let status = StateTierStatus { nodes, degraded };
    let server = server_over(|statements| Backend {
        state_nodes: Arc::new(FixedNodes(Some(status))),
        ..Backend::alone(statements, String::new())
    });
    let (_, list) = server.ask("GET", "/v1/state-nodes", "").await;
    let view = |id: u64, connected: bool, reason: Option<&str>| {
        let mut view = json!({
            "id": format!("sn_{id}"),
            "address": format!("10.0.0.{id}:7901"),
            "connected": connected,
            "shards": 4,
            "health": if reason.is_some() { "DEGRADED" } else { "OK" },
        });
        if let Some(reason) = reason {
            view["health_reason"] = json!(reason);
        }
        view
    };
    let expected = [
        view(1, true, None),
        view(2, true, Some("puts take 9 s")),
        view(3, false, Some("it is not connected")),
    ];
    assert_eq!(list["state_nodes"], json!(expected));
}

#[tokio::test]
async fn a_process_that_is_alone_is_one_node() {
    let server = server();
    let (_, cluster) = server.ask("GET", "/v1/cluster", "").await;
    let node = json!({"id": 1, "address": "127.0.0.1:7878", "leader": true, "voter": true});
    assert_eq!(cluster, json!({"nodes": [node]}));
    let asked = ("POST", "/v1/cluster/nodes", NEW_NODE);
    server.refuses(asked, 409, "cluster.alone").await;
    let asked = ("DELETE", "/v1/cluster/nodes/1", "");
    server.refuses(asked, 409, "cluster.alone").await;
}

const NEW_NODE: &str = r#"{"id": 4, "address": "10.0.0.4:7879"}"#;

fn cluster(answer: Result<(), MembershipError>) -> Server {
    server_over(|statements| Backend {
        membership: Arc::new(FixedMembers(answer)),
        ..Backend::alone(statements, String::new())
    })
}

#[tokio::test]
async fn nodes_join_and_leave() {
    let server = cluster(Ok(()));
    let (status, after) = server.ask("POST", "/v1/cluster/nodes", NEW_NODE).await;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!(after, server.ask("GET", "/v1/cluster", "").await.1);
    assert_eq!(after["nodes"][1]["address"], "10.0.0.2:7879");
    let (status, body) = server.ask("DELETE", "/v1/cluster/nodes/2", "").await;
    assert_eq!((status, body), (StatusCode::NO_CONTENT, json!("")));

    let nodes = "/v1/cluster/nodes";
    for (body, status) in [
        ("{", 400),
        ("[]", 422),
        ("{}", 422),
        (r#"{"id": 4}"#, 422),
        (r#"{"id": "four", "address": "a:1"}"#, 422),
        (r#"{"id": -4, "address": "a:1"}"#, 422),
        (r#"{"id": 4, "address": "10.0.0.4"}"#, 422),
        (r#"{"id": 4, "address": "http://10.0.0.4:7879"}"#, 422),
        (r#"{"id": 4, "address": "10.0.0.4:0"}"#, 422),
        (r#"{"id": 4, "address": "a:1", "disk": 1}"#, 422),
    ] {
        server
            .refuses(("POST", nodes, body), status, "request.malformed")
            .await;
    }
    for id in ["four", "-1", "%ff"] {
        let path = format!("{nodes}/{id}");
        server
            .refuses(("DELETE", &path, ""), 404, "cluster.node_unknown")
            .await;
    }
}

#[tokio::test]
async fn refusals_to_change_members_say_why() {
    use MembershipError::{InProgress, NotMember, Refused, Unavailable, Unfinished};
    for (error, status, code) in [
        (NotMember(2), 404, "cluster.node_unknown"),
        (Refused("it is the last one".into()), 409, "cluster.refused"),
        (InProgress, 409, "cluster.changing"),
        (
            Unfinished("it has not caught up".into()),
            503,
            "cluster.unfinished",
        ),
        (Unavailable("no leader".into()), 503, "metadata.unavailable"),
    ] {
        let server = cluster(Err(error.clone()));
        let asked = ("DELETE", "/v1/cluster/nodes/2", "");
        server.refuses(asked, status, code).await;
        let (_, problem) = server.ask("DELETE", "/v1/cluster/nodes/2", "").await;
        assert_eq!(problem["detail"], error.to_string());
    }
}
