//! Everything at once, for as long as one likes, over a real S3 server: processes are killed, held up
//! and started, workers leave, connections to the store and between tiers are slow or cut, the job's
//! parallelism changes, savepoints and forks come and go. In the end every result is outside once, the
//! store is whole, and nothing is left in it.
//!
//! `MILLSTREAM_CHAOS_SECONDS` says how long, `MILLSTREAM_CHAOS_SEED` draws the same things again.

use std::{
    collections::BTreeSet,
    env,
    hash::{BuildHasher as _, RandomState},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use tests::{Cluster, ClusterConfig, Toxiproxy, minio::Minio, ports};
use tokio::{runtime::Runtime, time::Instant};

use super::{
    config,
    load::{Load, TABLES},
};
use crate::s3::{objects, opened};

const STORE: &str = "s3://bucket/chaos";
/// How long it goes on where nobody says.
const SECONDS: u64 = 25;
/// Longest time between two things that happen.
const PAUSE_MAX_MS: u64 = 1500;
/// Longest time that a connection is cut: less than what makes anybody give up.
const CUT_MAX_MS: u64 = 3000;
/// Why a process ends that is started while the store is cut off: whoever looks after it starts it again.
const UNREACHABLE: &str = "cannot be reached";
/// What the parallelism becomes, one after the other.
const PARALLELISM: [u32; 4] = [4, 1, 3, 2];
/// Those that must have been carried out in the end.
const RESCALED: [u32; 3] = [4, 1, 3];
/// From so many seconds on there is time for all that is to be seen.
const LONG_SECONDS: u64 = 120;

/// Numbers of a seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok().filter(|text| !text.is_empty())?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is no number: {text}")),
    )
}

/// What is being disturbed.
struct Chaos {
    cluster: Cluster,
    proxy: Toxiproxy,
    load: Load,
    chance: Chance,
    savepoints: Vec<String>,
    forks: Vec<String>,
    rescales: usize,
    /// What the parallelism is to be, if that was taken; and what it has been since.
    wanted: Option<u32>,
    rescaled: BTreeSet<u32>,
    checks: usize,
    number: u64,
}

impl Chaos {
    /// Names of what passes through the proxy.
    fn links(&self) -> Vec<String> {
        let members = self.cluster.workers.iter().chain(&self.cluster.state_nodes);
        let names = members.map(|member| member.name().to_owned());
        names.chain(["store".to_owned()]).collect()
    }

    /// The next thing that happens; what it was.
    fn step(&mut self) -> String {
        match self.chance.below(12) {
            0..=3 => self.disturb(),
            4 => self.slow_down(),
            5 => self.cut(),
            6..=7 => self.rescale(),
            8 => self.save(),
            9 => self.fork(),
            _ => self.check(),
        }
    }

    fn disturb(&mut self) -> String {
        let count = self.cluster.members().len() as u64;
        let (at, kind) = (self.chance.below(count) as usize, self.chance.below(6));
        let is_worker = self.cluster.is_worker(at);
        let mut members = self.cluster.members();
        let member = &mut members[at];
        let what = if member.has_left() {
            member.start_again();
            "has left, and is started"
        } else if member.is_leaving() {
            match kind < 2 {
                true => member.kill(),
                false => return format!("{} is leaving", member.name()),
            }
            "is killed as it leaves"
        } else if member.has_ended_over(UNREACHABLE) {
            member.start_again();
            "is started again, for it did not reach the store"
        } else if member.is_held() {
            member.release();
            "goes on"
        } else if !member.is_up() {
            member.start_again();
            "is started"
        } else if kind < 3 {
            member.kill();
            "is killed"
        } else if kind == 3 && is_worker {
            member.ask_to_leave();
            "is to leave"
        } else {
            member.hold();
            "is held up"
        };
        format!("{} {what}", member.name())
    }

    fn slow_down(&mut self) -> String {
        let links = self.links();
        let link = &links[self.chance.below(links.len() as u64) as usize];
        let latency = Duration::from_millis([0, 20, 100, 300][self.chance.below(4) as usize]);
        self.proxy.set_latency(link, latency);
        format!("{link} answers after {latency:?}")
    }

    fn cut(&mut self) -> String {
        let links = self.links();
        let link = &links[self.chance.below(links.len() as u64) as usize];
        let time = Duration::from_millis(self.chance.below(CUT_MAX_MS));
        self.proxy.set_cut(link, true);
        thread::sleep(time);
        self.proxy.set_cut(link, false);
        format!("{link} was cut for {time:?}")
    }

    fn rescale(&mut self) -> String {
        let parallelism = PARALLELISM[self.rescales % PARALLELISM.len()];
        let change = json!({ "parallelism": parallelism });
        let answer = self.cluster.patch_job(&self.load.job, &change);
        let taken = answer.is_ok_and(|(status, _)| status < 300);
        self.rescales += usize::from(taken);
        // What was not acknowledged may be there all the same.
        self.wanted = taken.then_some(parallelism);
        format!("parallelism {parallelism}, taken: {taken}")
    }

