//! The first or last row per key, by event time or by arrival. Input only appends.

use engine::{
    ChangeBatch, Timestamp,
    key::KeyBatch,
    operator::{Operator, OperatorContext, OperatorError, OperatorState, Step, TaskScope},
    state::{Expiring, KeyIndex, Keyed, KeyedLogic, StateTtl, Wanted},
};
use proto::{
    plan,
    types::{Field, TableId},
};
use state_client::{KeyRequest, LoadedRow};

use super::table::{Decision, LatestRows, keeps_latest_rows};
use crate::{
    rank::WindowRankOperator,
    rows::{column, milliseconds},
};

/// Bytes of the event time before a stored row.
const TIME_BYTES: usize = 8;

/// The operator of a [`plan::Deduplicate`].
pub struct DeduplicateOperator {
    latest: LatestRows,
    time_column: Option<usize>,
    keep_last: bool,
}

impl DeduplicateOperator {
    /// A deduplication of `input`, whose rows are kept in the one table.
    ///
    /// # Errors
    /// When the plan cannot be run.
    pub fn build(
        spec: &plan::Deduplicate,
        input: &[Field],
        tables: &[TableId],
        ttl: &StateTtl,
        scope: &TaskScope,
    ) -> Result<Box<dyn Operator>, OperatorError> {
        if spec.window.is_some() {
            return windowed(spec, input, tables, scope);
        }
        let time_column = match spec.time_column {
            Some(time) => Some(column(time, input)?),
            None => None,
        };
        let prefix = if time_column.is_some() { TIME_BYTES } else { 0 };
        let before = spec.emit_update_before;
        let latest = LatestRows::new(
            &spec.keys,
            input,
            tables,
            prefix,
            before,
            (ttl.of_input(0), scope),
        )?;
        Ok(Box::new(Keyed::new(DeduplicateOperator {
            latest,
            time_column,
            keep_last: spec.keep_last,
        })))
    }
}

/// Within a window it is the Top-1 by time.
fn windowed(
    spec: &plan::Deduplicate,
    input: &[Field],
    tables: &[TableId],
    scope: &TaskScope,
) -> Result<Box<dyn Operator>, OperatorError> {
    let by_time = |column| plan::SortKey {
        column,
        descending: spec.keep_last,
        nulls_last: spec.keep_last,
    };
    let rank = plan::Rank {
        partition_by: spec.keys.clone(),
        order_by: spec.time_column.map(by_time).into_iter().collect(),
        offset: 0,
        limit: 1,
        output_rank: false,
        window: spec.window,
        emit_update_before: false,
    };
    WindowRankOperator::build(&rank, spec.keep_last, input, tables, scope)
}

impl KeyedLogic for DeduplicateOperator {
    fn keys(&mut self, _input: usize, batch: &ChangeBatch) -> Result<KeyBatch, OperatorError> {
        self.latest.keys(batch)
    }

    fn is_resident(&self) -> bool {
        self.latest.is_resident()
    }

    fn wanted(
        &mut self,
        _input: usize,
        _batch: &ChangeBatch,
        keys: &KeyBatch,
    ) -> Result<Wanted, OperatorError> {
        Ok(self.latest.wanted(keys))
    }

    fn whole_tables(&self) -> Vec<TableId> {
        vec![self.latest.table_id()]
    }

    fn index(&self) -> &KeyIndex {
        self.latest.index()
    }

    fn index_mut(&mut self) -> &mut KeyIndex {
        self.latest.index_mut()
    }

    fn evicted_as_of(&self, hash: u64) -> proto::types::Epoch {
        self.latest.evicted_as_of(hash)
    }

    fn install(&mut self, request: &KeyRequest, rows: &[LoadedRow]) -> Result<(), OperatorError> {
        self.latest.install(request.hash, rows)
    }

    fn process(
        &mut self,
        _input: usize,
        batch: ChangeBatch,
        keys: KeyBatch,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        if batch
            .kinds
            .as_ref()
            .is_some_and(|kinds| kinds.bytes().iter().any(|k| *k != 0))
        {
            let message = "the input of a deduplication takes rows back";
            return Err(OperatorError::Plan(message.to_owned()));
        }
        let keep_last = self.keep_last;
        let changes = match self.time_column {
            None => {
                let decide = |_: usize, current: Option<&[u8]>| match current {
                    Some(_) if !keep_last => Decision::Ignore,
                    _ => Decision::Set,
                };
                // That a key has been seen is all that the first row leaves behind.
                self.latest
                    .apply(&batch, &keys, keep_last, decide, |_, _| {})?
            }
            Some(column) => {
                let times = milliseconds(batch.rows.column(column))?;
                let decide = |row: usize, current: Option<&[u8]>| match current.map(time_of) {
                    Some(time) if keep_last && times[row] < time => Decision::Ignore,
                    Some(time) if !keep_last && times[row] >= time => Decision::Ignore,
                    _ => Decision::Set,
                };
                let prefix = |row: usize, out: &mut Vec<u8>| {
                    out.extend_from_slice(&times[row].to_le_bytes())
                };
                self.latest.apply(&batch, &keys, true, decide, prefix)?
            }
        };
        changes
            .into_iter()
            .for_each(|changes| context.out.batch(changes));
        Ok(Step::Done)
    }

    fn state(&mut self) -> &mut dyn OperatorState {
        self
    }

    fn expiring(&mut self) -> Option<&mut dyn Expiring> {
        self.latest.expiring()
    }

    fn roll_back(&mut self, restored: proto::types::Epoch) {
        self.latest.roll_back(restored);
    }
}

keeps_latest_rows!(DeduplicateOperator);

fn time_of(value: &[u8]) -> Timestamp {
    let time = value.first_chunk::<TIME_BYTES>();
    time.map_or(Timestamp::MIN, |time| Timestamp::from_le_bytes(*time))
}
