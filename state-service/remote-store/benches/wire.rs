//! What the wire costs: a state node over loopback against the same node in this process. Reads in
//! microseconds, staging in MB/s, CPU of both sides together: `cargo bench -p remote-store`.

use std::{collections::BTreeMap, future::pending, sync::Arc, time::Duration};

use futures::future::join_all;
use object_store::memory::InMemory;
use proto::types::{
    Epoch, Generation, JobId, KeyGroupCount, ShardId, StateNodeId, TableId, TaskId,
};
use remote_store::{JobRoute, Owner, RemoteConfig, RemoteLimits, RemoteStore, Routes};
use rpc::{Tls, serve, tonic::service::Routes as Served};
use state_client::{
    Block, Changes, Cut, EpochDelta, Incarnation, KeyRequest, ReadRequest, StateControl as _,
    StateStore,
    page::{RowRef, RunBuilder},
};
use state_service::{EmbeddedStore, NodeLimits, StateService, testing::NodeSetup};
use tokio::{net::TcpListener, time::Instant};

const WHO: Incarnation = Incarnation {
    job: JobId(1),
    generation: Generation(1),
};
const TABLE: TableId = TableId(1);
const SHARDS: u32 = 4;
const KEYS: u64 = 100_000;
const ROW_BYTES: usize = 100;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(measure());
}

async fn measure() {
    let mut setup = NodeSetup::new(Arc::new(InMemory::new()), SHARDS);
    setup.limits = NodeLimits {
        // Reads are of the tail: it is the wire that is measured.
        tail_bytes: 4 << 30,
        unflushed_bytes: 16 << 30,
        shard_tail_bytes: 4 << 30,
        flush_epochs: u64::MAX,
        ..NodeLimits::default()
    };
    let node = setup.start();
    setup.control.begin(WHO).await.expect("begun");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let served = Served::new(StateService::new(node.clone()).into_server());
    tokio::spawn(async move { serve(listener, served, &Tls::None, pending()).await });
    let owner = Owner {
        node: StateNodeId(1),
        address,
    };
    let routes = Routes::default();
    routes.set(
        WHO.job,
        JobRoute {
            key_groups: KeyGroupCount::DEFAULT,
            shards: SHARDS,
            owners: (0..SHARDS)
                .map(|shard| (ShardId(shard), owner.clone()))
                .collect(),
        },
    );
    let config = RemoteConfig {
        tls: Tls::None,
        seed: 1,
        limits: RemoteLimits::default(),
    };
    let remote: Arc<dyn StateStore> = Arc::new(RemoteStore::new(routes, config));
    let embedded: Arc<dyn StateStore> = Arc::new(EmbeddedStore::new(node));

    let delta = delta(1, (0..KEYS).collect());
    let objects = embedded.stage(WHO, delta).await.expect("staged");
    let committed = setup.control.commit(WHO, Epoch(1), objects, 0).await;
    committed.expect("committed");
    for (name, store) in [("embedded", &embedded), ("remote", &remote)] {
        for keys in [1, 1000] {
            reads(name, store, keys).await;
        }
        reads_at_once(name, store).await;
    }
    for (name, store, first) in [("embedded", &embedded, 100), ("remote", &remote, 200)] {
        stages(name, store, first).await;
    }
}

