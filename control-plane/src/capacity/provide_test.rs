//! Asking a provider that fails, hangs and loses what it has made.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use coordinator::capacity::{CapacityPolicy, Want};
use futures::{FutureExt as _, future::BoxFuture};
use proto::types::JobId;
use tokio::{sync::Notify, time::sleep};

use super::{Capacity, CapacityConfig, CapacityProvider};

/// What it does when it is asked.
#[derive(Clone, Copy)]
enum Does {
    Well,
    Fail,
    Hang,
}

#[derive(Default)]
struct Provider {
    asked: Mutex<Vec<u32>>,
    does: Mutex<VecDeque<Does>>,
    lost: Notify,
}

impl Provider {
    fn next(&self, workers: u32) -> Does {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.push(workers);
        let mut does = self.does.lock().unwrap_or_else(PoisonError::into_inner);
        does.pop_front().unwrap_or(Does::Well)
    }

    fn asked(&self) -> Vec<u32> {
        self.asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl CapacityProvider for Provider {
    fn name(&self) -> &'static str {
        "test"
    }

    fn want(&self, want: Want) -> BoxFuture<'_, Result<(), String>> {
        async move {
            match self.next(want.workers) {
                Does::Well => Ok(()),
                Does::Fail => Err("no machine".to_owned()),
                Does::Hang => std::future::pending().await,
            }
        }
        .boxed()
    }

    fn disturbed(&self) -> BoxFuture<'_, ()> {
        self.lost.notified().boxed()
    }
}

fn capacity(does: &[Does]) -> (Capacity, Arc<Provider>) {
    let provider = Arc::new(Provider {
        does: Mutex::new(does.iter().copied().collect()),
        ..Provider::default()
    });
    let capacity = Capacity::start(CapacityConfig {
        policy: CapacityPolicy {
            slots_per_worker: 2,
            workers_min: 0,
            workers_max: 4,
            removal_delay_us: 0,
        },
        provider: provider.clone(),
    });
    (capacity, provider)
}

fn jobs(slots: u32) -> BTreeMap<JobId, u32> {
    [(JobId(1), slots)].into()
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_told_and_tried_again() {
    let (mut capacity, provider) = capacity(&[Does::Fail, Does::Hang]);
    let status = capacity.status();
    assert_eq!((status)().wanted, None);
    capacity.follow(&jobs(3), 0);
    sleep(Duration::from_secs(1)).await;
    assert_eq!((status)().error.as_deref(), Some("no machine"));
    assert_eq!((status)().wanted.map(|want| want.workers), Some(2));
    assert_eq!((status)().provider, "test");
    sleep(Duration::from_secs(60)).await;
    assert_eq!((status)().error.as_deref(), Some("no answer within 30 s"));
    sleep(Duration::from_secs(31)).await;
    assert_eq!((status)().error, None);
    sleep(Duration::from_secs(600)).await;
    assert_eq!(provider.asked(), [2, 2, 2]);
}

#[tokio::test(start_paused = true)]
async fn it_is_asked_again_for_what_is_lost_and_for_what_changes() {
    let (mut capacity, provider) = capacity(&[]);
    capacity.follow(&jobs(3), 0);
    sleep(Duration::from_secs(1)).await;
    provider.lost.notify_one();
    sleep(Duration::from_secs(1)).await;
    capacity.follow(&jobs(8), 1);
    capacity.follow(&jobs(8), 2);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(provider.asked(), [2, 2, 4]);
    drop(capacity);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(Arc::strong_count(&provider), 1, "nobody asks any more");
}

#[tokio::test(start_paused = true)]
async fn a_job_has_the_room_that_others_leave() {
    let (capacity, _) = capacity(&[]);
    let slots = |workers, others| {
        let slots = capacity.slots(workers, others);
        (slots.now, slots.most)
    };
    assert_eq!(slots(3, 0), (Some(6), Some(8)));
    assert_eq!(slots(3, 5), (Some(1), Some(3)));
    assert_eq!(
        slots(0, 9),
        (Some(1), Some(1)),
        "it runs somewhere in any case"
    );
}
