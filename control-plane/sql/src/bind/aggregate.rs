//! Aggregates inside expressions. While a SELECT is bound, its aggregate and OVER calls are set
//! aside and stand in expressions as columns with reserved positions; afterwards expressions are
//! rewritten to the columns of the Aggregate and Over nodes that compute them.

use std::cell::RefCell;

use proto::plan::{AggregateFunction, ScalarFunction as F};
use proto::types::LogicalType;
use sqlparser::ast::{self, Spanned as _};

use super::coerce::coerce;
use super::expr::ExprBinder;
use super::function::{aggregate_result, find_aggregate};
use super::group_window::GroupWindow;
use super::literal::{big_int, string};
use super::refuse::{refuse_all, unsupported};
use super::rewrite::{for_each_outer, map_children, subquery_mut};
use super::special::unnamed;
use crate::error::SqlError;
use crate::logical::{AggregateCall, Expr, ExprKind, GroupingSet, Literal, OverCall, Schema};

/// Column positions from here on stand for aggregates set aside.
const AGGREGATES: usize = 1 << 40;
/// Column positions from here on stand for OVER calls set aside.
const OVERS: usize = 1 << 41;
/// The column of the grouping id.
const GROUPING_ID: usize = 1 << 42;
/// Its bits are those of a BIGINT that is not negative.
const GROUPING_ARGS_MAX: usize = 63;

/// The clause in which an aggregate's arguments stand.
const IN_AGGREGATE: &str = "the arguments of an aggregate";

/// What the expressions of one SELECT have set aside.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    pub(crate) aggregates: Vec<AggregateCall>,
    pub(crate) overs: Vec<OverCall>,
    /// GROUP BY, bound over the input.
    pub(crate) keys: Vec<Expr>,
    /// GROUPING SETS, CUBE, ROLLUP.
    pub(crate) grouping_sets: Option<Vec<GroupingSet>>,
    /// TUMBLE, HOP or SESSION in GROUP BY.
    pub(crate) group_window: Option<GroupWindow>,
    /// WINDOW w AS (…)
    pub(crate) windows: Vec<(String, ast::WindowSpec)>,
}

/// A column that stands for an OVER call.
pub(crate) fn over_column(index: usize, call: &OverCall) -> Expr {
    Expr::column(OVERS + index, call.data_type.clone())
}

