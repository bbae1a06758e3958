//! Places exchanges and cuts the graph into fragments.
//!
//! An edge needs an exchange where rows are not already spread as the consumer requires. What is
//! joined by the other edges is a fragment. Fragments and exchanges form no cycle: where joining
//! nodes would close one, their edges become exchanges too.

use std::collections::{BTreeMap, BTreeSet};

use super::node::{Distribution, Graph, NodeId, Op};

/// Fragments, each a list of nodes in topological order, and the exchanges between them.
#[derive(Debug, Default)]
pub(crate) struct Fragments {
    pub(crate) fragments: Vec<Fragment>,
    /// By consumer and which of its inputs.
    pub(crate) exchanges: BTreeMap<(NodeId, usize), Distribution>,
}

/// Nodes that run in one task.
#[derive(Debug, Default)]
pub(crate) struct Fragment {
    pub(crate) nodes: Vec<NodeId>,
    pub(crate) singleton: bool,
}

impl Fragments {
    /// The fragment of a node.
    pub(crate) fn of(&self, node: NodeId) -> usize {
        self.fragments
            .iter()
            .position(|fragment| fragment.nodes.contains(&node))
            .unwrap_or_default()
    }
}

/// Cuts the live part of the graph.
pub(crate) fn cut(graph: &mut Graph) -> Fragments {
    let live = graph.live();
    let mut cutter = Cutter {
        fragment: vec![None; graph.nodes.len()],
        edges: BTreeSet::new(),
        count: 0,
    };
    let mut exchanges = BTreeMap::new();
    for (id, _) in live.iter().enumerate().filter(|(_, live)| **live) {
        cutter.place(graph, id, &mut exchanges);
    }
    cutter.collect(graph, exchanges)
}

struct Cutter {
    fragment: Vec<Option<usize>>,
    /// From fragment, to fragment, by exchange.
    edges: BTreeSet<(usize, usize)>,
    count: usize,
}

impl Cutter {
    fn place(
        &mut self,
        graph: &mut Graph,
        id: NodeId,
        exchanges: &mut BTreeMap<(NodeId, usize), Distribution>,
    ) {
        self.gather_in_one_task(graph, id);
        let node = graph.node(id);
        let direct: Vec<bool> = (0..node.inputs.len())
            .map(|input| is_direct(graph, id, input))
            .collect();
        let (mut joined, mut behind) = (BTreeSet::new(), BTreeSet::new());
        for (input, direct) in node.inputs.iter().zip(&direct) {
            let fragment = self.fragment[*input].unwrap_or_default();
            if *direct {
                joined.insert(fragment);
            } else {
                behind.insert(fragment);
            }
        }
        let cycle = self.closes_cycle(&joined, &behind);
        if cycle {
            let node = &mut graph.nodes[id];
            for required in &mut node.required {
                // A node that takes anything has no key to spread by: one task keeps the order.
                if *required == Distribution::Any {
                    *required = Distribution::Single;
                    node.distribution = Distribution::Single;
                }
            }
        }
        let own = match joined.first() {
            Some(first) if !cycle => {
                self.merge(&joined, *first);
                *first
            }
            _ => {
                self.count += 1;
                self.count - 1
            }
        };
        self.fragment[id] = Some(own);
        let node = graph.node(id);
        for (i, input) in node.inputs.iter().enumerate() {
            if cycle || !direct[i] {
                exchanges.insert((id, i), node.required[i].clone());
                let from = self.fragment[*input].unwrap_or_default();
                self.edges.insert((from, own));
            }
        }
    }

