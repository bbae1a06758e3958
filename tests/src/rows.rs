//! Results as multisets of tab-separated rows, and their comparison.

/// Rows of a TSV text, header lines (at the top, `# …`) apart, sorted.
#[must_use]
pub fn sorted_rows(text: &str, headers: usize) -> Vec<String> {
    let mut rows: Vec<String> = text.lines().skip(headers).map(str::to_owned).collect();
    rows.sort_unstable();
    rows
}

/// Whether two multisets of rows are equal; columns marked in `approximate` are compared as
/// numbers with a relative tolerance of 1e-9.
///
/// # Errors
/// The first differences, for people.
pub fn compare(actual: &[String], expected: &[String], approximate: &[bool]) -> Result<(), String> {
    if actual == expected {
        return Ok(());
    }
    if actual.len() != expected.len() {
        return Err(format!(
            "{} rows, expected {}{}",
            actual.len(),
            expected.len(),
            difference(actual, expected)
        ));
    }
    // Rows whose exact parts are equal are compared in the order of the sorted lists; floats that
    // differ in their last digit sort next to each other.
    for (actual_row, expected_row) in actual.iter().zip(expected) {
        if actual_row != expected_row && !close(actual_row, expected_row, approximate) {
            return Err(format!("rows differ{}", difference(actual, expected)));
        }
    }
    Ok(())
}

fn close(actual: &str, expected: &str, approximate: &[bool]) -> bool {
    let actual: Vec<&str> = actual.split('\t').collect();
    let expected: Vec<&str> = expected.split('\t').collect();
    let cell = |(index, (actual, expected)): (usize, (&&str, &&str))| {
        actual == expected
            || (approximate.get(index) == Some(&true) && close_numbers(actual, expected))
    };
    actual.len() == expected.len() && actual.iter().zip(&expected).enumerate().all(cell)
}

fn close_numbers(actual: &str, expected: &str) -> bool {
    let (Ok(actual), Ok(expected)) = (actual.parse::<f64>(), expected.parse::<f64>()) else {
        return false;
    };
    (actual - expected).abs() <= 1e-9 * actual.abs().max(expected.abs())
}

fn difference(actual: &[String], expected: &[String]) -> String {
    let mut text = String::new();
    let missing = expected.iter().filter(|row| !actual.contains(row)).take(3);
    missing.for_each(|row| text.push_str(&format!("\n  missing: {row}")));
    let surplus = actual.iter().filter(|row| !expected.contains(row)).take(3);
    surplus.for_each(|row| text.push_str(&format!("\n  surplus: {row}")));
    text
}
