//! Where whoever reads a join keeps the best pair of each key, or of each row of one side, only, pairs that
//! are surely not the best are left out before they are made: those that do not come before one that was
//! put out.
//!
//! What has been put out is remembered in memory alone. Whatever is forgotten (rows that went to the
//! store and came back, a failure) costs a pair more that its reader would have dropped, never one less.

use arrow::array::BooleanArray;
use engine::{
    operator::OperatorError,
    state::{NO_SLOT, RowArena},
};
use proto::{
    plan::{self, JoinType},
    types::Field,
};

use super::shape::{LEFT, RIGHT};
use crate::rows::{OrderKeys, RowOrder};

/// What has a best pair.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Per {
    /// Each row of a side.
    Row(usize),
    Key,
}

/// Of which pairs the best is wanted, and which of two is better.
#[derive(Debug)]
pub(super) struct BestShape {
    pub(super) per: Per,
    /// The side whose rows tell which pair is better.
    pub(super) ordered: usize,
    /// Of rows of that side.
    pub(super) order: RowOrder,
}

impl BestShape {
    /// What the plan says of a join of `inputs`.
    ///
    /// # Errors
    /// When the plan cannot be run.
    pub(super) fn compile(
        spec: &plan::Join,
        inputs: [&[Field]; 2],
        append_only: [bool; 2],
    ) -> Result<Option<Self>, OperatorError> {
        let Some(best) = &spec.best_pair else {
            return Ok(None);
        };
        if spec.r#type() != JoinType::Inner || append_only != [true; 2] {
            let message = "the best pairs are wanted of a join whose pairs may be taken back";
            return Err(OperatorError::Plan(message.to_owned()));
        }
        let ordered = if best.per_right { LEFT } else { RIGHT };
        Ok(Some(BestShape {
            per: match best.per_key {
                true => Per::Key,
                false => Per::Row(1 - ordered),
            },
            ordered,
            order: RowOrder::new(&best.order_by, inputs[ordered])?,
        }))
    }
}

/// Per key, or row of a side, the order of the best pair that was put out.
#[derive(Debug)]
pub(super) struct BestPairs {
    pub(super) per: Per,
    /// Per slot: where its order is, or [`NO_SLOT`].
    places: Vec<u32>,
    orders: RowArena,
}

impl BestPairs {
    /// Nothing was put out.
    pub(super) fn new(per: Per) -> Self {
        BestPairs {
            per,
            places: Vec::new(),
            orders: RowArena::default(),
        }
    }

    /// Nothing was put out for a slot, which is at most one past the last one.
    pub(super) fn begin(&mut self, slot: u32) {
        match self.places.get_mut(slot as usize) {
            None => self.places.push(NO_SLOT),
            Some(place) if *place == NO_SLOT => {}
            Some(place) => self.orders.remove(std::mem::replace(place, NO_SLOT)),
        }
    }

    /// The order of the best pair that was put out for a slot.
    #[inline]
    pub(super) fn order(&self, slot: u32) -> Option<&[u8]> {
        match self.places[slot as usize] {
            NO_SLOT => None,
            place => Some(self.orders.row(place)),
        }
    }

    /// Whether a pair comes before all that were put out for a slot; then it is put out.
    #[inline]
    pub(super) fn improve(&mut self, slot: u32, order: &[u8]) -> bool {
        let place = &mut self.places[slot as usize];
        if *place == NO_SLOT {
            *place = self.orders.insert(order);
            return true;
        }
        let is_better = order < self.orders.row(*place);
        if is_better {
            self.orders.replace(*place, order);
        }
        is_better
    }

    /// Nothing was put out for any slot.
    pub(super) fn forget_all(&mut self) {
        self.places.fill(NO_SLOT);
        self.orders = RowArena::default();
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        self.places.len() * 4 + self.orders.memory()
    }

    /// Bytes of it that the next orders take.
    pub(super) fn free_memory(&self) -> usize {
        self.orders.free_memory()
    }
}

/// Which pairs are put out. Of each pair the slot that it may be the best of, [`NO_SLOT`] if that is not
/// kept, and the row whose order it has. `matched`: those that meet the condition.
pub(super) fn improving(
    best: &mut BestPairs,
    matched: Option<&BooleanArray>,
    orders: &OrderKeys,
    pairs: impl Iterator<Item = (u32, usize)>,
) -> BooleanArray {
    let mut put_out = Vec::with_capacity(pairs.size_hint().0);
    for (pair, (slot, order)) in pairs.enumerate() {
        let matches = matched.is_none_or(|matched| matched.value(pair));
        put_out.push(matches && (slot == NO_SLOT || best.improve(slot, orders.row(order))));
    }
    put_out.into()
}
