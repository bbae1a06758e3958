//! What an operator implements, and what its task gives it.
//!
//! The contract: elements come in order per input, and what is put into the [`Outbox`] leaves in
//! that order. An operator gets its next element only when its outbox is empty and its last
//! [`Step`] allows it, so a queue of its own is bounded by what one element can cause; one that
//! would emit much stops early, answers [`Step::More`] and goes on in [`Operator::resume`].
//! Rows that come too late leave beside the output ([`OperatorContext::drop_late`]), for whoever takes
//! them; consumers of the output never see them.

use std::collections::VecDeque;

use arrow::error::ArrowError;
use proto::{
    control::Retry,
    types::{Epoch, KeyGroup, KeyGroupCount, KeyGroupSet},
};
use state_client::{ReadReply, ReadRequest, ScanReply, ScanRequest, StateError};

use crate::{
    ChangeBatch, Element, Timestamp,
    clock::Clock,
    late::LateRows,
    source::DeadLetter,
    spill::Evicted,
    state::{Elsewhere, ScanJob, StateDelta},
};

/// How an operator left off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// All that was given is done: next element, please.
    Done,
    /// There is more to emit: call [`Operator::resume`] once the outbox is empty.
    More,
    /// State reads are under way; batches are still welcome, watermarks and barriers are queued
    /// behind the rows that wait.
    Waiting,
    /// State reads are under way and nothing more is taken before they are answered.
    Blocked,
}

/// What an operator has put out and not yet been taken from it.
#[derive(Debug, Default)]
pub struct Outbox {
    elements: VecDeque<Element>,
    /// Rows that came too late, by the input that they came from. They leave before the elements.
    late: VecDeque<(usize, ChangeBatch)>,
    /// Of which inputs somebody takes late rows.
    late_inputs: Vec<usize>,
    reads: Vec<(u64, ReadRequest)>,
    scans: Vec<(u64, ScanRequest)>,
}

impl Outbox {
    /// Emits rows; an empty batch is dropped.
    pub fn batch(&mut self, batch: ChangeBatch) {
        if batch.num_rows() > 0 {
            self.elements.push_back(Element::Batch(batch));
        }
    }

    /// Emits any element.
    pub fn element(&mut self, element: Element) {
        self.elements.push_back(element);
    }

    /// Asks for state; the reply comes to [`Operator::loaded`] with the same ticket.
    pub fn read(&mut self, ticket: u64, request: ReadRequest) {
        self.reads.push((ticket, request));
    }

    /// Asks for a piece of a table; the reply comes to [`Operator::scanned`] with the same ticket.
    pub fn scan(&mut self, ticket: u64, request: ScanRequest) {
        self.scans.push((ticket, request));
    }

    /// Takes the oldest element.
    pub fn pop(&mut self) -> Option<Element> {
        self.elements.pop_front()
    }

    /// Has late rows of an input put out, too: nobody takes them otherwise, and they are only counted.
    pub fn take_late_rows_of(&mut self, input: usize) {
        self.late_inputs.push(input);
    }

    /// The oldest late rows and the input that they came from; see [`LateRows::batch`] for their
    /// columns.
    pub fn pop_late(&mut self) -> Option<(usize, ChangeBatch)> {
        self.late.pop_front()
    }

    /// The input of the oldest late rows.
    pub(crate) fn next_late(&self) -> Option<usize> {
        self.late.front().map(|(input, _)| *input)
    }

    /// The oldest element.
    pub(crate) fn front(&self) -> Option<&Element> {
        self.elements.front()
    }

    /// Whether nothing waits to be taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.elements.is_empty() && self.late.is_empty()
    }

    /// Takes the read requests.
    pub fn take_reads(&mut self) -> Vec<(u64, ReadRequest)> {
        std::mem::take(&mut self.reads)
    }

    /// Takes the scan requests.
    pub fn take_scans(&mut self) -> Vec<(u64, ScanRequest)> {
        std::mem::take(&mut self.scans)
    }

    /// Rows that wait in the outbox.
    #[must_use]
    pub fn num_rows(&self) -> usize {
        let rows = |element: &Element| match element {
            Element::Batch(batch) => batch.num_rows(),
            _ => 0,
        };
        self.elements.iter().map(rows).sum()
    }
}

