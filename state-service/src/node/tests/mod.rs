//! Histories that once broke a draft of the commit protocol.

mod clones;
mod log;
mod shards;
mod transfers;
mod world;
