//! Streams between two workers over loopback: order, credit, ends, cuts, refusals.

use std::{collections::BTreeMap, future::poll_fn, sync::Arc, time::Duration};

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use engine::{
    ChangeBatch, Element,
    flow::{ChannelReceiver, ChannelSender, channel},
};
use proto::types::{Epoch, Generation, JobId, TaskId, WorkerId};
use rpc::{
    Timeouts, Tls, connect, exchange,
    exchange::{Frame, Open, SenderMessage, frame::Element as WireElement, sender_message},
    exchange_client, exchange_server, serve,
    tonic::service::Routes,
};
use state_client::Incarnation;
use tokio::{net::TcpListener, task::JoinHandle, time::timeout};

use super::{
    ExchangeConfig, ExchangeServer, Expected, Incoming, LinkError, Links, Outgoing, ReceiveLink,
    SendLink, error::Refusal, frame::Encoder,
};

const A: WorkerId = WorkerId(1);
const B: WorkerId = WorkerId(2);
/// Longer than what is sent takes to leave.
const SHORT: Duration = Duration::from_millis(300);
/// A test that takes longer has hung.
const PATIENCE: Duration = Duration::from_secs(30);

fn who(generation: u64) -> Incarnation {
    Incarnation {
        job: JobId(1),
        generation: Generation(generation),
    }
}

/// Worker B, where streams of worker A come in.
struct Server {
    config: ExchangeConfig,
    address: String,
    serving: JoinHandle<()>,
}

impl Server {
    async fn start(window_bytes: usize) -> Server {
        Server::with(window_bytes, PATIENCE).await
    }

    async fn with(window_bytes: usize, open_wait: Duration) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = ExchangeServer::new(open_wait);
        let config = ExchangeConfig {
            window_bytes,
            overdraft_bytes: 500,
            open_wait,
            ..ExchangeConfig::new(server.clone(), Tls::None, 1)
        };
        let routes = Routes::new(exchange_server(server));
        let serving = tokio::spawn(async move {
            let served = serve(listener, routes, &Tls::None, std::future::pending()).await;
            panic!("{served:?}");
        });
        Server {
            config,
            address,
            serving,
        }
    }

    /// Begins a generation that waits for A's stream of so many channels.
    fn receive(&self, generation: u64, channels: u32) -> Receiving {
        let mut incoming = Incoming::new(TaskId(0));
        let mut ends = Vec::new();
        for index in 0..channels {
            let (send, receive) = channel(usize::MAX);
            incoming.channels.push(send);
            incoming.names.push(0, 0, index);
            ends.push(receive);
        }
        let mut links = Links::default();
        links.incoming.insert(A, incoming);
        let mut expected = self.config.server.begin(who(generation), 0, B, &links);
        let incoming = links.incoming.remove(&A).unwrap();
        let mut link = ReceiveLink::new(incoming, &mut expected, A, self.config.clone());
        Receiving {
            ends,
            running: tokio::spawn(async move { link.run().await }),
            expected,
        }
    }

    /// Begins A's stream of so many channels.
    fn send(&self, generation: u64, channels: u32) -> Sending {
        let mut outgoing = Outgoing::new(TaskId(0), self.address.clone());
        let mut ends = Vec::new();
        for index in 0..channels {
            let (send, receive) = channel(1000);
            outgoing.channels.push(receive);
            outgoing.names.push(0, 0, index);
            ends.push(send);
        }
        let link = SendLink {
            routing: 0,
            who: who(generation),
            here: A,
            to: B,
            outgoing,
            config: self.config.clone(),
        };
        Sending {
            ends,
            running: tokio::spawn(async move { link.run().await }),
        }
    }
}

struct Receiving {
    ends: Vec<ChannelReceiver>,
    running: JoinHandle<Result<(), LinkError>>,
    expected: Expected,
}

struct Sending {
    ends: Vec<ChannelSender>,
    running: JoinHandle<Result<(), LinkError>>,
}

