//! Where operators with state stand in a plan, and what makes the state of one unusable for another.

use std::collections::BTreeMap;

use proto::plan::{
    AggregateCall, BestPair, Exchange, Join, Node, Partitioning, Plan, WindowAggregate, WindowSpec,
    input, node::Operator, state_bound::Kind, window_aggregate::Windowing,
};

/// An operator with state, and where it stands.
pub(super) struct Place<'a> {
    pub(super) node: &'a Node,
    /// Its fragment, and its place there.
    pub(super) at: (u32, u32),
    /// Whether it runs as one task, which then has all keys in one group.
    singleton: bool,
    inputs: Vec<(&'a Node, Option<&'a Partitioning>)>,
}

impl Place<'_> {
    /// What makes the state of one unusable for the other.
    pub(super) fn differs(&self, other: &Place<'_>) -> Option<&'static str> {
        let names = |place: &Place<'_>| -> Vec<String> {
            place
                .node
                .tables
                .iter()
                .map(|table| table.name.clone())
                .collect()
        };
        if names(self) != names(other) {
            return Some("it keeps other tables");
        }
        if let (Some(Operator::Source(was)), Some(Operator::Source(is))) =
            (&self.node.operator, &other.node.operator)
        {
            // Which columns it makes is of no interest to how far it has read.
            return (was.connector != is.connector).then_some("its table is read otherwise");
        }
        if let Some(was) = best_of_key(self.node)
            && best_of_key(other.node) != Some(was)
        {
            return Some(
                "it has kept of each key what may become the best pair only, and whoever reads it now wants \
                 others",
            );
        }
        if what_it_does(self.node) != what_it_does(other.node) {
            let is_same = self.singleton == other.singleton && aggregates_alike(self, other);
            return (!is_same).then_some("it does something else with its columns");
        }
        if expiring(self.node) != expiring(other.node) {
            return Some(
                "rows have the time of their last change where they expire, and only there: change how \
                 long they live, but not whether they do (one that never ends is '36500 d')",
            );
        }
        if self.singleton != other.singleton || self.inputs.len() != other.inputs.len() {
            return Some("its keys are spread otherwise");
        }
        for ((was, was_cut), (is, is_cut)) in self.inputs.iter().zip(&other.inputs) {
            let types = |node: &Node| -> Vec<String> {
                let output = node.output.iter().flat_map(|output| &output.fields);
                output.map(|field| field.r#type.clone()).collect()
            };
            if types(was) != types(is) {
                return Some("its input has other types");
            }
            if was.upsert_keys != is.upsert_keys || was.changelog != is.changelog {
                return Some("its input changes otherwise, or has other keys");
            }
            if was_cut != is_cut {
                return Some("its keys are spread otherwise");
            }
        }
        None
    }
}

/// What an operator does, as far as its state is concerned. Which pairs a join leaves out depends on who
/// reads it.
fn what_it_does(node: &Node) -> Option<Operator> {
    match &node.operator {
        Some(Operator::Join(join)) => Some(Operator::Join(Join {
            best_pair: None,
            ..join.clone()
        })),
        other => other.clone(),
    }
}

/// By which order a join keeps rows only if they may become the best of their key.
pub(super) fn best_of_key(node: &Node) -> Option<&BestPair> {
    match &node.operator {
        Some(Operator::Join(join)) => join.best_pair.as_ref().filter(|best| best.per_key),
        _ => None,
    }
}