impl ExprBinder<'_> {
    /// A call of an aggregate without OVER.
    pub(crate) fn aggregate_call(
        &self,
        name: &str,
        call: &ast::Function,
    ) -> Result<Expr, SqlError> {
        let Some(calls) = self.calls else {
            return Err(if self.clause == IN_AGGREGATE {
                SqlError::validate("aggregates cannot be nested")
                    .at_parser(call.span())
                    .hint("aggregate in a subquery first")
            } else {
                SqlError::validate(format!(
                    "the aggregate `{name}` cannot stand in {}",
                    self.clause
                ))
                .at_parser(call.span())
                .hint("filter groups with HAVING")
            });
        };
        let grouped = !calls.borrow().keys.is_empty();
        let bound = self.aggregate(name, call, !grouped)?;
        let mut calls = calls.borrow_mut();
        let known = calls.aggregates.iter().position(|other| {
            AggregateCall {
                name: bound.name.clone(),
                ..other.clone()
            } == bound
        });
        let data_type = bound.data_type.clone();
        let index = known.unwrap_or_else(|| {
            calls.aggregates.push(bound);
            calls.aggregates.len() - 1
        });
        Ok(Expr::column(AGGREGATES + index, data_type))
    }

    /// An aggregate with its arguments bound. `may_be_empty`: over no rows at all.
    pub(crate) fn aggregate(
        &self,
        name: &str,
        call: &ast::Function,
        may_be_empty: bool,
    ) -> Result<AggregateCall, SqlError> {
        let ast::Function {
            name: _,
            uses_odbc_syntax,
            parameters,
            args,
            filter,
            null_treatment,
            over,
            within_group,
        } = call;
        refuse_all(
            &[
                (*uses_odbc_syntax, "the `{fn …}` notation"),
                (
                    *parameters != ast::FunctionArguments::None,
                    "a second list of arguments",
                ),
                (null_treatment.is_some(), "IGNORE NULLS or RESPECT NULLS"),
                (!within_group.is_empty(), "WITHIN GROUP"),
            ],
            call.span(),
        )?;
        let function = find_aggregate(name)
            .ok_or_else(|| SqlError::validate(format!("`{name}` is no aggregate")))?;
        // Arguments of an OVER aggregate may hold group aggregates; filters never.
        let inner = ExprBinder::new(self.binder, self.env, IN_AGGREGATE);
        let args_binder = if over.is_some() { self } else { &inner };
        let (args, distinct) = args_binder.aggregate_args(name, args)?;
        let filter = match filter {
            Some(filter) => {
                let binder = ExprBinder::new(self.binder, self.env, "FILTER");
                Some(binder.bind_condition(filter)?)
            }
            None => None,
        };
        let data_type = aggregate_result(function, &args, may_be_empty || filter.is_some())?;
        let args = cast_args(function, args)?;
        let name = call.to_string();
        Ok(AggregateCall {
            function,
            args,
            distinct,
            filter,
            data_type,
            name,
        })
    }

    fn aggregate_args(
        &self,
        name: &str,
        args: &ast::FunctionArguments,
    ) -> Result<(Vec<Expr>, bool), SqlError> {
        let list = match args {
            ast::FunctionArguments::List(list) => list,
            ast::FunctionArguments::None | ast::FunctionArguments::Subquery(_) => {
                return Err(SqlError::validate(format!("`{name}` needs arguments")));
            }
        };
        let ast::FunctionArgumentList {
            duplicate_treatment,
            args,
            clauses,
        } = list;
        if let Some(clause) = clauses.first() {
            return Err(
                unsupported(&format!("`{clause}` in an aggregate"), clause.span())
                    .hint("the order of arrival is not defined; sort afterwards"),
            );
        }
        let distinct = *duplicate_treatment == Some(ast::DuplicateTreatment::Distinct);
        let star = ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Wildcard);
        if name == "COUNT" && args.as_slice() == [star] && !distinct {
            return Ok((Vec::new(), false));
        }
        if args.is_empty() {
            return Err(
                SqlError::validate(format!("`{name}` needs arguments")).hint(if name == "COUNT" {
                    "COUNT(*) counts rows"
                } else {
                    "name a column"
                }),
            );
        }
        let mut bound = Vec::with_capacity(args.len());
        let mut on_null = None;
        for arg in args {
            match arg {
                ast::FunctionArg::Named {
                    name: clause, arg, ..
                } if name.starts_with("JSON_") && clause.value == "ON_NULL" => {
                    if let ast::FunctionArgExpr::Expr(expr) = arg {
                        on_null = Some(self.bind(expr)?);
                    }
                }
                other => bound.push(self.bind(unnamed(other)?)?),
            }
        }
        bound.extend(on_null);
        Ok((bound, distinct))
    }

    /// GROUPING and GROUPING_ID: one bit per argument, set where the row's set leaves it out; the first
    /// argument's is the highest.
    pub(crate) fn grouping(&self, name: &str, args: Vec<Expr>) -> Result<Expr, SqlError> {
        let calls = self.calls.map(RefCell::borrow);
        let Some(calls) = calls.filter(|calls| !calls.keys.is_empty()) else {
            return Err(SqlError::validate(format!("`{name}` needs GROUP BY")));
        };
        let positions = args
            .iter()
            .map(|arg| calls.keys.iter().position(|key| key == arg))
            .collect::<Option<Vec<usize>>>()
            .ok_or_else(|| {
                SqlError::validate(format!("an argument of `{name}` is no key of GROUP BY"))
            })?;
        if positions.len() > GROUPING_ARGS_MAX {
            return Err(SqlError::validate(format!(
                "`{name}` takes at most {GROUPING_ARGS_MAX} arguments"
            )));
        }
        if calls.grouping_sets.is_none() {
            return Ok(big_int(0));
        }
        let keys = calls.keys.len();
        let id = || Expr::column(GROUPING_ID, LogicalType::BigInt.not_null());
        if positions.iter().copied().eq(0..keys) {
            return Ok(id());
        }
        let math = |function: F, left: Expr, right: i64| {
            Expr::call(
                function,
                vec![left, big_int(right)],
                LogicalType::BigInt.not_null(),
            )
        };
        let count = positions.len();
        let bits = positions.into_iter().enumerate().map(|(i, position)| {
            let bit = math(
                F::Modulo,
                math(F::Divide, id(), 1 << (keys - 1 - position)),
                2,
            );
            match count - 1 - i {
                0 => bit,
                shift => math(F::Multiply, bit, 1 << shift),
            }
        });
        let sum = bits
            .reduce(|sum, bit| Expr::call(F::Add, vec![sum, bit], LogicalType::BigInt.not_null()));
        Ok(sum.unwrap_or_else(|| big_int(0)))
    }
}

