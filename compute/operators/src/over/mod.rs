//! OVER: functions of the rows up to each row, within its partition.
//!
//! ```text
//! shape     what is fixed about a node
//! running   rows in order, frames without a start: accumulators
//! framed    rows in order, frames that have one, and LAG: the rows that are looked back at
//! kept      rows in any order, or taken back: all of them, and results that change
//! frame     which rows come into a frame and leave it
//! calls     aggregates over frames: along with their rows, or anew
//! ```
//! Rows come in order from a sort by the partition, which has all rows of one time in one batch; by
//! processing time they do so by themselves.

mod anew;
mod calls;
mod frame;
mod framed;
mod framed_state;
mod grouped;
mod history;
mod kept;
mod kept_state;
mod look_back;
#[cfg(test)]
mod over_test;
mod peers;
mod region;
mod results;
mod running;
#[cfg(test)]
mod script_test;
mod shape;
#[cfg(test)]
mod testing;
mod values;

use engine::{
    operator::{Operator, OperatorError, TaskScope},
    state::{Keyed, StateTtl},
};
use proto::{
    plan::{self, Changelog, OverOrder},
    types::{Field, TableId},
};

use self::{
    frame::Frame,
    framed::FramedOver,
    kept::KeptOver,
    running::RunningOver,
    shape::{OverShape, fail},
    values::ValueColumns,
};

pub(crate) use running::running_calls;

/// Whether the state of a node is accumulators: frames have no start, and rows come in order.
pub(crate) fn is_running(spec: &plan::OverAggregate) -> bool {
    spec.order() != OverOrder::Kept && spec.frame.unwrap_or_default().preceding.is_none()
}

/// Columns of the input that stored rows of any other node have, those of the partition first (`None`:
/// all), and whether they have the time of their last change.
pub(crate) fn stored_columns(
    spec: &plan::OverAggregate,
    input: &[Field],
    ttl: &StateTtl,
) -> Result<(Option<Vec<usize>>, bool), OperatorError> {
    let shape = OverShape::new(spec, input)?;
    if shape.order == OverOrder::Kept {
        return Ok((None, ttl.of_input(0).is_some()));
    }
    let columns = framed::kept_columns(&shape, &ValueColumns::new(&shape, input)?);
    Ok((Some(columns), framed::lifetime(&shape, ttl).is_some()))
}

/// The operator of a [`plan::OverAggregate`].
pub struct OverOperator;

impl OverOperator {
    /// The operator over rows of `input`, with the node's state tables.
    ///
    /// # Errors
    /// When the plan does not fit, or asks for what is not supported.
    pub fn build(
        spec: &plan::OverAggregate,
        input: &[Field],
        tables: &[TableId],
        changelog: &Changelog,
        ttl: &StateTtl,
        scope: &TaskScope,
    ) -> Result<Box<dyn Operator>, OperatorError> {
        let shape = OverShape::new(spec, input)?;
        let append_only = changelog.is_append();
        match (shape.order, shape.frame) {
            (OverOrder::Unspecified, _) => fail("an OVER node has no order"),
            (OverOrder::Kept, _) => {
                let kept = KeptOver::new(
                    shape,
                    input,
                    tables,
                    (append_only, spec.emit_update_before),
                    ttl,
                    scope,
                )?;
                Ok(Box::new(Keyed::new(kept)))
            }
            _ if !append_only => fail("OVER in the order of time takes inserts only"),
            (_, Frame::Unbounded { .. }) => RunningOver::build(shape, input, tables, ttl, scope),
            _ => {
                let framed = FramedOver::new(shape, input, tables, ttl, scope)?;
                Ok(Box::new(Keyed::new(framed)))
            }
        }
    }
}
