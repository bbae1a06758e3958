//! A node that leads and one that does not, over sockets.

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, StatusCode, header::AUTHORIZATION},
    routing::{get, post},
};
use bytes::Bytes;
use futures::StreamExt as _;
use rpc::{Tls, forward_server, tonic::service::Routes};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use tokio_stream::wrappers::ReceiverStream;
use tower::ServiceExt as _;

use super::*;
use crate::api::Token;

/// Serves `answerer` to other nodes; the address.
async fn serve(answerer: Answerer) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let (_, receiver) = watch::channel(answerer);
    let service = forward_server(ForwardService::new(inner(receiver)));
    tokio::spawn(async move {
        rpc::serve(
            listener,
            Routes::new(service),
            &Tls::None,
            std::future::pending(),
        )
        .await
    });
    address
}

/// A node that does not lead.
fn follower(leader: Option<String>) -> Router {
    let (_, receiver) = watch::channel(Answerer::Elsewhere(leader));
    front(
        receiver,
        Forwarder::new(Tls::None),
        Token::new("secret-token"),
    )
}

fn request(method: &str, target: &str, body: &'static str) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(target)
        .header(AUTHORIZATION, "Bearer secret-token")
        .body(Body::from(body))
        .expect("a request")
}

async fn ask(app: &Router, request: Request<Body>) -> (StatusCode, String) {
    let Ok(response) = app.clone().oneshot(request).await;
    let status = response.status();
    let body = to_bytes(response.into_body(), 1 << 20)
        .await
        .expect("a body");
    (status, String::from_utf8(body.to_vec()).expect("text"))
}

#[tokio::test]
async fn the_leaders_answer_comes_back_whoever_is_asked() {
    let echo = post(|request: Request<Body>| async move {
        let (head, body) = request.into_parts();
        let body = to_bytes(body, 1 << 20).await.expect("a body");
        let query = head.uri.query().unwrap_or_default().to_owned();
        let text = format!("{query} {}", String::from_utf8_lossy(&body));
        (StatusCode::CREATED, text)
    });
    let leader = serve(Answerer::Here(Router::new().route("/echo", echo))).await;
    let app = follower(Some(leader));
    let answer = ask(&app, request("POST", "/echo?a=1&b=2", "hello")).await;
    assert_eq!(answer, (StatusCode::CREATED, "a=1&b=2 hello".to_owned()));
    assert_eq!(
        ask(&app, request("GET", "/nothing", "")).await.0,
        StatusCode::NOT_FOUND
    );
    let health = Request::get("/v1/health")
        .body(Body::empty())
        .expect("a request");
    assert_eq!(ask(&app, health).await, (StatusCode::OK, "ok\n".to_owned()));
    let stranger = Request::get("/echo")
        .body(Body::empty())
        .expect("a request");
    assert_eq!(ask(&app, stranger).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn rows_come_as_they_are_made_and_stop_when_the_reader_goes() {
    let (rows, receiver) = mpsc::channel::<Bytes>(1);
    let receiver = std::sync::Mutex::new(Some(receiver));
    let receiver = std::sync::Arc::new(receiver);
    let stream = get(move || {
        let receiver = receiver
            .lock()
            .expect("not poisoned")
            .take()
            .expect("asked once");
        async move { Body::from_stream(ReceiverStream::new(receiver).map(Ok::<_, std::io::Error>)) }
    });
    let leader = serve(Answerer::Here(Router::new().route("/rows", stream))).await;
    let Ok(response) = follower(Some(leader))
        .oneshot(request("GET", "/rows", ""))
        .await;
    let mut body = response.into_body().into_data_stream();
    for row in ["one", "two"] {
        rows.send(Bytes::from_static(row.as_bytes()))
            .await
            .expect("it reads");
        assert_eq!(body.next().await.expect("a row").expect("whole"), row);
    }
    drop(body);
    rows.closed().await;
}

#[tokio::test]
async fn without_a_leader_clients_are_told_to_come_back() {
    for leader in [None, Some("127.0.0.1:1".to_owned())] {
        let (status, body) = ask(&follower(leader), request("GET", "/v1/jobs", "")).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(body.contains("jobs that run go on"), "{body}");
    }
    // A request is handed on once.
    let other = serve(Answerer::Elsewhere(Some("127.0.0.1:1".to_owned()))).await;
    let (status, body) = ask(&follower(Some(other)), request("GET", "/v1/jobs", "")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{body}");
}

#[tokio::test]
async fn a_change_that_has_left_and_is_not_answered_may_have_happened() {
    let doubt = "it may have happened all the same";
    let nobody = follower(Some("127.0.0.1:1".to_owned()));
    let (_, body) = ask(&nobody, request("POST", "/v1/statements", "{}")).await;
    assert!(!body.contains(doubt), "{body}");

    // A leader that dies as soon as it has heard something.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            connection.readable().await.expect("something");
        }
    });
    let dies = follower(Some(address));
    for (method, doubtful) in [("POST", true), ("DELETE", true), ("GET", false)] {
        let (status, body) = ask(&dies, request(method, "/v1/jobs/job_1", "")).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(body.contains(doubt), doubtful, "{method}: {body}");
    }
}
