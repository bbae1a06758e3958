//! Which keys of a key group the store may have while memory has not.

use std::collections::BTreeSet;

use super::key_filter::KeyFilter;

/// More are not listed one by one.
const LISTED_MAX: usize = 512;

/// Keys that must be read before they can be worked on.
#[derive(Debug, Default)]
pub(super) enum Elsewhere {
    /// None: what is not in memory does not exist.
    #[default]
    Nothing,
    /// Those with these hashes.
    Listed(BTreeSet<u64>),
    /// Those whose hashes pass the filter, unless they are in memory or known to be absent.
    Filtered(KeyFilter),
    /// All, unless they are in memory or known to be absent.
    Anything,
}

impl Elsewhere {
    /// Keys with this hash are in the store and not in memory.
    pub(super) fn add(&mut self, hash: u64) {
        match self {
            Elsewhere::Nothing => *self = Elsewhere::Listed(BTreeSet::from([hash])),
            Elsewhere::Listed(hashes) => {
                hashes.insert(hash);
                if hashes.len() > LISTED_MAX {
                    let mut filter = KeyFilter::default();
                    hashes.iter().for_each(|hash| filter.insert(*hash));
                    *self = Elsewhere::Filtered(filter);
                }
            }
            Elsewhere::Filtered(filter) => filter.insert(hash),
            Elsewhere::Anything => {}
        }
    }

    /// Keys with this hash have been read.
    pub(super) fn loaded(&mut self, hash: u64) {
        if let Elsewhere::Listed(hashes) = self {
            hashes.remove(&hash);
            if hashes.is_empty() {
                *self = Elsewhere::Nothing;
            }
        }
    }

    /// Whether there are none.
    pub(super) fn is_nothing(&self) -> bool {
        matches!(self, Elsewhere::Nothing)
    }

    /// Whether nothing is known of what there is.
    pub(super) fn is_anything(&self) -> bool {
        matches!(self, Elsewhere::Anything)
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        match self {
            Elsewhere::Nothing | Elsewhere::Anything => 0,
            Elsewhere::Listed(hashes) => hashes.len() * 16,
            Elsewhere::Filtered(filter) => filter.memory(),
        }
    }
}
