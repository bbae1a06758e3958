//! Metadata that can be stopped at its doors, and that loses answers.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use coordinator::meta::{Answer, Change, Command};
use futures::{FutureExt as _, future::BoxFuture};
use tokio::sync::watch;

use crate::metadata::{LocalMetadata, Look, Metadata, MetadataError};

/// Where callers wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Door {
    /// Nowhere.
    Open,
    /// Before a change is made.
    BeforeChange,
    /// After a change was made, before its answer.
    AfterChange,
    /// Before a look.
    BeforeLook,
    /// After a look, before what was seen is known.
    AfterLook,
}

/// What becomes of a proposal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    /// It counts, but nobody hears so.
    AnswerLost,
    /// It counts, nobody hears so, and so much happens that its number is forgotten.
    AnswerForgotten,
    /// It counts, and whoever waits for the answer waits for ever.
    Hangs,
    /// It does not count, and nobody knows.
    Lost,
    /// It does not count.
    NoQuorum,
    /// Another node leads.
    NotLeader,
}

/// A log in memory with doors.
#[derive(Clone)]
pub(super) struct TestMetadata {
    pub(super) log: LocalMetadata,
    door: watch::Sender<Door>,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    faults: VecDeque<Fault>,
    proposed: Vec<Command>,
}

impl TestMetadata {
    pub(super) fn new() -> Self {
        TestMetadata {
            log: LocalMetadata::default(),
            door: watch::channel(Door::Open).0,
            inner: Arc::default(),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whoever comes to the door waits there until another is closed.
    pub(super) fn close(&self, door: Door) {
        self.door.send_replace(door);
    }

    pub(super) fn open(&self) {
        self.close(Door::Open);
    }

    /// What becomes of the next proposals.
    pub(super) fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.inner().faults.extend(faults);
    }

    /// What was proposed, each attempt, since the last call.
    pub(super) fn take_proposed(&self) -> Vec<Command> {
        std::mem::take(&mut self.inner().proposed)
    }

    /// Kinds of what was proposed since the last call.
    pub(super) fn take_kinds(&self) -> String {
        let kind = |command: Command| match command.change {
            Change::Upgrade { .. } => "upgrade",
            Change::BeginTransfer { .. } => "begin transfer",
            Change::FoundTransfer { .. } => "found transfer",
            Change::CancelTransfer { .. } => "cancel transfer",
            Change::EndTransfer { .. } => "end transfer",
            Change::Found { .. } => "found",
            Change::Bind { .. } => "bind",
            Change::Accept { .. } => "accept",
            Change::Cancel { .. } => "cancel",
            Change::Autoscale { .. } => "autoscale",
            Change::Stop { .. } => "stop",
            Change::Save { .. } => "save",
            Change::DropSavepoint { .. } => "drop savepoint",
            Change::Quarantine { .. } => "quarantine",
            Change::Resume { .. } => "resume",
            Change::Begin { .. } => "begin",
            Change::Commit { .. } => "commit",
            Change::Reroute { .. } => "reroute",
            Change::Rescale { .. } => "rescale",
            Change::Published { .. } => "published",
            Change::Durable { .. } => "durable",
            Change::Own { .. } => "own",
            Change::End { .. } => "end",
            Change::Dropped { .. } => "dropped",
            Change::Forget { .. } | Change::ForgetAll { .. } => "forget",
        };
        let kinds: Vec<&str> = self.take_proposed().into_iter().map(kind).collect();
        kinds.join(" ")
    }
}

async fn pass(door: &watch::Sender<Door>, closed: Door) {
    let mut door = door.subscribe();
    // The sender is held by the caller.
    drop(door.wait_for(|door| *door != closed).await);
}

fn unavailable(indeterminate: bool) -> MetadataError {
    MetadataError::Unavailable {
        why: "test".to_owned(),
        indeterminate,
    }
}

impl Metadata for TestMetadata {
    fn propose(&self, command: Command) -> BoxFuture<'static, Result<Answer, MetadataError>> {
        let this = self.clone();
        async move {
            this.inner().proposed.push(command.clone());
            pass(&this.door, Door::BeforeChange).await;
            let fault = this.inner().faults.pop_front();
            match fault {
                Some(Fault::Lost) => return Err(unavailable(true)),
                Some(Fault::NoQuorum) => return Err(unavailable(false)),
                Some(Fault::NotLeader) => return Err(MetadataError::NotLeader { leader: None }),
                Some(Fault::AnswerLost | Fault::AnswerForgotten | Fault::Hangs) | None => {}
            }
            let mut command = command;
            if fault == Some(Fault::AnswerForgotten) {
                command.request ^= 1;
            }
            let answer = this.log.propose(command).await?;
            pass(&this.door, Door::AfterChange).await;
            match fault {
                Some(Fault::Hangs) => std::future::pending().await,
                Some(_) => Err(unavailable(true)),
                None => Ok(answer),
            }
        }
        .boxed()
    }

    fn read(&self, look: Look) -> BoxFuture<'static, Result<(), MetadataError>> {
        let this = self.clone();
        async move {
            pass(&this.door, Door::BeforeLook).await;
            this.log.read(look).await?;
            pass(&this.door, Door::AfterLook).await;
            Ok(())
        }
        .boxed()
    }
}
