//! What is sent to the workers of a job.

use std::collections::BTreeMap;

use proto::{
    control::{Deployment, ExchangeMap},
    types::{Epoch, Generation},
};
use rpc::trace_context;

use super::JobEntry;

/// What every deployment of a job has.
pub(super) fn deployment(entry: &JobEntry, generation: Generation) -> Deployment {
    Deployment {
        job: entry.id,
        generation,
        restored: Epoch::ZERO,
        has_overtaken: false,
        plan: entry.spec.plan.clone(),
        routing: 0,
        groups: BTreeMap::new(),
        tasks: Vec::new(),
        options: entry.spec.options.clone(),
        created_ms: entry.sources_since_ms,
        run: entry.run,
        exchange: ExchangeMap::default(),
        splits: None,
        new_sources: Vec::new(),
        traceparent: trace_context::current(),
    }
}
