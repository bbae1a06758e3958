//! Asks the provider, beside everything else: whatever it does, jobs go on.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use coordinator::{autoscale::Slots, capacity::Want};
use proto::types::JobId;
use tokio::{
    sync::watch,
    task::AbortHandle,
    time::{sleep, timeout},
};

use super::{CapacityConfig, CapacityProvider};
use crate::caps::{CAPACITY_DEADLINE, CAPACITY_RETRY};

/// How it stands with the number of workers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CapacityStatus {
    /// Who is asked.
    pub provider: &'static str,
    /// What is wanted by now; `None`: nobody has looked yet.
    pub wanted: Option<Want>,
    /// Why the provider could not do it, if its last answer was so.
    pub error: Option<String>,
}

type Shared = Arc<Mutex<CapacityStatus>>;

/// Follows what jobs want, and has the provider asked.
pub(crate) struct Capacity {
    core: coordinator::capacity::Capacity,
    wanted: watch::Sender<Option<Want>>,
    status: Shared,
    /// The loop that asks; it ends with this.
    asking: AbortHandle,
}

impl Drop for Capacity {
    fn drop(&mut self) {
        self.asking.abort();
    }
}

impl Capacity {
    /// Begins to ask the provider on the current runtime, as soon as something is wanted.
    pub(crate) fn start(config: CapacityConfig) -> Capacity {
        let (wanted, changes) = watch::channel(None);
        let status = Shared::default();
        lock(&status).provider = config.provider.name();
        let asking = tokio::spawn(ask(config.provider, changes, Arc::clone(&status)));
        Capacity {
            core: coordinator::capacity::Capacity::new(config.policy),
            wanted,
            status,
            asking: asking.abort_handle(),
        }
    }

    /// Takes the slots that jobs want.
    pub(crate) fn follow(&mut self, jobs: &BTreeMap<JobId, u32>, now_us: u64) {
        if let Some(want) = self.core.update(jobs, now_us) {
            tracing::info!(
                workers = want.workers,
                reason = want.reason,
                "workers are wanted"
            );
            lock(&self.status).wanted = Some(want.clone());
            self.wanted.send_replace(Some(want.clone()));
        }
    }

    /// The room that one job has, where `workers` are there and the others want so many slots.
    pub(crate) fn slots(&self, workers: usize, others: u32) -> Slots {
        let policy = self.core.policy();
        let workers = u32::try_from(workers).unwrap_or(u32::MAX);
        let of = |workers: u32| {
            let all = workers.saturating_mul(policy.slots_per_worker);
            Some(all.saturating_sub(others).max(1))
        };
        Slots {
            now: of(workers),
            most: of(policy.workers_max),
        }
    }

    /// How it stands.
    pub(crate) fn status(&self) -> Arc<dyn Fn() -> CapacityStatus + Send + Sync> {
        let status = Arc::clone(&self.status);
        Arc::new(move || lock(&status).clone())
    }
}

fn lock(status: &Shared) -> MutexGuard<'_, CapacityStatus> {
    // Nothing panics while it is held.
    status.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks for what is wanted, again after a failure and when the provider has lost something.
async fn ask(
    provider: Arc<dyn CapacityProvider>,
    mut wanted: watch::Receiver<Option<Want>>,
    status: Shared,
) {
    loop {
        let want = wanted.borrow_and_update().clone();
        let failed = match want {
            None => false,
            Some(want) => {
                let error = ask_once(&*provider, want).await.err();
                let failed = error.is_some();
                lock(&status).error = error;
                failed
            }
        };
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() {
                return;
            },
            () = provider.disturbed() => {}
            () = sleep(CAPACITY_RETRY), if failed => {}
        }
    }
}

async fn ask_once(provider: &dyn CapacityProvider, want: Want) -> Result<(), String> {
    let (name, workers) = (provider.name(), want.workers);
    let answer = match timeout(CAPACITY_DEADLINE, provider.want(want)).await {
        Ok(answer) => answer,
        Err(_) => Err(format!(
            "no answer within {} s",
            CAPACITY_DEADLINE.as_secs()
        )),
    };
    if let Err(error) = &answer {
        tracing::warn!(provider = name, workers, error, "failed to ask for workers");
    }
    answer
}
