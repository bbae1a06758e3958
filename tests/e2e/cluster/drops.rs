//! Jobs are cancelled and their files deleted, whoever is dead meanwhile.

use std::{fs, path::Path};

use super::{load::Load, start};

/// Whether there is a file below.
fn has_files(folder: &Path) -> bool {
    let Ok(entries) = fs::read_dir(folder) else {
        return false;
    };
    entries.flatten().any(|entry| {
        let path = entry.path();
        if path.is_dir() {
            has_files(&path)
        } else {
            true
        }
    })
}

#[test]
fn a_running_job_is_cancelled_with_all_workers_and_state_nodes_dead() {
    let mut cluster = start();
    let load = Load::start(&cluster, 600, 2);
    cluster.wait_all_work();
    cluster.wait_progress(&load.job);
    let jobs = cluster.folder().join("store/jobs");
    assert!(has_files(&jobs));
    for member in cluster.workers.iter_mut().chain(&mut cluster.state_nodes) {
        member.kill();
    }
    cluster
        .client(&["jobs", "cancel", &load.job])
        .expect("taken");
    cluster.wait_state(&load.job, "CANCELED");
    cluster
        .client(&["jobs", "delete", &load.job])
        .expect("taken");
    assert!(has_files(&jobs), "nobody was there to delete them");

    // Forgotten by its user, but not by those who have to tidy up after it.
    cluster.state_nodes[1].start_again();
    cluster.wait("the job's files are gone", || !has_files(&jobs));
    let list = cluster.client(&["jobs", "list"]).expect("a list");
    assert!(!list.contains(&load.job), "{list}");
}
