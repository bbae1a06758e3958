//! Rows of a join that expire by age, each by itself: what no change has touched for the lifetime of
//! its side goes without a word to the output, as if it had never come.
//!
//! Per key is known when its first row is due; then all rows of the key are looked at. How many
//! matches the rows that stay have is counted anew.

use std::collections::BTreeSet;

use engine::{
    TIMESTAMP_MIN, Timestamp,
    key::KeyBatch,
    operator::OperatorError,
    state::{DueSlots, Expiring, NO_SLOT, Ttl},
};
use proto::types::TableId;
use state_client::{KeyRequest, LoadedRow};

use super::{
    degree::recount,
    shape::{LEFT, RIGHT},
    state::JoinState,
    until::LOOKS,
    updating::JoinOperator,
};

/// When keys have rows that are due.
#[derive(Debug)]
pub(super) struct Ages {
    pub(super) ttl: [Option<Ttl>; 2],
    now: Timestamp,
    /// By key slot: no row of the key is due before.
    pub(super) slots: DueSlots,
}

impl Ages {
    /// Of sides with these lifetimes; `None`: nothing expires.
    pub(super) fn new(ttl: [Option<Ttl>; 2]) -> Option<Ages> {
        let shortest = shortest(ttl)?;
        Some(Ages::within(ttl, shortest.ms))
    }

    /// The same; what is due is found after a part of `ms` at the latest.
    pub(super) fn within(ttl: [Option<Ttl>; 2], ms: i64) -> Ages {
        Ages {
            ttl,
            now: TIMESTAMP_MIN,
            slots: DueSlots::new(ms),
        }
    }

    /// What time it is.
    pub(super) fn now(&self) -> Timestamp {
        self.now
    }
}

fn shortest(ttl: [Option<Ttl>; 2]) -> Option<Ttl> {
    ttl.into_iter().flatten().min_by_key(|ttl| ttl.ms)
}

/// What came of looking at a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Purged {
    Nothing,
    /// Rows went, and others are there.
    Some,
    /// All went, and the key with them.
    All,
}

impl JoinState {
    /// What time it is from now on.
    pub(super) fn set_now(&mut self, now: Timestamp) {
        if let Some(ages) = &mut self.ages {
            ages.now = now;
            self.sides
                .iter_mut()
                .for_each(|side| side.rows.set_now(now));
        }
    }

    /// Takes away rows of keys that are due, looking at about `keys_max`; `true`: there may be more.
    /// For who needs not know which went.
    pub(super) fn expire(&mut self, keys_max: usize) -> bool {
        let Some(ages) = &mut self.ages else {
            return false;
        };
        let mut due = Vec::new();
        let more = ages.slots.take_due(ages.now, keys_max, &mut due);
        for key_slot in due {
            if self.index.holds(key_slot) {
                self.purge(key_slot);
            }
        }
        more
    }

    /// Hashes of stored rows of a side that have expired and are not in memory.
    pub(super) fn overdue(&self, side: usize, rows: &[LoadedRow]) -> BTreeSet<u64> {
        let ages = self.ages.as_ref();
        let Some((now, ttl)) = ages.and_then(|ages| Some((ages.now, ages.ttl[side]?))) else {
            return BTreeSet::new();
        };
        let is_overdue = |row: &&LoadedRow| {
            let stamp = self.sides[side].rows.stored_stamp(&row.value);
            stamp > TIMESTAMP_MIN && ttl.due(stamp) <= now && self.index.is_unknown(row.hash)
        };
        rows.iter().filter(is_overdue).map(|row| row.hash).collect()
    }

    fn is_due(&self, key_slot: u32) -> bool {
        self.ages
            .as_ref()
            .is_some_and(|ages| ages.now > TIMESTAMP_MIN && ages.slots.due(key_slot) <= ages.now)
    }

