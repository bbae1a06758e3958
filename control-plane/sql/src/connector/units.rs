//! Durations, sizes and characters as Flink's configuration writes them.

/// Milliseconds of `10 s`, `1min`, `500 ms`; without a unit, milliseconds.
pub(crate) fn duration_ms(text: &str) -> Option<u64> {
    let (number, unit) = number_and_unit(text)?;
    let micros = match unit.as_str() {
        "" | "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => 1_000,
        "us" | "µs" | "micro" | "micros" | "microsecond" | "microseconds" => 1,
        "s" | "sec" | "secs" | "second" | "seconds" => 1_000_000,
        "m" | "min" | "minute" | "minutes" => 60_000_000,
        "h" | "hour" | "hours" => 3_600_000_000,
        "d" | "day" | "days" => 86_400_000_000,
        "ns" | "nano" | "nanos" | "nanosecond" | "nanoseconds" => return Some(number / 1_000_000),
        _ => return None,
    };
    number.checked_mul(micros).map(|micros| micros / 1_000)
}

/// Bytes of `128 mb`, `1g`; without a unit, bytes.
pub(crate) fn memory_bytes(text: &str) -> Option<u64> {
    let (number, unit) = number_and_unit(text)?;
    let factor: u64 = match unit.as_str() {
        "" | "b" | "bytes" => 1,
        "k" | "kb" | "kibibytes" => 1 << 10,
        "m" | "mb" | "mebibytes" => 1 << 20,
        "g" | "gb" | "gibibytes" => 1 << 30,
        "t" | "tb" | "tebibytes" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// One character, or one written as `\t`, `\n`, `\r`, `\\`, `\0` or `\u0001`.
pub(super) fn character(text: &str) -> Option<String> {
    let code = |hex: &str| u32::from_str_radix(hex, 16).ok().and_then(char::from_u32);
    let character = match text {
        "\\t" => '\t',
        "\\n" => '\n',
        "\\r" => '\r',
        "\\\\" => '\\',
        "\\0" => '\0',
        _ => match text.strip_prefix("\\u") {
            Some(hex) if hex.len() == 4 => code(hex)?,
            _ => {
                let mut chars = text.chars();
                let only = chars.next()?;
                chars.next().is_none().then_some(only)?
            }
        },
    };
    Some(character.to_string())
}

fn number_and_unit(text: &str) -> Option<(u64, String)> {
    let text = text.trim();
    let digits = text.chars().take_while(char::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit.trim().to_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let check = |text: &str, expected| assert_eq!(duration_ms(text), expected, "{text}");
        check("10 s", Some(10_000));
        check("10s", Some(10_000));
        check("1 min", Some(60_000));
        check("2 Days", Some(172_800_000));
        check("250", Some(250));
        check("1500 us", Some(1));
        check("", None);
        check("s", None);
        check("-1 s", None);
        check("1 fortnight", None);
        check("99999999999999 d", None);
    }

    #[test]
    fn sizes() {
        let check = |text: &str, expected| assert_eq!(memory_bytes(text), expected, "{text}");
        check("128 mb", Some(128 << 20));
        check("128MB", Some(128 << 20));
        check("200b", Some(200));
        check("7", Some(7));
        check("1 x", None);
    }

    #[test]
    fn characters() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(character(text).as_deref(), expected, "{text}");
        };
        check(";", Some(";"));
        check("\\t", Some("\t"));
        check("\\u0001", Some("\u{1}"));
        check("", None);
        check("ab", None);
    }
}
