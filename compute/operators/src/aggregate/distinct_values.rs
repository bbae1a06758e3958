//! The columns of a table of distinct values: the values, and for which filters they are there.

use engine::{
    codec::ByteRows,
    key::{KeyWidth, Keys},
    state::RowArena,
};

use super::native::Native as _;

/// Per entry, for which filters the value is there.
#[derive(Debug)]
pub(super) enum Presence {
    /// It never goes: a bit per filter.
    Mask(Vec<u64>),
    /// Copies per filter.
    Copies { filters: usize, copies: Vec<i64> },
}

/// The values themselves, by entry.
#[derive(Debug)]
pub(super) enum ValueStore {
    U64(Vec<u64>),
    U128(Vec<u128>),
    U192(Vec<[u64; 3]>),
    Bytes { rows: RowArena, places: Vec<u32> },
}

impl Presence {
    /// Of no entries; `retracts`: values may go.
    pub(super) fn new(filters: usize, retracts: bool) -> Self {
        match retracts {
            false => Presence::Mask(Vec::new()),
            true => Presence::Copies {
                filters,
                copies: Vec::new(),
            },
        }
    }

    pub(super) fn reset(&mut self, entry: u32) {
        let entry = entry as usize;
        match self {
            Presence::Mask(masks) if masks.len() == entry => masks.push(0),
            Presence::Mask(masks) => masks[entry] = 0,
            Presence::Copies { filters, copies } => {
                let start = entry * *filters;
                if copies.len() == start {
                    copies.resize(start + *filters, 0);
                } else {
                    copies[start..start + *filters].fill(0);
                }
            }
        }
    }

    /// Whether nothing is left.
    #[inline]
    pub(super) fn change(
        &mut self,
        entry: u32,
        mask: u64,
        add: bool,
        mut changed: impl FnMut(usize, bool),
    ) -> bool {
        match self {
            Presence::Mask(masks) => {
                let present = &mut masks[entry as usize];
                let mut new = mask & !*present;
                *present |= mask;
                while new != 0 {
                    changed(new.trailing_zeros() as usize, true);
                    new &= new - 1;
                }
                false
            }
            Presence::Copies { filters, copies } => {
                let start = entry as usize * *filters;
                let copies = &mut copies[start..start + *filters];
                for (filter, copies) in copies.iter_mut().enumerate() {
                    if mask >> filter & 1 == 0 {
                        continue;
                    }
                    *copies += if add { 1 } else { -1 };
                    match (*copies, add) {
                        (1, true) => changed(filter, true),
                        (0, false) => changed(filter, false),
                        _ => {}
                    }
                }
                copies.iter().all(|copies| *copies == 0)
            }
        }
    }

    /// Adds what entry `from` has to entry `into`; `changed` gets the filters that are new there.
    pub(super) fn add(&mut self, into: u32, from: u32, mut changed: impl FnMut(usize)) {
        match self {
            Presence::Mask(masks) => {
                let new = masks[from as usize];
                self.change(into, new, true, |filter, _| changed(filter));
            }
            Presence::Copies { filters, copies } => {
                for filter in 0..*filters {
                    let more = copies[from as usize * *filters + filter];
                    let copies = &mut copies[into as usize * *filters + filter];
                    if *copies <= 0 && *copies + more > 0 {
                        changed(filter);
                    }
                    *copies += more;
                }
            }
        }
    }

    pub(super) fn mask(&self, entry: u32) -> u64 {
        match self {
            Presence::Mask(masks) => masks[entry as usize],
            Presence::Copies { filters, copies } => {
                let start = entry as usize * filters;
                let bit = |filter: usize| u64::from(copies[start + filter] > 0) << filter;
                (0..*filters).fold(0, |mask, filter| mask | bit(filter))
            }
        }
    }

    pub(super) fn encode(&self, entry: u32, out: &mut Vec<u8>) {
        match self {
            Presence::Mask(masks) => (masks[entry as usize] as i64).write(out),
            Presence::Copies { filters, copies } => {
                let start = entry as usize * filters;
                copies[start..start + filters]
                    .iter()
                    .for_each(|copies| copies.write(out));
            }
        }
    }

