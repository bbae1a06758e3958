//! How long the state of each node is kept: as a hint says, else as the job's options do.

use proto::plan as wire;

use crate::error::SqlError;

use super::PlanOptions;
use super::node::{Bound, Graph, Node, NodeId, Op};

/// Whether state of a node may expire by age. That of windows goes with them.
pub(crate) fn may_expire(node: &Node) -> bool {
    let is_aged = matches!(
        node.op,
        Op::GroupAggregate(_)
            | Op::Join { .. }
            | Op::Rank(_)
            | Op::Deduplicate(_)
            | Op::OverAggregate(_)
    );
    is_aged && matches!(node.bound, Bound::Unbounded(_) | Bound::Constant)
}

/// How long state of a node is kept; `None`: for ever.
pub(crate) fn of(node: &Node, options: &PlanOptions) -> Option<wire::TtlBound> {
    if !may_expire(node) {
        return None;
    }
    let ms = |input: usize| {
        let hint = node.ttl_ms.get(input).copied().flatten();
        hint.unwrap_or(options.state_ttl_ms)
    };
    let input_ms: Vec<u64> = (0..node.inputs.len()).map(ms).collect();
    let expires = input_ms.iter().any(|ms| *ms > 0);
    expires.then_some(wire::TtlBound {
        input_ms,
        event_time: options.state_ttl_in_event_time,
    })
}

/// Refuses state that would age by event time where there is none.
pub(crate) fn check(graph: &Graph, options: &PlanOptions) -> Result<(), SqlError> {
    if !options.state_ttl_in_event_time {
        return Ok(());
    }
    let live = graph.live();
    for id in (0..graph.nodes.len()).filter(|id| live[*id]) {
        if of(graph.node(id), options).is_none() {
            continue;
        }
        if let Some(table) = timeless(graph, id) {
            return Err(SqlError::plan(format!(
                "state cannot expire in event time: table `{table}` has no watermark"
            ))
            .hint(
                "declare WATERMARK FOR a column of it, or SET 'millstream.state.ttl.time-domain' = \
                 'processing-time'",
            ));
        }
    }
    Ok(())
}

/// A table without a watermark that a node reads, directly or not.
pub(super) fn timeless(graph: &Graph, id: NodeId) -> Option<&str> {
    let node = graph.node(id);
    if let Op::Source(source) = &node.op
        && source.table.watermark.is_none()
    {
        return Some(&source.table.name);
    }
    node.inputs.iter().find_map(|input| timeless(graph, *input))
}

/// "1 d", "90 s": the shortest way to say a duration.
#[must_use]
pub fn duration(ms: u64) -> String {
    let units = [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "min"),
        (1_000, "s"),
    ];
    let whole = units
        .iter()
        .find(|(unit, _)| ms > 0 && ms.is_multiple_of(*unit));
    match whole {
        Some((unit, name)) => format!("{} {name}", ms / unit),
        None => format!("{ms} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_said_in_their_largest_unit() {
        let said: Vec<String> = [0, 1, 1_500, 90_000, 120_000, 5_400_000, 172_800_000]
            .into_iter()
            .map(duration)
            .collect();
        assert_eq!(
            said,
            ["0 ms", "1 ms", "1500 ms", "90 s", "2 min", "90 min", "2 d"]
        );
    }
}
