//! Keys: how the key columns of a batch become fixed-width words or bytes, and their 64-bit hash.

mod encoder;
mod hash;

pub use encoder::{KeyBatch, KeyEncoder, KeyWidth, Keys};
pub use hash::{HASH_VERSION, hash_bytes, hash_u64, hash_u128, hash_u192, mix};
