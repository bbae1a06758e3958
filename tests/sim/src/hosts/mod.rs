//! What runs on the hosts: the tiers, assembled as the binary does, over simulated connections, disks
//! and the simulated store.

mod client;
mod control_plane;
mod operator;
mod rest;
mod state_node;
mod worker;

use std::{sync::Arc, time::Duration};

use compute::SystemClock;
use control_stream::{DialConfig, StreamTiming};
use rand::{RngCore as _, rngs::SmallRng};
use rpc::Tls;

pub use client::run as client;
pub use control_plane::{newcomer, run as control_plane};
pub use operator::run as operator;
pub use state_node::run as state_node;
pub use worker::{LEFT, run as worker};

use crate::{
    network::{Simulated, TIER_PORT},
    plan::control_hosts,
    world::World,
};

/// The cluster's name.
const CLUSTER: &str = "simulated";
/// What clients show.
const TOKEN: &str = "token";

/// How tiers talk.
fn tls() -> Tls {
    Tls::Simulated(Arc::new(Simulated))
}

fn address(host: &str) -> String {
    format!("{host}:{TIER_PORT}")
}

fn dial(host: &str, random: &mut SmallRng) -> DialConfig {
    DialConfig {
        control_plane: control_hosts().iter().map(|host| address(host)).collect(),
        tls: tls(),
        cluster: CLUSTER.to_owned(),
        address: address(host),
        process: random.next_u64(),
        timing: StreamTiming::default(),
    }
}

fn wall_ms(clock: &SystemClock) -> u64 {
    use engine::clock::Clock as _;
    u64::try_from(clock.wall_ms()).unwrap_or_default()
}

/// Runs a process: when it ends by itself, whoever watches over it is told.
async fn process<E: std::fmt::Display>(
    world: &World,
    host: &str,
    work: impl Future<Output = Result<std::convert::Infallible, E>>,
) -> turmoil::Result {
    let why = match work.await {
        Ok(never) => match never {},
        Err(error) => error.to_string(),
    };
    world.ended(host, why);
    // It is over only when it is seen to be.
    std::future::pending().await
}

/// How often figures are looked at.
const LOOK: Duration = Duration::from_millis(250);
