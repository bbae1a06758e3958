//! Whether what was typed so far is a whole script. Knows quotes, comments and statement sets, and
//! nothing else of SQL.

/// Whether the text ends with a semicolon that ends a statement; comments may follow.
pub(crate) fn is_complete(sql: &str) -> bool {
    let Some(code) = code(sql) else {
        return false;
    };
    let code = code.trim_end();
    if !code.ends_with(';') {
        return false;
    }
    // What stands in a statement set ends with a semicolon as well.
    let last_end = |code: &str| {
        let words: Vec<String> = code
            .split(|c: char| !(c.is_alphanumeric() || c == '_'))
            .filter(|word| !word.is_empty())
            .map(str::to_uppercase)
            .collect();
        let is_set = matches!(
            words
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .as_slice(),
            ["BEGIN", "STATEMENT", "SET", ..] | ["EXECUTE", "STATEMENT", "SET", ..]
        );
        !is_set || words.last().is_some_and(|word| word == "END")
    };
    last_end(code)
}

/// The text with a space for each comment and quoted piece; `None` while one of them is open.
fn code(sql: &str) -> Option<String> {
    let mut code = String::with_capacity(sql.len());
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let (open, close) = match first {
            '\'' => ("'", "'"),
            '`' => ("`", "`"),
            _ if rest.starts_with("--") => ("--", "\n"),
            _ if rest.starts_with("/*") => ("/*", "*/"),
            _ => {
                code.push(first);
                rest = rest.get(first.len_utf8()..)?;
                continue;
            }
        };
        let body = rest.get(open.len()..)?;
        let end = match (body.find(close), open) {
            (Some(end), _) => end + close.len(),
            (None, "--") => body.len(),
            (None, _) => return None,
        };
        code.push(' ');
        rest = body.get(end..)?;
    }
    Some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_ends_with_a_semicolon_of_its_own() {
        for whole in [
            "SELECT 1;",
            "SELECT 1; -- c",
            "SELECT 1 /* a */; /* b; */\n",
            "SELECT ';' AS `;`;",
            "SELECT 'it''s';",
            "BEGIN STATEMENT SET; INSERT INTO a SELECT 1; END;",
        ] {
            assert!(is_complete(whole), "{whole}");
        }
        for open in [
            "",
            "SELECT 1",
            "SELECT 1 -- ;",
            "SELECT 1 /* ;",
            "SELECT ';",
            "SELECT 1; SELECT 2",
            "-- only this\n",
            "BEGIN STATEMENT SET; INSERT INTO a SELECT 1;",
        ] {
            assert!(!is_complete(open), "{open}");
        }
    }
}
