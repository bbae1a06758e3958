//! The absence of a write-ahead log. SlateDB's own leaves an object behind at every open even
//! when it is switched off; ours is always empty and already closed. The epoch log is elsewhere.

use async_trait::async_trait;
use slatedb::{
    RowEntry,
    wal::{
        WalError, WalFlushResult, WalIterator, WalObserver, WalRows, WalStatus, WalStatusListener,
        WalWriter, WriterInit, WriterInitResult, WriterManifest,
    },
};

/// Fences nothing and replays nothing.
pub(super) struct NullWal;

struct Closed {
    last_id: u64,
}

struct Nothing;

impl Closed {
    fn status(&self) -> WalStatus {
        WalStatus {
            closed_reason: Some(WalError::Closed),
            estimated_bytes: 0,
            last_flushed_wal_id: self.last_id,
            last_flushed_seq: None,
            buffered_wal_entries_count: 0,
        }
    }
}

#[async_trait]
impl WriterInit for NullWal {
    async fn fence_and_init(
        &self,
        manifest: &mut WriterManifest,
    ) -> Result<WriterInitResult, WalError> {
        let last_id = manifest.replay_after_wal_id();
        Ok(WriterInitResult {
            replay_iterator: Box::new(Nothing),
            wal_writer: Box::new(Closed { last_id }),
        })
    }
}

#[async_trait]
impl WalIterator for Nothing {
    async fn next(&mut self) -> Result<Option<WalRows>, WalError> {
        Ok(None)
    }
}

#[async_trait]
impl WalWriter for Closed {
    async fn append(&mut self, _: &[RowEntry]) -> Result<(), WalError> {
        Err(WalError::Closed)
    }

    async fn flush(&mut self) -> Result<WalFlushResult, WalError> {
        Err(WalError::Closed)
    }

    fn observer(&self) -> Box<dyn WalObserver> {
        let last_id = self.last_id;
        Box::new(Closed { last_id })
    }

    fn status(&self) -> Result<WalStatus, WalStatus> {
        Err(Closed::status(self))
    }

    async fn close(&mut self) -> Result<(), WalError> {
        Ok(())
    }
}

#[async_trait]
impl WalObserver for Closed {
    fn status(&self) -> Result<WalStatus, WalStatus> {
        Err(Closed::status(self))
    }

    fn subscribe(&self, _: WalStatusListener) -> Result<(), WalError> {
        Ok(())
    }
}
