//! The page store against a map: random flushes, maintenance, reopens, kills, fencing, clones, looks at
//! checkpoints.
//! `SEED=7` runs one case, `CASES=5000` many.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use object_store::memory::InMemory;
use proto::types::{Epoch, KeyGroup, TableId};
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use state_client::KeyRequest;

use super::{
    KeptPages, PageError, PageStore,
    testing::{Link, Model, Seen, assert_same, config, key_groups, maintain_all, open},
    view::View,
};

const TABLES: u32 = 2;
const CASES: u64 = 160;

struct Case {
    random: SmallRng,
    bucket: Arc<InMemory>,
    path: String,
    link: Link,
    store: PageStore,
    model: Model,
    /// The model as of each epoch that was flushed.
    history: BTreeMap<Epoch, Model>,
    epoch: u64,
    hashes: Vec<u64>,
    namespaces: (i64, i64),
    /// What a reader holds on to while others write.
    held: Option<Held>,
}

/// A view, what it must show, and for how many more steps it is held.
struct Held {
    view: View,
    model: Model,
    steps: u32,
}

impl Case {
    async fn new(seed: u64) -> Case {
        let mut random = SmallRng::seed_from_u64(seed);
        let bucket = Arc::new(InMemory::new());
        let link = Link::new(&bucket);
        let path = "job/shard".to_string();
        let (store, _) = open(&config(Arc::new(link.clone()), &path, seed)).await;
        let keys = [3, 20, 200][random.random_range(0..3)];
        Case {
            hashes: (0..keys).map(|_| random.random()).collect(),
            random,
            bucket,
            path,
            link,
            store,
            model: Model::default(),
            history: BTreeMap::new(),
            epoch: 0,
            namespaces: (0, 3),
            held: None,
        }
    }

    /// Changes of a flush: mostly few rows, sometimes many, often of one key.
    fn changes(&mut self) -> Model {
        self.epoch += self.random.random_range(1..4);
        let mut changes = Model::default();
        let count = [0, 5, 60, 300][self.random.random_range(0..4)];
        let favourite = self.hashes[self.random.random_range(0..self.hashes.len())];
        let favoured = self.random.random_bool(0.4);
        let wide = self.random.random_bool(0.5);
        for _ in 0..count {
            let hash = match favoured && self.random.random_bool(0.7) {
                true => favourite,
                false => self.hashes[self.random.random_range(0..self.hashes.len())],
            };
            let table = self.random.random_range(0..TABLES);
            let namespace = match table {
                0 => 0,
                _ => self
                    .random
                    .random_range(self.namespaces.0..=self.namespaces.1),
            };
            let identity = match table {
                0 if wide => (self.random.random_range(0..400_u64))
                    .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                    .to_be_bytes()
                    .to_vec(),
                _ => vec![self.random.random_range(0..3); self.random.random_range(0..3)],
            };
            let value = [self.random.random::<u8>(); 40];
            let length = self.random.random_range(0..40);
            let value = self.random.random_bool(0.75).then_some(&value[..length]);
            changes.set((table, namespace, hash), &identity, self.epoch, value);
        }
        if self.random.random_bool(0.15) {
            self.namespaces.0 += 1;
            self.namespaces.1 += 1;
            for key_group in key_groups().range(0, 1).iter() {
                if self.random.random_bool(0.8) {
                    changes
                        .marks
                        .insert((TableId(1), key_group), self.namespaces.0);
                }
            }
        }
        changes
    }

    fn flushed(&mut self, changes: &Model) {
        self.model.apply(changes);
        self.history.insert(Epoch(self.epoch), self.model.clone());
    }

    async fn flush(&mut self) {
        let changes = self.changes();
        let flushed = self.store.flush(changes.batch(self.epoch)).await;
        flushed.expect("flushing works");
        self.flushed(&changes);
    }

    /// A flush beside maintenance, while a reader holds what it sees.
    async fn flush_beside_maintenance(&mut self) {
        let changes = self.changes();
        let view = self.store.shared.view().await.expect("readable");
        let flush = self.store.flush(changes.batch(self.epoch));
        let (flushed, maintained) = tokio::join!(flush, self.store.maintain(Vec::new()));
        flushed.expect("flushing works");
        maintained.expect("maintenance works");
        self.flushed(&changes);
        drop(view);
    }

    async fn reopen(&mut self, close: bool) -> Epoch {
        self.held = None;
        if close {
            self.store.close().await.expect("closing works");
        }
        self.link.cut_after(0);
        self.link = Link::new(&self.bucket);
        let seed = self.random.random();
        let (store, opened) = open(&config(Arc::new(self.link.clone()), &self.path, seed)).await;
        self.store = store;
        let marks: BTreeMap<_, _> = (opened.marks.iter())
            .map(|(table, key_group, mark)| ((*table, *key_group), *mark))
            .collect();
        let model = self
            .history
            .get(&opened.durable)
            .cloned()
            .unwrap_or_default();
        assert_eq!(marks, model.marks, "marks of the durable epoch");
        opened.durable
    }

