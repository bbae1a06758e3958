//! The store, the wire and state nodes together, over loopback.

mod authority;
mod cluster;
mod conformance_test;
mod failover_test;
mod kept_test;
mod large_test;
mod relay;
mod stub;
mod transport_test;
mod world;