async fn ended(running: &mut JoinHandle<Result<(), LinkError>>) -> Result<(), LinkError> {
    timeout(PATIENCE, running)
        .await
        .expect("ends in time")
        .unwrap()
}

fn batch(first: i64, rows: i64) -> Element {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(first..first + rows));
    let rows = RecordBatch::try_from_iter([("n", column)]).unwrap();
    Element::Batch(ChangeBatch::inserts(rows))
}

/// An element in short.
fn text(element: &Element) -> String {
    match element {
        Element::Batch(batch) => {
            let column = batch.rows.column(0).as_any();
            let values = column.downcast_ref::<Int64Array>().unwrap();
            format!("{}+{}", values.value(0), values.len())
        }
        other => format!("{other:?}"),
    }
}

/// What a task sends over one channel.
fn elements(count: i64) -> Vec<Element> {
    let mut elements = Vec::new();
    for at in 0..count {
        elements.push(batch(at * 10, 1 + at % 10));
        match at % 7 {
            2 => elements.push(Element::Watermark(at)),
            4 => elements.push(Element::barrier(Epoch(at as u64))),
            6 => elements.push(Element::Idle),
            _ => {}
        }
    }
    elements.push(Element::End);
    elements
}

/// Sends as a task does: batches when there is room.
async fn send_all(end: &ChannelSender, elements: Vec<Element>) {
    for element in elements {
        poll_fn(|cx| end.poll_ready(cx, 0)).await;
        end.send(element);
    }
}

async fn receive_all(end: &ChannelReceiver) -> Vec<String> {
    let mut received = Vec::new();
    loop {
        let element = poll_fn(|cx| end.poll_next(cx)).await;
        received.push(text(&element));
        if matches!(element, Element::End) {
            return received;
        }
    }
}

fn texts(elements: &[Element]) -> Vec<String> {
    elements.iter().map(text).collect()
}

#[tokio::test]
async fn elements_arrive_once_and_in_order_however_little_may_be_under_way() {
    for window_bytes in [1, 700, 1 << 20] {
        let server = Server::start(window_bytes).await;
        let mut receiving = server.receive(1, 3);
        let mut sending = server.send(1, 3);
        let all = async {
            let sent = sending.ends.iter().zip(0..);
            let sent = sent.map(|(end, index)| send_all(end, elements(100 + index)));
            let received = receiving.ends.iter().map(receive_all);
            let sent = futures::future::join_all(sent);
            let (_, received) = tokio::join!(sent, futures::future::join_all(received));
            received
        };
        let received = timeout(PATIENCE, all).await.expect("everything in time");
        for (received, index) in received.into_iter().zip(0..) {
            assert_eq!(
                received,
                texts(&elements(100 + index)),
                "window {window_bytes}"
            );
        }
        // Whoever has sent and received everything has not failed.
        ended(&mut sending.running).await.unwrap();
        ended(&mut receiving.running).await.unwrap();
    }
}

#[tokio::test]
async fn a_channel_that_is_not_read_holds_no_other_up() {
    let server = Server::start(2000).await;
    let receiving = server.receive(1, 2);
    let sending = server.send(1, 2);
    let mut slow = Vec::new();
    // Until nothing moves any more while the other channel carries a lot.
    for round in 0..50 {
        while sending.ends[0].is_ready(0) {
            slow.push(batch(slow.len() as i64, 5));
            sending.ends[0].send(slow[slow.len() - 1].clone());
        }
        for at in 0..20 {
            sending.ends[1].send(batch(round * 20 + at, 100));
            let next = poll_fn(|cx| receiving.ends[1].poll_next(cx));
            let next = timeout(PATIENCE, next).await.expect("the other goes on");
            assert_eq!(text(&next), format!("{}+100", round * 20 + at));
        }
    }
    assert!(!sending.ends[0].is_ready(0), "the slow one is full");
    // A window, the sender's channel, and an element at each of their ends.
    let under_way: usize = slow.iter().map(Element::bytes).sum();
    assert!(
        under_way < 2 * (2000 + 1000),
        "{under_way} bytes are under way"
    );
    for sent in &slow {
        let next = poll_fn(|cx| receiving.ends[0].poll_next(cx));
        let next = timeout(PATIENCE, next).await.expect("nothing is lost");
        assert_eq!(text(&next), text(sent));
    }
}

