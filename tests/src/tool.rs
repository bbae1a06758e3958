//! Programs of others that tests run: where they are, and a place for them to listen.

use std::{
    collections::BTreeSet,
    env,
    hash::{BuildHasher as _, RandomState},
    net::TcpListener,
    path::PathBuf,
};

/// Where `make tools` put a program: where the variable says, or in the cache.
pub(crate) fn tool(variable: &str, file: &str) -> PathBuf {
    if let Some(path) = env::var_os(variable) {
        return path.into();
    }
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let name = format!("bin/{file}");
    let cached = cache
        .or_else(home)
        .map(|cache| cache.join("millstream").join(&name));
    let found = cached.filter(|path| path.exists());
    let path = found.unwrap_or_else(|| crate::root().join("target/tools").join(&name));
    assert!(path.exists(), "{file} is missing: run `make tools`");
    path
}

/// A port that nobody has at the moment.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// Ports that nobody has at the moment, and that no outgoing connection gets by chance: a process
/// that is killed finds its own again.
///
/// # Panics
/// When there are not so many.
#[must_use]
pub fn lasting_ports(count: usize) -> Vec<u16> {
    // Systems choose ports for connections above these.
    const FIRST: u16 = 12_000;
    const COUNT: u64 = 20_000;
    let random = RandomState::new();
    let drawn = (0..COUNT).map(|number| {
        let offset = random.hash_one(number) % COUNT;
        FIRST + u16::try_from(offset).unwrap_or_default()
    });
    let mut ports = BTreeSet::new();
    let free = drawn.filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    for port in free {
        if ports.len() == count {
            break;
        }
        ports.insert(port);
    }
    assert_eq!(ports.len(), count, "no free ports");
    ports.into_iter().collect()
}
