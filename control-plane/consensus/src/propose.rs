//! Proposals: commands that wait while an entry is on its way become the next entry.
//!
//! One entry is on its way at a time, so that a leader without a quorum writes one and no more. A command that was not
//! taken into an entry when its deadline passes never will be: the proposer and the writer both claim it, and one wins.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use openraft::error::{ClientWriteError, RaftError};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::{Instant, timeout, timeout_at},
};

use crate::{
    Applied, COMMAND_BYTES_MAX, ProposeError, StopReason,
    caps::{ENTRY_COMMANDS_MAX, PROPOSALS_KIB_MAX, PROPOSALS_MAX},
    leadership::is_cut_off,
    local::Local,
    types::{Commands, Raft, Ticket},
};

type Answer = Result<Applied, ProposeError>;

/// Whoever claims a proposal first decides: the writer that it is written, or the proposer that it is not.
#[derive(Debug, Clone, Default)]
struct Claim(Arc<AtomicBool>);

impl Claim {
    fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

struct Proposal {
    command: Vec<u8>,
    claim: Claim,
    answer: oneshot::Sender<Answer>,
}

/// Where proposals go.
pub(crate) struct Proposals {
    queue: mpsc::Sender<Proposal>,
    kib: Semaphore,
}

impl Proposals {
    /// Starts the task that writes them; it ends with this handle.
    pub(crate) fn start(local: Arc<Local>, raft: Raft, silence_max: Duration) -> Self {
        let (queue, waiting) = mpsc::channel(PROPOSALS_MAX);
        let writer = Writer {
            waiting,
            next: None,
            local,
            raft,
            silence_max,
        };
        tokio::spawn(writer.run());
        Self {
            queue,
            kib: Semaphore::new(PROPOSALS_KIB_MAX),
        }
    }

    pub(crate) async fn propose(&self, command: Bytes, deadline: Instant) -> Answer {
        if command.len() > COMMAND_BYTES_MAX {
            return Err(ProposeError::TooLarge {
                bytes: command.len(),
                max: COMMAND_BYTES_MAX,
            });
        }
        let kib = u32::try_from(command.len() / 1024 + 1).expect("a command has at most a MiB");
        let Ok(Ok(_permit)) = timeout_at(deadline, self.kib.acquire_many(kib)).await else {
            return Err(ProposeError::Timeout {
                indeterminate: false,
            });
        };
        let (answer, answered) = oneshot::channel();
        let claim = Claim::default();
        let proposal = Proposal {
            command: Vec::from(command),
            claim: claim.clone(),
            answer,
        };
        let send = async {
            // An error is noticed below: the answer's other end went with the proposal.
            let _gone = self.queue.send(proposal).await;
            answered.await
        };
        match timeout_at(deadline, send).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(ProposeError::Stopped {
                reason: StopReason::Shutdown,
                indeterminate: !claim.take(),
            }),
            Err(_) => Err(ProposeError::Timeout {
                indeterminate: !claim.take(),
            }),
        }
    }
}

/// Writes proposals, one entry after the other.
struct Writer {
    waiting: mpsc::Receiver<Proposal>,
    /// The one that did not fit into the last entry.
    next: Option<Proposal>,
    local: Arc<Local>,
    raft: Raft,
    silence_max: Duration,
}

impl Writer {
    async fn run(mut self) {
        while let Some(batch) = self.gather().await {
            if batch.is_empty() {
                continue;
            }
            let (mut commands, mut answers) = (Vec::new(), Vec::new());
            for proposal in batch {
                commands.push(proposal.command);
                answers.push(proposal.answer);
            }
            match self.write(commands).await {
                Ok(applied) => {
                    for (answer, applied) in answers.into_iter().zip(applied) {
                        // Whoever asked may be gone.
                        let _gone = answer.send(Ok(applied));
                    }
                }
                Err(error) => {
                    for answer in answers {
                        let _gone = answer.send(Err(error.clone()));
                    }
                }
            }
        }
    }

    /// Waits for a proposal and takes with it all that fit into one entry. None when there is nobody left to propose.
    async fn gather(&mut self) -> Option<Vec<Proposal>> {
        let first = match self.next.take() {
            Some(proposal) => proposal,
            None => self.waiting.recv().await?,
        };
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let mut candidate = Some(first);
        while let Some(proposal) = candidate {
            let size = proposal.command.len() + 4;
            if batch.len() == ENTRY_COMMANDS_MAX
                || (bytes + size > COMMAND_BYTES_MAX && !batch.is_empty())
            {
                self.next = Some(proposal);
                break;
            }
            if !proposal.answer.is_closed() && proposal.claim.take() {
                bytes += size;
                batch.push(proposal);
            }
            candidate = self.waiting.try_recv().ok();
        }
        Some(batch)
    }

    async fn write(&self, commands: Vec<Vec<u8>>) -> Result<Vec<Applied>, ProposeError> {
        if let Some(reason) = self.local.stop_reason() {
            return Err(ProposeError::Stopped {
                reason,
                indeterminate: false,
            });
        }
        if is_cut_off(&self.raft.metrics().borrow(), self.silence_max) {
            // Else the log would grow with every try.
            return Err(ProposeError::NoQuorum {
                indeterminate: false,
            });
        }
        let ticket = Ticket::default();
        let entry = Commands {
            commands,
            ticket: Some(ticket.clone()),
        };
        match timeout(self.silence_max * 2, self.raft.client_write(entry)).await {
            Ok(Ok(done)) => Ok(done.data),
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(leader)))) => {
                if ticket.is_written() {
                    // A newer leader's entry took its place here; a node that still has it may yet be elected.
                    return Err(ProposeError::NoQuorum {
                        indeterminate: true,
                    });
                }
                Err(ProposeError::NotLeader {
                    leader: self.local.leader_of(leader),
                })
            }
            Ok(Err(error)) => {
                let reason = self.local.reason(&error.to_string());
                Err(ProposeError::Stopped {
                    reason,
                    indeterminate: ticket.is_written(),
                })
            }
            Err(_) => Err(ProposeError::NoQuorum {
                indeterminate: true,
            }),
        }
    }
}
