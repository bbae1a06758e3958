//! Which task gets a row.

use arrow::array::UInt32Array;
use planted::Bug;
use proto::types::{KeyGroupCount, KeyGroupMap};

use crate::{ChangeBatch, key::KeyEncoder, operator::OperatorError};

/// How an exchange spreads rows over its receivers.
#[derive(Debug)]
pub enum Partitioner {
    /// By the key group of these columns.
    Hash(KeyEncoder, KeyGroupCount, KeyGroupMap),
    /// All to the first.
    Single,
    /// Batch by batch, in turn.
    Rebalance(usize),
    /// Every row to everyone.
    Broadcast,
}

impl Partitioner {
    /// Key groups belong to other receivers from now on.
    pub fn reroute(&mut self, to: KeyGroupMap) {
        if let Partitioner::Hash(_, _, map) = self {
            if planted::is(Bug::RouteStale) && to.tasks() > map.tasks() {
                return;
            }
            *map = to;
        }
    }

    /// Splits a batch over `targets` receivers: `(receiver, rows)`, empty parts left out.
    ///
    /// # Errors
    /// When a key cannot be made.
    pub fn split(
        &mut self,
        batch: ChangeBatch,
        targets: usize,
    ) -> Result<Vec<(usize, ChangeBatch)>, OperatorError> {
        if targets == 1 {
            return Ok(vec![(0, batch)]);
        }
        Ok(match self {
            Partitioner::Single => vec![(0, batch)],
            Partitioner::Rebalance(next) => {
                let target = *next % targets;
                *next = target + 1;
                vec![(target, batch)]
            }
            Partitioner::Broadcast => (0..targets).map(|t| (t, batch.clone())).collect(),
            Partitioner::Hash(encoder, groups, map) => {
                let keys = encoder.encode(&batch.rows)?;
                let expected = batch.num_rows() / targets + 16;
                let mut rows: Vec<Vec<u32>> =
                    (0..targets).map(|_| Vec::with_capacity(expected)).collect();
                for (row, hash) in keys.hashes.iter().enumerate() {
                    let target = map.owner(groups.of_hash(*hash));
                    rows[target as usize].push(row as u32);
                }
                let mut parts = Vec::with_capacity(targets);
                for (target, rows) in rows.into_iter().enumerate() {
                    if rows.len() == batch.num_rows() {
                        return Ok(vec![(target, batch)]);
                    }
                    if !rows.is_empty() {
                        parts.push((target, batch.take(&UInt32Array::from(rows))?));
                    }
                }
                parts
            }
        })
    }
}
