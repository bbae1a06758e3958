//! Figures out of `/metrics`, in Prometheus' text format.

use std::collections::BTreeMap;

/// Counts requests to the object store, by operation.
pub(crate) const REQUESTS: &str = "millstream_object_store_requests_total";
/// Counts their bytes.
pub(crate) const BYTES: &str = "millstream_object_store_bytes_total";

/// The sum of all series of a metric whose labels contain each of these: `operation="put"`.
pub(crate) fn sum(metrics: &str, name: &str, labels: &[&str]) -> f64 {
    let series = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let (with, value) = match rest.strip_prefix('{') {
            Some(rest) => rest.rsplit_once("} ")?,
            None => ("", rest.strip_prefix(' ')?),
        };
        let fits = labels.iter().all(|label| with.contains(label));
        let value = value.split_whitespace().next()?.parse::<f64>().ok()?;
        fits.then_some(value)
    });
    series.sum()
}

/// The series of a metric by their label `operation`.
pub(crate) fn by_operation(metrics: &str, name: &str) -> BTreeMap<String, u64> {
    let operations = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?.strip_prefix('{')?;
        let (_, operation) = rest.split_once("operation=\"")?;
        operation.split('"').next()
    });
    let label = |operation: &str| format!("operation=\"{operation}\"");
    let value = |operation: &str| sum(metrics, name, &[&label(operation)]) as u64;
    operations
        .map(|operation| (operation.to_owned(), value(operation)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const METRICS: &str = "# TYPE x counter\n\
        millstream_object_store_requests_total{operation=\"put\",a=\"b\"} 12\n\
        millstream_object_store_requests_total{operation=\"get\"} 3\nx 4\nxy 5\n";

    #[test]
    fn series_are_found_by_name_and_labels() {
        assert!((sum(METRICS, "x", &[]) - 4.0).abs() < f64::EPSILON);
        let name = "millstream_object_store_requests_total";
        assert!((sum(METRICS, name, &[]) - 15.0).abs() < f64::EPSILON);
        assert!((sum(METRICS, name, &["operation=\"get\""]) - 3.0).abs() < f64::EPSILON);
        let expected = [("get".to_owned(), 3), ("put".to_owned(), 12)];
        assert_eq!(by_operation(METRICS, name), BTreeMap::from(expected));
    }
}
