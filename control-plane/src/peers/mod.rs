//! What the nodes of the control plane say to each other, over gRPC.

mod link;
#[cfg(test)]
mod peers_test;
mod server;

pub use link::GrpcPeers;
pub use server::PeerService;
