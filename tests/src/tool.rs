//! Programs of others that tests run: where they are, and a place for them to listen.

use std::{env, net::TcpListener, path::PathBuf};

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
