//! Plan nodes that have inputs: which operator each becomes.

use engine::operator::{Operator, OperatorError};
use operators::{
    ChangelogNormalizeOperator, DeduplicateOperator, DropUpdateBeforeOperator, ExpandOperator,
    IntervalJoinOperator, JoinOperator, LookupJoinOperator, MultiJoinOperator, OverOperator,
    RankOperator, SortOperator, TemporalJoinOperator, UnionOperator, UnnestOperator,
    WindowJoinOperator,
    aggregate::{GroupAggregateOperator, LocalAggregateOperator},
    calc::{CalcOperator, Projector},
    window::{TieFilterOperator, WindowAggregateOperator, WindowAssignOperator},
};
use proto::{
    plan::{self, node},
    types::Field,
};

use super::node::NodeBuilder;

impl NodeBuilder<'_> {
    /// The operator of a node that is neither source nor sink.
    pub(super) fn operator(
        &self,
        operator: &node::Operator,
    ) -> Result<Box<dyn Operator>, OperatorError> {
        use node::Operator as Op;
        let tables = self.tables()?;
        let scope = self.scope;
        match operator {
            Op::Calc(spec) => {
                let compiled = Projector::compile(spec, &self.input(0)?, &self.output()?);
                let compiled = compiled.map_err(|e| OperatorError::Plan(e.to_string()))?;
                Ok(Box::new(CalcOperator::new(compiled)))
            }
            Op::GroupAggregate(spec) => {
                let (input, append) = (self.input(0)?, self.changelog(0)?.is_append());
                GroupAggregateOperator::build(spec, &input, &tables, append, &self.ttl()?, scope)
            }
            Op::LocalAggregate(spec) => LocalAggregateOperator::build(spec, &self.input(0)?, scope),
            Op::WindowAssign(spec) => {
                let (input, output) = (self.input(0)?, self.output()?);
                WindowAssignOperator::build(spec, &input, &output, &tables, scope)
            }
            Op::WindowAggregate(spec) => {
                let (input, output) = (self.input(0)?, self.output()?);
                let append = self.changelog(0)?.is_append();
                WindowAggregateOperator::build(spec, &input, &output, &tables, append, scope)
            }
            Op::Join(spec) => {
                let inputs = self.two_inputs()?;
                let changelogs = [self.changelog(0)?, self.changelog(1)?];
                let inputs = [&inputs[0][..], &inputs[1][..]];
                JoinOperator::build(spec, &inputs, &tables, &changelogs, &self.ttl()?, scope)
            }
            Op::MultiJoin(spec) => self.multi_join(spec),
            Op::WindowJoin(spec) => {
                let inputs = self.two_inputs()?;
                WindowJoinOperator::build(spec, &[&inputs[0], &inputs[1]], &tables, scope)
            }
            Op::IntervalJoin(spec) => {
                let inputs = self.two_inputs()?;
                IntervalJoinOperator::build(spec, &[&inputs[0], &inputs[1]], &tables, scope)
            }
            Op::TemporalJoin(spec) => {
                let inputs = self.two_inputs()?;
                TemporalJoinOperator::build(spec, &[&inputs[0], &inputs[1]], &tables, scope)
            }
            Op::LookupJoin(spec) => {
                LookupJoinOperator::build(spec, &self.input(0)?, self.lookup_table()?, scope)
            }
            other => self.one_input_operator(other),
        }
    }

    fn multi_join(&self, spec: &plan::MultiJoin) -> Result<Box<dyn Operator>, OperatorError> {
        let all = 0..spec.inputs.len();
        let inputs = all.clone().map(|input| self.input(input));
        let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
        let inputs: Vec<&[Field]> = inputs.iter().map(Vec::as_slice).collect();
        let changelogs = all.map(|input| self.changelog(input));
        let changelogs = changelogs.collect::<Result<Vec<_>, _>>()?;
        let (tables, ttl) = (self.tables()?, self.ttl()?);
        MultiJoinOperator::build(spec, &inputs, &tables, &changelogs, &ttl, self.scope)
    }

    fn one_input_operator(
        &self,
        operator: &node::Operator,
    ) -> Result<Box<dyn Operator>, OperatorError> {
        use node::Operator as Op;
        let tables = self.tables()?;
        let input = self.input(0)?;
        let scope = self.scope;
        match operator {
            // Late rows come as they are to leave.
            Op::Union(plan::Union {}) | Op::LateRows(_) => {
                Ok(UnionOperator::build(&self.output()?))
            }
            Op::Unnest(spec) => UnnestOperator::build(spec, &input, scope.batch_rows),
            Op::Expand(spec) => ExpandOperator::build(spec, &input),
            Op::Rank(spec) => {
                let changelog = self.changelog(0)?;
                RankOperator::build(spec, &input, &tables, &changelog, &self.ttl()?, scope)
            }
            Op::Deduplicate(spec) => {
                DeduplicateOperator::build(spec, &input, &tables, &self.ttl()?, scope)
            }
            Op::OverAggregate(spec) => {
                let changelog = self.changelog(0)?;
                OverOperator::build(spec, &input, &tables, &changelog, &self.ttl()?, scope)
            }
            Op::Sort(spec) => SortOperator::build(spec, &input, &tables, scope),
            Op::ChangelogNormalize(spec) => {
                ChangelogNormalizeOperator::build(spec, &input, &tables, &self.ttl()?, scope)
            }
            Op::TieFilter(spec) => TieFilterOperator::build(spec, &input),
            Op::DropUpdateBefore(plan::DropUpdateBefore {}) => {
                Ok(DropUpdateBeforeOperator::build())
            }
            other => Err(OperatorError::Plan(format!("{other:?}"))),
        }
    }

    fn two_inputs(&self) -> Result<[Vec<Field>; 2], OperatorError> {
        Ok([self.input(0)?, self.input(1)?])
    }
}
