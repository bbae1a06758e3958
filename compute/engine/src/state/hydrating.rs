//! What an index knows while a key group is read back as a whole: what may be taken from the scan, and what
//! is elsewhere when it has ended.

use proto::types::{Epoch, KeyGroup};

use super::{hashed::HashedSet, index::KeyIndex};

/// A key group that is being read as a whole.
#[derive(Debug)]
pub(super) struct Hydrating {
    pub(super) group: KeyGroup,
    /// Hashes that are not taken from the scan: their keys have gone from memory since it began, or are on
    /// their way there, or that they are absent has been forgotten.
    left_out: HashedSet<u64>,
}

impl Hydrating {
    /// What the scan has of a hash is out of date.
    pub(super) fn leave_out(&mut self, group: KeyGroup, hash: u64) {
        if self.group == group {
            self.left_out.insert(hash);
        }
    }
}

impl KeyIndex {
    /// Whether there are key groups of which nothing is known.
    #[must_use]
    pub fn has_unread_groups(&self) -> bool {
        self.elsewhere.unread() > 0
    }

    /// Those.
    pub(super) fn unread_groups(&self) -> impl Iterator<Item = KeyGroup> + '_ {
        self.key_groups
            .iter()
            .filter(|group| self.is_unread(*group))
    }

    /// Whether nothing is known of it.
    pub(super) fn is_unread(&self, group: KeyGroup) -> bool {
        self.elsewhere.is_unread(group)
    }

    /// The key group that is being read.
    pub(super) fn hydrates(&self) -> Option<KeyGroup> {
        self.hydrating.as_ref().map(|hydrating| hydrating.group)
    }

    /// A key group is about to be read; the epoch that must be seen: whatever went from memory before, or
    /// was deleted and forgotten, is in the store as of then.
    pub(super) fn begin_hydration(&mut self, group: KeyGroup) -> Epoch {
        self.hydrating = Some(Hydrating {
            group,
            left_out: HashedSet::default(),
        });
        self.recency.committed_epoch()
    }

    /// Whether rows of a hash may be taken from the scan: nothing has been known of them since it began, and
    /// there is room.
    pub(super) fn may_hydrate(&self, hash: u64) -> bool {
        let group = self.key_groups.of_hash(hash);
        let takes = |hydrating: &Hydrating| {
            // If not, the key group has left since.
            hydrating.group == group && !hydrating.left_out.contains(&hash)
        };
        self.hydrating.as_ref().is_some_and(takes)
            && !self.recency.is_tracking()
            && self.is_unknown(hash)
    }

    /// A hash is in the store, and not taken from the scan.
    pub(super) fn leave_out(&mut self, hash: u64) {
        let group = self.key_groups.of_hash(hash);
        if let Some(hydrating) = &mut self.hydrating {
            hydrating.leave_out(group, hash);
        }
    }

    /// The key group has been read.
    pub(super) fn end_hydration(&mut self, group: KeyGroup) {
        let Some(hydrating) = self.hydrating.take_if(|of| of.group == group) else {
            return;
        };
        let is_elsewhere = |hash: &u64| !self.has(*hash) && !self.absent.contains_key(hash);
        let mut left_out = hydrating.left_out;
        left_out.retain(is_elsewhere);
        self.elsewhere.narrow(hydrating.group, left_out.into_iter());
    }
}
