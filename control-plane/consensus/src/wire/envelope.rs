//! Who sends a request to whom, and whether the receiver will have it.
//!
//! Every request names the cluster, the sender with its disk, and the receiver with the disk that the sender expects
//! there: a node that lost its disk is noticed whichever end of a request it is at.

use super::{Damaged, Reader, Writer};
use crate::{DiskId, PeerRequestKind};

/// Raised whenever a request or an answer changes its meaning.
const VERSION: u8 = 1;

/// A request with its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Envelope<'a> {
    pub(crate) kind: PeerRequestKind,
    pub(crate) cluster: String,
    /// Drawn when the cluster was formed; none from a node that belongs to none yet.
    pub(crate) incarnation: Option<u128>,
    pub(crate) from: u64,
    pub(crate) from_disk: DiskId,
    pub(crate) to: u64,
    /// None if the sender does not know yet.
    pub(crate) to_disk: Option<DiskId>,
    pub(crate) body: &'a [u8],
}

impl<'a> Envelope<'a> {
    pub(crate) fn write(&self) -> Vec<u8> {
        let mut writer = Writer::with_capacity(128 + self.cluster.len() + self.body.len());
        writer.u8(VERSION);
        writer.u8(match self.kind {
            PeerRequestKind::Vote => 0,
            PeerRequestKind::Append => 1,
            PeerRequestKind::Snapshot => 2,
            PeerRequestKind::Hello => 3,
            PeerRequestKind::ReadIndex => 4,
        });
        writer.str(&self.cluster);
        writer.option(self.incarnation, Writer::u128);
        writer.u64(self.from);
        writer.u128(self.from_disk.0);
        writer.u64(self.to);
        writer.option(self.to_disk, |writer, disk| writer.u128(disk.0));
        writer.rest(self.body);
        writer.into_bytes()
    }

    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, Damaged> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != VERSION {
            return Err(Damaged("another version"));
        }
        let kind = match reader.u8()? {
            0 => PeerRequestKind::Vote,
            1 => PeerRequestKind::Append,
            2 => PeerRequestKind::Snapshot,
            3 => PeerRequestKind::Hello,
            4 => PeerRequestKind::ReadIndex,
            _ => return Err(Damaged("an unknown kind")),
        };
        Ok(Self {
            kind,
            cluster: reader.str()?,
            incarnation: reader.option(Reader::u128)?,
            from: reader.u64()?,
            from_disk: DiskId(reader.u128()?),
            to: reader.u64()?,
            to_disk: reader.option(|reader| reader.u128().map(DiskId))?,
            body: reader.rest(),
        })
    }
}

/// Why a request is refused before it is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RefusalKind {
    /// It came to the wrong node, or the wrong cluster by name: a matter of addresses.
    WrongAddress,
    /// The receiver belongs to a cluster of the same name that was formed another time.
    OtherCluster,
    /// The sender's disk is not the one that joined under its id.
    SenderDisk,
    /// The sender was removed.
    SenderRemoved,
    /// The receiver's disk is not the one that the sender's cluster knows.
    ReceiverDisk,
    /// The receiver cannot answer now: it has no leader, no quorum, or it is stopping.
    Unable,
}

/// A refusal with its reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub(crate) struct Refusal {
    pub(crate) kind: RefusalKind,
    pub(crate) why: String,
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    Body(Vec<u8>),
    Refused(Refusal),
}

impl Reply {
    pub(crate) fn write(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.u8(VERSION);
        match self {
            Self::Body(body) => {
                writer.u8(0);
                writer.rest(body);
            }
            Self::Refused(refusal) => {
                writer.u8(match refusal.kind {
                    RefusalKind::WrongAddress => 1,
                    RefusalKind::OtherCluster => 2,
                    RefusalKind::SenderDisk => 3,
                    RefusalKind::SenderRemoved => 4,
                    RefusalKind::ReceiverDisk => 5,
                    RefusalKind::Unable => 6,
                });
                writer.str(&refusal.why);
            }
        }
        writer.into_bytes()
    }

    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != VERSION {
            return Err(Damaged("another version"));
        }
        let kind = match reader.u8()? {
            0 => return Ok(Self::Body(reader.rest().to_vec())),
            1 => RefusalKind::WrongAddress,
            2 => RefusalKind::OtherCluster,
            3 => RefusalKind::SenderDisk,
            4 => RefusalKind::SenderRemoved,
            5 => RefusalKind::ReceiverDisk,
            6 => RefusalKind::Unable,
            _ => return Err(Damaged("an unknown kind")),
        };
        let why = reader.str()?;
        reader.end()?;
        Ok(Self::Refused(Refusal { kind, why }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envelopes_and_replies_are_read_as_written() {
        let envelope = Envelope {
            kind: PeerRequestKind::Snapshot,
            cluster: "prod".to_owned(),
            incarnation: Some(77),
            from: 1,
            from_disk: DiskId(11),
            to: 2,
            to_disk: Some(DiskId(12)),
            body: b"body",
        };
        let bytes = envelope.write();
        assert_eq!(Envelope::read(&bytes), Ok(envelope));
        for cut in 0..bytes.len() - 4 {
            Envelope::read(&bytes[..cut]).unwrap_err();
        }
        let refusal = Refusal {
            kind: RefusalKind::SenderDisk,
            why: "lost".to_owned(),
        };
        for reply in [Reply::Body(b"yes".to_vec()), Reply::Refused(refusal)] {
            assert_eq!(Reply::read(&reply.write()), Ok(reply));
        }
    }

    #[test]
    fn another_version_is_refused() {
        assert_eq!(Envelope::read(&[2, 0]), Err(Damaged("another version")));
        assert_eq!(Reply::read(&[2, 0]), Err(Damaged("another version")));
    }
}
