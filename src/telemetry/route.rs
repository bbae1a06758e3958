//! `/metrics`, for Prometheus.

use std::{future::Future, io, net::SocketAddr};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse as _, Response},
    routing::get,
};
use control_plane::api::{Token, guarded};
use tokio::net::TcpListener;

use super::{Scrape, prometheus};

/// Why metrics are not served.
#[derive(Debug, thiserror::Error)]
pub enum MetricsServerError {
    /// Others could read them.
    #[error(
        "metrics are not served on {0} without a token: it is no loopback address; set MILLSTREAM_METRICS_TOKEN"
    )]
    Open(SocketAddr),
    /// The listener fails.
    #[error("failed to serve metrics")]
    Serve(#[from] io::Error),
}

/// The route `/metrics`, open to all: whoever serves it says who may ask.
pub fn metrics_router(scrape: Scrape) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .with_state(scrape)
}

/// Serves `/metrics` and nothing else, until told to stop: for processes without a REST API. Who
/// asks must show the token; without one, only this machine may.
///
/// # Errors
/// When there is no token and others than this machine could ask, or the listener fails.
pub async fn serve_metrics(
    listener: TcpListener,
    token: Option<Token>,
    scrape: Scrape,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), MetricsServerError> {
    let address = listener.local_addr()?;
    let routes = metrics_router(scrape);
    let routes = match token {
        Some(token) => guarded(routes, token),
        None if address.ip().is_loopback() => routes,
        None => return Err(MetricsServerError::Open(address)),
    };
    let server = axum::serve(listener, routes);
    Ok(server.with_graceful_shutdown(stop).await?)
}

async fn metrics(State(scrape): State<Scrape>) -> Response {
    match scrape.text() {
        Some(text) => ([(CONTENT_TYPE, prometheus::CONTENT_TYPE)], text).into_response(),
        None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
    };

    use super::*;

    /// The head of the answer of a server with this token.
    async fn ask(token: Option<&str>, header: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let token = token.map(Token::new);
        tokio::spawn(serve_metrics(listener, token, Scrape::default(), pending()));
        let mut stream = TcpStream::connect(address).await.expect("a server");
        let request =
            format!("GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{header}\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        answer.lines().next().unwrap_or_default().to_owned()
    }

    #[tokio::test]
    async fn this_machine_may_ask_and_others_with_the_token() {
        // There are no metrics in a process that has not started telemetry.
        let unavailable = "HTTP/1.1 503 Service Unavailable";
        assert_eq!(ask(None, "").await, unavailable);
        let right = "Authorization: Bearer secret\r\n";
        assert_eq!(ask(Some("secret"), right).await, unavailable);
        assert_eq!(ask(Some("secret"), "").await, "HTTP/1.1 401 Unauthorized");
        let everywhere = TcpListener::bind("0.0.0.0:0").await.expect("a port");
        let refused = serve_metrics(everywhere, None, Scrape::default(), pending()).await;
        assert!(
            matches!(refused, Err(MetricsServerError::Open(_))),
            "{refused:?}"
        );
    }
}
