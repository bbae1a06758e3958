//! From aggregate calls to accumulators and the value tables they share. Calls with DISTINCT
//! over the same columns share one table, a bit per FILTER; MIN and MAX that must forget values
//! share one ordered table per column and FILTER.

use arrow::datatypes::DataType as ArrowType;
use engine::{operator::OperatorError, schema::arrow_type};
use proto::{
    plan::{self, AggregateCall, AggregateFunction},
    types::Field,
};

use super::accumulator::{Accumulator, AccumulatorSpec, accumulator};

/// Filters that one distinct table tells apart: the bits of its mask.
const DISTINCT_FILTERS_MAX: usize = 64;

/// What rows of an aggregation look like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Rowset {
    /// Arguments; all rows add.
    Appended,
    /// Arguments; rows may take back.
    Changed,
    /// Partial columns of a local aggregation, after this many key columns.
    Partial {
        /// Columns before the first partial one.
        keys: usize,
    },
}

/// How the calls of one aggregation are computed.
#[derive(Debug)]
pub(crate) struct AggregatePlan {
    /// What it takes.
    pub(crate) rowset: Rowset,
    /// By call.
    pub(crate) outputs: Vec<Output>,
    /// Accumulators.
    pub(crate) accumulators: Vec<AccumulatorPlan>,
    /// Tables of distinct values.
    pub(crate) distincts: Vec<DistinctPlan>,
    /// Tables of ordered values.
    pub(crate) ordereds: Vec<OrderedPlan>,
    /// The calls' result columns.
    pub(crate) fields: Vec<Field>,
}

/// Where a call's result comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Output {
    /// An accumulator.
    Accumulator(usize),
    /// The end of an ordered table.
    Ordered {
        /// Which.
        table: usize,
        /// MAX rather than MIN.
        greatest: bool,
    },
}

/// One accumulator.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct AccumulatorPlan {
    pub(crate) function: AggregateFunction,
    /// Input columns: arguments or partial columns.
    pub(crate) columns: Vec<usize>,
    /// Their types.
    pub(crate) types: Vec<ArrowType>,
    pub(crate) result: ArrowType,
    pub(crate) filter: Option<usize>,
    /// Table of distinct values, and which of its filters.
    pub(crate) distinct: Option<(usize, usize)>,
}

/// A table of the distinct values of some columns.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct DistinctPlan {
    pub(crate) columns: Vec<usize>,
    pub(crate) types: Vec<ArrowType>,
    /// Per bit: FILTER column.
    pub(crate) filters: Vec<Option<usize>>,
    /// Rows whose first column is NULL do not count.
    pub(crate) skips_null: bool,
}

/// A table of the ordered values of a column.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct OrderedPlan {
    pub(crate) column: usize,
    pub(crate) data_type: ArrowType,
    pub(crate) filter: Option<usize>,
}

impl AggregatePlan {
    /// Plans calls over rows of `input`.
    pub(crate) fn new(
        calls: &[AggregateCall],
        input: &[Field],
        rowset: Rowset,
    ) -> Result<Self, OperatorError> {
        let mut plan = AggregatePlan {
            rowset,
            outputs: Vec::new(),
            accumulators: Vec::new(),
            distincts: Vec::new(),
            ordereds: Vec::new(),
            fields: Vec::new(),
        };
        let mut next_partial = match rowset {
            Rowset::Partial { keys } => keys,
            _ => 0,
        };
        for call in calls {
            let planned = plan.accumulator(call, input, &mut next_partial)?;
            let distinct = call.distinct && is_changed_by_copies(planned.function);
            if distinct && matches!(rowset, Rowset::Partial { .. }) {
                let message = format!("{} of DISTINCT values has no partial form", call.function);
                return Err(OperatorError::Plan(message));
            }
            let output = plan.place(planned, distinct);
            plan.outputs.push(output);
        }
        Ok(plan)
    }

