//! Every node that was ever a member, with its disk: ids are never used again.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    DiskId,
    types::Membership,
    wire::{Damaged, Reader, Writer},
};

/// Every node that was ever a member. Follows from the log, so it is the same on all nodes at the same index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Roster {
    disks: BTreeMap<u64, DiskId>,
    present: BTreeSet<u64>,
}

impl Roster {
    /// Takes in a membership that was applied.
    pub(crate) fn learn(&mut self, membership: &Membership) {
        self.present = membership.nodes().map(|(id, _)| *id).collect();
        for (id, node) in membership.nodes() {
            self.disks.insert(*id, node.disk);
        }
    }

    /// The disk that joined under this id, whether or not it is still there.
    pub(crate) fn disk(&self, id: u64) -> Option<DiskId> {
        self.disks.get(&id).copied()
    }

    /// Whether the node was once a member and is no longer. It never will be again.
    pub(crate) fn is_removed(&self, id: u64) -> bool {
        self.disks.contains_key(&id) && !self.present.contains(&id)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.disks.is_empty()
    }

    pub(crate) fn put(&self, writer: &mut Writer) {
        writer.count(self.disks.len());
        for (id, disk) in &self.disks {
            writer.u64(*id);
            writer.u128(disk.0);
            writer.bool(self.present.contains(id));
        }
    }

    pub(crate) fn get(reader: &mut Reader<'_>) -> Result<Self, Damaged> {
        let mut roster = Self::default();
        for _ in 0..reader.count()? {
            let (id, disk) = (reader.u64()?, DiskId(reader.u128()?));
            roster.disks.insert(id, disk);
            if reader.bool()? {
                roster.present.insert(id);
            }
        }
        Ok(roster)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Node;

    fn membership(nodes: &[(u64, u128)]) -> Membership {
        let ids = nodes.iter().map(|(id, _)| *id).collect();
        let node = |disk| Node {
            address: String::new(),
            disk: DiskId(disk),
        };
        let nodes: BTreeMap<u64, Node> =
            nodes.iter().map(|(id, disk)| (*id, node(*disk))).collect();
        Membership::new(vec![ids], nodes)
    }

    #[test]
    fn it_remembers_who_was_removed() {
        let mut roster = Roster::default();
        roster.learn(&membership(&[(1, 11), (2, 12)]));
        roster.learn(&membership(&[(1, 11), (3, 13)]));
        let mut writer = Writer::default();
        roster.put(&mut writer);
        let bytes = writer.into_bytes();
        let roster = Roster::get(&mut Reader::new(&bytes)).unwrap();
        assert_eq!(roster.disk(2), Some(DiskId(12)));
        assert!(roster.is_removed(2));
        assert!(!roster.is_removed(3) && !roster.is_removed(4));
        assert_eq!(roster.disk(4), None);
    }
}
