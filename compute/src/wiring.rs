//! Channels between the tasks of a deployment.

use std::collections::BTreeMap;

use engine::flow::{ChannelReceiver, ChannelSender, channel};
use proto::control::{Deployment, TaskSpec};

use crate::caps::EXCHANGE_CHANNEL_BYTES_MAX;

/// Both ends of every channel, by exchange and task index; taken as tasks are built.
pub(crate) struct Wiring {
    senders: BTreeMap<(u32, u32), Vec<ChannelSender>>,
    receivers: BTreeMap<(u32, u32), Vec<ChannelReceiver>>,
}

/// Number of tasks of a fragment.
pub(crate) fn parallelism(tasks: &[TaskSpec], fragment: u32) -> u32 {
    tasks
        .iter()
        .filter(|task| task.fragment == fragment)
        .count() as u32
}

impl Wiring {
    /// Makes a channel from every sending to every receiving task of every exchange.
    pub(crate) fn new(deployment: &Deployment) -> Wiring {
        let mut wiring = Wiring {
            senders: BTreeMap::new(),
            receivers: BTreeMap::new(),
        };
        for exchange in &deployment.plan.exchanges {
            let from = parallelism(&deployment.tasks, exchange.from_fragment);
            let to = parallelism(&deployment.tasks, exchange.to_fragment);
            for sender in 0..from {
                for receiver in 0..to {
                    let (send, receive) = channel(EXCHANGE_CHANNEL_BYTES_MAX);
                    wiring
                        .senders
                        .entry((exchange.id, sender))
                        .or_default()
                        .push(send);
                    wiring
                        .receivers
                        .entry((exchange.id, receiver))
                        .or_default()
                        .push(receive);
                }
            }
        }
        wiring
    }

    /// Channels to the receivers of an exchange, for sending task `index`.
    pub(crate) fn take_senders(&mut self, exchange: u32, index: u32) -> Vec<ChannelSender> {
        self.senders.remove(&(exchange, index)).unwrap_or_default()
    }

    /// Channels from the senders of an exchange, for receiving task `index`.
    pub(crate) fn take_receivers(&mut self, exchange: u32, index: u32) -> Vec<ChannelReceiver> {
        self.receivers
            .remove(&(exchange, index))
            .unwrap_or_default()
    }
}