    /// Where some inputs of a node that takes anything come from single tasks and others do not,
    /// it runs in a single task too: a fragment is one or the other.
    fn gather_in_one_task(&self, graph: &mut Graph, id: NodeId) {
        let takes_anything = |required: &Distribution| *required == Distribution::Any;
        let node = graph.node(id);
        let inputs: Vec<usize> = (0..node.inputs.len())
            .filter(|input| is_direct(graph, id, *input))
            .collect();
        let (single, spread): (Vec<usize>, Vec<usize>) = inputs
            .into_iter()
            .partition(|input| self.runs_single(graph, node.inputs[*input]));
        let mixed = !single.is_empty() && !spread.is_empty();
        if !mixed || !node.required.iter().all(takes_anything) {
            return;
        }
        let node = &mut graph.nodes[id];
        node.distribution = Distribution::Single;
        for input in spread {
            node.required[input] = Distribution::Single;
        }
    }

    /// Whether the fragment of a node that is placed runs in a single task.
    fn runs_single(&self, graph: &Graph, id: NodeId) -> bool {
        let own = self.fragment[id];
        let members = self.fragment.iter().enumerate();
        own.is_some()
            && members
                .filter(|(_, fragment)| **fragment == own)
                .any(|(member, _)| is_single(graph, member))
    }

    /// Whether making one fragment of `joined`, fed by exchanges from `behind`, closes a cycle.
    fn closes_cycle(&self, joined: &BTreeSet<usize>, behind: &BTreeSet<usize>) -> bool {
        let mut reached = BTreeSet::new();
        let mut open: Vec<usize> = joined.iter().copied().collect();
        while let Some(fragment) = open.pop() {
            for (_, to) in self.edges.iter().filter(|(from, _)| *from == fragment) {
                if reached.insert(*to) {
                    open.push(*to);
                }
            }
        }
        let any = |set: &BTreeSet<usize>| set.iter().any(|f| reached.contains(f));
        any(joined) || any(behind) || behind.iter().any(|f| joined.contains(f))
    }

    fn merge(&mut self, joined: &BTreeSet<usize>, into: usize) {
        for fragment in self.fragment.iter_mut().flatten() {
            if joined.contains(fragment) {
                *fragment = into;
            }
        }
        let place = |f: usize| if joined.contains(&f) { into } else { f };
        self.edges = self
            .edges
            .iter()
            .map(|(from, to)| (place(*from), place(*to)))
            .collect();
    }

    fn collect(
        self,
        graph: &Graph,
        exchanges: BTreeMap<(NodeId, usize), Distribution>,
    ) -> Fragments {
        let mut members: BTreeMap<usize, Vec<NodeId>> = BTreeMap::new();
        for (id, fragment) in self.fragment.iter().enumerate() {
            if let Some(fragment) = fragment {
                members.entry(*fragment).or_default().push(id);
            }
        }
        // Senders before receivers, else by first node.
        let mut order: Vec<usize> = Vec::new();
        for _ in 0..members.len() {
            let ready = members
                .iter()
                .filter(|(f, _)| !order.contains(f))
                .filter(|(f, _)| {
                    let senders = self.edges.iter().filter(|(_, to)| to == *f);
                    senders.clone().all(|(from, _)| order.contains(from))
                })
                .min_by_key(|(_, nodes)| nodes[0]);
            let Some((fragment, _)) = ready else { break };
            order.push(*fragment);
        }
        let fragments = order
            .iter()
            .map(|fragment| {
                let nodes = members.remove(fragment).unwrap_or_default();
                Fragment {
                    singleton: nodes.iter().any(|id| is_single(graph, *id)),
                    nodes,
                }
            })
            .collect();
        Fragments {
            fragments,
            exchanges,
        }
    }
}

/// Whether the rows of an input are spread as the node requires.
fn is_direct(graph: &Graph, id: NodeId, input: usize) -> bool {
    let node = graph.node(id);
    let required = &node.required[input];
    *required == Distribution::Any || *required == graph.node(node.inputs[input]).distribution
}

/// Whether the node itself wants a single task.
fn is_single(graph: &Graph, id: NodeId) -> bool {
    let node = graph.node(id);
    node.distribution == Distribution::Single
        || node.required.contains(&Distribution::Single)
        || matches!(node.op, Op::Values(_))
}