/// Where an operator runs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TaskScope {
    /// Index of the task among those of its fragment.
    pub index: usize,
    /// Number of tasks of the fragment.
    pub parallelism: usize,
    /// Key groups that the task owns.
    pub owned: KeyGroupSet,
    /// Key groups of the job.
    pub key_groups: KeyGroupCount,
    /// Rows that a batch should have.
    pub batch_rows: usize,
    /// Last committed epoch that the job starts from; [`Epoch::ZERO`]: from nothing.
    pub restored: Epoch,
    /// Key groups that came last, and the epoch as of which they did.
    pub came: Option<(Epoch, KeyGroupSet)>,
}

impl TaskScope {
    /// The epoch that a read of this key must see: nothing that the task has in memory is older.
    #[must_use]
    pub fn min_epoch(&self, hash: u64) -> Epoch {
        self.min_epoch_of(self.key_groups.of_hash(hash))
    }

    /// The same for all of a key group.
    #[must_use]
    pub fn min_epoch_of(&self, group: KeyGroup) -> Epoch {
        match &self.came {
            Some((epoch, groups)) if groups.contains(group) => *epoch,
            _ => self.restored,
        }
    }

    /// The scope after a change of the routing at barrier `epoch`, and what changes by it.
    #[must_use]
    pub fn reassigned(&self, to: &TaskScope, epoch: Epoch) -> (TaskScope, Reassigned) {
        let came = to.owned.minus(&self.owned);
        let change = Reassigned {
            epoch,
            left: self.owned.minus(&to.owned),
            came: came.clone(),
        };
        let scope = TaskScope {
            // What came before is known to be committed by now: its epoch was the last one but some.
            restored: self
                .came
                .as_ref()
                .map_or(self.restored, |(before, _)| *before),
            came: Some((epoch, came)),
            ..to.clone()
        };
        (scope, change)
    }
}

/// How the key groups of a task change at a barrier.
#[derive(Clone, Debug)]
pub struct Reassigned {
    /// The epoch that ends with the barrier: what came is read as of it.
    pub epoch: Epoch,
    /// Key groups that other tasks own from now on.
    pub left: KeyGroupSet,
    /// Key groups that other tasks have owned until now.
    pub came: KeyGroupSet,
}

/// What an operator may use while it works.
pub struct OperatorContext<'a> {
    /// Output.
    pub out: &'a mut Outbox,
    /// Time.
    pub clock: &'a dyn Clock,
    /// Where it runs.
    pub scope: &'a TaskScope,
    /// Counters that the operator itself keeps (late rows, …).
    pub counters: &'a mut Counters,
    /// Records that could not be read, on their way out of the task.
    pub dead_letters: &'a mut Vec<DeadLetter>,
}

impl OperatorContext<'_> {
    /// These rows of `batch`, which came by `input`, are dropped because they came too late. They are
    /// counted, and put out beside the output where somebody takes them.
    ///
    /// # Errors
    /// When there are rows in `late` that the batch does not have.
    pub fn drop_late(
        &mut self,
        input: usize,
        batch: &ChangeBatch,
        late: &LateRows,
    ) -> Result<(), OperatorError> {
        if late.is_empty() {
            return Ok(());
        }
        self.counters.late_rows += late.len() as u64;
        if self.out.late_inputs.contains(&input) {
            let rows = late.batch(batch)?;
            self.out.late.push_back((input, rows));
        }
        Ok(())
    }
}

/// What an operator counts beside rows and time, which its task counts.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Counters {
    /// Rows dropped because they came too late.
    pub late_rows: u64,
    /// Rows that had to wait for a state read.
    pub state_misses: u64,
    /// Keys that were taken out of memory because it was short.
    pub evicted_keys: u64,
    /// Keys that were read back in the background.
    pub hydrated_keys: u64,
    /// Of a source: rows that it could read by now and has not, where it can tell.
    pub backlog_rows: Option<u64>,
}

