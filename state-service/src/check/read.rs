//! Reading everything that is needed, and comparing it with its checksums.

use futures::{StreamExt as _, stream};

use super::{
    Check, CheckError, Finding, FindingKind, REQUEST_MAX,
    look::{Content, Look, Needed, broken},
    report::Read,
};
use crate::{
    epoch_log::{EpochLog, LogError},
    pages::{PageError, verify_rows},
};

/// Files that are read at the same time.
const FILES_AT_ONCE: usize = 4;
/// How often a file is read that seems to be damaged: it may have been cut on its way.
const READS_MAX: usize = 3;

/// What reading a file gave.
enum Verdict {
    Whole,
    Damaged(String),
    /// It went away meanwhile; whether it is needed, the next look tells.
    Gone,
}

impl Check {
    /// Reads everything that a look has found to be needed: what is damaged.
    pub(super) async fn read_all(&self, look: &Look) -> Result<(Vec<Finding>, Read), CheckError> {
        let log = &EpochLog::new(self.objects.clone(), self.root.clone());
        let whole = look.broken();
        let is_broken = |path: &String| whole.iter().any(|finding| finding.path == *path);
        let files = look.needed.iter().filter(|(path, _)| !is_broken(path));
        let files: Vec<(String, Needed)> = files
            .map(|(path, needed)| (path.clone(), needed.clone()))
            .collect();
        let reading = stream::iter(files).map(|(path, needed)| async move {
            let verdict = self.read(log, &path, &needed).await;
            verdict.map(|verdict| (path, needed, verdict))
        });
        let mut reading = std::pin::pin!(reading.buffer_unordered(FILES_AT_ONCE));
        let (mut damaged, mut gone, mut read) = (Vec::new(), Vec::new(), Read::default());
        while let Some(done) = reading.next().await {
            let (path, needed, verdict) = done?;
            read.files += 1;
            match verdict {
                Verdict::Whole => {}
                Verdict::Damaged(why) => {
                    let by = needed.by.into_iter().collect();
                    damaged.push(broken(FindingKind::Damaged, &path, why, by));
                }
                Verdict::Gone => gone.push(path),
            }
        }
        read.bytes = look.needed_bytes;
        if !gone.is_empty() {
            // Files come and go; what is still needed is missing.
            let next = self.look().await?;
            let next = self.settled(next).await?;
            damaged.extend(
                next.broken()
                    .into_iter()
                    .filter(|found| gone.contains(&found.path)),
            );
        }
        Ok((damaged, read))
    }

    async fn read(
        &self,
        log: &EpochLog,
        path: &str,
        needed: &Needed,
    ) -> Result<Verdict, CheckError> {
        let mut why = String::new();
        for _ in 0..READS_MAX {
            let read = match &needed.content {
                // To read it was part of the look.
                Content::Manifest => return Ok(Verdict::Whole),
                Content::Log(job, object) => match log.verify(*job, object).await {
                    Ok(()) => return Ok(Verdict::Whole),
                    Err(LogError::Damaged(why)) => why,
                    Err(error) => return Err(CheckError::Store(error.to_string())),
                },
                Content::Rows(file) => {
                    let store = &self.objects.store;
                    match verify_rows(path, file, store, REQUEST_MAX).await {
                        Ok(()) => return Ok(Verdict::Whole),
                        Err(PageError::Damaged(why) | PageError::Invalid(why)) => why,
                        Err(PageError::Unavailable { why, .. }) => why,
                        Err(error) => return Err(error.into()),
                    }
                }
            };
            why = read;
            if !self.is_there(path).await? {
                return Ok(Verdict::Gone);
            }
        }
        Ok(Verdict::Damaged(why))
    }
}
