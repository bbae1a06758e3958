//! One task of a fragment: its operators, joined inside by edges and outside by channels.

use std::{collections::BTreeSet, sync::Arc};

use arrow::datatypes::DataType as ArrowType;
use engine::{
    flow::{Gate, OutputBudget, OutputPort, Partitioner},
    key::KeyEncoder,
    memory::MemoryShare,
    operator::{OperatorError, TaskScope},
    schema::arrow_type,
    task::{
        Consumer, Graph, GraphBuilder, NewPlace, TaskCommand, TaskEvent, TaskMetrics, TaskParts,
    },
};
use futures::channel::mpsc;
use proto::{
    control::{Deployment, TaskSpec},
    plan::{
        Exchange, Fragment, Node, Plan, PlanError, fields, input::From, node::Operator,
        partitioning::Kind,
    },
    types::{Epoch, Field, KeyGroupCount},
};
use state_client::{Cut, Incarnation, StateStore};
use tokio::runtime::Handle;

use super::{
    error::BuildError,
    node::{BuiltNode, NodeBuilder},
    plan::Connected,
};
use crate::{
    caps::EXCHANGE_BATCH_SHARE,
    spawn::{RuntimeSpawn, RuntimeTimer},
    wiring::Wiring,
    worker::WorkerConfig,
};

/// A task that can be started.
pub(crate) struct BuiltTask {
    pub(crate) spec: TaskSpec,
    graph: Graph,
    gate: Gate,
    entries: Vec<Vec<(usize, usize)>>,
    keys: Vec<Option<KeyEncoder>>,
    scope: TaskScope,
    output: OutputBudget,
}

impl BuiltTask {
    /// Takes over what the same task of an older generation holds; how many operators.
    pub(crate) fn adopt(&mut self, old: Graph) -> usize {
        self.graph.adopt(old, self.scope.restored)
    }

    /// All that the engine wants to run it.
    pub(crate) fn into_parts(
        self,
        config: &WorkerConfig,
        store: Arc<dyn StateStore>,
        deployment: &Deployment,
        commands: mpsc::Receiver<TaskCommand>,
        events: Box<dyn FnMut(TaskEvent) + Send>,
        metrics: Arc<TaskMetrics>,
    ) -> TaskParts {
        TaskParts {
            who: Incarnation {
                job: deployment.job,
                generation: deployment.generation,
            },
            task: self.spec.task,
            restored: deployment.restored,
            has_overtaken: deployment.has_overtaken && deployment.restored > Epoch::ZERO,
            routing: deployment.routing,
            cut: Cut {
                key_groups: self.scope.key_groups,
                shards: deployment.options.shards,
                tasks: deployment.tasks.len() as u32,
            },
            graph: self.graph,
            memory: MemoryShare::of(&config.memory),
            gate: self.gate,
            entries: self.entries,
            keys: self.keys,
            scope: self.scope,
            output: self.output,
            store,
            spawn: Arc::new(RuntimeSpawn(Handle::current())),
            clock: Arc::clone(&config.clock),
            timer: Arc::new(RuntimeTimer),
            commands,
            events,
            metrics,
        }
    }
}