/// A node of a fragment.
pub trait Operator: Send {
    /// Takes rows of input `input`.
    ///
    /// # Errors
    /// What makes the job fail (and roll back to its last checkpoint).
    fn batch(
        &mut self,
        input: usize,
        batch: ChangeBatch,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError>;

    /// The combined watermark of all inputs has reached `watermark`. Emits what is due, then the
    /// watermark itself (or a later one of the same kind).
    ///
    /// # Errors
    /// As [`Operator::batch`].
    fn watermark(
        &mut self,
        watermark: Timestamp,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        context.out.element(Element::Watermark(watermark));
        Ok(Step::Done)
    }

    /// All inputs are idle. Others' time goes on: what comes next may be late elsewhere, though the
    /// watermark here has not passed it.
    fn idle(&mut self) {}

    /// A barrier, aligned over all inputs: emit what is held back only for better batches, then
    /// the barrier.
    ///
    /// # Errors
    /// As [`Operator::batch`].
    fn barrier(
        &mut self,
        epoch: Epoch,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        context.out.element(Element::barrier(epoch));
        Ok(Step::Done)
    }

    /// All inputs have ended (each after a watermark of [`crate::TIMESTAMP_MAX`] if it has event
    /// time): emit what is held back, then the end.
    ///
    /// # Errors
    /// As [`Operator::batch`].
    fn end(&mut self, context: &mut OperatorContext<'_>) -> Result<Step, OperatorError> {
        context.out.element(Element::End);
        Ok(Step::Done)
    }

    /// Goes on after [`Step::More`].
    ///
    /// # Errors
    /// As [`Operator::batch`].
    fn resume(&mut self, _context: &mut OperatorContext<'_>) -> Result<Step, OperatorError> {
        Ok(Step::Done)
    }

    /// The reply to a read.
    ///
    /// # Errors
    /// As [`Operator::batch`].
    fn loaded(
        &mut self,
        _ticket: u64,
        _reply: ReadReply,
        _context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        Ok(Step::Done)
    }

    /// The reply to a scan.
    ///
    /// # Errors
    /// As [`Operator::batch`].
    fn scanned(
        &mut self,
        _ticket: u64,
        _reply: ScanReply,
        _context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        Ok(Step::Done)
    }

    /// When [`Operator::deadline`] is to be called, by the monotonic clock, if nothing happens
    /// before.
    fn deadline_ns(&self) -> Option<u64> {
        None
    }

    /// The time of [`Operator::deadline_ns`] has come: emit what was held back only for better
    /// batches.
    ///
    /// # Errors
    /// As [`Operator::batch`].
    fn deadline(&mut self, _context: &mut OperatorContext<'_>) -> Result<Step, OperatorError> {
        Ok(Step::Done)
    }

    /// When [`Operator::read_ahead`] is to be called, by the monotonic clock.
    fn read_ahead_ns(&self) -> Option<u64> {
        None
    }

    /// Asks for state that no row waits for yet. Called whatever the operator waits for, and while a barrier
    /// passes as well: nothing is put out.
    fn read_ahead(&mut self, _context: &mut OperatorContext<'_>) {}

    /// The operator's state, if it has any.
    fn state(&mut self) -> Option<&mut dyn OperatorState> {
        None
    }

    /// Which keys are not in memory, if some can go from it.
    fn elsewhere(&mut self) -> Option<&mut Elsewhere> {
        None
    }

    /// The job goes back to `restored`, its last committed epoch, with a new generation: what the
    /// operator holds of later epochs is forgotten and read again when it is needed, the rest stays.
    /// `false`: it cannot; another one is made from what is stored. (RisingWave and Flink throw all
    /// of it away.)
    fn roll_back(&mut self, _restored: Epoch) -> bool {
        false
    }
}

/// A node without inputs: reads splits, computes their columns, marks time.
pub trait SourceOperator: Send {
    /// Puts the next elements into the outbox: rows, watermarks, idleness. After
    /// [`SourceStatus::Finished`] it is not polled again; the task sends the last watermark and
    /// the end.
    ///
    /// # Errors
    /// What makes the job fail.
    fn poll_emit(
        &mut self,
        cx: &mut std::task::Context<'_>,
        context: &mut OperatorContext<'_>,
    ) -> std::task::Poll<Result<SourceStatus, OperatorError>>;

    /// When it is to be polled even if nothing wakes it, by the monotonic clock.
    fn deadline_ns(&self) -> Option<u64> {
        None
    }

    /// Its offsets.
    fn state(&mut self) -> &mut dyn OperatorState;
}

/// How a source left off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SourceStatus {
    /// There is more to come.
    Emitted,
    /// All its splits are bounded and have ended.
    Finished,
}

/// The state side of an operator, driven by its task.
pub trait OperatorState: Send {
    /// Tables that must be read whole before the first element, because the operator cannot work
    /// on misses (windows that fire, source offsets). Asked once, when restoring.
    fn hydrate(&mut self, scope: &TaskScope) -> Vec<ScanJob>;

