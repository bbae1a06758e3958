//! One look: what is there, what is needed, and how they differ.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::{ObjectStoreExt as _, path::Path};
use proto::{
    inventory::{HeldDatabase, JobInventory},
    log::LogObject,
    state_control::JobLine,
    types::JobId,
};

use super::{Check, CheckError, Finding, FindingKind, REQUEST_MAX};
use crate::{
    caps::ATTEMPTS_MAX,
    epoch_log::{log_object_path, never_committed},
    objects::{ObjectError, Patience},
    pages::{DatabaseView, RowFile, manifest_path},
    shard::{database_at, database_path},
};

/// Databases whose manifests are read at the same time.
const DATABASES_AT_ONCE: usize = 8;
/// Files that are looked for by name at the same time.
const FILES_AT_ONCE: usize = 32;

/// How a file is read that is needed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Content {
    Log(JobId, LogObject),
    Rows(RowFile),
    Manifest,
}

/// A file that is needed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Needed {
    pub(super) content: Content,
    pub(super) by: BTreeSet<String>,
}

/// A file that nothing needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Unneeded {
    pub(super) bytes: u64,
    pub(super) age_ms: u64,
    pub(super) what: &'static str,
}

/// What a look has found.
pub(super) struct Look {
    pub(super) jobs: usize,
    pub(super) needed: BTreeMap<String, Needed>,
    pub(super) needed_bytes: u64,
    pub(super) unneeded: BTreeMap<String, Unneeded>,
    broken: BTreeMap<String, Finding>,
}

/// A file that is there.
struct There {
    bytes: u64,
    modified_ms: u64,
}

/// A database, what it is needed for, and what it consists of.
struct Database {
    path: String,
    held: HeldDatabase,
    view: Option<DatabaseView>,
}

impl Look {
    pub(super) fn is_whole(&self) -> bool {
        self.broken.is_empty()
    }

    pub(super) fn broken_names(&self) -> Vec<&String> {
        self.broken.keys().collect()
    }

    pub(super) fn broken(&self) -> Vec<Finding> {
        self.broken.values().cloned().collect()
    }

    /// Of what is broken, only what was broken in the look before.
    pub(super) fn keep_broken_of(mut self, before: &Look) -> Look {
        self.broken
            .retain(|path, _| before.broken.contains_key(path));
        self
    }

    fn need(&mut self, path: String, content: Content, by: impl IntoIterator<Item = String>) {
        let needed = self.needed.entry(path).or_insert_with(|| Needed {
            content,
            by: BTreeSet::new(),
        });
        needed.by.extend(by);
    }

    fn break_off(&mut self, kind: FindingKind, path: &str, what: String) {
        let needed = self.needed.get(path);
        let by = needed.map(|needed| needed.by.iter().cloned().collect());
        let finding = broken(kind, path, what, by.unwrap_or_default());
        self.broken.insert(path.to_owned(), finding);
    }
}

/// Something that is needed and not whole.
pub(super) fn broken(
    kind: FindingKind,
    path: &str,
    what: String,
    needed_by: Vec<String>,
) -> Finding {
    Finding {
        kind,
        path: path.to_owned(),
        what,
        needed_by,
        advice: "restore the file from a copy of the bucket (an older version of it, if the bucket keeps \
                 them); else take the job back to an older checkpoint or savepoint that does not need \
                 it: POST /v1/jobs/{id}/resume, or statements that begin with it"
            .to_owned(),
    }
}

