//! What rows were before epochs that may still be taken back: before-images, as databases keep in undo logs.
//!
//! After a failure, a task that is left goes on with all it has in memory, as of the last commit. What was changed
//! since then comes again at once, for it is just what sources bring again; read from the store one by one, those
//! keys would be what everything else waits for. So a row is noted as it is before an epoch's first change of
//! it, as long as there is room. Keys for which there was none are to be read.
//!
//! Invariant: of a hash that [`UndoLog::roll_back`] gives, all rows that were changed since the epoch that is gone
//! back to are noted as of its end.

use std::collections::{HashMap, HashSet, VecDeque};

use proto::types::Epoch;

use super::delta::FrozenRows;

/// Bytes that a table's notes take: some tens of thousands of rows, noted in a few milliseconds.
const BYTES_MAX: usize = 4 << 20;
/// What a note takes beside its row.
const NOTE_BYTES: usize = 32;

/// Notes of one table.
#[derive(Debug)]
pub(super) struct UndoLog {
    open: Notes,
    /// Of epochs that are not known to be committed, oldest first.
    closed: VecDeque<(Epoch, Notes)>,
    bytes: usize,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Notes {
    /// In the order in which they were made: of several of a row the first one counts.
    rows: FrozenRows,
    bytes: usize,
    /// There was no room for some.
    is_short: bool,
}

/// A row as it was; `value` `None`: there was none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Before {
    pub(super) hash: u64,
    pub(super) identity: Vec<u8>,
    pub(super) value: Option<Vec<u8>>,
}

/// The hashes of rows that were changed, once for each row, by epoch, oldest first; `None`: of the open one.
pub(super) type ChangedHashes = Vec<(Option<Epoch>, Vec<u64>)>;

impl Default for UndoLog {
    fn default() -> Self {
        UndoLog::with_room(BYTES_MAX)
    }
}

impl UndoLog {
    pub(super) fn with_room(bytes_max: usize) -> UndoLog {
        UndoLog {
            open: Notes::default(),
            closed: VecDeque::new(),
            bytes: 0,
            bytes_max,
        }
    }

    /// Notes a row before its change; `value` writes it, `None`: there is none.
    pub(super) fn note(
        &mut self,
        hash: u64,
        identity: impl FnOnce(&mut Vec<u8>),
        value: Option<impl FnOnce(&mut Vec<u8>)>,
    ) {
        if self.bytes >= self.bytes_max {
            self.open.is_short = true;
            return;
        }
        let bytes = self.open.rows.push(hash, identity, value) + NOTE_BYTES;
        self.open.bytes += bytes;
        self.bytes += bytes;
    }

    /// Memory is short: nothing is known of the epochs so far.
    pub(super) fn give_up(&mut self) {
        if self.bytes > 0 {
            self.open = Notes::lost();
            self.closed.clear();
            self.bytes = 0;
        }
    }

    /// The open epoch ends.
    pub(super) fn freeze(&mut self, epoch: Epoch) {
        let notes = std::mem::take(&mut self.open);
        if notes.is_short || !notes.rows.is_empty() {
            self.closed.push_back((epoch, notes));
        }
    }

    /// Epochs up to this one are committed.
    pub(super) fn committed(&mut self, epoch: Epoch) {
        while let Some((_, notes)) = self.closed.pop_front_if(|(of, _)| *of <= epoch) {
            self.bytes -= notes.bytes;
        }
    }

    /// The rows to put back so that nothing of `changed` has ever been, those of some hashes at least; and these
    /// hashes. Nothing is noted after that.
    pub(super) fn roll_back(&mut self, changed: &ChangedHashes) -> (Vec<Before>, HashSet<u64>) {
        let mut notes: HashMap<Option<Epoch>, Notes> = HashMap::new();
        for (epoch, of) in self.closed.drain(..) {
            notes.insert(Some(epoch), of);
        }
        notes.insert(None, std::mem::take(&mut self.open));
        self.bytes = 0;
        let mut before: HashMap<u64, Vec<Before>> = HashMap::new();
        let (mut order, mut unknown) = (Vec::new(), HashSet::new());
        for (epoch, hashes) in changed {
            let notes = notes.remove(epoch).unwrap_or_else(Notes::lost);
            let mut of_hash = notes.by_hash();
            let mut changes: HashMap<u64, usize> = HashMap::new();
            for hash in hashes {
                *changes.entry(*hash).or_default() += 1;
            }
            for hash in hashes {
                let Some(changes) = changes.remove(hash) else {
                    continue;
                };
                let noted = of_hash.remove(hash).unwrap_or_default();
                // Of keys of one hash some may have had room and others not.
                if noted.is_empty() || notes.is_short && noted.len() < changes {
                    unknown.insert(*hash);
                    continue;
                }
                let rows = before.entry(*hash).or_insert_with(|| {
                    order.push(*hash);
                    Vec::new()
                });
                // What a row was later on tells nothing of before.
                let is_new = |row: &Before| rows.iter().all(|first| first.identity != row.identity);
                let new: Vec<Before> = noted.into_iter().filter(is_new).collect();
                rows.extend(new);
            }
        }
        order.retain(|hash| !unknown.contains(hash));
        let rows = order.iter().filter_map(|hash| before.remove(hash));
        (rows.flatten().collect(), order.iter().copied().collect())
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        self.bytes
    }
}

