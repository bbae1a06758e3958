//! Which generation of a job may be served. Pure.
//!
//! A node serves the generation of which the control plane said so. A newer one that it hears of from
//! a task means that the control plane's word is still on its way: until then it serves nobody.

use planted::Bug;
use proto::types::Generation;

/// What to do with a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Serve it.
    Serve,
    /// Let it wait: the node has not been told of this generation.
    Wait,
    /// Refuse it: this newer generation exists.
    Fenced(Generation),
}

/// Generations of a job as a node knows them.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Fence {
    /// The one that the control plane named last.
    held: Generation,
    /// The newest that anyone named.
    seen: Generation,
}

impl Fence {
    /// The control plane names a generation; whether it is new.
    pub(crate) fn hold(&mut self, generation: Generation) -> bool {
        let newer = generation > self.held;
        self.held = self.held.max(generation);
        self.seen = self.seen.max(generation);
        newer
    }

    /// A request of `generation` came.
    pub(crate) fn judge(&mut self, generation: Generation) -> Verdict {
        self.seen = self.seen.max(generation);
        if planted::is(Bug::ServeFenced) {
            return Verdict::Serve;
        }
        if generation < self.seen {
            Verdict::Fenced(self.seen)
        } else if generation > self.held {
            Verdict::Wait
        } else {
            Verdict::Serve
        }
    }

    /// The generation that is served.
    pub(crate) fn held(&self) -> Generation {
        self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_missed_a_generation_serves_nobody_until_told() {
        let mut fence = Fence::default();
        let (one, two, three) = (Generation(1), Generation(2), Generation(3));
        assert_eq!(fence.judge(one), Verdict::Wait);
        assert!(fence.hold(one));
        assert_eq!(fence.judge(one), Verdict::Serve);
        // A task of the next generation is quicker than the control plane.
        assert_eq!(fence.judge(two), Verdict::Wait);
        assert_eq!(fence.judge(one), Verdict::Fenced(two));
        assert!(fence.hold(two));
        assert!(!fence.hold(two));
        assert_eq!(fence.judge(two), Verdict::Serve);
        assert_eq!(fence.judge(one), Verdict::Fenced(two));
        // An order that comes late changes nothing.
        assert!(!fence.hold(one));
        assert_eq!(fence.held(), two);
        assert!(fence.hold(three));
        assert_eq!(fence.judge(two), Verdict::Fenced(three));
    }
}
