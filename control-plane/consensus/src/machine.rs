//! What the log drives: a deterministic state machine over opaque commands.

/// A state machine that every node applies the same commands to, in the same order.
///
/// It lives in memory: after a restart it is rebuilt from the last snapshot and the log. So it must be deterministic
/// (no clock, no randomness, no I/O), and equal commands must lead to equal states on every node and in every version
/// that may run beside this one.
pub trait Machine: Send + 'static {
    /// Applies one command and answers whoever proposed it. `index` is the command's number: 1, 2, 3 and so on, the same
    /// on all nodes. A command the machine does not like is answered, not refused: it has no error.
    fn apply(&mut self, index: u64, command: &[u8]) -> Vec<u8>;

    /// The whole state, such that [`restore`](Self::restore) leads to an equal machine.
    fn snapshot(&self) -> Vec<u8>;

    /// Replaces the whole state. After an error the node stops, so the machine may be left in any state.
    fn restore(&mut self, snapshot: &[u8]) -> Result<(), String>;
}
