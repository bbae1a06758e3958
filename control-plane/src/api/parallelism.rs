//! `PATCH /v1/jobs/{id}`: another parallelism for a job, by number or by its load.

use std::collections::BTreeMap;

use axum::{
    Json,
    body::Bytes,
    extract::{State, rejection::BytesRejection},
    http::{HeaderMap, StatusCode},
};
use proto::{plan::Plan, policy::AutoscalePolicy};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{
    backend::Backend,
    body::{Fields, Shape},
    jobs::{JobView, Named, view_of},
    problem::Problem,
};
use crate::{Scale, caps::PARALLELISM_MAX};

const SHAPE: Shape = Shape {
    fields: &["parallelism"],
    example: r#"{"parallelism": 4} or {"parallelism": {"auto": {"min": 1, "max": 8}}}"#,
};

/// What is to change about a job.
#[derive(ToSchema, Debug)]
#[expect(dead_code, reason = "describes what is read by hand")]
pub(super) struct JobChange {
    /// A number of tasks for every part of the plan that runs in parallel; or
    /// `{"operators": {"<id>": 4}}` for the parts with these operators; or
    /// `{"auto": {"min": 1, "max": 8, "target_utilisation": 0.8, "catch_up_ms": 60000}}`: as many as
    /// the load needs. A number ends that the parallelism follows the load.
    #[schema(value_type = Object, example = json!({"auto": {"min": 1, "max": 8}}))]
    parallelism: (),
}

/// Change a job
///
/// Its parallelism changes while it runs: nothing is restarted, nothing is processed again.
#[utoipa::path(
    patch,
    path = "/v1/jobs/{id}",
    operation_id = "changeJob",
    tag = "jobs",
    params(("id" = String, Path, description = "Id of the job")),
    request_body = JobChange,
    responses(
        (status = 202, description = "It is being changed", body = JobView),
        (status = 400, description = "The body is not JSON", body = Problem),
        (status = 404, description = "There is no such job", body = Problem),
        (status = 409, description = "It cannot be changed so", body = Problem),
        (status = 413, description = "The body is too large", body = Problem),
        (status = 415, description = "The body is of another type", body = Problem),
        (status = 422, description = "The body asks for what cannot be", body = Problem),
    ),
)]
pub(super) async fn change(
    State(backend): State<Backend>,
    Named(entry): Named,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<JobView>), Problem> {
    let fields = SHAPE.read(&headers, body)?;
    let parallelism = parallelism(&fields, &entry.spec.plan)?;
    backend
        .statements
        .jobs()
        .scale(entry.id, parallelism)
        .await?;
    let view = view_of(&backend, &entry).await;
    Ok((StatusCode::ACCEPTED, Json(view)))
}

fn parallelism(fields: &Fields, plan: &Plan) -> Result<Scale, Problem> {
    let wrong = |why: &str| fields.wrong("parallelism", why);
    let object = match fields.value("parallelism")? {
        Value::Number(number) => {
            let tasks = number.as_u64().and_then(|tasks| u32::try_from(tasks).ok());
            let tasks = tasks.ok_or_else(|| wrong("is not a whole number of tasks"))?;
            return Ok(Scale::All(tasks));
        }
        Value::Object(object) if object.len() == 1 => object,
        _ => {
            return Err(wrong(
                "is neither a number nor one of `auto` and `operators`",
            ));
        }
    };
    match object.iter().next() {
        Some((name, Value::Object(auto))) if name == "auto" => {
            Ok(Scale::Auto(policy(auto, plan).map_err(|why| wrong(&why))?))
        }
        Some((name, Value::Object(operators))) if name == "operators" => {
            let of = of_operators(operators, plan).map_err(|why| wrong(&why))?;
            Ok(Scale::Fragments(of))
        }
        _ => Err(wrong(
            "has neither an object `auto` nor an object `operators`",
        )),
    }
}

fn policy(auto: &Map<String, Value>, plan: &Plan) -> Result<AutoscalePolicy, String> {
    const NAMES: [&str; 4] = ["min", "max", "target_utilisation", "catch_up_ms"];
    if let Some(unknown) = auto.keys().find(|name| !NAMES.contains(&name.as_str())) {
        return Err(format!("has an unknown field `auto.{unknown}`"));
    }
    let whole = |name: &str| match auto.get(name) {
        None => Ok(None),
        Some(value) => match value.as_u64() {
            Some(number) => Ok(Some(number)),
            None => Err(format!(
                "has a field `auto.{name}` that is not a whole number"
            )),
        },
    };
    let tasks = |name: &str| {
        let number = whole(name)?.map(u32::try_from).transpose();
        number.map_err(|_| format!("has a field `auto.{name}` that is too large"))
    };
    let min = tasks("min")?.unwrap_or(1);
    let limit = PARALLELISM_MAX.min(plan.key_groups.max(1));
    let most = AutoscalePolicy::MAX_DEFAULT.min(limit).max(min);
    let max = tasks("max")?.unwrap_or(most);
    let target = match auto.get("target_utilisation") {
        None => None,
        Some(value) => match value.as_f64() {
            Some(target) => Some((target * 100.0).round() as u32),
            None => return Err("has a field `auto.target_utilisation` that is no number".into()),
        },
    };
    let policy = AutoscalePolicy::between(min, max);
    let policy = AutoscalePolicy {
        target_percent: target.unwrap_or(policy.target_percent),
        catch_up_ms: whole("catch_up_ms")?.unwrap_or(policy.catch_up_ms),
        ..policy
    };
    match policy.check(limit) {
        Ok(()) => Ok(policy),
        Err(error) => Err(format!("cannot be: {error}")),
    }
}

