//! What a process tells about itself, as those hear it who listen: a real collector, Prometheus,
//! the person at the terminal.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use serde_json::Value;
use tokio::time::Instant;

use tests::{
    DevProcess,
    collector::{CollectedSpan, Collector},
    exposition, wait_until,
};

const WAIT_MAX: Duration = Duration::from_secs(60);

/// What the end of telemetry may cost on a machine that is busy. The exporters by themselves would
/// wait longer, one after the other.
const LEAVE_MAX: Duration = Duration::from_secs(10);

/// The trace that the client says its call belongs to.
const CALLER: &str = "0af7651916cd43dd8448eb211c80319c";

/// Counts for ever, in two tasks behind two others, with checkpoints.
pub(super) const JOB: &str = "
    SET 'parallelism.default' = '2';
    SET 'execution.checkpointing.interval' = '200ms';
    CREATE TABLE numbers (n BIGINT) WITH (
        'connector' = 'datagen', 'rows-per-second' = '500',
        'fields.n.kind' = 'random', 'fields.n.min' = '0', 'fields.n.max' = '9');
    CREATE TABLE counts (n BIGINT, c BIGINT) WITH ('connector' = 'blackhole');
    INSERT INTO counts SELECT n, COUNT(*) FROM numbers GROUP BY n;";

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_millstream-under-test"))
}

/// Spans of this name.
pub(super) fn named<'a>(spans: &'a [CollectedSpan], name: &str) -> Vec<&'a CollectedSpan> {
    spans.iter().filter(|span| span.name == name).collect()
}

/// The one child of this name.
fn child<'a>(spans: &'a [CollectedSpan], parent: &CollectedSpan, name: &str) -> &'a CollectedSpan {
    let found = children(spans, parent, name);
    assert_eq!(found.len(), 1, "{name} below {}: {found:#?}", parent.name);
    found[0]
}

/// The children of this name.
pub(super) fn children<'a>(
    spans: &'a [CollectedSpan],
    parent: &CollectedSpan,
    name: &str,
) -> Vec<&'a CollectedSpan> {
    let is_child =
        |span: &&CollectedSpan| span.parent_id == parent.id && span.trace_id == parent.trace_id;
    let named = named(spans, name);
    named.into_iter().filter(is_child).collect()
}

/// Checkpoints that have come with all that belongs to them.
pub(super) fn whole_checkpoints(spans: &[CollectedSpan]) -> Vec<&CollectedSpan> {
    let checkpoints = named(spans, "checkpoint").into_iter();
    let is_whole = |span: &&CollectedSpan| {
        let tasks = |name| children(spans, span, name).len();
        tasks("task.freeze") > 1
            && tasks("task.freeze") == tasks("task.encode")
            && tasks("task.freeze") == tasks("task.stage")
            && tasks("checkpoint.commit") == 1
    };
    checkpoints.filter(is_whole).collect()
}