    /// Looks whether the job has the parallelism that it is to have.
    fn note_rescale(&mut self) {
        let Some(wanted) = self.wanted else { return };
        let view = self.cluster.get(&format!("/v1/jobs/{}", self.load.job));
        if view.is_some_and(|view| has_parallelism(&view, wanted)) {
            self.rescaled.insert(wanted);
            self.wanted = None;
        }
    }

    /// Carries out what no disturbance has let come to its end, while the job runs; whether all is.
    fn rescale_the_rest(&mut self) -> bool {
        for wanted in RESCALED {
            if self.rescaled.contains(&wanted) {
                continue;
            }
            let path = format!("/v1/jobs/{}", self.load.job);
            let change = json!({ "parallelism": wanted });
            let (mut done, mut asked) = (false, false);
            self.cluster.wait("the last rescales are done", || {
                let Some(view) = self.cluster.get(&path) else {
                    return false;
                };
                done = has_parallelism(&view, wanted);
                // A worker that comes may have it given up.
                if !asked || !view["rescale_error"].is_null() {
                    let answer = self.cluster.patch_job(&self.load.job, &change);
                    asked = answer.is_ok_and(|(status, _)| status < 300);
                }
                done || view["state"] == "FINISHED"
            });
            if !done {
                return false;
            }
            eprintln!("parallelism {wanted} after all");
            self.rescaled.insert(wanted);
        }
        true
    }

    /// Commands of clients may fail while nobody leads: then they are as good as not given.
    fn save(&mut self) -> String {
        if self.savepoints.len() > 2 {
            let name = self.savepoints.remove(0);
            let deleted = self.delete(&name);
            if !deleted {
                self.savepoints.push(name.clone());
            }
            return format!("savepoint {name} is deleted: {deleted}");
        }
        self.number += 1;
        let name = format!("s{}", self.number);
        let made = self
            .cluster
            .client(&["jobs", "savepoint", &self.load.job, &name]);
        // What failed may have happened all the same.
        self.savepoints.push(name.clone());
        format!("savepoint {name}: {}", made.is_ok())
    }

    fn delete(&self, name: &str) -> bool {
        let job = &self.load.job;
        let deleted = self
            .cluster
            .client(&["jobs", "savepoint", job, name, "--delete"]);
        deleted.is_ok()
    }

    fn fork(&mut self) -> String {
        if let Some(fork) = self.forks.pop() {
            let canceled = self.cluster.client(&["jobs", "cancel", &fork]);
            if canceled.is_err() {
                self.forks.push(fork.clone());
            }
            return format!("{fork} is cancelled: {}", canceled.is_ok());
        }
        self.number += 1;
        let folder = self.cluster.folder().join(format!("fork-{}", self.number));
        let name = format!("fork-{}", self.number);
        let mut arguments = vec!["jobs", "fork", &self.load.job, "--name", &name];
        let sinks = TABLES.map(|table| {
            let path = folder.join(table);
            format!("{table}.path={}", path.display())
        });
        arguments.extend(sinks.iter().flat_map(|sink| ["--sink", sink]));
        match self.cluster.client(&arguments) {
            Ok(answer) => {
                let fork = answer
                    .split_whitespace()
                    .next()
                    .unwrap_or_default()
                    .to_owned();
                let done = format!("{fork} is forked");
                self.forks.push(fork);
                done
            }
            Err(_) => "a fork failed".to_owned(),
        }
    }

    /// Whatever happens, the store has all that is needed.
    fn check(&mut self) -> String {
        match self.fsck(&[]) {
            Some(report) => {
                self.checks += 1;
                assert_eq!(
                    report["findings"].as_array().map(Vec::len),
                    Some(0),
                    "{report:#}"
                );
                "the store is whole".to_owned()
            }
            None => "the store could not be checked".to_owned(),
        }
    }

    /// What was found; `None`: it could not be looked for.
    fn fsck(&self, more: &[&str]) -> Option<Value> {
        let arguments = [&["fsck", "--store", STORE, "--json", "--settle", "1"], more].concat();
        let shown = self.cluster.client_output(&arguments).0;
        serde_json::from_str(&shown).ok()
    }

    /// Everything is as it should be again.
    fn heal(&mut self) {
        for link in self.links() {
            self.proxy.set_cut(&link, false);
            self.proxy.set_latency(&link, Duration::ZERO);
        }
        for member in self.cluster.members() {
            // Who leaves may wait for others that are not there yet.
            if member.is_leaving() {
                continue;
            }
            if member.has_ended_over(UNREACHABLE) {
                member.start_again();
            } else if member.is_held() {
                member.release();
            } else if !member.is_up() {
                member.start_again();
            }
        }
        for member in self.cluster.members() {
            if member.is_leaving() {
                member.wait_left();
                member.start_again();
            }
        }
        self.cluster.wait_whole();
    }

