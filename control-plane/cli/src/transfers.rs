//! `millstream jobs export`, `import`, `transfers`: copies of savepoints in other places.

use std::{
    io::{self, Write as _},
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Value, json};

use crate::{
    client::{Client, escaped, job_path},
    output::{OutputArgs, list, object},
    table::cell,
};

/// Pause between two looks at a transfer that is waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

#[derive(Args, Debug)]
pub(crate) struct ExportArgs {
    /// Id of the job.
    job: String,
    /// Name of its savepoint.
    savepoint: String,
    /// An empty place: s3://bucket/prefix, or file:///directory on the state node's machine.
    #[arg(long, value_name = "URL")]
    to: String,
    #[command(flatten)]
    wait: WaitArgs,
}

#[derive(Args, Debug)]
pub(crate) struct ImportArgs {
    /// A place that a savepoint was exported to.
    from: String,
    /// Name of the savepoint that it becomes.
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    wait: WaitArgs,
}

#[derive(Args, Debug)]
struct WaitArgs {
    /// Wait for so many seconds until all is copied; without it, the copy goes on by itself.
    #[arg(long, value_name = "SECONDS")]
    wait: Option<u64>,
}

#[derive(Args, Debug)]
pub(crate) struct TransfersArgs {
    /// Id of one; all if none is given.
    transfer: Option<String>,
    /// Stop it.
    #[arg(long, requires = "transfer")]
    cancel: bool,
}

pub(crate) fn export(client: &Client, output: OutputArgs, args: &ExportArgs) -> anyhow::Result<()> {
    let savepoint = escaped(&args.savepoint);
    let path = format!("{}/savepoints/{savepoint}/export", job_path(&args.job));
    let answer = client.post_text(&path, &json!({ "to": args.to }))?;
    show(client, output, answer, &args.wait)
}

pub(crate) fn import(client: &Client, output: OutputArgs, args: &ImportArgs) -> anyhow::Result<()> {
    let mut body = json!({ "from": args.from });
    if let (Some(fields), Some(name)) = (body.as_object_mut(), &args.name) {
        fields.insert("name".to_owned(), name.as_str().into());
    }
    let answer = client.post_text("/v1/savepoints/import", &body)?;
    show(client, output, answer, &args.wait)
}

pub(crate) fn transfers(
    client: &Client,
    output: OutputArgs,
    args: &TransfersArgs,
) -> anyhow::Result<()> {
    let Some(transfer) = &args.transfer else {
        return output.get(client, "/v1/transfers", |answer| {
            let fields = [
                "id",
                "kind",
                "state",
                "job",
                "savepoint",
                "bytes",
                "total_bytes",
            ];
            list(answer, "transfers", &[&fields[..], &["place"]].concat())
        });
    };
    let path = format!("/v1/transfers/{}", escaped(transfer));
    match args.cancel {
        false => output.get(client, &path, object),
        true => output.answer(
            &client.post_text(&format!("{path}/cancel"), &json!({}))?,
            object,
        ),
    }
}

/// Shows a transfer that was begun, once it has ended if that is waited for.
fn show(
    client: &Client,
    output: OutputArgs,
    mut answer: String,
    wait: &WaitArgs,
) -> anyhow::Result<()> {
    let Some(seconds) = wait.wait else {
        return output.answer(&answer, object);
    };
    let mut looks = Duration::from_secs(seconds).as_millis() / LOOK_AGAIN.as_millis();
    loop {
        let seen: Value = serde_json::from_str(&answer).context("the answer is not JSON")?;
        let field = |name: &str| seen.get(name).map(cell).unwrap_or_default();
        let (id, state) = (field("id"), field("state"));
        match state.as_str() {
            "DONE" => {
                return output.answer(&answer, |seen| {
                    let path = seen.get("path").or_else(|| seen.get("place"));
                    writeln!(io::stdout(), "{}", path.map(cell).unwrap_or_default())?;
                    Ok(())
                });
            }
            "FAILED" => bail!("{id} has failed: {}", field("error")),
            "CANCELED" => bail!("{id} was cancelled"),
            _ if looks == 0 => bail!("{id} is not done in {seconds} s, and goes on: it is {state}"),
            _ => {}
        }
        looks -= 1;
        thread::sleep(LOOK_AGAIN);
        answer = client.get_text(&format!("/v1/transfers/{}", escaped(&id)))?;
    }
}
