//! Turns an upsert stream into a full changelog: updates get their old row, deletes their content.

use engine::{
    ChangeBatch,
    key::KeyBatch,
    operator::{Operator, OperatorContext, OperatorError, OperatorState, Step, TaskScope},
    state::{Expiring, KeyIndex, Keyed, KeyedLogic, StateTtl, Wanted},
};
use proto::{
    plan,
    types::{Field, RowKind, TableId},
};
use state_client::{KeyRequest, LoadedRow};

use super::table::{Decision, LatestRows, keeps_latest_rows};

/// The operator of a [`plan::ChangelogNormalize`].
pub struct ChangelogNormalizeOperator {
    latest: LatestRows,
}

impl ChangelogNormalizeOperator {
    /// A normalisation of `input`, whose rows are kept in the one table.
    ///
    /// # Errors
    /// When the plan cannot be run.
    pub fn build(
        spec: &plan::ChangelogNormalize,
        input: &[Field],
        tables: &[TableId],
        ttl: &StateTtl,
        scope: &TaskScope,
    ) -> Result<Box<dyn Operator>, OperatorError> {
        let before = spec.emit_update_before;
        let latest = LatestRows::new(
            &spec.keys,
            input,
            tables,
            0,
            before,
            (ttl.of_input(0), scope),
        )?;
        Ok(Box::new(Keyed::new(ChangelogNormalizeOperator { latest })))
    }
}

impl KeyedLogic for ChangelogNormalizeOperator {
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
        let decide = |row: usize, _current: Option<&[u8]>| match batch.kind(row) {
            RowKind::Insert | RowKind::UpdateAfter => Decision::Set,
            RowKind::Delete => Decision::Remove,
            // The new row follows and replaces the old one.
            RowKind::UpdateBefore => Decision::Ignore,
        };
        let changes = self.latest.apply(&batch, &keys, true, decide, |_, _| {})?;
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

keeps_latest_rows!(ChangelogNormalizeOperator);
