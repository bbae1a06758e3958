//! Channels between the tasks of a deployment: whole ones where both ends are here, near ends of
//! those that lead to other workers.

use std::collections::BTreeMap;

use engine::flow::{ChannelReceiver, ChannelSender, channel};
use proto::{
    control::{Deployment, ExchangeMap, TaskSpec},
    plan::Exchange,
    types::{TaskId, WorkerId},
};

use crate::{
    caps::{EXCHANGE_CHANNEL_BYTES_MAX, LOCAL_CHANNEL_BYTES_MAX},
    exchange::{Incoming, Links, Names, Outgoing},
};

/// The near ends of every channel, by exchange and task index; taken as tasks are built.
#[derive(Default)]
pub(crate) struct Wiring {
    senders: BTreeMap<(u32, u32), Vec<ChannelSender>>,
    receivers: BTreeMap<(u32, u32), Vec<ChannelReceiver>>,
}

/// A worker that tasks are placed on, and whose address is not known.
#[derive(Debug, thiserror::Error)]
#[error("{task} runs on {worker}, which has no address")]
pub(crate) struct NoAddress {
    task: TaskId,
    worker: WorkerId,
}

impl Wiring {
    /// Makes a channel from every sending to every receiving task of the exchanges that are `wanted`,
    /// as far as they are here.
    pub(crate) fn new(
        deployment: &Deployment,
        wanted: impl Fn(u32) -> bool,
    ) -> Result<(Wiring, Links), NoAddress> {
        let mut wiring = Wiring::default();
        let mut links = Links::default();
        let exchanges = deployment.plan.exchanges.iter();
        for exchange in exchanges.filter(|exchange| wanted(exchange.id)) {
            // In this order on every worker: it numbers the channels of a stream.
            for sender in &deployment.tasks_of(exchange.from_fragment) {
                for receiver in &deployment.tasks_of(exchange.to_fragment) {
                    let map = &deployment.exchange;
                    wiring.connect(exchange, sender, receiver, map, &mut links)?;
                }
            }
        }
        Ok((wiring, links))
    }

    fn connect(
        &mut self,
        exchange: &Exchange,
        sender: &TaskSpec,
        receiver: &TaskSpec,
        map: &ExchangeMap,
        links: &mut Links,
    ) -> Result<(), NoAddress> {
        let from_here = map.is_here(sender.task);
        let to_here = map.is_here(receiver.task);
        if !from_here && !to_here {
            return Ok(());
        }
        let (send, receive) = channel(match from_here && to_here {
            true => LOCAL_CHANNEL_BYTES_MAX,
            false => EXCHANGE_CHANNEL_BYTES_MAX,
        });
        let name = |names: &mut Names| names.push(exchange.id, sender.index, receiver.index);
        if from_here {
            let senders = self.senders.entry((exchange.id, sender.index));
            senders.or_default().push(send);
        } else {
            let from = links.incoming.entry(map.worker_of(sender.task));
            let incoming = from.or_insert_with(|| Incoming::new(receiver.task));
            incoming.channels.push(send);
            name(&mut incoming.names);
        }
        if to_here {
            let receivers = self.receivers.entry((exchange.id, receiver.index));
            receivers.or_default().push(receive);
        } else {
            let worker = map.worker_of(receiver.task);
            let task = receiver.task;
            let address = map.workers.get(&worker);
            let address = address.ok_or(NoAddress { task, worker })?;
            let to = links.outgoing.entry(worker);
            let outgoing = to.or_insert_with(|| Outgoing::new(sender.task, address.clone()));
            outgoing.channels.push(receive);
            name(&mut outgoing.names);
        }
        Ok(())
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
