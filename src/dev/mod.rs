//! `millstream dev`: everything in one process, with the REST API on loopback.

mod demo;

use std::{net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use axum::Router;
use clap::Args;
use compute::SystemClock;
use control_plane::{
    Statements,
    api::{Backend, NoStateNodes, Token, guarded, router},
    take_census,
};
use engine::clock::Clock as _;
use proto::control::JobOptions;
use sql::{PlanOptions, session::Session};
use tokio::sync::watch;

use crate::{
    Durable, DurableConfig, OpenedStore, Process, ProcessConfig, StateReader,
    interrupt::Interrupt,
    keep::KeepArgs,
    memory::{MemoryArgs, MemoryPlan},
    scratch::ScratchArgs,
    serve::{RestListener, RestTlsArgs, given_token, listen_address, random_token},
    telemetry::{Telemetry, metrics_router, observe_jobs, observe_runtime, observe_state_node},
    threads::main_runtime,
};

/// How long open connections may take to end after Ctrl-C.
const SHUTDOWN_MS: u64 = 2_000;

/// How long everything may take to end after Ctrl-C.
const INTERRUPT_GRACE_MS: u64 = 5_000;

/// Start everything in one process and serve the REST API.
///
/// Jobs and their state live in memory and end with the process, unless --data-dir or --store says
/// where to keep them: then the next start goes on with them. Clients show the token that is printed
/// at start, or the one in MILLSTREAM_TOKEN. Tables and options (SET) are shared by all clients.
#[derive(Args, Debug)]
pub struct DevArgs {
    /// Address to listen on; without a certificate a loopback address. Port 0: any free one.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7878", value_parser = listen_address)]
    listen: SocketAddr,
    #[command(flatten)]
    tls: RestTlsArgs,
    /// Start a demo job on the Nexmark generator and print its rows.
    #[arg(long)]
    demo: bool,
    #[command(flatten)]
    keep: KeepArgs,
    #[command(flatten)]
    memory: MemoryArgs,
    #[command(flatten)]
    scratch: ScratchArgs,
}

/// Serves until Ctrl-C.
///
/// # Errors
/// When the address cannot be listened on.
pub fn run(args: &DevArgs, telemetry: &Telemetry) -> anyhow::Result<ExitCode> {
    let grace = Duration::from_millis(INTERRUPT_GRACE_MS);
    let interrupt = Interrupt::listen(grace).context("failed to wait for Ctrl-C")?;
    let runtime = main_runtime()?;
    observe_runtime(runtime.handle());
    runtime.block_on(serve(args, telemetry, &interrupt))?;
    // Tasks that hang in a foreign call must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(2));
    Ok(ExitCode::SUCCESS)
}

async fn serve(args: &DevArgs, telemetry: &Telemetry, interrupt: &Interrupt) -> anyhow::Result<()> {
    let listener = RestListener::bind(args.listen, args.tls.load()?).await?;
    let (token, given) = token()?;
    let address = listener.address().to_string();
    let tiers = Tiers::start(args, Token::new(&token), address).await?;
    let statements = Arc::clone(&tiers.statements);
    let clock = SystemClock::default();
    let jobs = statements.jobs().clone();
    observe_jobs(move || Some(jobs.clone()), move || clock.wall_ms());
    introduce(&listener.url(), &token, given);

    let (stop, stopped) = watch::channel(());
    let metrics = guarded(metrics_router(telemetry.scrape()), Token::new(&token));
    let app = tiers.app.clone().merge(metrics);
    let server = tokio::spawn(listener.serve(app, until(stopped.clone())));
    let demo = args.demo.then(|| tokio::spawn(demo::run(statements)));

    let interrupted = interrupt.asked();
    let stopped_by = tiers.until_stopped(interrupted).await;
    drop((stop, stopped));
    let wait = Duration::from_millis(SHUTDOWN_MS);
    // The demo's last rows may be for a pipe that nobody reads any more.
    if let Some(demo) = demo
        && let Ok(ended) = tokio::time::timeout(wait, demo).await
    {
        ended.context("the demo crashed")??;
    }
    match tokio::time::timeout(wait, server).await {
        Ok(served) => served
            .context("the server crashed")?
            .context("failed to serve"),
        // A client holds on to its connection; it has had its time.
        Err(_) => Ok(()),
    }?;
    stopped_by.map_or(Ok(()), |why| bail!("{why}"))
}

/// What jobs run on.
struct Tiers {
    statements: Arc<Statements>,
    /// What clients are answered.
    app: Router,
    durable: Option<Durable>,
}

impl Tiers {
    /// `address`: where clients reach it.
    async fn start(args: &DevArgs, token: Token, address: String) -> anyhow::Result<Tiers> {
        let defaults = JobOptions::default();
        let Some(url) = args.keep.url()? else {
            args.memory.check_unused()?;
            args.scratch.check_unused()?;
            let config = ProcessConfig::default();
            let queries = StateReader::here();
            queries.serve(Arc::clone(&config.store), None);
            let process = Process::start(config);
            let queries = Arc::new(queries);
            let counting = take_census(
                process.jobs.clone(),
                Arc::new(NoStateNodes),
                queries.clone(),
            );
            tokio::spawn(counting);
            let session = Session::new(PlanOptions::default());
            let statements = Arc::new(Statements::new(session, process.jobs, defaults));
            let backend = Backend {
                queries,
                ..Backend::alone(Arc::clone(&statements), address)
            };
            return Ok(Tiers {
                app: router(backend, token),
                statements,
                durable: None,
            });
        };
        let config = DurableConfig {
            defaults,
            memory: MemoryPlan::of_all_tiers(args.memory.bytes()),
            scratch: args.scratch.plan(Some(&url))?,
            token,
            address,
        };
        let durable = Durable::start(OpenedStore::open(&url).await?, config).await?;
        observe_state_node(durable.state_node().clone());
        Ok(Tiers {
            statements: Arc::clone(&durable.leading.statements),
            app: durable.leading.app.clone(),
            durable: Some(durable),
        })
    }

    /// Runs until the user wants no more, or the process cannot go on: why.
    async fn until_stopped(self, interrupted: impl Future<Output = ()>) -> Option<String> {
        let Some(durable) = self.durable else {
            interrupted.await;
            eprintln!("\nstopping: cancelling jobs");
            // Results end with their jobs, and connections with their results.
            self.statements.jobs().shut_down().await;
            return None;
        };
        let why = tokio::select! {
            () = interrupted => None,
            why = durable.cannot_go_on() => Some(why),
        };
        if why.is_none() {
            eprintln!("\nstopping; the next start goes on with the jobs");
        }
        durable.stop().await;
        why
    }
}

async fn until(mut stopped: watch::Receiver<()>) {
    // Nothing is ever sent: the wait ends when the sender goes.
    while stopped.changed().await.is_ok() {}
}

/// The token, and whether the user gave it.
fn token() -> anyhow::Result<(String, bool)> {
    match given_token()? {
        Some(token) => Ok((token, true)),
        None => Ok((random_token()?, false)),
    }
}

/// Tells the user how to get in; the only place where the token is shown.
fn introduce(url: &str, token: &str, given: bool) {
    let shown = if given { "$MILLSTREAM_TOKEN" } else { token };
    eprintln!("Millstream is running; Ctrl-C stops it.");
    eprintln!("  REST API  {url}/v1  (described by /v1/openapi.json)");
    eprintln!("  token     {shown}");
    eprintln!("  metrics   {url}/metrics  (for Prometheus; asks for the token too)");
    eprintln!("  try       curl -H \"Authorization: Bearer {shown}\" {url}/v1/jobs");
    eprintln!();
}
