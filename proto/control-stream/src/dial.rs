//! Finds the leader and opens a stream to it.

use std::marker::PhantomData;

use futures::StreamExt as _;
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use rpc::{
    Channel, Channels, ConnectError, Timeouts, Tls,
    control::Message,
    control_client,
    tonic::{Request, Streaming},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::{Instant, timeout};

use crate::{
    Contact, FormerId, Hear, Hello, Say, Session, StreamTiming, VERSION, Welcome,
    caps::{CALL_MAX, COMPLAINT_INTERVAL, ROUND_PAUSES},
    decode,
    outbox::{Outbox, outbox},
    session::Beats,
};

/// Who wants a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// A worker; each attempt draws a number of its own.
    Worker,
    /// The state node of this number.
    StateNode(u64),
}

/// What a process needs to find the leader.
#[derive(Clone, Debug)]
pub struct DialConfig {
    /// Nodes of the control plane, host:port; at least one, and better all.
    pub control_plane: Vec<String>,
    /// How they are talked to.
    pub tls: Tls,
    /// Name of the cluster.
    pub cluster: String,
    /// Where other tiers reach this process, host:port.
    pub address: String,
    /// Tells this process from every other; also varies its pauses.
    pub process: u64,
    /// How long to wait.
    pub timing: StreamTiming,
}

/// Why a process will never get a stream.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// It cannot even ask.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// No node is named.
    #[error("no node of the control plane is named")]
    NoNodes,
    /// The leader does not want it.
    #[error("the control plane refuses this process: {0}")]
    Refused(String),
}

/// Finds the leader, again and again.
pub struct Dialer {
    config: DialConfig,
    channels: Channels,
    contact: Contact,
    random: SmallRng,
    /// The node whose stream was the last, or who did not answer: of all the least likely to lead, and
    /// if it still does, others say so.
    doubted: Option<String>,
    /// Whose store the process has, once it knows.
    store: Option<String>,
    /// What the worker was called before, if it still runs tasks by that name.
    former: Option<FormerId>,
    /// When the log last said that nobody takes the stream.
    complained: Option<Instant>,
}

/// What asking one node came to.
enum Asked<S, H> {
    Session(Session<S, H>),
    /// This node may know better.
    Elsewhere(String),
    Later(String),
}

impl Dialer {
    /// Checks the addresses; asks nobody yet. Within a tokio runtime.
    ///
    /// # Errors
    /// When an address or a certificate is malformed.
    pub fn new(config: DialConfig) -> Result<Dialer, DialError> {
        if config.control_plane.is_empty() {
            return Err(DialError::NoNodes);
        }
        let timeouts = Timeouts {
            connect: config.timing.greeting,
            call: CALL_MAX,
        };
        let random = SmallRng::seed_from_u64(config.process);
        let dialer = Dialer {
            channels: Channels::new(config.tls.clone(), timeouts),
            contact: Contact::default(),
            random,
            doubted: None,
            store: None,
            former: None,
            complained: None,
            config,
        };
        for address in &dialer.config.control_plane {
            dialer.channels.to(address)?;
        }
        Ok(dialer)
    }

    /// When the control plane was last heard, here and on sessions.
    #[must_use]
    pub fn contact(&self) -> Contact {
        self.contact.clone()
    }

    /// A stream to the leader; tries until there is one.
    ///
    /// # Errors
    /// When the control plane does not want this process.
    pub async fn dial<S, H>(&mut self, purpose: Purpose) -> Result<Session<S, H>, DialError>
    where
        S: Serialize,
        H: DeserializeOwned,
    {
        let mut pauses = ROUND_PAUSES.backoff(self.random.random());
        loop {
            let mut why = String::new();
            for address in self.round() {
                match self.follow(purpose, address).await? {
                    Ok(session) => {
                        self.complained = None;
                        return Ok(session);
                    }
                    Err(later) => why = later,
                }
            }
            let quiet = |at: Instant| at.elapsed() < COMPLAINT_INTERVAL;
            if !self.complained.is_some_and(quiet) {
                tracing::warn!(why, "no leader of the control plane takes this process");
                self.complained = Some(Instant::now());
            }
            tokio::time::sleep(pauses.next().unwrap_or_default()).await;
        }
    }

    /// Whom to ask, in order.
    fn round(&mut self) -> Vec<String> {
        let mut round = self.config.control_plane.clone();
        let start = self.random.random_range(0..round.len());
        round.rotate_left(start);
        let doubted = self.doubted.take();
        round.sort_by_key(|node| Some(node) == doubted.as_ref());
        round
    }

