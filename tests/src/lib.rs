//! What the test binaries share: where the project lies and how its test data is found.

use std::path::{Path, PathBuf};

/// The project's root folder.
#[must_use]
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// A file or folder of the test data.
#[must_use]
pub fn data(path: &str) -> PathBuf {
    root().join("tests/data").join(path)
}
