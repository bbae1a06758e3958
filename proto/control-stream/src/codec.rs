//! Messages as they travel: JSON, for they are few and worth reading in a log.

use rpc::control::Message;
use serde::{Serialize, de::DeserializeOwned};

/// A message that is not one of this version.
#[derive(Debug, thiserror::Error)]
#[error("not a message of this version of the control stream: {0}")]
pub struct Malformed(#[from] serde_json::Error);

/// The message as it travels.
#[must_use]
pub fn encode<T: Serialize>(message: &T) -> Message {
    Message {
        json: serde_json::to_vec(message)
            .expect("messages are plain data")
            .into(),
    }
}

/// The message that travelled.
///
/// # Errors
/// When it is not one of this version.
pub fn decode<T: DeserializeOwned>(message: &Message) -> Result<T, Malformed> {
    Ok(serde_json::from_slice(&message.json)?)
}
