//! One run of one seed: builds the cluster, does to it what the plan says, and judges.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use turmoil::{Builder, Sim};

use crate::{
    ambient, hosts, oracle,
    plan::{self, Action, Deposition, NEWCOMER, Shape, control_hosts, state_hosts, worker_hosts},
    trace::Trace,
    world::World,
};

/// What one step takes of simulated time.
const TICK: Duration = Duration::from_millis(3);
/// Everything must have come to its end by then.
const DEADLINE: Duration = Duration::from_secs(240);
/// Between two looks at what sinks have written.
const LOOK: Duration = Duration::from_secs(1);
/// How long whoever watches over processes waits before one that has ended is started again.
const RESTART: Duration = Duration::from_secs(1);

/// How a seed is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Seed.
    pub seed: u64,
    /// Where the trace goes.
    pub trace: PathBuf,
    /// What the code says of itself is part of the trace up to this level.
    pub log: String,
}

/// Whether any thread has panicked.
static PANICKED: AtomicBool = AtomicBool::new(false);

/// Runs a seed in this process, which must not run another one. Works in the current directory.
///
/// # Errors
/// What was wrong.
///
/// # Panics
/// When the machine does not let it: no room for its files.
pub fn run(options: &Options) -> Result<String, String> {
    // Before anything is hashed: a thread draws the keys of its hash tables once.
    ambient::begin(options.seed);
    let trace = Trace::create(&options.trace).expect("a trace");
    trace.listen(&options.log);
    let hook = trace.clone();
    std::panic::set_hook(Box::new(move |panic| {
        PANICKED.store(true, Ordering::SeqCst);
        hook.line(format_args!("PANIC {panic}"));
    }));
    fs::create_dir_all("out").expect("a folder");
    let output = PathBuf::from("out");
    let (shape, schedule) = plan::draw(options.seed);
    trace.line(format_args!("{shape:?}"));
    for (at, action) in &schedule {
        trace.line(format_args!("plan {:.3} {action:?}", at.as_secs_f64()));
    }
    let world = World::new(options.seed, shape, trace.clone(), output);
    let judged = Run::new(&world).play(schedule);
    let threads = threads();
    let counts = ambient::end();
    trace.line(format_args!("asked the system: {counts:?}"));
    if let Err(why) = &judged {
        trace.line(format_args!("FAILED {why}"));
    }
    let (lines, hash) = trace.digest();
    // One that does work would not do it in simulated time.
    assert_eq!(threads, 1, "the simulation has threads");
    let seconds = judged?.as_secs_f64();
    Ok(format!("{seconds:.1} s, {lines} lines, {hash:016x}"))
}

/// Threads of this process.
fn threads() -> usize {
    fs::read_dir(Path::new("/proc/self/task")).map_or(1, Iterator::count)
}

/// A cluster that runs.
struct Run<'w> {
    world: &'w Arc<World>,
    sim: Sim<'w>,
    done: Rc<Cell<bool>>,
    dead: BTreeSet<String>,
    gone: BTreeSet<String>,
    restarts: BTreeMap<String, Duration>,
    /// Ends of what has come over a leader.
    ends: Vec<(Duration, Action)>,
}

