//! A network in memory: delays, losses, partitions, and requests that arrive after their sender gave up.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{Peer, PeerError, PeerLink, PeerRequest, PeerRequestKind};

type Handler = Arc<dyn Fn(Bytes) -> BoxFuture<'static, Result<Bytes, PeerError>> + Send + Sync>;

/// The network between the nodes of a test. Addresses are names.
#[derive(Clone)]
pub(crate) struct SimNetwork(Arc<Mutex<State>>);

struct State {
    handlers: BTreeMap<String, Handler>,
    /// Nodes by name and life; a dead one's requests go nowhere.
    alive: BTreeMap<String, u64>,
    lives: u64,
    cut: BTreeSet<(String, String)>,
    loss: f64,
    delay_ms_max: u64,
    random: StdRng,
    sent: BTreeMap<PeerRequestKind, u64>,
    bytes_max: usize,
    /// Pieces of snapshots take so much longer.
    snapshot_delay: Duration,
}

impl SimNetwork {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            handlers: BTreeMap::new(),
            alive: BTreeMap::new(),
            lives: 0,
            cut: BTreeSet::new(),
            loss: 0.0,
            delay_ms_max: 2,
            random: StdRng::seed_from_u64(seed),
            sent: BTreeMap::new(),
            bytes_max: 0,
            snapshot_delay: Duration::ZERO,
        })))
    }

    /// The link of a node that starts now.
    pub(crate) fn link(&self, name: &str) -> Arc<SimLink> {
        let mut state = self.0.lock().unwrap();
        state.lives += 1;
        let life = state.lives;
        state.alive.insert(name.to_owned(), life);
        Arc::new(SimLink {
            network: self.clone(),
            name: name.to_owned(),
            life,
        })
    }

    pub(crate) fn listen(&self, name: &str, handler: Handler) {
        self.0
            .lock()
            .unwrap()
            .handlers
            .insert(name.to_owned(), handler);
    }

    pub(crate) fn kill(&self, name: &str) {
        let mut state = self.0.lock().unwrap();
        state.handlers.remove(name);
        state.alive.remove(name);
    }

    /// Cuts a node off from all others, both ways.
    pub(crate) fn isolate(&self, name: &str, others: &[String]) {
        let mut state = self.0.lock().unwrap();
        for other in others {
            state.cut.insert((name.to_owned(), other.clone()));
            state.cut.insert((other.clone(), name.to_owned()));
        }
    }

    /// Loses all that a node sends, answers too, but nothing that it is sent.
    pub(crate) fn mute(&self, name: &str, others: &[String]) {
        let mut state = self.0.lock().unwrap();
        for other in others {
            state.cut.insert((name.to_owned(), other.clone()));
        }
    }

    pub(crate) fn heal(&self) {
        self.0.lock().unwrap().cut.clear();
    }

    pub(crate) fn set_faults(&self, loss: f64, delay_ms_max: u64) {
        let mut state = self.0.lock().unwrap();
        (state.loss, state.delay_ms_max) = (loss, delay_ms_max);
    }

    pub(crate) fn slow_down_snapshots(&self, delay: Duration) {
        self.0.lock().unwrap().snapshot_delay = delay;
    }

    pub(crate) fn sent(&self, kind: PeerRequestKind) -> u64 {
        self.0.lock().unwrap().sent.get(&kind).copied().unwrap_or(0)
    }

    /// The largest request so far.
    pub(crate) fn bytes_max(&self) -> usize {
        self.0.lock().unwrap().bytes_max
    }

    /// How long a message takes, or none if it is lost.
    fn way(&self, from: &str, to: &str) -> Option<Duration> {
        let state = &mut *self.0.lock().unwrap();
        let delay = Duration::from_millis(state.random.random_range(0..=state.delay_ms_max));
        let is_lost = state.random.random_bool(state.loss)
            || state.cut.contains(&(from.to_owned(), to.to_owned()));
        (!is_lost).then_some(delay)
    }

    async fn carry(
        self,
        from: String,
        life: u64,
        to: String,
        body: Bytes,
    ) -> Option<Result<Bytes, PeerError>> {
        let delay = self.way(&from, &to)?;
        tokio::time::sleep(delay).await;
        let handler = {
            let state = self.0.lock().unwrap();
            if state.alive.get(&from) != Some(&life) {
                return None;
            }
            state.handlers.get(&to).cloned()
        };
        let Some(handler) = handler else {
            return Some(Err(PeerError::Unreachable("connection refused".to_owned())));
        };
        let answer = handler(body).await;
        let delay = self.way(&to, &from)?;
        tokio::time::sleep(delay).await;
        Some(answer)
    }
}

/// The link of one life of one node.
pub(crate) struct SimLink {
    network: SimNetwork,
    name: String,
    life: u64,
}

impl PeerLink for SimLink {
    fn call(
        &self,
        to: &Peer,
        request: PeerRequest,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        {
            let mut state = self.network.0.lock().unwrap();
            *state.sent.entry(request.kind).or_default() += 1;
            state.bytes_max = state.bytes_max.max(request.body.len());
        }
        let carry = self.network.clone().carry(
            self.name.clone(),
            self.life,
            to.address.clone(),
            request.body,
        );
        // A task of its own: what is on its way arrives even if the sender gives up.
        let more = match request.kind {
            PeerRequestKind::Snapshot => self.network.0.lock().unwrap().snapshot_delay,
            _ => Duration::ZERO,
        };
        let carried = tokio::spawn(async move {
            tokio::time::sleep(more).await;
            carry.await
        });
        Box::pin(async move {
            match carried.await {
                Ok(Some(answer)) => answer,
                Ok(None) => {
                    tokio::time::sleep(request.timeout).await;
                    Err(PeerError::Timeout)
                }
                Err(error) => Err(PeerError::Unreachable(error.to_string())),
            }
        })
    }
}
