//! Proposals that are repeated until their fate is known.

use std::{sync::Arc, time::Duration};

use coordinator::meta::{Answer, Change, Command};
use tokio::time::Instant;

use super::{Metadata, MetadataError};

/// First pause between attempts; doubles with each.
const PAUSE_MIN: Duration = Duration::from_millis(20);
/// Longest pause between attempts.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Proposes a change, again under the same id while the log cannot be reached, for as long as
/// `patience` lasts. `request` is drawn at random for each change; its low bits spread the pauses.
///
/// # Errors
/// When another node leads, the log is closed, or the patience is at its end.
pub async fn propose(
    metadata: &Arc<dyn Metadata>,
    request: u64,
    change: Change,
    patience: Duration,
) -> Result<Answer, MetadataError> {
    let command = Command { request, change };
    let until = Instant::now() + patience;
    let mut pause = PAUSE_MIN;
    loop {
        let error = match metadata.propose(command.clone()).await {
            Ok(answer) => return Ok(answer),
            Err(error @ MetadataError::Unavailable { .. }) => error,
            Err(error) => return Err(error),
        };
        // Between half of the pause and the whole.
        let jittered = pause / 2 + pause.mul_f64((request % 512) as f64 / 1024.0);
        if Instant::now() + jittered > until {
            return Err(error);
        }
        tokio::time::sleep(jittered).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}
