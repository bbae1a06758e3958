//! One row of a table, through epochs that are committed or taken back, replies, and key groups that leave.

use std::{collections::HashSet, sync::Arc};

use arrow::{array::Int64Array, datatypes::DataType};
use proto::types::{Epoch, KeyGroupCount, KeyGroupSet, TableId};
use state_client::LoadedRow;

use super::{MapTable, NO_SLOT, Values};
use crate::{
    key::{KeyBatch, KeyEncoder},
    operator::{Reassigned, TaskScope},
    spill::Evicted,
};

/// A byte per key.
struct Bytes(Vec<u8>);

impl Values for Bytes {
    fn reserve(&mut self, slots: usize) {
        self.0.resize(slots.max(self.0.len()), 0);
    }

    fn reset(&mut self, slot: u32) {
        self.0[slot as usize] = 0;
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        out.push(self.0[slot as usize]);
    }

    fn decode(&mut self, slot: u32, bytes: &[u8]) -> Result<(), String> {
        self.0[slot as usize] = *bytes.first().ok_or("no byte")?;
        Ok(())
    }

    fn relocate(&mut self, from: u32, to: u32) {
        self.0[to as usize] = std::mem::take(&mut self.0[from as usize]);
    }

    fn truncate(&mut self, slots: usize) {
        self.0.truncate(slots);
    }

    fn memory(&self) -> usize {
        self.0.len()
    }

    fn free_memory(&self, free_slots: usize) -> usize {
        free_slots
    }
}

/// A table, and one of its keys. All keys are of one key group.
struct One {
    table: MapTable<Bytes>,
    key: KeyBatch,
}

fn encoder() -> KeyEncoder {
    KeyEncoder::new(vec![0], vec![DataType::Int64]).expect("an encoder")
}

fn one_group() -> KeyGroupCount {
    KeyGroupCount::new(1).expect("a power of two")
}

fn key(value: i64) -> KeyBatch {
    let key = encoder().encode_arrays(&[Arc::new(Int64Array::from(vec![value]))], 1);
    key.expect("a key")
}

impl One {
    fn new(partial: bool) -> One {
        let scope = TaskScope {
            index: 0,
            parallelism: 1,
            owned: KeyGroupSet::all(one_group()),
            key_groups: one_group(),
            batch_rows: 7,
            restored: Epoch(1),
            came: None,
        };
        let (id, values) = (TableId(1), Bytes(Vec::new()));
        One {
            table: MapTable::new(id, 0, encoder().width(), &scope, partial, values),
            key: key(7),
        }
    }

    /// With the value 5 that is committed with epoch 1.
    fn committed() -> One {
        let mut one = One::new(false);
        one.set(5);
        one.freeze(1);
        one.take();
        one.table.committed(Epoch(1));
        one
    }

    fn slot(&self) -> u32 {
        let index = self.table.index();
        index.find_row(&self.key.keys, 0, self.key.hashes[0])
    }

    fn set(&mut self, value: u8) {
        let mut slots = Vec::new();
        self.table.upsert(&self.key, &mut slots);
        self.table.values.0[slots[0] as usize] = value;
    }

    fn value(&self) -> Option<u8> {
        let slot = self.slot();
        (slot != NO_SLOT).then(|| self.table.values.0[slot as usize])
    }

    fn is_asked_for(&self) -> bool {
        self.slot() == NO_SLOT && self.table.index().is_unknown(self.key.hashes[0])
    }

    fn freeze(&mut self, epoch: u64) {
        self.table.freeze(Epoch(epoch));
    }

    fn take(&mut self) {
        assert!(self.table.encode(usize::MAX));
        drop(self.table.take_delta());
    }

    /// The answer to a read: the key has the value 5.
    fn reply(&mut self) {
        let hash = self.key.hashes[0];
        let mut other = One::new(false);
        other.set(5);
        let mut identity = Vec::new();
        other
            .table
            .index()
            .write_identity(other.slot(), &mut identity);
        let row = LoadedRow {
            namespace: 0,
            hash,
            identity: identity.into(),
            value: vec![5].into(),
        };
        self.table.install(&row).expect("a row");
        self.table.index_mut().mark_loaded(hash);
    }
}

