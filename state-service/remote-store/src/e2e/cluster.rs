//! State nodes behind gRPC on loopback, over one object store, and the control plane that directs
//! them and tells workers where shards are.

use std::{
    collections::BTreeMap,
    future::pending,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{FutureExt as _, future::BoxFuture};
use object_store::{ObjectStore, memory::InMemory};
use proto::{
    log::{LogHolding, LogObject},
    state_control::{CommittedEpoch, DatabaseReference, JobReferences, OpenShard, StateOrder},
    types::{Epoch, Generation, JobId, KeyGroupCount, ShardId, SinkId, StateNodeId},
};
use rpc::{Tls, serve, tonic::service::Routes as Served};
use state_client::{Begun, Dropped, Incarnation, StateControl, StateError};
use state_service::{
    ControlView, NodeLimits, StateNode, StateNodeConfig, StateService,
    object::{StoreUrl, open},
    pages::{PageCache, PageLimits},
    testing::FaultStore,
};
use tokio::{net::TcpListener, runtime::Handle, task::JoinHandle};

use super::relay::Relay;
use crate::{JobRoute, Owner, Routes};

/// The whole of it. Cheap to clone; all clones are one.
#[derive(Clone)]
pub(super) struct Cluster {
    pub(super) routes: Routes,
    shards: u32,
    tls: Tls,
    limits: NodeLimits,
    objects: Arc<InMemory>,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    nodes: BTreeMap<StateNodeId, Node>,
    owners: BTreeMap<ShardId, StateNodeId>,
    /// How often shards have moved.
    moves: u64,
    jobs: BTreeMap<JobId, Record>,
}

/// A node, its server, and the relay through which it is reached.
struct Node {
    node: StateNode,
    faults: FaultStore,
    relay: Arc<Relay>,
    server: JoinHandle<()>,
}

#[derive(Default)]
struct Record {
    generation: Generation,
    first: Epoch,
    committed: Epoch,
    log: Vec<CommittedEpoch>,
    published: BTreeMap<SinkId, Epoch>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.nodes.values().for_each(|node| node.server.abort());
    }
}

