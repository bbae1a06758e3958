//! The watermark of a split: an expression over its rows, of which the newest value counts.

use arrow::{
    array::{Array as _, AsArray as _},
    compute::max,
    datatypes::{
        DataType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
        TimestampNanosecondType,
    },
};
use engine::{ChangeBatch, Timestamp, operator::OperatorError};
use proto::{plan, types::Field};

use crate::{CompiledExpr, EvalContext};

/// `WATERMARK FOR … AS expr`.
pub(super) struct WatermarkExpr {
    expr: CompiledExpr,
    idle_timeout_ms: u64,
}

impl WatermarkExpr {
    pub(super) fn compile(
        spec: &plan::Watermark,
        columns: &[Field],
    ) -> Result<Self, OperatorError> {
        let missing = || OperatorError::Plan("a watermark has an expression".to_owned());
        let expr = spec.expr.as_ref().ok_or_else(missing)?;
        let expr = CompiledExpr::compile(expr, columns)
            .map_err(|error| OperatorError::Plan(error.to_string()))?;
        Ok(WatermarkExpr {
            expr,
            idle_timeout_ms: spec.idle_timeout_ms,
        })
    }

    /// How long a split may be silent before it is idle; `None`: for ever.
    pub(super) fn idle_timeout_ns(&self) -> Option<u64> {
        (self.idle_timeout_ms > 0).then_some(self.idle_timeout_ms * 1_000_000)
    }

    /// The newest watermark among the rows, in ms; `None` if all are NULL.
    pub(super) fn newest(
        &self,
        batch: &ChangeBatch,
        context: &EvalContext,
    ) -> Result<Option<Timestamp>, OperatorError> {
        let values = self
            .expr
            .evaluate(&batch.rows, context)
            .map_err(|error| OperatorError::Evaluate(error.to_string()))?;
        Ok(match values.data_type() {
            DataType::Timestamp(TimeUnit::Millisecond, _) => {
                max(values.as_primitive::<TimestampMillisecondType>())
            }
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                max(values.as_primitive::<TimestampMicrosecondType>()).map(|us| us.div_euclid(1000))
            }
            DataType::Timestamp(TimeUnit::Nanosecond, _) => {
                let newest = max(values.as_primitive::<TimestampNanosecondType>());
                newest.map(|ns| ns.div_euclid(1_000_000))
            }
            other => {
                let message = format!("a watermark is a timestamp, not {other}");
                return Err(OperatorError::Plan(message));
            }
        })
    }
}
