//! Servers of the services, with their limits set: to be added to [`tonic::service::Routes`].

use crate::{
    caps::MESSAGE_BYTES_MAX,
    control::control_server::{Control, ControlServer},
    exchange::exchange_server::{Exchange, ExchangeServer},
    forward::forward_server::{Forward, ForwardServer},
    peer::peer_server::{Peer, PeerServer},
    state::state_server::{State, StateServer},
};

/// The service `Control`, carried out by `service`.
pub fn control_server<S: Control>(service: S) -> ControlServer<S> {
    ControlServer::new(service)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// The service `Exchange`, carried out by `service`.
pub fn exchange_server<S: Exchange>(service: S) -> ExchangeServer<S> {
    ExchangeServer::new(service)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// The service `Forward`, carried out by `service`.
pub fn forward_server<S: Forward>(service: S) -> ForwardServer<S> {
    ForwardServer::new(service)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// The service `Peer`, carried out by `service`.
pub fn peer_server<S: Peer>(service: S) -> PeerServer<S> {
    PeerServer::new(service)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// The service `State`, carried out by `service`.
pub fn state_server<S: State>(service: S) -> StateServer<S> {
    StateServer::new(service)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}
