//! The nodes that are connected to this process, and those that were until lately.

use std::{collections::BTreeMap, sync::Arc};

use proto::{state_control::StateOrder, types::StateNodeId};
use tokio::time::Instant;

use super::StateNodeSession;
use crate::{
    StateNodeLink,
    caps::{STATE_NODE_CONNECT, STATE_NODE_REMEMBERED, STATE_NODE_RETURN},
};

pub(super) struct Nodes {
    nodes: BTreeMap<StateNodeId, Node>,
    started: Instant,
    /// Nodes that turned out to be gone when they were told something.
    lost: Vec<StateNodeId>,
}

pub(super) struct Node {
    session: u64,
    pub(super) address: String,
    pub(super) degraded: Option<String>,
    stream: Stream,
}

enum Stream {
    Up(Arc<dyn StateNodeLink>),
    DownSince(Instant),
}

/// What can be expected of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Presence {
    /// It is connected, by this session.
    Connected(u64),
    /// It may connect until then.
    Awaited(Instant),
    /// Others have to do its work.
    Gone,
}

impl Nodes {
    pub(super) fn new(started: Instant) -> Self {
        Nodes {
            nodes: BTreeMap::new(),
            started,
            lost: Vec::new(),
        }
    }

    /// A stream begins; `false`: a later one of the node has begun already.
    pub(super) fn join(
        &mut self,
        session: StateNodeSession,
        address: String,
        link: Arc<dyn StateNodeLink>,
        now: Instant,
    ) -> bool {
        self.nodes.retain(|_, node| match node.stream {
            Stream::Up(_) => true,
            Stream::DownSince(since) => now - since < STATE_NODE_REMEMBERED,
        });
        let known = self.nodes.get(&session.node);
        if known.is_some_and(|known| known.session > session.number) {
            return false;
        }
        let node = Node {
            session: session.number,
            address,
            degraded: None,
            stream: Stream::Up(link),
        };
        self.nodes.insert(session.node, node);
        true
    }

    /// A stream has ended; `false`: it was not the node's present one.
    pub(super) fn leave(&mut self, session: StateNodeSession, now: Instant) -> bool {
        let present = self.is_present(session);
        if present && let Some(node) = self.nodes.get_mut(&session.node) {
            node.stream = Stream::DownSince(now);
        }
        present
    }

    /// Whether this is the node's present stream.
    pub(super) fn is_present(&self, session: StateNodeSession) -> bool {
        self.presence(session.node, self.started) == Presence::Connected(session.number)
    }

    pub(super) fn presence(&self, id: StateNodeId, now: Instant) -> Presence {
        let until = match self.nodes.get(&id) {
            Some(node) => match node.stream {
                Stream::Up(_) => return Presence::Connected(node.session),
                Stream::DownSince(since) => since + STATE_NODE_RETURN,
            },
            None => self.started + STATE_NODE_CONNECT,
        };
        if until > now {
            Presence::Awaited(until)
        } else {
            Presence::Gone
        }
    }

    pub(super) fn connected(&self) -> impl Iterator<Item = StateNodeId> {
        let up = self.nodes.iter().filter(|(_, node)| node.is_up());
        up.map(|(id, _)| *id)
    }

    /// All that are remembered.
    pub(super) fn iter(&self) -> impl Iterator<Item = (StateNodeId, &Node)> {
        self.nodes.iter().map(|(id, node)| (*id, node))
    }

    pub(super) fn get(&self, id: StateNodeId) -> Option<&Node> {
        self.nodes.get(&id)
    }

    pub(super) fn set_degraded(&mut self, id: StateNodeId, why: Option<String>) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.degraded = why;
        }
    }

    /// Tells a node something; the session that heard it. A node that does not hear it is gone.
    pub(super) fn order(&mut self, id: StateNodeId, order: StateOrder) -> Option<u64> {
        let node = self.nodes.get_mut(&id)?;
        let Stream::Up(link) = &node.stream else {
            return None;
        };
        if link.order(order) {
            return Some(node.session);
        }
        node.stream = Stream::DownSince(Instant::now());
        self.lost.push(id);
        None
    }

    /// Nodes that turned out to be gone since the last call.
    pub(super) fn take_lost(&mut self) -> Vec<StateNodeId> {
        std::mem::take(&mut self.lost)
    }
}

impl Node {
    pub(super) fn is_up(&self) -> bool {
        matches!(self.stream, Stream::Up(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn of_two_streams_of_a_node_the_later_one_counts() {
        let now = Instant::now();
        let mut nodes = Nodes::new(now);
        let node = StateNodeId(1);
        let session = |number| StateNodeSession { node, number };
        let link = || Arc::new(|_| true);
        assert!(nodes.join(session(5), "new".into(), link(), now));
        // It was slower, and may have ended already.
        assert!(!nodes.join(session(4), "old".into(), link(), now));
        assert_eq!(nodes.presence(node, now), Presence::Connected(5));
        assert!(!nodes.leave(session(4), now));
        assert!(nodes.leave(session(5), now));
        let until = now + STATE_NODE_RETURN;
        assert_eq!(nodes.presence(node, now), Presence::Awaited(until));
        assert_eq!(nodes.presence(node, until), Presence::Gone);
    }
}
