//! Counts the matches of a key's rows anew when they have been loaded: the counts are kept in
//! memory only.

use engine::{operator::OperatorError, state::NO_SLOT};

use super::{
    shape::{JoinShape, LEFT, RIGHT},
    state::JoinState,
};
use crate::EvalContext;

/// Sets the degrees of all rows of a key.
pub(super) fn recount(
    shape: &JoinShape,
    state: &mut JoinState,
    key_slot: u32,
    eval: &EvalContext,
) -> Result<(), OperatorError> {
    if !shape.tracks(LEFT) && !shape.tracks(RIGHT) {
        return Ok(());
    }
    let chains = chains(state, key_slot);
    let mut counts = chains.each_ref().map(|chain| vec![0_u32; chain.len()]);
    if shape.condition.is_none() {
        counts[LEFT].fill(chains[RIGHT].len() as u32);
        counts[RIGHT].fill(chains[LEFT].len() as u32);
    } else {
        each_match(shape, state, &chains, eval, |[left, right]| {
            counts[LEFT][left] += 1;
            counts[RIGHT][right] += 1;
        })?;
    }
    for side in [LEFT, RIGHT] {
        if let Some(degrees) = &mut state.sides[side].degrees {
            for (slot, count) in chains[side].iter().zip(&counts[side]) {
                degrees[*slot as usize] = *count;
            }
        }
    }
    Ok(())
}

/// The rows of a key, by side.
pub(super) fn chains(state: &JoinState, key_slot: u32) -> [Vec<u32>; 2] {
    [LEFT, RIGHT].map(|side| {
        let mut slots = Vec::new();
        let mut slot = state.head(key_slot, side);
        while slot != NO_SLOT {
            slots.push(slot);
            slot = state.sides[side].next(slot);
        }
        slots
    })
}

/// Visits the pairs of a key that match, as places in the chains of its rows.
pub(super) fn each_match(
    shape: &JoinShape,
    state: &JoinState,
    chains: &[Vec<u32>; 2],
    eval: &EvalContext,
    mut visit: impl FnMut([usize; 2]),
) -> Result<(), OperatorError> {
    let row = |side: usize, at: usize| state.sides[side].rows.row(chains[side][at]);
    let lefts: Vec<&[u8]> = (0..chains[LEFT].len()).map(|at| row(LEFT, at)).collect();
    let columns = shape.codecs[LEFT].decode(&lefts)?;
    let pairs_all = chains[LEFT].len() * chains[RIGHT].len();
    let mut next = 0;
    while next < pairs_all {
        let end = pairs_all.min(next + shape.batch_rows);
        let place = |pair: usize| [pair / chains[RIGHT].len(), pair % chains[RIGHT].len()];
        let own: Vec<u32> = (next..end).map(|pair| place(pair)[LEFT] as u32).collect();
        let others: Vec<&[u8]> = (next..end)
            .map(|pair| row(RIGHT, place(pair)[RIGHT]))
            .collect();
        match shape.matches(LEFT, &columns, &own, &others, eval)? {
            Some(mask) => (mask.values().set_indices()).for_each(|at| visit(place(next + at))),
            None => (next..end).for_each(|pair| visit(place(pair))),
        }
        next = end;
    }
    Ok(())
}
