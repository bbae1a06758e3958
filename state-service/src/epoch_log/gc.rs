//! What a crash left behind in the log: objects that no checkpoint names and none ever will.

use std::collections::BTreeSet;

use proto::{inventory::JobInventory, state_control::JobReferences, types::JobId};

use super::{EpochLog, LogError, Origin};

/// Deletes those of the listed objects of the job's log that nothing refers to; how many there were.
/// What is referred to was asked after listing: an object listed as unreferenced might be committed
/// in between, and would be deleted if the answer were older than the list.
pub(crate) async fn delete_orphans(
    log: &EpochLog,
    job: JobId,
    listed: BTreeSet<String>,
    references: &JobReferences,
) -> Result<usize, LogError> {
    let orphans = orphans(listed, references);
    let count = orphans.len();
    log.delete(job, orphans).await?;
    Ok(count)
}

/// Whether an object of that name, which nothing refers to, may go: what was asked after it was listed
/// says so.
pub(crate) fn never_committed(name: &str, of_job: &JobInventory) -> bool {
    Origin::of(name).is_none_or(|origin| {
        of_job.ended || origin.generation < of_job.generation || origin.epoch <= of_job.committed
    })
}

/// Those of the names that may go.
fn orphans(listed: BTreeSet<String>, references: &JobReferences) -> Vec<String> {
    let referenced: BTreeSet<&String> = references.objects.iter().collect();
    let is_orphan = |name: &String| {
        let Some(origin) = Origin::of(name) else {
            return false;
        };
        let never_committed = references.ended
            || origin.generation < references.generation
            || origin.epoch <= references.committed;
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
        let references = JobReferences {
            generation: Generation(2),
            committed: Epoch(21),
            objects: vec!["2/21/a.rows".to_owned(), "1/5/a.rows".to_owned()],
            ..JobReferences::default()
        };
        let listed: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
        // Of an older generation, whatever its epoch; of this one up to what is committed.
        let found = orphans(listed.clone(), &references);
        assert_eq!(found, ["1/30/a.rows", "2/21/b.rows"]);
        // Of a job that has ended nothing will be committed.
        let ended = JobReferences {
            ended: true,
            ..references
        };
        let more = ["2/22/a.out", "3/40/a.rows"];
        assert_eq!(
            orphans(listed, &ended),
            [&["1/30/a.rows", "2/21/b.rows"], &more[..]].concat()
        );
    }
}
