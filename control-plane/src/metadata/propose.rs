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
    let mut doubt = false;
    loop {
        let error = match metadata.propose(command.clone()).await {
            Ok(answer) => return Ok(answer),
            Err(error @ MetadataError::Unavailable { .. }) => error,
            Err(error) => return Err(doubted(error, doubt)),
        };
        doubt |= matches!(
            error,
            MetadataError::Unavailable {
                indeterminate: true,
                ..
            }
        );
        // Between half of the pause and the whole.
        let jittered = pause / 2 + pause.mul_f64((request % 512) as f64 / 1024.0);
        if Instant::now() + jittered > until {
            return Err(doubted(error, doubt));
        }
        tokio::time::sleep(jittered).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// The last error of several attempts. That the last one did nothing says nothing of those before.
fn doubted(error: MetadataError, doubt: bool) -> MetadataError {
    match doubt {
        true => MetadataError::Unavailable {
            why: match error {
                MetadataError::Unavailable { why, .. } => why,
                error => error.to_string(),
            },
            indeterminate: true,
        },
        false => error,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures::{FutureExt as _, future::BoxFuture};
    use proto::types::JobId;

    use super::*;
    use crate::metadata::Look;

    /// A log that fails in these ways, one after the other.
    struct Failing(Mutex<Vec<MetadataError>>);

    impl Metadata for Failing {
        fn propose(&self, _: Command) -> BoxFuture<'static, Result<Answer, MetadataError>> {
            let mut errors = self.0.lock().expect("not poisoned");
            let error = match errors.len() {
                1 => errors[0].clone(),
                _ => errors.remove(0),
            };
            async move { Err(error) }.boxed()
        }

        fn read(&self, _: Look) -> BoxFuture<'static, Result<(), MetadataError>> {
            unreachable!("nothing is read")
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_doubt_about_one_attempt_is_one_about_all() {
        let unavailable = |indeterminate| MetadataError::Unavailable {
            why: "no quorum".to_owned(),
            indeterminate,
        };
        let elsewhere = MetadataError::NotLeader { leader: None };
        for (errors, doubtful) in [
            (vec![unavailable(false)], false),
            (vec![unavailable(false), elsewhere.clone()], false),
            (vec![unavailable(true), unavailable(false)], true),
            (vec![unavailable(true), elsewhere], true),
        ] {
            let metadata: Arc<dyn Metadata> = Arc::new(Failing(Mutex::new(errors.clone())));
            let change = Change::Cancel { job: JobId(1) };
            let error = propose(&metadata, 7, change, Duration::from_secs(3)).await;
            let error = error.expect_err("it fails");
            let told = matches!(
                error,
                MetadataError::Unavailable {
                    indeterminate: true,
                    ..
                }
            );
            assert_eq!(told, doubtful, "{errors:?} came to {error:?}");
        }
    }
}
