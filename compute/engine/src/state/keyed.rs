//! Runs keyed logic over state that may have to be read first.
//!
//! A batch is split: rows whose key is in memory (or known not to exist) are processed at once,
//! the others wait for one batched read, and rows of a key behind waiting rows of that key wait
//! with them. Watermarks and barriers are fences: they pass only when all rows before them are
//! done. With everything in memory a batch costs one test more than without all this.

use std::collections::{BTreeMap, VecDeque};

use arrow::array::UInt32Array;
use proto::types::{Epoch, TableId};
use state_client::{KeyRequest, LoadedRow, ReadReply, ReadRequest, ScanReply};

use super::{
    elsewhere::Elsewhere,
    hashed::HashedSet,
    hydrator::{Hydrated, Hydrator},
    index::KeyIndex,
    sweep::{Expiring, Sweep},
    waiting::WaitingRows,
};
use crate::{
    ChangeBatch, Element, Timestamp,
    key::KeyBatch,
    operator::{Counters, Operator, OperatorContext, OperatorError, OperatorState, Step},
};

/// Rows that may wait before the operator takes no more input: a barrier behind them waits for all of
/// their reads, at tens of microseconds each.
const WAITING_ROWS_MAX: usize = 8_192;

/// Reads that rows need: (row of the batch, what to read), rows in ascending order.
pub type Wanted = Vec<(u32, KeyRequest)>;

/// What a keyed operator does with rows whose state is in memory.
pub trait KeyedLogic: Send {
    /// The keys of a batch: order is kept among rows of one hash.
    ///
    /// # Errors
    /// When a key cannot be made.
    fn keys(&mut self, input: usize, batch: &ChangeBatch) -> Result<KeyBatch, OperatorError>;

    /// Whether no row can need a read.
    fn is_resident(&self) -> bool;

    /// The reads that rows need and that have not been answered. Asked only of logic that is not
    /// resident.
    ///
    /// # Errors
    /// When a key cannot be made.
    fn wanted(
        &mut self,
        input: usize,
        batch: &ChangeBatch,
        keys: &KeyBatch,
    ) -> Result<Wanted, OperatorError>;

    /// The epoch that a read of this hash must see because its keys were evicted.
    fn evicted_as_of(&self, hash: u64) -> Epoch;

    /// The answer to one read.
    ///
    /// # Errors
    /// When a row does not decode.
    fn install(&mut self, request: &KeyRequest, rows: &[LoadedRow]) -> Result<(), OperatorError>;