/// Tasks by fragment, from tasks by operator.
fn of_operators(operators: &Map<String, Value>, plan: &Plan) -> Result<BTreeMap<u32, u32>, String> {
    let mut fragments = BTreeMap::new();
    for (operator, tasks) in operators {
        let tasks = tasks.as_u64().and_then(|tasks| u32::try_from(tasks).ok());
        let Some(tasks) = tasks else {
            return Err(format!("has no whole number of tasks for `{operator}`"));
        };
        let has = |fragment: &&proto::plan::Fragment| {
            fragment.nodes.iter().any(|node| node.id == *operator)
        };
        let Some(fragment) = plan.fragments.iter().find(has) else {
            return Err(format!(
                "names `{operator}`, which is no operator of the job: GET its /plan"
            ));
        };
        if let Some(other) = fragments.insert(fragment.id, tasks)
            && other != tasks
        {
            return Err(format!(
                "wants {other} and {tasks} tasks for operators of fragment {}, which run together",
                fragment.id
            ));
        }
    }
    match fragments.is_empty() {
        true => Err("names no operator".to_owned()),
        false => Ok(fragments),
    }
}

#[cfg(test)]
mod tests {
    use proto::plan::{Fragment, Node};
    use serde_json::json;

    use super::*;

    fn plan() -> Plan {
        let node = |id: &str| Node {
            id: id.to_owned(),
            ..Node::default()
        };
        let fragment = |id, nodes: &[&str]| Fragment {
            id,
            nodes: nodes.iter().map(|id| node(id)).collect(),
            singleton: false,
        };
        Plan {
            key_groups: 256,
            fragments: vec![fragment(0, &["a", "b"]), fragment(1, &["c"])],
            ..Plan::default()
        }
    }

    fn read(value: &Value) -> Result<Scale, String> {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", "application/json".parse().expect("a type"));
        let body = json!({ "parallelism": value }).to_string();
        let fields = SHAPE.read(&headers, Ok(body.into()));
        let fields = fields.map_err(|problem| format!("{problem:?}"))?;
        parallelism(&fields, &plan()).map_err(|problem| format!("{problem:?}"))
    }

    #[test]
    fn a_parallelism_is_a_number_or_an_object() {
        let check = |value: Value, expected| assert_eq!(read(&value), Ok(expected));
        check(json!(4), Scale::All(4));
        check(
            json!({"operators": {"a": 2, "b": 2, "c": 3}}),
            Scale::Fragments([(0, 2), (1, 3)].into()),
        );
        check(
            json!({"auto": {}}),
            Scale::Auto(AutoscalePolicy::between(1, 32)),
        );
        check(
            json!({"auto": {"min": 2, "max": 8, "target_utilisation": 0.7, "catch_up_ms": 5000}}),
            Scale::Auto(AutoscalePolicy {
                min: 2,
                max: 8,
                target_percent: 70,
                catch_up_ms: 5000,
            }),
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        let check = |value: Value, expected: &str| {
            let error = read(&value).expect_err("refused");
            assert!(error.contains(expected), "{error}");
        };
        check(json!(-1), "is not a whole number of tasks");
        check(json!(1.5), "is not a whole number of tasks");
        check(json!("4"), "is neither a number nor one of");
        check(json!({}), "is neither a number nor one of");
        check(json!({"auto": 4}), "has neither an object `auto` nor");
        check(json!({"auto": {"mix": 4}}), "unknown field `auto.mix`");
        check(
            json!({"auto": {"min": "1"}}),
            "`auto.min` that is not a whole number",
        );
        check(
            json!({"auto": {"max": 1_u64 << 40}}),
            "`auto.max` that is too large",
        );
        check(
            json!({"auto": {"min": 9, "max": 8}}),
            "with 1 <= min <= max",
        );
        check(
            json!({"auto": {"max": 257}}),
            "at most 256, the number of key groups",
        );
        check(
            json!({"auto": {"target_utilisation": 2}}),
            "between 0.1 and 0.95",
        );
        check(
            json!({"auto": {"target_utilisation": "x"}}),
            "that is no number",
        );
        check(json!({"auto": {"catch_up_ms": 1}}), "at least 1 s");
        check(json!({"operators": {}}), "names no operator");
        check(json!({"operators": {"z": 1}}), "is no operator of the job");
        check(
            json!({"operators": {"a": "x"}}),
            "no whole number of tasks for `a`",
        );
        check(
            json!({"operators": {"a": 1, "b": 2}}),
            "wants 1 and 2 tasks for operators of fragment 0",
        );
    }
}
