//! The SESSION table function alone: rows are held until their session is over, and leave with its
//! window_start, window_end and window_time. What is above may group, rank or join them as it likes.
//!
//! State: the rows that wait, and a row per key group that says up to where sessions have fired; which
//! sessions there are is found out again from the rows.

use std::{collections::VecDeque, sync::Arc};

use arrow::{
    array::{ArrayRef, RecordBatch},
    datatypes::SchemaRef,
};
use engine::{
    ChangeBatch, Element, Timestamp,
    codec::RowCodec,
    key::KeyEncoder,
    late::LateRows,
    operator::{
        Operator, OperatorContext, OperatorError, OperatorState, Reassigned, StateSize, Step,
        TaskScope,
    },
    schema::arrow_schema,
    state::{ScanJob, StateDelta},
};
use proto::{
    plan,
    types::{Epoch, Field, TableId},
};
use state_client::ScanReply;

use super::{
    session_index::SessionIndex,
    time_column::{time_array, times},
};
use crate::{
    aggregate::key_encoder,
    rows::{
        Identity, RowTable, column, columns,
        fired::{self, Fired, FrozenMarks},
        row_codec,
    },
};

/// Puts rows into sessions.
pub(super) struct SessionAssignOperator {
    encoder: KeyEncoder,
    keys: Vec<usize>,
    time_column: usize,
    gap: i64,
    codec: RowCodec,
    schema: SchemaRef,
    scope: TaskScope,
    rows: RowTable,
    sessions: Sessions,
    index: SessionIndex,
    /// Rows that were read and are in no session yet.
    unplaced: Vec<u32>,
    fired: Fired,
    frozen: FrozenMarks,
    /// Where the watermark under way leads.
    target: Option<Timestamp>,
    leaving: VecDeque<Leaving>,
}

/// Open sessions by number; numbers are used again.
#[derive(Default)]
struct Sessions {
    all: Vec<Session>,
    free: Vec<u32>,
}

#[derive(Default)]
struct Session {
    hash: u64,
    first: i64,
    last: i64,
    /// Times and slots.
    rows: Vec<(i64, u32)>,
}

/// A row that its session lets go of.
struct Leaving {
    slot: u32,
    start: i64,
    end: i64,
}

impl Sessions {
    fn begin(&mut self, hash: u64, time: i64) -> u32 {
        let session = Session {
            hash,
            first: time,
            last: time,
            rows: Vec::new(),
        };
        if let Some(number) = self.free.pop() {
            self.all[number as usize] = session;
            return number;
        }
        self.all.push(session);
        (self.all.len() - 1) as u32
    }

    fn get(&self, number: u32) -> &Session {
        &self.all[number as usize]
    }

    fn get_mut(&mut self, number: u32) -> &mut Session {
        &mut self.all[number as usize]
    }

    fn end(&mut self, number: u32) -> Session {
        self.free.push(number);
        std::mem::take(&mut self.all[number as usize])
    }

    fn memory(&self) -> usize {
        let rows = |session: &Session| session.rows.capacity() * size_of::<(i64, u32)>();
        self.all.iter().map(rows).sum::<usize>() + self.all.capacity() * size_of::<Session>()
    }
}

impl SessionAssignOperator {
    /// The operator of a plan node over rows of `input`, with the node's one state table; `output` are
    /// the node's output columns.
    ///
    /// # Errors
    /// When the plan does not fit.
    pub(super) fn build(
        spec: &plan::WindowAssign,
        input: &[Field],
        output: &[Field],
        tables: &[TableId],
        scope: &TaskScope,
    ) -> Result<Box<dyn Operator>, OperatorError> {
        let fail = |message: &str| Err(OperatorError::Plan(message.to_owned()));
        let (Some(window), [table]) = (&spec.window, tables) else {
            return fail("a session function has a window and one table");
        };
        let gap = i64::try_from(window.gap_ms).ok().filter(|gap| *gap > 0);
        let Some(gap) = gap else {
            return fail("a session needs a gap");
        };
        if output.len() != input.len() + 3 {
            return fail("a window table function appends three columns");
        }
        let keys = columns(&window.partition_by, input)?;
        let encoder = key_encoder(&keys, input)?;
        let identity = Identity::Append { removable: true };
        Ok(Box::new(SessionAssignOperator {
            index: SessionIndex::new(encoder.width(), scope),
            encoder,
            keys,
            time_column: column(window.time_column, input)?,
            gap,
            codec: row_codec(input)?,
            schema: arrow_schema(output),
            scope: scope.clone(),
            rows: RowTable::new(*table, 0, identity, scope),
            sessions: Sessions::default(),
            unplaced: Vec::new(),
            fired: Fired::default(),
            frozen: FrozenMarks::default(),
            target: None,
            leaving: VecDeque::new(),
        }))
    }

