//! Answers requests that other nodes were asked.

use axum::{
    Router,
    body::Body,
    http::{HeaderName, HeaderValue, Request},
    response::Response,
};
use futures::{Stream, StreamExt as _, stream, stream::BoxStream};
use rpc::{
    forward::{
        ForwardReply, ForwardRequest, Head, Header, forward_reply::Part, forward_server::Forward,
    },
    tonic::{self, Status, async_trait},
};
use tower::ServiceExt as _;

/// The service `Forward`.
pub struct ForwardService {
    app: Router,
}

impl ForwardService {
    /// `app` answers as the leader, or says that this node is not: a request is never handed on
    /// twice.
    #[must_use]
    pub fn new(app: Router) -> ForwardService {
        ForwardService { app }
    }
}

#[async_trait]
impl Forward for ForwardService {
    type SendStream = BoxStream<'static, Result<ForwardReply, Status>>;

    async fn send(
        &self,
        request: tonic::Request<ForwardRequest>,
    ) -> Result<tonic::Response<Self::SendStream>, Status> {
        let request = read(request.into_inner())?;
        let Ok(response) = self.app.clone().oneshot(request).await;
        Ok(tonic::Response::new(reply(response).boxed()))
    }
}

fn read(request: ForwardRequest) -> Result<Request<Body>, Status> {
    let mut builder = Request::builder()
        .method(request.method.as_str())
        .uri(request.target);
    for header in &request.headers {
        let name = HeaderName::from_bytes(header.name.as_bytes());
        let value = HeaderValue::from_bytes(&header.value);
        if let (Ok(name), Ok(value)) = (name, value) {
            builder = builder.header(name, value);
        }
    }
    let request = builder.body(Body::from(request.body));
    request.map_err(|error| Status::invalid_argument(error.to_string()))
}

fn reply(response: Response) -> impl Stream<Item = Result<ForwardReply, Status>> + Send {
    let (head, body) = response.into_parts();
    let headers = head.headers.iter().map(|(name, value)| Header {
        name: name.to_string(),
        value: value.as_bytes().to_vec().into(),
    });
    let first = Part::Head(Head {
        status: u32::from(head.status.as_u16()),
        headers: headers.collect(),
    });
    let parts = body.into_data_stream().map(|part| match part {
        Ok(bytes) => Ok(ForwardReply {
            part: Some(Part::Body(bytes)),
        }),
        Err(error) => Err(Status::aborted(error.to_string())),
    });
    let first = ForwardReply { part: Some(first) };
    stream::once(async move { Ok(first) }).chain(parts)
}
