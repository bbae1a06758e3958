//! One checkpoint over three processes is one trace, as a real collector sees it.

use std::time::Duration;

use tests::{
    Cluster, ClusterConfig,
    collector::{CollectedSpan, Collector},
    wait_until,
};

use super::config;
use crate::telemetry::{JOB, children, named, whole_checkpoints};

const WAIT_MAX: Duration = Duration::from_secs(60);

/// Services, as the processes call themselves.
const CONTROL_PLANE: &str = "millstream-control-plane";
const WORKER: &str = "millstream-worker";
const STATE_NODE: &str = "millstream-state-node";

fn start(collector: &Collector) -> Cluster {
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint()),
        ("OTEL_BSP_SCHEDULE_DELAY", "200".to_owned()),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value));
    Cluster::start(&ClusterConfig {
        nodes: 1,
        per_tier: 1,
        variables: variables.to_vec(),
        ..config()
    })
}

/// The nearest span around it that has this name.
fn around<'a>(
    spans: &'a [CollectedSpan],
    span: &'a CollectedSpan,
    name: &str,
) -> Option<&'a CollectedSpan> {
    let mut at = span;
    loop {
        at = spans
            .iter()
            .find(|other| other.id == at.parent_id && other.trace_id == at.trace_id)?;
        if at.name == name {
            return Some(at);
        }
    }
}

/// Spans of this name in the checkpoint's trace.
fn within<'a>(
    spans: &'a [CollectedSpan],
    checkpoint: &CollectedSpan,
    name: &str,
) -> Vec<&'a CollectedSpan> {
    let named = named(spans, name).into_iter();
    named
        .filter(|span| span.trace_id == checkpoint.trace_id)
        .collect()
}

/// A checkpoint that has come with all that belongs to it, also from the state node.
fn whole(spans: &[CollectedSpan]) -> Option<&CollectedSpan> {
    let has = |checkpoint: &&CollectedSpan, name| !within(spans, checkpoint, name).is_empty();
    let mut checkpoints = whole_checkpoints(spans).into_iter();
    checkpoints
        .find(|checkpoint| has(checkpoint, "epoch_log.write") && has(checkpoint, "shard.apply"))
}

fn check(spans: &[CollectedSpan], checkpoint: &CollectedSpan) {
    assert_eq!(checkpoint.service, CONTROL_PLANE);
    for name in ["task.freeze", "task.encode", "task.stage"] {
        let tasks = children(spans, checkpoint, name);
        assert!(
            tasks.iter().all(|task| task.service == WORKER),
            "{tasks:#?}"
        );
    }
    for (name, parent) in [
        ("epoch_log.write", "task.stage"),
        ("shard.apply", "checkpoint.commit"),
    ] {
        for span in within(spans, checkpoint, name) {
            assert_eq!(span.service, STATE_NODE);
            assert_eq!(span.attributes["job"], checkpoint.attributes["job"]);
            assert_eq!(span.attributes["epoch"], checkpoint.attributes["epoch"]);
            let parent = around(spans, span, parent);
            assert!(parent.is_some(), "{span:#?} in {spans:#?}");
        }
    }
    // Each shard takes an epoch in once.
    let mut shards: Vec<&String> = within(spans, checkpoint, "shard.apply")
        .iter()
        .map(|span| &span.attributes["shard"])
        .collect();
    let count = shards.len();
    shards.sort();
    shards.dedup();
    assert_eq!(shards.len(), count, "{shards:?}");
}

#[test]
fn a_checkpoint_over_three_processes_is_one_trace() {
    let collector = Collector::start();
    let mut cluster = start(&collector);
    let jobs = cluster.execute(JOB);
    let mut spans = Vec::new();
    let came = wait_until(WAIT_MAX, || {
        spans = collector.spans();
        whole(&spans).is_some()
    });
    assert!(came, "no whole checkpoint: {spans:#?}");
    check(&spans, whole(&spans).expect("just found"));
    assert!(named(&spans, "job.recover").is_empty());

    cluster.workers[0].kill();
    cluster.workers[0].start_again();
    cluster.wait_progress(&jobs[0]);
    let came = wait_until(WAIT_MAX, || {
        spans = collector.spans();
        !named(&spans, "job.recover").is_empty()
    });
    assert!(came, "the recovery is not told: {spans:#?}");
    // A second one would be told by the time that later epochs are.
    cluster.wait_progress(&jobs[0]);
    let spans = collector.spans();
    let recoveries = named(&spans, "job.recover");
    assert_eq!(recoveries.len(), 1, "{recoveries:#?}");
    assert_eq!(recoveries[0].service, CONTROL_PLANE);
    assert_eq!(recoveries[0].attributes["job"], jobs[0]);
    // The way back to the tasks is in it.
    let restores = named(&spans, "task.restore").into_iter();
    let restores: Vec<_> = restores
        .filter(|span| span.trace_id == recoveries[0].trace_id)
        .collect();
    assert!(!restores.is_empty() && restores.iter().all(|span| span.service == WORKER));
    let deployed = children(&spans, recoveries[0], "worker.deploy");
    assert!(!deployed.is_empty(), "{spans:#?}");
}
