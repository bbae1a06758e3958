//! One node of a plan becomes one operator.

use engine::operator::{Operator, OperatorError, SourceOperator, TaskScope};
use operators::{
    SinkOperator, SplitSource,
    calc::{CalcOperator, Projector},
};
use proto::{
    control::Deployment,
    plan::{self, Fragment, Node, PlanError, node},
    types::{Field, TableId},
};

use super::{
    error::BuildError,
    fragment::{input_fields, output_fields, upstream},
    plan::Connected,
};

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
            other => self.operator(other).map(BuiltNode::Operator).map_err(error),
        }
    }

    fn operator(&self, operator: &node::Operator) -> Result<Box<dyn Operator>, OperatorError> {
        match operator {
            node::Operator::Calc(spec) => {
                let compiled = Projector::compile(spec, &self.input(0)?, &self.output()?);
                let compiled = compiled.map_err(|e| OperatorError::Plan(e.to_string()))?;
                Ok(Box::new(CalcOperator::new(compiled)))
            }
            other => Err(OperatorError::Plan(format!("{other:?}"))),
        }
    }

    fn source(&self, spec: &plan::Source) -> Result<BuiltNode, BuildError> {
        let node = self.node()?;
        let place = (self.fragment.id, self.index);
        let opened = self.connected.sources.get(&place);
        let (source, splits) = opened.ok_or(PlanError::Missing("source"))?;
        let output = output_fields(node)?;
        let tables = self.tables(node);
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
        Ok(BuiltNode::Operator(SinkOperator::build(
            spec, *id, writer, self.scope,
        )))
    }

    fn node(&self) -> Result<&Node, PlanError> {
        self.fragment
            .nodes
            .get(self.index)
            .ok_or(PlanError::Missing("node"))
    }

    fn tables(&self, node: &Node) -> Vec<TableId> {
        node.tables.iter().map(|table| TableId(table.id)).collect()
    }

    fn output(&self) -> Result<Vec<Field>, OperatorError> {
        let fields = self.node().and_then(output_fields);
        fields.map_err(|error| OperatorError::Plan(error.to_string()))
    }

    fn input(&self, input: usize) -> Result<Vec<Field>, OperatorError> {
        let fields = self
            .node()
            .and_then(|node| input_fields(self.deployment, &self.fragment.nodes, node, input));
        fields.map_err(|error| OperatorError::Plan(error.to_string()))
    }

    fn is_append(&self, input: usize) -> Result<bool, OperatorError> {
        let upstream = self
            .node()
            .and_then(|node| upstream(self.deployment, &self.fragment.nodes, node, input));
        let upstream = upstream.map_err(|error| OperatorError::Plan(error.to_string()))?;
        Ok(upstream
            .changelog
            .as_ref()
            .is_some_and(plan::Changelog::is_append))
    }
}
