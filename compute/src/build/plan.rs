//! Opens what a plan's tasks share (sources with their splits, tables to look up, sinks with their
//! publishers) and builds every task.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use connectors::{SinkContext, SourceContext, open_sink, open_source};
use engine::{
    flow::OutputBudget,
    sink::{Publisher, Sink},
    source::{Source, Split},
};
use proto::{
    control::{Deployment, SourceSplits, SplitSpec, TaskSpec},
    plan::{Node, Plan, PlanError, fields, node::Operator},
    types::{Epoch, SinkId},
};

use super::{
    error::BuildError,
    fragment::{BuiltTask, build_task, output_fields},
    lookup::OpenLookup,
};
use crate::{caps::OUTPUT_BYTES_MAX, spawn::RuntimeTimer, wiring::Wiring, worker::WorkerConfig};

/// Builds the tasks of a deployment.
pub(crate) struct Builder<'a> {
    config: &'a WorkerConfig,
    deployment: &'a Deployment,
}

/// A source and its splits, in one order for all tasks.
type OpenSource = (Arc<dyn Source>, Vec<Split>);

/// A publisher that was opened and does not run yet.
pub(crate) struct OpenPublisher {
    pub(crate) sink: SinkId,
    /// Name of its table.
    pub(crate) table: String,
    pub(crate) publisher: Box<dyn Publisher>,
}

/// Sources, tables and sinks by (fragment, node), as far as tasks here need them.
pub(crate) struct Connected {
    pub(crate) sources: BTreeMap<(u32, usize), OpenSource>,
    pub(crate) lookups: BTreeMap<(u32, usize), OpenLookup>,
    pub(crate) sinks: BTreeMap<(u32, usize), (SinkId, Arc<dyn Sink>)>,
    /// What the sinks may owe.
    pub(crate) output: OutputBudget,
}

impl Default for Connected {
    fn default() -> Self {
        Connected {
            sources: BTreeMap::new(),
            lookups: BTreeMap::new(),
            sinks: BTreeMap::new(),
            output: OutputBudget::new(OUTPUT_BYTES_MAX),
        }
    }
}

/// The sinks of a plan and their fragments. Counted through the plan, so that all workers call them
/// the same.
pub(crate) fn sinks(plan: &Plan) -> impl Iterator<Item = (SinkId, u32)> {
    let nodes = plan.fragments.iter();
    let nodes = nodes.flat_map(|fragment| fragment.nodes.iter().map(|node| (fragment.id, node)));
    let sinks = nodes.filter(|(_, node)| matches!(node.operator, Some(Operator::Sink(_))));
    (0..).map(SinkId).zip(sinks.map(|(fragment, _)| fragment))
}

impl<'a> Builder<'a> {
    pub(crate) fn new(config: &'a WorkerConfig, deployment: &'a Deployment) -> Self {
        Builder { config, deployment }
    }

    /// Builds tasks, of which all that they need is open.
    pub(crate) fn build(
        &self,
        connected: &Connected,
        tasks: &[TaskSpec],
        wiring: &mut Wiring,
    ) -> Result<Vec<BuiltTask>, BuildError> {
        let build = |spec: &TaskSpec| build_task(self.deployment, *spec, connected, wiring);
        tasks.iter().map(build).collect()
    }

    /// Opens what tasks need that is not open yet. Publishers go with the first task of their sink.
    pub(crate) async fn connect(
        &self,
        connected: &mut Connected,
        tasks: &[TaskSpec],
    ) -> Result<Vec<OpenPublisher>, BuildError> {
        let mut publishers = Vec::new();
        let mut sinks = 0;
        for fragment in &self.deployment.plan.fragments {
            let of_fragment = |spec: &&TaskSpec| spec.fragment == fragment.id;
            let is_wanted = tasks.iter().any(|spec| of_fragment(&spec));
            let has_first = tasks.iter().filter(of_fragment).any(|spec| spec.index == 0);
            let count = self.deployment.parallelism(fragment.id) as usize;
            for (index, node) in fragment.nodes.iter().enumerate() {
                let place = (fragment.id, index);
                match &node.operator {
                    Some(Operator::Source(source)) if is_wanted => {
                        if let Entry::Vacant(vacant) = connected.sources.entry(place) {
                            vacant.insert(self.open_source((node, source), place, count).await?);
                        }
                    }
                    Some(Operator::LookupJoin(spec)) if is_wanted => {
                        if let Entry::Vacant(vacant) = connected.lookups.entry(place) {
                            vacant.insert(OpenLookup::open(&node.id, spec).await?);
                        }
                    }
                    Some(Operator::Sink(sink)) => {
                        let id = SinkId(sinks);
                        // Counted on every worker, so that all call it the same.
                        sinks += 1;
                        if !is_wanted {
                            continue;
                        }
                        let opened = match connected.sinks.get(&place) {
                            Some((_, opened)) => Arc::clone(opened),
                            None => self.open_sink(sink, node, id, count)?,
                        };
                        let error = |source| BuildError::Sink {
                            table: sink.table.clone(),
                            source,
                        };
                        // One worker publishes what all have staged.
                        if has_first && let Some(publisher) = opened.publisher().map_err(error)? {
                            publishers.push(OpenPublisher {
                                sink: id,
                                table: sink.table.clone(),
                                publisher,
                            });
                        }
                        connected.sinks.insert(place, (id, opened));
                    }
                    _ => {}
                }
            }
        }
        Ok(publishers)
    }

