//! Waiting for what another process does: looked at again and again, for a bounded time.

use std::{thread, time::Duration};

use tokio::time::Instant;

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Whether the condition holds before the time is up.
pub fn wait_until(time: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + time;
    loop {
        if holds() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(PAUSE);
    }
}
