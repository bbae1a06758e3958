//! The one that writes: commands that wait while an entry is on its way become the next entry.

use std::{collections::BTreeSet, sync::Arc};

use coordinator::meta::{Answer, Command};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::timeout,
};

use super::{
    files::{Files, Folder, Made, Trouble},
    handle::{Proposal, Shared},
    limits::{BucketLimits, ENTRY_BYTES_MAX, ENTRY_COMMANDS_MAX, SNAPSHOT_AGAIN},
    open::Opened,
    pauses::Pauses,
    record::{Entry, Unreadable, WriterId, write_entry},
    shorten::{Shorten, Shortened},
};

/// Writes entries, one after the other.
pub(super) struct Writer {
    files: Files,
    id: WriterId,
    limits: BucketLimits,
    pauses: Pauses,
    shared: Arc<Shared>,
    waiting: mpsc::Receiver<Proposal>,
    /// The one that did not fit into the last entry.
    held: Option<Proposal>,
    /// The last entry.
    last: u64,
    trimmed: u64,
    /// Marks after `trimmed`.
    marks: BTreeSet<u64>,
    /// The entry after which the next snapshot is made.
    snapshot_at: u64,
    /// The snapshot that is being written; ends with the writer.
    shortening: JoinSet<Result<Shortened, Trouble>>,
}

/// What waits.
enum Gathered {
    Batch(Vec<Proposal>),
    /// Nothing, for some time.
    Nothing,
    /// Nobody is left to propose anything.
    End,
}

/// What is where our entry should be.
enum Place {
    Ours,
    Other(Entry),
}

impl Writer {
    pub(super) fn new(
        files: Files,
        id: WriterId,
        limits: BucketLimits,
        pauses: Pauses,
        shared: Arc<Shared>,
        waiting: mpsc::Receiver<Proposal>,
        opened: &Opened,
    ) -> Self {
        Writer {
            snapshot_at: opened.snapshot + limits.snapshot_entries,
            files,
            id,
            limits,
            pauses,
            shared,
            waiting,
            held: None,
            last: opened.last,
            trimmed: opened.trimmed,
            marks: opened.marks.clone(),
            shortening: JoinSet::new(),
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            self.shorten();
            let is_ours = match self.gather().await {
                Gathered::End => false,
                Gathered::Nothing => self.look().await,
                Gathered::Batch(batch) if batch.is_empty() => true,
                Gathered::Batch(batch) => self.write(batch).await,
            };
            if !is_ours {
                // Those who still wait are told when their proposals go.
                return;
            }
        }
    }

    /// Waits for a proposal and takes with it all that fit into one entry.
    async fn gather(&mut self) -> Gathered {
        let first = match self.held.take() {
            Some(proposal) => proposal,
            None => match timeout(self.limits.look_every, self.waiting.recv()).await {
                Ok(Some(proposal)) => proposal,
                Ok(None) => return Gathered::End,
                Err(_) => return Gathered::Nothing,
            },
        };
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let mut candidate = Some(first);
        while let Some(proposal) = candidate {
            let size = proposal.json.len();
            let is_full = batch.len() == ENTRY_COMMANDS_MAX || bytes + size > ENTRY_BYTES_MAX;
            if is_full && !batch.is_empty() {
                self.held = Some(proposal);
                break;
            }
            if !proposal.answer.is_closed() && proposal.claim.take() {
                bytes += size;
                batch.push(proposal);
            }
            candidate = self.waiting.try_recv().ok();
        }
        Gathered::Batch(batch)
    }

