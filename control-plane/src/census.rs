//! Counts what is stored of jobs' operators, slowly: a few pieces of state, then a rest that is so much
//! longer that counting takes a small part of the state tier's time, however large states are. What is
//! counted next, and what it amounts to, `coordinator::census` says; each job has its own.

use std::sync::Arc;

use proto::types::Epoch;
use state_client::Incarnation;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    JobEntry, Jobs,
    api::{StateAt, StateNodes, StateQueries},
    caps::{CENSUS_BUSY, CENSUS_PAUSE, CENSUS_REST, STATE_QUERY_PATIENCE},
};

/// Counts until nobody drives jobs any more.
pub async fn take_census(
    jobs: Jobs,
    state_nodes: Arc<dyn StateNodes>,
    queries: Arc<dyn StateQueries>,
) {
    let counting = async {
        // The job that was counted last; others come first.
        let mut last = None;
        let mut pause = CENSUS_PAUSE;
        loop {
            sleep(pause).await;
            let begun = Instant::now();
            let mut entries = jobs.list();
            entries.retain(|entry| !entry.state().is_terminal());
            let first = entries.partition_point(|entry| Some(entry.id) <= last);
            entries.rotate_left(first);
            for entry in entries {
                last = Some(entry.id);
                while begun.elapsed() < CENSUS_BUSY
                    && count_piece(&entry, &*state_nodes, &*queries).await
                {}
                if begun.elapsed() >= CENSUS_BUSY {
                    break;
                }
            }
            pause = CENSUS_PAUSE.max(CENSUS_REST * begun.elapsed());
        }
    };
    tokio::select! {
        () = counting => {}
        () = jobs.ended() => {}
    }
}

/// Counts the next piece of a job's state. `false`: there is nothing to count at the moment, or it cannot
/// be.
async fn count_piece(
    entry: &JobEntry,
    state_nodes: &dyn StateNodes,
    queries: &dyn StateQueries,
) -> bool {
    let committed = entry.committed();
    if committed == Epoch::ZERO {
        return false;
    }
    let Some(piece) = entry.census().next(committed) else {
        return false;
    };
    let at = StateAt::Committed {
        who: Incarnation {
            job: entry.id,
            generation: entry.generation(),
        },
        committed,
        owners: state_nodes.owners(entry.id),
    };
    match timeout(STATE_QUERY_PATIENCE, queries.count(at, piece)).await {
        Ok(Ok(found)) => {
            let cursor = found.cursor.map(|cursor| cursor.to_vec());
            entry.census().counted(found.rows, found.bytes, cursor);
            true
        }
        Ok(Err(error)) => {
            // A job that restarts, or a state node that moves, for instance: its turn comes again.
            tracing::debug!(job = %entry.id, %error, "state was not counted");
            false
        }
        Err(_) => false,
    }
}
