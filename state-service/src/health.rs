//! Whether the object store answers as it should. Every request tells how it fared; trouble is
//! reported with its first sign that is news, and its end when requests of all kinds that were in
//! trouble are answered again.
//!
//! One failed request is no news: the next one may succeed. A request that nobody answers is, for
//! whoever waits for it cannot tell.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use proto::state_control::StateReport;
use tokio::{runtime::Handle, sync::Notify, time::Instant};

use crate::{
    caps::{TROUBLE_FORGOTTEN, TROUBLE_QUIET},
    reports::Reports,
};

/// What a request does: one kind may be in trouble and the others well.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Kind {
    Put,
    Get,
    Delete,
    List,
}

/// Reports trouble once, and its end.
#[derive(Clone)]
pub(crate) struct Health {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Notify,
    reports: Reports,
    runtime: Handle,
}

/// A request that has waited for too long, until it is dropped.
pub(crate) struct Waiting {
    health: Health,
    kind: Kind,
}

/// What sort of trouble was reported.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Told {
    Slow,
    Failing,
}

/// The trouble of one kind of requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Trouble {
    /// When its last sign was seen.
    last: Instant,
    /// Whether a request has succeeded since.
    answered: bool,
}

/// Pure: decides what is news.
#[derive(Default)]
struct State {
    troubles: BTreeMap<Kind, Trouble>,
    /// Requests that have waited for too long and still do.
    waiting: usize,
    told: Option<Told>,
}

impl State {
    /// A request failed; whether that is to be reported.
    fn failed(&mut self, kind: Kind, now: Instant) -> bool {
        let before = self.troubles.get(&kind).copied();
        self.sign(kind, now);
        let goes_on = before.is_some_and(|before| {
            let since = now - before.last;
            since < TROUBLE_QUIET || !before.answered && since < TROUBLE_FORGOTTEN
        });
        (goes_on || self.told.is_some()) && self.told_first(Told::Failing)
    }

    /// A request has waited for too long; whether that is to be reported.
    fn waits(&mut self, kind: Kind, now: Instant) -> bool {
        self.sign(kind, now);
        self.waiting += 1;
        self.told_first(Told::Slow)
    }

    /// It waits no longer, whether it was answered or given up.
    fn waited(&mut self, kind: Kind, now: Instant) {
        self.sign(kind, now);
        self.waiting -= 1;
    }

    fn answered(&mut self, kind: Kind) {
        if let Some(trouble) = self.troubles.get_mut(&kind) {
            trouble.answered = true;
        }
    }

    fn sign(&mut self, kind: Kind, now: Instant) {
        let trouble = Trouble {
            last: now,
            answered: false,
        };
        self.troubles.insert(kind, trouble);
    }

    fn told_first(&mut self, what: Told) -> bool {
        let news = self.told < Some(what);
        self.told = self.told.max(Some(what));
        news
    }

    /// From when on all is well if nothing else happens; `None`: something has to happen.
    fn well_at(&self) -> Option<Instant> {
        let ends = self.troubles.values().map(|trouble| {
            trouble.last
                + match trouble.answered {
                    true => TROUBLE_QUIET,
                    false => TROUBLE_FORGOTTEN,
                }
        });
        (self.waiting == 0).then(|| ends.max()).flatten()
    }

    /// Forgets trouble that is over; whether that is to be reported.
    fn recovers(&mut self, now: Instant) -> bool {
        let over = self.well_at().is_some_and(|at| at <= now);
        if over {
            self.troubles.clear();
        }
        over && self.told.take().is_some()
    }
}

impl Health {
    /// Reports go out from the runtime on which this is called.
    pub(crate) fn new(reports: Reports) -> Self {
        Health {
            shared: Arc::new(Shared {
                state: Mutex::default(),
                changed: Notify::new(),
                reports,
                runtime: Handle::current(),
            }),
        }
    }

    /// A request has failed: `why` says what is wrong and what to do.
    pub(crate) fn failed(&self, kind: Kind, why: impl FnOnce() -> String) {
        self.change(|state| state.failed(kind, Instant::now()), why);
    }