    /// Puts what was read into sessions.
    fn settle(&mut self) -> Result<(), OperatorError> {
        self.fired.settle(&self.scope.owned);
        let slots = std::mem::take(&mut self.unplaced);
        if slots.is_empty() {
            return Ok(());
        }
        let bytes: Vec<&[u8]> = slots.iter().map(|slot| self.rows.row(*slot)).collect();
        let decode = |column: &usize| Ok(self.codec.decode_column(*column, &bytes)?);
        let keys = self.keys.iter().map(decode);
        let keys = keys.collect::<Result<Vec<ArrayRef>, OperatorError>>()?;
        let times = times(&decode(&self.time_column)?)?;
        let keys = self.encoder.encode_arrays(&keys, slots.len())?;
        let mut numbers = Vec::new();
        self.index.keys(&keys, &mut numbers);
        let mut touching = Vec::new();
        for (row, slot) in slots.into_iter().enumerate() {
            let (number, time) = (numbers[row], times[row]);
            self.touching(number, time, &mut touching);
            let session = self.session(&touching, number, keys.hashes[row], time);
            self.sessions.get_mut(session).rows.push((time, slot));
        }
        Ok(())
    }

    /// Sessions of a key that a row of this time belongs to.
    fn touching(&self, number: u32, time: i64, found: &mut Vec<u32>) {
        let (sessions, gap) = (&self.sessions, self.gap);
        let reaches = |session: u32| sessions.get(session).last.saturating_add(gap) >= time;
        self.index
            .touching(number, time.saturating_add(gap), reaches, found);
    }

    /// The one session of a row: those that it touches become one; if there are none, it begins one.
    fn session(&mut self, touching: &[u32], number: u32, hash: u64, time: i64) -> u32 {
        let longest = |session: &&u32| self.sessions.get(**session).rows.len();
        let Some(into) = touching.iter().max_by_key(longest).copied() else {
            let session = self.sessions.begin(hash, time);
            let alarm = time.saturating_add(self.gap);
            self.index.insert(number, time, session, alarm);
            return session;
        };
        let old = self.sessions.get(into).first;
        let (mut first, mut last) = (old.min(time), self.sessions.get(into).last.max(time));
        for other in touching.iter().filter(|other| **other != into) {
            let mut gone = self.sessions.end(*other);
            self.index.remove(*other, gone.first);
            (first, last) = (first.min(gone.first), last.max(gone.last));
            self.sessions.get_mut(into).rows.append(&mut gone.rows);
        }
        if first < old {
            self.index.restart(into, old, first);
        }
        let session = self.sessions.get_mut(into);
        (session.first, session.last) = (first, last);
        into
    }

    /// Emits rows whose session is over, a batch per call; then lets the watermark pass.
    fn advance(&mut self, context: &mut OperatorContext<'_>) -> Result<Step, OperatorError> {
        let Some(watermark) = self.target else {
            return Ok(Step::Done);
        };
        while !self.leaving.is_empty() {
            let count = self.leaving.len().min(context.scope.batch_rows.max(1));
            let leaving: Vec<Leaving> = self.leaving.drain(..count).collect();
            self.emit(&leaving, context)?;
            if !self.leaving.is_empty() {
                return Ok(Step::More);
            }
        }
        self.fired.advance(watermark.saturating_add(1));
        self.target = None;
        context.out.element(Element::Watermark(watermark));
        Ok(Step::Done)
    }

    /// Takes the sessions that end at `due` or before apart.
    fn collect(&mut self, due: i64) {
        let mut over: Vec<(i64, i64, u32)> = Vec::new();
        while let Some(number) = self.index.due(due) {
            let session = self.sessions.get(number);
            let end = session.last.saturating_add(self.gap);
            if end > due {
                self.index.set_alarm(number, end);
                continue;
            }
            over.push((end, session.first, number));
        }
        over.sort_unstable();
        for (end, start, number) in over {
            let mut session = self.sessions.end(number);
            self.index.remove(number, start);
            let rows = &self.rows;
            session
                .rows
                .sort_by_cached_key(|(time, slot)| (*time, rows.order(*slot)));
            let leaving = session.rows.into_iter();
            self.leaving
                .extend(leaving.map(|(_, slot)| Leaving { slot, start, end }));
        }
    }