    /// Jobs that forks left, whether their clients heard of them or not.
    fn cancel_forks(&self) {
        self.cluster.wait("no fork is left", || {
            let Some(jobs) = self.cluster.get("/v1/jobs?limit=512") else {
                return false;
            };
            let jobs = jobs["jobs"].as_array().cloned().unwrap_or_default();
            let ended = ["FINISHED", "FAILED", "CANCELED"];
            let mut left = 0;
            for job in &jobs {
                let id = job["id"].as_str().unwrap_or_default();
                let is_over = ended.contains(&job["state"].as_str().unwrap_or_default());
                if id != self.load.job && !is_over {
                    left += 1;
                    let _canceled = self.cluster.client(&["jobs", "cancel", id]);
                }
            }
            left == 0
        });
    }
}

/// Whether a job that runs has so many tasks, and is not about to get others.
fn has_parallelism(view: &Value, parallelism: u32) -> bool {
    view["state"] == "RUNNING" && view["parallelism"] == parallelism && view["rescale"].is_null()
}

fn start(seconds: u64, seed: u64, minio: &Minio) -> Chaos {
    let proxy = Toxiproxy::start();
    let listen = format!("127.0.0.1:{}", ports(1)[0]);
    let upstream = minio.endpoint().replace("http://", "");
    proxy.pass("store", &listen, &upstream);
    let variables = minio.variables().map(|(name, value)| {
        let value = match name {
            "AWS_ENDPOINT_URL_S3" => format!("http://{listen}"),
            _ => value,
        };
        (name.to_owned(), value)
    });
    let mut passed = Vec::new();
    let cluster = Cluster::start_behind(
        &ClusterConfig {
            store: Some(STORE.to_owned()),
            variables: variables.to_vec(),
            ..config()
        },
        &mut |name, listen, upstream| {
            // A start may be tried again with other ports.
            let again = passed.iter().any(|known| known == name);
            assert!(!again, "{name} has a link already");
            passed.push(name.to_owned());
            proxy.pass(name, listen, upstream);
        },
    );
    let load = Load::start_joining(&cluster, i64::try_from(seconds).unwrap_or(i64::MAX), 2);
    cluster.wait_progress(&load.job);
    Chaos {
        cluster,
        proxy,
        load,
        chance: Chance(seed),
        savepoints: Vec::new(),
        forks: Vec::new(),
        rescales: 0,
        wanted: None,
        rescaled: BTreeSet::new(),
        checks: 0,
        number: 0,
    }
}

#[test]
fn whatever_happens_every_result_is_outside_once_and_the_store_is_whole() {
    let seconds = number("MILLSTREAM_CHAOS_SECONDS").unwrap_or(SECONDS);
    let drawn = || RandomState::new().hash_one(0_u8) % 1_000_000;
    let seed = number("MILLSTREAM_CHAOS_SEED").unwrap_or_else(drawn);
    eprintln!("chaos for {seconds} s; once more: make chaos SECONDS={seconds} SEED={seed}");
    let minio = Minio::start();
    let runtime = Runtime::new().expect("a runtime");
    runtime.block_on(minio.make_bucket("bucket"));
    let mut chaos = start(seconds, seed, &minio);
    let end = Instant::now() + Duration::from_secs(seconds * 4 / 5);
    while Instant::now() < end {
        let pause = Duration::from_millis(chaos.chance.below(PAUSE_MAX_MS));
        thread::sleep(pause);
        let done = chaos.step();
        eprintln!("after {pause:?} {done}");
        chaos.note_rescale();
    }
    chaos.heal();
    let rescaled = chaos.rescale_the_rest();
    eprintln!(
        "it had {:?} tasks, and the store was found whole {} times",
        chaos.rescaled, chaos.checks
    );
    if seconds >= LONG_SECONDS {
        assert!(rescaled, "it had only {:?} tasks", chaos.rescaled);
        assert!(chaos.checks > 0, "the store was never looked at");
    }
    chaos.load.finish(&chaos.cluster);
    let report = chaos.fsck(&["--deep"]).expect("a report");
    assert_eq!(report["findings"], json!([]), "{report:#}");
    for name in &chaos.savepoints {
        // Some were never made.
        chaos.delete(name);
    }
    chaos.cancel_forks();
    let store = opened(&minio, STORE, &[]);
    let left = || {
        let all = runtime.block_on(objects(&store));
        let of_jobs = all.into_iter().filter(|path| path.contains("chaos/jobs/"));
        of_jobs.collect::<Vec<_>>()
    };
    let gone = tests::wait_until(Duration::from_secs(120), || left().is_empty());
    assert!(gone, "files are left: {:#?}", left());
}