#[test]
fn a_collector_sees_a_checkpoint_as_one_trace() {
    let collector = Collector::start();
    let mut dev = DevProcess::start(
        program(),
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint()),
            ("OTEL_BSP_SCHEDULE_DELAY", "200"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "500"),
            ("OTEL_SERVICE_NAME", "service-of-tests"),
            ("MILLSTREAM_LOG", "info"),
        ],
    );
    let _ = dev.execute(JOB, &format!("00-{CALLER}-b7ad6b7169203331-01"));
    let whole = wait_until(WAIT_MAX, || {
        !whole_checkpoints(&collector.spans()).is_empty()
    });
    let all_kinds = wait_until(WAIT_MAX, || {
        let output = collector.output();
        output.contains("Name: millstream.operator.rows.in") && output.contains("LogRecord #0")
    });
    assert!(dev.interrupt().success(), "{}", dev.log());
    let spans = collector.spans();
    assert!(whole, "no whole checkpoint: {spans:#?}");
    assert!(
        all_kinds,
        "metrics or logs are missing: {}",
        collector.output()
    );

    let checkpoint = whole_checkpoints(&spans)[0];
    assert_eq!(
        checkpoint.parent_id, "",
        "a checkpoint is a trace of its own"
    );
    assert_eq!(checkpoint.service, "service-of-tests");
    assert_eq!(checkpoint.attributes["job"], "job_1");
    let commit = child(&spans, checkpoint, "checkpoint.commit");
    for name in ["task.freeze", "task.encode", "task.stage"] {
        let tasks = children(&spans, checkpoint, name);
        for task in &tasks {
            assert_eq!(task.attributes["epoch"], checkpoint.attributes["epoch"]);
            assert_eq!(task.attributes["epoch"], commit.attributes["epoch"]);
        }
        let mut ids: Vec<&String> = tasks.iter().map(|task| &task.attributes["task"]).collect();
        ids.dedup();
        assert_eq!(ids.len(), tasks.len(), "one span per task: {ids:?}");
    }

    // The call, down to the tasks, is in the trace of whoever made it.
    let calls = named(&spans, "POST /v1/statements");
    assert_eq!(calls.len(), 1, "{calls:#?}");
    assert_eq!(calls[0].trace_id, CALLER);
    assert_eq!(calls[0].parent_id, "b7ad6b7169203331");
    assert_eq!(calls[0].attributes["http.response.status_code"], "201");
    let statements = child(&spans, calls[0], "statements");
    assert_eq!(children(&spans, statements, "sql.plan").len(), 5);
    let start = child(&spans, statements, "job.start");
    let deploy = child(&spans, start, "worker.deploy");
    assert!(!children(&spans, deploy, "task.restore").is_empty());
    // So are the lines of the log about it.
    let log = dev.log();
    let mut states = log.lines().filter(|line| line.contains("state=RUNNING"));
    let id = format!("trace_id={CALLER} ");
    assert!(states.any(|line| line.contains(&id)), "{log}");
    assert!(
        !collector.output().contains("token-of-tests"),
        "the token is nobody's business"
    );
}

#[test]
fn a_rescale_is_in_the_trace_of_the_decision_that_tells_its_figures() {
    let collector = Collector::start();
    let dev = DevProcess::start(
        program(),
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint()),
            ("OTEL_BSP_SCHEDULE_DELAY", "200"),
        ],
    );
    let one_task = JOB.replace("'parallelism.default' = '2'", "'parallelism.default' = '1'");
    let _ = dev.execute(&one_task, "");
    // Fewer than it may have.
    dev.jobs(&["scale", "job_1", "--auto", "2..2"]);
    let mut spans = Vec::new();
    let came = wait_until(WAIT_MAX, || {
        spans = collector.spans();
        let decided = named(&spans, "autoscale.decide");
        let rescaled =
            |decision: &&CollectedSpan| !children(&spans, decision, "rescale").is_empty();
        decided.iter().any(rescaled)
    });
    assert!(came, "no rescale by a decision: {spans:#?} {}", dev.log());
    let decision = named(&spans, "autoscale.decide")[0];
    assert_eq!(decision.parent_id, "");
    let rescale = child(&spans, decision, "rescale");
    assert!(!children(&spans, rescale, "worker.prepare").is_empty());

    let (status, _, text) = dev.get("/v1/jobs/job_1/autoscaler", true);
    assert_eq!(status, 200, "{text}");
    let view: Value = serde_json::from_str(&text).expect("JSON");
    let told = view["decisions"].as_array().and_then(|all| all.last());
    let told = told.unwrap_or_else(|| panic!("no decision: {text}"));
    let attribute = |name: &str| decision.attributes[name].as_str();
    assert_eq!((attribute("job"), attribute("number")), ("job_1", "1"));
    assert_eq!(attribute("kind"), told["kind"]);
    assert_eq!(attribute("reason"), told["reason"]);
    let reason = "the policy's bounds have no room for the 1 of fragment";
    assert!(attribute("reason").starts_with(reason), "{told:#}");
    assert_eq!(attribute("changes"), "[[0,1,2],[1,1,2]]");
    // The same figures in both, here in fewer digits.
    for (name, list, same) in [
        ("sources", "sources", ["table", "backlog_rows"]),
        ("operators", "fragments", ["tasks", "needed"]),
        ("operators", "fragments", ["name", "fragment"]),
    ] {
        let of_span: Value = serde_json::from_str(attribute(name)).expect("JSON");
        let of_api = &told["observation"][list];
        let of_span = of_span.as_array().expect("a list");
        assert_eq!(Some(of_span.len()), of_api.as_array().map(Vec::len));
        for (at, part) in of_span.iter().enumerate() {
            for field in same {
                assert_eq!(part[field], of_api[at][field], "{part} {told:#}");
            }
            for rate in ["rows_per_s", "target_per_s"] {
                let near = part[rate].as_f64().zip(of_api[at][rate].as_f64());
                let near = near.is_some_and(|(one, other)| (one - other).abs() < 0.001);
                assert!(near, "{rate} of {part} {told:#}");
            }
        }
    }
}