fn cast_args(function: AggregateFunction, args: Vec<Expr>) -> Result<Vec<Expr>, SqlError> {
    let is_constant = |arg: &Expr| matches!(arg.kind, ExprKind::Literal(Literal::String(_)));
    match function {
        AggregateFunction::Percentile => Ok(args
            .into_iter()
            .map(|arg| match &arg.data_type.logical {
                LogicalType::Array(_) => coerce(
                    arg,
                    &LogicalType::Array(Box::new(LogicalType::Double.nullable())),
                ),
                _ => coerce(arg, &LogicalType::Double),
            })
            .collect()),
        AggregateFunction::ListAgg if args.len() == 2 && !is_constant(&args[1]) => Err(
            SqlError::validate("the separator of LISTAGG must be constant text"),
        ),
        AggregateFunction::ListAgg if args.len() == 1 => {
            Ok(args.into_iter().chain([string(",")]).collect())
        }
        _ => Ok(args),
    }
}

/// Rewrites expressions of an aggregated SELECT to the Aggregate node's output.
pub(crate) struct AfterAggregate<'a> {
    /// Keys, over the input.
    pub(crate) keys: &'a [Expr],
    /// The node's columns.
    pub(crate) schema: &'a Schema,
    /// Columns of the input, for errors.
    pub(crate) input: &'a Schema,
    pub(crate) calls: usize,
}

impl AfterAggregate<'_> {
    /// The expression over the Aggregate's columns.
    pub(crate) fn rewrite(&self, expr: Expr) -> Result<Expr, SqlError> {
        if !matches!(expr.kind, ExprKind::Literal(_))
            && let Some(index) = self.keys.iter().position(|key| key.kind == expr.kind)
        {
            let field = &self.schema[index];
            // A legacy window's rowtime is nullable where the window's own column is not.
            let nullable = field.data_type.nullable || expr.data_type.nullable;
            let data_type = field.data_type.clone().with_nullable(nullable);
            return Ok(Expr::column(index, data_type));
        }
        match expr.kind {
            ExprKind::Column(GROUPING_ID) => {
                let index = self.keys.len() + self.calls;
                Ok(Expr::column(index, expr.data_type))
            }
            ExprKind::Column(index) if index >= OVERS => Ok(expr),
            ExprKind::Column(index) if index >= AGGREGATES => Ok(Expr::column(
                self.keys.len() + index - AGGREGATES,
                expr.data_type,
            )),
            ExprKind::Column(index) => Err(self.not_grouped(index)),
            _ => {
                let mut expr = map_children(expr, &mut |child| self.rewrite(child))?;
                if let Some(plan) = subquery_mut(&mut expr) {
                    for_each_outer(plan, 1, &mut |index| {
                        let key = self
                            .keys
                            .iter()
                            .position(|key| key.kind == ExprKind::Column(*index));
                        *index = key.ok_or_else(|| self.not_grouped(*index))?;
                        Ok(())
                    })?;
                }
                Ok(expr)
            }
        }
    }

    fn not_grouped(&self, index: usize) -> SqlError {
        let name = self
            .input
            .get(index)
            .map_or("?", |field| field.name.as_str());
        SqlError::validate(format!("column `{name}` is neither grouped nor aggregated"))
            .hint("add it to GROUP BY or put it into an aggregate")
    }
}

/// Rewrites OVER calls in an expression to the columns from `width` on.
pub(crate) fn after_over(expr: Expr, width: usize) -> Result<Expr, SqlError> {
    match expr.kind {
        ExprKind::Column(index) if index >= OVERS => {
            Ok(Expr::column(width + index - OVERS, expr.data_type))
        }
        _ => map_children(expr, &mut |child| after_over(child, width)),
    }
}