    /// Takes away the rows of a key that have expired.
    fn purge(&mut self, key_slot: u32) -> Purged {
        let Some(ages) = &mut self.ages else {
            return Purged::Nothing;
        };
        let heads = &mut self.heads[key_slot as usize];
        let (mut next, mut purged) = (Timestamp::MAX, Purged::Nothing);
        for side in [LEFT, RIGHT] {
            let Some(ttl) = ages.ttl[side] else {
                continue;
            };
            let mut slot = heads[side];
            while slot != NO_SLOT {
                let after = self.sides[side].next(slot);
                let rows = &mut self.sides[side].rows;
                if rows.stamp(slot) == TIMESTAMP_MIN {
                    rows.date(slot);
                }
                let due = ttl.due(rows.stamp(slot));
                if due <= ages.now {
                    self.sides[side].unlink(slot, &mut heads[side]);
                    self.sides[side].rows.remove(slot);
                    purged = Purged::Some;
                } else {
                    next = next.min(due);
                }
                slot = after;
            }
        }
        ages.slots.set(key_slot, next);
        self.index.touch(key_slot);
        if *heads == [NO_SLOT; 2] {
            self.index.remove(key_slot);
            return Purged::All;
        }
        purged
    }
}

impl JoinOperator {
    /// Takes away what has expired of the keys of a batch.
    pub(super) fn remove_expired(&mut self, keys: &KeyBatch) -> Result<(), OperatorError> {
        // Rows with times of their own meet nothing new that is not late.
        if self.state.ages.is_none() || self.goes_by_time() {
            return Ok(());
        }
        for (row, hash) in keys.hashes.iter().enumerate() {
            let key_slot = self.state.index.find_row(&keys.keys, row, *hash);
            if key_slot != NO_SLOT && self.state.is_due(key_slot) {
                self.purge(key_slot)?;
            }
        }
        Ok(())
    }

    fn purge(&mut self, key_slot: u32) -> Result<(), OperatorError> {
        match self.state.purge(key_slot) {
            Purged::Some => recount(&self.shape, &mut self.state, key_slot, &self.eval),
            Purged::Nothing | Purged::All => Ok(()),
        }
    }

    fn side_of(&self, table: TableId) -> usize {
        usize::from(table != self.tables[LEFT])
    }
}

impl Expiring for JoinOperator {
    fn ttl(&self) -> Ttl {
        if self.goes_by_time() {
            return LOOKS;
        }
        let ages = self.state.ages.as_ref();
        let ttl = ages.and_then(|ages| shortest(ages.ttl));
        ttl.expect("only what has a lifetime is asked for it")
    }

    fn set_now(&mut self, now: Timestamp) {
        self.state.set_now(now);
    }

    fn expire(
        &mut self,
        keys_max: usize,
        _wanted: &mut Vec<KeyRequest>,
    ) -> Result<bool, OperatorError> {
        if self.goes_by_time() {
            // Pairs that are on their way name rows by their slots.
            return Ok(self.probe.is_some() || self.let_go(keys_max));
        }
        let mut due = Vec::new();
        let more = match &mut self.state.ages {
            Some(ages) if self.probe.is_none() => ages.slots.take_due(ages.now, keys_max, &mut due),
            _ => return Ok(true),
        };
        for key_slot in due {
            if self.state.index.holds(key_slot) {
                self.purge(key_slot)?;
            }
        }
        Ok(more)
    }

    fn partial_tables(&self) -> Vec<TableId> {
        let Some(ages) = &self.state.ages else {
            return Vec::new();
        };
        if self.state.index.is_resident() {
            return Vec::new();
        }
        let expires = |table: &TableId| ages.ttl[self.side_of(*table)].is_some();
        self.tables.into_iter().filter(expires).collect()
    }

    fn overdue(&self, table: TableId, rows: &[LoadedRow]) -> Vec<KeyRequest> {
        let side = self.side_of(table);
        let hashes = self.state.overdue(side, rows);
        let read = |hash: u64| {
            self.tables.map(|table| KeyRequest {
                table,
                namespace: 0,
                hash,
                sub: None,
            })
        };
        hashes.into_iter().flat_map(read).collect()
    }
}
