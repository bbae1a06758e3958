//! The sending end of a stream to another worker.

use std::{
    future::poll_fn,
    pin::pin,
    task::{Context, Poll},
};

use engine::{Element, flow::ChannelReceiver};
use futures::{
    StreamExt as _,
    future::pending,
    stream::{FuturesUnordered, Stream},
};
use proto::types::WorkerId;
use rpc::{
    RetryPolicy, Timeouts, connect,
    exchange::{
        Frame, Open, ReceiverMessage, SenderMessage, frame::Element as WireElement,
        receiver_message, sender_message,
    },
    exchange_client, from_status,
    tonic::{Code, Status, Streaming},
};
use state_client::Incarnation;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout, timeout_at},
};
use tokio_stream::wrappers::ReceiverStream;

use super::{
    ExchangeConfig, LinkError, Outgoing,
    credit::Credit,
    error::Refusal,
    frame::{Encoder, cost_bytes},
};
use crate::caps::{
    EXCHANGE_CONNECT_PAUSE, EXCHANGE_CONNECT_PAUSE_MAX, EXCHANGE_FRAMES_WAITING_MAX,
};

/// Sends what tasks here have for the tasks of another worker.
pub(crate) struct SendLink {
    pub(crate) who: Incarnation,
    pub(crate) routing: u32,
    pub(crate) here: WorkerId,
    pub(crate) to: WorkerId,
    pub(crate) outgoing: Outgoing,
    pub(crate) config: ExchangeConfig,
}

/// A frame of a channel, not yet numbered.
type ChannelFrame = (u32, WireElement);

/// A stream that the other worker has taken.
struct Opened {
    frames: mpsc::Sender<ChannelFrame>,
    replies: Streaming<ReceiverMessage>,
    window_bytes: u64,
}

impl SendLink {
    /// Runs until every channel has ended and the other worker has got all of it. The channels
    /// stay with the link: after a failure tasks wait for room rather than send into nothing.
    pub(crate) async fn run(&self) -> Result<(), LinkError> {
        let Opened {
            frames,
            replies,
            window_bytes,
        } = self.open().await?;
        let channels = &self.outgoing.channels;
        let credit = |_| Credit::new(window_bytes, self.config.overdraft_bytes);
        let credits: Vec<Credit> = channels.iter().map(credit).collect();
        let mut pumps = FuturesUnordered::new();
        for (index, (channel, credit)) in (0..).zip(channels.iter().zip(&credits)) {
            pumps.push(pump(index, channel, credit, frames.clone()));
        }
        // The requests end with the last pump.
        drop(frames);
        let pumping = async {
            while let Some(pumped) = pumps.next().await {
                pumped?;
            }
            Ok::<(), LinkError>(())
        };
        let mut crediting = pin!(take_credits(replies, &credits));
        tokio::select! {
            pumped = pumping => pumped?,
            ended = &mut crediting => return Err(ended.err().unwrap_or(LinkError::Closed)),
        }
        let ended = timeout(self.config.open_wait, crediting).await;
        ended.unwrap_or(Err(LinkError::Late))
    }

    /// Reaches the other worker and waits until it has started this generation. Tries again only
    /// while nobody answers: nothing has been sent then.
    async fn open(&self) -> Result<Opened, LinkError> {
        let deadline = Instant::now() + self.config.open_wait;
        let policy = RetryPolicy {
            attempts: u32::MAX,
            pause_min: EXCHANGE_CONNECT_PAUSE,
            pause_max: EXCHANGE_CONNECT_PAUSE_MAX,
        };
        let pauses = policy.backoff(self.config.seed ^ self.to.0);
        let mut last = LinkError::Late;
        for pause in pauses {
            match timeout_at(deadline, self.try_open()).await {
                Ok(Ok(opened)) => return Ok(opened),
                Ok(Err(status)) if is_unreachable(&status) => last = status.into(),
                Ok(Err(status)) => return Err(status.into()),
                Err(_) => return Err(last),
            }
            if Instant::now() + pause >= deadline {
                break;
            }
            tokio::time::sleep(pause).await;
        }
        Err(last)
    }

    async fn try_open(&self) -> Result<Opened, Status> {
        let timeouts = Timeouts {
            // The other side waits for its deployment before it answers.
            call: self.config.open_wait,
            ..Timeouts::default()
        };
        // A connection of its own: streams do not share flow control, nor a core.
        let channel = connect(&self.outgoing.address, &self.config.tls, timeouts)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let (frames, receiver) = mpsc::channel(EXCHANGE_FRAMES_WAITING_MAX);
        let requests = requests(self.opening(), receiver);
        let mut replies = exchange_client(channel)
            .transfer(requests)
            .await?
            .into_inner();
        match replies.message().await?.and_then(|reply| reply.message) {
            Some(receiver_message::Message::Opened(opened)) => Ok(Opened {
                frames,
                replies,
                window_bytes: opened.window_bytes,
            }),
            _ => Err(Status::internal("the stream was not opened")),
        }
    }

