//! Keeps account of a sink's output, so that sources wait for a sink that lags.

use engine::{
    ChangeBatch,
    flow::OutputBudget,
    sink::{SinkError, SinkWriter},
};

/// A writer whose buffered bytes count as owed.
pub(crate) struct AccountedWriter {
    pub(crate) writer: Box<dyn SinkWriter>,
    pub(crate) budget: OutputBudget,
}

impl SinkWriter for AccountedWriter {
    fn write(&mut self, batch: &ChangeBatch) -> Result<(), SinkError> {
        let before = self.writer.buffered_bytes();
        self.writer.write(batch)?;
        let more = self.writer.buffered_bytes().saturating_sub(before);
        self.budget.owe(more as u64);
        Ok(())
    }

    fn freeze(&mut self) -> Vec<u8> {
        let buffered = self.writer.buffered_bytes() as u64;
        let frozen = self.writer.freeze();
        // From here on it is what the publisher will settle that counts.
        self.budget.owe(frozen.len() as u64);
        self.budget.settle(buffered);
        frozen
    }

    fn buffered_bytes(&self) -> usize {
        self.writer.buffered_bytes()
    }
}
