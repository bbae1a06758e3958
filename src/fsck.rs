//! `millstream fsck`: compares a store with what is needed of it. Wires the two, and shows what differs.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::Args;
use cli::ServerArgs;
use compute::SystemClock;
use engine::clock::Clock as _;
use futures::FutureExt as _;
use proto::inventory::Inventory;
use state_service::{
    check::{Ask, CheckConfig, CheckReport, Finding, FindingKind, check},
    object::{StoreUrl, open},
};
use tokio::{runtime::Runtime, task::spawn_blocking};

use crate::{keep::KeepArgs, process::draw_seed};

/// Check that a store has every file that is needed, whole, and no other file; also while jobs run.
/// Nothing is changed.
///
/// What is needed, the server says: it must run, and the store be the one that its state nodes have.
/// Ends with 1 if something is wrong.
#[derive(Args, Debug)]
pub struct FsckArgs {
    #[command(flatten)]
    keep: KeepArgs,
    #[command(flatten)]
    server: ServerArgs,
    /// Read everything that is needed, and compare it with its checksums.
    #[arg(long)]
    deep: bool,
    /// Print what was found as JSON.
    #[arg(long)]
    json: bool,
    /// Files that nothing needs are no finding until they are so old: state nodes look for them every 10
    /// minutes.
    #[arg(long, value_name = "SECONDS", default_value_t = 1500)]
    grace: u64,
    /// Look again so much later at files that nothing needs.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    settle: u64,
}

/// Checks, and shows what was found.
///
/// # Errors
/// When the store cannot be read, or the server does not answer.
pub fn run(args: &FsckArgs) -> anyhow::Result<ExitCode> {
    let url = args.keep.url()?;
    let url = url.context("fsck needs to know the store: give --store or --data-dir")?;
    if let StoreUrl::File(directory) = &url
        && !directory.is_dir()
    {
        bail!("there is no directory `{}`", directory.display());
    }
    let server = args.server.clone();
    let ask: Ask = Arc::new(move || {
        let server = server.clone();
        async move {
            let asked = spawn_blocking(move || cli::needed_files(&server)).await;
            let text = asked.map_err(|error| error.to_string())?;
            let text = text.map_err(|error| format!("{error:#}"))?;
            let read = serde_json::from_str::<Inventory>(&text);
            read.map_err(|error| format!("the server's answer is not understood: {error}"))
        }
        .boxed()
    });
    let clock = SystemClock::default();
    let config = CheckConfig {
        store: open(&url)?,
        ask,
        wall_ms: Arc::new(move || u64::try_from(clock.wall_ms()).unwrap_or_default()),
        deep: args.deep,
        grace: Duration::from_secs(args.grace),
        settle: Duration::from_secs(args.settle),
        seed: draw_seed(),
    };
    let runtime = Runtime::new().context("failed to start a runtime")?;
    let report = runtime.block_on(check(config))?;
    match args.json {
        true => writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&report)?)?,
        false => show(&report)?,
    }
    Ok(match report.is_clean() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn show(report: &CheckReport) -> anyhow::Result<()> {
    let mut out = io::stdout();
    let mut advice = String::new();
    for finding in &report.findings {
        if finding.advice != advice && !advice.is_empty() {
            writeln!(out, "  {advice}")?;
        }
        advice.clone_from(&finding.advice);
        let Finding { path, what, .. } = finding;
        writeln!(out, "{}: {path}: {what}", name(finding.kind))?;
        if !finding.needed_by.is_empty() {
            writeln!(out, "  needed by {}", finding.needed_by.join(", "))?;
        }
    }
    if !advice.is_empty() {
        writeln!(out, "  {advice}")?;
    }
    if report.left_out > 0 {
        writeln!(out, "{} more findings are left out", report.left_out)?;
    }
    let CheckReport {
        store,
        jobs,
        needed_files,
        needed_bytes,
        ..
    } = report;
    writeln!(
        out,
        "{store}: {jobs} jobs need {needed_files} files of {needed_bytes} bytes"
    )?;
    if report.read_files > 0 {
        writeln!(out, "{} files were read", report.read_files)?;
    }
    if report.waiting_files > 0 {
        let (files, bytes) = (report.waiting_files, report.waiting_bytes);
        writeln!(
            out,
            "{files} files of {bytes} bytes are about to be deleted"
        )?;
    }
    match report.findings.len() as u64 + report.left_out {
        0 => writeln!(out, "everything is as it should be")?,
        wrong => writeln!(out, "{wrong} findings")?,
    }
    Ok(())
}

fn name(kind: FindingKind) -> &'static str {
    match kind {
        FindingKind::Missing => "missing",
        FindingKind::Damaged => "damaged",
        FindingKind::Unneeded => "unneeded",
    }
}