impl<'w> Run<'w> {
    fn new(world: &'w Arc<World>) -> Run<'w> {
        let epoch = SystemTime::UNIX_EPOCH + Duration::from_secs(ambient::EPOCH_SECONDS);
        let mut sim = Builder::new()
            .rng_seed(world.seed)
            .epoch(epoch)
            .tick_duration(TICK)
            .simulation_duration(DEADLINE * 2)
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(Duration::from_millis(12))
            .tcp_capacity(8192)
            .enable_random_order()
            .build();
        let bucket = world.bucket.clone();
        sim.host("bucket", move || {
            let bucket = bucket.clone();
            async move {
                bucket.serve().await;
                Ok(())
            }
        });
        let Shape { workers, .. } = world.shape;
        for (id, host) in (1..).zip(control_hosts()) {
            sim.host(host, move || hosts::control_plane(Arc::clone(world), id));
        }
        sim.host(format!("c{NEWCOMER}"), move || {
            hosts::newcomer(Arc::clone(world), NEWCOMER)
        });
        for (id, host) in (1..).zip(state_hosts()) {
            sim.host(host, move || hosts::state_node(Arc::clone(world), id));
        }
        for host in worker_hosts(workers) {
            let name = host.clone();
            sim.host(host, move || hosts::worker(Arc::clone(world), name.clone()));
        }
        sim.host("operator", move || hosts::operator(Arc::clone(world)));
        let done = Rc::new(Cell::new(false));
        let (client, ended) = (hosts::client(Arc::clone(world)), Rc::clone(&done));
        sim.client("client", async move {
            client.await?;
            ended.set(true);
            // The cluster runs on.
            std::future::pending().await
        });
        Run {
            world,
            sim,
            done,
            dead: BTreeSet::new(),
            gone: BTreeSet::new(),
            restarts: BTreeMap::new(),
            ends: Vec::new(),
        }
    }

    /// Runs until all is over; how long that took.
    fn play(mut self, schedule: plan::Schedule) -> Result<Duration, String> {
        let mut schedule = schedule.into_iter().peekable();
        let mut look_at = Duration::ZERO;
        loop {
            let now = self.sim.elapsed();
            while let Some((_, action)) = schedule.next_if(|(at, _)| *at <= now) {
                self.act(action);
            }
            for (how, lasting) in self.world.take_due() {
                self.depose(how, lasting);
            }
            for (_, action) in self
                .ends
                .extract_if(.., |(at, _)| *at <= now)
                .collect::<Vec<_>>()
            {
                self.act(action);
            }
            if schedule.peek().is_none() && self.ends.is_empty() {
                self.world.all_is_asked();
            }
            self.restart();
            self.step()?;
            if now >= look_at {
                self.world.look_at_output();
                self.world.check_held();
                look_at = now + LOOK;
            }
            if self.done.get() && self.tidy() {
                break;
            }
            if now > DEADLINE {
                let what = match self.done.get() {
                    true => format!("files are left: {:?}", oracle::leaked(self.world)),
                    false => "the jobs have not finished".to_owned(),
                };
                return Err(format!("after {DEADLINE:?}: {what}"));
            }
        }
        self.world.look_at_output();
        oracle::check(self.world)?;
        let compared = self.world.compared();
        self.world
            .trace
            .line(format_args!("watermarks were compared {compared} times"));
        if compared == 0 {
            return Err("no watermark was looked at twice".to_owned());
        }
        let late = self.world.late();
        if !late.is_empty() {
            return Err(format!("rows came late at {late:?}"));
        }
        self.world.check_room()?;
        Ok(self.sim.elapsed())
    }

    fn step(&mut self) -> Result<(), String> {
        let before = self.sim.elapsed();
        ambient::set_now(before);
        self.sim.step().map_err(|error| error.to_string())?;
        if PANICKED.load(Ordering::SeqCst) {
            return Err("something panicked".to_owned());
        }
        for violation in self.world.bucket.take_violations() {
            self.world.violate(violation);
        }
        match self.world.violations().first() {
            Some(violation) => Err(violation.clone()),
            None => Ok(()),
        }
    }

    /// Whether the jobs and their files have gone, after nothing was on its way.
    fn tidy(&self) -> bool {
        self.world.metadata(|state| state.jobs.is_empty())
            && !self.world.bucket.is_busy()
            && oracle::leaked(self.world).is_empty()
    }

    fn act(&mut self, action: Action) {
        self.world.trace.line(format_args!("fault {action:?}"));
        match action {
            Action::Kill { host, power } => self.kill(&host, power),
            Action::Start { host } => self.start(&host),
            Action::Pause { host } => {
                self.world.bucket.hold(&host);
                for other in self.others(&host) {
                    self.sim.hold(host.as_str(), other.as_str());
                }
            }
            Action::Resume { host } => {
                self.world.bucket.release(&host);
                for other in self.others(&host) {
                    self.sim.release(host.as_str(), other.as_str());
                }
            }
            Action::Cut { from, to, lossy } => {
                self.each_link(&from, &to, |sim, a, b| match lossy {
                    true => sim.partition(a, b),
                    false => sim.hold(a, b),
                })
            }
            Action::Heal { from, to } => self.each_link(&from, &to, |sim, a, b| {
                sim.release(a, b);
                sim.repair(a, b);
            }),
            Action::CutStore { host, lossy } => match lossy {
                true => self.world.bucket.cut(&host),
                false => self.world.bucket.hold(&host),
            },
            Action::HealStore { host } => self.world.bucket.release(&host),
            Action::Store { fault, lasting } => {
                let until = self.sim.elapsed() + lasting;
                self.world.bucket.begin(fault, until);
            }
            Action::Leave { host, away } => self.world.tell_to_leave(&host, away),
            Action::Depose {
                how,
                lasting,
                rerouting: true,
            } => self.world.arm(how, lasting),
            Action::Depose { how, lasting, .. } => self.depose(how, lasting),
            Action::Ask(operation) => self.world.request(operation),
        }
    }

    /// Something happens to whoever leads the control plane.
    fn depose(&mut self, how: Deposition, lasting: Duration) {
        let Some(host) = self.world.leader() else {
            return;
        };
        let now = self.sim.elapsed();
        let end = (now + lasting).min(self.world.shape.faults_end).max(now);
        let (from, to) = (vec![host.clone()], self.others(&host));
        let (lossy, start) = (true, Action::Start { host: host.clone() });
        let (begins, ends) = match how {
            Deposition::Kill | Deposition::Power => {
                let power = how == Deposition::Power;
                (Action::Kill { host, power }, start)
            }
            Deposition::Pause => {
                let resume = Action::Resume { host: host.clone() };
                (Action::Pause { host }, resume)
            }
            Deposition::Cut => {
                let heal = Action::Heal {
                    from: from.clone(),
                    to: to.clone(),
                };
                (Action::Cut { from, to, lossy }, heal)
            }
        };
        self.act(begins);
        self.ends.push((end, ends));
    }

    fn others(&self, host: &str) -> Vec<String> {
        let mut others = plan::hosts(self.world.shape.workers);
        others.push(format!("c{NEWCOMER}"));
        others.retain(|other| other != host);
        others
    }

    fn each_link(&self, from: &[String], to: &[String], act: impl Fn(&Sim<'w>, &str, &str)) {
        for one in from {
            for other in to {
                act(&self.sim, one, other);
            }
        }
    }

    fn kill(&mut self, host: &str, power: bool) {
        if self.gone.contains(host) || !self.dead.insert(host.to_owned()) {
            return;
        }
        self.restarts.remove(host);
        if let Some(id) = host.strip_prefix('c').and_then(|id| id.parse().ok()) {
            let disk = self.world.disk(id);
            match power {
                true => disk.kill(),
                false => disk.let_go(),
            }
        }
        if power {
            // Nobody hears that its connections have ended.
            for other in self.others(host) {
                self.sim.partition(host, other.as_str());
            }
        }
        self.sim.crash(host);
        if power {
            for other in self.others(host) {
                self.sim.repair(host, other.as_str());
            }
        }
    }

    fn start(&mut self, host: &str) {
        if self.dead.remove(host) {
            self.sim.bounce(host);
        }
    }

    /// Processes that have ended by themselves are started again, but those that are not wanted any
    /// more.
    fn restart(&mut self) {
        let now = self.sim.elapsed();
        for (host, why) in self.world.take_ended() {
            if self.dead.contains(&host) {
                continue;
            }
            self.kill(&host, false);
            if why.contains("was removed") {
                self.gone.insert(host);
            } else {
                let left = self.world.away(&host).filter(|_| why == hosts::LEFT);
                let after = left.unwrap_or(RESTART);
                self.restarts.insert(host, now + after);
            }
        }
        let due = self.restarts.iter().filter(|(_, at)| **at <= now);
        let due: Vec<String> = due.map(|(host, _)| host.clone()).collect();
        for host in due {
            self.restarts.remove(&host);
            self.start(&host);
        }
    }
}