    /// Rows of a scan that [`OperatorState::hydrate`] asked for.
    ///
    /// # Errors
    /// When the rows do not decode.
    fn hydrated(
        &mut self,
        job: &ScanJob,
        reply: &state_client::ScanReply,
    ) -> Result<(), OperatorError>;

    /// Cuts the delta of `epoch`: the changes since the last cut now belong to it. Fast: lists
    /// are swapped, nothing is encoded.
    fn freeze(&mut self, epoch: Epoch);

    /// Encodes up to about `rows_max` rows of the frozen delta; `true` when all are.
    fn encode(&mut self, rows_max: usize) -> bool;

    /// Takes the encoded delta; once, after [`OperatorState::encode`] said `true`.
    fn take_delta(&mut self) -> StateDelta;

    /// Right after [`OperatorState::freeze`] of `change.epoch` the task's key groups change to those
    /// of `scope`. Forgets what has left (but for what is frozen and not encoded yet); answers what
    /// must be read whole of what came, before any of its rows.
    fn reassign(&mut self, scope: &TaskScope, change: &Reassigned) -> Vec<ScanJob>;

    /// Epochs up to this one are committed.
    fn committed(&mut self, _epoch: Epoch) {}

    /// Live rows and bytes of the working set.
    fn size(&self) -> StateSize;

    /// Memory is short: takes about `bytes` of what is in the store out of it, the least recently used
    /// first, and puts them into `evicted`. Returns the number of keys that went; none where the operator
    /// needs all that it has.
    fn evict(&mut self, _bytes: u64, _evicted: &mut Evicted) -> u64 {
        0
    }
}

/// Size of a working set.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct StateSize {
    /// Rows.
    pub rows: u64,
    /// Bytes of memory.
    pub bytes: u64,
    /// Bytes of it that are free for new rows.
    pub free_bytes: u64,
    /// About what the rows take that were changed in the open epoch, of tables that may be large.
    pub changed_bytes: u64,
}

impl StateSize {
    /// Bytes that are taken.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.bytes.saturating_sub(self.free_bytes)
    }
}

/// Why an operator cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// A value that the query cannot digest: a bad CAST, a division by zero.
    #[error("{0}")]
    Evaluate(String),
    /// A kernel refused.
    #[error("failed to compute: {0}")]
    Arrow(#[from] ArrowError),
    /// The source cannot go on.
    #[error("table `{table}`: {source}")]
    Source {
        /// The table it reads.
        table: String,
        /// Why.
        source: crate::source::SourceError,
    },
    /// The sink cannot go on.
    #[error(transparent)]
    Sink(#[from] crate::sink::SinkError),
    /// State cannot be read or saved.
    #[error(transparent)]
    State(#[from] StateError),
    /// Stored state does not decode.
    #[error("failed to decode state of `{table}`: {cause}")]
    Decode {
        /// State table.
        table: String,
        /// What is wrong.
        cause: String,
    },
    /// The plan cannot be run.
    #[error("failed to build operator: {0}")]
    Plan(String),
}

impl OperatorError {
    /// Whether running again from the last checkpoint may help.
    #[must_use]
    pub fn retry(&self) -> Retry {
        use crate::{sink::SinkError, source::SourceError};
        match self {
            OperatorError::Source {
                source: SourceError::Io { .. },
                ..
            }
            | OperatorError::Sink(SinkError::Io { .. }) => Retry::IfItRan,
            OperatorError::State(error) => crate::task::retry_of(error),
            OperatorError::Source { .. }
            | OperatorError::Sink(_)
            | OperatorError::Evaluate(_)
            | OperatorError::Arrow(_)
            | OperatorError::Decode { .. }
            | OperatorError::Plan(_) => Retry::Never,
        }
    }
}