    fn emit(
        &mut self,
        leaving: &[Leaving],
        context: &mut OperatorContext<'_>,
    ) -> Result<(), OperatorError> {
        let bytes: Vec<&[u8]> = leaving.iter().map(|row| self.rows.row(row.slot)).collect();
        let mut columns = self.codec.decode(&bytes)?;
        let bounds: [fn(&Leaving) -> i64; 3] = [|row| row.start, |row| row.end, |row| row.end - 1];
        for bound in bounds {
            let data_type = self.schema.field(columns.len()).data_type();
            columns.push(time_array(leaving.iter().map(bound).collect(), data_type)?);
        }
        let rows = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        context.out.batch(ChangeBatch::inserts(rows));
        leaving.iter().for_each(|row| self.rows.remove(row.slot));
        Ok(())
    }
}

impl Operator for SessionAssignOperator {
    fn batch(
        &mut self,
        _input: usize,
        batch: ChangeBatch,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        self.settle()?;
        let count = batch.num_rows();
        if (0..count).any(|row| !batch.kind(row).is_add()) {
            let message = "the input of a session function takes rows back";
            return Err(OperatorError::Plan(message.to_owned()));
        }
        let times = times(batch.rows.column(self.time_column))?;
        let bytes = self.codec.encode(batch.rows.columns(), count)?;
        let keys = self.encoder.encode(&batch.rows)?;
        let mut numbers = Vec::new();
        self.index.keys(&keys, &mut numbers);
        let mut touching = Vec::new();
        let mut late = LateRows::default();
        for (row, time) in times.into_iter().enumerate() {
            let (number, hash) = (numbers[row], keys.hashes[row]);
            self.touching(number, time, &mut touching);
            let fired = self.fired.of(self.scope.key_groups.of_hash(hash));
            if touching.is_empty() && time.saturating_add(self.gap) <= fired {
                late.push(row, fired.saturating_sub(1));
                continue;
            }
            let session = self.session(&touching, number, hash, time);
            let slot = self.rows.append(hash, bytes.row(row));
            self.sessions.get_mut(session).rows.push((time, slot));
        }
        self.index.forget_idle(&numbers);
        context.drop_late(0, &batch, &late)?;
        Ok(Step::Done)
    }

    fn watermark(
        &mut self,
        watermark: Timestamp,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        self.settle()?;
        self.target = Some(watermark);
        self.collect(watermark.saturating_add(1));
        self.advance(context)
    }

    fn resume(&mut self, context: &mut OperatorContext<'_>) -> Result<Step, OperatorError> {
        self.advance(context)
    }

    fn state(&mut self) -> Option<&mut dyn OperatorState> {
        Some(self)
    }
}

impl OperatorState for SessionAssignOperator {
    fn hydrate(&mut self, scope: &TaskScope) -> Vec<ScanJob> {
        fired::scans(&[self.rows.id()], scope)
    }

    fn hydrated(&mut self, job: &ScanJob, reply: &ScanReply) -> Result<(), OperatorError> {
        self.fired.note(job.key_group, None);
        for row in &reply.rows {
            if let Some(fired) = fired::read(job.table, row)? {
                self.fired.note(job.key_group, Some(fired));
                continue;
            }
            if row.value.len() < self.codec.fixed_bytes() {
                return Err(self.rows.damaged("a row is cut short"));
            }
            self.unplaced.push(self.rows.install(row)?);
        }
        Ok(())
    }

    fn freeze(&mut self, epoch: Epoch) {
        self.fired.settle(&self.scope.owned);
        self.rows.freeze(epoch);
        self.frozen.freeze(&self.fired, &self.scope.owned);
    }

    fn encode(&mut self, rows_max: usize) -> bool {
        self.rows.encode(rows_max)
    }

    fn take_delta(&mut self) -> StateDelta {
        let marks = self
            .frozen
            .take_delta(self.rows.id(), self.scope.key_groups);
        StateDelta {
            tables: self.rows.take_delta().into_iter().chain(marks).collect(),
            ..StateDelta::default()
        }
    }

    fn committed(&mut self, epoch: Epoch) {
        self.rows.committed(epoch);
    }

    fn reassign(&mut self, scope: &TaskScope, change: &Reassigned) -> Vec<ScanJob> {
        self.fired.settle(&self.scope.owned);
        self.scope = scope.clone();
        let key_groups = scope.key_groups;
        let left = |hash: u64| change.left.contains(key_groups.of_hash(hash));
        let rows = &self.rows;
        self.unplaced.retain(|slot| !left(rows.hash(*slot)));
        for number in 0..self.sessions.all.len() as u32 {
            let session = self.sessions.get(number);
            if !session.rows.is_empty() && left(session.hash) {
                self.index.remove(number, session.first);
                self.sessions.end(number);
            }
        }
        self.index.reassign(change);
        self.rows.forget_left(&left);
        fired::scans_of(&[self.rows.id()], &change.came)
    }

    fn size(&self) -> StateSize {
        let mut size = self.rows.size();
        size.bytes += (self.index.memory() + self.sessions.memory()) as u64;
        size
    }
}