    /// Processes rows whose state is in memory. [`Step::Done`] or [`Step::More`].
    ///
    /// # Errors
    /// What makes the job fail.
    fn process(
        &mut self,
        input: usize,
        batch: ChangeBatch,
        keys: KeyBatch,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError>;

    /// As [`Operator::resume`].
    ///
    /// # Errors
    /// What makes the job fail.
    fn resume(&mut self, _context: &mut OperatorContext<'_>) -> Result<Step, OperatorError> {
        Ok(Step::Done)
    }

    /// Before a watermark passes: rows that the logic has held back until then, as a batch of an input
    /// of their own, so that their keys are read like those of any rows. Asked again until there are
    /// none.
    ///
    /// # Errors
    /// When they do not decode.
    fn due(
        &mut self,
        _watermark: Timestamp,
    ) -> Result<Option<(usize, ChangeBatch)>, OperatorError> {
        Ok(None)
    }

    /// As [`Operator::watermark`].
    ///
    /// # Errors
    /// What makes the job fail.
    fn watermark(
        &mut self,
        watermark: Timestamp,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        context.out.element(Element::Watermark(watermark));
        Ok(Step::Done)
    }

    /// As [`Operator::barrier`].
    ///
    /// # Errors
    /// What makes the job fail.
    fn barrier(
        &mut self,
        epoch: Epoch,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        context.out.element(Element::barrier(epoch));
        Ok(Step::Done)
    }

    /// As [`Operator::end`].
    ///
    /// # Errors
    /// What makes the job fail.
    fn end(&mut self, context: &mut OperatorContext<'_>) -> Result<Step, OperatorError> {
        context.out.element(Element::End);
        Ok(Step::Done)
    }

    /// The state side.
    fn state(&mut self) -> &mut dyn OperatorState;

    /// The tables of which [`KeyedLogic::wanted`] asks for all rows of a hash, which are read back in the
    /// background.
    fn whole_tables(&self) -> Vec<TableId>;

    /// The index of its keys.
    fn index(&self) -> &KeyIndex;

    /// The same.
    fn index_mut(&mut self) -> &mut KeyIndex;

    /// The state as what expires by age, if it does.
    fn expiring(&mut self) -> Option<&mut dyn Expiring> {
        None
    }

    /// Whether it can go back in place.
    fn can_roll_back(&self) -> bool {
        true
    }

    /// Forgets all that was changed after `restored`; see [`Operator::roll_back`].
    fn roll_back(&mut self, restored: Epoch);
}

/// An operator around [`KeyedLogic`].
pub struct Keyed<L> {
    logic: L,
    waiting: WaitingRows,
    /// Rows to be looked at again after a reply, by input.
    readmitted: VecDeque<(usize, ChangeBatch)>,
    in_flight: BTreeMap<u64, Vec<KeyRequest>>,
    requested: HashedSet<KeyRequest>,
    next_ticket: u64,
    fence: Option<Fence>,
    sweep: Sweep,
    hydrator: Hydrator,
}

#[derive(Clone, Copy)]
enum Fence {
    Watermark(Timestamp),
    Barrier(Epoch),
    End,
}

impl<L: KeyedLogic> Keyed<L> {
    /// An operator of this logic.
    pub fn new(mut logic: L) -> Self {
        let sweep = match logic.expiring() {
            Some(_) => Sweep::begin(),
            None => Sweep::default(),
        };
        let hydrator = Hydrator::new(logic.whole_tables());
        Keyed {
            logic,
            sweep,
            hydrator,
            waiting: WaitingRows::default(),
            readmitted: VecDeque::new(),
            in_flight: BTreeMap::new(),
            requested: HashedSet::default(),
            next_ticket: 0,
            fence: None,
        }
    }

    /// Processes what is ready of a batch and has the rest wait.
    fn admit(
        &mut self,
        input: usize,
        batch: ChangeBatch,
        keys: KeyBatch,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        let wanted = self.logic.wanted(input, &batch, &keys)?;
        for (row, _) in &wanted {
            self.waiting.hold(keys.hashes[*row as usize]);
        }
        self.request(wanted, context);
        let is_held = |row: &u32| self.waiting.is_held(keys.hashes[*row as usize]);
        let (held, ready): (Vec<u32>, Vec<u32>) = (0..batch.num_rows() as u32).partition(is_held);
        if held.is_empty() {
            return self.logic.process(input, batch, keys, context);
        }
        context.counters.state_misses += held.len() as u64;
        let hashes: Vec<u64> = held.iter().map(|row| keys.hashes[*row as usize]).collect();
        let rows = batch.take(&UInt32Array::from(held))?;
        self.waiting.push(input, rows, &hashes);
        if ready.is_empty() {
            return Ok(Step::Done);
        }
        let ready_keys = keys.take(&ready);
        let ready = batch.take(&UInt32Array::from(ready))?;
        self.logic.process(input, ready, ready_keys, context)
    }

