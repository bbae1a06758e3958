//! Files of SQL statements.

use std::{
    fs,
    io::{self, Read as _},
    path::Path,
};

use anyhow::{Context as _, anyhow};

/// The text of a script; `-` is standard input. A byte order mark at its start is left out, so that
/// columns are those that editors show.
///
/// # Errors
/// When it cannot be read or is not UTF-8; the text says which line.
pub fn read_script(path: &Path) -> anyhow::Result<String> {
    if path == Path::new("-") {
        let mut bytes = Vec::new();
        io::stdin()
            .read_to_end(&mut bytes)
            .context("failed to read standard input")?;
        return text(bytes).context("failed to read standard input");
    }
    let name = || format!("failed to read {}", path.display());
    text(fs::read(path).with_context(name)?).with_context(name)
}

fn text(bytes: Vec<u8>) -> anyhow::Result<String> {
    let text = String::from_utf8(bytes).map_err(|error| {
        let bytes = error.as_bytes();
        if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
            return anyhow!("the text is UTF-16; save it as UTF-8");
        }
        let valid = bytes.get(..error.utf8_error().valid_up_to());
        let breaks = valid
            .unwrap_or_default()
            .iter()
            .filter(|byte| **byte == b'\n');
        anyhow!(
            "line {} is not UTF-8; save the text as UTF-8",
            breaks.count() + 1
        )
    })?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_text_is_named() {
        let check = |bytes: &[u8], expected: &str| {
            let shown = text(bytes.to_vec()).unwrap_or_else(|error| error.to_string());
            assert_eq!(shown, expected);
        };
        check("\u{feff}SELECT 1".as_bytes(), "SELECT 1");
        check(
            b"SELECT 1;\nSELECT '\xe9'",
            "line 2 is not UTF-8; save the text as UTF-8",
        );
        check(b"\xff\xfeS\0", "the text is UTF-16; save it as UTF-8");
        check(b"", "");
    }
}
