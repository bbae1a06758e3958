//! Opens what a plan's tasks share (sources with their splits, sinks with their publishers) and
//! builds every task.

use std::{collections::BTreeMap, sync::Arc};

use connectors::{SinkContext, SourceContext, open_sink, open_source};
use engine::{
    flow::OutputBudget,
    sink::{Publisher, Sink},
    source::{Source, Split},
};
use proto::{
    control::{Deployment, SourceSplits, SplitSpec},
    plan::{Node, PlanError, fields, node::Operator},
    types::{Epoch, SinkId},
};

use super::{
    error::BuildError,
    fragment::{BuiltTask, build_task, output_fields},
};
use crate::{
    caps::OUTPUT_BYTES_MAX,
    spawn::RuntimeTimer,
    wiring::{Wiring, is_here, parallelism},
    worker::WorkerConfig,
};

/// Builds the tasks of a deployment.
pub(crate) struct Builder<'a> {
    config: &'a WorkerConfig,
    deployment: &'a Deployment,
}

/// Everything that a deployment runs.
pub(crate) struct Built {
    pub(crate) tasks: Vec<BuiltTask>,
    pub(crate) publishers: Publishers,
    pub(crate) output: OutputBudget,
}

/// A source and its splits, in one order for all tasks.
type OpenSource = (Arc<dyn Source>, Vec<Split>);

/// With the names of their tables.
type Publishers = Vec<(SinkId, String, Box<dyn Publisher>)>;

/// Sources and sinks by (fragment, node).
pub(crate) struct Connected {
    pub(crate) sources: BTreeMap<(u32, usize), OpenSource>,
    pub(crate) sinks: BTreeMap<(u32, usize), (SinkId, Arc<dyn Sink>)>,
    /// What the sinks may owe.
    pub(crate) output: OutputBudget,
}

impl<'a> Builder<'a> {
    pub(crate) fn new(config: &'a WorkerConfig, deployment: &'a Deployment) -> Self {
        Builder { config, deployment }
    }

    /// Opens what the tasks here need, and builds them.
    pub(crate) async fn build(self, mut wiring: Wiring) -> Result<Built, BuildError> {
        let (connected, publishers) = self.connect().await?;
        let mut tasks = Vec::new();
        let all = self.deployment.tasks.iter();
        for spec in all.filter(|spec| self.deployment.exchange.is_here(spec.task)) {
            tasks.push(build_task(self.deployment, *spec, &connected, &mut wiring)?);
        }
        Ok(Built {
            tasks,
            publishers,
            output: connected.output,
        })
    }

    async fn connect(&self) -> Result<(Connected, Publishers), BuildError> {
        let mut connected = Connected {
            sources: BTreeMap::new(),
            sinks: BTreeMap::new(),
            output: OutputBudget::new(OUTPUT_BYTES_MAX),
        };
        let mut publishers = Vec::new();
        let mut sinks = 0;
        for fragment in &self.deployment.plan.fragments {
            let mut specs = self.deployment.tasks.iter();
            let runs_here = specs.any(|spec| {
                spec.fragment == fragment.id && self.deployment.exchange.is_here(spec.task)
            });
            let tasks = parallelism(&self.deployment.tasks, fragment.id) as usize;
            for (index, node) in fragment.nodes.iter().enumerate() {
                let place = (fragment.id, index);
                match &node.operator {
                    Some(Operator::Source(source)) if runs_here => {
                        let opened = self.open_source(source, place, tasks).await?;
                        connected.sources.insert(place, opened);
                    }
                    Some(Operator::Sink(sink)) => {
                        let id = SinkId(sinks);
                        // Counted on every worker, so that all call it the same.
                        sinks += 1;
                        if !runs_here {
                            continue;
                        }
                        let opened = self.open_sink(sink, node, id, tasks)?;
                        let error = |source| BuildError::Sink {
                            table: sink.table.clone(),
                            source,
                        };
                        // One worker publishes what all have staged.
                        if is_here(self.deployment, fragment.id, 0)
                            && let Some(publisher) = opened.publisher().map_err(error)?
                        {
                            publishers.push((id, sink.table.clone(), publisher));
                        }
                        connected.sinks.insert(place, (id, opened));
                    }
                    _ => {}
                }
            }
        }
        Ok((connected, publishers))
    }

    /// What every source of the plan can read.
    pub(crate) async fn list_splits(self) -> Result<Vec<SourceSplits>, BuildError> {
        let mut listed = Vec::new();
        for fragment in &self.deployment.plan.fragments {
            let tasks = parallelism(&self.deployment.tasks, fragment.id) as usize;
            for (index, node) in fragment.nodes.iter().enumerate() {
                if let Some(Operator::Source(source)) = &node.operator {
                    let place = (fragment.id, index);
                    let (_, splits) = self.open_source(source, place, tasks).await?;
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
        source: &proto::plan::Source,
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
