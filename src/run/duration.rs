//! Durations on the command line.

/// Milliseconds of `500ms`, `10s`, `1 min`, `2h`; a bare `0` is zero.
///
/// # Errors
/// When the text is none of these.
pub(crate) fn duration_ms(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim() {
        "ms" => 1,
        "s" | "sec" => 1000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "" if number == "0" => 0,
        _ => return Err("expected a duration such as 500ms or 10s".to_owned()),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(factor))
        .ok_or_else(|| "expected a duration such as 500ms or 10s".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        for (text, expected) in [
            ("500ms", Some(500)),
            ("10s", Some(10_000)),
            ("1 min", Some(60_000)),
            ("2h", Some(7_200_000)),
            ("0", Some(0)),
            ("5", None),
            ("s", None),
            ("1.5s", None),
            ("99999999999999999999s", None),
        ] {
            assert_eq!(duration_ms(text).ok(), expected, "{text}");
        }
    }
}
