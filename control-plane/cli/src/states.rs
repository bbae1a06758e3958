//! `millstream jobs` about state that is kept: savepoints, stopping with one, forks, going on.

use std::{
    io::{self, Write as _},
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use crate::{
    client::{Client, escaped, job_path},
    output::{OutputArgs, list, object},
    table::{cell, cells},
};

/// Pause between looks at a job that is to end.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Which state of a job.
#[derive(Args, Debug)]
pub(crate) struct StateArgs {
    /// Epoch of a checkpoint that can be restored; without it, the newest.
    #[arg(long, conflicts_with = "savepoint")]
    checkpoint: Option<u64>,
    /// Name of a savepoint of the job.
    #[arg(long)]
    savepoint: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct SavepointArgs {
    /// Id of the job.
    job: String,
    /// Its name; without one it is named after its epoch.
    name: Option<String>,
    /// Epoch of a checkpoint that can be restored; without it, the newest.
    #[arg(long, conflicts_with = "delete")]
    checkpoint: Option<u64>,
    /// Delete the savepoint of this name instead.
    #[arg(long, requires = "name")]
    delete: bool,
}

#[derive(Args, Debug)]
pub(crate) struct StopArgs {
    /// Id of the job.
    job: String,
    /// Keep the last checkpoint as a savepoint of this name.
    #[arg(long, value_name = "NAME")]
    savepoint: Option<String>,
    /// Let its sources end first, and time with them: windows fire.
    #[arg(long)]
    drain: bool,
    /// Wait until it has ended, for so many seconds at most.
    #[arg(long, value_name = "SECONDS")]
    wait: Option<u64>,
}

#[derive(Args, Debug)]
pub(crate) struct ResumeArgs {
    /// Id of the job.
    job: String,
    #[command(flatten)]
    state: StateArgs,
}

#[derive(Args, Debug)]
pub(crate) struct ForkArgs {
    /// Id of the job.
    job: String,
    #[command(flatten)]
    state: StateArgs,
    /// Name of the copy.
    #[arg(long)]
    name: Option<String>,
    /// Another option of a table that it writes to, such as `results.path=file:///tmp/trial`; repeated
    /// for more. With `connector` among them, they are all of the table's options.
    #[arg(long = "sink", value_name = "TABLE.OPTION=VALUE")]
    sinks: Vec<String>,
}

/// What of a job's state its successor begins with.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum UpgradeMode {
    /// The job is stopped with a savepoint, when all of its output is written.
    Savepoint,
    /// That of the last checkpoint: the job ends at once. Its output since then comes again.
    LastState,
    /// None.
    Stateless,
}

#[derive(Args, Debug)]
pub(crate) struct UpgradeArgs {
    /// Id of the job.
    job: String,
    /// Its new statement.
    #[arg(short = 'e', long = "execute", value_name = "SQL")]
    sql: String,
    /// What its successor begins with.
    #[arg(long, value_enum, default_value = "savepoint")]
    mode: UpgradeMode,
    /// Name of the savepoint that is made.
    #[arg(long, default_value = "upgrade")]
    savepoint: String,
    /// Leave state alone that the new statement has no use for, instead of refusing it.
    #[arg(long)]
    allow_non_restored_state: bool,
    /// For how many seconds the job may take to end.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    wait: u64,
}

fn part(job: &str, part: &str) -> String {
    format!("{}/{part}", job_path(job))
}

/// An object of what is given.
fn given<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    let fields = fields.into_iter();
    let given = fields.filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(given.collect::<Map<String, Value>>())
}

