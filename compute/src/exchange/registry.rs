//! Which streams this worker waits for: decides what becomes of one that comes. The newest
//! generation of a job that was begun here takes its streams, each once; older ones are fenced,
//! newer ones wait for their deployment.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use proto::types::{Generation, JobId, WorkerId};
use rpc::exchange::Open;
use state_client::Incarnation;
use tokio::sync::{Notify, oneshot};

use super::{error::Refusal, receive::Attached};

/// Streams that are waited for, by job.
#[derive(Default)]
pub(super) struct Registry {
    jobs: Mutex<BTreeMap<JobId, Begun>>,
    /// A generation was begun.
    pub(super) begun: Notify,
}

/// The newest generation of a job that was begun here.
struct Begun {
    generation: Generation,
    here: WorkerId,
    /// The newest routing of it that was begun.
    routing: u32,
    /// By routing and sending worker; taken out by the stream that comes.
    places: BTreeMap<(u32, WorkerId), Place>,
}

struct Place {
    wiring: u64,
    attach: oneshot::Sender<Attached>,
}

/// What becomes of a stream.
pub(super) enum Found {
    /// It is handed over here.
    Place(oneshot::Sender<Attached>),
    /// Its generation may still come.
    Wait,
    Refused(Refusal),
}

impl Registry {
    /// A generation begins, or another routing of it; streams of older generations are refused from
    /// now on. `wirings` are those of the workers that send to this one.
    pub(super) fn begin(
        self: &Arc<Registry>,
        who: Incarnation,
        routing: u32,
        here: WorkerId,
        wirings: impl Iterator<Item = (WorkerId, u64)>,
    ) -> Expected {
        let mut receivers = BTreeMap::new();
        let places = wirings.map(|(from, wiring)| {
            let (attach, attached) = oneshot::channel();
            receivers.insert(from, attached);
            ((routing, from), Place { wiring, attach })
        });
        {
            let mut jobs = self.lock();
            let fresh = || Begun {
                generation: who.generation,
                here,
                routing,
                places: BTreeMap::new(),
            };
            let begun = jobs.entry(who.job).or_insert_with(fresh);
            if begun.generation != who.generation {
                *begun = fresh();
            }
            begun.routing = begun.routing.max(routing);
            begun.places.extend(places);
        }
        self.begun.notify_waiters();
        Expected {
            registry: Arc::clone(self),
            who,
            routing,
            receivers,
        }
    }

    /// The place of a stream, which is the caller's from now on.
    pub(super) fn find(&self, open: &Open) -> Found {
        let (job, generation) = (JobId(open.job), Generation(open.generation));
        let from = WorkerId(open.from_worker);
        let mut jobs = self.lock();
        let Some(begun) = jobs.get_mut(&job) else {
            return Found::Wait;
        };
        let is_newer = begun.generation == generation && begun.routing < open.routing;
        if begun.generation < generation || is_newer {
            return Found::Wait;
        }
        let here = begun.here;
        let wanted = WorkerId(open.to_worker);
        Found::Refused(if begun.generation > generation {
            Refusal::Fenced {
                job,
                caller: generation,
                current: begun.generation,
            }
        } else if here != wanted {
            Refusal::OtherWorker { here, wanted }
        } else {
            match begun.places.remove(&(open.routing, from)) {
                Some(place) if place.wiring == open.wiring => return Found::Place(place.attach),
                Some(place) => {
                    // Its own stream may still come.
                    begun.places.insert((open.routing, from), place);
                    Refusal::Wiring { here, from }
                }
                None => Refusal::Ended {
                    job,
                    generation,
                    from,
                },
            }
        })
    }

    /// The job is gone from this worker.
    pub(super) fn forget(&self, job: JobId) {
        self.lock().remove(&job);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<JobId, Begun>> {
        // A panic while holding the lock leaves a whole map.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The streams that a generation waits for; none is taken once it is dropped.
pub(crate) struct Expected {
    registry: Arc<Registry>,
    who: Incarnation,
    routing: u32,
    receivers: BTreeMap<WorkerId, oneshot::Receiver<Attached>>,
}

impl Expected {
    /// Where the stream of a worker will come.
    pub(super) fn take(&mut self, from: WorkerId) -> Option<oneshot::Receiver<Attached>> {
        self.receivers.remove(&from)
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        let mut jobs = self.registry.lock();
        if let Some(begun) = jobs.get_mut(&self.who.job)
            && begun.generation == self.who.generation
        {
            let routing = self.routing;
            begun.places.retain(|(of, _), _| *of != routing);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: WorkerId = WorkerId(1);
    const OTHER: WorkerId = WorkerId(2);

    fn who(generation: u64) -> Incarnation {
        Incarnation {
            job: JobId(7),
            generation: Generation(generation),
        }
    }

    fn open(generation: u64, wiring: u64) -> Open {
        Open {
            job: 7,
            generation,
            from_worker: OTHER.0,
            to_worker: HERE.0,
            wiring,
            routing: 0,
        }
    }

    fn find(registry: &Registry, open: &Open) -> String {
        match registry.find(open) {
            Found::Place(_) => "place".to_owned(),
            Found::Wait => "wait".to_owned(),
            Found::Refused(refusal) => refusal.to_string(),
        }
    }

    #[test]
    fn streams_of_older_generations_are_fenced_and_newer_ones_wait() {
        let registry = Arc::<Registry>::default();
        assert_eq!(find(&registry, &open(2, 9)), "wait");
        let begun = registry.begin(who(2), 0, HERE, [(OTHER, 9)].into_iter());
        assert_eq!(find(&registry, &open(3, 9)), "wait");
        let fenced = "job_7 is fenced: generation g1 was replaced by g2";
        assert_eq!(find(&registry, &open(1, 9)), fenced);
        assert_eq!(find(&registry, &open(2, 9)), "place");
        let _newer = registry.begin(who(3), 0, HERE, [(OTHER, 9)].into_iter());
        // The older one's end takes nothing from the newer.
        drop(begun);
        assert_eq!(find(&registry, &open(3, 9)), "place");
        registry.forget(JobId(7));
        assert_eq!(find(&registry, &open(3, 9)), "wait");
    }

    #[test]
    fn a_stream_is_taken_once_and_only_between_workers_that_agree() {
        let registry = Arc::<Registry>::default();
        let begun = registry.begin(who(2), 0, HERE, [(OTHER, 9)].into_iter());
        assert!(find(&registry, &open(2, 8)).contains("the same channels"));
        let to_another = Open {
            to_worker: 5,
            ..open(2, 9)
        };
        assert_eq!(find(&registry, &to_another), "this is wk_1, not wk_5");
        assert_eq!(find(&registry, &open(2, 9)), "place");
        assert!(find(&registry, &open(2, 9)).contains("has its stream from wk_2"));
        drop(begun);
        let begun = registry.begin(who(2), 0, HERE, [(OTHER, 9)].into_iter());
        drop(begun);
        assert!(find(&registry, &open(2, 9)).contains("has ended here"));
    }
}
