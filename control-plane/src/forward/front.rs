//! What a node answers to clients: by itself while it leads, else what the leader answers.

use axum::{
    Router,
    body::Body,
    extract::State,
    http::Request,
    response::{IntoResponse as _, Response},
};
use tokio::sync::watch;
use tower::ServiceExt as _;

use super::{Forwarder, client::no_leader};
use crate::api::{Token, guarded, open_router};

/// Who answers for the cluster, as this node knows.
#[derive(Clone, Debug)]
pub enum Answerer {
    /// This node, with these routes.
    Here(Router),
    /// The node at this address, if one is known.
    Elsewhere(Option<String>),
}

#[derive(Clone)]
struct Front {
    answerer: watch::Receiver<Answerer>,
    /// `None`: the request came from another node, and goes no further.
    forwarder: Option<Forwarder>,
}

/// The routes that a node serves to clients. Whoever shows the token gets the leader's answer;
/// whether the node is there it says to everybody.
pub fn front(answerer: watch::Receiver<Answerer>, forwarder: Forwarder, token: Token) -> Router {
    let front = Front {
        answerer,
        forwarder: Some(forwarder),
    };
    let routes = Router::new().fallback(answer).with_state(front);
    guarded(routes, token).merge(open_router())
}

/// The routes that a node serves to other nodes.
pub fn inner(answerer: watch::Receiver<Answerer>) -> Router {
    let front = Front {
        answerer,
        forwarder: None,
    };
    Router::new().fallback(answer).with_state(front)
}

async fn answer(State(front): State<Front>, request: Request<Body>) -> Response {
    let answerer = front.answerer.borrow().clone();
    match (answerer, &front.forwarder) {
        (Answerer::Here(app), _) => {
            let Ok(response) = app.oneshot(request).await;
            response
        }
        (Answerer::Elsewhere(Some(leader)), Some(forwarder)) => {
            forwarder.send(&leader, request).await
        }
        (Answerer::Elsewhere(Some(_)), None) => {
            no_leader("another node has just become the leader").into_response()
        }
        (Answerer::Elsewhere(None), _) => no_leader("there is none at the moment").into_response(),
    }
}
