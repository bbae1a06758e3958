//! What a process tells about itself: a log, traces, metrics. One call at the start sets all up;
//! everybody else uses `tracing` and the interface of `opentelemetry`, and knows no SDK.
//!
//! ```text
//!  tracing::{info!, info_span!} ─┬─▶ lines on standard error      (MILLSTREAM_LOG)
//!                                ├─▶ logs  ──┐
//!                                └─▶ spans ──┼─▶ OTLP over gRPC   (OTEL_… variables; else nothing)
//!  opentelemetry::global::meter ─┬───────────┘
//!                                └─▶ /metrics, in Prometheus' text format
//! ```
//! Standard variables that count: `OTEL_EXPORTER_OTLP_{,TRACES_,METRICS_,LOGS_}{ENDPOINT, HEADERS,
//! TIMEOUT, PROTOCOL, CERTIFICATE}`, `OTEL_{TRACES,METRICS,LOGS}_EXPORTER`, `OTEL_SDK_DISABLED`,
//! `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER{,_ARG}`, `OTEL_BSP_…`,
//! `OTEL_BLRP_…`, `OTEL_METRIC_EXPORT_INTERVAL`. They are about what leaves the process over OTLP;
//! `/metrics` is there in any case.
//!
//! Queues are bounded, and nobody waits for a collector: what it does not take is dropped, and said
//! once a minute. Secrets are in none of it: no header, path, or text of a statement is an attribute.
//!
//! # Spans
//!
//! | span | parent | attributes | from – to |
//! |---|---|---|---|
//! | `http.request`, named METHOD route | the caller's `traceparent` | `http.request.method`, `http.route`, `http.response.status_code` | head of the request – of the response |
//! | `statements` | `http.request` | `bytes` | a script – its jobs are accepted |
//! | `sql.parse`, `sql.plan` | `statements` | | text – statements; a statement – its plan, bound and optimised |
//! | `job.start` | the request that made the job | `job` | accepted – running |
//! | `job.recover` | | `job` | a failure – running again |
//! | `state.begin` | `job.start`, `job.recover` | `job`, `generation` | older generations are fenced |
//! | `worker.deploy` | `job.start`, `job.recover` | `job`, `generation` | tasks are built – all are restored |
//! | `task.restore` | `worker.deploy` | `job`, `task` | deployed – running |
//! | `checkpoint` | | `job`, `generation`, `epoch` | barrier – commit; an error if it never comes |
//! | `rescale` | `autoscale.decide`, if it follows from one | `job`, `generation`, `routing` | another routing is prepared – committed; an error if it is given up |
//! | `worker.prepare` | `rescale` | `job`, `generation`, `routing` | a worker opens what a routing needs |
//! | `task.freeze` | `checkpoint` | `job`, `task`, `epoch` | the barrier is sent – the task's state is cut |
//! | `task.encode` | `checkpoint` | `job`, `task`, `epoch` | state is cut – its rows, and what its barrier has overtaken, are encoded and sorted |
//! | `task.stage` | `checkpoint` | `job`, `task`, `epoch` | rows are sorted – staged at the store |
//! | `epoch_log.write` | `task.stage`, by way of the call | `job`, `epoch` | a state node begins to write deltas of an epoch – they are in the object store |
//! | `checkpoint.commit` | `checkpoint` | `job`, `epoch`, `bytes` | all is staged – committed |
//! | `autoscale.decide` | | `job`, `number`, `kind`, `reason`, `changes`, `catching_up`, `sources`, `operators` (the last two as JSON: what was measured, per source and fragment) | a decision about a job's parallelism |
//! | `shard.apply` | `checkpoint.commit` | `job`, `shard`, `epoch` | a state node hears of the commit – reads see its rows |
//!
//! # Metrics
//!
//! Labels are `job` (its id), `operator` (its id in the plan: all its tasks together) and others of
//! a few fixed values. Beyond so many operators the rest shares the series
//! `otel_metric_overflow="true"`. In Prometheus, names have underscores, the unit, and `_total`.
//!
//! | metric | labels | what |
//! |---|---|---|
//! | `millstream.operator.{rows.in, rows.out, late_rows, state.misses, state.evicted, state.scratch_reads, state.hydrated, dead_letters}` | job, operator | counts since the job last started |
//! | `millstream.operator.{busy, idle, blocked, state_wait}` | job, operator | seconds, of all tasks together |
//! | `millstream.operator.state.{rows, memory}` | job, operator | state in memory of tasks |
//! | `millstream.operator.state.stored.{rows, size}` | job, operator | state in the store, as it was last counted in the background; of running jobs, from the leader |
//! | `millstream.operator.watermark.lag` | job, operator | seconds that event time is behind the clock |
//! | `millstream.job.{checkpoints, checkpoints.failed, restarts, dead_letters}` | job | counts since the process started |
//! | `millstream.job.checkpoint.duration` | job | seconds that the last one took |
//! | `millstream.job.checkpoint.size` | job | bytes of log objects that the last one committed |
//! | `millstream.job.checkpoint.overtaken` | job | bytes of rows that its barrier overtook |
//! | `millstream.job.state` | job, state | 1 for the state it is in |
//! | `millstream.state.{shards, tail, files, files.level0, flushed, compactions}` | | of a state node: shards; bytes in memory and in files; what the open shards did |
//! | `millstream.state.pages.{cached, fetched}` | | pages that reads of the open shards found in the page cache, and made from files |
//! | `millstream.object_store.{requests, bytes}` | operation | of a state node; bytes are those written and read |
//! | `millstream.runtime.{busy, threads}` | | seconds at work; threads |
//! | `process.cpu.time`, `process.memory.usage` | cpu.mode | of the process |

mod export;
mod filter;
mod identity;
mod job_metrics;
mod job_snapshot;
mod log_line;
mod process_metrics;
mod prometheus;
mod route;
mod scrape;
mod settings;
mod start;
mod state_metrics;
mod watched;

pub use export::ExportError;
pub use filter::LogFilterError;
pub use identity::ProcessIdentity;
pub use job_metrics::{observe_jobs, observe_operators};
pub use process_metrics::observe_runtime;
pub use route::{MetricsServerError, metrics_router, serve_metrics};
pub use scrape::Scrape;
pub use settings::SettingsError;
pub use start::{StartError, Telemetry, start, start_log, start_server};
pub use state_metrics::observe_state_node;