#[tokio::test]
async fn a_barrier_brings_what_is_queued_before_it_and_nothing_comes_in_its_place() {
    let mut server = Server::start(1).await;
    server.config.overdraft_bytes = 1 << 20;
    let receiving = server.receive(1, 1);
    let sending = server.send(1, 1);
    let end = &sending.ends[0];
    let mut sent = 0;
    // Until there is no room, nor credit by which there would be some.
    while timeout(SHORT, poll_fn(|cx| end.poll_ready(cx, 0)))
        .await
        .is_ok()
    {
        end.send(batch(sent, 1));
        sent += 1;
    }
    end.send(Element::barrier(Epoch(7)));
    // Nobody reads.
    let barrier = poll_fn(|cx| receiving.ends[0].poll_barrier(cx));
    timeout(PATIENCE, barrier).await.expect("it comes");
    assert!(!end.is_ready(0), "the sender finds it full all the same");
    for number in 0..sent {
        let next = poll_fn(|cx| receiving.ends[0].poll_next(cx)).await;
        assert_eq!(text(&next), format!("{number}+1"));
    }
    let next = poll_fn(|cx| receiving.ends[0].poll_next(cx)).await;
    assert!(matches!(next, Element::Barrier(_)));
    let ready = poll_fn(|cx| end.poll_ready(cx, 0));
    timeout(PATIENCE, ready).await.expect("there is room again");
}

#[tokio::test]
async fn a_stream_that_is_cut_fails_on_both_sides() {
    let server = Server::start(1 << 20).await;
    let mut receiving = server.receive(1, 2);
    let mut sending = server.send(1, 2);
    // One channel has ended, and the other is in the middle.
    send_all(&sending.ends[0], elements(3)).await;
    sending.ends[1].send(batch(0, 1));
    timeout(PATIENCE, receive_all(&receiving.ends[0]))
        .await
        .expect("it works");
    poll_fn(|cx| receiving.ends[1].poll_next(cx)).await;
    server.serving.abort();
    ended(&mut sending.running).await.unwrap_err();
    ended(&mut receiving.running).await.unwrap_err();
}

#[tokio::test]
async fn a_side_that_stops_ends_the_other() {
    let server = Server::start(1 << 20).await;
    for (generation, sender_stops) in [(1, true), (2, false)] {
        let mut receiving = server.receive(generation, 1);
        let mut sending = server.send(generation, 1);
        sending.ends[0].send(batch(0, 1));
        let first = poll_fn(|cx| receiving.ends[0].poll_next(cx));
        timeout(PATIENCE, first).await.expect("it works");
        let (stopped, other) = match sender_stops {
            true => (&sending.running, &mut receiving.running),
            false => (&receiving.running, &mut sending.running),
        };
        stopped.abort();
        ended(other).await.unwrap_err();
        drop(receiving.expected);
    }
}

#[tokio::test]
async fn streams_of_older_generations_are_refused_and_newer_ones_wait() {
    let server = Server::start(1 << 20).await;
    let _current = server.receive(2, 1);
    let refused = ended(&mut server.send(1, 1).running).await;
    let fenced = matches!(refused, Err(LinkError::Refused(Refusal::Fenced { .. })));
    assert!(fenced, "{refused:?}");
    // Workers that disagree about the channels exchange nothing.
    let refused = ended(&mut server.send(2, 2).running).await;
    let differs = matches!(refused, Err(LinkError::Refused(Refusal::Wiring { .. })));
    assert!(differs, "{refused:?}");

    let newer = server.send(3, 1);
    newer.ends[0].send(Element::End);
    tokio::task::yield_now().await;
    let begun = server.receive(3, 1);
    let received = timeout(PATIENCE, receive_all(&begun.ends[0])).await;
    assert_eq!(received.expect("it was waited for"), ["End"]);
}

