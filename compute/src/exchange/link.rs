//! The channels of a generation that lead to other workers, by worker.

use std::collections::BTreeMap;

use engine::flow::{ChannelReceiver, ChannelSender};
use proto::types::{TaskId, WorkerId};
use xxhash_rust::xxh3::xxh3_64;

/// All channels between this worker and others.
#[derive(Default)]
pub(crate) struct Links {
    pub(crate) outgoing: BTreeMap<WorkerId, Outgoing>,
    pub(crate) incoming: BTreeMap<WorkerId, Incoming>,
}

/// Channels to the tasks of another worker. Both workers number them alike.
pub(crate) struct Outgoing {
    /// A task here that sends; it is reported when the stream fails.
    pub(crate) task: TaskId,
    pub(crate) address: String,
    /// The near ends: what the tasks here have sent.
    pub(crate) channels: Vec<ChannelReceiver>,
    pub(crate) names: Names,
}

impl Outgoing {
    pub(crate) fn new(task: TaskId, address: String) -> Outgoing {
        Outgoing {
            task,
            address,
            channels: Vec::new(),
            names: Names::default(),
        }
    }
}

/// Channels from the tasks of another worker.
pub(crate) struct Incoming {
    /// A task here that receives; it is reported when the stream fails.
    pub(crate) task: TaskId,
    /// The near ends: what the tasks here are to receive.
    pub(crate) channels: Vec<ChannelSender>,
    pub(crate) names: Names,
}

impl Incoming {
    pub(crate) fn new(task: TaskId) -> Incoming {
        Incoming {
            task,
            channels: Vec::new(),
            names: Names::default(),
        }
    }
}

/// Names of a stream's channels, in order.
#[derive(Default)]
pub(crate) struct Names(Vec<u8>);

impl Names {
    pub(crate) fn push(&mut self, exchange: u32, sender: u32, receiver: u32) {
        for part in [exchange, sender, receiver] {
            self.0.extend_from_slice(&part.to_le_bytes());
        }
    }

    /// Both ends compare it: workers with different plans or placements never exchange a frame.
    pub(crate) fn hash(&self) -> u64 {
        xxh3_64(&self.0)
    }
}

impl Links {
    pub(crate) fn is_empty(&self) -> bool {
        self.outgoing.is_empty() && self.incoming.is_empty()
    }
}
