//! Who gets in, who waits how long, and what a call carries, over real sockets.

use std::{future::pending, time::Duration};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tonic::{
    Code, Request, Response, Status, async_trait,
    service::Routes,
    transport::{Certificate, ClientTlsConfig, Endpoint},
};
use tracing::Instrument as _;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::{
    ErrorCode, Mutual, ServeError, Timeouts, Tls, connect,
    peer::{CallReply, CallRequest, peer_server::Peer},
    peer_client, peer_server, serve, trace_context,
};

/// Kinds of calls of [`Echo`].
const TRACE: u8 = 1;
const NEVER: u8 = 2;

/// A test that takes longer has hung.
const PATIENCE: Duration = Duration::from_secs(20);

struct Echo;

#[async_trait]
impl Peer for Echo {
    async fn call(&self, request: Request<CallRequest>) -> Result<Response<CallReply>, Status> {
        let request = request.into_inner();
        let body = match request.body.first() {
            Some(&TRACE) => trace_context::current().unwrap_or_default().into(),
            Some(&NEVER) => pending().await,
            _ => request.body,
        };
        Ok(Response::new(CallReply { body }))
    }
}

/// A server of [`Echo`] on loopback.
async fn start(
    tls: &Tls,
) -> (
    String,
    JoinHandle<Result<(), ServeError>>,
    oneshot::Sender<()>,
) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (stop, stopped) = oneshot::channel::<()>();
    let tls = tls.clone();
    let server = tokio::spawn(async move {
        let stopped = async move {
            if stopped.await.is_err() {
                pending::<()>().await;
            }
        };
        serve(listener, Routes::new(peer_server(Echo)), &tls, stopped).await
    });
    (address, server, stop)
}

fn request(kind: u8) -> CallRequest {
    CallRequest {
        body: vec![kind].into(),
    }
}

async fn call(address: &str, tls: &Tls, timeouts: Timeouts, kind: u8) -> Result<CallReply, Status> {
    let channel = connect(address, tls, timeouts).unwrap();
    let call = async { peer_client(channel).call(request(kind)).await };
    let reply = tokio::time::timeout(PATIENCE, call)
        .await
        .expect("an answer in time");
    reply.map(Response::into_inner)
}

fn quick() -> Timeouts {
    Timeouts {
        connect: Duration::from_millis(300),
        call: Duration::from_millis(600),
    }
}

/// A certificate authority that signs certificates for loopback.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Authority {
            pem: params.self_signed(&key).unwrap().pem(),
            issuer: Issuer::new(params, key),
        }
    }

    /// A tier with a certificate of this authority, that trusts `trusted`.
    fn tier(&self, names: &[&str], trusted: &Authority) -> Mutual {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names)
            .unwrap()
            .signed_by(&key, &self.issuer)
            .unwrap();
        Mutual {
            ca: trusted.pem.clone(),
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            server_name: None,
        }
    }
}

#[tokio::test]
async fn tiers_of_one_authority_talk() {
    let authority = Authority::new();
    let server = authority.tier(&["127.0.0.1"], &authority);
    let (address, _server, _stop) = start(&Tls::Mutual(server)).await;
    let client = authority.tier(&["worker"], &authority);
    let reply = call(&address, &Tls::Mutual(client), Timeouts::default(), 0).await;
    assert_eq!(reply.unwrap().body[..], [0]);
}

#[tokio::test]
async fn a_name_that_all_servers_share_stands_in_for_their_addresses() {
    let authority = Authority::new();
    let server = authority.tier(&["tier.millstream"], &authority);
    let (address, _server, _stop) = start(&Tls::Mutual(server)).await;
    let mut client = authority.tier(&["worker"], &authority);
    let refused = call(&address, &Tls::Mutual(client.clone()), quick(), 0).await;
    assert!(refused.is_err(), "the certificate is for another name");
    client.server_name = Some("tier.millstream".to_owned());
    let reply = call(&address, &Tls::Mutual(client), Timeouts::default(), 0).await;
    assert_eq!(reply.unwrap().body[..], [0]);
}

