//! Where the database of a shard lies.
//!
//! ```text
//! jobs/{job}/shards/{shard}            of the job's first line
//! jobs/{job}/shards/{shard}-{line}     of later ones
//! ```

use object_store::path::Path;
use proto::{
    state_control::JobLine,
    types::{JobId, ShardId},
};

/// Where all databases of a job lie.
pub(crate) fn databases_folder(root: &Path, job: JobId) -> Path {
    let jobs = root.clone().join("jobs");
    jobs.join(job.0.to_string()).join("shards")
}

/// Where a database lies.
pub(crate) fn database_path(root: &Path, of: JobLine, shard: ShardId) -> Path {
    let name = match of.line {
        0 => shard.0.to_string(),
        line => format!("{}-{line}", shard.0),
    };
    databases_folder(root, of.job).join(name)
}

/// Whose database lies at a path; `None`: it is none of ours.
pub(crate) fn database_at(path: &str) -> Option<(JobLine, ShardId)> {
    let mut parts = path.rsplit('/');
    let name = parts.next()?;
    let (shard, line) = match name.split_once('-') {
        Some((shard, line)) => (shard, line.parse().ok().filter(|line| *line > 0)?),
        None => (name, 0),
    };
    let shards = parts.next()? == "shards";
    let job = JobId(parts.next()?.parse().ok()?);
    let of = JobLine { job, line };
    let found = (of, ShardId(shard.parse().ok()?));
    (shards && parts.next()? == "jobs").then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_fixed_and_tell_whose_they_are() {
        for (root, line, expected) in [
            ("root", 0, "root/jobs/5/shards/3"),
            ("root", 2, "root/jobs/5/shards/3-2"),
            ("", 0, "jobs/5/shards/3"),
        ] {
            let of = JobLine {
                job: JobId(5),
                line,
            };
            let path = database_path(&Path::from(root), of, ShardId(3));
            assert_eq!(path.as_ref(), expected);
            assert_eq!(database_at(path.as_ref()), Some((of, ShardId(3))));
        }
        for foreign in [
            "",
            "jobs/5/shards/x",
            "jobs/5/log/3",
            "jobs/5/shards/3-0",
            "shards/3",
        ] {
            assert_eq!(database_at(foreign), None, "{foreign}");
        }
    }
}
