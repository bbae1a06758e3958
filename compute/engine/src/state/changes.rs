//! Which slots an epoch changed, and their incremental freeze.
//!
//! At a barrier the list of changed slots is swapped, not copied; their rows are encoded between
//! batches, and a row that is about to change or go before its turn is encoded first. So a task
//! never stops for the length of its delta, and the delta of e holds the values as of e.

use std::collections::{HashSet, VecDeque};

use proto::types::Epoch;

use super::{delta::FrozenRows, undo::ChangedHashes};

/// Slot not changed since its last freeze.
const CLEAN: u32 = 0;
/// Where one slot in so many was changed, slots are encoded as they lie: columns that are read from one
/// end to the other are in the processor's caches, and marks that are looked at in vain cost less.
const AS_THEY_LIE: usize = 8;

/// Change tracking over the slots of one table.
#[derive(Debug)]
pub struct Changes {
    /// Mark of the epoch that is open.
    mark: u32,
    /// Per slot: mark of its last change that is not encoded yet, or [`CLEAN`].
    marks: Vec<u32>,
    changed: Vec<u32>,
    deleted: FrozenRows,
    frozen: Option<Frozen>,
    /// Hashes of the keys that taken epochs changed, oldest first, as long as these are not known to
    /// be committed.
    uncommitted: VecDeque<(Epoch, Vec<u64>)>,
}

#[derive(Debug)]
struct Frozen {
    epoch: Epoch,
    mark: u32,
    changed: Vec<u32>,
    /// Slots that there were, if they are encoded as they lie; else they are in the order of `changed`.
    slots: Option<usize>,
    /// Of the changed slots, or of all.
    next: usize,
    rows: FrozenRows,
}

impl Default for Changes {
    fn default() -> Self {
        let deleted = FrozenRows::default();
        Changes {
            mark: CLEAN + 1,
            marks: Vec::new(),
            changed: Vec::new(),
            deleted,
            frozen: None,
            uncommitted: VecDeque::new(),
        }
    }
}

impl Changes {
    /// Makes room for slots below `slots`.
    #[inline]
    pub fn reserve(&mut self, slots: usize) {
        if self.marks.len() < slots {
            self.marks.resize(slots, CLEAN);
        }
    }

    /// The slot's row is about to change (or has just been made). `encode` writes its present
    /// row; it is called when an epoch that is still being encoded needs it.
    #[inline]
    pub fn touch(&mut self, slot: u32, encode: impl FnOnce(u32, &mut FrozenRows)) {
        if !self.is_changed(slot) {
            self.touch_first(slot, encode);
        }
    }

    /// Whether the slot's row was changed in the open epoch.
    #[inline]
    pub(super) fn is_changed(&self, slot: u32) -> bool {
        self.marks[slot as usize] == self.mark
    }

    #[cold]
    fn touch_first(&mut self, slot: u32, encode: impl FnOnce(u32, &mut FrozenRows)) {
        self.encode_if_frozen(slot, encode);
        self.marks[slot as usize] = self.mark;
        self.changed.push(slot);
    }

    /// The slot's row is about to be deleted: `encode` as for [`Changes::touch`], then the delete
    /// mark goes into the open epoch.
    pub fn delete(
        &mut self,
        slot: u32,
        hash: u64,
        identity: impl FnOnce(&mut Vec<u8>),
        encode: impl FnOnce(u32, &mut FrozenRows),
    ) {
        self.encode_if_frozen(slot, encode);
        self.marks[slot as usize] = CLEAN;
        self.deleted.push(hash, identity, None::<fn(&mut Vec<u8>)>);
    }

    /// The slot's row is about to be forgotten, not deleted: another task owns it. Right after a
    /// freeze, so that nothing of the open epoch is lost.
    pub fn forget(&mut self, slot: u32, encode: impl FnOnce(u32, &mut FrozenRows)) {
        self.encode_if_frozen(slot, encode);
        debug_assert_eq!(self.marks[slot as usize], CLEAN, "a change is lost");
        self.marks[slot as usize] = CLEAN;
    }

    /// Whether no change of the slot's row waits to be encoded.
    #[must_use]
    pub fn is_clean(&self, slot: u32) -> bool {
        self.marks
            .get(slot as usize)
            .is_none_or(|mark| *mark == CLEAN)
    }