    /// Writes an entry, however long it takes: once it may be there, nothing else can take its
    /// place. Whoever waits for it has a deadline of its own. Whether the store is still ours.
    async fn write(&mut self, batch: Vec<Proposal>) -> bool {
        let (mut commands, mut answers) = (Vec::new(), Vec::new());
        let mut json = Vec::new();
        for proposal in batch {
            commands.push(proposal.command);
            answers.push(proposal.answer);
            json.push(proposal.json);
        }
        let bytes = write_entry(self.id, None, &json);
        let mut attempt = 0;
        loop {
            attempt += 1;
            match self.place(&bytes).await {
                Ok(Place::Ours) => break,
                Ok(Place::Other(entry)) => {
                    // Before the answers go, so that those who wait see why.
                    self.close(&entry);
                    return false;
                }
                Err(why) => {
                    if attempt == 1 {
                        tracing::warn!(%why, "metadata cannot be written; it is tried again");
                    }
                    self.shared.set_trouble(Some(why));
                }
            }
            tokio::time::sleep(self.pauses.after(attempt)).await;
        }
        if attempt > 1 {
            self.shared.set_trouble(None);
        }
        self.last += 1;
        self.apply(commands, answers);
        true
    }

    /// One attempt to have our entry in its place.
    async fn place(&self, bytes: &[u8]) -> Result<Place, String> {
        let index = self.last + 1;
        let made = self.files.make(Folder::Log, index, bytes.to_vec()).await;
        match made.map_err(words)? {
            Made::Ours => Ok(Place::Ours),
            // It may be ours: answers get lost.
            Made::Exists => {
                let entry: Entry = self.files.read(Folder::Log, index).await.map_err(words)?;
                match entry.writer == self.id {
                    true => Ok(Place::Ours),
                    false => Ok(Place::Other(entry)),
                }
            }
        }
    }

    fn apply(&self, commands: Vec<Command>, answers: Vec<oneshot::Sender<Answer>>) {
        let mut state = self.shared.state();
        let given: Vec<Answer> = commands
            .into_iter()
            .map(|command| state.apply(command))
            .collect();
        drop(state);
        for (answer, given) in answers.into_iter().zip(given) {
            // Whoever asked may be gone.
            let _gone = answer.send(given);
        }
    }

    /// Whether the store is still ours, though we had nothing to write.
    async fn look(&self) -> bool {
        match self.files.read::<Entry>(Folder::Log, self.last + 1).await {
            Ok(entry) => {
                self.close(&entry);
                false
            }
            // There is none, or nobody knows.
            Err(_) => true,
        }
    }

    fn close(&self, entry: &Entry) {
        let name = entry.begins.as_deref().unwrap_or("an unknown one");
        let object = self.files.path(Folder::Log, self.last + 1);
        self.shared.close(format!(
            "another process works on this store: {name} has begun (`{object}`), and this one stops"
        ));
    }

    /// Begins a snapshot when it is time, and learns what became of the last one.
    fn shorten(&mut self) {
        while let Some(done) = self.shortening.try_join_next() {
            match done {
                Ok(Ok(done)) => {
                    self.trimmed = done.trimmed;
                    self.marks = self.marks.split_off(&(done.trimmed + 1));
                    self.snapshot_at = done.snapshot + self.limits.snapshot_entries;
                }
                Ok(Err(trouble)) => {
                    let why = words(trouble);
                    tracing::warn!(%why, "no snapshot of the metadata; it is tried again");
                    self.snapshot_at = self.last + SNAPSHOT_AGAIN;
                }
                Err(error) => {
                    tracing::error!(%error, "writing a snapshot of the metadata broke");
                    self.snapshot_at = self.last + SNAPSHOT_AGAIN;
                }
            }
        }
        if self.last < self.snapshot_at || !self.shortening.is_empty() {
            return;
        }
        let shorten = Shorten {
            files: self.files.clone(),
            state: self.shared.state().clone(),
            index: self.last,
            trimmed: self.trimmed,
            marks: self.marks.clone(),
        };
        self.shortening.spawn(shorten.run());
    }
}

fn words(trouble: Trouble) -> String {
    match trouble {
        Trouble::Store(why) => why,
        Trouble::Missing(object) => format!("`{object}` is gone"),
        Trouble::Unreadable(object, Unreadable::Damaged(why)) => format!("`{object}`: {why}"),
        Trouble::Unreadable(object, Unreadable::Newer(format)) => {
            format!("`{object}` has the newer format {format}")
        }
    }
}
