//! The operator. What meets a waiting row moves it to the kept ones, or has it out (SEMI and ANTI).

use std::{collections::BTreeSet, sync::Arc};

use arrow::{
    array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array},
    compute::take,
    datatypes::DataType,
};
use engine::{
    ChangeBatch, Element, TIMESTAMP_MIN, Timestamp,
    key::KeyBatch,
    late::LateRows,
    operator::{
        Operator, OperatorContext, OperatorError, OperatorState, Reassigned, StateSize, Step,
        TaskScope,
    },
    spill::Evicted,
    state::{
        Expiring, KeyIndex, Keyed, KeyedLogic, ScanJob, StateDelta, TimeDomain, Ttl, Wanted, evict,
    },
};
use proto::{
    plan,
    types::{Epoch, Field, TableId},
};
use state_client::{KeyRequest, LoadedRow, ScanReply};

use super::{
    bounds::Bounds,
    probe::{IntervalProbe, KEPT, Met, Row, WAITING},
    waiting::WaitingRows,
};
use crate::{
    EvalContext,
    join::{
        expire::Ages,
        shape::{JoinShape, KeyColumns, LEFT, RIGHT},
        state::JoinState,
    },
    rows::{Identity, RowTable, arrow_types, milliseconds},
};

/// Builds the operator of a [`plan::IntervalJoin`].
pub struct IntervalJoinOperator {
    shape: JoinShape,
    bounds: Bounds,
    types: [Vec<DataType>; 2],
    tables: [TableId; 2],
    kept: JoinState,
    waiting: WaitingRows,
    probe: Option<IntervalProbe>,
    /// The rows of the probe, if there are late ones among them.
    with_late: Option<ChangeBatch>,
    /// What to send once all that is due is out.
    pending_watermark: Option<Timestamp>,
    watermark: Timestamp,
    /// Hashes of which one side is loaded.
    half_loaded: BTreeSet<u64>,
    eval: EvalContext,
}