#[tokio::test]
async fn neither_side_waits_for_ever() {
    let server = Server::with(1 << 20, Duration::from_millis(300)).await;
    let refused = ended(&mut server.send(1, 1).running).await;
    assert!(refused.is_err());
    let not_opened = ended(&mut server.receive(1, 1).running).await;
    assert!(
        matches!(not_opened, Err(LinkError::NotOpened)),
        "{not_opened:?}"
    );
    // Nobody listens.
    server.serving.abort();
    let unreachable = ended(&mut server.send(1, 1).running).await;
    assert!(
        matches!(unreachable, Err(LinkError::Broken(_))),
        "{unreachable:?}"
    );
}

/// A sender that sends these frames after a proper opening, and what it is told.
async fn rogue(server: &Server, generation: u64, frames: Vec<Frame>) -> String {
    let mut receiving = server.receive(generation, 1);
    let open = Open {
        job: 1,
        generation,
        from_worker: A.0,
        to_worker: B.0,
        wiring: {
            let mut names = super::Names::default();
            names.push(0, 0, 0);
            names.hash()
        },
        routing: 0,
    };
    let mut messages = vec![sender_message::Message::Open(open)];
    messages.extend(frames.into_iter().map(sender_message::Message::Frame));
    let messages: Vec<SenderMessage> = messages
        .into_iter()
        .map(|message| SenderMessage {
            message: Some(message),
        })
        .collect();
    let requests =
        futures::StreamExt::chain(futures::stream::iter(messages), futures::stream::pending());
    let channel = connect(&server.address, &Tls::None, Timeouts::default()).unwrap();
    let call = exchange_client(channel).transfer(requests).await;
    let mut replies = call.unwrap().into_inner();
    let told = loop {
        match timeout(PATIENCE, replies.message())
            .await
            .expect("told in time")
        {
            Ok(Some(_)) => {}
            Ok(None) => break "nothing".to_owned(),
            Err(status) => break status.message().to_owned(),
        }
    };
    ended(&mut receiving.running).await.unwrap_err();
    told
}

fn frame(channel: u32, sequence: u64, element: WireElement) -> Frame {
    Frame {
        channel,
        sequence,
        element: Some(element),
    }
}

#[tokio::test]
async fn what_is_no_stream_of_elements_is_refused() {
    let server = Server::start(200).await;
    let rows = |count| {
        let frames = Encoder::new().encode(batch(0, count)).unwrap();
        frames.into_iter().next().unwrap()
    };
    let garbage = WireElement::Batch(exchange::Batch {
        schema: "not a schema".into(),
        header: "not a header".into(),
        ..exchange::Batch::default()
    });
    let end = || WireElement::End(exchange::End {});
    let no_element = Frame {
        element: None,
        ..frame(0, 0, end())
    };
    let cases = BTreeMap::from([
        ("damaged", vec![frame(0, 0, garbage)]),
        (
            "is missing",
            vec![frame(0, 0, rows(1)), frame(0, 2, rows(1))],
        ),
        // The same frame again.
        (
            "a frame is",
            vec![frame(0, 0, rows(1)), frame(0, 0, rows(1))],
        ),
        ("no channel", vec![frame(1, 0, rows(1))]),
        ("an empty frame", vec![no_element]),
        (
            "after the end",
            vec![frame(0, 0, end()), frame(0, 1, end())],
        ),
        ("room", vec![frame(0, 0, rows(100)), frame(0, 1, rows(1))]),
    ]);
    for (generation, (expected, frames)) in (1..).zip(cases) {
        let told = rogue(&server, generation, frames).await;
        assert!(told.contains(expected), "{expected}: {told}");
    }
}