/// Whether two operators of one id aggregate the same windows by the same keys, the one rows and the other
/// their partial results: the accumulators are the same then.
fn aggregates_alike(was: &Place<'_>, is: &Place<'_>) -> bool {
    let (Some(Operator::WindowAggregate(one)), Some(Operator::WindowAggregate(other))) =
        (&was.node.operator, &is.node.operator)
    else {
        return false;
    };
    let key_types = |place: &Place<'_>, keys: &[u32]| -> Option<Vec<String>> {
        let (input, _) = place.inputs.first()?;
        let columns = &input.output.as_ref()?.fields;
        let types = keys.iter().map(|key| columns.get(*key as usize));
        types.map(|field| Some(field?.r#type.clone())).collect()
    };
    // Of rows, calls that are the same are computed once.
    let is_repeated = |aggregate: &WindowAggregate| {
        let calls: Vec<AggregateCall> = aggregate.calls.iter().map(unnamed).collect();
        let mut calls = calls.iter().enumerate();
        let all = calls.clone();
        let is_again = |(at, call)| all.clone().take(at).any(|(_, other)| other == call);
        !aggregate.from_partial && calls.any(is_again)
    };
    one.from_partial != other.from_partial
        && whatever_it_reads(one) == whatever_it_reads(other)
        && key_types(was, &one.keys) == key_types(is, &other.keys)
        && !is_repeated(one)
        && !is_repeated(other)
}

fn unnamed(call: &AggregateCall) -> AggregateCall {
    AggregateCall {
        name: String::new(),
        ..call.clone()
    }
}

/// A window aggregate but for the columns of its input.
fn whatever_it_reads(aggregate: &WindowAggregate) -> WindowAggregate {
    let call = |call: &AggregateCall| AggregateCall {
        args: Vec::new(),
        filter: None,
        ..unnamed(call)
    };
    let windowing = aggregate
        .windowing
        .clone()
        .map(|windowing| match windowing {
            Windowing::Window(window) => Windowing::Window(WindowSpec {
                time_column: 0,
                ..window
            }),
            Windowing::Attached(window) => Windowing::Attached(window),
        });
    WindowAggregate {
        keys: (0..).take(aggregate.keys.len()).collect(),
        calls: aggregate.calls.iter().map(call).collect(),
        windowing,
        properties: aggregate.properties.clone(),
        from_partial: false,
    }
}

/// Which of its inputs' rows an operator keeps with the time of their last change.
fn expiring(node: &Node) -> Vec<bool> {
    let bound = node
        .state_bound
        .as_ref()
        .and_then(|bound| bound.kind.as_ref());
    let of_input = |input: usize| match bound {
        Some(Kind::Ttl(ttl)) => ttl.input_ms.get(input).is_some_and(|ms| *ms > 0),
        _ => false,
    };
    (0..node.inputs.len()).map(of_input).collect()
}

/// Operators with state, by their ids.
pub(super) fn stateful(plan: &Plan) -> BTreeMap<&str, Place<'_>> {
    let mut places = BTreeMap::new();
    for fragment in &plan.fragments {
        for (index, node) in (0..).zip(&fragment.nodes) {
            if node.tables.is_empty() {
                continue;
            }
            let exchange = |id: u32| -> Option<&Exchange> { plan.exchanges.get(id as usize) };
            let inputs = node.inputs.iter().filter_map(|input| match input.from? {
                input::From::Node(index) => Some((fragment.nodes.get(index as usize)?, None)),
                input::From::Exchange(id) => {
                    let exchange = exchange(id)?;
                    let from = plan.fragments.get(exchange.from_fragment as usize)?;
                    let from = from.nodes.get(exchange.from_node as usize)?;
                    Some((from, exchange.partitioning.as_ref()))
                }
            });
            let place = Place {
                node,
                at: (fragment.id, index),
                singleton: fragment.singleton,
                inputs: inputs.collect(),
            };
            places.insert(node.id.as_str(), place);
        }
    }
    places
}

/// A node by its fragment, and its place there.
pub(super) fn node_at(plan: &Plan, (fragment, index): (u32, u32)) -> Option<&Node> {
    let nodes = &plan.fragments.get(fragment as usize)?.nodes;
    nodes.get(index as usize)
}

/// Where the inputs of a node are.
pub(super) fn inputs_of(plan: &Plan, at: (u32, u32)) -> Vec<(u32, u32)> {
    let inputs = node_at(plan, at).map_or(&[][..], |node| &node.inputs);
    let places = inputs.iter().filter_map(|input| match input.from? {
        input::From::Node(index) => Some((at.0, index)),
        input::From::Exchange(id) => {
            let exchange = plan.exchanges.get(id as usize)?;
            Some((exchange.from_fragment, exchange.from_node))
        }
    });
    places.collect()
}
