//! The requests between nodes, and their answers, as bytes.

use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, VoteRequest, VoteResponse,
};

use super::{
    Damaged, Reader, Writer, get_log_id, get_stored_membership, get_vote, put_log_id,
    put_stored_membership, put_vote, read_entry, write_entry,
};
use crate::{
    DiskId,
    types::{SnapshotMeta, Types, Vote},
};

/// A message that can go between nodes.
pub(crate) trait Message: Sized {
    fn put(&self, writer: &mut Writer);
    fn get(reader: &mut Reader<'_>) -> Result<Self, Damaged>;
}

pub(crate) fn encode<M: Message>(message: &M) -> Vec<u8> {
    let mut writer = Writer::default();
    message.put(&mut writer);
    writer.into_bytes()
}

pub(crate) fn decode<M: Message>(bytes: &[u8]) -> Result<M, Damaged> {
    let mut reader = Reader::new(bytes);
    let message = M::get(&mut reader)?;
    reader.end()?;
    Ok(message)
}

impl Message for VoteRequest<u64> {
    fn put(&self, writer: &mut Writer) {
        put_vote(writer, &self.vote);
        writer.option(self.last_log_id.as_ref(), put_log_id);
    }

    fn get(reader: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(Self::new(get_vote(reader)?, reader.option(get_log_id)?))
    }
}

impl Message for VoteResponse<u64> {
    fn put(&self, writer: &mut Writer) {
        put_vote(writer, &self.vote);
        writer.option(self.last_log_id.as_ref(), put_log_id);
        writer.bool(self.vote_granted);
    }

    fn get(reader: &mut Reader<'_>) -> Result<Self, Damaged> {
        let (vote, last) = (get_vote(reader)?, reader.option(get_log_id)?);
        Ok(Self::new(vote, last, reader.bool()?))
    }
}

impl Message for AppendEntriesRequest<Types> {
    fn put(&self, writer: &mut Writer) {
        put_vote(writer, &self.vote);
        writer.option(self.prev_log_id.as_ref(), put_log_id);
        writer.option(self.leader_commit.as_ref(), put_log_id);
        writer.count(self.entries.len());
        for entry in &self.entries {
            writer.bytes(&write_entry(entry));
        }
    }

    fn get(reader: &mut Reader<'_>) -> Result<Self, Damaged> {
        let vote = get_vote(reader)?;
        let prev_log_id = reader.option(get_log_id)?;
        let leader_commit = reader.option(get_log_id)?;
        let mut entries = Vec::new();
        for _ in 0..reader.count()? {
            entries.push(read_entry(reader.bytes()?)?);
        }
        Ok(Self {
            vote,
            prev_log_id,
            entries,
            leader_commit,
        })
    }
}

impl Message for AppendEntriesResponse<u64> {
    fn put(&self, writer: &mut Writer) {
        match self {
            Self::Success => writer.u8(0),
            Self::PartialSuccess(last) => {
                writer.u8(1);
                writer.option(last.as_ref(), put_log_id);
            }
            Self::Conflict => writer.u8(2),
            Self::HigherVote(vote) => {
                writer.u8(3);
                put_vote(writer, vote);
            }
        }
    }

    fn get(reader: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(match reader.u8()? {
            0 => Self::Success,
            1 => Self::PartialSuccess(reader.option(get_log_id)?),
            2 => Self::Conflict,
            3 => Self::HigherVote(get_vote(reader)?),
            _ => return Err(Damaged("an answer of an unknown kind")),
        })
    }
}

impl Message for SnapshotMeta {
    fn put(&self, writer: &mut Writer) {
        writer.option(self.last_log_id.as_ref(), put_log_id);
        put_stored_membership(writer, &self.last_membership);
        writer.str(&self.snapshot_id);
    }

    fn get(reader: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(Self {
            last_log_id: reader.option(get_log_id)?,
            last_membership: get_stored_membership(reader)?,
            snapshot_id: reader.str()?,
        })
    }
}

impl Message for InstallSnapshotRequest<Types> {
    fn put(&self, writer: &mut Writer) {
        put_vote(writer, &self.vote);
        self.meta.put(writer);
        writer.u64(self.offset);
        writer.bool(self.done);
        writer.bytes(&self.data);
    }

    fn get(reader: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(Self {
            vote: get_vote(reader)?,
            meta: SnapshotMeta::get(reader)?,
            offset: reader.u64()?,
            done: reader.bool()?,
            data: reader.bytes()?.to_vec(),
        })
    }
}

/// The answer to a piece of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SnapshotReply {
    /// Taken, or refused for a newer vote.
    Vote(Vote),
    /// Not the piece that is expected next: begin again.
    Restart,
}

impl Message for SnapshotReply {
    fn put(&self, writer: &mut Writer) {
        writer.option(
            if let Self::Vote(vote) = self {
                Some(vote)
            } else {
                None
            },
            put_vote,
        );
    }

    fn get(reader: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(reader.option(get_vote)?.map_or(Self::Restart, Self::Vote))
    }
}

/// A node that belongs to no cluster yet says with whom it would form one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) founders: Vec<u64>,
}

impl Message for Hello {
    fn put(&self, writer: &mut Writer) {
        writer.count(self.founders.len());
        self.founders.iter().for_each(|id| writer.u64(*id));
    }

    fn get(reader: &mut Reader<'_>) -> Result<Self, Damaged> {
        let count = reader.count()?;
        let founders = (0..count).map(|_| reader.u64()).collect::<Result<_, _>>()?;
        Ok(Self { founders })
    }
}

/// What a node says of itself, and of the one that asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HelloReply {
    pub(crate) disk: DiskId,
    /// The cluster that it belongs to, if it does.
    pub(crate) incarnation: Option<u128>,
    /// The disk that joined under the asking node's id, if one did.
    pub(crate) recorded: Option<DiskId>,
    /// Whether the asking node was a member and was removed.
    pub(crate) removed: bool,
    /// The nodes that it would form a cluster with.
    pub(crate) founders: Vec<u64>,
}

impl Message for HelloReply {
    fn put(&self, writer: &mut Writer) {
        writer.u128(self.disk.0);
        writer.option(self.incarnation, Writer::u128);
        writer.option(self.recorded, |writer, disk| writer.u128(disk.0));
        writer.bool(self.removed);
        Hello {
            founders: self.founders.clone(),
        }
        .put(writer);
    }

    fn get(reader: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(Self {
            disk: DiskId(reader.u128()?),
            incarnation: reader.option(Reader::u128)?,
            recorded: reader.option(|reader| reader.u128().map(DiskId))?,
            removed: reader.bool()?,
            founders: Hello::get(reader)?.founders,
        })
    }
}

/// An index of the log.
impl Message for u64 {
    fn put(&self, writer: &mut Writer) {
        writer.u64(*self);
    }

    fn get(reader: &mut Reader<'_>) -> Result<Self, Damaged> {
        reader.u64()
    }
}

/// Nothing.
impl Message for () {
    fn put(&self, _: &mut Writer) {}

    fn get(_: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(())
    }
}
