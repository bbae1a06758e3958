//! Metrics of the process's jobs. They are read where they are kept anyway, when somebody collects
//! metrics; nothing is counted twice, and a job that is forgotten leaves no series.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use control_plane::Jobs;
use opentelemetry::{
    KeyValue, global,
    metrics::{AsyncInstrument, Meter},
};
use proto::{
    control::{JobMetrics, OperatorMetrics},
    types::JobId,
};
use tokio::time::Instant;

use super::{
    job_snapshot::{JobRow, Snapshot, StoredRow},
    start::SCOPE,
};

/// One collection asks for each metric in turn: all within this time share one look.
const SNAPSHOT_AGE: Duration = Duration::from_millis(200);

/// Measures the jobs of a control plane from now on: those of whoever leads, if it is this process.
/// `wall_ms` is the wall clock, in ms since 1970.
pub fn observe_jobs(
    jobs: impl Fn() -> Option<Jobs> + Send + Sync + 'static,
    wall_ms: impl Fn() -> i64 + Send + Sync + 'static,
) {
    let look = Look::new(move || match jobs() {
        Some(jobs) => Snapshot::take(&jobs),
        None => Snapshot::of_operators(Vec::new()),
    });
    let meter = global::meter(SCOPE);
    observe_operators_of(&meter, &look, wall_ms);
    observe_stored(&meter, &look);
    observe_checkpoints(&meter, &look);
}

/// Measures operators from now on, where a process knows no more of jobs: a worker. `wall_ms` is the
/// wall clock, in ms since 1970.
pub fn observe_operators(
    figures: impl Fn() -> Vec<(JobId, JobMetrics)> + Send + Sync + 'static,
    wall_ms: impl Fn() -> i64 + Send + Sync + 'static,
) {
    let look = Look::new(move || Snapshot::of_operators(figures()));
    observe_operators_of(&global::meter(SCOPE), &look, wall_ms);
}

fn observe_operators_of(
    meter: &Meter,
    look: &Arc<Look>,
    wall_ms: impl Fn() -> i64 + Send + Sync + 'static,
) {
    observe_counts(meter, look);
    observe_times(meter, look);
    observe_state(meter, look, wall_ms);
}

/// Looks at jobs.
struct Look {
    take: Box<dyn Fn() -> Snapshot + Send + Sync>,
    last: Mutex<Option<(Instant, Arc<Snapshot>)>>,
}

impl Look {
    fn new(take: impl Fn() -> Snapshot + Send + Sync + 'static) -> Arc<Look> {
        Arc::new(Look {
            take: Box::new(take),
            last: Mutex::default(),
        })
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some((at, snapshot)) = &*last
            && now.duration_since(*at) < SNAPSHOT_AGE
        {
            return Arc::clone(snapshot);
        }
        let snapshot = Arc::new((self.take)());
        *last = Some((now, Arc::clone(&snapshot)));
        snapshot
    }

    fn operators(
        self: &Arc<Self>,
        value: fn(&OperatorMetrics) -> u64,
    ) -> impl Fn(&dyn AsyncInstrument<u64>) + Send + Sync + 'static {
        let look = Arc::clone(self);
        move |observer| {
            for row in &look.snapshot().operators {
                observer.observe(value(&row.metrics), &row.labels);
            }
        }
    }

    fn jobs(
        self: &Arc<Self>,
        value: fn(&JobRow) -> u64,
    ) -> impl Fn(&dyn AsyncInstrument<u64>) + Send + Sync + 'static {
        let look = Arc::clone(self);
        move |observer| {
            for row in &look.snapshot().jobs {
                observer.observe(value(row), &row.labels);
            }
        }
    }
}

type Count = (
    &'static str,
    &'static str,
    &'static str,
    fn(&OperatorMetrics) -> u64,
);

fn observe_counts(meter: &Meter, look: &Arc<Look>) {
    let counts: [Count; 8] = [
        ("rows.in", "{row}", "Rows taken in.", |m| m.rows_in),
        ("rows.out", "{row}", "Rows put out.", |m| m.rows_out),
        ("late_rows", "{row}", "Rows dropped as late.", |m| {
            m.late_rows
        }),
        (
            "state.misses",
            "{row}",
            "Rows that waited for a state read.",
            |m| m.state_misses,
        ),
        (
            "state.evicted",
            "{key}",
            "Keys that were taken out of memory because it was short.",
            |m| m.evicted_keys,
        ),
        (
            "state.scratch_reads",
            "{key}",
            "Keys that were looked for in scratch files before the store was asked.",
            |m| m.scratch_reads,
        ),
        (
            "state.hydrated",
            "{key}",
            "Keys that were read back in the background after a start or a move.",
            |m| m.hydrated_keys,
        ),
        (
            "dead_letters",
            "{record}",
            "Records that could not be read.",
            |m| m.dead_letters,
        ),
    ];
    for (name, unit, description, value) in counts {
        meter
            .u64_observable_counter(format!("millstream.operator.{name}"))
            .with_unit(unit)
            .with_description(format!("{description} Since the job last started."))
            .with_callback(look.operators(value))
            .build();
    }
}

