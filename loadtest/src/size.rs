//! Sizes as people write them: `100MB`, `1GiB`.

/// Bytes of a text.
///
/// # Errors
/// What is expected.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let expected = || format!("`{text}` is no size: expected one such as 100MB or 1GiB");
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit());
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let number: u64 = number.parse().map_err(|_| expected())?;
    let unit: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        _ => return Err(expected()),
    };
    let bytes = number.checked_mul(unit).filter(|bytes| *bytes > 0);
    bytes.ok_or_else(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        assert_eq!(bytes("100MB"), Ok(100_000_000));
        assert_eq!(bytes(" 2 GiB"), Ok(2 << 30));
        for wrong in [
            "",
            "GB",
            "5",
            "0MB",
            "1.5GB",
            "99999999999999GB",
            "3 apples",
        ] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}
