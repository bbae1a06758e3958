//! Generated from `schema/*.proto`.

/// Between the control plane's leader and the processes it directs.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod control {
    tonic::include_proto!("millstream.control.v1");
}

/// Elements between tasks on two workers.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod exchange {
    tonic::include_proto!("millstream.exchange.v1");
}

/// Requests of REST, between the nodes of the control plane.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod forward {
    tonic::include_proto!("millstream.forward.v1");
}

/// Between the nodes of the control plane.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod peer {
    tonic::include_proto!("millstream.peer.v1");
}

/// What tasks do with state.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod state {
    tonic::include_proto!("millstream.state_service.v1");
}
