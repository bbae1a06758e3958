//! What goes wrong in tests: a state store that fails at chosen steps, before the effect (it never
//! happened) or after it (it happened and the answer was lost); a clock at which a task crashes.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use compute::SystemClock;
use engine::clock::Clock;
use futures::{FutureExt as _, future::BoxFuture};
use proto::{
    log::LogObject,
    types::{Epoch, JobId, SinkId},
};
use state_client::{
    Begun, CommittedOutput, Dropped, EpochDelta, Incarnation, OutputRequest, ReadReply,
    ReadRequest, ScanReply, ScanRequest, StateControl, StateError, StateStore,
};

/// A kind of step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// A task reads keys.
    Read,
    /// A task scans at its start.
    Scan,
    /// A task stages its section of an epoch.
    Stage,
    /// A publisher asks what it owes.
    Output,
    /// A generation begins.
    Begin,
    /// An epoch is committed.
    Commit,
    /// Output is reported as published.
    Published,
}

/// The `nth` step of a kind fails, counted from 1 over the life of the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Which kind.
    pub step: Step,
    /// Which of them.
    pub nth: u64,
    /// After its effect, rather than instead of it.
    pub after: bool,
}

/// A store with faults, and its control side.
#[derive(Clone)]
pub struct FaultyStore {
    store: Arc<dyn StateStore>,
    control: Arc<dyn StateControl>,
    faults: Arc<Vec<Fault>>,
    counts: Arc<[AtomicU64; 7]>,
    struck: Arc<AtomicU64>,
}

impl FaultyStore {
    /// A store that fails at these steps.
    #[must_use]
    pub fn new(
        store: Arc<dyn StateStore>,
        control: Arc<dyn StateControl>,
        faults: Vec<Fault>,
    ) -> Self {
        FaultyStore {
            store,
            control,
            faults: Arc::new(faults),
            counts: Arc::default(),
            struck: Arc::default(),
        }
    }

    /// How many faults have struck.
    #[must_use]
    pub fn struck(&self) -> u64 {
        self.struck.load(Ordering::SeqCst)
    }

    fn guard<T: Send + 'static>(
        &self,
        step: Step,
        act: BoxFuture<'static, Result<T, StateError>>,
    ) -> BoxFuture<'static, Result<T, StateError>> {
        let nth = self.counts[step as usize].fetch_add(1, Ordering::SeqCst) + 1;
        let fault = self
            .faults
            .iter()
            .find(|fault| fault.step == step && fault.nth == nth);
        let Some(fault) = fault.copied() else {
            return act;
        };
        let struck = Arc::clone(&self.struck);
        async move {
            struck.fetch_add(1, Ordering::SeqCst);
            if fault.after {
                let _ = act.await;
            }
            Err(StateError::Unavailable(format!("injected: {fault:?}")))
        }
        .boxed()
    }
}

impl StateStore for FaultyStore {
    fn read(
        &self,
        who: Incarnation,
        request: ReadRequest,
    ) -> BoxFuture<'static, Result<ReadReply, StateError>> {
        self.guard(Step::Read, self.store.read(who, request))
    }

    fn scan(
        &self,
        who: Incarnation,
        request: ScanRequest,
    ) -> BoxFuture<'static, Result<ScanReply, StateError>> {
        self.guard(Step::Scan, self.store.scan(who, request))
    }

    fn stage(
        &self,
        who: Incarnation,
        delta: EpochDelta,
    ) -> BoxFuture<'static, Result<Vec<LogObject>, StateError>> {
        self.guard(Step::Stage, self.store.stage(who, delta))
    }

    fn committed_output(
        &self,
        who: Incarnation,
        request: OutputRequest,
    ) -> BoxFuture<'static, Result<Vec<CommittedOutput>, StateError>> {
        self.guard(Step::Output, self.store.committed_output(who, request))
    }
}

impl StateControl for FaultyStore {
    fn begin(&self, who: Incarnation) -> BoxFuture<'static, Result<Begun, StateError>> {
        self.guard(Step::Begin, self.control.begin(who))
    }

    fn commit(
        &self,
        who: Incarnation,
        epoch: Epoch,
        objects: Vec<LogObject>,
        overtaken_bytes: u64,
    ) -> BoxFuture<'static, Result<(), StateError>> {
        self.guard(
            Step::Commit,
            self.control.commit(who, epoch, objects, overtaken_bytes),
        )
    }

    fn published(
        &self,
        who: Incarnation,
        sink: SinkId,
        epoch: Epoch,
    ) -> BoxFuture<'static, Result<(), StateError>> {
        self.guard(Step::Published, self.control.published(who, sink, epoch))
    }

    fn drop_job(&self, job: JobId) -> BoxFuture<'static, Result<Dropped, StateError>> {
        self.control.drop_job(job)
    }
}

/// Real time, and a crash of the task that looks at it the `nth` time, counted from 1. Tasks look
/// before and after every call of an operator, barriers included; nobody else does.
pub struct CrashClock {
    time: SystemClock,
    nth: Option<u64>,
    looks: AtomicU64,
}

impl CrashClock {
    /// A clock that crashes a task once, or never.
    #[must_use]
    pub fn new(nth: Option<u64>) -> Self {
        CrashClock {
            time: SystemClock::default(),
            nth,
            looks: AtomicU64::new(0),
        }
    }

    /// How often tasks have looked.
    #[must_use]
    pub fn looks(&self) -> u64 {
        self.looks.load(Ordering::SeqCst)
    }

    /// Crashes so far: 0 or 1.
    #[must_use]
    pub fn struck(&self) -> u64 {
        u64::from(self.nth.is_some_and(|nth| nth <= self.looks()))
    }
}

impl Clock for CrashClock {
    fn wall_ms(&self) -> i64 {
        self.time.wall_ms()
    }

    fn monotonic_ns(&self) -> u64 {
        let look = self.looks.fetch_add(1, Ordering::SeqCst) + 1;
        if Some(look) == self.nth {
            // A panic, without the message and backtrace of one that nobody wanted.
            std::panic::resume_unwind(Box::new(format!("injected: crash at look {look}")));
        }
        self.time.monotonic_ns()
    }
}
