//! The end of a stream inside a task: rows go to a writer, and what it froze at the barrier is
//! staged with the epoch.

use engine::{
    ChangeBatch,
    operator::{
        Operator, OperatorContext, OperatorError, OperatorState, StateSize, Step, TaskScope,
    },
    sink::SinkWriter,
    state::{ScanJob, StateDelta},
};
use proto::{
    plan,
    types::{Epoch, SinkId},
};
use state_client::{ScanReply, StagedOutput};

/// Writes rows to a sink.
pub struct SinkOperator {
    writer: Box<dyn SinkWriter>,
    sink: SinkId,
    slot: u32,
    rows: u64,
    frozen: Vec<u8>,
}

impl SinkOperator {
    /// An operator that writes with `writer` and stages for the slot of its task.
    #[must_use]
    pub fn build(
        spec: &plan::Sink,
        sink: SinkId,
        writer: Box<dyn SinkWriter>,
        scope: &TaskScope,
    ) -> Box<dyn Operator> {
        let slot = scope.index as u32 % spec.slots.max(1);
        Box::new(SinkOperator {
            writer,
            sink,
            slot,
            rows: 0,
            frozen: Vec::new(),
        })
    }
}

impl Operator for SinkOperator {
    fn batch(
        &mut self,
        _input: usize,
        batch: ChangeBatch,
        _context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        self.writer.write(&batch)?;
        self.rows += batch.num_rows() as u64;
        Ok(Step::Done)
    }

    fn state(&mut self) -> Option<&mut dyn OperatorState> {
        Some(self)
    }
}

impl OperatorState for SinkOperator {
    fn hydrate(&mut self, _scope: &TaskScope) -> Vec<ScanJob> {
        Vec::new()
    }

    fn hydrated(&mut self, _job: &ScanJob, _reply: &ScanReply) -> Result<(), OperatorError> {
        Ok(())
    }

    fn freeze(&mut self, _epoch: Epoch) {
        self.frozen = self.writer.freeze();
    }

    fn encode(&mut self, _rows_max: usize) -> bool {
        true
    }

    fn take_delta(&mut self) -> StateDelta {
        let bytes = std::mem::take(&mut self.frozen);
        let staged = (!bytes.is_empty()).then(|| StagedOutput {
            sink: self.sink,
            slot: self.slot,
            bytes: bytes.into(),
        });
        StateDelta {
            staged: staged.into_iter().collect(),
            ..StateDelta::default()
        }
    }

    fn size(&self) -> StateSize {
        StateSize {
            rows: 0,
            bytes: self.writer.buffered_bytes() as u64,
        }
    }
}
