//! Bytes within JSON: as hexadecimal text, which is a third of the length of a list of numbers.

use std::fmt::Write as _;

use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    serializer.serialize_str(&text)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let digits = text.as_bytes();
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let pair = |pair: &[u8]| Some((digit(pair[0])? << 4 | digit(pair[1])?) as u8);
    let bytes = digits.chunks_exact(2).map(pair);
    let bytes: Option<Vec<u8>> = bytes.collect();
    let whole = digits.len().is_multiple_of(2);
    bytes
        .filter(|_| whole)
        .ok_or_else(|| D::Error::custom("expected pairs of hexadecimal digits"))
}

#[cfg(test)]
mod tests {
    use crate::control::SplitSpec;

    #[test]
    fn bytes_come_back_and_other_text_is_refused() {
        let split = SplitSpec {
            id: "a".to_owned(),
            descriptor: (0..=255).collect(),
        };
        let text = serde_json::to_string(&split).expect("plain data");
        assert!(text.contains("0001020304"), "{text}");
        let read: SplitSpec = serde_json::from_str(&text).expect("the same");
        assert_eq!(read, split);
        for bad in ["0", "0g", "é"] {
            let text = format!(r#"{{"id":"a","descriptor":"{bad}"}}"#);
            assert!(serde_json::from_str::<SplitSpec>(&text).is_err(), "{bad}");
        }
    }
}
