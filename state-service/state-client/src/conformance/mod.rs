//! What every [`StateStore`] must do. Each check is a small history against a fresh store.

mod check;
mod histories;
mod large;

use std::sync::Arc;

use proto::types::{JobId, TableId};

use crate::{StateControl, StateStore};
use check::Check;

/// A store under test and its control side.
pub type Pair = (Arc<dyn StateStore>, Arc<dyn StateControl>);

const TABLE: TableId = TableId(3);
/// Two hashes of one key group and one of another.
const HASHES: [u64; 3] = [5, 6, u64::MAX];
/// The job.
pub const JOB: JobId = JobId(7);
/// Shards of the job.
pub const SHARDS: u32 = 4;

/// Runs the whole suite; `store` makes a fresh store each time, for [`JOB`] of 256 key groups and
/// [`SHARDS`] shards.
pub async fn all(store: impl Fn() -> Pair) {
    Check::begin(store())
        .await
        .staged_is_invisible_until_committed()
        .await;
    Check::begin(store())
        .await
        .newest_epoch_wins_and_deletes_hide()
        .await;
    Check::begin(store())
        .await
        .staging_twice_applies_once()
        .await;
    Check::begin(store())
        .await
        .older_generations_are_fenced()
        .await;
    Check::begin(store())
        .await
        .uncommitted_epochs_of_an_old_generation_vanish()
        .await;
    Check::begin(store())
        .await
        .closed_namespaces_are_gone()
        .await;
    Check::begin(store())
        .await
        .scans_page_through_everything()
        .await;
    Check::begin(store())
        .await
        .output_is_kept_until_published()
        .await;
    Check::begin(store()).await.reads_by_sub_hash().await;
    Check::begin(store())
        .await
        .a_read_ahead_of_the_commit_is_refused()
        .await;
    Check::begin(store())
        .await
        .random_histories_match_a_model()
        .await;
    Check::begin(store())
        .await
        .tasks_and_shards_commit_together()
        .await;
    Check::begin(store())
        .await
        .a_task_may_stage_in_parts()
        .await;
    Check::begin(store()).await.large_scans_are_whole().await;
    Check::begin(store())
        .await
        .what_is_written_below_the_mark_is_closed()
        .await;
    Check::begin(store())
        .await
        .an_epoch_without_changes_is_one_too()
        .await;
}