impl Cluster {
    /// Jobs of `shards` shards on nodes 1 to `nodes`, which have them in turn.
    pub(super) fn start(nodes: u64, shards: u32, tls: Tls, limits: NodeLimits) -> Cluster {
        let cluster = Cluster {
            routes: Routes::default(),
            shards,
            tls,
            limits,
            objects: Arc::new(InMemory::new()),
            inner: Arc::default(),
        };
        for node in 1..=nodes {
            cluster.start_node(StateNodeId(node));
        }
        let owner = |shard: u32| (ShardId(shard), StateNodeId(1 + u64::from(shard) % nodes));
        cluster.inner().owners = (0..shards).map(owner).collect();
        cluster
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start_node(&self, id: StateNodeId) {
        let faults = FaultStore::new(self.objects.clone());
        let memory = open(&StoreUrl::Memory).expect("memory is there");
        let config = StateNodeConfig {
            places: Default::default(),
            store: memory.with_store(Arc::new(faults.clone())),
            root: "state".to_owned(),
            node: id.to_string(),
            seed: id.0,
            clock: None,
            runtime: Handle::current(),
            block_cache: None,
            page_cache: Some(PageCache::new(16 << 20)),
            limits: self.limits.clone(),
            page_limits: PageLimits::default(),
        };
        let view = View {
            cluster: Arc::downgrade(&self.inner),
            node: id,
        };
        let (node, _reports) = StateNode::start(config, Arc::new(view));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        let listener = TcpListener::from_std(listener).expect("a socket");
        let address = listener.local_addr().expect("an address").to_string();
        let served = Served::new(StateService::new(node.clone()).into_server());
        let tls = self.tls.clone();
        let server = tokio::spawn(async move {
            let ended = serve(listener, served, &tls, pending()).await;
            ended.expect("a server");
        });
        let relay = Arc::new(Relay::new(address));
        let node = Node {
            node,
            faults,
            relay,
            server,
        };
        self.inner().nodes.insert(id, node);
    }

    /// What stands before a node.
    pub(super) fn relay(&self, node: u64) -> Arc<Relay> {
        self.inner().nodes[&StateNodeId(node)].relay.clone()
    }

    /// The object store as a node sees it.
    pub(super) fn faults(&self, node: u64) -> FaultStore {
        self.inner().nodes[&StateNodeId(node)].faults.clone()
    }

    /// A node dies. Nobody is told.
    pub(super) async fn kill(&self, node: u64) {
        let dead = self.inner().nodes.remove(&StateNodeId(node));
        let dead = dead.expect("a running node");
        dead.server.abort();
        // Aborted; the node goes with the last of those who hold it.
        drop(dead.server.await);
    }

    /// All shards of one node are another's from now on, and workers hear of it.
    pub(super) fn move_shards(&self, from: u64, to: u64) {
        let (from, to) = (StateNodeId(from), StateNodeId(to));
        let mut inner = self.inner();
        inner.moves += 1;
        let mut moved = Vec::new();
        for (shard, owner) in &mut inner.owners {
            if *owner == from {
                *owner = to;
                moved.push(*shard);
            }
        }
        let jobs: Vec<JobId> = inner.jobs.keys().copied().collect();
        for job in jobs {
            for shard in &moved {
                inner.order(from, StateOrder::Close { job, shard: *shard });
            }
            inner.open(job, self.shards, &moved);
            self.route(&inner, job);
        }
    }

    /// Tells workers where a job's shards are.
    fn route(&self, inner: &Inner, job: JobId) {
        let owner = |(shard, node): (&ShardId, &StateNodeId)| {
            let address = inner.nodes.get(node)?.relay.address.clone();
            let node = *node;
            Some((*shard, Owner { node, address }))
        };
        let route = JobRoute {
            key_groups: KeyGroupCount::DEFAULT,
            shards: self.shards,
            owners: inner.owners.iter().filter_map(owner).collect(),
        };
        self.routes.set(job, route);
    }

    /// How many objects the log of all jobs has with this ending.
    pub(super) async fn log_objects(&self, ending: &str) -> usize {
        let listed = self.objects.list(None);
        let listed = futures::StreamExt::collect::<Vec<_>>(listed).await;
        let names = listed.iter().flatten().map(|file| file.location.as_ref());
        names.filter(|name| name.ends_with(ending)).count()
    }

    fn with<T>(
        &self,
        who: Incarnation,
        act: impl FnOnce(&mut Inner) -> T,
    ) -> Result<T, StateError> {
        let mut inner = self.inner();
        let job = inner.jobs.get(&who.job);
        let current = job.ok_or(StateError::UnknownJob(who.job))?.generation;
        if who.generation != current {
            return Err(StateError::Fenced {
                job: who.job,
                caller: who.generation,
                current,
            });
        }
        Ok(act(&mut inner))
    }
}

impl Inner {
    fn order(&self, node: StateNodeId, order: StateOrder) {
        if let Some(node) = self.nodes.get(&node) {
            node.node.order(order);
        }
    }

    fn order_all(&self, order: &StateOrder) {
        for node in self.nodes.values() {
            node.node.order(order.clone());
        }
    }

    /// Orders the owners of shards to serve them.
    fn open(&self, job: JobId, shards: u32, which: &[ShardId]) {
        let record = &self.jobs[&job];
        let holding = |wanted: fn(&LogObject) -> bool| -> Vec<CommittedEpoch> {
            let of_epoch = |entry: &CommittedEpoch| CommittedEpoch {
                epoch: entry.epoch,
                objects: entry
                    .objects
                    .iter()
                    .filter(|o| wanted(o))
                    .cloned()
                    .collect(),
            };
            let entries = record.log.iter().map(of_epoch);
            entries.filter(|entry| !entry.objects.is_empty()).collect()
        };
        for shard in which {
            let output = holding(|object| matches!(object.holds, LogHolding::Output(_)));
            let order = StateOrder::Open(OpenShard {
                job,
                shard: *shard,
                ownership: self.moves,
                generation: record.generation,
                key_groups: KeyGroupCount::DEFAULT,
                shards,
                line: 0,
                base: None,
                committed: record.committed,
                inherited: Vec::new(),
                log: holding(|object| matches!(object.holds, LogHolding::Rows(_))),
                output: match shard {
                    ShardId(0) => output,
                    _ => Vec::new(),
                },
            });
            self.order(self.owners[shard], order);
        }
        for (sink, epoch) in record.published.clone() {
            self.order_all(&StateOrder::Published { job, sink, epoch });
        }
    }
}

impl StateControl for Cluster {
    fn begin(&self, who: Incarnation) -> BoxFuture<'static, Result<Begun, StateError>> {
        let cluster = self.clone();
        async move {
            let mut inner = cluster.inner();
            let record = inner.jobs.entry(who.job).or_default();
            if who.generation < record.generation {
                return Err(StateError::Fenced {
                    job: who.job,
                    caller: who.generation,
                    current: record.generation,
                });
            }
            if who.generation > record.generation {
                record.generation = who.generation;
                record.first =
                    Epoch::first_of_generation(record.committed, record.first, record.committed);
            }
            let begun = Begun {
                restored: record.committed,
                first: record.first,
            };
            let all: Vec<ShardId> = inner.owners.keys().copied().collect();
            inner.open(who.job, cluster.shards, &all);
            cluster.route(&inner, who.job);
            Ok(begun)
        }
        .boxed()
    }

