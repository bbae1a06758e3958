//! What the state of a task's operators takes of memory, and how some of it goes from there.

use std::{sync::Arc, task::Context};

use super::{graph::Graph, node::Node};
use crate::{memory::Held, spill::Scratch};

impl Graph {
    /// Bytes of memory that the operators' state takes, with what finds it in scratch files.
    pub(super) fn memory(&mut self) -> u64 {
        self.nodes.iter_mut().map(Node::memory).sum()
    }

    /// What the task holds, of which `sent` bytes are on their way to the store.
    pub(super) fn held(&mut self, sent: u64) -> Held {
        let mut held = Held {
            sent,
            ..Held::default()
        };
        for node in &mut self.nodes {
            held.state += node.memory();
            held.changed += node.changed_bytes();
        }
        held
    }

    /// Makes room in the operators, in each as much as it has of all; see [`crate::operator::OperatorState::evict`].
    pub(super) fn evict(&mut self, bytes: u64, scratch: &Arc<dyn Scratch>) {
        let all = u128::from(self.memory().max(1));
        for node in &mut self.nodes {
            let part = u128::from(node.memory()) * u128::from(bytes) / all;
            node.evict(u64::try_from(part).unwrap_or(u64::MAX), scratch);
        }
    }

    /// Goes on writing to scratch files.
    pub(super) fn poll_spills(&mut self, cx: &mut Context<'_>) {
        let spills = self.nodes.iter_mut().filter_map(|node| node.spill.as_mut());
        spills.for_each(|spill| spill.poll(cx));
    }
}
