//! Steps an operator through a script, as its task and the state service would.

use std::{
    sync::Arc,
    task::{Context, Waker},
};

use engine::{
    ChangeBatch, Element,
    clock::{Clock as _, ManualClock},
    operator::{Counters, Operator, OperatorContext, OperatorError, Outbox, Step, TaskScope},
    source::DeadLetter,
    spill::{Evicted, MemoryScratch, Spill},
    state::ScanJob,
};
use futures::{executor::block_on, future::BoxFuture};
use proto::types::{Epoch, Generation, JobId, TaskId};
use state_client::{
    Cut, EpochDelta, Incarnation, MemoryStore, ReadReply, ReadRequest, ScanRequest, Section,
    StateControl as _, StateError, StateStore as _,
};

use super::{
    behind::Behind,
    script::{Event, MakeOperator, scope},
};

/// Scratch files have room for a few records, and there is room for a few files.
const SCRATCH_FILE_BYTES: u64 = 4 << 10;
const SCRATCH_FILES: usize = 6;

/// Time passes in steps of this.
const SLICE_MS: u64 = 500;

/// A read under way: as of this epoch at least.
type Asked = (Epoch, Question);

enum Question {
    Store(ReadRequest),
    /// Begun, for files may go.
    Spilled(BoxFuture<'static, Result<ReadReply, StateError>>),
}

pub(super) struct Run<'a> {
    make: &'a MakeOperator<'a>,
    /// What is committed.
    pub(super) store: MemoryStore,
    /// What answers the operator.
    behind: Behind,
    pub(super) who: Incarnation,
    pub(super) scope: TaskScope,
    pub(super) operator: Box<dyn Operator>,
    out: Outbox,
    clock: ManualClock,
    pub(super) counters: Counters,
    dead_letters: Vec<DeadLetter>,
    step: Step,
    reads: Vec<(u64, Asked)>,
    scratch: Arc<MemoryScratch>,
    spill: Spill,
    scans: Vec<(u64, ScanRequest)>,
    pub(super) output: Vec<Element>,
    /// What leaves beside the output.
    pub(super) late: Vec<(usize, ChangeBatch)>,
    /// Of which inputs late rows are taken.
    pub(super) late_of: Vec<usize>,
    epoch: Epoch,
    pub(super) committed: Epoch,
    /// Frozen, and not yet committed.
    freezing: bool,
    random: u64,
    /// Which half of the key groups moves.
    half: u16,
    /// No key groups move, memory is never short, and after a crash nothing is left.
    pub(super) is_calm: bool,
}

impl<'a> Run<'a> {
    pub(super) fn new(make: &'a MakeOperator<'a>, seed: u64) -> Self {
        let scope = scope(Epoch::ZERO);
        let who = Incarnation {
            job: JobId(1),
            generation: Generation(1),
        };
        let store = MemoryStore::new(scope.key_groups);
        block_on(store.begin(who)).expect("a first generation");
        let mut behind = Behind::new(scope.key_groups);
        behind.begin(who);
        let scratch = Arc::new(MemoryScratch::new(SCRATCH_FILE_BYTES, SCRATCH_FILES));
        Run {
            make,
            store,
            behind,
            who,
            operator: make(&scope).expect("an operator"),
            scope,
            out: Outbox::default(),
            clock: ManualClock::default(),
            counters: Counters::default(),
            dead_letters: Vec::new(),
            step: Step::Done,
            reads: Vec::new(),
            spill: Spill::new(scratch.clone()),
            scratch,
            scans: Vec::new(),
            output: Vec::new(),
            late: Vec::new(),
            late_of: Vec::new(),
            epoch: Epoch::ZERO,
            committed: Epoch::ZERO,
            freezing: false,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            half: (seed % 2) as u16,
            is_calm: false,
        }
    }

