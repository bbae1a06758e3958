//! Rows of a batch that the order does not tell apart, partition by partition.

use arrow::array::UInt32Array;
use engine::state::NO_SLOT;

use crate::rows::OrderKeys;

/// By row, the first and the last row of its partition that the order does not tell apart from it.
pub(super) struct Peers {
    pub(super) first: UInt32Array,
    pub(super) last: UInt32Array,
}

/// The peers of rows with these keys, row `i` of partition `slots[i]`. Rows of a partition are in
/// order. `seen` has [`NO_SLOT`] for every slot, and is left so.
pub(super) fn peers(keys: &OrderKeys, slots: &[u32], seen: &mut [u32]) -> Peers {
    let rows = slots.len() as u32;
    let mut ends = |order: &mut dyn Iterator<Item = u32>| {
        let mut end = vec![0; rows as usize];
        for row in order {
            let seen = &mut seen[slots[row as usize] as usize];
            let is_peer = *seen != NO_SLOT && keys.row(*seen as usize) == keys.row(row as usize);
            end[row as usize] = match is_peer {
                true => end[*seen as usize],
                false => row,
            };
            *seen = row;
        }
        // As before, for the next turn.
        slots.iter().for_each(|slot| seen[*slot as usize] = NO_SLOT);
        UInt32Array::from(end)
    };
    Peers {
        first: ends(&mut (0..rows)),
        last: ends(&mut (0..rows).rev()),
    }
}
