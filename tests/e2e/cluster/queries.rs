//! State is read at state nodes, through whatever node of the control plane is asked: also with no worker
//! alive, and after a state node has died; that of a checkpoint at any of them.

use serde_json::{Value, json};
use tests::{Cluster, Member};

use super::{load::Load, start};

/// The row of a key in the job's GROUP BY, once there is an answer.
fn count(cluster: &Cluster, job: &str, key: i64) -> i64 {
    count_and_epoch(cluster, job, key, "").0
}

/// The same, of a checkpoint if `query` says so, and the epoch.
fn count_and_epoch(cluster: &Cluster, job: &str, key: i64, query: &str) -> (i64, u64) {
    let list = cluster.get(&format!("/v1/jobs/{job}/operators"));
    let list = list.expect("a leader");
    let operators = list["operators"].as_array().expect("operators");
    let is_it = |operator: &&Value| {
        let description = operator["description"].as_str().unwrap_or_default();
        description.starts_with("GroupAggregate")
    };
    let id = operators.iter().find(is_it).expect("it counts")["id"].clone();
    let path = format!(
        "/v1/jobs/{job}/operators/{}/state?key={key}{query}",
        id.as_str().expect("an id")
    );
    let mut answer = Value::Null;
    cluster.wait("state is read", || {
        answer = cluster.get(&path).unwrap_or_default();
        answer["rows"]
            .as_array()
            .is_some_and(|rows| rows.len() == 1)
    });
    assert_eq!(answer["rows"].as_array().map(Vec::len), Some(1), "{answer}");
    let count = answer["rows"][0]["COUNT(*)"].as_i64();
    let epoch = answer["checkpoint"].as_u64();
    count.zip(epoch).unwrap_or_else(|| panic!("{answer}"))
}

#[test]
fn state_is_read_with_no_worker_alive_and_after_a_state_node_has_died() {
    let mut cluster = start();
    let load = Load::start(&cluster, 15, 2);
    cluster.wait_all_work();
    cluster.wait_progress(&load.job);
    let running = count(&cluster, &load.job, 3);
    assert!(running > 0);
    cluster.workers.iter_mut().for_each(Member::kill);
    let (stopped, epoch) = count_and_epoch(&cluster, &load.job, 3, "");
    assert!(stopped >= running, "{stopped} after {running}");
    let checkpoint = format!("&checkpoint={epoch}");
    let kept = |cluster: &Cluster| count_and_epoch(cluster, &load.job, 3, &checkpoint);
    assert_eq!(kept(&cluster).1, epoch);
    let at_checkpoint = kept(&cluster).0;
    assert!((running..=stopped).contains(&at_checkpoint));
    let busy = cluster.busy_state_node();
    cluster.state_nodes[busy].kill();
    // Its shards move, and what was committed is there.
    let moved = count(&cluster, &load.job, 3);
    assert!(moved >= stopped, "{moved} after {stopped}");
    assert_eq!(count(&cluster, &load.job, 3), moved, "nothing runs");
    assert_eq!(kept(&cluster), (at_checkpoint, epoch));
    cluster.state_nodes[busy].start_again();
    cluster.workers.iter_mut().for_each(Member::start_again);
    cluster.wait_whole();
    load.finish(&cluster);
    let gone = cluster.get(&format!("/v1/jobs/{}", load.job));
    assert_eq!(gone.expect("a leader")["state"], json!("FINISHED"));
}