    pub(super) fn script(&mut self, events: &[Event], crashes: impl Fn(Epoch) -> bool) {
        self.take_late_rows();
        let mut index = 0;
        while index < events.len() {
            self.give(&events[index]);
            index += 1;
            if matches!(events[index - 1], Event::Barrier) && crashes(self.epoch) {
                // It goes on for a while before it dies; what it does then is lost.
                self.drain_reads();
                let kept = (self.output.len(), self.late.len());
                let zombie_events = events[index..]
                    .iter()
                    .take_while(|event| !matches!(event, Event::Barrier | Event::End));
                // Time does not pass twice.
                let acts = |event: &&Event| !matches!(event, Event::Passes(_));
                for event in zombie_events.filter(acts).take(2) {
                    self.give(event);
                }
                self.commit();
                self.output.truncate(kept.0);
                self.late.truncate(kept.1);
                self.restart();
            }
        }
        self.drain_reads();
        self.commit();
    }

    fn take_late_rows(&mut self) {
        let inputs = self.late_of.iter();
        inputs.for_each(|input| self.out.take_late_rows_of(*input));
    }

    fn random(&mut self, below: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 33) as usize % below
    }

    fn call(
        &mut self,
        act: impl FnOnce(&mut dyn Operator, &mut OperatorContext<'_>) -> Result<Step, OperatorError>,
    ) {
        self.step = self.with_context(act).expect("the operator goes on");
        self.collect();
        while self.step == Step::More {
            let resumed = self.with_context(|operator, context| operator.resume(context));
            self.step = resumed.expect("the operator goes on");
            self.collect();
        }
    }

    fn with_context<T>(
        &mut self,
        act: impl FnOnce(&mut dyn Operator, &mut OperatorContext<'_>) -> T,
    ) -> T {
        let mut context = OperatorContext {
            out: &mut self.out,
            clock: &self.clock,
            scope: &self.scope,
            counters: &mut self.counters,
            dead_letters: &mut self.dead_letters,
        };
        act(self.operator.as_mut(), &mut context)
    }

    fn collect(&mut self) {
        for (ticket, request) in self.out.take_reads() {
            let min_epoch = request.min_epoch;
            let store = Arc::new(self.behind.store().clone());
            let read = match self.operator.elsewhere() {
                Some(elsewhere) => self.spill.take(request, elsewhere),
                None => Err(request),
            };
            let question = match read {
                Ok(read) => Question::Spilled(read.send(store, self.who)),
                Err(request) => Question::Store(request),
            };
            self.reads.push((ticket, (min_epoch, question)));
        }
        self.scans.extend(self.out.take_scans());
        while let Some(late) = self.out.pop_late() {
            self.late.push(late);
        }
        while let Some(element) = self.out.pop() {
            if let Element::Barrier(barrier) = &element {
                let epoch = barrier.epoch;
                assert_eq!(epoch, self.epoch, "barriers come out as they go in");
                assert!(self.out.is_empty(), "nothing follows a barrier");
                if let Some(state) = self.operator.state() {
                    state.freeze(epoch);
                }
                self.freezing = true;
                let moves = self.random(3) == 0;
                self.output.push(element);
                if moves && !self.is_calm {
                    self.move_key_groups();
                }
                continue;
            }
            self.output.push(element);
        }
    }

    pub(super) fn give(&mut self, event: &Event) {
        while !self.reads.is_empty() && (self.step == Step::Blocked || self.random(3) == 0) {
            self.answer_one();
        }
        assert_ne!(self.step, Step::Blocked, "blocked without a read under way");
        match event {
            Event::Batch(input, batch) => {
                let (input, batch) = (*input, batch.clone());
                self.call(|operator, context| operator.batch(input, batch, context));
            }
            Event::Watermark(time) => {
                self.call(|operator, context| operator.watermark(*time, context));
            }
            Event::Barrier => {
                self.commit();
                self.epoch = self.epoch.next();
                let epoch = self.epoch;
                self.call(|operator, context| operator.barrier(epoch, context));
            }
            Event::End => self.call(|operator, context| operator.end(context)),
            Event::Passes(ms) => self.pass(*ms),
            Event::Moves(behind_ms) => {
                self.commit();
                let now_ms = self.clock.wall_ms().unsigned_abs();
                self.clock = ManualClock::default();
                self.clock.advance_ms(now_ms.saturating_sub(*behind_ms));
                self.restart();
            }
        }
        self.evict();
        self.hydrate_some();
        if self.freezing && self.random(2) == 0 && self.operator.state().is_none_or(|s| s.encode(2))
        {
            self.commit();
        }
    }

    /// Time passes, and the operator is called when it asked to be.
    fn pass(&mut self, ms: u64) {
        self.drain_reads();
        let mut left = ms;
        while left > 0 {
            let slice = left.min(SLICE_MS);
            left -= slice;
            self.clock.advance_ms(slice);
            // More calls than a walk through all key groups takes.
            for _ in 0..64 {
                let due = self.operator.deadline_ns();
                let is_due = due.is_some_and(|due| due <= self.clock.monotonic_ns());
                if is_due {
                    self.call(|operator, context| operator.deadline(context));
                }
                if !self.read_ahead() && !is_due {
                    break;
                }
                self.drain_reads();
            }
        }
    }

    /// Now and then an operator is called that has something to do beside its rows, and a scan is answered.
    fn hydrate_some(&mut self) {
        let now_ns = self.clock.monotonic_ns();
        let is_due = self.operator.deadline_ns().is_some_and(|due| due <= now_ns);
        if is_due && matches!(self.step, Step::Done | Step::Waiting) && self.random(2) == 0 {
            self.call(|operator, context| operator.deadline(context));
        }
        // Whatever it waits for.
        if self.random(2) == 0 {
            self.read_ahead();
        }
        while !self.scans.is_empty() && self.random(3) > 0 {
            self.answer_scan();
        }
    }

    /// Lets it ask for what no row waits for, if it is time; whether it was.
    fn read_ahead(&mut self) -> bool {
        let now_ns = self.clock.monotonic_ns();
        let is_due = (self.operator.read_ahead_ns()).is_some_and(|due| due <= now_ns);
        if is_due {
            self.with_context(|operator, context| operator.read_ahead(context));
            self.collect();
        }
        is_due
    }

    fn answer_scan(&mut self) {
        let index = self.random(self.scans.len());
        let (ticket, request) = self.scans.swap_remove(index);
        self.catch_up(request.min_epoch);
        let reply = block_on(self.behind.store().scan(self.who, request)).expect("a reply");
        self.call(|operator, context| operator.scanned(ticket, reply, context));
    }

    fn answer_one(&mut self) {
        let index = self.random(self.reads.len());
        let (ticket, (min_epoch, question)) = self.reads.swap_remove(index);
        self.catch_up(min_epoch);
        let reply = match question {
            Question::Spilled(reply) => block_on(reply),
            Question::Store(request) => block_on(self.behind.store().read(self.who, request)),
        };
        let reply = reply.expect("a reply");
        self.call(|operator, context| operator.loaded(ticket, reply, context));
        self.evict();
    }

    /// The store that answers hears of an epoch, if it has not, and now and then of another one.
    fn catch_up(&mut self, epoch: Epoch) {
        if epoch > self.committed {
            // Of a key group that came with the last barrier.
            self.commit();
        }
        self.behind.catch_up(epoch);
        if self.random(4) == 0 {
            self.behind.go_on();
        }
    }

    pub(super) fn drain_reads(&mut self) {
        while !self.reads.is_empty() || !self.scans.is_empty() {
            match self.reads.is_empty() {
                true => self.answer_scan(),
                false => self.answer_one(),
            }
        }
        assert_eq!(self.step, Step::Done, "all reads are answered");
    }

    /// Half of the key groups go to another task and come back at once: all that the operator has of
    /// them is forgotten, and read again.
    fn move_key_groups(&mut self) {
        let all = self.scope.clone();
        let half = all.owned.iter().filter(|group| group.0 % 2 == self.half);
        let fewer = TaskScope {
            owned: half.collect(),
            ..all.clone()
        };
        let (fewer, left) = all.reassigned(&fewer, self.epoch);
        let (again, came) = fewer.reassigned(&all, self.epoch);
        let mut jobs = Vec::new();
        if let Some(state) = self.operator.state() {
            jobs.extend(state.reassign(&fewer, &left));
            jobs.extend(state.reassign(&again, &came));
        }
        self.scope = again;
        if !jobs.is_empty() {
            self.commit();
            self.hydrate(jobs);
        }
    }

    /// Encodes the rest of the frozen epoch and commits it.
    pub(super) fn commit(&mut self) {
        if self.committed == self.epoch {
            return;
        }
        if !self.freezing {
            // The barrier still waits behind reads.
            self.drain_reads();
        }
        assert!(
            self.freezing,
            "a barrier comes out once its reads are answered"
        );
        self.freezing = false;
        self.committed = self.epoch;
        let epoch = self.epoch;
        let delta = match self.operator.state() {
            None => engine::state::StateDelta::default(),
            Some(state) => {
                while !state.encode(3) {}
                state.take_delta()
            }
        };
        let cut = Cut {
            key_groups: self.scope.key_groups,
            shards: 4,
            tasks: 1,
        };
        let tables = delta.tables.iter();
        if let Some(elsewhere) = self.operator.elsewhere() {
            let hashes = tables.flat_map(|table| table.rows.hashes());
            self.spill.forget(hashes, elsewhere);
        }
        let changes = delta.into_changes(epoch, cut.key_groups);
        let mut delta = EpochDelta::new(self.who, epoch, TaskId(0), cut, changes);
        for section in &mut delta.sections {
            *section = Section::decode(section.encode()).expect("a section");
        }
        self.behind.commit(self.who, delta.clone());
        let objects = block_on(self.store.stage(self.who, delta)).expect("staged");
        block_on(self.store.commit(self.who, epoch, objects, 0)).expect("committed");
        // Tasks are told late, or not at all.
        if self.random(4) > 0
            && let Some(state) = self.operator.state()
        {
            state.committed(epoch);
        }
    }

    /// Now and then memory is short: what can go from it does.
    fn evict(&mut self) {
        if self.random(3) == 0
            && !self.is_calm
            && let Some(state) = self.operator.state()
        {
            let mut evicted = Evicted::kept();
            self.counters.evicted_keys += state.evict(u64::MAX, &mut evicted);
            if let Some(elsewhere) = self.operator.elsewhere() {
                self.spill.put(&evicted, elsewhere);
            }
        }
        let is_broken = self.random(16) == 0;
        self.scratch.set_broken(is_broken);
        let mut cx = Context::from_waker(Waker::noop());
        if let Some(elsewhere) = self.operator.elsewhere() {
            self.spill.poll(&mut cx, elsewhere);
        }
    }

    /// Goes on from the last commit: with what it has, as far as that still counts, or anew.
    pub(super) fn restart(&mut self) {
        self.who.generation = self.who.generation.next();
        let begun = block_on(self.store.begin(self.who)).expect("a generation");
        self.behind.begin(self.who);
        let committed = begun.restored;
        assert_eq!(committed, self.epoch, "the epoch was committed");
        self.scope = scope(committed);
        self.out = Outbox::default();
        self.take_late_rows();
        self.reads.clear();
        self.scans.clear();
        self.step = Step::Done;
        self.counters = Counters::default();
        self.freezing = false;
        if !self.is_calm && self.random(2) == 0 && self.operator.roll_back(committed) {
            return;
        }
        self.spill = Spill::new(self.scratch.clone());
        self.operator = (self.make)(&self.scope).expect("an operator");
        let jobs = match self.operator.state() {
            Some(state) => state.hydrate(&self.scope),
            None => Vec::new(),
        };
        self.hydrate(jobs);
    }

    fn hydrate(&mut self, jobs: Vec<ScanJob>) {
        self.behind.catch_up(self.committed);
        for job in jobs {
            let mut request = ScanRequest {
                min_epoch: self.committed,
                table: job.table,
                key_group: job.key_group,
                namespace: None,
                cursor: None,
                bytes_max: 64,
            };
            loop {
                let scanned = self.behind.store().scan(self.who, request.clone());
                let reply = block_on(scanned).expect("a scan");
                let state = self.operator.state().expect("it has state");
                state.hydrated(&job, &reply).expect("rows that decode");
                match reply.cursor {
                    None => break,
                    cursor => request.cursor = cursor,
                }
            }
        }
    }
}