    /// A request was answered.
    pub(crate) fn answered(&self, kind: Kind) {
        let mut state = self.shared.state();
        if state.troubles.is_empty() {
            return;
        }
        state.answered(kind);
        drop(state);
        self.shared.changed.notify_one();
    }

    /// A request has waited for too long, and does until the guard is dropped.
    pub(crate) fn waits(&self, kind: Kind, why: impl FnOnce() -> String) -> Waiting {
        self.change(|state| state.waits(kind, Instant::now()), why);
        Waiting {
            health: self.clone(),
            kind,
        }
    }

    fn change(&self, change: impl FnOnce(&mut State) -> bool, why: impl FnOnce() -> String) {
        let shared = &self.shared;
        let mut state = shared.state();
        let was_well = state.told.is_none();
        if change(&mut state) {
            // Under the lock, so that its end cannot be reported before.
            shared
                .reports
                .send(StateReport::Degraded { why: Some(why()) });
            if was_well {
                // It ends with the trouble.
                shared.runtime.spawn(watch(shared.clone()));
            }
        }
        drop(state);
        shared.changed.notify_one();
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let shared = &self.health.shared;
        shared.state().waited(self.kind, Instant::now());
        shared.changed.notify_one();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for the end of a trouble that was reported, and reports it.
async fn watch(shared: Arc<Shared>) {
    loop {
        let well_at = {
            let mut state = shared.state();
            if state.recovers(Instant::now()) {
                shared.reports.send(StateReport::Degraded { why: None });
                return;
            }
            state.well_at()
        };
        // Without a time, somebody who waits will come back.
        let wait = well_at.map_or(Duration::MAX, |at| at - Instant::now());
        drop(tokio::time::timeout(wait, shared.changed.notified()).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn one_failure_is_no_news_and_two_are() {
        let now = Instant::now();
        let mut state = State::default();
        assert!(!state.failed(Kind::Get, now));
        // Of another kind, and after an answer: each the first one.
        assert!(!state.failed(Kind::Put, now + SECOND));
        state.answered(Kind::Get);
        assert!(!state.failed(Kind::Get, now + TROUBLE_QUIET));
        assert!(state.failed(Kind::Get, now + TROUBLE_QUIET + 9 * SECOND));
        // It is known by now.
        assert!(!state.failed(Kind::Put, now + TROUBLE_QUIET + 9 * SECOND));
        // Long ago, nobody knows whether it was answered since.
        let mut state = State::default();
        assert!(!state.failed(Kind::Get, now));
        assert!(!state.failed(Kind::Get, now + TROUBLE_FORGOTTEN));
        // A throttled store answers every other request.
        let mut state = State::default();
        assert!(!state.failed(Kind::Put, now));
        state.answered(Kind::Put);
        assert!(state.failed(Kind::Put, now + TROUBLE_QUIET - SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn trouble_is_over_when_every_kind_is_answered_again() {
        let now = Instant::now();
        let mut state = State::default();
        for kind in [Kind::Get, Kind::Get, Kind::Put] {
            state.failed(kind, now);
        }
        state.answered(Kind::Get);
        assert_eq!(state.well_at(), Some(now + TROUBLE_FORGOTTEN));
        state.answered(Kind::Put);
        let well = now + TROUBLE_QUIET;
        assert_eq!(state.well_at(), Some(well));
        assert!(!state.recovers(well - SECOND));
        assert!(state.recovers(well));
        assert!(!state.recovers(well), "it is reported once");
        // A request that hangs is in trouble for as long as it hangs.
        assert!(state.waits(Kind::Get, well));
        assert_eq!(state.well_at(), None);
        assert!(!state.recovers(well + 1000 * SECOND));
        state.waited(Kind::Get, well + 1000 * SECOND);
        state.answered(Kind::Get);
        assert!(state.recovers(well + 1000 * SECOND + TROUBLE_QUIET));
        // That it fails as well is worth more than that it is slow.
        assert!(state.waits(Kind::Get, now));
        assert!(!state.waits(Kind::Get, now));
        assert!(state.failed(Kind::Put, now));
        assert!(!state.failed(Kind::Put, now));
    }
}
