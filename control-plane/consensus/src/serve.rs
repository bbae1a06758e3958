//! Requests of other nodes: who may ask, and what is answered.

use std::sync::Arc;

use bytes::Bytes;
use openraft::{
    error::{InstallSnapshotError, RaftError},
    raft::{AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest},
};

use crate::{
    Machine, PeerError, PeerRequestKind, StopReason,
    local::Local,
    store::{Identity, Shared},
    types::{Raft, Types},
    wire::{
        self, Damaged, Envelope, Hello, HelloReply, Refusal, RefusalKind, Reply, SnapshotReply,
    },
};

/// Answers requests of other nodes.
pub(crate) struct Server<M> {
    pub(crate) local: Arc<Local>,
    pub(crate) raft: Raft,
    pub(crate) shared: Arc<Shared<M>>,
    pub(crate) founders: Vec<u64>,
}

enum Failure {
    Refused(Refusal),
    Malformed(Damaged),
}

impl From<Damaged> for Failure {
    fn from(error: Damaged) -> Self {
        Self::Malformed(error)
    }
}

impl<E: std::error::Error> From<RaftError<u64, E>> for Failure {
    fn from(error: RaftError<u64, E>) -> Self {
        Self::Refused(Refusal {
            kind: RefusalKind::Unable,
            why: error.to_string(),
        })
    }
}

fn refused(kind: RefusalKind, why: String) -> Failure {
    Failure::Refused(Refusal { kind, why })
}

impl<M: Machine> Server<M> {
    /// Answers one request.
    pub(crate) async fn handle(&self, request: &[u8]) -> Result<Bytes, PeerError> {
        if let Some(reason) = self.local.stop_reason() {
            return Err(PeerError::Stopped(reason.to_string()));
        }
        let malformed = |error: Damaged| PeerError::Malformed(error.to_string());
        let envelope = Envelope::read(request).map_err(malformed)?;
        let answer = match self.admit(&envelope) {
            Ok(()) => self.answer(&envelope).await,
            Err(failure) => Err(failure),
        };
        let reply = match answer {
            Ok(body) => Reply::Body(body),
            Err(Failure::Refused(refusal)) => Reply::Refused(refusal),
            Err(Failure::Malformed(error)) => return Err(malformed(error)),
        };
        Ok(Bytes::from(reply.write()))
    }

    /// Refuses whoever is not whom the membership knows, and whoever takes this node for another.
    fn admit(&self, envelope: &Envelope<'_>) -> Result<(), Failure> {
        let me = self.local.identity();
        let Identity { cluster, node, .. } = &me;
        if envelope.cluster != *cluster || envelope.to != *node {
            let why = format!("this is node {node} of cluster `{cluster}`");
            return Err(refused(RefusalKind::WrongAddress, why));
        }
        if me
            .incarnation
            .zip(envelope.incarnation)
            .is_some_and(|(mine, theirs)| mine != theirs)
        {
            let why = format!(
                "node {node} belongs to another cluster, though its name is `{cluster}` too"
            );
            return Err(refused(RefusalKind::OtherCluster, why));
        }
        if envelope.to_disk.is_some_and(|disk| disk != me.disk) {
            let reason = self.local.wrong_disk();
            let why = reason.to_string();
            self.local.stop(reason);
            return Err(refused(RefusalKind::ReceiverDisk, why));
        }
        if envelope.kind == PeerRequestKind::Hello {
            return Ok(());
        }
        self.admit_sender(envelope)?;
        let Some(incarnation) = envelope.incarnation else {
            let why = format!("node {} belongs to no cluster yet", envelope.from);
            return Err(refused(RefusalKind::Unable, why));
        };
        if me.incarnation.is_none() {
            self.local.join(incarnation).map_err(|error| {
                self.local.stop(StopReason::Storage(error.to_string()));
                refused(RefusalKind::Unable, error.to_string())
            })?;
        }
        Ok(())
    }

    fn admit_sender(&self, envelope: &Envelope<'_>) -> Result<(), Failure> {
        let from = envelope.from;
        if self.shared.roster().is_removed(from) {
            let why = format!("node {from} was removed from the cluster");
            return Err(refused(RefusalKind::SenderRemoved, why));
        }
        if self
            .recorded(from)
            .is_some_and(|disk| disk != envelope.from_disk)
        {
            let why =
                format!("the disk of node {from} is not the one that joined; give it a new id");
            return Err(refused(RefusalKind::SenderDisk, why));
        }
        Ok(())
    }

    /// The disk that joined under an id.
    fn recorded(&self, id: u64) -> Option<crate::DiskId> {
        let roster = self.shared.roster();
        if roster.is_empty() {
            // Nothing was applied since the start: the membership in the log has to do.
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow();
            return metrics
                .membership_config
                .membership()
                .get_node(&id)
                .map(|node| node.disk);
        }
        roster.disk(id)
    }

    async fn answer(&self, envelope: &Envelope<'_>) -> Result<Vec<u8>, Failure> {
        let body = envelope.body;
        match envelope.kind {
            PeerRequestKind::Vote => Ok(wire::encode(&self.raft.vote(wire::decode(body)?).await?)),
            PeerRequestKind::Append => {
                let answer = self.raft.append_entries(wire::decode(body)?).await?;
                Ok(wire::encode(&answer))
            }
            PeerRequestKind::Snapshot => {
                let reply = self.take_piece(wire::decode(body)?).await?;
                Ok(wire::encode(&reply))
            }
            PeerRequestKind::Hello => {
                wire::decode::<Hello>(body)?;
                let Identity {
                    disk, incarnation, ..
                } = self.local.identity();
                let founders = self.founders.clone();
                let recorded = self.recorded(envelope.from);
                let removed = self.shared.roster().is_removed(envelope.from);
                Ok(wire::encode(&HelloReply {
                    disk,
                    incarnation,
                    recorded,
                    removed,
                    founders,
                }))
            }
            PeerRequestKind::ReadIndex => {
                wire::decode::<()>(body)?;
                let (read, _) = self.raft.get_read_log_id().await?;
                Ok(wire::encode(&read.map_or(0, |id| id.index)))
            }
        }
    }

    async fn take_piece(
        &self,
        piece: InstallSnapshotRequest<Types>,
    ) -> Result<SnapshotReply, Failure> {
        // To openraft only the last piece is a sign of the leader's life, and it sends no other while there are pieces.
        let sign = AppendEntriesRequest {
            vote: piece.vote,
            prev_log_id: None,
            entries: Vec::new(),
            leader_commit: None,
        };
        if let AppendEntriesResponse::HigherVote(vote) = self.raft.append_entries(sign).await? {
            return Ok(SnapshotReply::Vote(vote));
        }
        match self.raft.install_snapshot(piece).await {
            Ok(answer) => Ok(SnapshotReply::Vote(answer.vote)),
            Err(RaftError::APIError(InstallSnapshotError::SnapshotMismatch(_))) => {
                Ok(SnapshotReply::Restart)
            }
            Err(error) => Err(error.into()),
        }
    }
}