impl Notes {
    /// Nothing is known of an epoch.
    fn lost() -> Notes {
        Notes {
            is_short: true,
            ..Notes::default()
        }
    }

    /// Each row once, as it was first, by hash.
    fn by_hash(&self) -> HashMap<u64, Vec<Before>> {
        let mut by_hash: HashMap<u64, Vec<Before>> = HashMap::new();
        for (hash, identity, value) in self.rows.iter() {
            let rows = by_hash.entry(hash).or_default();
            if rows.iter().all(|row| row.identity != identity) {
                rows.push(Before {
                    hash,
                    identity: identity.to_vec(),
                    value: value.map(<[u8]>::to_vec),
                });
            }
        }
        by_hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(log: &mut UndoLog, hash: u64, key: u8, value: Option<u8>) {
        let value = value.map(|value| move |out: &mut Vec<u8>| out.push(value));
        log.note(hash, |out| out.push(key), value);
    }

    fn before(hash: u64, key: u8, value: Option<u8>) -> Before {
        Before {
            hash,
            identity: vec![key],
            value: value.map(|value| vec![value]),
        }
    }

    #[test]
    fn the_first_note_since_the_commit_counts() {
        let mut log = UndoLog::default();
        note(&mut log, 1, 1, Some(1));
        log.freeze(Epoch(1));
        note(&mut log, 1, 1, Some(2));
        note(&mut log, 2, 2, None);
        log.freeze(Epoch(2));
        note(&mut log, 1, 1, Some(3));
        note(&mut log, 2, 2, Some(9));
        note(&mut log, 3, 3, Some(4));
        note(&mut log, 3, 3, None);
        log.committed(Epoch(1));
        let changed = vec![(Some(Epoch(2)), vec![1, 2]), (None, vec![3, 2, 1, 3])];
        let (rows, known) = log.roll_back(&changed);
        let expected = [
            before(1, 1, Some(2)),
            before(2, 2, None),
            before(3, 3, Some(4)),
        ];
        assert_eq!(rows, expected);
        assert_eq!(known, HashSet::from([1, 2, 3]));
        assert_eq!(log.memory(), 0);
        assert_eq!(
            log.roll_back(&vec![(None, vec![1])]),
            (vec![], HashSet::new())
        );
    }

    #[test]
    fn what_had_no_room_is_not_known() {
        let mut log = UndoLog::with_room(2 * NOTE_BYTES);
        note(&mut log, 1, 1, Some(1));
        note(&mut log, 2, 2, Some(1));
        // Of the same hash as another one.
        note(&mut log, 2, 3, Some(1));
        note(&mut log, 4, 4, Some(1));
        log.freeze(Epoch(1));
        note(&mut log, 4, 4, Some(2));
        let changed = vec![(Some(Epoch(1)), vec![1, 2, 2, 4]), (None, vec![4])];
        let (rows, known) = log.roll_back(&changed);
        assert_eq!(rows, [before(1, 1, Some(1))]);
        assert_eq!(known, HashSet::from([1]));
    }

    #[test]
    fn what_is_given_up_is_not_known() {
        let mut log = UndoLog::default();
        note(&mut log, 1, 1, Some(1));
        log.freeze(Epoch(1));
        note(&mut log, 2, 2, Some(1));
        log.give_up();
        assert_eq!(log.memory(), 0);
        note(&mut log, 3, 3, Some(1));
        log.freeze(Epoch(2));
        note(&mut log, 1, 1, Some(2));
        let changed = vec![
            (Some(Epoch(1)), vec![1]),
            (Some(Epoch(2)), vec![2, 3]),
            (None, vec![1]),
        ];
        let (rows, known) = log.roll_back(&changed);
        assert_eq!(rows, [before(3, 3, Some(1))]);
        assert_eq!(known, HashSet::from([3]));
    }

    #[test]
    fn there_is_room_again_when_epochs_are_committed() {
        let mut log = UndoLog::with_room(NOTE_BYTES);
        note(&mut log, 1, 1, Some(1));
        note(&mut log, 2, 2, Some(1));
        log.freeze(Epoch(1));
        log.committed(Epoch(1));
        note(&mut log, 3, 3, Some(1));
        let (rows, known) = log.roll_back(&vec![(None, vec![3])]);
        assert_eq!(
            (rows, known),
            (vec![before(3, 3, Some(1))], HashSet::from([3]))
        );
    }
}
