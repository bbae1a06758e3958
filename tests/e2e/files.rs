//! Tables of files, written and read by whole scripts.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tests::{
    RunConfig, Store,
    faults::{Fault, Step},
    run,
};

/// Data files at or below a folder, by name.
fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// What all of them hold.
fn text(root: &Path) -> String {
    let read = |path: &PathBuf| fs::read_to_string(path).expect("a text");
    files(root).iter().map(read).collect()
}

fn table(name: &str, columns: &str, path: &Path, format: &str) -> String {
    let path = path.display();
    format!(
        "CREATE TABLE {name} {columns} WITH ('connector' = 'filesystem', 'path' = '{path}', \
         'format' = '{format}');\n"
    )
}

/// The tests of this file are cheap: each runs over every store.
fn over(store: Store) -> RunConfig {
    RunConfig {
        store,
        ..RunConfig::default()
    }
}

fn check_appends(store: Store) {
    let root = tempfile::tempdir().expect("a folder");
    let ddl = table("o", "(a INT)", root.path(), "csv");
    let set = "BEGIN STATEMENT SET; INSERT INTO o VALUES (3); INSERT INTO o VALUES (4); END;";
    let script = format!("{ddl}INSERT INTO o VALUES (1); INSERT INTO o VALUES (2); {set}");
    for _ in 0..2 {
        run(&script, &over(store)).expect("a run");
    }
    let mut rows: Vec<String> = text(root.path()).lines().map(str::to_owned).collect();
    rows.sort();
    assert_eq!(rows, ["1", "1", "2", "2", "3", "3", "4", "4"]);
}

#[test]
fn every_insert_appends() {
    check_appends(Store::Memory);
    check_appends(Store::Embedded);
}

fn check_publication(store: Store) {
    let root = tempfile::tempdir().expect("a folder");
    let ddl = table("o", "(a INT)", root.path(), "csv");
    let script = format!("{ddl}INSERT INTO o VALUES (1), (2);");
    let config = RunConfig {
        faults: vec![Fault {
            step: Step::Published,
            nth: 1,
            after: false,
        }],
        ..over(store)
    };
    let output = run(&script, &config).expect("a run");
    assert_eq!(output.faults, 1);
    assert_eq!(text(root.path()), "1\n2\n");
}

#[test]
fn a_publication_that_is_repeated_adds_nothing() {
    check_publication(Store::Memory);
    check_publication(Store::Embedded);
}

fn check_names(store: Store) {
    let check = |columns: &str, format: &str, expected: &str| {
        let root = tempfile::tempdir().expect("a folder");
        let ddl = table("o", columns, root.path(), format);
        let script =
            format!("{ddl}INSERT INTO o SELECT x, ROW(x, z) FROM (VALUES (1, 'p')) AS v (x, z);");
        run(&script, &over(store)).expect(format);
        assert_eq!(text(root.path()), expected, "{format}");
    };
    let columns = "(a INT, r ROW<b INT, c STRING>)";
    check(columns, "json", "{\"a\":1,\"r\":{\"b\":1,\"c\":\"p\"}}\n");
    check(columns, "csv", "1,1;p\n");
    check(
        columns,
        "debezium-json",
        "{\"before\":null,\"after\":{\"a\":1,\"r\":{\"b\":1,\"c\":\"p\"}},\"op\":\"c\"}\n",
    );
    let partitioned = format!("{columns} PARTITIONED BY (a)");
    check(&partitioned, "json", "{\"r\":{\"b\":1,\"c\":\"p\"}}\n");
}

#[test]
fn files_have_the_names_of_the_table() {
    check_names(Store::Memory);
    check_names(Store::Embedded);
}