#[test]
fn what_was_changed_or_deleted_in_an_epoch_that_never_was_is_read_again() {
    let ends: [fn(&mut One); 2] = [|one| one.table.remove(one.slot()), |one| one.set(6)];
    for end in ends {
        // How far the epoch is when it is taken back.
        for steps in 0..3 {
            let mut one = One::committed();
            end(&mut one);
            if steps > 0 {
                one.freeze(2);
            }
            if steps > 1 {
                one.take();
            }
            assert!(!one.is_asked_for(), "what is known is not asked for");
            let mut dirty = HashSet::new();
            one.table.roll_back(Epoch(1), &mut dirty);
            one.table.forget_dirty(&dirty);
            assert!(one.is_asked_for(), "after {steps} steps");
            one.reply();
            assert_eq!(one.value(), Some(5));
        }
    }
}

/// The epoch in which a key group left is taken back, and the key group stays another task's.
#[test]
fn what_was_changed_in_a_key_group_that_left_is_forgotten() {
    let mut one = One::committed();
    one.set(6);
    one.freeze(2);
    let change = Reassigned {
        epoch: Epoch(2),
        left: KeyGroupSet::all(one_group()),
        came: KeyGroupSet::default(),
    };
    one.table.let_go(&change);
    one.take();
    let mut dirty = HashSet::new();
    one.table.roll_back(Epoch(1), &mut dirty);
    one.table.forget_dirty(&dirty);
    assert!(one.table.index().is_empty() && one.table.index().is_resident());
}

#[test]
fn what_was_deleted_before_others_went_is_read_again_if_it_never_was() {
    let mut one = One::committed();
    // So is another key, which memory has no room for after the first one was deleted.
    one.key = key(8);
    one.set(5);
    one.freeze(2);
    one.take();
    one.table.committed(Epoch(2));
    let slot = one.slot();
    one.key = key(7);
    one.table.remove(one.slot());
    one.freeze(3);
    one.take();
    one.table.evict(&[slot], &mut Evicted::dropped());
    assert!(!one.is_asked_for(), "it is known to be gone");
    let mut dirty = HashSet::new();
    one.table.roll_back(Epoch(2), &mut dirty);
    one.table.forget_dirty(&dirty);
    assert!(one.is_asked_for());
    one.reply();
    assert_eq!(one.value(), Some(5));
}

#[test]
fn a_reply_changes_nothing_that_is_newer() {
    let mut one = One::new(true);
    assert!(one.is_asked_for());
    // Written without a look at what is there, while that is being read.
    one.set(9);
    one.reply();
    assert_eq!(one.value(), Some(9));
}

#[test]
fn rows_that_were_let_go_of_are_in_the_epoch_before_and_nowhere_after_it() {
    let (all, none) = (KeyGroupSet::all(one_group()), KeyGroupSet::default());
    let change = |left: &KeyGroupSet, came: &KeyGroupSet| Reassigned {
        epoch: Epoch(1),
        left: left.clone(),
        came: came.clone(),
    };
    let taken = |one: &mut One| -> Vec<Option<Vec<u8>>> {
        assert!(one.table.encode(usize::MAX));
        let delta = one.table.take_delta().expect("a change");
        let values = delta.rows.iter().map(|(_, _, value)| value);
        values.map(|value| value.map(<[u8]>::to_vec)).collect()
    };
    // Freed before they are encoded, or after.
    for is_freed in [true, false] {
        let mut one = One::committed();
        one.set(6);
        one.freeze(2);
        one.table.let_go(&change(&all, &none));
        assert!(one.table.index().is_empty());
        one.table.let_go(&change(&none, &all));
        assert!(one.is_asked_for());
        if is_freed {
            one.set(9);
        }
        assert_eq!(taken(&mut one), [Some(vec![6])], "{is_freed}");
        one.set(9);
        assert_eq!((one.value(), one.table.index().len()), (Some(9), 1));
        assert_eq!(one.table.index().slots(), 1, "its slot is used again");
        one.freeze(3);
        assert_eq!(taken(&mut one), [Some(vec![9])], "{is_freed}");
    }
}

#[test]
fn nothing_that_was_kept_of_a_key_group_answers_when_it_comes_back() {
    let mut one = One::committed();
    let (all, none) = (KeyGroupSet::all(one_group()), KeyGroupSet::default());
    let change = |left: &KeyGroupSet, came: &KeyGroupSet| Reassigned {
        epoch: Epoch(1),
        left: left.clone(),
        came: came.clone(),
    };
    one.table.reassign(&change(&all, &none));
    one.table.reassign(&change(&none, &all));
    assert!(one.is_asked_for());
}
