//! Where functions that must differ from call to call take their bits from.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher as _, Hasher as _},
};

/// 64 bits from the process's hash keys, which the operating system's entropy seeds.
pub(super) fn entropy() -> u64 {
    RandomState::new().build_hasher().finish()
}
