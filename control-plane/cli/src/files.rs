//! Which files of the store anything needs, as a server says.

use crate::{client::Client, servers::ServerArgs};

/// Bytes of an answer that are read at most.
const ANSWER_BYTES_MAX: u64 = 1 << 30;

/// What the server says of the files that anything needs, as JSON: read after the call.
///
/// # Errors
/// When the server cannot be reached or refuses; the text says why.
pub fn needed_files(server: &ServerArgs) -> anyhow::Result<String> {
    Client::new(server)?.get_long("/v1/files", ANSWER_BYTES_MAX)
}
