//! What the policy must know of a plan: its fragments in the order of the data, what feeds them and
//! which operators count rows at their edges.

use std::collections::BTreeMap;

use proto::plan::{self, Node, Plan, input::From, node::Operator};

use crate::caps::PARALLELISM_MAX;

/// Characters of a fragment's name.
const NAME_CHARS: usize = 40;

/// The fragments of a plan, each after all that feed it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Pipeline {
    /// In the order of the data.
    pub(super) fragments: Vec<Fragment>,
}

/// What runs as one task, and how rows come in and go out.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Fragment {
    pub(super) id: u32,
    /// For people: "GroupAggregate".
    pub(super) name: String,
    /// Runs once, whatever the load.
    pub(super) singleton: bool,
    /// Tasks that it can have at most.
    pub(super) tasks_max: u32,
    /// Ids of all its operators.
    pub(super) nodes: Vec<String>,
    /// Operators that read from outside.
    pub(super) sources: Vec<SourceNode>,
    /// Operators that take rows of other fragments.
    pub(super) entries: Vec<Entry>,
    /// Operators whose rows leave the fragment.
    pub(super) outs: Vec<String>,
    /// Where rows of other fragments come from.
    pub(super) feeds: Vec<Feed>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct SourceNode {
    pub(super) node: String,
    pub(super) table: String,
}

/// An operator that takes rows of other fragments, and the operators of its own fragment whose rows
/// it counts besides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    pub(super) node: String,
    pub(super) local: Vec<String>,
}

/// An exchange.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Feed {
    /// Place of the sending fragment in the pipeline.
    pub(super) from: usize,
    /// Place among its `outs`.
    pub(super) out: usize,
}

impl Pipeline {
    /// Of a plan.
    #[must_use]
    pub fn of_plan(plan: &Plan) -> Pipeline {
        let mut fragments: Vec<Fragment> = Vec::new();
        let mut places: BTreeMap<u32, usize> = BTreeMap::new();
        let mut left: Vec<&plan::Fragment> = plan.fragments.iter().collect();
        // Every round takes at least one fragment off the list, since plans have no cycles.
        while let Some(next) = left.iter().position(|fragment| {
            let mut before = sending(plan, fragment.id);
            before.all(|exchange| places.contains_key(&exchange.from_fragment))
        }) {
            let fragment = left.remove(next);
            let mut taken = Fragment::of_plan(plan, fragment);
            for exchange in sending(plan, fragment.id) {
                let Some(from) = places.get(&exchange.from_fragment).copied() else {
                    continue;
                };
                let sender = node_of(plan, exchange.from_fragment, exchange.from_node);
                let (Some(of), Some(sender)) = (fragments.get(from), sender) else {
                    continue;
                };
                if let Some(out) = of.outs.iter().position(|node| *node == sender.id) {
                    taken.feeds.push(Feed { from, out });
                }
            }
            places.insert(fragment.id, fragments.len());
            fragments.push(taken);
        }
        Pipeline { fragments }
    }

    /// Fragments whose number of tasks can be changed.
    pub fn scalable(&self) -> impl Iterator<Item = u32> {
        let parallel = self.fragments.iter().filter(|fragment| !fragment.singleton);
        parallel.map(|fragment| fragment.id)
    }
}

impl Fragment {
    fn of_plan(plan: &Plan, fragment: &plan::Fragment) -> Fragment {
        let mut outs: Vec<String> = Vec::new();
        let leaving = plan.exchanges.iter();
        for exchange in leaving.filter(|exchange| exchange.from_fragment == fragment.id) {
            if let Some(node) = node_of(plan, fragment.id, exchange.from_node)
                && !outs.contains(&node.id)
            {
                outs.push(node.id.clone());
            }
        }
        let source = |node: &Node| match &node.operator {
            Some(Operator::Source(source)) => Some(SourceNode {
                node: node.id.clone(),
                table: source.table.clone(),
            }),
            _ => None,
        };
        Fragment {
            id: fragment.id,
            name: name(fragment),
            singleton: fragment.singleton,
            tasks_max: PARALLELISM_MAX.min(plan.key_groups.max(1)),
            nodes: fragment.nodes.iter().map(|node| node.id.clone()).collect(),
            sources: fragment.nodes.iter().filter_map(source).collect(),
            entries: fragment
                .nodes
                .iter()
                .filter_map(|node| entry(fragment, node))
                .collect(),
            outs,
            feeds: Vec::new(),
        }
    }
}

fn sending(plan: &Plan, to: u32) -> impl Iterator<Item = &plan::Exchange> {
    let exchanges = plan.exchanges.iter();
    exchanges.filter(move |exchange| exchange.to_fragment == to)
}

fn node_of(plan: &Plan, fragment: u32, node: u32) -> Option<&Node> {
    let fragment = plan.fragments.iter().find(|known| known.id == fragment)?;
    fragment.nodes.get(usize::try_from(node).ok()?)
}

fn entry(fragment: &plan::Fragment, node: &Node) -> Option<Entry> {
    let inputs = || node.inputs.iter().filter_map(|input| input.from.as_ref());
    if !inputs().any(|from| matches!(from, From::Exchange(_))) {
        return None;
    }
    let local = inputs().filter_map(|from| match from {
        From::Node(index) => fragment.nodes.get(usize::try_from(*index).ok()?),
        From::Exchange(_) => None,
    });
    Some(Entry {
        node: node.id.clone(),
        local: local.map(|node| node.id.clone()).collect(),
    })
}

/// What the fragment is known by: the operator that keeps state, or the last one.
fn name(fragment: &plan::Fragment) -> String {
    let mut nodes = fragment.nodes.iter();
    let source = |node: &&Node| matches!(node.operator, Some(Operator::Source(_)));
    let telling = nodes.find(|node| !node.tables.is_empty() && !source(node));
    let node = telling.or(fragment.nodes.last());
    let text = node.map_or("", |node| node.description.as_str());
    let head = text.split('(').next().unwrap_or_default();
    head.chars().take(NAME_CHARS).collect()
}