    /// The process dies while it flushes or maintains: its link is cut after a few writes.
    async fn kill(&mut self) {
        let changes = self.changes();
        self.link.lose_answer = self.random.random_bool(0.3);
        self.link.cut_after(self.random.random_range(1..8));
        if self.random.random_bool(0.3) {
            let maintaining = self.store.maintain(Vec::new());
            drop(tokio::time::timeout(Duration::from_millis(10), maintaining).await);
        }
        let flushing = self.store.flush(changes.batch(self.epoch));
        let flushed = tokio::time::timeout(Duration::from_millis(15), flushing).await;
        let before = self.history.keys().next_back().copied().unwrap_or_default();
        let mut after = self.model.clone();
        after.apply(&changes);
        self.history.insert(Epoch(self.epoch), after);
        let durable = self.reopen(false).await;
        if durable == Epoch(self.epoch) {
            self.flushed(&changes);
        } else {
            self.history.remove(&Epoch(self.epoch));
            assert_eq!(durable, before, "all of a flush or nothing");
            assert!(
                !matches!(flushed, Ok(Ok(()))),
                "a finished flush is durable"
            );
            self.check().await;
            // The epoch log has it still.
            self.store
                .flush(changes.batch(self.epoch))
                .await
                .expect("flushing works");
            self.flushed(&changes);
        }
    }

    /// Another node opens the shard; this one notices at its next write to the store.
    async fn fence(&mut self) {
        self.held = None;
        let old = self.store.clone();
        let link = Link::new(&self.bucket);
        let (store, _) = open(&config(Arc::new(link.clone()), &self.path, 1)).await;
        let batch = Model::default().batch(self.epoch + 1);
        let error = old
            .flush(batch)
            .await
            .expect_err("the old writer is fenced");
        assert!(matches!(error, PageError::Fenced), "{error}");
        (self.store, self.link) = (store, link);
    }

    /// A checkpoint is looked at beside the open store.
    async fn look_at_checkpoint(&mut self) {
        let mut epochs = self.store.checkpoints().await.expect("listing works");
        epochs.retain(|epoch| self.history.contains_key(epoch));
        if epochs.is_empty() {
            return;
        }
        let epoch = epochs[self.random.random_range(0..epochs.len())];
        let looking = config(Arc::new(Link::new(&self.bucket)), &self.path, 9);
        let kept = KeptPages::open(looking, epoch).await.expect("it is there");
        let requests = self.requests();
        let bytes_max = [400, 4000][self.random.random_range(0..2)];
        let model = &self.history[&epoch];
        let marks = kept.marks().into_iter();
        let marks: BTreeMap<_, _> = marks
            .map(|(table, key_group, mark)| ((table, key_group), mark))
            .collect();
        assert_eq!(marks, model.marks, "marks of {epoch}");
        assert_same(Seen::Kept(&kept), model, bytes_max, TABLES).await;
        assert_read(Seen::Kept(&kept), model, &requests).await;
    }

    async fn clone_at_checkpoint(&mut self) {
        let checkpoints = self.store.checkpoints().await.expect("listing works");
        let Some(epoch) = checkpoints.last().copied() else {
            return;
        };
        let path = format!("clone/{}-{}", self.epoch, self.random.random::<u32>());
        let cloned = config(Arc::new(Link::new(&self.bucket)), &path, 5);
        self.make_clone(&path, epoch).await;
        let (store, opened) = open(&cloned).await;
        assert_eq!(opened.durable, epoch);
        assert_same(&store, &self.history[&epoch], 2000, TABLES).await;
        if self.random.random_bool(0.5) {
            // The clone goes on, with no effect on its source.
            store.close().await.expect("closing works");
        } else {
            self.path = path;
            self.held = None;
            self.store.close().await.expect("closing works");
            self.store = store;
            self.model = self.history[&epoch].clone();
            self.history.split_off(&epoch.next());
        }
    }

    /// Clones the shard. Who does it may die on the way; another then begins again.
    async fn make_clone(&mut self, path: &str, epoch: Epoch) {
        if self.random.random_bool(0.6) {
            let mut link = Link::new(&self.bucket);
            link.lose_answer = self.random.random_bool(0.3);
            link.cut_after(self.random.random_range(0..6));
            let dying = config(Arc::new(link), path, 5);
            let made = PageStore::clone_from(&dying, &self.path, epoch);
            let made = tokio::time::timeout(Duration::from_millis(15), made).await;
            if matches!(made, Ok(Ok(()))) {
                return;
            }
        }
        let config = config(Arc::new(Link::new(&self.bucket)), path, 5);
        let made = PageStore::clone_from(&config, &self.path, epoch).await;
        made.expect("cloning works");
    }

    /// A reader takes a view and does not read yet.
    async fn hold(&mut self) {
        let view = self.store.shared.view().await.expect("readable");
        self.held = Some(Held {
            view,
            model: self.model.clone(),
            steps: self.random.random_range(1..=5),
        });
    }

