//! What benchmarks of operators share.

use engine::operator::TaskScope;
use proto::types::{Epoch, KeyGroupCount, KeyGroupSet};

/// The only task of a new job.
pub(crate) fn scope(batch_rows: usize) -> TaskScope {
    let key_groups = KeyGroupCount::DEFAULT;
    TaskScope {
        index: 0,
        parallelism: 1,
        owned: KeyGroupSet::all(key_groups),
        key_groups,
        batch_rows,
        restored: Epoch::ZERO,
        came: None,
    }
}
