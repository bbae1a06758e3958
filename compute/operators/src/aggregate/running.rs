//! Results after every single row: the groups of an aggregation as rows add to them one after the
//! other.

use arrow::array::{ArrayRef, AsArray as _, RecordBatch};
use engine::operator::OperatorError;

use super::{
    plan::{AccumulatorPlan, Output},
    rows::Rows,
    steps::StepList,
    store::AggregateStore,
};

impl AggregateStore {
    /// Takes in the rows of a batch, row `i` into group `slots[i]`, all of them touched. By call, the
    /// result of each row's group right after it.
    pub(crate) fn run(
        &mut self,
        batch: &RecordBatch,
        slots: &[u32],
    ) -> Result<Vec<ArrayRef>, OperatorError> {
        let plan = self.plan.clone();
        let mut steps = StepList::default();
        for (row, slot) in (0..).zip(slots) {
            steps.change(*slot, row, true);
            steps.result(*slot);
        }
        let mut news = Vec::with_capacity(self.distincts.len());
        for table in &mut self.distincts {
            let values = table.keys(batch)?;
            let mut selections = Vec::new();
            let rows = Rows::all(slots);
            table.update(self.main.index(), &rows, batch, &values, &mut selections);
            let selected = selections.iter().map(|selection| steps.selected(selection));
            news.push(selected.collect::<Vec<StepList>>());
        }
        let mut told = Vec::with_capacity(plan.accumulators.len());
        let accumulators = self.main.values.list.iter_mut();
        for (accumulator, call) in accumulators.zip(&plan.accumulators) {
            let filtered = call.filtered(&steps, batch);
            let steps = match call.distinct {
                Some((table, filter)) => &news[table][filter],
                None => filtered.as_ref().unwrap_or(&steps),
            };
            let args = call.columns.iter().map(|column| batch.column(*column));
            let args: Vec<ArrayRef> = args.cloned().collect();
            told.push(accumulator.run(&steps.steps(), &args)?);
        }
        let result = |output: &Output| match output {
            Output::Accumulator(index) => Ok(told[*index].clone()),
            Output::Ordered { .. } => {
                let message = "running results of rows that may be taken back";
                Err(OperatorError::Plan(message.to_owned()))
            }
        };
        plan.outputs.iter().map(result).collect()
    }
}

impl AccumulatorPlan {
    /// The steps of rows that pass the call's FILTER; `None`: it has none.
    pub(crate) fn filtered(&self, steps: &StepList, batch: &RecordBatch) -> Option<StepList> {
        let filter = batch.column(self.filter?).as_boolean();
        let passes = |row: usize| filter.value(row) && !arrow::array::Array::is_null(filter, row);
        Some(steps.counted(passes))
    }
}