    fn commit(
        &self,
        who: Incarnation,
        epoch: Epoch,
        objects: Vec<LogObject>,
        _overtaken_bytes: u64,
    ) -> BoxFuture<'static, Result<(), StateError>> {
        let cluster = self.clone();
        async move {
            cluster.with(who, |inner| {
                let record = inner.jobs.get_mut(&who.job).expect("known");
                if epoch <= record.committed {
                    return;
                }
                let previous = std::mem::replace(&mut record.committed, epoch);
                let committed = CommittedEpoch { epoch, objects };
                if !committed.objects.is_empty() {
                    record.log.push(committed.clone());
                }
                inner.order_all(&StateOrder::Committed {
                    job: who.job,
                    generation: who.generation,
                    previous,
                    committed,
                    traceparent: None,
                });
            })
        }
        .boxed()
    }

    fn published(
        &self,
        who: Incarnation,
        sink: SinkId,
        epoch: Epoch,
    ) -> BoxFuture<'static, Result<(), StateError>> {
        let cluster = self.clone();
        async move {
            cluster.with(who, |inner| {
                let record = inner.jobs.get_mut(&who.job).expect("known");
                let published = record.published.entry(sink).or_default();
                *published = (*published).max(epoch);
                let job = who.job;
                inner.order_all(&StateOrder::Published { job, sink, epoch });
            })
        }
        .boxed()
    }

    fn drop_job(&self, job: JobId) -> BoxFuture<'static, Result<Dropped, StateError>> {
        let cluster = self.clone();
        async move {
            let mut inner = cluster.inner();
            inner.jobs.remove(&job);
            let shards = cluster.shards;
            inner.order_all(&StateOrder::Drop { job, shards });
            cluster.routes.remove(job);
            Ok(Dropped::Files)
        }
        .boxed()
    }
}

/// The control plane as one node asks it.
struct View {
    cluster: std::sync::Weak<Mutex<Inner>>,
    node: StateNodeId,
}

impl View {
    fn ask<T>(&self, question: impl FnOnce(&Inner) -> T) -> Result<T, String> {
        let inner = self.cluster.upgrade().ok_or("no control plane")?;
        let inner = inner.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(question(&inner))
    }
}

impl ControlView for View {
    fn owns(&self, _job: JobId, shard: ShardId) -> BoxFuture<'static, Result<bool, String>> {
        let owns = self.ask(|inner| inner.owners.get(&shard) == Some(&self.node));
        async move { owns }.boxed()
    }

    fn references(&self, job: JobId) -> BoxFuture<'static, Result<JobReferences, String>> {
        let references = self.ask(|inner| {
            let record = inner.jobs.get(&job)?;
            let objects = record.log.iter().flat_map(|entry| &entry.objects);
            Some(JobReferences {
                generation: record.generation,
                committed: record.committed,
                objects: objects.map(|object| object.name.clone()).collect(),
                ended: false,
                databases: (inner.owners.keys())
                    .map(|shard| DatabaseReference {
                        line: 0,
                        shard: *shard,
                        manifests: Vec::new(),
                    })
                    .collect(),
            })
        });
        async move { references?.ok_or_else(|| "no such job".to_owned()) }.boxed()
    }
}
