//! Leaves out rows of a stream that cannot reach the greatest (or least) value of any window that they
//! could be joined with: below a join of the stream with its own windowed MAX or MIN.
//!
//! What rows of a window have reached here is a lower bound of what the window's rows reach everywhere,
//! so a row below it ties with nothing, whatever comes; which rows are left out beyond doubt depends on
//! the order in which they come, what the join puts out does not. Nothing of it is kept: after a restart
//! fewer rows are left out for a while.
//!
//! Only rows that the aggregate counts too may raise the bound. A row that is not late here is not late
//! there, since the watermark there is at most the one here: as soon as there is one again after a
//! restart, and unless this input has been idle, when the others' time went on without it.
//! (Semi-join reduction by an aggregate's running value; cf. the magic sets of Mumick et al., SIGMOD 1990.)

use std::collections::BTreeMap;

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, BooleanArray, BooleanBufferBuilder},
    compute::cast,
    datatypes::{DataType, Int64Type},
};
use engine::{
    ChangeBatch, Element, TIMESTAMP_MIN, Timestamp,
    operator::{Operator, OperatorContext, OperatorError, Step},
};
use proto::{
    plan,
    types::{Field, LogicalType},
};

use super::slices::Slices;
use crate::rows::{column, milliseconds};

/// Bounds that are held at most: of rows far ahead of their time no more are made.
const WINDOWS_MAX: usize = 4_096;

/// Passes on the rows that may tie with a window's greatest value.
pub struct TieFilterOperator {
    value: usize,
    time: usize,
    slices: Slices,
    /// A row meets windows that end so long after its time: from, to, both inclusive.
    ends_ms: (i64, i64),
    is_least: bool,
    /// By a window's end: what its rows have reached.
    reached: BTreeMap<Timestamp, i64>,
    watermark: Timestamp,
    /// It is not known what is late elsewhere.
    is_blind: bool,
}

/// What rows must reach whose times are near each other.
#[derive(Clone, Copy, Debug)]
struct Threshold {
    /// Times that it holds for: from, to (exclusive).
    from: Timestamp,
    to: Timestamp,
    /// `None`: no value is enough.
    value: Option<i64>,
}

impl TieFilterOperator {
    /// The operator of a plan node over rows of `input`.
    ///
    /// # Errors
    /// When the plan does not fit.
    pub fn build(
        spec: &plan::TieFilter,
        input: &[Field],
    ) -> Result<Box<dyn Operator>, OperatorError> {
        let missing = || OperatorError::Plan("a tie filter has windows".to_owned());
        let window = spec.window.as_ref().ok_or_else(missing)?;
        let value = column(spec.value, input)?;
        let logical = &input[value].data_type.logical;
        let is_time = matches!(logical, LogicalType::Date | LogicalType::Timestamp(_));
        if !is_time && !logical.is_integer() {
            let message = format!("a tie filter over values of type {logical}");
            return Err(OperatorError::Plan(message));
        }
        Ok(Box::new(TieFilterOperator {
            value,
            time: column(window.time_column, input)?,
            slices: Slices::of_window(window)?,
            ends_ms: (spec.end_from_ms, spec.end_to_ms),
            is_least: spec.least,
            reached: BTreeMap::new(),
            watermark: TIMESTAMP_MIN,
            is_blind: false,
        }))
    }

    /// Has rows raise what their windows have reached.
    fn count(&mut self, times: &[Timestamp], values: &Values<'_>) {
        if self.is_blind || self.watermark == TIMESTAMP_MIN {
            return;
        }
        let mut best: Option<(i64, i64)> = None;
        for (row, time) in times.iter().enumerate() {
            let Some(value) = values.of(row).filter(|_| *time > TIMESTAMP_MIN) else {
                continue;
            };
            let slice = self.slices.of_time(*time);
            match &mut best {
                Some((known, best)) if *known == slice => *best = value.max(*best),
                _ => {
                    if let Some((slice, value)) = best.replace((slice, value)) {
                        self.raise(slice, value);
                    }
                }
            }
        }
        if let Some((slice, value)) = best {
            self.raise(slice, value);
        }
    }

