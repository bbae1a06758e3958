//! One stream to the leader, seen from the process that opened it.

use std::marker::PhantomData;

use rpc::{Channel, control::Message, tonic::Streaming};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout_at},
};

use crate::{Contact, Hear, Outbox, Put, Say, StreamTiming, Welcome, decode};

/// One stream to the leader. Ends when it is dropped.
pub struct Session<S, H> {
    /// What the leader said first.
    pub welcome: Welcome,
    /// The way to the leader, for calls beside the stream.
    pub leader: Channel,
    pub(crate) outbox: Outbox,
    pub(crate) inbound: Streaming<Message>,
    pub(crate) timing: StreamTiming,
    pub(crate) heard: Instant,
    pub(crate) contact: Contact,
    pub(crate) _beats: Beats,
    pub(crate) items: PhantomData<fn(S) -> H>,
}

impl<S: Serialize, H: DeserializeOwned> Session<S, H> {
    /// Says something; `false`: the stream has ended.
    pub fn say(&self, item: S) -> bool {
        self.outbox.put(&Say::Item(item))
    }

    /// As [`Session::say`], but what is too large to travel is told from a stream that has ended.
    pub fn say_bounded(&self, item: S) -> Put {
        self.outbox.put_bounded(&Say::Item(item))
    }

    /// What the leader says next; `None`: the stream has ended. May be dropped and called again.
    pub async fn hear(&mut self) -> Option<H> {
        loop {
            let next = tokio::select! {
                next = timeout_at(self.heard + self.timing.silence, self.inbound.message()) => next,
                () = self.outbox.ended() => return None,
            };
            let why = match next {
                Ok(Ok(Some(message))) => {
                    self.heard = Instant::now();
                    self.contact.heard();
                    match decode::<Hear<H>>(&message) {
                        Ok(Hear::Item(item)) => return Some(item),
                        Ok(Hear::Beat) => continue,
                        Ok(_) => "the leader says what belongs to the beginning".to_owned(),
                        Err(error) => error.to_string(),
                    }
                }
                Ok(Ok(None)) => "the leader has ended it".to_owned(),
                Ok(Err(status)) => status.message().to_owned(),
                Err(_) => "the leader is silent".to_owned(),
            };
            tracing::warn!(why, "the stream to the leader has ended");
            self.outbox.cut();
            return None;
        }
    }
}

/// Says regularly that this side is there.
pub(crate) struct Beats(JoinHandle<()>);

impl Beats {
    pub(crate) fn start(outbox: Outbox, timing: StreamTiming) -> Beats {
        Beats(tokio::spawn(async move {
            let mut ticks = tokio::time::interval(timing.beat);
            loop {
                ticks.tick().await;
                if !outbox.put(&Say::<()>::Beat) {
                    return;
                }
            }
        }))
    }
}

impl Drop for Beats {
    fn drop(&mut self) {
        self.0.abort();
    }
}