    fn accumulator(
        &mut self,
        call: &AggregateCall,
        input: &[Field],
        next_partial: &mut usize,
    ) -> Result<AccumulatorPlan, OperatorError> {
        let function: AggregateFunction = call.function.parse().map_err(|_| {
            OperatorError::Plan(format!("unknown aggregate function {}", call.function))
        })?;
        let data_type = plan::data_type(&call.r#type)
            .map_err(|error| OperatorError::Plan(error.to_string()))?;
        let result = arrow_type(&data_type.logical);
        self.fields.push(Field::new(&call.name, data_type));
        let is_partial = matches!(self.rowset, Rowset::Partial { .. });
        let columns: Vec<usize> = if is_partial {
            let first = *next_partial;
            *next_partial += partial_columns(function);
            (first..*next_partial).collect()
        } else {
            call.args.iter().map(|column| *column as usize).collect()
        };
        let types = columns.iter().map(|column| type_of(input, *column));
        Ok(AccumulatorPlan {
            function,
            types: types.collect::<Result<_, _>>()?,
            columns,
            result,
            filter: call
                .filter
                .filter(|_| !is_partial)
                .map(|column| column as usize),
            distinct: None,
        })
    }

    /// Whether rows may take back.
    pub(crate) fn retracts(&self) -> bool {
        self.rowset == Rowset::Changed
    }

    /// Whether any row that a group gets changes its results: it has a COUNT(*).
    pub(crate) fn always_changes(&self) -> bool {
        let counts_rows = |call: &AccumulatorPlan| {
            call.function == AggregateFunction::Count
                && call.columns.is_empty()
                && call.filter.is_none()
                && call.distinct.is_none()
        };
        self.rowset == Rowset::Appended && self.accumulators.iter().any(counts_rows)
    }

    /// Makes the accumulators.
    pub(crate) fn accumulators(&self) -> Result<Vec<Box<dyn Accumulator>>, OperatorError> {
        let make = |call: &AccumulatorPlan| {
            accumulator(&AccumulatorSpec {
                function: call.function,
                args: &call.types,
                result: &call.result,
                retracts: self.retracts(),
            })
        };
        self.accumulators.iter().map(make).collect()
    }

    fn place(&mut self, mut call: AccumulatorPlan, distinct: bool) -> Output {
        use AggregateFunction::{Max, Min};
        if self.retracts() && matches!(call.function, Min | Max) {
            let table = OrderedPlan {
                column: call.columns[0],
                data_type: call.types[0].clone(),
                filter: call.filter,
            };
            return Output::Ordered {
                table: position_or_push(&mut self.ordereds, table),
                greatest: call.function == Max,
            };
        }
        if distinct {
            call.distinct = Some(self.place_distinct(&call));
        }
        Output::Accumulator(position_or_push(&mut self.accumulators, call))
    }

    fn place_distinct(&mut self, call: &AccumulatorPlan) -> (usize, usize) {
        use AggregateFunction::{ArrayAgg, SingleValue};
        let skips_null = !matches!(call.function, ArrayAgg | SingleValue);
        let fits = |table: &DistinctPlan| {
            table.columns == call.columns
                && table.skips_null == skips_null
                && (table.filters.contains(&call.filter)
                    || table.filters.len() < DISTINCT_FILTERS_MAX)
        };
        let table = self.distincts.iter().position(fits).unwrap_or_else(|| {
            self.distincts.push(DistinctPlan {
                columns: call.columns.clone(),
                types: call.types.clone(),
                filters: Vec::new(),
                skips_null,
            });
            self.distincts.len() - 1
        });
        (
            table,
            position_or_push(&mut self.distincts[table].filters, call.filter),
        )
    }
}

/// Partial columns of a function, see [`super::accumulator`].
fn partial_columns(function: AggregateFunction) -> usize {
    match function {
        AggregateFunction::Avg => 2,
        _ => 1,
    }
}

/// Whether a second copy of a value changes the result.
fn is_changed_by_copies(function: AggregateFunction) -> bool {
    use AggregateFunction::{FirstValue, LastValue, Max, Min};
    !matches!(function, Min | Max | FirstValue | LastValue)
}

fn type_of(input: &[Field], column: usize) -> Result<ArrowType, OperatorError> {
    let field = input.get(column).ok_or_else(|| {
        OperatorError::Plan(format!("an aggregate's column {column} does not exist"))
    })?;
    Ok(arrow_type(&field.data_type.logical))
}

fn position_or_push<T: PartialEq>(list: &mut Vec<T>, item: T) -> usize {
    list.iter()
        .position(|other| *other == item)
        .unwrap_or_else(|| {
            list.push(item);
            list.len() - 1
        })
}