fn observe_times(meter: &Meter, look: &Arc<Look>) {
    type Time = (&'static str, &'static str, fn(&OperatorMetrics) -> u64);
    let times: [Time; 4] = [
        ("busy", "Time at work.", |m| m.busy_ns),
        ("idle", "Time without input.", |m| m.idle_ns),
        ("blocked", "Time waiting for room downstream.", |m| {
            m.blocked_ns
        }),
        ("state_wait", "Time waiting for state.", |m| m.state_wait_ns),
    ];
    for (name, description, value) in times {
        let look = Arc::clone(look);
        meter
            .f64_observable_counter(format!("millstream.operator.{name}"))
            .with_unit("s")
            .with_description(format!("{description} Since the job last started."))
            .with_callback(move |observer| {
                for row in &look.snapshot().operators {
                    observer.observe(value(&row.metrics) as f64 / 1e9, &row.labels);
                }
            })
            .build();
    }
}

fn observe_state(
    meter: &Meter,
    look: &Arc<Look>,
    wall_ms: impl Fn() -> i64 + Send + Sync + 'static,
) {
    meter
        .u64_observable_gauge("millstream.operator.state.rows")
        .with_unit("{row}")
        .with_description("Rows of state in memory.")
        .with_callback(look.operators(|m| m.state_rows))
        .build();
    meter
        .u64_observable_gauge("millstream.operator.state.memory")
        .with_unit("By")
        .with_description("Memory that state takes.")
        .with_callback(look.operators(|m| m.state_bytes))
        .build();
    let look = Arc::clone(look);
    meter
        .f64_observable_gauge("millstream.operator.watermark.lag")
        .with_unit("s")
        .with_description("How far the operator's event time is behind the clock.")
        .with_callback(move |observer| {
            let now_ms = wall_ms();
            for row in &look.snapshot().operators {
                if let Some(watermark_ms) = row.metrics.watermark_ms {
                    let lag_ms = now_ms.saturating_sub(watermark_ms);
                    observer.observe(lag_ms as f64 / 1e3, &row.labels);
                }
            }
        })
        .build();
}

fn observe_stored(meter: &Meter, look: &Arc<Look>) {
    type Figure = (
        &'static str,
        &'static str,
        &'static str,
        fn(StoredRow) -> u64,
    );
    let figures: [Figure; 2] = [
        (
            "rows",
            "{row}",
            "Rows of state in the store, as last counted.",
            |stored| stored.rows,
        ),
        (
            "size",
            "By",
            "Bytes of keys and values of state in the store, as last counted.",
            |stored| stored.bytes,
        ),
    ];
    for (name, unit, description, value) in figures {
        let look = Arc::clone(look);
        meter
            .u64_observable_gauge(format!("millstream.operator.state.stored.{name}"))
            .with_unit(unit)
            .with_description(description)
            .with_callback(move |observer| {
                for row in &look.snapshot().operators {
                    if let Some(stored) = row.stored {
                        observer.observe(value(stored), &row.labels);
                    }
                }
            })
            .build();
    }
}

fn observe_checkpoints(meter: &Meter, look: &Arc<Look>) {
    type Count = (&'static str, &'static str, &'static str, fn(&JobRow) -> u64);
    let counts: [Count; 4] = [
        (
            "checkpoints",
            "{checkpoint}",
            "Checkpoints committed.",
            |row| row.checkpoints,
        ),
        (
            "checkpoints.failed",
            "{checkpoint}",
            "Checkpoints that were under way when the job failed.",
            |row| row.checkpoints_failed,
        ),
        (
            "restarts",
            "{restart}",
            "Starts of the job after its first.",
            |row| row.restarts,
        ),
        (
            "dead_letters",
            "{record}",
            "Records that could not be read; one that is read again counts again.",
            |row| row.dead_letters,
        ),
    ];
    for (name, unit, description, value) in counts {
        meter
            .u64_observable_counter(format!("millstream.job.{name}"))
            .with_unit(unit)
            .with_description(description)
            .with_callback(look.jobs(value))
            .build();
    }
    let states = Arc::clone(look);
    meter
        .u64_observable_gauge("millstream.job.state")
        .with_description("1 for the state that the job is in.")
        .with_callback(move |observer| {
            for row in &states.snapshot().jobs {
                let [job] = row.labels.clone();
                observer.observe(1, &[job, KeyValue::new("state", row.state)]);
            }
        })
        .build();
    observe_last_checkpoint(meter, look);
}

fn observe_last_checkpoint(meter: &Meter, look: &Arc<Look>) {
    meter
        .u64_observable_gauge("millstream.job.checkpoint.size")
        .with_unit("By")
        .with_description("Size of the log objects of the last checkpoint.")
        .with_callback(look.jobs(|row| row.checkpoint_bytes))
        .build();
    meter
        .u64_observable_gauge("millstream.job.checkpoint.overtaken")
        .with_unit("By")
        .with_description("Size of the rows that the last checkpoint's barrier overtook.")
        .with_callback(look.jobs(|row| row.overtaken_bytes))
        .build();
    let look = Arc::clone(look);
    meter
        .f64_observable_gauge("millstream.job.checkpoint.duration")
        .with_unit("s")
        .with_description("Time that the last checkpoint took, barrier to commit.")
        .with_callback(move |observer| {
            for row in &look.snapshot().jobs {
                if let Some(seconds) = row.checkpoint_seconds {
                    observer.observe(seconds, &row.labels);
                }
            }
        })
        .build();
}
