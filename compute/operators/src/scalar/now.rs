//! The time of the evaluation and the watermark, out of its context.

use proto::{plan::ScalarFunction, types::LogicalType};

use super::{Kernel, Signature, moment::Moment};
use crate::expr::{
    ExprError,
    calendar::DAY_MS,
    cast::{Mode, timestamps},
};

/// Makes the kernel of a function of the current time.
pub(super) fn build(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    let logical = signature.result.logical.clone();
    let watermark = signature.function == ScalarFunction::CurrentWatermark;
    let moment = Moment::of(&logical).ok_or_else(|| signature.unsupported())?;
    Ok(Box::new(move |args| {
        let instant = if watermark {
            args.context.watermark
        } else {
            Some(args.context.now_ms)
        };
        let count = |ms: i64| match moment {
            Moment::Date => ms.div_euclid(DAY_MS),
            _ => cut_to_seconds(ms.rem_euclid(DAY_MS), &logical),
        };
        match moment {
            Moment::Date | Moment::Time => {
                let counts = vec![count(instant.unwrap_or_default()); args.rows];
                Ok(moment.column(counts, None, &logical))
            }
            _ => {
                let parts = vec![instant.map(|ms| (ms, 0)); args.rows];
                timestamps(parts, &logical, Mode::Fail)
            }
        }
    }))
}

fn cut_to_seconds(ms: i64, logical: &LogicalType) -> i64 {
    match logical {
        LogicalType::Time(0) => ms / 1000 * 1000,
        _ => ms,
    }
}
