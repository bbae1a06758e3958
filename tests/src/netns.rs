//! Networks of this machine: processes in namespaces of their own, on one bridge, whose lines can be
//! cut. Needs root and `ip`; where there are none, there is no network.

use std::{
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

/// Makes names of the networks of this process different.
static MADE: AtomicU32 = AtomicU32::new(0);

/// A bridge, and namespaces on it; gone when dropped.
pub struct Network {
    name: String,
    prefix: String,
    places: usize,
}

impl Network {
    /// A network with so many namespaces; `None`: this machine lets nobody make one, which is said in
    /// one line.
    #[must_use]
    pub fn start(places: usize) -> Option<Network> {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id();
        let mut network = Network {
            name: format!("ms{}x{number}", process % 1_000_000),
            prefix: format!("10.213.{}", (process + number) % 250 + 1),
            places: 0,
        };
        let bridge = network.name.clone();
        let address = format!("{}/24", network.host());
        let made = ip(&["link", "add", &bridge, "type", "bridge"])
            && ip(&["addr", "add", &address, "dev", &bridge])
            && ip(&["link", "set", &bridge, "up"])
            && (0..places).all(|place| {
                network.places = place + 1;
                network.make(place)
            });
        if made {
            return Some(network);
        }
        eprintln!("skipped: no network namespaces here (they need root and `ip netns`)");
        None
    }

    fn make(&self, place: usize) -> bool {
        let (space, here, there) = (
            self.space(place),
            self.line(place),
            format!("{}p", self.line(place)),
        );
        let address = format!("{}/24", self.address(place));
        ip(&["netns", "add", &space])
            && ip(&["link", "add", &here, "type", "veth", "peer", "name", &there])
            && ip(&["link", "set", &there, "netns", &space])
            && ip(&["link", "set", &here, "master", &self.name])
            && ip(&["link", "set", &here, "up"])
            && ip(&["-n", &space, "addr", "add", &address, "dev", &there])
            && ip(&["-n", &space, "link", "set", &there, "up"])
            && ip(&["-n", &space, "link", "set", "lo", "up"])
    }

    /// The address of processes outside of all namespaces.
    #[must_use]
    pub fn host(&self) -> String {
        format!("{}.1", self.prefix)
    }

    /// The address of a namespace.
    #[must_use]
    pub fn address(&self, place: usize) -> String {
        format!("{}.{}", self.prefix, place + 10)
    }

    /// The name of a namespace.
    #[must_use]
    pub fn space(&self, place: usize) -> String {
        format!("{}n{place}", self.name)
    }

    fn line(&self, place: usize) -> String {
        format!("{}l{place}", self.name)
    }

    /// Cuts a namespace off from everybody, without a word to anybody, or lets it be there again.
    ///
    /// # Panics
    /// When that is not possible.
    pub fn set_cut(&self, place: usize, cut: bool) {
        let state = if cut { "down" } else { "up" };
        assert!(ip(&["link", "set", &self.line(place), state]));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for place in 0..self.places {
            ip(&["link", "del", &self.line(place)]);
            ip(&["netns", "del", &self.space(place)]);
        }
        ip(&["link", "del", &self.name]);
    }
}

/// Whether it was carried out.
fn ip(arguments: &[&str]) -> bool {
    let run = Command::new("ip")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    run.is_ok_and(|status| status.success())
}
