//! Bytes as pairs of hexadecimal digits.

/// The digits of bytes.
pub(super) fn write(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of digits; `None` if it is anything else.
pub(super) fn read(digits: &str) -> Option<Vec<u8>> {
    // A sign would be read, too.
    if !digits.len().is_multiple_of(2) || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).ok();
    (0..digits.len()).step_by(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_and_nothing_else_is_taken() {
        assert_eq!(read(&write(&[0, 10, 255])), Some(vec![0, 10, 255]));
        assert_eq!(read("0AfF"), Some(vec![10, 255]));
        for bad in ["0", "0g", "+1", "é"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