    /// What the held view shows has not changed.
    async fn check_held(&mut self) {
        let mut requests = self.requests();
        let bytes_max = [400, 4000][self.random.random_range(0..2)];
        let Some(mut held) = self.held.take() else {
            return;
        };
        let closed = Model {
            marks: self.model.marks.clone(),
            ..Model::default()
        };
        held.model.apply(&closed);
        let is_open = |request: &KeyRequest| {
            let of = (request.table, key_groups().of_hash(request.hash));
            closed.marks.get(&of) <= Some(&request.namespace)
        };
        requests.retain(is_open);
        let seen = Seen::View {
            store: &self.store,
            view: &held.view,
            marks: &closed.marks,
        };
        assert_same(seen, &held.model, bytes_max, TABLES).await;
        assert_read(seen, &held.model, &requests).await;
        held.steps -= 1;
        if held.steps > 0 {
            self.held = Some(held);
        }
    }

    fn requests(&mut self) -> Vec<KeyRequest> {
        let mut requests = Vec::new();
        for _ in 0..20 {
            let sub: Option<u64> = match self.random.random_bool(0.3) {
                true => {
                    let number = self.random.random_range(0..400_u64);
                    Some(number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
                }
                false => None,
            };
            requests.push(KeyRequest {
                table: TableId(self.random.random_range(0..TABLES)),
                namespace: self.random.random_range(0..=self.namespaces.1),
                hash: self.hashes[self.random.random_range(0..self.hashes.len())],
                sub,
            });
        }
        requests
    }

    async fn check(&mut self) {
        let bytes_max = [400, 4000, 100_000][self.random.random_range(0..3)];
        assert_same(&self.store, &self.model, bytes_max, TABLES).await;
        let requests = self.requests();
        assert_read((&self.store).into(), &self.model, &requests).await;
    }

    /// Pages go deeper, or those that stayed behind follow, before their time.
    async fn reshape(&mut self) {
        let shared = &self.store.shared;
        let layout = shared.layout().await;
        for ((table, namespace), depths) in &layout.depths {
            if depths.min != depths.max {
                shared.sweep_soon(&layout, *table, *namespace);
            } else if self.random.random_bool(0.5) {
                let deeper = depths.max + self.random.random_range(1..4);
                shared.deepen_soon(*table, *namespace, deeper);
            }
        }
    }

    async fn step(&mut self) {
        if self.held.is_none() && self.random.random_bool(0.4) {
            self.hold().await;
        }
        if self.random.random_bool(0.15) {
            self.reshape().await;
        }
        if self.random.random_bool(0.1) {
            self.look_at_checkpoint().await;
        }
        match self.random.random_range(0..100) {
            0..40 => self.flush().await,
            40..50 => self.flush_beside_maintenance().await,
            50..65 => drop(
                self.store
                    .maintain(Vec::new())
                    .await
                    .expect("maintenance works"),
            ),
            65..75 => maintain_all(&self.store).await,
            75..80 => self.store.compact().await.expect("compaction works"),
            80..85 => {
                self.reopen(true).await;
            }
            85..88 => {
                self.reopen(false).await;
            }
            88..94 => self.kill().await,
            94..97 => self.fence().await,
            _ => self.clone_at_checkpoint().await,
        }
        // The newest first: what that leaves in the cache is not the view's.
        self.check().await;
        self.check_held().await;
    }
}

/// Asserts that reads answer what the model has.
async fn assert_read(seen: Seen<'_>, model: &Model, requests: &[KeyRequest]) {
    let replies = seen.read(requests).await.expect("reading works");
    for (request, rows) in requests.iter().zip(replies) {
        let rows: Vec<(Bytes, u64, Bytes)> = rows
            .into_iter()
            .filter_map(|row| Some((row.identity, row.epoch.0, row.value?)))
            .collect();
        let key_group: KeyGroup = key_groups().of_hash(request.hash);
        let expected: Vec<_> = (model.live(request.table, key_group).into_iter())
            .filter(|row| row.namespace == request.namespace && row.hash == request.hash)
            .filter(|row| {
                let sub = request.sub.map(u64::to_be_bytes);
                sub.is_none_or(|sub| row.identity.starts_with(&sub))
            })
            .filter_map(|row| Some((row.identity, row.epoch.0, row.value?)))
            .collect();
        assert_eq!(rows, expected, "{request:?}");
    }
}

fn run(seed: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        let mut case = Case::new(seed).await;
        for _ in 0..case.random.random_range(3..25) {
            case.step().await;
        }
        case.store.close().await.expect("closing works");
    });
}

fn run_all(first: u64) {
    let number = |name| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
    };
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("CASES").unwrap_or(CASES),
    };
    for seed in seeds.skip(first as usize).step_by(2) {
        let case = std::panic::catch_unwind(|| run(seed));
        assert!(case.is_ok(), "failed; repeat it with SEED={seed}");
    }
}

#[test]
fn the_store_is_a_map() {
    run_all(0);
}

/// Every second case, so that they use two cores.
#[test]
fn the_store_is_a_map_too() {
    run_all(1);
}