impl StateArgs {
    fn fields(&self) -> [(&'static str, Option<Value>); 2] {
        [
            ("checkpoint", self.checkpoint.map(Value::from)),
            ("savepoint", self.savepoint.clone().map(Value::from)),
        ]
    }
}

/// Prints id and state of a job that was answered.
fn brief(job: &Value) -> anyhow::Result<()> {
    writeln!(io::stdout(), "{}", cells(job, &["id", "state"]).join(" "))?;
    Ok(())
}

pub(crate) fn savepoints(client: &Client, output: OutputArgs, job: &str) -> anyhow::Result<()> {
    output.get(client, &part(job, "savepoints"), |answer| {
        list(
            answer,
            "savepoints",
            &["name", "checkpoint", "created_ms", "path"],
        )
    })
}

pub(crate) fn savepoint(
    client: &Client,
    output: OutputArgs,
    args: &SavepointArgs,
) -> anyhow::Result<()> {
    let path = part(&args.job, "savepoints");
    if let Some(name) = args.name.as_ref().filter(|_| args.delete) {
        let path = format!("{path}/{}", escaped(name));
        return output.answer(&client.delete(&path)?, |_| {
            writeln!(io::stdout(), "{name} is deleted")?;
            Ok(())
        });
    }
    let body = given([
        ("name", args.name.clone().map(Value::from)),
        ("checkpoint", args.checkpoint.map(Value::from)),
    ]);
    output.answer(&client.post_text(&path, &body)?, object)
}

pub(crate) fn stop(client: &Client, output: OutputArgs, args: &StopArgs) -> anyhow::Result<()> {
    let body = given([
        ("savepoint", args.savepoint.clone().map(Value::from)),
        ("drain", args.drain.then_some(Value::Bool(true))),
    ]);
    let answer = client.post_text(&part(&args.job, "stop"), &body)?;
    match args.wait {
        None => output.answer(&answer, brief),
        Some(seconds) => output.answer(&ended(client, &args.job, seconds)?, brief),
    }
}

/// Waits for a job to end; the last answer about it.
fn ended(client: &Client, job: &str, seconds: u64) -> anyhow::Result<String> {
    let mut looks = Duration::from_secs(seconds).as_millis() / LOOK_AGAIN.as_millis();
    loop {
        let text = client.get_text(&job_path(job))?;
        let answer: Value = serde_json::from_str(&text).context("the answer is not JSON")?;
        let state = answer.get("state").map(cell).unwrap_or_default();
        if ["FINISHED", "FAILED", "CANCELED"].contains(&state.as_str()) {
            return Ok(text);
        }
        if state == "QUARANTINED" {
            let error = answer.get("error").map(cell).unwrap_or_default();
            bail!("{job} is in quarantine and was not stopped: {error}");
        }
        if looks == 0 {
            bail!("{job} has not ended in {seconds} s: it is {state}, and will end all the same");
        }
        looks -= 1;
        thread::sleep(LOOK_AGAIN);
    }
}

pub(crate) fn resume(client: &Client, output: OutputArgs, args: &ResumeArgs) -> anyhow::Result<()> {
    let body = given(args.state.fields());
    output.answer(&client.post_text(&part(&args.job, "resume"), &body)?, brief)
}

pub(crate) fn fork(client: &Client, output: OutputArgs, args: &ForkArgs) -> anyhow::Result<()> {
    let [checkpoint, savepoint] = args.state.fields();
    let sinks = sinks(&args.sinks)?;
    let body = given([
        checkpoint,
        savepoint,
        ("name", args.name.clone().map(Value::from)),
        ("sinks", (!sinks.is_empty()).then_some(Value::Object(sinks))),
    ]);
    output.answer(&client.post_text(&part(&args.job, "forks"), &body)?, brief)
}

/// `table.option=value`; names of options have points, those of tables have none.
fn sinks(texts: &[String]) -> anyhow::Result<Map<String, Value>> {
    let mut sinks = Map::new();
    for text in texts {
        let split = text.split_once('=').and_then(|(name, value)| {
            let (table, option) = name.split_once('.')?;
            Some((table, option, value))
        });
        let Some((table, option, value)) = split else {
            bail!("--sink {text}: write TABLE.OPTION=VALUE");
        };
        let options = sinks.entry(table).or_insert_with(|| json!({}));
        if let Some(options) = options.as_object_mut() {
            options.insert(option.to_owned(), value.into());
        }
    }
    Ok(sinks)
}

/// Has another statement take a job's place, and waits until it has.
pub(crate) fn upgrade(
    client: &Client,
    output: OutputArgs,
    args: &UpgradeArgs,
) -> anyhow::Result<()> {
    let job = &args.job;
    let (mode, savepoint) = match args.mode {
        UpgradeMode::Savepoint => ("savepoint", Some(args.savepoint.as_str().into())),
        UpgradeMode::LastState => ("last_state", Some(args.savepoint.as_str().into())),
        UpgradeMode::Stateless => ("stateless", None),
    };
    let body = given([
        ("sql", Some(args.sql.as_str().into())),
        ("mode", Some(mode.into())),
        ("savepoint", savepoint),
        (
            "allow_non_restored_state",
            args.allow_non_restored_state.then_some(Value::Bool(true)),
        ),
    ]);
    let path = part(job, "upgrade");
    let mut text = client.post_text(&path, &body)?;
    let mut looks = Duration::from_secs(args.wait).as_millis() / LOOK_AGAIN.as_millis();
    loop {
        let seen: Value = serde_json::from_str(&text).context("the answer is not JSON")?;
        let field = |name: &str| seen.get(name).map(cell).unwrap_or_default();
        match field("state").as_str() {
            "DONE" => {
                return output.answer(&text, |seen| {
                    let successor = seen.get("successor").map(cell);
                    writeln!(io::stdout(), "{}", successor.unwrap_or_default())?;
                    Ok(())
                });
            }
            "GIVEN_UP" => bail!("{job} was not replaced: {}", field("reason")),
            _ if looks == 0 => bail!(
                "{job} has not ended in {} s; as soon as it has, the other one takes its place: GET {path} \
                 says when",
                args.wait
            ),
            _ => {}
        }
        looks -= 1;
        thread::sleep(LOOK_AGAIN);
        text = client.get_text(&path)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_sinks_are_split_at_the_first_point() {
        let texts = ["a.path=/x=y", "a.format=json", "b.json.encode=1"].map(str::to_owned);
        let wanted = json!({
            "a": {"path": "/x=y", "format": "json"},
            "b": {"json.encode": "1"},
        });
        assert_eq!(Value::Object(sinks(&texts).expect("good")), wanted);
        for bad in ["a", "a=b", "a.b"] {
            assert!(sinks(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }
}