/// Looks at everything once.
pub(super) async fn looked(check: &Check) -> Result<Look, CheckError> {
    let there = check.list().await?;
    let inventory = check.ask().await?;
    let mut look = Look {
        jobs: inventory.jobs.len(),
        needed: BTreeMap::new(),
        needed_bytes: 0,
        unneeded: BTreeMap::new(),
        broken: BTreeMap::new(),
    };
    let held = inventory.jobs.iter().flat_map(|of_job| {
        let held = of_job.databases.iter();
        held.map(|held| (of_job.job, held.clone()))
    });
    let reading = stream::iter(held).map(|(job, held)| check.database(job, held));
    let databases = reading.buffered(DATABASES_AT_ONCE);
    let databases: Vec<Database> = databases.try_collect().await?;
    let jobs: BTreeMap<JobId, &JobInventory> = inventory
        .jobs
        .iter()
        .map(|of_job| (of_job.job, of_job))
        .collect();
    for of_job in jobs.values() {
        for held in &of_job.objects {
            let path = log_object_path(&check.root, of_job.job, &held.object.name);
            let content = Content::Log(of_job.job, held.object.clone());
            look.need(path.to_string(), content, held.by.iter().cloned());
        }
    }
    // Files that a database lists, for whatever reason: not garbage.
    let mut listed: BTreeSet<String> = BTreeSet::new();
    for database in &databases {
        look.need_database(database, &mut listed);
    }
    let folders: BTreeSet<&str> = databases.iter().map(|of| of.path.as_str()).collect();
    check.compare(&mut look, &there).await?;
    for (path, file) in &there {
        if look.needed.contains_key(path) || listed.contains(path) {
            continue;
        }
        let what = unneeded(check, path, &jobs, &folders, inventory.last_job);
        if let Some(what) = what {
            let age_ms = (check.config.wall_ms)().saturating_sub(file.modified_ms);
            let bytes = file.bytes;
            look.unneeded.insert(
                path.clone(),
                Unneeded {
                    bytes,
                    age_ms,
                    what,
                },
            );
        }
    }
    Ok(look)
}

impl Look {
    fn need_database(&mut self, database: &Database, listed: &mut BTreeSet<String>) {
        let Database { path, held, view } = database;
        let Some(view) = view else {
            for manifest in &held.manifests {
                let name = manifest_path(path, 0);
                let folder = name
                    .rsplit_once('/')
                    .map_or(path.as_str(), |(folder, _)| folder);
                let what = format!(
                    "the database has no manifest, and epoch {} is needed",
                    manifest.epoch
                );
                let finding = broken(FindingKind::Missing, folder, what, manifest.by.clone());
                self.broken.insert(folder.to_owned(), finding);
            }
            return;
        };
        for (id, files) in &view.manifests {
            listed.insert(manifest_path(path, *id));
            listed.extend(files.iter().flat_map(BTreeMap::keys).cloned());
        }
        let newest = [(view.newest, vec!["what its job works in".to_owned()])];
        let newest = newest.into_iter().filter(|_| held.current);
        let mut states: Vec<(u64, Vec<String>)> = newest.collect();
        for manifest in &held.manifests {
            match view.named.get(&manifest.epoch) {
                Some(id) => states.push((*id, manifest.by.clone())),
                None => {
                    let name = manifest_path(path, view.newest);
                    let what = format!(
                        "it knows no checkpoint of epoch {}, which is needed",
                        manifest.epoch
                    );
                    let finding = broken(FindingKind::Damaged, &name, what, manifest.by.clone());
                    self.broken.insert(name, finding);
                }
            }
        }
        for (id, by) in states {
            self.need(manifest_path(path, id), Content::Manifest, by.clone());
            let files = view.manifests.get(&id).and_then(Option::as_ref);
            for (file, rows) in files.into_iter().flatten() {
                self.need(file.clone(), Content::Rows(rows.clone()), by.clone());
            }
        }
    }
}

/// What a file is that is listed and not needed; `None`: it is not to be judged.
fn unneeded(
    check: &Check,
    path: &str,
    jobs: &BTreeMap<JobId, &JobInventory>,
    databases: &BTreeSet<&str>,
    last_job: u64,
) -> Option<&'static str> {
    let root = check.root.as_ref();
    let below = path.strip_prefix(root)?.trim_start_matches('/');
    let mut parts = below.strip_prefix("jobs/")?.splitn(3, '/');
    let number: Option<u64> = parts.next()?.parse().ok();
    let Some(number) = number else {
        return Some("nobody knows what it is");
    };
    let Some(of_job) = jobs.get(&JobId(number)) else {
        return Some(match number <= last_job {
            true => "its job is forgotten",
            false => "there never was such a job",
        });
    };
    if of_job.importing {
        return None;
    }
    match (parts.next()?, parts.next()?) {
        ("log", name) => never_committed(name, of_job).then_some("nothing needs it of the log"),
        ("shards", rest) => {
            let shard = rest.split('/').next().unwrap_or_default();
            let folder = &path[..path.len() - rest.len() + shard.len()];
            let of_database = path.strip_prefix(folder)?.trim_start_matches('/');
            let kind = of_database.split('/').next().unwrap_or_default();
            match (databases.contains(folder), kind) {
                // What a flush, a compaction or a clone makes may not be listed yet.
                (true, "compacted" | "manifest") => Some("no state of its database lists it"),
                (true, "compactions") => None,
                (false, _) if database_at(folder).is_some() => Some("nothing needs its database"),
                _ => Some("nobody knows what it is"),
            }
        }
        _ => Some("nobody knows what it is"),
    }
}