#[test]
fn prometheus_reads_every_metric() {
    let dev = DevProcess::start(program(), &[]);
    let _ = dev.execute(JOB, "");
    let mut samples = exposition::Samples::new();
    let counted = wait_until(WAIT_MAX, || {
        let (status, kind, text) = dev.get("/metrics", true);
        assert_eq!(status, 200);
        assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
        samples = exposition::parse(&text).unwrap_or_else(|broken| panic!("{broken}\n{text}"));
        let rows = |(name, rows): (&String, &f64)| {
            name.starts_with("millstream_operator_rows_in_total{job=\"job_1\"") && *rows > 100.0
        };
        let checkpoints = samples.get("millstream_job_checkpoints_total{job=\"job_1\"}");
        samples.iter().any(rows) && checkpoints.is_some_and(|count| *count > 1.0)
    });
    assert!(counted, "{samples:#?}");
    assert_eq!(
        samples["millstream_job_state{job=\"job_1\",state=\"RUNNING\"}"],
        1.0
    );
    assert!(samples["process_memory_usage_bytes"] > 1e6);
    assert!(samples["process_cpu_time_seconds_total{cpu_mode=\"user\"}"] > 0.0);
    for figure in [
        "busy_seconds",
        "idle_seconds",
        "blocked_seconds",
        "state_wait_seconds",
    ] {
        let name = format!("millstream_operator_{figure}_total{{");
        assert!(samples.keys().any(|key| key.starts_with(&name)), "{name}");
    }
    let (status, _, text) = dev.get("/metrics", false);
    assert_eq!(status, 401, "{text}");
    assert_eq!(dev.get("/v1/health", false).0, 200);
}

/// Runs a script that reads all the rows of a file, as a process.
fn run_script(variables: &[(&str, &str)]) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("script.sql");
    let rows: Vec<String> = (0..1000).map(|n| format!("({n})")).collect();
    let sql = format!(
        "SELECT SUM(n) AS s FROM (VALUES {}) AS t(n);",
        rows.join(",")
    );
    fs::write(&script, sql).expect("a file");
    Command::new(program())
        .args(["run", "--result", "final", "--format", "tsv"])
        .arg(&script)
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .expect("the program runs")
}

#[test]
fn a_collector_that_is_down_or_hangs_costs_a_warning() {
    let began = Instant::now();
    let plain = run_script(&[]);
    let run_time = began.elapsed();
    assert!(plain.status.success(), "{plain:?}");
    // Nobody listens at the one; whoever connects to the other waits for ever.
    let down = TcpListener::bind("127.0.0.1:0")
        .expect("a port")
        .local_addr()
        .expect("an address");
    let hanging = TcpListener::bind("127.0.0.1:0").expect("a port");
    for address in [down, hanging.local_addr().expect("an address")] {
        let endpoint = format!("http://{address}");
        let began = Instant::now();
        let run = run_script(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)]);
        let took = began.elapsed();
        assert!(
            took < run_time + LEAVE_MAX,
            "{took:?}, {run_time:?} without"
        );
        assert!(run.status.success(), "{run:?}");
        assert_eq!(run.stdout, plain.stdout);
        let log = String::from_utf8_lossy(&run.stderr);
        let warnings = log.lines().filter(|line| line.contains("WARN")).count();
        assert!(warnings <= 1, "{log}");
        if address == down {
            assert!(
                log.contains("the OpenTelemetry collector does not take"),
                "{log}"
            );
        }
    }
}

#[test]
fn what_cannot_be_exported_is_refused_at_the_start() {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4317");
    let refused = run_script(&[endpoint, ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")]);
    assert_eq!(refused.status.code(), Some(2));
    assert_eq!(
        String::from_utf8_lossy(&refused.stderr),
        "error: OTEL_EXPORTER_OTLP_PROTOCOL cannot be `http/protobuf`: OTLP is spoken over grpc only\n"
    );
}