    /// Raises what the windows of a slice have reached that have not been put out.
    fn raise(&mut self, slice: i64, value: i64) {
        // A window is put out when the watermark is at its last millisecond.
        let fired = self.watermark.saturating_add(1);
        let mut next = self.slices.next_window(slice, fired);
        while let Some(end) = next {
            if let Some(reached) = self.reached.get_mut(&end) {
                *reached = value.max(*reached);
            } else if self.reached.len() < WINDOWS_MAX {
                self.reached.insert(end, value);
            }
            next = self.slices.next_window(slice, end);
        }
    }

    /// What a row of this time must reach.
    fn threshold(&self, time: Timestamp) -> Threshold {
        let (from_ms, to_ms) = self.ends_ms;
        let step = self.slices.step();
        let first = self.slices.first_end(time.saturating_add(from_ms));
        let until = time.saturating_add(to_ms);
        let mut least: Option<i64> = None;
        let mut last = first.saturating_sub(step);
        // The ends of time are no window's.
        while let Some(end) = last.checked_add(step).filter(|end| *end <= until) {
            let reached = self.reached.get(&end).copied().unwrap_or(i64::MIN);
            least = Some(least.map_or(reached, |least| least.min(reached)));
            last = end;
        }
        // From where on no end that is met is left behind, until where none more is met.
        let (enters, leaves) = (first.saturating_sub(from_ms), last.saturating_sub(to_ms));
        Threshold {
            from: leaves.max(enters.saturating_sub(step).saturating_add(1)),
            to: enters.saturating_add(1).min(leaves.saturating_add(step)),
            value: least,
        }
    }

    /// Which rows may tie; `None`: all.
    fn ties(&self, times: &[Timestamp], values: &Values<'_>) -> Option<BooleanArray> {
        if self.reached.is_empty() {
            return None;
        }
        let mut mask = BooleanBufferBuilder::new(times.len());
        let mut known = Threshold {
            from: 0,
            to: 0,
            value: None,
        };
        let mut kept = 0;
        for (row, time) in times.iter().enumerate() {
            if !(known.from..known.to).contains(time) {
                known = self.threshold(*time);
            }
            let ties = match (values.of(row), known.value) {
                (Some(value), Some(least)) => value >= least,
                _ => false,
            };
            kept += usize::from(ties);
            mask.append(ties);
        }
        (kept < times.len()).then(|| BooleanArray::new(mask.finish(), None))
    }
}

/// Values as numbers of which the greatest counts.
struct Values<'a> {
    values: &'a arrow::array::Int64Array,
    is_least: bool,
}

impl Values<'_> {
    #[inline]
    fn of(&self, row: usize) -> Option<i64> {
        if self.values.is_null(row) {
            return None;
        }
        let value = self.values.value(row);
        // Turns the order around.
        Some(if self.is_least { !value } else { value })
    }
}

/// A column of whole numbers, or of what is stored as such.
fn numbers(array: &ArrayRef) -> Result<ArrayRef, OperatorError> {
    Ok(match array.data_type() {
        DataType::Int64 => array.clone(),
        DataType::Date32 => cast(&cast(array, &DataType::Int32)?, &DataType::Int64)?,
        _ => cast(array, &DataType::Int64)?,
    })
}

impl Operator for TieFilterOperator {
    fn batch(
        &mut self,
        _input: usize,
        batch: ChangeBatch,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        if !batch.is_append() {
            let message = "the input of a tie filter takes rows back";
            return Err(OperatorError::Plan(message.to_owned()));
        }
        let times = milliseconds(batch.rows.column(self.time))?;
        let numbers = numbers(batch.rows.column(self.value))?;
        let values = Values {
            values: numbers.as_primitive::<Int64Type>(),
            is_least: self.is_least,
        };
        self.count(&times, &values);
        match self.ties(&times, &values) {
            None => context.out.batch(batch),
            Some(ties) if ties.true_count() == 0 => {}
            Some(ties) => context.out.batch(batch.filter(&ties)?),
        }
        Ok(Step::Done)
    }

    fn watermark(
        &mut self,
        watermark: Timestamp,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        self.watermark = watermark;
        // Rows to come meet windows that end later.
        let met = watermark.saturating_add(self.ends_ms.0);
        while let Some(first) = self
            .reached
            .first_entry()
            .filter(|first| *first.key() <= met)
        {
            first.remove();
        }
        context.out.element(Element::Watermark(watermark));
        Ok(Step::Done)
    }

    fn idle(&mut self) {
        self.is_blind = true;
        self.reached.clear();
    }
}
