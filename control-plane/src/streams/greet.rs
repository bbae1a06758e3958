//! The beginning of a stream.

use std::sync::Arc;

use control_stream::{
    Hear, Hello, Outbox, OutboxStream, Say, StreamTiming, VERSION, Welcome, decode, encode, outbox,
};
use rpc::{
    control::Message,
    tonic::{Status, Streaming},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    sync::watch,
    time::{Instant, timeout, timeout_at},
};

use super::{places::Place, service::ControlService};
use crate::leader::{Leading, Role, StoreRefused};

/// What became of who came.
pub(super) enum Greeted {
    /// It is welcome.
    Taken(Stream, OutboxStream),
    /// It is not, or not here: this is its answer.
    Not(Message),
}

/// A stream that was greeted.
pub(super) struct Stream {
    pub(super) hello: Hello,
    /// What the process is called on it.
    pub(super) id: u64,
    pub(super) leading: Arc<Leading>,
    pub(super) outbox: Outbox,
    /// When it was greeted, in ms since 1970.
    pub(super) since_ms: u64,
    inbound: Streaming<Message>,
    roles: watch::Receiver<Role>,
    place: Place,
    timing: StreamTiming,
    heard: Instant,
}

/// Reads who comes. `take` takes its place.
pub(super) async fn greet(
    service: &ControlService,
    mut inbound: Streaming<Message>,
    take: impl FnOnce(&Hello) -> Option<Place>,
) -> Result<Greeted, Status> {
    let config = &service.config;
    let hello = hello(&mut inbound, config.timing).await?;
    let leading = match service.leading() {
        Ok(leading) => leading,
        Err(leader) => return Ok(not(&Hear::NotLeader { leader })),
    };
    if let Err(why) = check(&hello, &config.cluster) {
        return Ok(not(&Hear::Refused { why, retry: false }));
    }
    let Some(place) = take(&hello) else {
        let why = format!(
            "another process is there already, at {} or with the same number",
            hello.address
        );
        return Ok(not(&Hear::Refused { why, retry: true }));
    };
    if let Some(store) = &hello.store
        && let Err(refused) = leading.bind_store(store).await
    {
        let retry = matches!(refused, StoreRefused::Later(_));
        let why = refused.to_string();
        return Ok(not(&Hear::Refused { why, retry }));
    }
    let (outbox, replies) = outbox();
    let id = leading.id_of(&hello);
    outbox.put(&Hear::<()>::Welcome(Welcome {
        cluster_id: leading.cluster_id.clone(),
        id,
        leadership: leading.leadership,
    }));
    let stream = Stream {
        hello,
        id,
        leading,
        outbox,
        since_ms: (config.wall_ms)(),
        inbound,
        roles: config.roles.clone(),
        place,
        timing: config.timing,
        heard: Instant::now(),
    };
    Ok(Greeted::Taken(stream, replies))
}

fn not(reply: &Hear<()>) -> Greeted {
    Greeted::Not(encode(reply))
}

async fn hello(inbound: &mut Streaming<Message>, timing: StreamTiming) -> Result<Hello, Status> {
    let first = timeout(timing.silence, inbound.message()).await;
    let first = first.map_err(|_| Status::deadline_exceeded("nothing was said in time"))??;
    let first = first.ok_or_else(|| Status::invalid_argument("nothing was said"))?;
    match decode::<Say<serde_json::Value>>(&first) {
        Ok(Say::Hello(hello)) => Ok(hello),
        Ok(_) => Err(Status::invalid_argument("a stream begins with a hello")),
        Err(error) => Err(Status::invalid_argument(error.to_string())),
    }
}

fn check(hello: &Hello, cluster: &str) -> Result<(), String> {
    if hello.version != VERSION {
        return Err(format!(
            "it speaks version {} of the control stream and the leader version {VERSION}: run the \
             same version of millstream everywhere",
            hello.version
        ));
    }
    if hello.cluster != cluster {
        return Err(format!(
            "it was started for cluster `{}` and this is cluster `{cluster}`: give it the control \
             plane of its own cluster, or the right --cluster",
            hello.cluster
        ));
    }
    if hello.address.is_empty() {
        return Err("it does not say where it can be reached".to_owned());
    }
    Ok(())
}

impl Stream {
    /// What the process says next; `None`: the stream has ended, or must. Beats are answered by
    /// beats of our own. May be dropped and called again.
    pub(super) async fn next<S: DeserializeOwned>(&mut self) -> Option<S> {
        let Stream {
            leading,
            outbox,
            inbound,
            roles,
            place,
            timing,
            heard,
            hello,
            ..
        } = self;
        let leads = |role: &Role| match role {
            Role::Leader(now) => Arc::ptr_eq(now, leading),
            Role::Follower(_) => false,
        };
        let why = loop {
            let said = tokio::select! {
                said = timeout_at(*heard + timing.silence, inbound.message()) => said,
                _ = roles.wait_for(|role| !leads(role)) => break "this node leads no more".to_owned(),
                () = place.taken() => break "it has opened another one".to_owned(),
                () = outbox.ended() => break "it does not read what it is told".to_owned(),
            };
            *heard = Instant::now();
            match said {
                Ok(Ok(Some(message))) => match decode::<Say<S>>(&message) {
                    Ok(Say::Item(item)) => return Some(item),
                    Ok(Say::Beat) => _ = outbox.put(&Hear::<()>::Beat),
                    Ok(Say::Hello(_)) => break "it says hello again".to_owned(),
                    Err(error) => break error.to_string(),
                },
                Ok(Ok(None)) => break "it has ended it".to_owned(),
                Ok(Err(status)) => break status.message().to_owned(),
                Err(_) => break format!("it is silent for {} ms", timing.silence.as_millis()),
            }
        };
        tracing::info!(address = hello.address, why, "a control stream ends");
        outbox.cut();
        None
    }

    /// What is said to it, wherever that is needed.
    pub(super) fn teller<H: Serialize>(&self) -> impl Fn(H) -> bool + Send + Sync + use<H> {
        let outbox = self.outbox.clone();
        move |item| outbox.put(&Hear::Item(item))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Whoever still holds the way to the process must not believe that it leads anywhere.
        self.outbox.cut();
    }
}
