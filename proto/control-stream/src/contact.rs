//! When a process last heard from the control plane.

use std::time::Duration;

use tokio::{sync::watch, time::Instant};

/// When a process last heard from any node of the control plane. Cheap to clone; all clones are
/// one.
#[derive(Clone, Debug)]
pub struct Contact(watch::Sender<Instant>);

impl Default for Contact {
    fn default() -> Self {
        Contact(watch::Sender::new(Instant::now()))
    }
}

impl Contact {
    pub(crate) fn heard(&self) {
        self.0.send_replace(Instant::now());
    }

    /// Waits until nothing has been heard for `lease`.
    pub async fn lost(&self, lease: Duration) {
        loop {
            let last = *self.0.borrow();
            if last.elapsed() >= lease {
                return;
            }
            tokio::time::sleep_until(last + lease).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_word_makes_the_lease_begin_anew() {
        let contact = Contact::default();
        let lease = Duration::from_secs(10);
        let begun = Instant::now();
        let words = async {
            for _ in 0..5 {
                tokio::time::sleep(Duration::from_secs(7)).await;
                contact.heard();
            }
        };
        tokio::join!(words, contact.lost(lease));
        assert_eq!(begun.elapsed(), Duration::from_secs(45));
    }
}
