//! Bytes that may be held for a purpose; who holds some has a lease.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// A bound on bytes.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    used: Arc<AtomicUsize>,
    most: usize,
}

/// Bytes that are held until it is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    used: Arc<AtomicUsize>,
    bytes: usize,
}

impl Budget {
    pub(crate) fn new(most: usize) -> Self {
        Budget {
            used: Arc::default(),
            most,
        }
    }

    /// Bytes of the budget, if it has room for them. When nothing is held there is room for anything,
    /// or what is larger than the budget would wait for ever.
    pub(crate) fn take(&self, bytes: usize) -> Option<Lease> {
        let fits = |used: usize| {
            let after = used.saturating_add(bytes);
            (used == 0 || after <= self.most).then_some(after)
        };
        let taken = self
            .used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, fits);
        taken.is_ok().then(|| Lease {
            used: self.used.clone(),
            bytes,
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.used.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_are_bounded_and_come_back() {
        let budget = Budget::new(10);
        let large = budget.take(100).expect("alone, anything fits");
        assert!(budget.take(1).is_none());
        drop(large);
        let six = budget.take(6).expect("room");
        assert!(budget.take(5).is_none());
        let four = budget.take(4).expect("room");
        assert!(budget.take(1).is_none());
        drop(six);
        assert!(budget.take(7).is_none());
        drop(four);
        assert!(budget.take(10).is_some());
    }
}
