//! The receiving end of a stream from another worker.

use std::{
    future::poll_fn,
    sync::atomic::{AtomicU64, Ordering},
};

use engine::{Element, flow::ChannelSender};
use futures::{StreamExt as _, future::pending, stream::FuturesUnordered};
use proto::types::WorkerId;
use rpc::{
    exchange::{
        Credit, Frame, Opened, ReceiverMessage, SenderMessage, receiver_message, sender_message,
    },
    to_status,
    tonic::{Status, Streaming},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{
    ExchangeConfig, Expected, Incoming, LinkError,
    error::Refusal,
    frame::{Decoder, cost_bytes},
};

/// What a stream that was taken is read from and answered by.
pub(super) struct Attached {
    pub(super) frames: Streaming<SenderMessage>,
    pub(super) replies: mpsc::Sender<Result<ReceiverMessage, Status>>,
}

/// Receives what another worker's tasks have for tasks here.
pub(crate) struct ReceiveLink {
    incoming: Incoming,
    /// `None`: it has been started before.
    attached: Option<oneshot::Receiver<Attached>>,
    config: ExchangeConfig,
}

/// A channel of a stream.
struct Lane<'a> {
    channel: &'a ChannelSender,
    decoder: Decoder,
    /// Bytes that came, as the sender counts them.
    came: u64,
    /// Of those, the bytes that the sender may count as gone.
    granted: &'a AtomicU64,
    ended: bool,
}

impl ReceiveLink {
    pub(crate) fn new(
        incoming: Incoming,
        expected: &mut Expected,
        from: WorkerId,
        config: ExchangeConfig,
    ) -> ReceiveLink {
        ReceiveLink {
            incoming,
            attached: expected.take(from),
            config,
        }
    }

    /// Runs until every channel has ended.
    pub(crate) async fn run(&mut self) -> Result<(), LinkError> {
        let attached = self.attached.take().ok_or(LinkError::NotOpened)?;
        let attached = timeout(self.config.open_wait, attached).await;
        // The place is gone only when the generation is being stopped.
        let attached = attached.ok().and_then(Result::ok);
        let Attached { frames, replies } = attached.ok_or(LinkError::NotOpened)?;
        let window_bytes = self.config.window_bytes.max(1) as u64;
        let opened = receiver_message::Message::Opened(Opened { window_bytes });
        reply(&replies, opened).await;

        let channels = &self.incoming.channels;
        let granted: Vec<AtomicU64> = channels.iter().map(|_| AtomicU64::new(0)).collect();
        let mut granting = FuturesUnordered::new();
        for (index, (channel, granted)) in (0..).zip(channels.iter().zip(&granted)) {
            granting.push(grant(index, channel, granted, window_bytes, &replies));
        }
        let lane = |(channel, granted)| Lane {
            channel,
            decoder: Decoder::default(),
            came: 0,
            granted,
            ended: false,
        };
        let lanes = channels.iter().zip(&granted).map(lane).collect();
        // A barrier takes with it what is queued before it.
        let bytes_max = window_bytes.saturating_add(self.config.overdraft_bytes as u64);
        let received = tokio::select! {
            received = read(frames, lanes, bytes_max) => received,
            _ = granting.next() => Err(LinkError::Closed),
        };
        if let Err(error @ (LinkError::Frame(_) | LinkError::Protocol(_))) = &received {
            let refusal = Refusal::Protocol(error.to_string());
            // Without room for it the sender learns only that the stream ended.
            let _ = replies.try_send(Err(to_status(&refusal)));
        }
        received
    }
}

async fn read(
    mut frames: Streaming<SenderMessage>,
    mut lanes: Vec<Lane<'_>>,
    bytes_max: u64,
) -> Result<(), LinkError> {
    let mut next = 0;
    while let Some(message) = frames.message().await? {
        let Some(sender_message::Message::Frame(frame)) = message.message else {
            return Err(LinkError::Protocol("not a frame"));
        };
        if frame.sequence != next {
            return Err(LinkError::Protocol("a frame is missing"));
        }
        next += 1;
        let lane = lanes.get_mut(frame.channel as usize);
        let lane = lane.ok_or(LinkError::Protocol("a frame of no channel"))?;
        lane.take(frame, bytes_max)?;
    }
    if lanes.iter().all(|lane| lane.ended) {
        Ok(())
    } else {
        Err(LinkError::Closed)
    }
}

impl Lane<'_> {
    fn take(&mut self, frame: Frame, bytes_max: u64) -> Result<(), LinkError> {
        let element = frame.element.ok_or(LinkError::Protocol("an empty frame"))?;
        if self.ended {
            return Err(LinkError::Protocol("a frame after the end of its channel"));
        }
        let cost = cost_bytes(&element);
        let element = self.decoder.decode(element)?;
        let is_urgent = matches!(element, Element::Barrier(_) | Element::End);
        let under_way = self
            .came
            .saturating_sub(self.granted.load(Ordering::Acquire));
        if under_way >= bytes_max && !is_urgent {
            return Err(LinkError::Protocol("more than there is room for"));
        }
        self.came += cost as u64;
        self.ended = matches!(element, Element::End);
        self.channel.send_as(element, cost);
        Ok(())
    }
}

/// Tells the sender of one channel how much of it has been taken: not each element, but soon
/// enough that a sender whose elements have all been taken is never without credit.
async fn grant(
    index: u32,
    channel: &ChannelSender,
    granted: &AtomicU64,
    window_bytes: u64,
    replies: &mpsc::Sender<Result<ReceiverMessage, Status>>,
) {
    let mut told = 0;
    loop {
        let enough = told + window_bytes.div_ceil(4) - 1;
        let taken = poll_fn(|cx| channel.poll_taken(cx, enough)).await;
        granted.store(taken, Ordering::Release);
        let credit = Credit {
            channel: index,
            bytes: taken - told,
        };
        told = taken;
        reply(replies, receiver_message::Message::Credit(credit)).await;
    }
}

async fn reply(
    replies: &mpsc::Sender<Result<ReceiverMessage, Status>>,
    message: receiver_message::Message,
) {
    let message = ReceiverMessage {
        message: Some(message),
    };
    if replies.send(Ok(message)).await.is_err() {
        // The call is over; its requests say why.
        pending::<()>().await;
    }
}
