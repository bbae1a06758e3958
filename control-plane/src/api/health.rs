//! Whether something can do what it is for, in the words of the API.

use serde::Serialize;
use utoipa::ToSchema;

use super::backend::Backend;
use crate::{JobEntry, state_tier::StateTierStatus};

/// Whether something can do what it is for.
#[derive(Serialize, ToSchema, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Health {
    /// It can.
    Ok,
    /// Something is missing or slow.
    Degraded,
}

impl Health {
    /// Degraded if there is a reason.
    pub(super) fn of<T>(reason: Option<&T>) -> Health {
        match reason {
            Some(_) => Health::Degraded,
            None => Health::Ok,
        }
    }
}

/// What holds jobs up, looked at once for all of them.
pub(super) struct JobHealth(Option<StateTierStatus>);

impl JobHealth {
    pub(super) async fn look(backend: &Backend) -> JobHealth {
        JobHealth(backend.state_status().await)
    }

    /// What holds the job up, if anything does. One that has ended is held up by nothing.
    pub(super) fn reason(&self, entry: &JobEntry) -> Option<String> {
        if entry.state().is_terminal() {
            return None;
        }
        let of_state = match &self.0 {
            Some(status) => status.degraded.get(&entry.id).cloned(),
            None => Some("the state tier does not answer".to_owned()),
        };
        of_state.or_else(|| entry.waits_for().map(str::to_owned))
    }
}
