//! Joins as one line for people.

use proto::plan as wire;

use crate::logical::Expr;

use super::describe::{expression, field_names, sort_text};
use super::node::{JoinOn, LookupTable, Op};
use super::until::RowTime;

/// A join, with what follows its condition.
pub(super) fn join(op: &Op, inputs: &[Vec<String>]) -> String {
    let (left, right) = (&inputs[0], &inputs[1]);
    match op {
        Op::Join {
            kind,
            left_keys,
            right_keys,
            null_safe,
            condition,
            until,
            best,
        } => {
            let keys = key_text((left_keys, left), (right_keys, right), null_safe);
            let mut more = until_text(until, (left, right));
            if let Some(best) = best {
                more.push_str(&best_text(best, (left, right)));
            }
            let condition = condition.as_ref();
            join_text("Join", *kind, &keys, condition, (left, right), &more)
        }
        Op::WindowJoin {
            kind,
            left_keys,
            right_keys,
            null_safe,
            condition,
            ..
        } => {
            let keys = key_text((left_keys, left), (right_keys, right), null_safe);
            let condition = condition.as_ref();
            join_text("WindowJoin", *kind, &keys, condition, (left, right), "")
        }
        Op::IntervalJoin {
            on,
            left_time,
            right_time,
            lower_ms,
            upper_ms,
        } => {
            let (left_time, right_time) = (&left[*left_time], &right[*right_time]);
            let interval = format!(
                ", interval=[{right_time} - {left_time} BETWEEN {lower_ms} ms AND {upper_ms} ms]"
            );
            joined_on("IntervalJoin", on, (left, right), &interval)
        }
        Op::TemporalJoin {
            on,
            left_time,
            right_time,
        } => {
            let times = format!(
                ", asOf=[{}], versions=[{}]",
                left[*left_time], right[*right_time]
            );
            joined_on("TemporalJoin", on, (left, right), &times)
        }
        _ => String::new(),
    }
}

/// A join of many inputs.
pub(super) fn multi_join(
    keys: &[Vec<usize>],
    null_safe: &[bool],
    inputs: &[Vec<String>],
) -> String {
    let key = |(at, null_safe): (usize, &bool)| {
        let columns = keys.iter().zip(inputs);
        let columns = columns.map(|(keys, names)| names[keys[at]].as_str());
        let columns: Vec<&str> = columns.collect();
        columns.join(match null_safe {
            true => " IS NOT DISTINCT FROM ",
            false => " = ",
        })
    };
    let on: Vec<String> = null_safe.iter().enumerate().map(key).collect();
    format!("MultiJoin(type=[INNER], on=[{}])", on.join(" AND "))
}

/// A lookup join, with what is read of the table.
pub(super) fn lookup_join(on: &JoinOn, table: &LookupTable, left: &[String]) -> String {
    let right = field_names(&table.fields);
    let mut more = format!(", table=[{}]", table.table.name);
    if let Some(condition) = &table.condition {
        let produced = field_names(&table.produced);
        more.push_str(&format!(", filter=[{}]", expression(condition, &produced)));
    }
    joined_on("LookupJoin", on, (left, &right), &more)
}

type Sides<'a> = (&'a [String], &'a [String]);

/// Until when rows are needed, by the times that they have themselves.
fn until_text(until: &[Vec<RowTime>; 2], (left, right): Sides<'_>) -> String {
    let sides = [("left", left), ("right", right)];
    let said = until
        .iter()
        .zip(sides)
        .filter(|(times, _)| !times.is_empty());
    let said = said.map(|(times, (side, names))| {
        let time = |time: &RowTime| {
            let text = expression(&time.time, names);
            match time.plus_ms {
                0 => text,
                ms if ms < 0 => format!("{text} - {} ms", ms.unsigned_abs()),
                ms => format!("{text} + {ms} ms"),
            }
        };
        let times: Vec<String> = times.iter().map(time).collect();
        match times.as_slice() {
            [time] => format!("{side} {time}"),
            times => format!("{side} LEAST({})", times.join(", ")),
        }
    });
    match said.collect::<Vec<_>>() {
        said if said.is_empty() => String::new(),
        said => format!(", until=[{}]", said.join("; ")),
    }
}

/// Which pairs are wanted of each row of a side, or of each key.
fn best_text(best: &wire::BestPair, (left, right): Sides<'_>) -> String {
    let (per, others) = match best.per_right {
        true => ("right row", left),
        false => ("left row", right),
    };
    let per = if best.per_key { "key" } else { per };
    format!(", best=[per {per}: {}]", sort_text(&best.order_by, others))
}

fn joined_on(name: &str, on: &JoinOn, (left, right): Sides<'_>, more: &str) -> String {
    let keys = key_text(
        (&on.left_keys, left),
        (&on.right_keys, right),
        &on.null_safe,
    );
    let condition = on.condition.as_ref();
    join_text(name, on.kind, &keys, condition, (left, right), more)
}

fn key_text(left: (&[usize], &[String]), right: (&[usize], &[String]), safe: &[bool]) -> String {
    let pairs = left.0.iter().zip(right.0).zip(safe);
    let texts: Vec<String> = pairs
        .map(|((l, r), null_safe)| {
            let equal = match null_safe {
                true => "IS NOT DISTINCT FROM",
                false => "=",
            };
            format!("{} {equal} {}", left.1[*l], right.1[*r])
        })
        .collect();
    texts.join(" AND ")
}

fn join_text(
    name: &str,
    kind: wire::JoinType,
    keys: &str,
    condition: Option<&Expr>,
    (left, right): Sides<'_>,
    more: &str,
) -> String {
    let mut text = format!("{name}(type=[{}], on=[{keys}]", kind.as_str_name());
    if let Some(condition) = condition {
        let names: Vec<String> = left.iter().chain(right).cloned().collect();
        text.push_str(&format!(", where=[{}]", expression(condition, &names)));
    }
    format!("{text}{more})")
}
