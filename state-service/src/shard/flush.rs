//! Flushing a shard: its tail is frozen, a new one takes over, and what the frozen one has goes to
//! the pages. Neither commits nor reads wait for it.

use std::sync::{Arc, atomic::Ordering};

use futures::FutureExt as _;
use proto::types::Epoch;
use state_client::{Block, StateError};
use tokio::{sync::Semaphore, time::Instant};

use super::{Shard, state::ShardState, tail::Tail};
use crate::pages::{FlushBatch, PageError, PageStats, PageStore, Pins};

/// A frozen tail on its way to the pages.
struct Flushing {
    pages: PageStore,
    opening: u64,
    tail: Arc<Tail>,
    epoch: Epoch,
}

impl Shard {
    /// Flushes what the shard has in its tail, unless a flush is under way.
    pub(crate) async fn flush(&self) {
        let Some(flushing) = self.freeze() else {
            return;
        };
        let Flushing {
            pages,
            opening,
            tail,
            epoch,
        } = flushing;
        // Merging takes long: not where requests are served.
        let merging = self.context.config.runtime.spawn(batch(tail, epoch));
        let flushed = match merging.await {
            Ok(batch) => pages.flush(batch).await,
            Err(error) => Err(PageError::Reopen(error.to_string())),
        };
        match flushed {
            Ok(()) => self.change(|state| {
                let open = state.open.as_mut();
                if let Some(open) = open.filter(|open| open.opening == opening) {
                    open.frozen = None;
                    open.durable = epoch;
                    state.failures = 0;
                    state.forget_log(epoch);
                }
            }),
            Err(error) => self.fail(opening, &error),
        }
    }

    /// Flushes and maintains until there is nothing to do.
    pub(crate) async fn settle(&self, deadline: Instant) -> Result<(), StateError> {
        let late = || {
            let why = format!("{} of {} was not flushed in time", self.id, self.job);
            StateError::Unavailable(why)
        };
        loop {
            // Waits for the flush and the maintenance of others.
            let idle = |state: &ShardState| {
                let open = state.open.as_ref()?;
                let idle = open.frozen.is_none() && !open.maintained;
                let applied = open.applied >= state.committed;
                (idle && applied).then(|| open.tail.epochs().is_some())
            };
            let to_flush = self.when(deadline, idle).await.ok_or_else(late)?;
            if to_flush {
                self.flush().await;
                continue;
            }
            self.maintain(&Semaphore::new(1)).await;
            return Ok(());
        }
    }

    /// What the pages have and did.
    pub(crate) fn page_stats(&self) -> Option<PageStats> {
        self.look(|state| state.open.as_ref().map(|open| open.pages.stats()))
    }

    /// Which of its checkpoints somebody needs.
    fn pins(&self) -> Pins {
        let control = self.context.control.clone();
        let (job, line, shard) = (self.job, self.line, self.id);
        Pins::new(move || {
            let references = control.references(job);
            let pins = async move {
                let references = references.await?;
                // Of a database that nobody knows, all checkpoints stay.
                let pinned = references.manifests(line, shard).unwrap_or_default();
                Ok(pinned.to_vec())
            };
            pins.boxed()
        })
    }

    /// Deletes files that nothing refers to, and checkpoints that nobody needs, if something was flushed
    /// or compacted since that was last done.
    pub(crate) async fn collect(&self) {
        let pages = self.look(|state| {
            let open = state.open.as_ref()?;
            (!open.maintained).then(|| open.pages.clone())
        });
        let Some(pages) = pages else {
            return;
        };
        let stats = pages.stats();
        let works = stats.flushes + stats.compactions;
        if self.collected.swap(works, Ordering::Relaxed) == works {
            return;
        }
        if let Err(error) = pages.collect_garbage(self.pins()).await {
            self.collected.store(0, Ordering::Relaxed);
            tracing::warn!(job = %self.job, shard = %self.id, %error, "garbage was not collected");
        }
    }

    /// Its checkpoints, after what nobody needs is gone.
    #[cfg(test)]
    pub(crate) async fn tidy(&self) -> Vec<Epoch> {
        let pages = self.look(|state| state.open.as_ref().map(|open| open.pages.clone()));
        let pages = pages.expect("it is open");
        let collected = pages.collect_garbage(self.pins()).await;
        collected.expect("collected");
        pages.checkpoints().await.expect("listed")
    }

    fn freeze(&self) -> Option<Flushing> {
        self.change(|state| {
            let open = state.open.as_mut()?;
            let (_, epoch) = open.tail.epochs()?;
            if open.frozen.is_some() {
                return None;
            }
            let tail = Arc::new(std::mem::take(&mut open.tail));
            open.frozen = Some(tail.clone());
            open.freezes += 1;
            Some(Flushing {
                pages: open.pages.clone(),
                opening: open.opening,
                tail,
                epoch,
            })
        })
    }

    /// Maintains the pages until there is nothing to do, unless somebody does so already. For each piece of
    /// it a permit is waited for: what one shard has to rewrite does not keep others from being compacted.
    pub(crate) async fn maintain(&self, permits: &Semaphore) {
        let begun = self.change(|state| {
            let open = state.open.as_mut()?;
            let idle = !std::mem::replace(&mut open.maintained, true);
            idle.then(|| (open.pages.clone(), open.opening))
        });
        let Some((pages, opening)) = begun else {
            return;
        };
        let done = loop {
            // The semaphore is never closed.
            let permit = permits.acquire().await;
            let maintained = pages.maintain(self.pins()).await;
            drop(permit);
            match maintained {
                Ok(true) if self.look(|state| state.wanted) => {}
                Ok(_) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.change(|state| {
            let open = state.open.as_mut().filter(|open| open.opening == opening);
            if let Some(open) = open {
                open.maintained = false;
            }
        });
        self.report_parents();
        match done {
            Ok(()) => {}
            // It can wait until after the next flush.
            Err(error @ PageError::Unavailable { .. }) => {
                tracing::warn!(job = %self.job, shard = %self.id, %error, "maintenance failed");
            }
            Err(error) => self.fail(opening, &error),
        }
    }
}

/// Merges a frozen tail into what the pages take.
async fn batch(tail: Arc<Tail>, epoch: Epoch) -> FlushBatch {
    let mut blocks = Vec::new();
    for (key_group, table, namespace, runs) in tail.all() {
        blocks.push(Block {
            table,
            key_group,
            namespace,
            run: runs.merged().bytes().clone(),
        });
        tokio::task::yield_now().await;
    }
    FlushBatch {
        epoch,
        blocks,
        low_water_marks: tail.moved().collect(),
    }
}