impl Check {
    /// Everything of jobs that is there.
    async fn list(&self) -> Result<BTreeMap<String, There>, CheckError> {
        let folder = self.root.clone().join("jobs");
        let list = || async {
            let listed = self.objects.store.list(Some(&folder));
            let file = |meta: object_store::ObjectMeta| {
                let modified_ms = meta.last_modified.timestamp_millis();
                let there = There {
                    bytes: meta.size,
                    modified_ms: u64::try_from(modified_ms).unwrap_or_default(),
                };
                (meta.location.to_string(), there)
            };
            Ok(listed.map_ok(file).try_collect().await?)
        };
        let attempts = Patience::Attempts(ATTEMPTS_MAX);
        Ok(self.objects.repeat("listing files", attempts, list).await?)
    }

    async fn database(&self, job: JobId, held: HeldDatabase) -> Result<Database, CheckError> {
        let of = JobLine {
            job,
            line: held.line,
        };
        let path = database_path(&self.root, of, held.shard).to_string();
        let view = DatabaseView::read(&path, &self.objects.store, REQUEST_MAX).await?;
        Ok(Database { path, held, view })
    }

    /// What is needed and not there, or not as long as it should be.
    async fn compare(
        &self,
        look: &mut Look,
        there: &BTreeMap<String, There>,
    ) -> Result<(), CheckError> {
        let unlisted = look.needed.keys().filter(|path| !there.contains_key(*path));
        let unlisted: Vec<String> = unlisted.cloned().collect();
        let sizes = stream::iter(unlisted).map(|path| self.size(path));
        let sizes = sizes.buffer_unordered(FILES_AT_ONCE);
        let mut sizes: BTreeMap<String, Option<u64>> = sizes.try_collect().await?;
        let mut bytes = 0;
        let mut found = Vec::new();
        for (path, needed) in &look.needed {
            let listed = there.get(path).map(|there| there.bytes);
            let size = listed.or_else(|| sizes.remove(path).flatten());
            bytes += size.unwrap_or_default();
            match (size, &needed.content) {
                (None, _) => found.push((
                    FindingKind::Missing,
                    path.clone(),
                    "it is not there".to_owned(),
                )),
                (Some(size), Content::Log(_, object)) if size != object.bytes => {
                    let what = format!("it has {size} bytes, not {}", object.bytes);
                    found.push((FindingKind::Damaged, path.clone(), what));
                }
                (Some(0), _) => {
                    found.push((FindingKind::Damaged, path.clone(), "it is empty".to_owned()));
                }
                (Some(_), _) => {}
            }
        }
        look.needed_bytes = bytes;
        for (kind, path, what) in found {
            look.break_off(kind, &path, what);
        }
        Ok(())
    }

    /// Whether a file is there.
    pub(super) async fn is_there(&self, path: &str) -> Result<bool, CheckError> {
        Ok(self.size(path.to_owned()).await?.1.is_some())
    }

    /// How long a file is; `None`: it is not there.
    async fn size(&self, path: String) -> Result<(String, Option<u64>), CheckError> {
        let location = Path::from(path.as_str());
        let head = || async { Ok(self.objects.store.head(&location).await?.size) };
        let attempts = Patience::Attempts(ATTEMPTS_MAX);
        match self
            .objects
            .repeat("looking for a file", attempts, head)
            .await
        {
            Ok(size) => Ok((path, Some(size))),
            Err(ObjectError::Missing(_)) => Ok((path, None)),
            Err(error) => Err(error.into()),
        }
    }
}
