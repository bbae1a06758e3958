//! Clients of the services, with their limits set.

use crate::{
    Channel, caps::MESSAGE_BYTES_MAX, control::control_client::ControlClient,
    exchange::exchange_client::ExchangeClient, forward::forward_client::ForwardClient,
    peer::peer_client::PeerClient, state::state_client::StateClient,
};

/// A client of the service `Control`.
#[must_use]
pub fn control_client(channel: Channel) -> ControlClient<Channel> {
    ControlClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// A client of the service `Exchange`.
#[must_use]
pub fn exchange_client(channel: Channel) -> ExchangeClient<Channel> {
    ExchangeClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// A client of the service `Forward`.
#[must_use]
pub fn forward_client(channel: Channel) -> ForwardClient<Channel> {
    ForwardClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// A client of the service `Peer`.
#[must_use]
pub fn peer_client(channel: Channel) -> PeerClient<Channel> {
    PeerClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// A client of the service `State`.
#[must_use]
pub fn state_client(channel: Channel) -> StateClient<Channel> {
    StateClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}
