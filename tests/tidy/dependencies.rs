//! The dependency arrows of ARCHITECTURE.md, over `cargo metadata`.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use serde_json::Value;

/// Crates of ours that a crate may depend on directly (tests aside).
const ARROWS: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("rpc", &["proto"]),
    ("control-stream", &["proto", "rpc"]),
    ("state-client", &["proto"]),
    ("state-wire", &["proto", "state-client", "rpc"]),
    (
        "state-service",
        &[
            "proto",
            "state-client",
            "state-wire",
            "rpc",
            "control-stream",
        ],
    ),
    (
        "remote-store",
        &["proto", "state-client", "state-wire", "rpc"],
    ),
    ("engine", &["proto", "state-client"]),
    ("operators", &["proto", "state-client", "engine"]),
    ("connectors", &["proto", "engine"]),
    (
        "compute",
        &[
            "proto",
            "rpc",
            "control-stream",
            "state-client",
            "engine",
            "operators",
            "connectors",
        ],
    ),
    ("sql", &["proto"]),
    ("coordinator", &["proto"]),
    ("consensus", &[]),
    (
        "control-plane",
        &[
            "proto",
            "rpc",
            "control-stream",
            "state-client",
            "sql",
            "coordinator",
            "consensus",
        ],
    ),
    ("cli", &["proto"]),
    (
        "loadtest",
        &["proto", "engine", "state-client", "state-service"],
    ),
];

/// Cores decide and do nothing: these are not for them.
const CORES: &[&str] = &[
    "proto",
    "engine",
    "operators",
    "sql",
    "coordinator",
    "state-client",
];
const NOT_FOR_CORES: &[&str] = &[
    "tokio",
    "tonic",
    "hyper",
    "axum",
    "reqwest",
    "slatedb",
    "object_store",
];

fn direct_dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ])
        .current_dir(tests::root())
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let name = |value: &Value| value["name"].as_str().expect("a name").to_owned();
    let packages = metadata["packages"].as_array().expect("packages");
    let of = |package: &Value| {
        let dependencies = package["dependencies"].as_array().expect("dependencies");
        dependencies
            .iter()
            .filter(|d| d["kind"].is_null())
            .map(name)
            .collect()
    };
    packages
        .iter()
        .map(|package| (name(package), of(package)))
        .collect()
}

#[test]
fn dependencies_point_one_way() {
    let crates = direct_dependencies();
    let ours: BTreeSet<&String> = crates.keys().collect();
    let mut wrong = Vec::new();
    for (name, dependencies) in &crates {
        if name == "millstream" || name == "tests" {
            continue;
        }
        let Some((_, allowed)) = ARROWS.iter().find(|(crate_name, _)| crate_name == name) else {
            wrong.push(format!("{name} is not in the list of arrows"));
            continue;
        };
        for dependency in dependencies.iter().filter(|d| ours.contains(d)) {
            if !allowed.contains(&dependency.as_str()) {
                wrong.push(format!("{name} -> {dependency}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn cores_do_nothing() {
    let crates = direct_dependencies();
    for core in CORES {
        let found: Vec<&str> = NOT_FOR_CORES
            .iter()
            .filter(|banned| crates[*core].contains(**banned))
            .copied()
            .collect();
        assert!(found.is_empty(), "{core} depends on {found:?}");
    }
}

#[test]
fn sql_and_columns_meet_only_in_the_plan() {
    let crates = direct_dependencies();
    assert!(!crates["sql"].contains("arrow"));
    for name in crates.keys().filter(|name| *name != "sql") {
        assert!(
            !crates[name].contains("sqlparser"),
            "{name} knows sqlparser"
        );
    }
}
