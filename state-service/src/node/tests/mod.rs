//! Histories that once broke a draft of the commit protocol.

mod clones;
mod drops;
mod kept;
mod log;
mod shards;
mod transfers;
mod world;
