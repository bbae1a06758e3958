//! README's first job does what README says.

use std::{fs, process::Command};

use tests::{RunConfig, root, rows, run};

/// The text between two lines that begin with these.
fn between<'t>(text: &'t str, from: &str, to: &str) -> &'t str {
    let (_, after) = text
        .split_once(from)
        .unwrap_or_else(|| panic!("no `{from}`"));
    let (between, _) = after.split_once(to).unwrap_or_else(|| panic!("no `{to}`"));
    between
}

#[test]
fn the_first_job_prints_what_is_shown() {
    let readme = fs::read_to_string(root().join("README.md")).expect("the README");
    let job = between(&readme, "## A first job", "\n## ");
    let orders = between(job, "cat > /tmp/orders.jsonl <<'END'\n", "END\n");
    let script = between(job, "cat > /tmp/orders.sql <<'END'\n", "END\n");
    let shown = between(job, "```\n\n```\n", "```");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("orders.jsonl");
    fs::write(&path, orders).expect("written");
    let script = script.replace("/tmp/orders.jsonl", &path.display().to_string());
    let output = run(&script, &RunConfig::default()).expect("runs");
    let cells = |line: &str| {
        line.split('│')
            .map(str::trim)
            .collect::<Vec<_>>()
            .join("\t")
    };
    let mut shown: Vec<String> = shown.lines().skip(2).map(cells).collect();
    shown.sort_unstable();
    assert_eq!(rows::sorted_rows(&output.text, 1), shown);
}

/// Words in backquotes, of rows of a table.
fn named(text: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '-' || c == '.';
    let quoted = text.split('`').skip(1).step_by(2);
    quoted
        .flat_map(|code| code.split(|c| !is_part(c)))
        .any(|part| part == word)
}

#[test]
fn every_command_is_named() {
    let readme = fs::read_to_string(root().join("README.md")).expect("the README");
    let table = between(&readme, "| command | does |", "\n\n");
    for of in [&[][..], &["jobs"], &["cluster"]] {
        let help = Command::new(env!("CARGO_BIN_EXE_millstream-under-test"))
            .args(of)
            .arg("--help")
            .output()
            .expect("it runs");
        let help = String::from_utf8(help.stdout).expect("text");
        let commands = between(&help, "Commands:\n", "\n\n");
        let names = commands.lines().filter_map(|line| {
            let indented = line.strip_prefix("  ")?;
            indented
                .split_whitespace()
                .next()
                .filter(|_| !indented.starts_with(' '))
        });
        let names: Vec<&str> = names.filter(|name| *name != "help").collect();
        assert!(names.len() > 2, "{help}");
        for name in names {
            assert!(named(table, name), "{of:?} {name} is missing in README");
        }
    }
}

#[test]
fn every_route_is_named() {
    let readme = fs::read_to_string(root().join("README.md")).expect("the README");
    let routes = between(&readme, "The REST API, described", "\n\nState that");
    let description = serde_json::to_value(control_plane::api::openapi()).expect("JSON");
    for (path, item) in description["paths"].as_object().expect("paths") {
        let last = path.split('/').rfind(|part| !part.starts_with('{'));
        let last = last.expect("a word");
        for method in item.as_object().expect("methods").keys() {
            let method = method.to_uppercase();
            let mut rows = routes.lines().filter(|row| named(row, last));
            // What is there to be looked at is named without its method here and there.
            let found = rows.any(|row| method == "GET" || named(row, &method));
            assert!(found, "{method} {path} is missing in README");
        }
    }
}
