//! What a state node has in memory and in files, and what it asks of the object store.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use opentelemetry::{KeyValue, global, metrics::Meter};
use state_service::{NodeStats, StateNode};
use tokio::time::Instant;

use super::start::SCOPE;

/// One collection asks for each metric in turn: all within this time share one look.
const LOOK_AGE: Duration = Duration::from_millis(200);

/// Measures a state node from now on, and keeps it.
pub fn observe_state_node(node: StateNode) {
    let look = Look {
        node,
        last: Arc::default(),
    };
    let meter = global::meter(SCOPE);
    gauge(
        &meter,
        &look,
        "shards",
        "{shard}",
        "Shards that are open.",
        |stats| stats.shards as u64,
    );
    let text = "Committed rows in memory that are not in files yet.";
    gauge(&meter, &look, "tail", "By", text, |stats| {
        (stats.tail_bytes + stats.frozen_bytes) as u64
    });
    let text = "Files that reads may look into.";
    gauge(&meter, &look, "files", "By", text, |stats| stats.file_bytes);
    let text = "Flushed files that await compaction.";
    gauge(&meter, &look, "files.level0", "{file}", text, |stats| {
        stats.l0_files as u64
    });
    let text = "Rows flushed by the shards that are open, since they were.";
    gauge(&meter, &look, "flushed", "By", text, |stats| {
        stats.flushed_bytes
    });
    let text = "Compactions by the shards that are open, since they were.";
    gauge(
        &meter,
        &look,
        "compactions",
        "{compaction}",
        text,
        |stats| stats.compactions,
    );
    let text =
        "Pages that reads of the shards that are open found in the page cache, since they were.";
    gauge(&meter, &look, "pages.cached", "{page}", text, |stats| {
        stats.cached_pages
    });
    let text = "Pages that reads of the shards that are open made from files, since they were.";
    gauge(&meter, &look, "pages.fetched", "{page}", text, |stats| {
        stats.fetched_pages
    });
    observe_store(&meter, look);
}

/// What it asks of the object store.
fn observe_store(meter: &Meter, look: Look) {
    let requests = look.clone();
    meter
        .u64_observable_counter("millstream.object_store.requests")
        .with_unit("{request}")
        .with_description("Requests of this state node to the object store.")
        .with_callback(move |observer| {
            let requests = requests.stats().requests;
            for (operation, count) in [
                ("put", requests.puts),
                ("get", requests.gets),
                ("delete", requests.deletes),
                ("list", requests.lists),
            ] {
                observer.observe(count, &[KeyValue::new("operation", operation)]);
            }
        })
        .build();
    meter
        .u64_observable_counter("millstream.object_store.bytes")
        .with_unit("By")
        .with_description("Bytes that this state node wrote to the object store and read from it.")
        .with_callback(move |observer| {
            let requests = look.stats().requests;
            for (operation, bytes) in [("put", requests.put_bytes), ("get", requests.got_bytes)] {
                observer.observe(bytes, &[KeyValue::new("operation", operation)]);
            }
        })
        .build();
}

fn gauge(
    meter: &Meter,
    look: &Look,
    name: &str,
    unit: &'static str,
    description: &'static str,
    value: impl Fn(&NodeStats) -> u64 + Send + Sync + 'static,
) {
    let look = look.clone();
    meter
        .u64_observable_gauge(format!("millstream.state.{name}"))
        .with_unit(unit)
        .with_description(description)
        .with_callback(move |observer| observer.observe(value(&look.stats()), &[]))
        .build();
}

/// The node, and what it was when it was last looked at.
#[derive(Clone)]
struct Look {
    node: StateNode,
    last: Arc<Mutex<Option<(Instant, NodeStats)>>>,
}

impl Look {
    fn stats(&self) -> NodeStats {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((at, stats)) if at.elapsed() < LOOK_AGE => *stats,
            _ => {
                let stats = self.node.stats();
                *last = Some((Instant::now(), stats));
                stats
            }
        }
    }
}