/// Builds one task.
pub(crate) fn build_task(
    deployment: &Deployment,
    spec: TaskSpec,
    connected: &Connected,
    wiring: &mut Wiring,
) -> Result<BuiltTask, BuildError> {
    let plan = &deployment.plan;
    let fragment = plan.fragments.get(spec.fragment as usize);
    let fragment = fragment.ok_or(PlanError::Missing("fragment"))?;
    let scope = scope(deployment, spec)?;
    let mut graph = GraphBuilder::default();
    let mut inputs = Vec::new();
    let mut entries: Vec<Vec<(usize, usize)>> = Vec::new();
    let mut keys = Vec::new();
    for (index, node) in fragment.nodes.iter().enumerate() {
        let builder = NodeBuilder {
            deployment,
            fragment,
            index,
            connected,
            scope: &scope,
        };
        let at = match builder.build()? {
            BuiltNode::Operator(operator) => {
                graph.operator(&node.id, operator, node.inputs.len(), scope.clone())
            }
            BuiltNode::Source(source) => graph.source(&node.id, source, scope.clone()),
        };
        for (input, from) in node.inputs.iter().enumerate() {
            match (from.from, &node.operator) {
                (Some(From::Node(upstream)), Some(Operator::LateRows(late))) => {
                    graph.connect_late(upstream as usize, late.of as usize, at);
                }
                (Some(From::Node(upstream)), _) => {
                    graph.connect(upstream as usize, Consumer::Node { node: at, input });
                }
                (Some(From::Exchange(exchange)), _) => {
                    inputs.push(wiring.take_receivers(exchange, spec.index));
                    entries.push(vec![(at, input)]);
                    keys.push(exchange_keys(deployment, exchange)?);
                }
                (None, _) => return Err(PlanError::Missing("input.from").into()),
            }
        }
    }
    for exchange in exchanges_from(plan, fragment.id) {
        let senders = wiring.take_senders(exchange.id, spec.index);
        let partitioner = partitioner(deployment, exchange, spec.index)?;
        let rows_min = scope.batch_rows / EXCHANGE_BATCH_SHARE;
        let port = graph.port(OutputPort::new(partitioner, senders, rows_min));
        graph.connect(exchange.from_node as usize, Consumer::Port(port));
    }
    Ok(BuiltTask {
        spec,
        graph: graph.build(),
        gate: Gate::new(inputs),
        entries,
        keys,
        scope,
        output: connected.output.clone(),
    })
}

fn scope(deployment: &Deployment, spec: TaskSpec) -> Result<TaskScope, PlanError> {
    let count = deployment.plan.key_groups;
    let key_groups = KeyGroupCount::new(count).ok_or_else(|| PlanError::Invalid {
        what: "number of key groups",
        value: count.to_string(),
    })?;
    Ok(TaskScope {
        index: spec.index as usize,
        parallelism: deployment.parallelism(spec.fragment) as usize,
        owned: deployment.map_of(spec.fragment).owned_by(spec.index),
        key_groups,
        batch_rows: deployment.options.batch_rows,
        restored: deployment.restored,
        came: None,
    })
}

/// Exchanges that a fragment sends to, in the order of its tasks' ports.
fn exchanges_from(plan: &Plan, fragment: u32) -> impl Iterator<Item = &Exchange> {
    let exchanges = plan.exchanges.iter();
    exchanges.filter(move |exchange| exchange.from_fragment == fragment)
}

/// Exchanges that a fragment receives from, in the order of its tasks' inputs.
fn exchanges_to(fragment: &Fragment) -> impl Iterator<Item = u32> {
    let inputs = fragment.nodes.iter().flat_map(|node| &node.inputs);
    inputs.filter_map(|input| match input.from {
        Some(From::Exchange(exchange)) => Some(exchange),
        Some(From::Node(_)) | None => None,
    })
}

/// The place in the routing `next` of a task that has one already.
pub(crate) fn new_place(
    now: &Deployment,
    next: &Deployment,
    spec: TaskSpec,
    changed: &BTreeSet<u32>,
    wiring: &mut Wiring,
) -> Result<NewPlace, BuildError> {
    let plan = &next.plan;
    let fragment = plan.fragments.get(spec.fragment as usize);
    let fragment = fragment.ok_or(PlanError::Missing("fragment"))?;
    let inputs = exchanges_to(fragment).enumerate();
    let inputs = inputs.filter(|(_, exchange)| changed.contains(exchange));
    let inputs = inputs
        .map(|(input, exchange)| (input, wiring.take_receivers(exchange, spec.index)))
        .collect();
    let ports = exchanges_from(plan, fragment.id).enumerate();
    let ports = ports.filter(|(_, exchange)| changed.contains(&exchange.id));
    let ports = ports
        .map(|(port, exchange)| {
            let senders = wiring.take_senders(exchange.id, spec.index);
            (port, senders, Some(next.map_of(exchange.to_fragment)))
        })
        .collect();
    let reads = |node: &Node| matches!(node.operator, Some(Operator::Source(_)));
    Ok(NewPlace {
        scope: scope(next, spec)?,
        tasks: next.tasks.len() as u32,
        inputs,
        ports,
        resets_time: fragment.nodes.iter().any(reads) && !now.agrees(next, fragment.id),
    })
}

