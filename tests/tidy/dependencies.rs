//! The dependency arrows of ARCHITECTURE.md, over `cargo metadata`.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use serde_json::Value;

/// Crates of ours that a crate may depend on directly (tests aside).
const ARROWS: &[(&str, &[&str])] = &[
    // Bugs that simulation plants: nothing of it is in a build without its feature.
    ("planted", &[]),
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
            "planted",
        ],
    ),
    (
        "remote-store",
        &["proto", "state-client", "state-wire", "rpc"],
    ),
    ("engine", &["proto", "state-client", "planted"]),
    ("operators", &["proto", "state-client", "engine"]),
    ("connectors", &["proto", "engine", "planted"]),
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
    ("coordinator", &["proto", "planted"]),
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

fn packages() -> Vec<Value> {
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
    metadata["packages"].as_array().expect("packages").clone()
}

fn direct_dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let name = |value: &Value| value["name"].as_str().expect("a name").to_owned();
    let of = |package: &Value| {
        let dependencies = package["dependencies"].as_array().expect("dependencies");
        dependencies
            .iter()
            .filter(|d| d["kind"].is_null())
            .map(name)
            .collect()
    };
    packages()
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
        // These see the whole system.
        if ["millstream", "tests", "sim"].contains(&name.as_str()) {
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

#[test]
fn bugs_are_planted_by_simulation_alone() {
    let mut planting = Vec::new();
    for package in packages() {
        let name = package["name"].as_str().expect("a name");
        let dependencies = package["dependencies"].as_array().expect("dependencies");
        let direct = dependencies.iter().any(|dependency| {
            let features = dependency["features"].as_array().expect("features");
            dependency["name"] == "planted" && !features.is_empty()
        });
        let features = package["features"].to_string();
        if direct || features.contains("planted/on") {
            planting.push((name.to_owned(), direct));
        }
        let default = package["features"]["default"].to_string();
        assert!(
            !default.contains("planted"),
            "{name} plants bugs by default"
        );
    }
    assert_eq!(planting, [("sim".to_owned(), false)]);
}
