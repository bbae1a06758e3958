//! `bench`: all queries, each in a process of its own over a local directory, in both profiles, with all
//! state in memory and with memory for a fifth of it. Writes a table and the figures behind it.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::json;

use super::{
    Figures, PUBLIC_RATE, QUERIES, each::EachRun, machine::Machine, measure, table, targets,
};
use crate::{
    bigstate::memory_for,
    target::{Target, outcome},
    workload::Outcome,
};

/// Event-time rate at which windows open and close all the time.
pub(super) const WINDOWS_RATE: u64 = 100_000;
/// Working sets have memory for this part of the state, in percent.
const LIMITED_SHARE: u64 = 20;

/// How fast event time goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Profile {
    /// 10 M events per second of event time, as in the public benchmark: few windows close.
    Public,
    /// 100,000 events per second of event time.
    Windows,
}

impl Profile {
    fn rate(self) -> u64 {
        match self {
            Profile::Public => PUBLIC_RATE,
            Profile::Windows => WINDOWS_RATE,
        }
    }

    pub(super) fn description(self) -> &'static str {
        match self {
            Profile::Public => "Public profile: 10 M events per second of event time",
            Profile::Windows => "100,000 events per second of event time",
        }
    }
}

/// How much memory there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Memory {
    /// As much as the binary takes.
    Fit,
    /// For a fifth of the state, where the state is so large that a process can be given that little.
    Limited,
}

impl Memory {
    pub(super) fn description(self) -> &'static str {
        match self {
            Memory::Fit => "all state in memory",
            Memory::Limited => "memory for a fifth of the state",
        }
    }
}

/// A run of `bench`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Queries; all if none is named.
    #[arg(long, value_delimiter = ',', value_name = "QUERY,…")]
    queries: Vec<String>,
    /// Profiles to run.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["public", "windows"])]
    profiles: Vec<Profile>,
    /// Kinds of memory; `limited` runs `fit` first, to know the size of the state.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["fit", "limited"])]
    memory: Vec<Memory>,
    /// Events to generate.
    #[arg(long, default_value_t = 10_000_000)]
    events: u64,
    /// Runs of each; the one with the median CPU time counts.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=99))]
    repeat: u64,
    #[command(flatten)]
    each: EachRun,
    /// Where the table and the figures go, as `nexmark.md` and `nexmark.json`; nowhere if not given.
    #[arg(long, value_name = "DIR")]
    results: Option<PathBuf>,
    /// End with failure if a target is missed.
    #[arg(long)]
    check: bool,
}

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Measured {
    pub(super) profile: Profile,
    pub(super) memory: Memory,
    pub(super) figures: Figures,
}

impl Measured {
    /// What the query should cost here at most.
    pub(super) fn aim(&self) -> Option<f64> {
        let aim = targets::of(&self.figures.query)?;
        match (self.profile, self.memory) {
            (Profile::Public, Memory::Fit) => Some(aim.fit),
            (Profile::Windows, Memory::Fit) => Some(aim.fit * targets::WINDOWS_FACTOR),
            (Profile::Public, Memory::Limited) => aim.limited,
            (Profile::Windows, Memory::Limited) => None,
        }
    }
}

/// Runs them.
pub(crate) fn run(options: &Options) -> anyhow::Result<Outcome> {
    let machine = Machine::here();
    let mut measured = Vec::new();
    for profile in &options.profiles {
        for (query, _) in QUERIES.iter().filter(|(query, _)| wants(options, query)) {
            measure_query(options, *profile, query, &mut measured)?;
            // What there is by now: a run takes long.
            write(options, &machine, &measured)?;
        }
    }
    if measured.is_empty() {
        bail!("no query of these names; `loadtest nexmark --query x` tells which there are");
    }
    let target = |one: &Measured| {
        let Measured {
            profile,
            memory,
            figures,
        } = one;
        let what = format!(
            "{} ({profile:?}, {memory:?}), CPU s per M events",
            figures.query
        );
        let cost = figures.cpu_seconds_per_million_events;
        one.aim().map(|aim| Target::at_most(what, aim, Some(cost)))
    };
    let targets: Vec<Target> = measured.iter().filter_map(target).collect();
    let figures = json!({"workload": "bench", "machine": machine, "measured": measured});
    Ok(outcome(figures, &targets, options.check))
}

fn wants(options: &Options, query: &str) -> bool {
    options.queries.is_empty() || options.queries.iter().any(|wanted| wanted == query)
}

fn measure_query(
    options: &Options,
    profile: Profile,
    query: &str,
    measured: &mut Vec<Measured>,
) -> anyhow::Result<()> {
    let mut add = |memory, figures: Figures| {
        eprintln!(
            "{query} {profile:?} {memory:?}: {:.3} CPU s per M events",
            figures.cpu_seconds_per_million_events
        );
        measured.push(Measured {
            profile,
            memory,
            figures,
        });
    };
    let fit = median(options, profile, query, None)?;
    let state_bytes = fit.state_bytes;
    if options.memory.contains(&Memory::Fit) {
        add(Memory::Fit, fit);
    }
    if let Some(bytes) = memory_for(state_bytes, LIMITED_SHARE)
        && options.memory.contains(&Memory::Limited)
    {
        add(
            Memory::Limited,
            median(options, profile, query, Some(bytes))?,
        );
    }
    Ok(())
}

fn median(
    options: &Options,
    profile: Profile,
    query: &str,
    memory: Option<u64>,
) -> anyhow::Result<Figures> {
    let run = (options.each).of(query, options.events, profile.rate(), memory);
    let runs = (0..options.repeat).map(|_| measure(&run));
    let mut runs = runs
        .collect::<anyhow::Result<Vec<Figures>>>()
        .with_context(|| format!("{query}, {profile:?}"))?;
    runs.sort_by(|a, b| a.cpu_seconds.total_cmp(&b.cpu_seconds));
    let middle = runs.len() / 2;
    Ok(runs.swap_remove(middle))
}

fn write(options: &Options, machine: &Machine, measured: &[Measured]) -> anyhow::Result<()> {
    let Some(folder) = &options.results else {
        return Ok(());
    };
    fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
    let figures = json!({"machine": machine, "measured": measured});
    let text = serde_json::to_string_pretty(&figures)?;
    fs::write(folder.join("nexmark.json"), text).context("failed to write the figures")?;
    let table = table::table(machine, measured);
    fs::write(folder.join("nexmark.md"), table).context("failed to write the table")
}
