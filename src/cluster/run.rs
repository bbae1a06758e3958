//! What every process of a cluster does around its work.

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use anyhow::Context as _;
use control_plane::api::Token;
use tokio::net::TcpListener;

use crate::{
    interrupt::Interrupt,
    serve::given_secret,
    telemetry::{Telemetry, observe_runtime, serve_metrics},
    threads::main_runtime,
};

/// Variable that may hold what those show who ask for metrics. Not the token of the REST API, which
/// must not travel in plain text.
const METRICS_TOKEN: &str = "MILLSTREAM_METRICS_TOKEN";

/// How long everything may take to end after Ctrl-C.
pub(super) const INTERRUPT_GRACE: Duration = Duration::from_secs(5);

/// How long the runtime's tasks may take to end after that.
const RUNTIME_GRACE: Duration = Duration::from_secs(2);

/// Runs `work` on a runtime of its own. It ends by itself when Ctrl-C is pressed, at the latest after
/// `grace`, or with an error.
pub(super) fn until_stopped<W>(
    grace: Duration,
    work: impl FnOnce(Interrupt) -> W,
) -> anyhow::Result<ExitCode>
where
    W: Future<Output = anyhow::Result<()>>,
{
    let interrupt = Interrupt::listen(grace).context("failed to wait for Ctrl-C")?;
    let runtime = main_runtime()?;
    observe_runtime(runtime.handle());
    let worked = runtime.block_on(work(interrupt));
    // Tasks that hang in a foreign call must not keep the process.
    runtime.shutdown_timeout(RUNTIME_GRACE);
    worked.map(|()| ExitCode::SUCCESS)
}

/// Serves `/metrics` at `address`, if there is one, until the process ends.
pub(super) async fn metrics(
    address: Option<SocketAddr>,
    telemetry: &Telemetry,
) -> anyhow::Result<()> {
    let Some(address) = address else {
        return std::future::pending().await;
    };
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("failed to listen on {address} for metrics"))?;
    let token = given_secret(METRICS_TOKEN)?.map(|token| Token::new(&token));
    let stop = std::future::pending();
    serve_metrics(listener, token, telemetry.scrape(), stop).await?;
    Ok(())
}