/// The node that feeds input `input` of `node`.
pub(crate) fn upstream<'a>(
    plan: &'a Plan,
    nodes: &'a [Node],
    node: &Node,
    input: usize,
) -> Result<&'a Node, PlanError> {
    let found = match node.inputs.get(input).and_then(|input| input.from) {
        Some(From::Node(index)) => nodes.get(index as usize),
        Some(From::Exchange(exchange)) => {
            let exchange = plan.exchanges.get(exchange as usize);
            exchange.and_then(|exchange| {
                let fragment = plan.fragments.get(exchange.from_fragment as usize)?;
                fragment.nodes.get(exchange.from_node as usize)
            })
        }
        None => None,
    };
    found.ok_or(PlanError::Missing("node.inputs"))
}

/// Columns of a node's input.
pub(crate) fn input_fields(
    plan: &Plan,
    nodes: &[Node],
    node: &Node,
    input: usize,
) -> Result<Vec<Field>, PlanError> {
    output_fields(upstream(plan, nodes, node, input)?)
}

/// Columns of a node's output.
pub(crate) fn output_fields(node: &Node) -> Result<Vec<Field>, PlanError> {
    fields(
        node.output
            .as_ref()
            .ok_or(PlanError::Missing("node.output"))?,
    )
}

/// What the rows of an exchange are spread by, if it is a key.
fn exchange_keys(deployment: &Deployment, exchange: u32) -> Result<Option<KeyEncoder>, BuildError> {
    let exchange = deployment.plan.exchanges.get(exchange as usize);
    let exchange = exchange.ok_or(PlanError::Missing("exchange"))?;
    let kind = exchange.partitioning.as_ref().and_then(|p| p.kind.as_ref());
    let Some(Kind::Hash(hash)) = kind else {
        return Ok(None);
    };
    let from = deployment
        .plan
        .fragments
        .get(exchange.from_fragment as usize);
    let from = from.and_then(|fragment| fragment.nodes.get(exchange.from_node as usize));
    let from = from.ok_or(PlanError::Missing("exchange.from_node"))?;
    let fields = output_fields(from)?;
    let mut types: Vec<ArrowType> = Vec::new();
    for column in &hash.columns {
        let field = fields.get(*column as usize);
        let field = field.ok_or(PlanError::Missing("partitioning column"))?;
        types.push(arrow_type(&field.data_type.logical));
    }
    let columns = hash.columns.iter().map(|column| *column as usize).collect();
    let keys = KeyEncoder::new(columns, types).map_err(|cause| BuildError::Operator {
        node: from.id.clone(),
        source: OperatorError::Arrow(cause),
    })?;
    Ok(Some(keys))
}

fn partitioner(
    deployment: &Deployment,
    exchange: &Exchange,
    task_index: u32,
) -> Result<Partitioner, BuildError> {
    let kind = exchange.partitioning.as_ref().and_then(|p| p.kind.as_ref());
    Ok(match kind {
        Some(Kind::Hash(_)) => {
            let keys = exchange_keys(deployment, exchange.id)?;
            let keys = keys.ok_or(PlanError::Missing("partitioning columns"))?;
            let map = deployment.map_of(exchange.to_fragment);
            Partitioner::Hash(keys, deployment.key_groups(), map)
        }
        Some(Kind::Single(_)) => Partitioner::Single,
        // Senders begin with different receivers.
        Some(Kind::Rebalance(_)) => Partitioner::Rebalance(task_index as usize),
        Some(Kind::Broadcast(_)) => Partitioner::Broadcast,
        None => return Err(PlanError::Missing("exchange.partitioning").into()),
    })
}
