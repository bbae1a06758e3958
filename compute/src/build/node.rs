//! One node of a plan becomes one operator.

use engine::{
    operator::{Operator, OperatorError, SourceOperator, TaskScope},
    state::{StateTtl, TimeDomain},
};
use operators::{LookupTable, SinkOperator, SplitSource, ValuesSource};
use proto::{
    control::Deployment,
    plan::{self, Fragment, Node, PlanError, node},
    types::{Epoch, Field, TableId},
};

use super::{
    error::BuildError,
    fragment::{input_fields, output_fields, upstream},
    plan::Connected,
};
use crate::output::AccountedWriter;

/// What a node becomes.
pub(crate) enum BuiltNode {
    Operator(Box<dyn Operator>),
    Source(Box<dyn SourceOperator>),
}

/// Builds node `index` of a fragment for one task.
pub(crate) struct NodeBuilder<'a> {
    pub(crate) deployment: &'a Deployment,
    pub(crate) fragment: &'a Fragment,
    pub(crate) index: usize,
    pub(crate) connected: &'a Connected,
    pub(crate) scope: &'a TaskScope,
}

impl NodeBuilder<'_> {
    pub(crate) fn build(&self) -> Result<BuiltNode, BuildError> {
        let node = self.node()?;
        let error = |source| BuildError::Operator {
            node: node.id.clone(),
            source,
        };
        let operator = node
            .operator
            .as_ref()
            .ok_or(PlanError::Missing("node.operator"))?;
        match operator {
            node::Operator::Source(spec) => self.source(spec),
            node::Operator::Sink(spec) => self.sink(spec),
            node::Operator::Values(spec) => self.values(spec).map_err(error),
            other => self.operator(other).map(BuiltNode::Operator).map_err(error),
        }
    }

    fn source(&self, spec: &plan::Source) -> Result<BuiltNode, BuildError> {
        let node = self.node()?;
        let place = (self.fragment.id, self.index);
        let opened = self.connected.sources.get(&place);
        let (source, splits) = opened.ok_or(PlanError::Missing("source"))?;
        // A task that goes on from a checkpoint finds its splits there, and how far they are, unless
        // that knows nothing of the table.
        let is_new =
            self.scope.restored == Epoch::ZERO || self.deployment.new_sources.contains(&node.id);
        let splits = if is_new { splits.as_slice() } else { &[] };
        let output = output_fields(node)?;
        let tables = tables(node);
        SplitSource::build(spec, &output, source.clone(), splits, &tables, self.scope)
            .map(BuiltNode::Source)
            .map_err(|source| BuildError::Operator {
                node: node.id.clone(),
                source,
            })
    }

    fn sink(&self, spec: &plan::Sink) -> Result<BuiltNode, BuildError> {
        let place = (self.fragment.id, self.index);
        let (id, sink) = self
            .connected
            .sinks
            .get(&place)
            .ok_or(PlanError::Missing("sink"))?;
        let writer = sink
            .writer(self.scope.index)
            .map_err(|source| BuildError::Sink {
                table: spec.table.clone(),
                source,
            })?;
        let writer = Box::new(AccountedWriter {
            writer,
            budget: self.connected.output.clone(),
        });
        Ok(BuiltNode::Operator(SinkOperator::build(
            spec,
            &output_fields(self.node()?)?,
            *id,
            writer,
            self.scope,
        )))
    }

    fn node(&self) -> Result<&Node, PlanError> {
        self.fragment
            .nodes
            .get(self.index)
            .ok_or(PlanError::Missing("node"))
    }

    fn values(&self, spec: &plan::Values) -> Result<BuiltNode, OperatorError> {
        let source = ValuesSource::build(spec, &self.output()?, &self.tables()?, self.scope)?;
        Ok(BuiltNode::Source(source))
    }

    /// The table that the node looks up, as it was read.
    pub(super) fn lookup_table(&self) -> Result<LookupTable, OperatorError> {
        let opened = self.connected.lookups.get(&(self.fragment.id, self.index));
        let opened = opened.ok_or(PlanError::Missing("table"));
        opened
            .map(|opened| opened.table.clone())
            .map_err(plan_error)
    }

    /// State tables of the node.
    pub(super) fn tables(&self) -> Result<Vec<TableId>, OperatorError> {
        self.node().map(tables).map_err(plan_error)
    }

    /// How long the node's state lives.
    pub(super) fn ttl(&self) -> Result<StateTtl, OperatorError> {
        self.node().map(ttl_of).map_err(plan_error)
    }

    /// Columns of the node's output.
    pub(super) fn output(&self) -> Result<Vec<Field>, OperatorError> {
        self.node().and_then(output_fields).map_err(plan_error)
    }

    /// Columns of an input.
    pub(super) fn input(&self, input: usize) -> Result<Vec<Field>, OperatorError> {
        self.node()
            .and_then(|node| input_fields(&self.deployment.plan, &self.fragment.nodes, node, input))
            .map_err(plan_error)
    }

    /// Changes that flow into an input.
    pub(super) fn changelog(&self, input: usize) -> Result<plan::Changelog, OperatorError> {
        let upstream = self
            .node()
            .and_then(|node| upstream(&self.deployment.plan, &self.fragment.nodes, node, input));
        Ok(upstream.map_err(plan_error)?.changelog.unwrap_or_default())
    }
}

/// How long a node's state lives.
pub(crate) fn ttl_of(node: &Node) -> StateTtl {
    let bound = node.state_bound.as_ref();
    match bound.and_then(|bound| bound.kind.as_ref()) {
        Some(plan::state_bound::Kind::Ttl(ttl)) => {
            let domain = match ttl.event_time {
                true => TimeDomain::Event,
                false => TimeDomain::Processing,
            };
            StateTtl::new(ttl.input_ms.clone(), domain)
        }
        _ => StateTtl::NEVER,
    }
}

fn tables(node: &Node) -> Vec<TableId> {
    node.tables.iter().map(|table| TableId(table.id)).collect()
}

fn plan_error(error: PlanError) -> OperatorError {
    OperatorError::Plan(error.to_string())
}
