//! The whole system against answers that others computed.

mod conformance;
mod nexmark;
