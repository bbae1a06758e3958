//! Metrics as Prometheus reads them: text format 0.0.4. Names follow OpenTelemetry's rules for it:
//! dots become underscores, the unit is appended, sums that only grow end in `_total`.

use std::{collections::BTreeMap, fmt::Write as _};

use opentelemetry::KeyValue;
use opentelemetry_sdk::{
    Resource,
    metrics::data::{AggregatedMetrics, HistogramDataPoint, Metric, MetricData, ResourceMetrics},
};

/// Media type of the text.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Series of one name.
struct Family {
    kind: &'static str,
    help: String,
    /// Lines of a series, by its labels.
    series: BTreeMap<String, String>,
}

/// The text. Of two metrics that get the same name and differ in kind, the first counts.
pub(super) fn render(metrics: &ResourceMetrics) -> String {
    let mut families = BTreeMap::new();
    families.insert("target_info".to_owned(), target(metrics.resource()));
    for metric in metrics.scope_metrics().flat_map(|scope| scope.metrics()) {
        match metric.data() {
            AggregatedMetrics::F64(data) => add(&mut families, metric, data, |value| *value),
            AggregatedMetrics::U64(data) => add(&mut families, metric, data, |value| *value as f64),
            AggregatedMetrics::I64(data) => add(&mut families, metric, data, |value| *value as f64),
        }
    }
    let mut text = String::new();
    for (name, family) in families {
        if !family.help.is_empty() {
            let _ = writeln!(text, "# HELP {name} {}", escaped(&family.help, false));
        }
        let _ = writeln!(text, "# TYPE {name} {}", family.kind);
        text.extend(family.series.into_values());
    }
    text
}

/// Who the process is, as OpenTelemetry's rules want it.
fn target(resource: &Resource) -> Family {
    let labels = resource
        .iter()
        .filter(|(key, _)| !key.as_str().starts_with("telemetry."))
        .map(|(key, value)| (label_name(key.as_str()), value.to_string()));
    let labels = label_set(labels.collect());
    let line = format!("target_info{labels} 1\n");
    Family {
        kind: "gauge",
        help: "Who the process is.".to_owned(),
        series: BTreeMap::from([(labels, line)]),
    }
}

fn add<T: Copy>(
    families: &mut BTreeMap<String, Family>,
    metric: &Metric,
    data: &MetricData<T>,
    value: impl Fn(&T) -> f64,
) {
    let (kind, total) = match data {
        MetricData::Sum(sum) if sum.is_monotonic() => ("counter", "_total"),
        MetricData::Gauge(_) | MetricData::Sum(_) => ("gauge", ""),
        MetricData::Histogram(_) => ("histogram", ""),
        // Comes only from views, and there are none of it.
        MetricData::ExponentialHistogram(_) => return,
    };
    let name = name(metric.name(), metric.unit(), total);
    let family = families.entry(name.clone()).or_insert_with(|| Family {
        kind,
        help: metric.description().to_owned(),
        series: BTreeMap::new(),
    });
    if family.kind != kind {
        return;
    }
    let mut sample = |labels: String, at: f64| {
        let line = format!("{name}{labels} {}\n", number(at));
        family.series.insert(labels, line);
    };
    match data {
        MetricData::Sum(sum) => sum
            .data_points()
            .for_each(|point| sample(labels(point.attributes()), value(&point.value()))),
        MetricData::Gauge(gauge) => gauge
            .data_points()
            .for_each(|point| sample(labels(point.attributes()), value(&point.value()))),
        MetricData::Histogram(histogram) => {
            for point in histogram.data_points() {
                let lines = buckets(&name, point, value(&point.sum()));
                family.series.insert(labels(point.attributes()), lines);
            }
        }
        MetricData::ExponentialHistogram(_) => {}
    }
}

/// A histogram's lines: every bucket counts what the ones below it do.
fn buckets<T>(name: &str, point: &HistogramDataPoint<T>, sum: f64) -> String {
    let mut lines = String::new();
    let mut counted = 0;
    let bounds = point.bounds().map(number).chain(["+Inf".to_owned()]);
    for (bound, count) in bounds.zip(point.bucket_counts()) {
        counted += count;
        let mut pairs = pairs(point.attributes());
        pairs.insert("le".to_owned(), bound);
        let labels = label_set(pairs);
        let _ = writeln!(lines, "{name}_bucket{labels} {counted}");
    }
    let labels = labels(point.attributes());
    let (sum, count) = (number(sum), point.count());
    let _ = writeln!(
        lines,
        "{name}_sum{labels} {sum}\n{name}_count{labels} {count}"
    );
    lines
}