    pub(super) fn decode(&mut self, entry: u32, bytes: &mut &[u8]) -> Result<(), String> {
        let mut word = || i64::read(bytes).ok_or("a distinct value's counts are cut short");
        match self {
            Presence::Mask(masks) => masks[entry as usize] = word()? as u64,
            Presence::Copies { filters, copies } => {
                let start = entry as usize * *filters;
                for copies in &mut copies[start..start + *filters] {
                    *copies = word()?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn memory(&self) -> usize {
        match self {
            Presence::Mask(masks) => masks.capacity() * 8,
            Presence::Copies { copies, .. } => copies.capacity() * 8,
        }
    }
}

impl ValueStore {
    /// Of no entries.
    pub(super) fn new(width: KeyWidth) -> Self {
        match width {
            KeyWidth::U64 => ValueStore::U64(Vec::new()),
            KeyWidth::U128 => ValueStore::U128(Vec::new()),
            KeyWidth::U192 => ValueStore::U192(Vec::new()),
            KeyWidth::Bytes => ValueStore::Bytes {
                rows: RowArena::default(),
                places: Vec::new(),
            },
        }
    }

    #[inline]
    pub(super) fn equals(&self, entry: u32, keys: &Keys, row: usize) -> bool {
        let entry = entry as usize;
        match (self, keys) {
            (ValueStore::U64(values), Keys::U64(keys)) => values[entry] == keys[row],
            (ValueStore::U128(values), Keys::U128(keys)) => values[entry] == keys[row],
            (ValueStore::U192(values), Keys::U192(keys)) => values[entry] == keys[row],
            (ValueStore::Bytes { rows, places }, Keys::Bytes(keys)) => {
                rows.row(places[entry]) == keys.row(row)
            }
            _ => false,
        }
    }

    pub(super) fn put(&mut self, entry: u32, keys: &Keys, row: usize) {
        fn set<T>(values: &mut Vec<T>, entry: u32, value: T) {
            match values.get_mut(entry as usize) {
                Some(place) => *place = value,
                None => values.push(value),
            }
        }
        match (self, keys) {
            (ValueStore::U64(values), Keys::U64(keys)) => set(values, entry, keys[row]),
            (ValueStore::U128(values), Keys::U128(keys)) => set(values, entry, keys[row]),
            (ValueStore::U192(values), Keys::U192(keys)) => set(values, entry, keys[row]),
            (ValueStore::Bytes { rows, places }, Keys::Bytes(keys)) => {
                set(places, entry, rows.insert(keys.row(row)));
            }
            _ => unreachable!("a table is used with the keys of its encoder"),
        }
    }

    pub(super) fn forget(&mut self, entry: u32) {
        if let ValueStore::Bytes { rows, places } = self {
            rows.remove(places[entry as usize]);
        }
    }

    pub(super) fn write(&self, entry: u32, out: &mut Vec<u8>) {
        let entry = entry as usize;
        match self {
            ValueStore::U64(values) => out.extend_from_slice(&values[entry].to_be_bytes()),
            ValueStore::U128(values) => out.extend_from_slice(&values[entry].to_be_bytes()),
            ValueStore::U192(values) => {
                values[entry]
                    .iter()
                    .for_each(|word| out.extend_from_slice(&word.to_be_bytes()));
            }
            ValueStore::Bytes { rows, places } => out.extend_from_slice(rows.row(places[entry])),
        }
    }

    pub(super) fn read(&self, bytes: &[u8]) -> Option<Keys> {
        let word = |at: usize| {
            bytes
                .get(at..at + 8)?
                .try_into()
                .ok()
                .map(u64::from_be_bytes)
        };
        Some(match self {
            ValueStore::U64(_) => Keys::U64(vec![word(0)?]),
            ValueStore::U128(_) => {
                Keys::U128(vec![u128::from(word(0)?) << 64 | u128::from(word(8)?)])
            }
            ValueStore::U192(_) => Keys::U192(vec![[word(0)?, word(8)?, word(16)?]]),
            ValueStore::Bytes { .. } => {
                let mut keys = ByteRows::default();
                keys.push(bytes);
                Keys::Bytes(keys)
            }
        })
    }

    pub(super) fn keys_of(&self, entries: &[u32]) -> Keys {
        fn pick<T: Copy>(values: &[T], entries: &[u32]) -> Vec<T> {
            entries
                .iter()
                .map(|entry| values[*entry as usize])
                .collect()
        }
        match self {
            ValueStore::U64(values) => Keys::U64(pick(values, entries)),
            ValueStore::U128(values) => Keys::U128(pick(values, entries)),
            ValueStore::U192(values) => Keys::U192(pick(values, entries)),
            ValueStore::Bytes { rows, places } => {
                let mut keys = ByteRows::default();
                entries
                    .iter()
                    .for_each(|entry| keys.push(rows.row(places[*entry as usize])));
                Keys::Bytes(keys)
            }
        }
    }

    pub(super) fn memory(&self) -> usize {
        match self {
            ValueStore::U64(values) => values.capacity() * 8,
            ValueStore::U128(values) => values.capacity() * 16,
            ValueStore::U192(values) => values.capacity() * 24,
            ValueStore::Bytes { rows, places } => rows.memory() + places.capacity() * 4,
        }
    }
}