fn hash(key: u64) -> u64 {
    key.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn request(keys: impl Iterator<Item = u64>) -> ReadRequest {
    let key = |key: u64| KeyRequest {
        table: TABLE,
        namespace: 0,
        hash: hash(key % KEYS),
        sub: None,
    };
    ReadRequest {
        min_epoch: Epoch(1),
        keys: keys.map(key).collect(),
    }
}

fn delta(epoch: u64, keys: Vec<u64>) -> EpochDelta {
    let groups = KeyGroupCount::DEFAULT;
    let mut hashes: Vec<u64> = keys.into_iter().map(hash).collect();
    hashes.sort_unstable();
    let mut runs: BTreeMap<_, RunBuilder> = BTreeMap::new();
    for hash in hashes {
        runs.entry(groups.of_hash(hash)).or_default().push(RowRef {
            hash,
            identity: &hash.to_be_bytes(),
            epoch,
            value: Some(&[7; ROW_BYTES]),
        });
    }
    let block = |(key_group, run): (_, RunBuilder)| Block {
        table: TABLE,
        key_group,
        namespace: 0,
        run: run.finish(),
    };
    let changes = Changes {
        blocks: runs.into_iter().map(block).collect(),
        ..Changes::default()
    };
    let cut = Cut {
        key_groups: groups,
        shards: SHARDS,
        tasks: 1,
    };
    EpochDelta::new(WHO, Epoch(epoch), TaskId(0), cut, changes)
}

async fn reads(name: &str, store: &Arc<dyn StateStore>, keys: u64) {
    let rounds = 20_000 / keys.max(10);
    let mut times = Vec::new();
    let cpu = cpu_seconds();
    for round in 0..rounds {
        let request = request((0..keys).map(|key| round * 7919 + key * 31));
        let begun = Instant::now();
        let reply = store.read(WHO, request).await.expect("read");
        times.push(begun.elapsed());
        assert!(reply.rows.iter().all(|rows| rows.len() == 1));
    }
    let cpu = 1e6 * (cpu_seconds() - cpu) / rounds as f64;
    times.sort_unstable();
    let at = |part: usize| times[times.len() * part / 100].as_micros();
    println!(
        "{name}: read of {keys} keys, one at a time: p50 {} us, p99 {} us, CPU {cpu:.0} us",
        at(50),
        at(99)
    );
}

async fn reads_at_once(name: &str, store: &Arc<dyn StateStore>) {
    let (rounds, at_once) = (200, 64);
    let (begun, cpu) = (Instant::now(), cpu_seconds());
    for round in 0..rounds {
        let reads = (0..at_once).map(|read| {
            let store = store.clone();
            tokio::spawn(store.read(WHO, request([round * 7919 + read * 31].into_iter())))
        });
        for reply in join_all(reads).await {
            reply.expect("not aborted").expect("read");
        }
    }
    let reads = (rounds * at_once) as f64;
    println!(
        "{name}: reads of 1 key, {at_once} at once: {:.0} per second, CPU {:.0} us each",
        reads / begun.elapsed().as_secs_f64(),
        1e6 * (cpu_seconds() - cpu) / reads
    );
}

async fn stages(name: &str, store: &Arc<dyn StateStore>, first: u64) {
    let deltas: Vec<EpochDelta> = (0..6)
        .map(|i| delta(first + i, (0..300_000).collect()))
        .collect();
    let bytes: usize = (deltas.iter())
        .flat_map(|delta| &delta.sections)
        .map(state_client::Section::payload_bytes)
        .sum();
    let (begun, cpu) = (Instant::now(), cpu_seconds());
    let mut waited = Duration::ZERO;
    for delta in deltas {
        let begun = Instant::now();
        store.stage(WHO, delta).await.expect("staged");
        waited = waited.max(begun.elapsed());
    }
    let megabytes = bytes as f64 / 1e6;
    println!(
        "{name}: staging {megabytes:.0} MB in 6 deltas: {:.0} MB/s, at most {} ms each, CPU {:.2} s per GB",
        megabytes / begun.elapsed().as_secs_f64(),
        waited.as_millis(),
        1e3 * (cpu_seconds() - cpu) / megabytes
    );
}

/// What the process has used so far.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let after_name = stat.rsplit(')').next().expect("fields");
    let ticks = |index: usize| -> f64 {
        let field = after_name.split_whitespace().nth(index);
        field.and_then(|field| field.parse().ok()).expect("ticks")
    };
    (ticks(11) + ticks(12)) / 100.0
}
