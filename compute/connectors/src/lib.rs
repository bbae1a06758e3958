//! Sources and sinks: one folder per connector, formats beside them.
//!
//! Implements the engine's traits for the connectors of `proto::plan::ConnectorSpec`. Knows files,
//! bytes and columns; knows no operators, no SQL text and no clock but the one it is given.

mod blackhole;
mod collect;
mod column;
mod context;
mod datagen;
mod dead_letters;
mod filesystem;
mod format;
mod nexmark;
mod open;
mod pace;
mod print;
mod random;
#[cfg(test)]
mod testing;
mod text;
mod value;

pub use collect::CollectTarget;
pub use context::{LineWriter, SinkContext, SourceContext};
pub use engine::clock::Timer;
pub use open::{open_lookup, open_sink, open_source};
