//! Log entries, log ids, votes and memberships as bytes.

use std::collections::{BTreeMap, BTreeSet};

use openraft::{CommittedLeaderId, EntryPayload};

use super::{Damaged, Reader, Writer};
use crate::{
    DiskId,
    types::{Commands, Entry, LogId, Membership, Node, StoredMembership, Vote},
};

const BLANK: u8 = 0;
const COMMANDS: u8 = 1;
const MEMBERSHIP: u8 = 2;

pub(crate) fn put_log_id(writer: &mut Writer, id: &LogId) {
    writer.u64(id.leader_id.term);
    writer.u64(id.leader_id.node_id);
    writer.u64(id.index);
}

pub(crate) fn get_log_id(reader: &mut Reader<'_>) -> Result<LogId, Damaged> {
    let leader = CommittedLeaderId::new(reader.u64()?, reader.u64()?);
    Ok(LogId::new(leader, reader.u64()?))
}

pub(crate) fn put_vote(writer: &mut Writer, vote: &Vote) {
    writer.u64(vote.leader_id.term);
    writer.u64(vote.leader_id.node_id);
    writer.bool(vote.committed);
}

pub(crate) fn get_vote(reader: &mut Reader<'_>) -> Result<Vote, Damaged> {
    let (term, node) = (reader.u64()?, reader.u64()?);
    Ok(if reader.bool()? {
        Vote::new_committed(term, node)
    } else {
        Vote::new(term, node)
    })
}

pub(crate) fn put_membership(writer: &mut Writer, membership: &Membership) {
    let configs = membership.get_joint_config();
    writer.count(configs.len());
    for config in configs {
        writer.count(config.len());
        config.iter().for_each(|id| writer.u64(*id));
    }
    writer.count(membership.nodes().count());
    for (id, node) in membership.nodes() {
        writer.u64(*id);
        writer.u128(node.disk.0);
        writer.str(&node.address);
    }
}

pub(crate) fn get_membership(reader: &mut Reader<'_>) -> Result<Membership, Damaged> {
    let mut configs = Vec::new();
    for _ in 0..reader.count()? {
        let mut config = BTreeSet::new();
        for _ in 0..reader.count()? {
            config.insert(reader.u64()?);
        }
        configs.push(config);
    }
    let mut nodes = BTreeMap::new();
    for _ in 0..reader.count()? {
        let (id, disk) = (reader.u64()?, DiskId(reader.u128()?));
        nodes.insert(
            id,
            Node {
                address: reader.str()?,
                disk,
            },
        );
    }
    Ok(Membership::new(configs, nodes))
}

pub(crate) fn put_stored_membership(writer: &mut Writer, stored: &StoredMembership) {
    writer.option(stored.log_id().as_ref(), put_log_id);
    put_membership(writer, stored.membership());
}

pub(crate) fn get_stored_membership(reader: &mut Reader<'_>) -> Result<StoredMembership, Damaged> {
    let log_id = reader.option(get_log_id)?;
    Ok(StoredMembership::new(log_id, get_membership(reader)?))
}

/// An entry as it stands in the log and in requests: its id, its kind, what it says.
pub(crate) fn write_entry(entry: &Entry) -> Vec<u8> {
    let size = match &entry.payload {
        EntryPayload::Normal(batch) => batch.commands.iter().map(|bytes| 4 + bytes.len()).sum(),
        _ => 256,
    };
    let mut writer = Writer::with_capacity(25 + size);
    put_log_id(&mut writer, &entry.log_id);
    match &entry.payload {
        EntryPayload::Blank => writer.u8(BLANK),
        EntryPayload::Normal(batch) => {
            writer.u8(COMMANDS);
            writer.count(batch.commands.len());
            batch.commands.iter().for_each(|bytes| writer.bytes(bytes));
        }
        EntryPayload::Membership(membership) => {
            writer.u8(MEMBERSHIP);
            put_membership(&mut writer, membership);
        }
    }
    writer.into_bytes()
}

pub(crate) fn read_entry(bytes: &[u8]) -> Result<Entry, Damaged> {
    let mut reader = Reader::new(bytes);
    let log_id = get_log_id(&mut reader)?;
    let payload = match reader.u8()? {
        BLANK => EntryPayload::Blank,
        COMMANDS => {
            let count = reader.count()?;
            let commands = (0..count).map(|_| reader.bytes().map(<[u8]>::to_vec));
            let commands = commands.collect::<Result<_, _>>()?;
            EntryPayload::Normal(Commands {
                commands,
                ticket: None,
            })
        }
        MEMBERSHIP => EntryPayload::Membership(get_membership(&mut reader)?),
        _ => return Err(Damaged("an entry of an unknown kind")),
    };
    reader.end()?;
    Ok(Entry { log_id, payload })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(term: u64, node: u64, index: u64) -> LogId {
        LogId::new(CommittedLeaderId::new(term, node), index)
    }

    fn entries() -> Vec<Entry> {
        let node = |address: &str, disk| Node {
            address: address.to_owned(),
            disk: DiskId(disk),
        };
        let nodes = BTreeMap::from([(1, node("a:1", 7)), (2, node("b:2", 8))]);
        let membership = Membership::new(vec![BTreeSet::from([1]), BTreeSet::from([1, 2])], nodes);
        let commands = Commands {
            commands: vec![b"set x".to_vec(), Vec::new()],
            ticket: None,
        };
        vec![
            Entry {
                log_id: id(1, 2, 3),
                payload: EntryPayload::Blank,
            },
            Entry {
                log_id: id(4, 5, 6),
                payload: EntryPayload::Normal(commands),
            },
            Entry {
                log_id: id(7, 8, 9),
                payload: EntryPayload::Membership(membership),
            },
        ]
    }

    #[test]
    fn log_entries_of_this_version_never_change() {
        let hex = |bytes: Vec<u8>| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
        let (n, count) = (
            |n: u8| format!("{n:02x}00000000000000"),
            |n: u8| format!("{n:02x}000000"),
        );
        let disk = |n: u8| n_and_zeros(n, 15);
        let ids = |a, b, c| [n(a), n(b), n(c)].concat();
        let one = [count(1), n(1)].concat();
        let both = [count(2), n(1), n(2)].concat();
        let nodes = [
            n(1),
            disk(7),
            count(3),
            "613a31".into(),
            n(2),
            disk(8),
            count(3),
            "623a32".into(),
        ]
        .concat();
        let expected = [
            ids(1, 2, 3) + "00",
            ids(4, 5, 6) + "01" + &count(2) + &count(5) + "7365742078" + &count(0),
            ids(7, 8, 9) + "02" + &count(2) + &one + &both + &count(2) + &nodes,
        ];
        let written: Vec<String> = entries()
            .iter()
            .map(|entry| hex(write_entry(entry)))
            .collect();
        assert_eq!(written, expected);
    }

    fn n_and_zeros(n: u8, zeros: usize) -> String {
        format!("{n:02x}{}", "00".repeat(zeros))
    }

    #[test]
    fn entries_are_read_as_they_were_written_and_cuts_are_noticed() {
        for entry in entries() {
            let bytes = write_entry(&entry);
            let read = read_entry(&bytes).unwrap();
            assert_eq!(format!("{read:?}"), format!("{entry:?}"));
            for cut in 0..bytes.len() {
                read_entry(&bytes[..cut]).unwrap_err();
            }
        }
    }
}
