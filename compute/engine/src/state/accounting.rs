//! Which keys have rows that wait: later rows of such a key wait behind them, so that the order
//! per key is kept. (One of the five parts of Flink's asynchronous state access, FLIP-425.)

use std::collections::BTreeSet;

/// Hashes of keys with waiting rows.
#[derive(Debug, Default)]
pub struct KeyAccounting {
    waiting: BTreeSet<u64>,
}

impl KeyAccounting {
    /// Rows of this key wait from now on.
    pub fn hold(&mut self, hash: u64) {
        self.waiting.insert(hash);
    }

    /// Whether rows of this key wait.
    #[must_use]
    pub fn is_held(&self, hash: u64) -> bool {
        self.waiting.contains(&hash)
    }

    /// No row waits any more.
    pub fn clear(&mut self) {
        self.waiting.clear();
    }
}
