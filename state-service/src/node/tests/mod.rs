//! Histories that once broke a draft of the commit protocol.

mod log;
mod shards;
mod world;
