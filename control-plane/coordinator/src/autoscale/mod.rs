//! How many tasks each fragment of a job should have: DS2 (Kalavri et al., "Three steps is all you
//! need", OSDI 2018) with source backlog, verification and memory around it.
//!
//! ```text
//! Sample ─▶ Watch ─window─▶ Measured ─▶ demand ─needs─▶ Autoscaler ─▶ Rescale
//! (totals)  (differences)               (rates, selectivities)  ▲  └─▶ Decision (inputs, reason)
//!                                                               └── verified, kept or taken back
//! ```
//! Per fragment, the true processing rate is rows per second *at work*; waits for state are counted
//! apart, waits for input and for room downstream are nobody's work. Selectivities carry the rates
//! that sources must reach through the graph, so that one step gives every fragment's tasks.
//!
//! Invariants: at most one decision is under way; what a window after a change measures is thrown
//! away; nothing is scaled down while a source catches up; a step that did not help is taken back
//! and not tried again at the same load.

mod advice;
mod autoscaler;
mod decision;
mod demand;
mod figures;
mod flight;
mod memory;
mod pipeline;
mod sample;
mod text;
mod watch;

#[cfg(test)]
#[allow(clippy::indexing_slicing)] // models of pipelines
mod tests;

pub use autoscaler::{Autoscaler, AutoscalerState, Rescale};
pub use decision::{Change, Decision, DecisionKind, Outcome};
pub use figures::{Figures, FragmentFigures, SourceFigures};
pub use pipeline::Pipeline;
pub use sample::{Sample, Slots, TaskTotals};