impl IntervalJoinOperator {
    /// A join of `inputs`, kept in `tables`: left rows, right rows, then those without a match of each
    /// outer side.
    ///
    /// # Errors
    /// When the plan cannot be run.
    pub fn build(
        spec: &plan::IntervalJoin,
        inputs: &[&[Field]],
        tables: &[TableId],
        scope: &TaskScope,
    ) -> Result<Box<dyn Operator>, OperatorError> {
        let ([left, right], [left_table, right_table, outer @ ..]) = (inputs, tables) else {
            let message = "an interval join has two inputs and two tables at least";
            return Err(OperatorError::Plan(message.to_owned()));
        };
        let keys = KeyColumns {
            left: &spec.left_keys,
            right: &spec.right_keys,
            null_safe: &spec.null_safe,
        };
        let inputs = [*left, *right];
        let condition = spec.condition.as_ref();
        let shape = JoinShape::new(spec.r#type(), &keys, condition, inputs, scope.batch_rows)?;
        let bounds = Bounds::new(spec, inputs)?;
        let kept = [*left_table, *right_table];
        let ages = Ages::within(bounds.ttl().map(Some), bounds.span());
        let partial = scope.restored != Epoch::ZERO;
        let waiting = WaitingRows::new(
            &shape,
            outer,
            [LEFT, RIGHT].map(|side| bounds.life(side)),
            scope,
        )?;
        Ok(Box::new(Keyed::new(IntervalJoinOperator {
            kept: pool(&shape, kept, scope, partial).aging(ages),
            waiting,
            shape,
            bounds,
            types: inputs.map(arrow_types),
            tables: kept,
            probe: None,
            with_late: None,
            pending_watermark: None,
            watermark: TIMESTAMP_MIN,
            half_loaded: BTreeSet::new(),
            eval: EvalContext::default(),
        })))
    }

    /// Whether a row of a side is done with when it has met another.
    fn is_once(&self, side: usize) -> bool {
        side == LEFT && !self.shape.emits_pairs
    }

    /// Begins to pair the rows of a batch. Those that stay whatever they meet are kept at once.
    fn begin(
        &mut self,
        side: usize,
        batch: &ChangeBatch,
        keys: KeyBatch,
    ) -> Result<(), OperatorError> {
        let columns = batch.rows.columns();
        let times = milliseconds(&columns[self.bounds.columns[side]])?;
        let void = self
            .shape
            .unmatchable(side, columns, self.bounds.columns[side]);
        let bytes = self.shape.codecs[side].encode(columns, batch.num_rows())?;
        let stays = !self.waiting.has(side) && !self.is_once(side);
        let mut rows = Vec::with_capacity(batch.num_rows());
        for (row, time) in times.iter().copied().enumerate() {
            let mut next = Row::new(row as u32, time);
            if !void.as_ref().is_some_and(|void| void.value(row)) {
                next.range = self.live_range(side, time);
                next.is_open = time.saturating_add(self.bounds.life(side)) > self.watermark;
                next.is_late = time <= self.watermark && !next.is_open;
                next.keys[WAITING] = self.waiting.find(&keys, row);
                if next.is_open && stays {
                    next.is_open = false;
                    next.keys[KEPT] = self.kept.key_slot(&keys, row);
                    self.keep(
                        side,
                        next.keys[KEPT],
                        keys.hashes[row],
                        time,
                        bytes.row(row),
                    );
                } else {
                    next.keys[KEPT] = self.kept.find(&keys, row);
                }
            }
            rows.push(next);
        }
        let other = 1 - side;
        let settles = [self.is_once(other), self.waiting.has(other)];
        let columns = columns.to_vec();
        let has_late = rows.iter().any(|row| row.is_late);
        self.with_late = has_late.then(|| batch.clone());
        let probe = IntervalProbe::new(side, columns, keys, bytes, rows, settles);
        self.probe = Some(probe);
        Ok(())
    }

    /// Times of the other side that a row meets, as far as those are not gone: a late row finds what it
    /// would find if all that is to go went at once.
    fn live_range(&self, side: usize, time: Timestamp) -> (Timestamp, Timestamp) {
        let (from, to) = self.bounds.range(side, time);
        if self.watermark == TIMESTAMP_MIN {
            return (from, to);
        }
        let gone = self.watermark.saturating_sub(self.bounds.life(1 - side));
        (from.max(gone.saturating_add(1)), to)
    }

    fn keep(&mut self, side: usize, key_slot: u32, hash: u64, time: Timestamp, bytes: &[u8]) {
        self.kept.sides[side].rows.set_now(time);
        self.kept.append(side, key_slot, hash, bytes);
    }

    /// Goes on with what is under way: pairs, then what becomes of the rows, then what is due.
    fn go_on(&mut self, context: &mut OperatorContext<'_>) -> Result<Step, OperatorError> {
        self.eval.now_ms = context.clock.wall_ms();
        if let Some(mut probe) = self.probe.take() {
            let pools = [&self.kept, self.waiting.state()];
            let is_done = probe.run(&self.shape, pools, &self.eval, context.out)?
                && self.settle_met(&mut probe, context)?;
            if !is_done {
                self.probe = Some(probe);
                return Ok(Step::More);
            }
            self.settle_own(&probe, context)?;
        }
        let Some(watermark) = self.pending_watermark else {
            return Ok(Step::Done);
        };
        loop {
            if context.out.num_rows() >= self.shape.batch_rows {
                return Ok(Step::More);
            }
            let due = self.waiting.take_due(watermark, self.shape.batch_rows);
            let Some((side, slots)) = due else { break };
            let rows = self.waiting.state();
            let bytes: Vec<&[u8]> = slots.iter().map(|slot| rows.row(side, *slot)).collect();
            let columns = self.shape.codecs[side].decode(&bytes)?;
            self.put_alone(side, columns, slots.len(), context)?;
            slots
                .iter()
                .for_each(|slot| self.waiting.remove(side, *slot));
        }
        self.pending_watermark = None;
        self.free(watermark);
        let delayed = self.bounds.delayed(watermark);
        context.out.element(Element::Watermark(delayed));
        Ok(Step::Done)
    }

    /// What becomes of rows of the other side that were met; `false`: there are more.
    fn settle_met(
        &mut self,
        probe: &mut IntervalProbe,
        context: &mut OperatorContext<'_>,
    ) -> Result<bool, OperatorError> {
        let side = 1 - probe.side;
        while !probe.met.is_empty() {
            if context.out.num_rows() >= self.shape.batch_rows {
                return Ok(false);
            }
            let from = probe.met.len().saturating_sub(self.shape.batch_rows);
            let met = probe.met.split_off(from);
            if self.is_once(side) {
                self.let_go(side, &met, probe, context)?;
                continue;
            }
            for met in met {
                self.move_to_kept(side, met, probe);
            }
        }
        Ok(true)
    }

    /// Rows that are done with because they have met another.
    fn let_go(
        &mut self,
        side: usize,
        met: &[Met],
        probe: &IntervalProbe,
        context: &mut OperatorContext<'_>,
    ) -> Result<(), OperatorError> {
        if self.shape.bare_matched[side] {
            let pools = [&self.kept, self.waiting.state()];
            let bytes = met.iter().map(|met| pools[met.pool].row(side, met.slot));
            let columns = self.shape.codecs[side].decode(&bytes.collect::<Vec<_>>())?;
            self.put_alone(side, columns, met.len(), context)?;
        }
        for met in met {
            match met.pool {
                KEPT => {
                    let key_slot = probe.rows[met.by as usize].keys[KEPT];
                    self.kept.remove(side, key_slot, met.slot);
                }
                _ => self.waiting.remove(side, met.slot),
            }
        }
        Ok(())
    }

    /// A row has met another and may meet more.
    fn move_to_kept(&mut self, side: usize, met: Met, probe: &IntervalProbe) {
        let rows = &self.waiting.state().sides[side].rows;
        let (time, bytes) = (rows.stamp(met.slot), rows.row(met.slot).to_vec());
        let row = probe.rows[met.by as usize].row as usize;
        let key_slot = self.kept.key_slot(&probe.keys, row);
        self.keep(side, key_slot, probe.keys.hashes[row], time, &bytes);
        self.waiting.remove(side, met.slot);
    }

    /// Keeps the rows of the batch itself that are to be kept and are not yet, and puts out those that
    /// are done with.
    fn settle_own(
        &mut self,
        probe: &IntervalProbe,
        context: &mut OperatorContext<'_>,
    ) -> Result<(), OperatorError> {
        let side = probe.side;
        let (is_outer, is_once) = (self.waiting.has(side), self.is_once(side));
        let mut alone = Vec::new();
        let mut late = LateRows::default();
        for row in &probe.rows {
            let at = row.row as usize;
            // One that has met others, or comes out alone, is not lost.
            if row.is_late && !row.has_met && !is_outer {
                late.push(at, self.watermark);
            }
            let (hash, bytes) = (probe.keys.hashes[at], probe.bytes.row(at));
            match row.has_met {
                true if is_once && self.shape.bare_matched[side] => alone.push(row.row),
                true if is_once => {}
                false if is_outer && row.is_open => {
                    self.waiting.append(side, &probe.keys, at, row.time, bytes);
                }
                false if is_outer => alone.push(row.row),
                _ if row.is_open => {
                    let key_slot = self.kept.key_slot(&probe.keys, at);
                    self.keep(side, key_slot, hash, row.time, bytes);
                }
                _ => {}
            }
        }
        if let Some(batch) = self.with_late.take() {
            context.drop_late(side, &batch, &late)?;
        }
        if alone.is_empty() {
            return Ok(());
        }
        let rows = alone.len();
        let indices = UInt32Array::from(alone);
        let pick = |column: &ArrayRef| take(column, &indices, None);
        let columns = probe.columns.iter().map(pick).collect::<Result<_, _>>()?;
        self.put_alone(side, columns, rows, context)
    }

    /// Puts out rows of a side, with NULLs for the other one.
    fn put_alone(
        &self,
        side: usize,
        mut columns: Vec<ArrayRef>,
        rows: usize,
        context: &mut OperatorContext<'_>,
    ) -> Result<(), OperatorError> {
        if self.shape.emits_pairs {
            let null = |data_type: &DataType| new_null_array(data_type, rows);
            let nulls = self.types[1 - side].iter().map(null);
            match side {
                LEFT => columns.extend(nulls),
                _ => columns = nulls.chain(columns).collect(),
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let schema = Arc::clone(&self.shape.schema);
        let batch = RecordBatch::try_new_with_options(schema, columns, &options)?;
        context.out.batch(ChangeBatch::inserts(batch));
        Ok(())
    }

    /// Frees what the watermark has passed.
    fn free(&mut self, watermark: Timestamp) {
        self.watermark = self.watermark.max(watermark);
        self.eval.watermark = Some(watermark);
        self.kept.set_now(self.watermark);
        while self.kept.expire(usize::MAX) {}
    }

    fn reads(&self, hash: u64) -> [KeyRequest; 2] {
        self.tables.map(|table| KeyRequest {
            table,
            namespace: 0,
            hash,
            sub: None,
        })
    }
}

/// Rows of both sides by key, with their times.
pub(super) fn pool(
    shape: &JoinShape,
    tables: [TableId; 2],
    scope: &TaskScope,
    partial: bool,
) -> JoinState {
    let table = |table| {
        let identity = Identity::Append { removable: true };
        RowTable::new(table, 0, identity, scope).stamped(true)
    };
    // Rows are taken out again, though not by the input.
    let append_only = [false; 2];
    JoinState::new(
        shape,
        tables.map(table),
        append_only,
        [None; 2],
        scope,
        partial,
    )
    .without_degrees()
}

impl KeyedLogic for IntervalJoinOperator {
    fn keys(&mut self, input: usize, batch: &ChangeBatch) -> Result<KeyBatch, OperatorError> {
        Ok(self.shape.keys[input].encode(&batch.rows)?)
    }

    fn is_resident(&self) -> bool {
        self.kept.index.is_resident()
    }

    fn wanted(
        &mut self,
        input: usize,
        batch: &ChangeBatch,
        keys: &KeyBatch,
    ) -> Result<Wanted, OperatorError> {
        let time = self.bounds.columns[input];
        let void = self.shape.unmatchable(input, batch.rows.columns(), time);
        let mut wanted = Wanted::new();
        for (row, hash) in keys.hashes.iter().enumerate() {
            let is_void = void.as_ref().is_some_and(|void| void.value(row));
            if !is_void && self.kept.index.is_unknown(*hash) {
                wanted.extend(self.reads(*hash).map(|read| (row as u32, read)));
            }
        }
        Ok(wanted)
    }

    fn whole_tables(&self) -> Vec<TableId> {
        self.tables.to_vec()
    }

    fn index(&self) -> &KeyIndex {
        &self.kept.index
    }

    fn index_mut(&mut self) -> &mut KeyIndex {
        &mut self.kept.index
    }

    fn evicted_as_of(&self, hash: u64) -> Epoch {
        self.kept.index.evicted_as_of(hash)
    }

    fn install(&mut self, request: &KeyRequest, rows: &[LoadedRow]) -> Result<(), OperatorError> {
        let side = usize::from(request.table != self.tables[LEFT]);
        self.kept.install(&self.shape, side, rows)?;
        // Both sides of a key are asked for together; it is there when both are.
        if !self.half_loaded.remove(&request.hash) {
            self.half_loaded.insert(request.hash);
            return Ok(());
        }
        self.kept.index.mark_loaded(request.hash);
        Ok(())
    }

    fn process(
        &mut self,
        input: usize,
        batch: ChangeBatch,
        keys: KeyBatch,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        if !batch.is_append() {
            let message = "an input of an interval join takes rows back";
            return Err(OperatorError::Plan(message.to_owned()));
        }
        self.begin(input, &batch, keys)?;
        self.go_on(context)
    }

    fn resume(&mut self, context: &mut OperatorContext<'_>) -> Result<Step, OperatorError> {
        self.go_on(context)
    }

    fn watermark(
        &mut self,
        watermark: Timestamp,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        self.pending_watermark = Some(watermark);
        self.go_on(context)
    }

    fn state(&mut self) -> &mut dyn OperatorState {
        self
    }

    fn expiring(&mut self) -> Option<&mut dyn Expiring> {
        Some(self)
    }

    /// Rows that came out by time since then would have to come back.
    fn can_roll_back(&self) -> bool {
        !self.waiting.has_any()
    }

    fn roll_back(&mut self, restored: Epoch) {
        self.kept.roll_back(restored);
        self.kept.set_now(TIMESTAMP_MIN);
        self.half_loaded.clear();
        self.probe = None;
        self.pending_watermark = None;
        self.watermark = TIMESTAMP_MIN;
    }
}

impl Expiring for IntervalJoinOperator {
    fn ttl(&self) -> Ttl {
        Ttl {
            ms: self.bounds.span(),
            domain: TimeDomain::Event,
        }
    }

    fn set_now(&mut self, now: Timestamp) {
        self.kept.set_now(now);
    }

    fn expire(
        &mut self,
        keys_max: usize,
        _wanted: &mut Vec<KeyRequest>,
    ) -> Result<bool, OperatorError> {
        // Pairs that are on their way name rows by their slots.
        Ok(self.probe.is_some() || self.kept.expire(keys_max))
    }

    fn partial_tables(&self) -> Vec<TableId> {
        match self.kept.index.is_resident() {
            true => Vec::new(),
            false => self.tables.to_vec(),
        }
    }

    fn overdue(&self, table: TableId, rows: &[LoadedRow]) -> Vec<KeyRequest> {
        let side = usize::from(table != self.tables[LEFT]);
        let hashes = self.kept.overdue(side, rows).into_iter();
        hashes.flat_map(|hash| self.reads(hash)).collect()
    }
}

impl OperatorState for IntervalJoinOperator {
    fn hydrate(&mut self, scope: &TaskScope) -> Vec<ScanJob> {
        self.waiting.scans(scope)
    }

    fn hydrated(&mut self, job: &ScanJob, reply: &ScanReply) -> Result<(), OperatorError> {
        self.waiting.install(&self.shape, job.table, &reply.rows)
    }

    fn freeze(&mut self, epoch: Epoch) {
        for pool in [&mut self.kept, self.waiting.state_mut()] {
            pool.freeze(epoch);
        }
    }

    fn encode(&mut self, rows_max: usize) -> bool {
        self.kept.encode(rows_max) && self.waiting.state_mut().encode(rows_max)
    }

    fn take_delta(&mut self) -> StateDelta {
        let mut delta = self.kept.take_delta();
        delta.append(self.waiting.state_mut().take_delta());
        delta
    }

    fn committed(&mut self, epoch: Epoch) {
        for pool in [&mut self.kept, self.waiting.state_mut()] {
            pool.committed(epoch);
        }
    }

    fn reassign(&mut self, scope: &TaskScope, change: &Reassigned) -> Vec<ScanJob> {
        self.kept.reassign(change);
        self.waiting.reassign(change);
        self.waiting.scans(&TaskScope {
            owned: change.came.clone(),
            ..scope.clone()
        })
    }

    fn size(&self) -> StateSize {
        let (kept, waiting) = (self.kept.size(), self.waiting.state().size());
        StateSize {
            rows: kept.rows + waiting.rows,
            bytes: kept.bytes + waiting.bytes,
            free_bytes: kept.free_bytes + waiting.free_bytes,
            changed_bytes: kept.changed_bytes + waiting.changed_bytes,
        }
    }

    /// Only kept rows go: the others come out by time.
    fn evict(&mut self, bytes: u64, evicted: &mut Evicted) -> u64 {
        evict(&mut self.kept, bytes, evicted)
    }
}
