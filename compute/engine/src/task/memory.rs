//! What the state of a task's operators takes of memory, and how some of it goes from there.

use std::{sync::Arc, task::Context};

use super::{graph::Graph, node::Node};
use crate::{memory::Held, spill::Scratch};

impl Graph {
    /// What the task holds, of which `sent` bytes are on their way to the store.
    pub(super) fn held(&mut self, sent: u64) -> Held {
        let mut all = Held {
            sent,
            ..Held::default()
        };
        for held in self.nodes.iter_mut().map(Node::held) {
            all.state += held.state;
            all.changed += held.changed;
        }
        all
    }

    /// Makes room in the operators, in each as much as it has of all; see
    /// [`crate::operator::OperatorState::evict`].
    pub(super) fn evict(&mut self, bytes: u64, scratch: &Arc<dyn Scratch>) {
        let held: Vec<u64> = (self.nodes.iter_mut())
            .map(|node| node.held().state)
            .collect();
        let all = u128::from(held.iter().sum::<u64>().max(1));
        for (node, held) in self.nodes.iter_mut().zip(held) {
            let part = u128::from(held) * u128::from(bytes) / all;
            node.evict(u64::try_from(part).unwrap_or(u64::MAX), scratch);
        }
    }

    /// Goes on writing to scratch files.
    pub(super) fn poll_spills(&mut self, cx: &mut Context<'_>) {
        let spills = self.nodes.iter_mut().filter_map(Node::spilled);
        spills.for_each(|(spill, elsewhere)| spill.poll(cx, elsewhere));
    }
}
