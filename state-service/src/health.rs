//! Whether the object store answers. Whoever is in trouble with it says so and keeps the word; when
//! the last of them is done, the trouble is over.

use std::sync::{Arc, Mutex, PoisonError};

use proto::state_control::StateReport;

use crate::reports::Reports;

/// Reports trouble once, and its end.
#[derive(Clone)]
pub(crate) struct Health {
    troubled: Arc<Mutex<usize>>,
    reports: Reports,
}

/// Somebody's trouble, until it is dropped.
pub(crate) struct TroubleGuard(Health);

impl Health {
    pub(crate) fn new(reports: Reports) -> Self {
        Health {
            troubled: Arc::default(),
            reports,
        }
    }

    /// Somebody is in trouble from now until the guard is dropped.
    pub(crate) fn trouble(&self, why: &str) -> TroubleGuard {
        let mut troubled = self.troubled.lock().unwrap_or_else(PoisonError::into_inner);
        *troubled += 1;
        if *troubled == 1 {
            let why = Some(why.to_owned());
            self.reports.send(StateReport::Degraded { why });
        }
        TroubleGuard(self.clone())
    }
}

impl Drop for TroubleGuard {
    fn drop(&mut self) {
        let mut troubled = self
            .0
            .troubled
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *troubled -= 1;
        if *troubled == 0 {
            self.0.reports.send(StateReport::Degraded { why: None });
        }
    }
}