    /// Whether an epoch is frozen and not taken.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.frozen.is_some()
    }

    /// A row is in another slot from now on, which was free. While no epoch is frozen.
    pub fn relocate(&mut self, from: u32, to: u32) {
        debug_assert!(self.frozen.is_none(), "a frozen row moves");
        let mark = std::mem::replace(&mut self.marks[from as usize], CLEAN);
        self.marks[to as usize] = mark;
        if mark != CLEAN {
            self.changed.push(to);
        }
    }

    /// Slots from `slots` on, which hold no rows, are not there any more. While no epoch is frozen.
    pub fn truncate(&mut self, slots: usize) {
        debug_assert!(self.frozen.is_none(), "a frozen row goes");
        self.marks.truncate(slots);
        self.marks.shrink_to_fit();
        self.changed.retain(|slot| (*slot as usize) < slots);
    }

    fn encode_if_frozen(&mut self, slot: u32, encode: impl FnOnce(u32, &mut FrozenRows)) {
        if let Some(frozen) = &mut self.frozen
            && self.marks[slot as usize] == frozen.mark
        {
            encode(slot, &mut frozen.rows);
            self.marks[slot as usize] = CLEAN;
        }
    }

    /// Closes the open epoch. The one before must have been taken.
    pub fn freeze(&mut self, epoch: Epoch) {
        assert!(
            self.frozen.is_none(),
            "an epoch is frozen only after the one before is taken"
        );
        let changed = std::mem::take(&mut self.changed);
        let mut rows = std::mem::take(&mut self.deleted);
        rows.reserve(changed.len());
        let many = changed.len() >= self.marks.len() / AS_THEY_LIE;
        self.frozen = Some(Frozen {
            epoch,
            mark: self.mark,
            slots: many.then_some(self.marks.len()),
            changed,
            next: 0,
            rows,
        });
        self.mark = self
            .mark
            .checked_add(1)
            .expect("fewer than 2^32 epochs in one task's life");
    }

    /// Encodes up to `rows_max` rows of the frozen epoch; `true` when none is left.
    pub fn encode(
        &mut self,
        rows_max: usize,
        mut encode: impl FnMut(u32, &mut FrozenRows),
    ) -> bool {
        let Some(frozen) = &mut self.frozen else {
            return true;
        };
        let all = frozen.slots.unwrap_or(frozen.changed.len());
        let end = all.min(frozen.next.saturating_add(rows_max));
        let mut encode = |slot: u32| {
            // Not if it was encoded before its turn, or deleted.
            if self.marks[slot as usize] == frozen.mark {
                encode(slot, &mut frozen.rows);
                self.marks[slot as usize] = CLEAN;
            }
        };
        match frozen.slots {
            Some(_) => (frozen.next..end).for_each(|slot| encode(slot as u32)),
            None => (frozen.changed[frozen.next..end].iter()).for_each(|slot| encode(*slot)),
        }
        frozen.next = end;
        end == all
    }

    /// Takes the frozen rows, all encoded.
    pub fn take(&mut self) -> FrozenRows {
        let Some(frozen) = self.frozen.take() else {
            return FrozenRows::default();
        };
        if !frozen.rows.is_empty() {
            let hashes = frozen.rows.hashes().collect();
            self.uncommitted.push_back((frozen.epoch, hashes));
        }
        frozen.rows
    }

    /// Epochs up to this one are committed.
    pub fn committed(&mut self, epoch: Epoch) {
        self.uncommitted.retain(|(of, _)| *of > epoch);
    }

    /// The hashes of all keys that were changed after `restored`, the last committed epoch;
    /// `hash_of` says that of a slot. Nothing counts as changed after that: whoever calls it forgets
    /// the keys' rows.
    pub fn roll_back(
        &mut self,
        restored: Epoch,
        hash_of: impl Fn(u32) -> u64,
        dirty: &mut HashSet<u64>,
    ) {
        let changed = self.take_back(restored, hash_of).into_iter();
        changed.for_each(|(_, hashes)| dirty.extend(hashes));
    }

    /// As [`Changes::roll_back`], by epoch.
    pub(super) fn take_back(
        &mut self,
        restored: Epoch,
        hash_of: impl Fn(u32) -> u64,
    ) -> ChangedHashes {
        let uncommitted = std::mem::take(&mut self.uncommitted).into_iter();
        let after = uncommitted.filter(|(epoch, _)| *epoch > restored);
        let mut changed: ChangedHashes =
            after.map(|(epoch, hashes)| (Some(epoch), hashes)).collect();
        // A slot without the mark has another row by now; what it had is encoded, or deleted.
        let marks = &self.marks;
        let marked = |mark: u32| move |slot: &u32| marks[*slot as usize] == mark;
        if let Some(frozen) = self.frozen.take() {
            let mut hashes: Vec<u64> = frozen.rows.hashes().collect();
            let slots = frozen.changed.into_iter().filter(marked(frozen.mark));
            hashes.extend(slots.map(&hash_of));
            changed.push((Some(frozen.epoch), hashes));
        }
        let mut hashes: Vec<u64> = self.deleted.hashes().collect();
        let slots = self.changed.drain(..).filter(marked(self.mark));
        hashes.extend(slots.map(&hash_of));
        changed.push((None, hashes));
        self.deleted = FrozenRows::default();
        self.marks.fill(CLEAN);
        self.mark = CLEAN + 1;
        changed
    }

    /// Slots that were changed in the open epoch, those excepted whose rows are gone.
    #[must_use]
    pub fn open_len(&self) -> usize {
        self.changed.len()
    }

    /// Bytes of memory.
    #[must_use]
    pub fn memory(&self) -> usize {
        let hashes = self.uncommitted.iter().map(|(_, hashes)| hashes.len());
        let frozen = self.frozen.as_ref();
        let frozen = frozen.map_or(0, |frozen| frozen.changed.len() * 4 + frozen.rows.memory());
        let lists = (self.marks.len() + self.changed.len()) * 4;
        lists + hashes.sum::<usize>() * 8 + self.deleted.memory() + frozen
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use proto::types::{KeyGroupCount, TableId};
    use state_client::page::Run;

    use super::*;
    use crate::state::delta::{StateDelta, TableDelta};

    /// Values by slot, which is the row's identity as well.
    type Rows = BTreeMap<u32, u8>;

    #[derive(Clone, Debug)]
    enum Step {
        Set(u32, u8),
        Delete(u32),
        Freeze,
        Encode(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => (0..40_u32, any::<u8>()).prop_map(|(slot, value)| Step::Set(slot, value)),
            2 => (0..40_u32).prop_map(Step::Delete),
            1 => Just(Step::Freeze),
            3 => (0..3_usize).prop_map(Step::Encode),
        ];
        prop::collection::vec(step, 1..120)
    }

    fn encode(rows: &Rows) -> impl Fn(u32, &mut FrozenRows) + '_ {
        |slot, out| {
            let value = rows[&slot];
            let identity = |out: &mut Vec<u8>| out.extend(slot.to_be_bytes());
            out.push(
                slot.into(),
                identity,
                Some(|out: &mut Vec<u8>| out.push(value)),
            );
        }
    }

    /// A table, and what whoever reads its epochs has.
    #[derive(Default)]
    struct Table {
        changes: Changes,
        now: Rows,
        /// As of the epoch that is being encoded.
        frozen: Option<Rows>,
        saved: Rows,
    }

    impl Table {
        fn step(&mut self, step: Step) {
            let Table { changes, now, .. } = self;
            match step {
                Step::Set(slot, value) => {
                    changes.reserve(slot as usize + 1);
                    changes.touch(slot, encode(now));
                    now.insert(slot, value);
                }
                Step::Delete(slot) if now.contains_key(&slot) => {
                    let identity = |out: &mut Vec<u8>| out.extend(slot.to_be_bytes());
                    changes.delete(slot, slot.into(), identity, encode(now));
                    now.remove(&slot);
                }
                Step::Delete(_) => {}
                Step::Freeze => {
                    self.save();
                    self.changes.freeze(Epoch(1));
                    self.frozen = Some(self.now.clone());
                }
                Step::Encode(rows) => drop(changes.encode(rows, encode(now))),
            }
        }

        /// Ends the epoch that is being encoded: it leads to what was there when it was frozen.
        fn save(&mut self) {
            let Some(frozen) = self.frozen.take() else {
                return;
            };
            while !self.changes.encode(1, encode(&self.now)) {}
            let table = TableDelta {
                table: TableId(1),
                namespace: 0,
                rows: self.changes.take(),
            };
            let delta = StateDelta {
                tables: vec![table],
                ..StateDelta::default()
            };
            let blocks = delta.into_changes(Epoch(1), KeyGroupCount::DEFAULT).blocks;
            for block in blocks {
                for row in Run::open(block.run).expect("a run").iter() {
                    let slot = u32::from_be_bytes(row.identity.try_into().expect("a slot"));
                    match row.value {
                        Some(value) => self.saved.insert(slot, value[0]),
                        None => self.saved.remove(&slot),
                    };
                }
            }
            assert_eq!(self.saved, frozen);
        }
    }

    proptest! {
        #[test]
        fn an_epoch_holds_what_was_there_when_it_was_frozen_whatever_changes_meanwhile(
            steps in steps()
        ) {
            let mut table = Table::default();
            for step in steps.into_iter().chain([Step::Freeze, Step::Freeze]) {
                table.step(step);
            }
        }
    }
}