    /// What every source of the plan can read.
    pub(crate) async fn list_splits(self) -> Result<Vec<SourceSplits>, BuildError> {
        let mut listed = Vec::new();
        for fragment in &self.deployment.plan.fragments {
            let tasks = self.deployment.parallelism(fragment.id) as usize;
            for (index, node) in fragment.nodes.iter().enumerate() {
                if let Some(Operator::Source(source)) = &node.operator {
                    let place = (fragment.id, index);
                    let (_, splits) = self.open_source((node, source), place, tasks).await?;
                    let splits = splits.into_iter().map(|split| SplitSpec {
                        id: split.id,
                        descriptor: split.descriptor,
                    });
                    listed.push(SourceSplits {
                        fragment: fragment.id,
                        node: index as u32,
                        splits: splits.collect(),
                    });
                }
            }
        }
        Ok(listed)
    }

    async fn open_source(
        &self,
        (node, source): (&Node, &proto::plan::Source),
        place: (u32, usize),
        tasks: usize,
    ) -> Result<OpenSource, BuildError> {
        let spec = source
            .connector
            .as_ref()
            .ok_or(PlanError::Missing("source.connector"))?;
        let produced = source
            .produced
            .as_ref()
            .ok_or(PlanError::Missing("source.produced"))?;
        let context = SourceContext {
            base_time_ms: self.deployment.created_ms,
            clock: Arc::clone(&self.config.clock),
            timer: Arc::new(RuntimeTimer),
        };
        let error = |cause| BuildError::Source {
            table: source.table.clone(),
            source: cause,
        };
        let opened = open_source(spec, &fields(produced)?, &context).map_err(error)?;
        // A job that is restored reads the splits that its state knows, not those of today. Where
        // several workers run it, one has found out for all.
        let splits = match (&self.deployment.splits, self.deployment.restored) {
            (Some(listed), _) => listed_splits(listed, place),
            (None, Epoch::ZERO) => opened.splits(tasks).await.map_err(error)?,
            (None, _) if self.deployment.new_sources.contains(&node.id) => {
                opened.splits(tasks).await.map_err(error)?
            }
            (None, _) => Vec::new(),
        };
        Ok((opened, splits))
    }

    fn open_sink(
        &self,
        sink: &proto::plan::Sink,
        node: &Node,
        id: SinkId,
        tasks: usize,
    ) -> Result<Arc<dyn Sink>, BuildError> {
        let spec = sink
            .connector
            .as_ref()
            .ok_or(PlanError::Missing("sink.connector"))?;
        // Not the input's columns: these have the table's names.
        let written = output_fields(node)?;
        let context = SinkContext {
            parallelism: tasks,
            run: self.deployment.run,
            created_ms: self.deployment.created_ms,
            sink: id,
            print: Arc::clone(&self.config.print),
            collect: (self.config.collect)(self.deployment.job),
        };
        open_sink(spec, &written, &context).map_err(|source| BuildError::Sink {
            table: sink.table.clone(),
            source,
        })
    }
}

/// The splits of the source at `place`.
fn listed_splits(listed: &[SourceSplits], (fragment, node): (u32, usize)) -> Vec<Split> {
    let mut sources = listed.iter();
    let source = sources.find(|s| s.fragment == fragment && s.node as usize == node);
    let splits = source.into_iter().flat_map(|source| &source.splits);
    let split = |split: &SplitSpec| Split {
        id: split.id.clone(),
        descriptor: split.descriptor.clone(),
    };
    splits.map(split).collect()
}