fn labels<'a>(attributes: impl Iterator<Item = &'a KeyValue>) -> String {
    label_set(pairs(attributes))
}

fn pairs<'a>(attributes: impl Iterator<Item = &'a KeyValue>) -> BTreeMap<String, String> {
    attributes
        .map(|pair| (label_name(pair.key.as_str()), pair.value.to_string()))
        .collect()
}

fn label_set(pairs: BTreeMap<String, String>) -> String {
    if pairs.is_empty() {
        return String::new();
    }
    let pairs = pairs
        .iter()
        .map(|(name, value)| format!("{name}=\"{}\"", escaped(value, true)));
    format!("{{{}}}", pairs.collect::<Vec<_>>().join(","))
}

fn name(name: &str, unit: &str, total: &str) -> String {
    let unit = match unit {
        "s" => "_seconds",
        "By" => "_bytes",
        _ => "",
    };
    let mut name = sanitized(name, true);
    if !name.ends_with(unit) {
        name.push_str(unit);
    }
    name + total
}

fn label_name(name: &str) -> String {
    sanitized(name, false)
}

/// With underscores for all that a name must not have.
fn sanitized(name: &str, colons: bool) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || (colons && c == ':');
    let mut clean: String = name
        .chars()
        .map(|c| if fits(c) { c } else { '_' })
        .collect();
    if !clean.starts_with(|c: char| !c.is_ascii_digit()) {
        clean.insert(0, '_');
    }
    clean
}

fn escaped(text: &str, quoted: bool) -> String {
    let text = text.replace('\\', "\\\\").replace('\n', "\\n");
    if quoted {
        text.replace('"', "\\\"")
    } else {
        text
    }
}

fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use opentelemetry::metrics::MeterProvider as _;
    use opentelemetry_sdk::metrics::SdkMeterProvider;

    use super::*;
    use crate::telemetry::Scrape;

    #[test]
    fn every_kind_of_metric_is_written_as_prometheus_reads_it() {
        let scrape = Scrape::default();
        let who =
            Resource::builder_empty().with_attribute(KeyValue::new("service.name", "a \"b\""));
        let provider = SdkMeterProvider::builder()
            .with_resource(who.build())
            .with_reader(scrape.clone())
            .build();
        let meter = provider.meter("test");
        let counter = meter
            .u64_counter("rows.in")
            .with_unit("{row}")
            .with_description("Rows\nand \\ more.")
            .build();
        counter.add(3, &[KeyValue::new("job", "b")]);
        counter.add(4, &[KeyValue::new("job", "a\\\"\n")]);
        let seconds = meter.f64_counter("busy").with_unit("s").build();
        seconds.add(0.25, &[]);
        let gauge = meter.f64_gauge("memory").with_unit("By").build();
        gauge.record(-1.5e9, &[KeyValue::new("0.kind", "x")]);
        let histogram = meter
            .f64_histogram("took")
            .with_unit("s")
            .with_boundaries(vec![0.5, 1.0])
            .build();
        for took in [0.1, 0.7, 0.8, 9.0] {
            histogram.record(took, &[KeyValue::new("route", "/")]);
        }
        let text = scrape.text().expect("metrics");
        expect![[r#"
            # TYPE busy_seconds_total counter
            busy_seconds_total 0.25
            # TYPE memory_bytes gauge
            memory_bytes{_0_kind="x"} -1500000000
            # HELP rows_in_total Rows\nand \\ more.
            # TYPE rows_in_total counter
            rows_in_total{job="a\\\"\n"} 4
            rows_in_total{job="b"} 3
            # HELP target_info Who the process is.
            # TYPE target_info gauge
            target_info{service_name="a \"b\""} 1
            # TYPE took_seconds histogram
            took_seconds_bucket{le="0.5",route="/"} 1
            took_seconds_bucket{le="1",route="/"} 3
            took_seconds_bucket{le="+Inf",route="/"} 4
            took_seconds_sum{route="/"} 10.6
            took_seconds_count{route="/"} 4
        "#]]
        .assert_eq(&text);
        provider.shutdown().expect("it runs");
        assert_eq!(scrape.text(), None);
    }

    #[test]
    fn numbers_are_those_of_prometheus() {
        let shown = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e21, 0.1, 3.0].map(number);
        let wanted = ["NaN", "+Inf", "-Inf", "1000000000000000000000", "0.1", "3"];
        assert_eq!(shown, wanted);
    }
}
