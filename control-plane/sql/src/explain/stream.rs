//! A compiled plan as a tree of operators and as fragments.

use std::fmt::Write as _;

use proto::plan::{
    Changelog, Fragment, IntervalJoin, Node, Plan, TtlBound, input, node::Operator, partitioning,
    state_bound,
};

use super::stages::line;
use crate::stream::duration;

/// The stages of a compiled plan: stream plan, fragments, warnings.
#[must_use]
pub fn explain_plan(plan: &Plan) -> String {
    let mut text = String::from("== Stream plan ==\n");
    let fragments_of = plan.fragments.iter().enumerate();
    let nodes = fragments_of.flat_map(|(f, fragment)| {
        let nodes = fragment.nodes.iter().enumerate();
        nodes.map(move |(n, node)| (f, n, node))
    });
    let sinks = nodes.filter(|(_, _, node)| matches!(node.operator, Some(Operator::Sink(_))));
    // What the queries put out comes before what they drop.
    let (late, asked): (Vec<_>, Vec<_>) =
        sinks.partition(|(f, _, node)| ends_late_rows(&plan.fragments[*f], node));
    for (f, n, _) in asked.into_iter().chain(late) {
        stream_tree(&mut text, plan, (f, n), 0);
    }
    text.push_str("\n== Fragments ==\n");
    fragments(&mut text, plan);
    if !plan.warnings.is_empty() {
        text.push_str("\n== Warnings ==\n");
        for warning in &plan.warnings {
            line(&mut text, 0, &format!("- {warning}"));
        }
    }
    text
}

fn stream_tree(text: &mut String, plan: &Plan, (f, n): (usize, usize), depth: usize) {
    let Some(node) = plan.fragments.get(f).and_then(|f| f.nodes.get(n)) else {
        return;
    };
    line(
        text,
        depth,
        &format!("{}{}", node.description, properties(node)),
    );
    for input in &node.inputs {
        match input.from {
            // Not its output: what that is made of is shown where it is read.
            Some(input::From::Node(below)) if is_beside(node) => {
                let dropper = plan.fragments[f].nodes.get(below as usize);
                let description = dropper.map_or("?", |dropper| &dropper.description);
                line(text, depth + 1, description);
            }
            Some(input::From::Node(below)) => {
                stream_tree(text, plan, (f, below as usize), depth + 1);
            }
            Some(input::From::Exchange(id)) => {
                let Some(exchange) = plan.exchanges.get(id as usize) else {
                    continue;
                };
                line(
                    text,
                    depth + 1,
                    &format!("Exchange({})", partitioning_text(plan, id as usize)),
                );
                let sender = (exchange.from_fragment as usize, exchange.from_node as usize);
                stream_tree(text, plan, sender, depth + 2);
            }
            None => {}
        }
    }
}

/// Whether a sink writes late rows: these come from nodes of its own fragment alone.
fn ends_late_rows(fragment: &Fragment, sink: &Node) -> bool {
    let below = |node: &Node| match node.inputs.first()?.from? {
        input::From::Node(n) => fragment.nodes.get(n as usize),
        input::From::Exchange(_) => None,
    };
    let mut chain = std::iter::successors(Some(sink), |node| {
        below(node).filter(|_| !is_beside(node) && node.inputs.len() == 1)
    });
    chain.any(is_beside)
}

fn is_beside(node: &Node) -> bool {
    matches!(node.operator, Some(Operator::LateRows(_)))
}

fn properties(node: &Node) -> String {
    let mut text = String::new();
    if let Some(changelog) = &node.changelog {
        write!(text, ", changelogMode=[{}]", kinds(changelog)).expect("a String takes all text");
    }
    let is_append = node.changelog.as_ref().is_none_or(Changelog::is_append);
    if !node.upsert_keys.is_empty() && !is_append {
        let fields = node.output.as_ref().map_or(&[][..], |row| &row.fields);
        let keys: Vec<String> = node
            .upsert_keys
            .iter()
            .map(|key| {
                let names: Vec<&str> = key
                    .columns
                    .iter()
                    .filter_map(|c| fields.get(*c as usize))
                    .map(|field| field.name.as_str())
                    .collect();
                format!("({})", names.join(", "))
            })
            .collect();
        write!(text, ", upsertKeys=[{}]", keys.join(", ")).expect("a String takes all text");
    }
    let state = match node.state_bound.as_ref().and_then(|b| b.kind.as_ref()) {
        Some(state_bound::Kind::Window(_)) => Some(match &node.operator {
            Some(Operator::IntervalJoin(op)) => interval(op),
            Some(Operator::Join(_)) => "until the watermark is at the times of its rows".to_owned(),
            _ => "until the window closes".to_owned(),
        }),
        Some(state_bound::Kind::Ttl(ttl)) => Some(lifetime(ttl)),
        Some(state_bound::Kind::Unbounded(u)) => Some(format!("unbounded: one {}", u.per)),
        Some(state_bound::Kind::Constant(_)) => Some("constant".to_owned()),
        _ => None,
    };
    if let Some(state) = state {
        write!(text, ", state=[{state}]").expect("a String takes all text");
    }
    text
}

