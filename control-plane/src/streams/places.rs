//! Who holds which place in the cluster: of one place, one stream is up.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::watch;

/// The places that are held. Cheap to clone; all clones are one.
pub(super) struct Places<P> {
    held: Arc<Mutex<BTreeMap<P, Held>>>,
    streams: Arc<AtomicU64>,
}

impl<P> Clone for Places<P> {
    fn clone(&self) -> Self {
        Places {
            held: Arc::clone(&self.held),
            streams: Arc::clone(&self.streams),
        }
    }
}

impl<P> Default for Places<P> {
    fn default() -> Self {
        Places {
            held: Arc::default(),
            streams: Arc::default(),
        }
    }
}

struct Held {
    process: u64,
    /// Tells the stream from all others.
    number: u64,
    ended: watch::Sender<bool>,
}

/// A place that a stream holds, until it is dropped or taken by the next stream of the process.
pub(super) struct Place {
    ended: watch::Receiver<bool>,
    free: Box<dyn Fn() + Send + Sync>,
}

impl Place {
    /// Waits until another stream has the place.
    pub(super) async fn taken(&mut self) {
        // The sender goes with the place.
        drop(self.ended.wait_for(|ended| *ended).await);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        (self.free)();
    }
}

impl<P: Ord + Clone + Send + Sync + 'static> Places<P> {
    /// Takes a place from an earlier stream of the same process; `None`: another process has it,
    /// whose stream is up.
    pub(super) fn take(&self, place: P, process: u64) -> Option<Place> {
        let mut held = self.lock();
        let before = held.get(&place);
        if before.is_some_and(|before| before.process != process) {
            return None;
        }
        let number = self.streams.fetch_add(1, Ordering::Relaxed);
        let (ended, receiver) = watch::channel(false);
        let now = Held {
            process,
            number,
            ended,
        };
        if let Some(before) = held.insert(place.clone(), now) {
            before.ended.send_replace(true);
        }
        let places = self.clone();
        Some(Place {
            ended: receiver,
            free: Box::new(move || places.free(&place, number)),
        })
    }

    fn free(&self, place: &P, number: u64) {
        let mut held = self.lock();
        if held.get(place).is_some_and(|held| held.number == number) {
            held.remove(place);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<P, Held>> {
        // Nothing panics while it is held.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn the_next_stream_of_a_process_takes_its_place_and_another_process_does_not() {
        let places = Places::default();
        let mut first = places.take(1, 7).expect("free");
        assert!(places.take(1, 8).is_none());
        assert!(places.take(2, 8).is_some());
        assert!(first.taken().now_or_never().is_none());
        let mut second = places.take(1, 7).expect("its own");
        assert!(first.taken().now_or_never().is_some());
        // The end of the first stream does not free what the second holds.
        drop(first);
        assert!(places.take(1, 8).is_none());
        assert!(second.taken().now_or_never().is_none());
        drop(second);
        assert!(places.take(1, 8).is_some());
    }

    #[test]
    fn a_place_that_was_free_in_between_is_not_freed_by_a_stream_from_before() {
        let places = Places::default();
        let slow = places.take(1, 7).expect("free");
        drop(places.take(1, 7).expect("its own"));
        let mut now = places.take(1, 9).expect("free");
        drop(slow);
        assert!(now.taken().now_or_never().is_none());
        assert!(places.take(1, 8).is_none());
    }
}