    fn request(&mut self, wanted: Wanted, context: &mut OperatorContext<'_>) {
        // Keys that have moved wait for another epoch than others, which must not wait with them.
        let mut by_epoch: BTreeMap<Epoch, Vec<KeyRequest>> = BTreeMap::new();
        for (_, key) in wanted {
            if self.requested.insert(key) {
                let evicted = self.logic.evicted_as_of(key.hash);
                let min_epoch = context.scope.min_epoch(key.hash).max(evicted);
                self.waiting.asked(key.hash);
                by_epoch.entry(min_epoch).or_default().push(key);
            }
        }
        for (min_epoch, keys) in by_epoch {
            let ticket = self.next_ticket;
            self.next_ticket += 1;
            let request = ReadRequest {
                min_epoch,
                keys: keys.clone(),
            };
            context.out.read(ticket, request);
            self.in_flight.insert(ticket, keys);
        }
    }

    /// Goes on after the logic has left off with `step`: looks at records again, passes the fence.
    fn advance(
        &mut self,
        mut step: Step,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        while step == Step::Done {
            let next = match self.readmitted.pop_front() {
                Some(next) => Some(next),
                None => self.due()?,
            };
            if let Some((input, batch)) = next {
                let keys = self.logic.keys(input, &batch)?;
                step = self.admit(input, batch, keys, context)?;
            } else if !self.waiting.is_empty() || self.awaits_replies() {
                let full = self.fence.is_some() || self.waiting.rows() > WAITING_ROWS_MAX;
                return Ok(if full { Step::Blocked } else { Step::Waiting });
            } else {
                step = match self.fence.take() {
                    None => return Ok(Step::Done),
                    Some(Fence::Watermark(watermark)) => {
                        self.sweep.watermark(watermark);
                        self.set_time(context);
                        self.logic.watermark(watermark, context)?
                    }
                    Some(Fence::Barrier(epoch)) => self.logic.barrier(epoch, context)?,
                    Some(Fence::End) => self.logic.end(context)?,
                };
            }
        }
        Ok(step)
    }

    /// Rows that the watermark at the fence lets go, a few at a time.
    fn due(&mut self) -> Result<Option<(usize, ChangeBatch)>, OperatorError> {
        match self.fence {
            Some(Fence::Watermark(watermark)) if self.waiting.rows() <= WAITING_ROWS_MAX => {
                self.logic.due(watermark)
            }
            _ => Ok(None),
        }
    }

    /// Replies that no row needs any more (its group turned out not to exist) come before a barrier all
    /// the same: after it their key group may be another task's, or their key may have gone from memory,
    /// and what they tell would be out of date.
    fn awaits_replies(&self) -> bool {
        matches!(self.fence, Some(Fence::Barrier(_) | Fence::End)) && !self.in_flight.is_empty()
    }

    /// Tells state that expires what time it is.
    fn set_time(&mut self, context: &OperatorContext<'_>) {
        if let Some(state) = self.logic.expiring() {
            state.set_now(self.sweep.now(state.ttl(), context.clock));
        }
    }

    /// Takes into memory what a scan has brought.
    fn hydrate(&mut self, counters: &mut Counters) -> Result<(), OperatorError> {
        self.hydrator.go_on_with(self.logic.index().hydrates());
        while let Some(Hydrated { hash, tables }) = self.hydrator.next() {
            let key = |table: &TableId| KeyRequest {
                table: *table,
                namespace: 0,
                hash,
                sub: None,
            };
            // A reply that is on its way would undo what happens until it comes.
            let is_asked = tables
                .iter()
                .any(|(table, _)| self.requested.contains(&key(table)));
            if !is_asked && self.logic.index().may_hydrate(hash) {
                counters.hydrated_keys += 1;
                for (table, rows) in &tables {
                    self.logic.install(&key(table), rows)?;
                }
            } else if is_asked || self.logic.index().is_unknown(hash) {
                self.logic.index_mut().leave_out(hash);
            }
        }
        if let Some(group) = self.hydrator.ended() {
            self.logic.index_mut().end_hydration(group);
        }
        Ok(())
    }

    fn request_keys(&mut self, keys: Vec<KeyRequest>, context: &mut OperatorContext<'_>) {
        let wanted = keys.into_iter().map(|key| (0, key)).collect();
        self.request(wanted, context);
    }