    /// Says from now on whose store the process has.
    pub fn set_store(&mut self, store: String) {
        self.store = Some(store);
    }

    /// What the worker was called before, if it still runs tasks by that name: it asks to be called so
    /// from now on.
    pub fn set_former(&mut self, former: Option<FormerId>) {
        self.former = former;
    }

    /// Asks a node, and whom it names.
    async fn follow<S, H>(
        &mut self,
        purpose: Purpose,
        mut address: String,
    ) -> Result<Result<Session<S, H>, String>, DialError>
    where
        S: Serialize,
        H: DeserializeOwned,
    {
        // One that was named may name another when leaders change just now, but not for ever.
        for _ in 0..3 {
            match self.ask(purpose, &address).await? {
                Asked::Session(session) => {
                    self.doubted = Some(address);
                    return Ok(Ok(session));
                }
                Asked::Later(why) => return Ok(Err(format!("{address}: {why}"))),
                Asked::Elsewhere(leader) => address = leader,
            }
        }
        Ok(Err("nodes name each other as the leader".to_owned()))
    }

    async fn ask<S, H>(&mut self, purpose: Purpose, address: &str) -> Result<Asked<S, H>, DialError>
    where
        S: Serialize,
        H: DeserializeOwned,
    {
        let channel = self.channels.to(address)?;
        let (outbox, mut inbound) = match self.open(purpose, channel.clone()).await {
            Ok(open) => open,
            Err(why) => {
                self.doubted = Some(address.to_owned());
                return Ok(Asked::Later(why));
            }
        };
        let first = timeout(self.config.timing.greeting, inbound.message()).await;
        let first = match first {
            Ok(Ok(Some(first))) => first,
            Ok(Ok(None)) => return Ok(Asked::Later("it ends the stream at once".to_owned())),
            Ok(Err(status)) => return Ok(Asked::Later(status.message().to_owned())),
            Err(_) => {
                self.doubted = Some(address.to_owned());
                return Ok(Asked::Later("it does not answer".to_owned()));
            }
        };
        self.contact.heard();
        match decode::<Hear<H>>(&first) {
            Ok(Hear::Welcome(welcome)) => {
                let session = self.session(welcome, channel, outbox, inbound);
                Ok(Asked::Session(session))
            }
            Ok(Hear::NotLeader {
                leader: Some(leader),
            }) => Ok(Asked::Elsewhere(leader)),
            Ok(Hear::NotLeader { leader: None }) => {
                Ok(Asked::Later("it knows no leader at the moment".to_owned()))
            }
            Ok(Hear::Refused { why, retry: true }) => Ok(Asked::Later(why)),
            Ok(Hear::Refused { why, retry: false }) => Err(DialError::Refused(why)),
            Ok(Hear::Beat | Hear::Item(_)) => Ok(Asked::Later("it does not greet".to_owned())),
            Err(error) => Ok(Asked::Later(error.to_string())),
        }
    }

    async fn open(
        &mut self,
        purpose: Purpose,
        channel: Channel,
    ) -> Result<(Outbox, Streaming<Message>), String> {
        let (outbox, stream) = outbox();
        let id = match purpose {
            // Small enough for every reader of JSON, large enough never to be drawn twice: two
            // streams of one process must not be taken for each other.
            Purpose::Worker => self.random.random_range(1..1 << 48),
            Purpose::StateNode(id) => id,
        };
        let hello = Hello {
            version: VERSION,
            cluster: self.config.cluster.clone(),
            id,
            former: self.former,
            store: self.store.clone(),
            process: self.config.process,
            address: self.config.address.clone(),
        };
        outbox.put(&Say::<()>::Hello(hello));
        let request = Request::new(stream.boxed());
        let mut client = control_client(channel);
        let call = async {
            match purpose {
                Purpose::Worker => client.worker(request).await,
                Purpose::StateNode(_) => client.state_node(request).await,
            }
        };
        let opened = timeout(self.config.timing.greeting, call).await;
        let opened = opened.map_err(|_| "it does not answer".to_owned())?;
        let opened = opened.map_err(|status| status.message().to_owned())?;
        Ok((outbox, opened.into_inner()))
    }

    fn session<S, H>(
        &self,
        welcome: Welcome,
        leader: Channel,
        outbox: Outbox,
        inbound: Streaming<Message>,
    ) -> Session<S, H> {
        let timing = self.config.timing;
        Session {
            welcome,
            leader,
            _beats: Beats::start(outbox.clone(), timing),
            outbox,
            inbound,
            timing,
            heard: Instant::now(),
            contact: self.contact.clone(),
            items: PhantomData,
        }
    }
}