    fn opening(&self) -> Open {
        Open {
            job: self.who.job.0,
            generation: self.who.generation.0,
            from_worker: self.here.0,
            to_worker: self.to.0,
            wiring: self.outgoing.names.hash(),
            routing: self.routing,
        }
    }
}

/// Nobody has answered: neither the other worker nor its generation has seen anything.
fn is_unreachable(status: &Status) -> bool {
    status.code() == Code::Unavailable && from_status::<Refusal>(status).is_none()
}

/// What goes out: the opening, then frames, numbered in the order in which they leave.
fn requests(
    open: Open,
    frames: mpsc::Receiver<ChannelFrame>,
) -> impl Stream<Item = SenderMessage> + Send + 'static {
    let open = SenderMessage {
        message: Some(sender_message::Message::Open(open)),
    };
    let numbered = ReceiverStream::new(frames).zip(futures::stream::iter(0..));
    let frames = numbered.map(|((channel, element), sequence)| SenderMessage {
        message: Some(sender_message::Message::Frame(Frame {
            channel,
            sequence,
            element: Some(element),
        })),
    });
    futures::stream::once(std::future::ready(open)).chain(frames)
}

/// Sends the elements of one channel, as far as there is credit. What is queued before a barrier goes
/// with it, so that its receiver, who may not read for long, has all that the barrier overtakes; until
/// there is credit for that, the sending task finds the channel as full as if it were still here.
async fn pump(
    index: u32,
    channel: &ChannelReceiver,
    credit: &Credit,
    frames: mpsc::Sender<ChannelFrame>,
) -> Result<(), LinkError> {
    let mut encoder = Encoder::new();
    let mut overdraft = Overdraft::default();
    loop {
        let element = poll_fn(|cx| {
            overdraft.poll_paid(channel, credit, cx);
            channel.poll_next(cx)
        })
        .await;
        let bytes = element.bytes();
        let is_last = matches!(element, Element::End);
        // There are few of these, and the far end must not wait for room to see them.
        let is_urgent = matches!(element, Element::Barrier(_) | Element::End);
        let frames_of_element = encoder.encode(element)?;
        let bytes = bytes / frames_of_element.len().max(1);
        for frame in frames_of_element {
            let cost = cost_bytes(&frame);
            if !is_urgent && poll_fn(|cx| poll_room(channel, credit, cx)).await == Room::Overdraft {
                overdraft.take(channel, bytes, cost);
            }
            credit.spend(cost);
            if frames.send((index, frame)).await.is_err() {
                // The call is over; its replies say why.
                pending::<()>().await;
            }
        }
        if is_last {
            return Ok(());
        }
    }
}

/// What a channel has sent without credit.
#[derive(Default)]
struct Overdraft {
    /// What that counts for its sending task.
    bytes: usize,
    /// And for the credit.
    cost: usize,
}

impl Overdraft {
    fn take(&mut self, channel: &ChannelReceiver, bytes: usize, cost: usize) {
        channel.withhold(bytes);
        self.bytes += bytes;
        self.cost += cost;
    }

    /// There is room again for as much of it as there is credit for by now.
    fn poll_paid(&mut self, channel: &ChannelReceiver, credit: &Credit, cx: &mut Context<'_>) {
        if self.cost == 0 {
            return;
        }
        // To be woken when there is more.
        let _ = credit.poll_any(cx);
        let cost = credit.missing().min(self.cost);
        let left = (self.bytes as u64 * cost as u64 / self.cost as u64) as usize;
        channel.release(self.bytes - left);
        (self.bytes, self.cost) = (left, cost);
    }
}

/// What a frame is sent on.
#[derive(PartialEq, Eq)]
enum Room {
    Credit,
    /// There is none, but a barrier is queued behind the frame.
    Overdraft,
}

fn poll_room(channel: &ChannelReceiver, credit: &Credit, cx: &mut Context<'_>) -> Poll<Room> {
    if credit.poll_any(cx).is_ready() {
        return Poll::Ready(Room::Credit);
    }
    if credit.may_overdraw() && channel.poll_barrier(cx).is_ready() {
        return Poll::Ready(Room::Overdraft);
    }
    Poll::Pending
}

/// Takes credits until the other worker ends the stream.
async fn take_credits(
    mut replies: Streaming<ReceiverMessage>,
    credits: &[Credit],
) -> Result<(), LinkError> {
    while let Some(reply) = replies.message().await? {
        let Some(receiver_message::Message::Credit(more)) = reply.message else {
            return Err(LinkError::Protocol("not a credit"));
        };
        let credit = credits.get(more.channel as usize);
        let credit = credit.ok_or(LinkError::Protocol("credit for no channel"))?;
        credit.grant(more.bytes);
    }
    Ok(())
}
