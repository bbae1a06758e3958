//! The demo job: a windowed count over generated bids, its rows printed as they are committed.

use std::sync::Arc;

use anyhow::Context as _;
use control_plane::{
    StatementResult, Statements,
    results::{Chunk, FeedEnd},
};

use crate::run::{Format, Printer};

/// What it runs.
const DEMO_SQL: &str = include_str!("demo.sql");

/// Starts the job and prints its rows until it ends.
///
/// # Errors
/// When the job cannot be started or fails. The server goes on without it.
pub(super) async fn run(statements: Arc<Statements>) -> anyhow::Result<()> {
    let results = statements
        .execute(DEMO_SQL)
        .await
        .context("failed to start the demo job")?;
    let entry = results
        .into_iter()
        .find_map(|result| match result {
            StatementResult::Job(entry) => Some(entry),
            _ => None,
        })
        .context("the demo has no job")?;
    let feed = entry.feed.clone().context("the demo job has no rows")?;
    let mut reader = feed.reader();
    eprintln!("{}: {}", entry.id, entry.spec.name);
    let mut out = tokio::io::stdout();
    let mut printer = Printer::new(Format::Table, feed.columns().to_vec(), false);
    loop {
        match reader.next().await {
            Chunk::Rows { rows, .. } => {
                if printer.print(&mut out, &rows).await.is_err() {
                    // Nobody looks; the job stays for clients of the API.
                    return Ok(());
                }
            }
            Chunk::End(FeedEnd::Complete) => return Ok(()),
            Chunk::End(FeedEnd::Broken(cause)) => {
                eprintln!("{} ended: {cause}", entry.id);
                return Ok(());
            }
        }
    }
}