/// Until when rows of both sides are kept.
fn interval(join: &IntervalJoin) -> String {
    let past = |ms: i64| match u64::try_from(ms) {
        Ok(ms @ 1..) => format!("{} past its time", duration(ms)),
        _ => "its time".to_owned(),
    };
    let (left, right) = (past(join.upper_ms), past(join.lower_ms.saturating_neg()));
    format!("until the watermark is: left {left}, right {right}")
}

fn lifetime(ttl: &TtlBound) -> String {
    let said = |ms: &u64| match ms {
        0 => "for ever".to_owned(),
        ms => duration(*ms),
    };
    let all: Vec<String> = ttl.input_ms.iter().map(said).collect();
    let text = match all.as_slice() {
        [left, right] if left != right => format!("ttl: left {left}, right {right}"),
        [first, ..] => format!("ttl: {first}"),
        [] => "ttl".to_owned(),
    };
    match ttl.event_time {
        true => format!("{text}, in event time"),
        false => text,
    }
}

fn kinds(changelog: &Changelog) -> String {
    let all = [
        (changelog.insert, "I"),
        (changelog.update_before, "UB"),
        (changelog.update_after, "UA"),
        (changelog.delete, "D"),
    ];
    let present: Vec<&str> = all
        .iter()
        .filter(|(has, _)| *has)
        .map(|(_, n)| *n)
        .collect();
    present.join(",")
}

fn partitioning_text(plan: &Plan, exchange: usize) -> String {
    let exchange = &plan.exchanges[exchange];
    let fields = plan
        .fragments
        .get(exchange.from_fragment as usize)
        .and_then(|f| f.nodes.get(exchange.from_node as usize))
        .and_then(|node| node.output.as_ref())
        .map_or(&[][..], |row| &row.fields);
    match exchange.partitioning.as_ref().and_then(|p| p.kind.as_ref()) {
        Some(partitioning::Kind::Hash(hash)) => {
            let names: Vec<&str> = hash
                .columns
                .iter()
                .filter_map(|c| fields.get(*c as usize))
                .map(|field| field.name.as_str())
                .collect();
            format!("hash[{}]", names.join(", "))
        }
        Some(partitioning::Kind::Single(_)) => "single".to_owned(),
        Some(partitioning::Kind::Rebalance(_)) => "rebalance".to_owned(),
        Some(partitioning::Kind::Broadcast(_)) => "broadcast".to_owned(),
        None => "?".to_owned(),
    }
}

fn fragments(text: &mut String, plan: &Plan) {
    for (f, fragment) in plan.fragments.iter().enumerate() {
        let singleton = if fragment.singleton {
            " (singleton)"
        } else {
            ""
        };
        line(text, 0, &format!("Fragment {f}{singleton}"));
        for (n, node) in fragment.nodes.iter().enumerate() {
            let inputs: Vec<String> = node
                .inputs
                .iter()
                .map(|input| match input.from {
                    Some(input::From::Node(n)) => format!("node {n}"),
                    Some(input::From::Exchange(e)) => format!("exchange {e}"),
                    None => "?".to_owned(),
                })
                .collect();
            let inputs = if inputs.is_empty() {
                String::new()
            } else {
                format!(" <- {}", inputs.join(", "))
            };
            line(text, 1, &format!("{n}: {}{inputs}", node.id));
        }
    }
    for (e, exchange) in plan.exchanges.iter().enumerate() {
        let content = format!(
            "Exchange {e}: fragment {} node {} -> fragment {}, {}",
            exchange.from_fragment,
            exchange.from_node,
            exchange.to_fragment,
            partitioning_text(plan, e)
        );
        line(text, 0, &content);
    }
}
