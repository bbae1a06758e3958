//! Scripts of one shard.

mod scenarios;
mod shard;
mod store;
