//! `millstream jobs scale` and `jobs autoscaler`: how many tasks a job has, and why.

use std::io::{self, Write as _};

use clap::{ArgGroup, Args};
use serde_json::{Map, Value, json};

use crate::{
    client::{Client, job_path},
    output::{OutputArgs, list},
    table::{cell, cells, print},
};

/// Another parallelism for a job.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("parallelism").required(true).args(["tasks", "operators", "auto"]))]
pub(crate) struct ScaleArgs {
    /// Id of the job.
    job: String,
    /// Tasks for every part of the plan that runs in parallel.
    tasks: Option<u32>,
    /// Tasks for the part of the plan that has this operator; may be given several times.
    #[arg(long = "operator", value_name = "ID=TASKS", value_parser = operator)]
    operators: Vec<(String, u32)>,
    /// As many tasks as the load needs, between these bounds.
    #[arg(long, value_name = "MIN..MAX", value_parser = bounds)]
    auto: Option<(u32, u32)>,
    /// Part of its time that a task should be at work [default: 0.8].
    #[arg(long, value_name = "PART", requires = "auto", conflicts_with_all = ["tasks", "operators"])]
    target_utilisation: Option<f64>,
    /// Time in which what has piled up before a source should be worked off [default: 60000].
    #[arg(long, value_name = "MS", requires = "auto", conflicts_with_all = ["tasks", "operators"])]
    catch_up_ms: Option<u64>,
}

fn operator(text: &str) -> Result<(String, u32), String> {
    let form = || "expected an operator and a number of tasks such as 3-join=4".to_owned();
    let (id, tasks) = text.rsplit_once('=').ok_or_else(form)?;
    let tasks = tasks.trim().parse().map_err(|_| form())?;
    match id.trim() {
        "" => Err(form()),
        id => Ok((id.to_owned(), tasks)),
    }
}

fn bounds(text: &str) -> Result<(u32, u32), String> {
    let form = || "expected two numbers of tasks such as 1..8".to_owned();
    let (min, max) = text.split_once("..").ok_or_else(form)?;
    let number = |text: &str| text.trim().parse().map_err(|_| form());
    Ok((number(min)?, number(max)?))
}

impl ScaleArgs {
    fn body(&self) -> Value {
        let parallelism = if let Some(tasks) = self.tasks {
            json!(tasks)
        } else if let Some((min, max)) = self.auto {
            let mut auto = Map::new();
            auto.insert("min".to_owned(), json!(min));
            auto.insert("max".to_owned(), json!(max));
            if let Some(target) = self.target_utilisation {
                auto.insert("target_utilisation".to_owned(), json!(target));
            }
            if let Some(ms) = self.catch_up_ms {
                auto.insert("catch_up_ms".to_owned(), json!(ms));
            }
            json!({ "auto": auto })
        } else {
            let operators = self.operators.iter();
            let operators = operators.map(|(id, tasks)| (id.clone(), json!(tasks)));
            json!({ "operators": operators.collect::<Map<String, Value>>() })
        };
        json!({ "parallelism": parallelism })
    }
}

/// Changes a job's parallelism.
pub(crate) fn scale(client: &Client, output: OutputArgs, args: &ScaleArgs) -> anyhow::Result<()> {
    let answer = client.patch_text(&job_path(&args.job), &args.body())?;
    output.answer(&answer, |job| {
        writeln!(io::stdout(), "{}", cells(job, &["id", "state"]).join(" "))?;
        Ok(())
    })
}

/// Shows how a job follows its load.
pub(crate) fn show(answer: &Value) -> anyhow::Result<()> {
    let mut out = io::stdout();
    match answer.get("policy").filter(|policy| !policy.is_null()) {
        Some(policy) => {
            let of = |name: &str| policy.get(name).map_or_else(String::new, cell);
            let state = answer.get("state").map_or_else(String::new, cell);
            writeln!(
                out,
                "{} to {} tasks, at work {} of their time, catching up within {} ms: {state}",
                of("min"),
                of("max"),
                of("target_utilisation"),
                of("catch_up_ms"),
            )?;
        }
        None => writeln!(out, "the parallelism is fixed")?,
    }
    let notes = answer.get("notes").and_then(Value::as_array);
    for note in notes.into_iter().flatten() {
        writeln!(out, "note: {}", cell(note))?;
    }
    if let Some(observation) = answer.get("observation").filter(|seen| !seen.is_null()) {
        writeln!(out)?;
        figures(
            observation,
            "sources",
            &["table", "arrival_per_s", "rows_per_s", "backlog_rows"],
        )?;
        writeln!(out)?;
        figures(
            observation,
            "fragments",
            &[
                "fragment",
                "name",
                "tasks",
                "needed",
                "target_per_s",
                "per_task_per_s",
                "busy",
                "busiest",
                "blocked",
                "state_wait",
            ],
        )?;
    }
    writeln!(out)?;
    list(
        answer,
        "decisions",
        &["number", "after_ms", "kind", "outcome", "reason"],
    )
}

/// Objects as a table, their figures with three digits.
fn figures(answer: &Value, name: &str, fields: &[&str]) -> anyhow::Result<()> {
    let objects = answer.get(name).and_then(Value::as_array);
    let row = |object: &Value| -> Vec<String> {
        let shown = |field: &&str| match object.get(*field) {
            Some(Value::Number(number)) if number.is_f64() => {
                short(number.as_f64().unwrap_or_default())
            }
            Some(value) => cell(value),
            None => String::new(),
        };
        fields.iter().map(shown).collect()
    };
    let rows: Vec<Vec<String>> = objects.into_iter().flatten().map(row).collect();
    let header: Vec<String> = fields.iter().map(|field| field.to_uppercase()).collect();
    print(&mut io::stdout(), &header, &rows)?;
    Ok(())
}

fn short(figure: f64) -> String {
    match figure {
        figure if figure >= 10.0 => format!("{figure:.0}"),
        figure => format!("{figure:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser, Debug)]
    struct Line {
        #[command(flatten)]
        scale: ScaleArgs,
    }

    fn body(words: &[&str]) -> Result<Value, String> {
        let words = ["scale", "job_1"].iter().chain(words);
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        Ok(line.scale.body()["parallelism"].clone())
    }

    #[test]
    fn a_parallelism_is_one_of_three() {
        assert_eq!(body(&["4"]), Ok(json!(4)));
        assert_eq!(
            body(&["--operator", "a=b=2", "--operator", "c=3"]),
            Ok(json!({"operators": {"a=b": 2, "c": 3}}))
        );
        assert_eq!(
            body(&["--auto", "1..8"]),
            Ok(json!({"auto": {"min": 1, "max": 8}}))
        );
        let all = [
            "--auto",
            "1..8",
            "--target-utilisation",
            "0.7",
            "--catch-up-ms",
            "5000",
        ];
        let auto = json!({"min": 1, "max": 8, "target_utilisation": 0.7, "catch_up_ms": 5000});
        assert_eq!(body(&all), Ok(json!({ "auto": auto })));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let check = |words: &[&str], expected: &str| {
            let error = body(words).expect_err("refused");
            assert!(error.contains(expected), "{error}");
        };
        check(&[], "required");
        check(&["4", "--auto", "1..8"], "cannot be used with");
        check(&["--auto", "8"], "two numbers of tasks such as 1..8");
        check(&["--operator", "=4"], "an operator and a number of tasks");
        check(&["4", "--target-utilisation", "0.5"], "cannot be used with");
    }
}