#[tokio::test]
async fn who_shows_no_certificate_of_the_authority_is_refused() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (address, _server, _stop) = start(&Tls::Mutual(ours.tier(&["127.0.0.1"], &ours))).await;
    // A client that somebody else certified, and one that trusts somebody else's servers.
    for client in [theirs.tier(&["x"], &ours), ours.tier(&["x"], &theirs)] {
        let refused = call(&address, &Tls::Mutual(client), quick(), 0).await;
        assert!(refused.is_err());
    }
    // One without any certificate.
    let config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&ours.pem));
    let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap();
    let endpoint = endpoint.tls_config(config).unwrap().timeout(PATIENCE);
    let channel = endpoint.connect_lazy();
    let mut bare = crate::peer::peer_client::PeerClient::new(channel);
    assert!(bare.call(request(0)).await.is_err());
    // One that talks in plain text.
    assert!(call(&address, &Tls::None, quick(), 0).await.is_err());
}

#[tokio::test]
async fn nothing_listens_beyond_loopback_in_plain_text() {
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let routes = Routes::new(peer_server(Echo));
    let refused = serve(listener, routes, &Tls::None, pending()).await;
    assert!(
        matches!(refused, Err(ServeError::Plain { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_call_ends_in_time_whatever_the_server_does() {
    let (address, _server, _stop) = start(&Tls::None).await;
    let late = call(&address, &Tls::None, quick(), NEVER)
        .await
        .unwrap_err();
    assert_eq!(ErrorCode::of(&late), ErrorCode::Deadline, "{late:?}");

    // One that accepts and says nothing, not even in the handshake.
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = mute.local_addr().unwrap().to_string();
    let authority = Authority::new();
    let client = Tls::Mutual(authority.tier(&["x"], &authority));
    for tls in [Tls::None, client] {
        assert!(call(&address, &tls, quick(), 0).await.is_err());
    }
    // One that is not there.
    drop(mute);
    let gone = call(&address, &Tls::None, quick(), 0).await.unwrap_err();
    assert_eq!(gone.code(), Code::Unavailable, "{gone:?}");
}

#[tokio::test]
async fn a_server_that_is_gone_leaves_no_connection() {
    let (address, server, _stop) = start(&Tls::None).await;
    let channel = connect(
        &address,
        &Tls::None,
        Timeouts {
            call: PATIENCE,
            ..quick()
        },
    )
    .unwrap();
    let mut client = peer_client(channel);
    client.call(request(0)).await.unwrap();
    let mut second = client.clone();
    let waiting = tokio::spawn(async move { second.call(request(NEVER)).await });
    // The call is under way when another that was made after it is answered.
    client.call(request(0)).await.unwrap();
    server.abort();
    let cut = tokio::time::timeout(PATIENCE / 2, waiting).await;
    let cut = cut
        .expect("the call ends with its server")
        .unwrap()
        .unwrap_err();
    assert_eq!(ErrorCode::of(&cut), ErrorCode::Unavailable, "{cut:?}");
}

#[tokio::test]
async fn a_server_told_to_stop_answers_what_it_has_begun() {
    let (address, server, stop) = start(&Tls::None).await;
    call(&address, &Tls::None, Timeouts::default(), 0)
        .await
        .unwrap();
    stop.send(()).unwrap();
    let stopped = tokio::time::timeout(PATIENCE, server)
        .await
        .expect("stops in time");
    stopped.unwrap().unwrap();
    assert!(call(&address, &Tls::None, quick(), 0).await.is_err());
}

#[tokio::test]
async fn a_call_carries_the_trace_that_it_is_part_of() {
    use opentelemetry::trace::TracerProvider as _;
    let provider = opentelemetry_sdk::trace::SdkTracerProvider::builder().build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    let (address, _server, _stop) = start(&Tls::None).await;

    let outside = call(&address, &Tls::None, Timeouts::default(), TRACE).await;
    assert_eq!(outside.unwrap().body, "");

    let span = tracing::info_span!("checkpoint");
    let inside = async {
        let reply = call(&address, &Tls::None, Timeouts::default(), TRACE).await;
        (trace_context::current(), reply.unwrap())
    };
    let (ours, reply) = inside.instrument(span).await;
    let ours = ours.expect("a context");
    let theirs = String::from_utf8(reply.body.to_vec()).unwrap();
    let trace = |text: &str| text.split('-').nth(1).map(str::to_owned);
    assert!(trace(&ours).is_some_and(|id| id.len() == 32), "{ours}");
    assert_eq!(trace(&ours), trace(&theirs));
    assert_ne!(ours, theirs, "the server has a span of its own");
}
