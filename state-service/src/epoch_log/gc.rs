//! What a crash left behind in the log: objects that no checkpoint names and none ever will.

use std::collections::BTreeSet;

use futures::future::BoxFuture;
use proto::{state_control::LogReferences, types::JobId};

use super::{EpochLog, LogError, Origin};

/// Deletes objects of the job's log that nothing refers to; how many there were. What is referred
/// to is asked after listing: an object listed as unreferenced might be committed in between, and
/// would be deleted if the answer were older than the list.
pub(crate) async fn collect_orphans(
    log: &EpochLog,
    job: JobId,
    references: impl FnOnce() -> BoxFuture<'static, Result<LogReferences, String>>,
) -> Result<usize, LogError> {
    let listed = log.list(job).await?;
    let references = references().await.map_err(LogError::Unavailable)?;
    let orphans = orphans(listed, &references);
    let count = orphans.len();
    log.delete(job, orphans).await?;
    Ok(count)
}

/// Those of the names that may go.
fn orphans(listed: BTreeSet<String>, references: &LogReferences) -> Vec<String> {
    let referenced: BTreeSet<&String> = references.objects.iter().collect();
    let is_orphan = |name: &String| {
        let Some(origin) = Origin::of(name) else {
            return false;
        };
        let never_committed =
            origin.generation < references.generation || origin.epoch <= references.committed;
        never_committed && !referenced.contains(name)
    };
    listed.into_iter().filter(is_orphan).collect()
}

#[cfg(test)]
mod tests {
    use proto::types::{Epoch, Generation};

    use super::*;

    #[test]
    fn what_may_still_be_committed_stays() {
        let names = [
            "1/5/a.rows",
            "1/30/a.rows",
            "2/21/a.rows",
            "2/21/b.rows",
            "2/22/a.out",
            "3/40/a.rows",
            "2/foreign",
        ];
        let references = LogReferences {
            generation: Generation(2),
            committed: Epoch(21),
            objects: vec!["2/21/a.rows".to_owned(), "1/5/a.rows".to_owned()],
        };
        let listed = names.iter().map(|name| (*name).to_owned()).collect();
        // Of an older generation, whatever its epoch; of this one up to what is committed.
        assert_eq!(orphans(listed, &references), ["1/30/a.rows", "2/21/b.rows"]);
    }
}
