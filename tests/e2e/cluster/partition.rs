//! Workers that the network cuts off, without a word to anybody: connections stay open on both sides,
//! and nothing comes through.

use std::{thread, time::Duration};

use tests::{Cluster, ClusterConfig, Network};

use super::{config, load::Load, tls::certificates};

/// How long a worker is cut off, each time: less than what anybody waits for, about as long, and more.
const CUTS_MS: [u64; 4] = [500, 2500, 6000, 9000];

#[test]
fn workers_that_the_network_cuts_off_lose_nothing_and_double_nothing() {
    let workers = config().per_tier;
    let Some(network) = Network::start(workers) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let addresses = (0..workers).map(|worker| network.address(worker));
    let names = addresses.chain([network.host()]).collect();
    let cluster = Cluster::start_in(
        &ClusterConfig {
            variables: certificates(folder.path(), names),
            ..config()
        },
        &network,
    );
    let load = Load::start(&cluster, 25, 2);
    cluster.wait_progress(&load.job);
    for (number, cut) in CUTS_MS.into_iter().enumerate() {
        let worker = number % workers;
        network.set_cut(worker, true);
        thread::sleep(Duration::from_millis(cut));
        network.set_cut(worker, false);
        cluster.wait_whole();
        cluster.wait_progress(&load.job);
    }
    // All at once: nobody runs anything, until they are there again.
    for worker in 0..workers {
        network.set_cut(worker, true);
    }
    thread::sleep(Duration::from_secs(4));
    for worker in 0..workers {
        network.set_cut(worker, false);
    }
    cluster.wait_whole();
    load.finish(&cluster);
}
