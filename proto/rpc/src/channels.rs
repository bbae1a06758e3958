//! Ways to many addresses, each made once.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{Channel, ConnectError, Timeouts, Tls, connect};

/// Ways to addresses that come up: one connection for each. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Channels {
    tls: Tls,
    timeouts: Timeouts,
    channels: Arc<Mutex<BTreeMap<String, Channel>>>,
}

impl Channels {
    /// None yet.
    #[must_use]
    pub fn new(tls: Tls, timeouts: Timeouts) -> Channels {
        Channels {
            tls,
            timeouts,
            channels: Arc::default(),
        }
    }

    /// The way to `address` (host:port). Within a tokio runtime; does not wait.
    ///
    /// # Errors
    /// As [`connect`].
    pub fn to(&self, address: &str) -> Result<Channel, ConnectError> {
        // Nothing panics while it is held.
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get(address) {
            return Ok(channel.clone());
        }
        let channel = connect(address, &self.tls, self.timeouts)?;
        channels.insert(address.to_owned(), channel.clone());
        Ok(channel)
    }
}
