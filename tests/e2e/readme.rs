//! README's first job does what README says.

use std::fs;

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