    fn fence(
        &mut self,
        fence: Fence,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        assert!(
            self.fence.is_none(),
            "nothing is given to an operator that waits at a fence"
        );
        self.fence = Some(fence);
        self.advance(Step::Done, context)
    }
}

impl<L: KeyedLogic> Operator for Keyed<L> {
    fn batch(
        &mut self,
        input: usize,
        batch: ChangeBatch,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        self.set_time(context);
        let keys = self.logic.keys(input, &batch)?;
        if self.waiting.is_empty() && self.logic.is_resident() {
            return self.logic.process(input, batch, keys, context);
        }
        let step = self.admit(input, batch, keys, context)?;
        self.advance(step, context)
    }

    fn watermark(
        &mut self,
        watermark: Timestamp,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        self.fence(Fence::Watermark(watermark), context)
    }

    fn barrier(
        &mut self,
        epoch: Epoch,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        self.fence(Fence::Barrier(epoch), context)
    }

    fn end(&mut self, context: &mut OperatorContext<'_>) -> Result<Step, OperatorError> {
        self.fence(Fence::End, context)
    }

    fn resume(&mut self, context: &mut OperatorContext<'_>) -> Result<Step, OperatorError> {
        let step = self.logic.resume(context)?;
        self.advance(step, context)
    }

    fn loaded(
        &mut self,
        ticket: u64,
        reply: ReadReply,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        let Some(keys) = self.in_flight.remove(&ticket) else {
            return Ok(Step::Done);
        };
        self.set_time(context);
        for (key, rows) in keys.iter().zip(&reply.rows) {
            self.requested.remove(key);
            self.logic.install(key, rows)?;
            self.waiting.answered(key.hash);
        }
        self.readmitted.extend(self.waiting.take_ready()?);
        self.advance(Step::Done, context)
    }

    fn scanned(
        &mut self,
        ticket: u64,
        reply: ScanReply,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        if self.hydrator.scanned(ticket, &reply, context.clock) {
            self.hydrate(context.counters)?;
        } else if let Some(state) = self.logic.expiring() {
            let overdue = self.sweep.scanned(ticket, &reply, state, context.clock);
            self.request_keys(overdue, context);
        }
        self.advance(Step::Done, context)
    }

    fn deadline_ns(&self) -> Option<u64> {
        self.sweep.deadline_ns()
    }

    fn deadline(&mut self, context: &mut OperatorContext<'_>) -> Result<Step, OperatorError> {
        if let Some(state) = self.logic.expiring() {
            let wanted = self.sweep.step(state, &mut self.next_ticket, context)?;
            self.request_keys(wanted, context);
        }
        self.advance(Step::Done, context)
    }

    fn read_ahead_ns(&self) -> Option<u64> {
        let rows_wait = !self.waiting.is_empty();
        self.hydrator.due_ns(self.logic.index(), rows_wait)
    }

    fn read_ahead(&mut self, context: &mut OperatorContext<'_>) {
        let (index, ticket) = (self.logic.index_mut(), &mut self.next_ticket);
        self.hydrator.step(index, ticket, context);
    }

    fn state(&mut self) -> Option<&mut dyn OperatorState> {
        Some(self.logic.state())
    }

    fn elsewhere(&mut self) -> Option<&mut Elsewhere> {
        Some(self.logic.index_mut().elsewhere())
    }

    fn roll_back(&mut self, restored: Epoch) -> bool {
        if !self.logic.can_roll_back() {
            return false;
        }
        // Rows on their way come again, and replies are for nobody.
        self.waiting.clear();
        self.readmitted.clear();
        self.in_flight.clear();
        self.requested.clear();
        self.fence = None;
        self.sweep.roll_back();
        self.hydrator.roll_back();
        self.logic.roll_back(restored);
        true
    }
}
