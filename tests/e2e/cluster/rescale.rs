//! A job gets more and fewer tasks, and other workers, while it runs.

use serde_json::{Value, json};

use super::{load::Load, start};

#[test]
fn a_job_is_rescaled_under_load_without_a_restart() {
    let cluster = start();
    let load = Load::start(&cluster, 24, 2);
    let before = cluster.wait_progress(&load.job);
    for parallelism in [4, 1, 3] {
        cluster.rescale(&load.job, parallelism);
        let after = cluster.wait_progress(&load.job);
        assert_eq!(after.generation, before.generation, "nothing is restarted");
    }
    let exceptions = cluster.get(&format!("/v1/jobs/{}/exceptions", load.job));
    assert_eq!(exceptions.expect("a leader")["exceptions"], json!([]));
    load.finish(&cluster);
}

#[test]
fn what_cannot_be_is_refused_and_the_job_runs_on() {
    let cluster = start();
    let load = Load::start(&cluster, 4, 2);
    cluster.wait_progress(&load.job);
    for (change, why) in [
        (json!({"parallelism": 257}), "between 1 and 256"),
        (json!({"parallelism": 0}), "between 1 and 256"),
        (
            json!({"parallelism": {"operators": {"nothing": 2}}}),
            "nothing",
        ),
        (json!({"parallelism": "four"}), "parallelism"),
    ] {
        let (status, body) = cluster.patch_job(&load.job, &change).expect("an answer");
        assert!(
            (400..500).contains(&status) && body.contains(why),
            "{status} {body}"
        );
    }
    load.finish(&cluster);
}

#[test]
fn tasks_move_to_workers_that_come_and_away_from_those_that_leave() {
    let mut cluster = start();
    cluster.workers[1].kill();
    let load = Load::start(&cluster, 24, 4);
    let before = cluster.wait_progress(&load.job);
    cluster.workers[1].start_again();
    // It gets its share, and nothing is restarted for that.
    cluster.wait_all_work();
    let after = cluster.wait_progress(&load.job);
    assert_eq!(after.generation, before.generation);
    cluster.workers[0].leave();
    let after = cluster.wait_progress(&load.job);
    assert_eq!(after.generation, before.generation);
    let view = cluster.get(&format!("/v1/jobs/{}", load.job));
    assert_eq!(view.expect("a leader")["error"], Value::Null);
    load.finish(&cluster);
}
