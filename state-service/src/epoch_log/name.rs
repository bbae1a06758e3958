//! Names of log objects: which generation and epoch they are of can be told from the name, so that
//! whatever a crash left behind can be judged without reading it.

use object_store::path::Path;
use proto::types::{Epoch, Generation, JobId};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

/// Generation and epoch that an object is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Origin {
    pub(crate) generation: Generation,
    pub(crate) epoch: Epoch,
}

impl Origin {
    /// Reads a name below the job's log; `None`: it is none of ours.
    pub(crate) fn of(name: &str) -> Option<Origin> {
        let mut parts = name.split('/');
        let mut number = || parts.next()?.parse::<u64>().ok();
        let (generation, epoch) = (number()?, number()?);
        let file = parts.next()?;
        let ours = file.ends_with(".rows") || file.ends_with(".out");
        (ours && parts.next().is_none()).then_some(Origin {
            generation: Generation(generation),
            epoch: Epoch(epoch),
        })
    }
}

/// Makes names that are never used twice: this node's name and numbers from its seed, which is
/// another one at every start.
#[derive(Debug)]
pub(crate) struct LogNames {
    node: String,
    random: StdRng,
}

impl LogNames {
    pub(crate) fn new(node: &str, seed: u64) -> Self {
        LogNames {
            node: node.to_owned(),
            random: StdRng::seed_from_u64(seed),
        }
    }

    /// A name, still without its ending.
    pub(crate) fn next(&mut self, origin: Origin) -> String {
        let (generation, epoch) = (origin.generation.0, origin.epoch.0);
        let id: u128 = self.random.random();
        format!("{generation}/{epoch}/{}-{id:032x}", self.node)
    }
}

/// Where everything of a job lies.
pub(crate) fn job_folder(root: &Path, job: JobId) -> Path {
    root.clone().join("jobs").join(job.0.to_string())
}

/// Where the job's log lies.
pub(crate) fn log_folder(root: &Path, job: JobId) -> Path {
    job_folder(root, job).join("log")
}

/// Where an object of the job's log lies.
pub(crate) fn object_path(root: &Path, job: JobId, name: &str) -> Path {
    let folder = log_folder(root, job);
    name.split('/').fold(folder, |path, part| path.join(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_their_origin_and_do_not_repeat() {
        let origin = Origin {
            generation: Generation(3),
            epoch: Epoch(17),
        };
        let mut names = LogNames::new("a", 1);
        let (first, second) = (names.next(origin), names.next(origin));
        assert_ne!(first, second);
        assert_ne!(first, LogNames::new("a", 2).next(origin));
        assert_ne!(first, LogNames::new("b", 1).next(origin));
        assert_eq!(Origin::of(&format!("{first}.rows")), Some(origin));
        assert_eq!(Origin::of(&format!("{first}.out")), Some(origin));
        for foreign in [
            "",
            "3/17",
            "3/17/x",
            "3/17/x.rows/y",
            "g/17/x.rows",
            "3/17/a/x.rows",
        ] {
            assert_eq!(Origin::of(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn paths_are_fixed() {
        let path = object_path(&Path::from("root"), JobId(5), "3/17/a-1.rows");
        assert_eq!(path.as_ref(), "root/jobs/5/log/3/17/a-1.rows");
    }
}
