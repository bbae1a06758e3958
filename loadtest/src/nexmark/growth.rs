//! `growth`: whether what an event costs grows with how many there have been. Queries run over more and
//! more events of the profile in which windows open and close all the time; of a query whose state is let
//! go, an event should cost the same at any time.

use std::{fmt::Write as _, fs, path::PathBuf};

use anyhow::{Context as _, ensure};
use clap::Args;
use serde_json::json;

use super::{Figures, bench::WINDOWS_RATE, each::EachRun, machine::Machine, measure};
use crate::{
    target::{Target, outcome},
    workload::Outcome,
};

/// By query: how much more an event may cost at any number than at the first one.
const FACTORS: &[(&str, f64)] = &[
    ("q3", 2.0),
    ("q4", 2.0),
    ("q5", 1.2),
    ("q7", 1.2),
    ("q8", 1.2),
    ("q9", 2.0),
    ("q11", 1.2),
    ("q17", 2.0),
    ("q18", 2.0),
    ("q20", 2.0),
];

/// A run of `growth`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Queries; all that have a target if none is named.
    #[arg(long, value_delimiter = ',', value_name = "QUERY,…")]
    queries: Vec<String>,
    /// Events to generate, from few to many.
    #[arg(long, value_delimiter = ',', value_name = "COUNT,…", default_values_t = [1_000_000, 10_000_000, 40_000_000])]
    events: Vec<u64>,
    #[command(flatten)]
    each: EachRun,
    /// Where the table goes, as `growth.md`; nowhere if not given.
    #[arg(long, value_name = "DIR")]
    results: Option<PathBuf>,
    /// End with failure if a target is missed.
    #[arg(long)]
    check: bool,
}

/// A query at all numbers of events.
struct Grown {
    figures: Vec<Figures>,
    factor: f64,
}

impl Grown {
    fn query(&self) -> &str {
        &self.figures[0].query
    }

    /// The most that an event costs, by what it costs at the first number.
    fn growth(&self) -> f64 {
        let cost = |figures: &Figures| figures.cpu_seconds_per_million_events;
        let most = self.figures.iter().map(cost).fold(0.0, f64::max);
        most / cost(&self.figures[0])
    }
}

/// Runs them.
pub(crate) fn run(options: &Options) -> anyhow::Result<Outcome> {
    let wanted = |query: &str| {
        options.queries.is_empty() || options.queries.iter().any(|wanted| wanted == query)
    };
    ensure!(
        options.events.len() > 1,
        "growth needs two numbers of events at least"
    );
    let mut grown = Vec::new();
    for (query, factor) in FACTORS.iter().filter(|(query, _)| wanted(query)) {
        let figures = options.events.iter().map(|events| {
            let figures = measure(&options.each.of(query, *events, WINDOWS_RATE, None));
            figures.with_context(|| format!("{query}, {events} events"))
        });
        let one = Grown {
            figures: figures.collect::<anyhow::Result<_>>()?,
            factor: *factor,
        };
        eprintln!("{query}: {:.2} times", one.growth());
        grown.push(one);
    }
    ensure!(!grown.is_empty(), "no query of these names has a target");
    let machine = Machine::here();
    if let Some(folder) = &options.results {
        fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
        let table = table(options, &machine, &grown);
        fs::write(folder.join("growth.md"), table).context("failed to write the table")?;
    }
    let target = |one: &Grown| {
        let what = format!("{}, cost of an event by that at first", one.query());
        Target::at_most(what, one.factor, Some(one.growth()))
    };
    let targets: Vec<Target> = grown.iter().map(target).collect();
    let measured: Vec<&Figures> = grown.iter().flat_map(|one| &one.figures).collect();
    let figures = json!({"workload": "growth", "machine": machine, "measured": measured});
    Ok(outcome(figures, &targets, options.check))
}

fn table(options: &Options, machine: &Machine, grown: &[Grown]) -> String {
    let mut text = format!(
        "# Growth\n\n{}\n\nCPU seconds per million events of the whole process, and MB of state at the end, at \
         100,000 events per second of event time.\n\n| query |",
        machine.line()
    );
    for events in &options.events {
        let _ = write!(text, " {} M |", *events as f64 / 1e6);
    }
    text.push_str(" most by first | at most |\n|---|");
    text.push_str(&"---|".repeat(options.events.len() + 2));
    text.push('\n');
    for one in grown {
        let _ = write!(text, "| {} |", one.query());
        for figures in &one.figures {
            let (cost, state) = (
                figures.cpu_seconds_per_million_events,
                figures.state_bytes as f64 / 1e6,
            );
            let _ = write!(text, " {cost:.3}, {state:.0} MB |");
        }
        let _ = writeln!(text, " {:.2} | {} |", one.growth(), one.factor);
    }
    text
}
