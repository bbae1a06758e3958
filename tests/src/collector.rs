//! A real OpenTelemetry Collector that prints what it is sent, and what a test can find there.

use std::{
    collections::BTreeMap,
    fs,
    fs::File,
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    tool::{free_port, tool},
    wait_until,
};

/// Same as in the Makefile, which builds it.
const VERSION: &str = "0.155.0";

/// How long it may take to start.
const START_MAX: Duration = Duration::from_secs(30);

/// A running collector; stopped when dropped.
pub struct Collector {
    process: Child,
    port: u16,
    folder: TempDir,
}

/// A span that the collector was sent.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CollectedSpan {
    /// `service.name` of the process that sent it.
    pub service: String,
    /// Trace.
    pub trace_id: String,
    /// Span.
    pub id: String,
    /// The span around it; empty: the trace's first.
    pub parent_id: String,
    /// Name.
    pub name: String,
    /// `Unset`, `Ok` or `Error`.
    pub status: String,
    /// Attributes as text.
    pub attributes: BTreeMap<String, String>,
}

impl Collector {
    /// Starts one on a free port.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start() -> Collector {
        // Another process may take the port in between; then there is another.
        (0..5)
            .find_map(|_| Collector::start_on(free_port()))
            .expect("the collector starts; see its output above")
    }

    fn start_on(port: u16) -> Option<Collector> {
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("config.yaml");
        fs::write(&config, configuration(port)).expect("a file");
        let output = |name: &str| File::create(folder.path().join(name)).expect("a file");
        let mut process = Command::new(tool("MILLSTREAM_OTELCOL", &format!("otelcol-{VERSION}")))
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(output("stdout"))
            .stderr(output("stderr"))
            .spawn()
            .expect("the collector runs");
        let mut ended = false;
        let ready = wait_until(START_MAX, || {
            ended = process.try_wait().expect("a process").is_some();
            ended || TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        if ended || !ready {
            eprintln!(
                "{}",
                fs::read_to_string(folder.path().join("stderr")).unwrap_or_default()
            );
            let _ = process.kill();
            let _ = process.wait();
            return None;
        }
        Some(Collector {
            process,
            port,
            folder,
        })
    }

    /// For `OTEL_EXPORTER_OTLP_ENDPOINT`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// All that it has printed.
    ///
    /// # Panics
    /// When its output cannot be read.
    #[must_use]
    pub fn output(&self) -> String {
        let bytes = fs::read(self.folder.path().join("stdout")).expect("its output");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The spans that have come so far.
    #[must_use]
    pub fn spans(&self) -> Vec<CollectedSpan> {
        spans(&self.output())
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn configuration(port: u16) -> String {
    let pipeline = "{receivers: [otlp], exporters: [debug]}";
    format!(
        "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:{port}'}}}}}}}}\n\
         exporters: {{debug: {{verbosity: detailed, use_internal_logger: false}}}}\n\
         service:\n  \
           telemetry: {{metrics: {{level: none}}}}\n  \
           pipelines: {{traces: {pipeline}, metrics: {pipeline}, logs: {pipeline}}}\n"
    )
}

/// Reads what the debug exporter prints of spans. A span that is not whole yet is left out.
fn spans(output: &str) -> Vec<CollectedSpan> {
    let mut found = Vec::new();
    let mut service = String::new();
    let mut span: Option<CollectedSpan> = None;
    for line in output.lines() {
        if line.starts_with("Resource") || line.starts_with("Scope") || line.starts_with("Span #") {
            found.extend(span.take());
        }
        if line.starts_with("Span #") {
            span = Some(CollectedSpan {
                service: service.clone(),
                ..CollectedSpan::default()
            });
        } else if let Some((key, value)) = attribute(line) {
            match &mut span {
                Some(span) => {
                    span.attributes.insert(key.to_owned(), value.to_owned());
                }
                None if key == "service.name" => value.clone_into(&mut service),
                None => {}
            }
        } else if let Some(span) = &mut span
            && let Some((name, value)) = line.trim_start().split_once(':')
        {
            let value = value.trim();
            let field = match name.trim_end() {
                "Trace ID" => &mut span.trace_id,
                "Parent ID" => &mut span.parent_id,
                "ID" => &mut span.id,
                "Name" => &mut span.name,
                "Status code" => &mut span.status,
                _ => continue,
            };
            // Events and links have fields of these names too; the span's own come first.
            if field.is_empty() {
                value.clone_into(field);
            }
        }
    }
    found.extend(span.filter(|span| !span.status.is_empty()));
    found
}

/// `     -> key: Str(value)`
fn attribute(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.trim_start().strip_prefix("-> ")?.split_once(": ")?;
    let value = value.split_once('(')?.1;
    Some((key, value.strip_suffix(')')?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_from_the_output() {
        let output = "\
Resource SchemaURL: \nResource attributes:\n     -> service.name: Str(a)\nScopeSpans #0\n\
Span #0\n    Trace ID       : 01\n    Parent ID      : \n    ID             : 02\n    \
Name           : x: y\n    Kind           : Internal\n    Status code    : Unset\n\
Attributes:\n     -> job: Str(job_1)\n     -> epoch: Int(16)\nSpan #1\n    Trace ID       : 01\n    \
Parent ID      : 02\n    ID             : 03\n    Name           : z\n";
        let found = spans(output);
        assert_eq!(found.len(), 1, "{found:?}");
        let span = &found[0];
        assert_eq!((span.service.as_str(), span.name.as_str()), ("a", "x: y"));
        assert_eq!((span.trace_id.as_str(), span.id.as_str()), ("01", "02"));
        assert_eq!(span.parent_id, "");
        assert_eq!(span.attributes["epoch"], "16");
        let whole = format!("{output}    Status code    : Error\n");
        assert_eq!(spans(&whole)[1].status, "Error");
    }
}
