//! Binds scalar expressions: one case per kind of AST node; families of functions and operators
//! stand in files of their own.

use std::cell::{Cell, RefCell};

use proto::plan::ScalarFunction as F;
use proto::types::{DataType, LogicalType};
use sqlparser::ast::{self, Spanned as _};

use super::aggregate::Calls;
use super::coerce::{cast, coerce};
use super::function;
use super::refuse::unsupported;
use super::scope::Env;
use super::types::{explicit_cast_allowed, least_restrictive};
use super::{Binder, interval, literal, types_of_ast};
use crate::error::SqlError;
use crate::logical::{Expr, ExprKind, Literal, LogicalPlan};

/// How deep expressions may nest. Chains of AND, OR and of one operator do not count.
const DEPTH_MAX: usize = 200;

/// Binds the expressions of one clause.
pub(crate) struct ExprBinder<'a> {
    pub(crate) binder: &'a Binder<'a>,
    pub(crate) env: &'a Env<'a>,
    /// Where the expression stands, for errors.
    pub(crate) clause: &'static str,
    /// Where aggregates and OVER calls go; `None` where there can be none.
    pub(crate) calls: Option<&'a RefCell<Calls>>,
    depth: Cell<usize>,
}

impl<'a> ExprBinder<'a> {
    /// For a clause without aggregates.
    pub(crate) fn new(
        binder: &'a Binder<'a>,
        env: &'a Env<'a>,
        clause: &'static str,
    ) -> ExprBinder<'a> {
        ExprBinder {
            binder,
            env,
            clause,
            calls: None,
            depth: Cell::new(0),
        }
    }

    /// For a clause whose aggregates are collected in `calls`.
    pub(crate) fn with_calls(mut self, calls: &'a RefCell<Calls>) -> ExprBinder<'a> {
        self.calls = Some(calls);
        self
    }

    /// Binds an expression. Errors have a position.
    pub(crate) fn bind(&self, expr: &ast::Expr) -> Result<Expr, SqlError> {
        if self.depth.get() >= DEPTH_MAX {
            return Err(
                SqlError::validate("the expression nests too deeply").at_parser(expr.span())
            );
        }
        self.depth.set(self.depth.get() + 1);
        let bound = self
            .bind_kind(expr)
            .map_err(|error| error.at_parser(expr.span()));
        self.depth.set(self.depth.get() - 1);
        bound
    }

    /// Binds a condition.
    pub(crate) fn bind_condition(&self, expr: &ast::Expr) -> Result<Expr, SqlError> {
        let bound = self.bind(expr)?;
        match bound.data_type.logical {
            LogicalType::Boolean => Ok(bound),
            LogicalType::Null => Ok(coerce(bound, &LogicalType::Boolean)),
            other => Err(SqlError::validate(format!(
                "{} must be a condition, not a value of type {other}",
                self.clause
            ))
            .at_parser(expr.span())
            .hint("compare it with something")),
        }
    }

    /// Binds several.
    pub(crate) fn bind_all(&self, exprs: &[ast::Expr]) -> Result<Vec<Expr>, SqlError> {
        exprs.iter().map(|expr| self.bind(expr)).collect()
    }

    fn bind_kind(&self, expr: &ast::Expr) -> Result<Expr, SqlError> {
        use ast::Expr as E;
        match expr {
            E::Identifier(ident) => self.name(std::slice::from_ref(ident)),
            E::CompoundIdentifier(idents) => self.name(idents),
            E::CompoundFieldAccess { root, access_chain } => self.access(root, access_chain),
            E::Nested(inner) => self.bind(inner),
            E::Value(value) => literal::bind_value(&value.value),
            E::TypedString(text) => literal::typed_string(text),
            E::Interval(value) => interval::bind_interval(value),
            E::BinaryOp { left, op, right } => self.binary(expr, left, op, right),
            E::UnaryOp { op, expr } => self.unary(op, expr),
            E::Cast {
                kind,
                expr,
                data_type,
                array,
                format,
            } => self.cast(kind, expr, data_type, *array || format.is_some()),
            E::Case {
                operand,
                conditions,
                else_result,
                ..
            } => self.case(operand.as_deref(), conditions, else_result.as_deref()),
            E::Function(call) => self.function(call),
            E::Tuple(items) => self.row(items),
            E::Array(array) => self.array(&array.elem),
            E::Exists { subquery, negated } => {
                let plan = self.subquery(subquery)?;
                let exists = Expr {
                    kind: ExprKind::Exists(Box::new(plan)),
                    data_type: LogicalType::Boolean.not_null(),
                };
                Ok(negate_if(*negated, exists))
            }
            E::Subquery(query) => self.scalar_subquery(query),
            E::InSubquery {
                expr,
                subquery,
                negated,
            } => self
                .in_subquery(expr, subquery)
                .map(|bound| negate_if(*negated, bound)),
            E::IsTrue(..)
            | E::IsNotTrue(..)
            | E::IsFalse(..)
            | E::IsNotFalse(..)
            | E::IsUnknown(..)
            | E::IsNotUnknown(..)
            | E::IsNull(..)
            | E::IsNotNull(..)
            | E::IsDistinctFrom(..)
            | E::IsNotDistinctFrom(..)
            | E::InList { .. }
            | E::Between { .. } => self.predicate(expr),
            _ => self.special_syntax(expr),
        }
    }

    fn cast(
        &self,
        kind: &ast::CastKind,
        input: &ast::Expr,
        data_type: &ast::DataType,
        extras: bool,
    ) -> Result<Expr, SqlError> {
        let r#try = match kind {
            ast::CastKind::Cast => false,
            ast::CastKind::TryCast => true,
            ast::CastKind::SafeCast | ast::CastKind::DoubleColon => {
                return Err(SqlError::validate("this form of a cast is not supported")
                    .hint("write CAST(x AS type) or TRY_CAST(x AS type)"));
            }
        };
        if extras {
            return Err(SqlError::validate(
                "FORMAT and ARRAY in a cast are not supported",
            ));
        }
        let target = types_of_ast(data_type)?;
        let bound = self.bind(input)?;
        let from = &bound.data_type.logical;
        if !explicit_cast_allowed(from, &target.logical) {
            let error = SqlError::validate(format!("cannot cast {from} to {}", target.logical));
            let epoch = from.is_integer() && target.logical.is_timestamp();
            return Err(if epoch {
                error.hint(
                    "TO_TIMESTAMP_LTZ(x, 0) reads seconds, TO_TIMESTAMP_LTZ(x, 3) milliseconds",
                )
            } else {
                error
            });
        }
        let nullable = bound.data_type.nullable || r#try || *from == LogicalType::Null;
        let data_type = DataType {
            logical: target.logical,
            nullable,
        };
        if bound.data_type.logical == data_type.logical && !r#try {
            return Ok(bound);
        }
        if let ExprKind::Literal(Literal::Null) = bound.kind {
            return Ok(Expr::literal(Literal::Null, data_type));
        }
        Ok(cast(bound, data_type, r#try))
    }

    fn case(
        &self,
        operand: Option<&ast::Expr>,
        conditions: &[ast::CaseWhen],
        otherwise: Option<&ast::Expr>,
    ) -> Result<Expr, SqlError> {
        let operand = operand.map(|operand| self.bind(operand)).transpose()?;
        let mut branches = Vec::with_capacity(conditions.len());
        for ast::CaseWhen { condition, result } in conditions {
            let condition = match &operand {
                Some(operand) => {
                    let value = self.bind(condition)?;
                    self.compare(F::Equal, operand.clone(), value)
                        .map_err(|error| error.at_parser(condition.span()))?
                }
                None => self.bind_condition(condition)?,
            };
            branches.push((condition, self.bind(result)?));
        }
        let otherwise = match otherwise {
            Some(otherwise) => self.bind(otherwise)?,
            None => Expr::literal(Literal::Null, LogicalType::Null.nullable()),
        };
        case_of(branches, otherwise)
    }

    fn row(&self, items: &[ast::Expr]) -> Result<Expr, SqlError> {
        self.row_of(self.bind_all(items)?)
    }

    /// `ROW(…)`.
    pub(crate) fn row_of(&self, args: Vec<Expr>) -> Result<Expr, SqlError> {
        let fields = args
            .iter()
            .enumerate()
            .map(|(i, arg)| proto::types::Field::new(format!("EXPR${i}"), arg.data_type.clone()))
            .collect();
        Ok(Expr::call(
            F::RowConstructor,
            args,
            LogicalType::Row(fields).not_null(),
        ))
    }

    fn array(&self, items: &[ast::Expr]) -> Result<Expr, SqlError> {
        if items.is_empty() {
            return Err(SqlError::validate("an ARRAY needs at least one element")
                .hint("CAST(NULL AS ARRAY<type>) gives a typed one"));
        }
        let items = self.bind_all(items)?;
        let (items, element) = common(items, "elements of an ARRAY")?;
        let logical = LogicalType::Array(Box::new(element));
        Ok(Expr::call(F::ArrayConstructor, items, logical.not_null()))
    }

    /// `MAP[k, v, …]`.
    pub(crate) fn map_of(&self, args: Vec<Expr>) -> Result<Expr, SqlError> {
        if args.is_empty() || !args.len().is_multiple_of(2) {
            return Err(SqlError::validate("a MAP needs pairs of key and value"));
        }
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for (i, arg) in args.into_iter().enumerate() {
            if i % 2 == 0 {
                keys.push(arg)
            } else {
                values.push(arg)
            }
        }
        let (keys, key) = common(keys, "keys of a MAP")?;
        let (values, value) = common(values, "values of a MAP")?;
        let args = keys
            .into_iter()
            .zip(values)
            .flat_map(|(k, v)| [k, v])
            .collect();
        let logical = LogicalType::Map(Box::new(key), Box::new(value));
        Ok(Expr::call(F::MapConstructor, args, logical.not_null()))
    }

    /// A query inside an expression. It sees the columns of this one.
    fn subquery(&self, query: &ast::Query) -> Result<LogicalPlan, SqlError> {
        self.binder.query(query, Some(self.env))
    }

    fn scalar_subquery(&self, query: &ast::Query) -> Result<Expr, SqlError> {
        if matches!(query.body.as_ref(), ast::SetExpr::Table(_)) {
            return Err(unsupported(
                "a TABLE argument outside of a window function",
                query.span(),
            ));
        }
        let plan = self.subquery(query)?;
        let [field] = plan.schema().as_ref() else {
            return Err(SqlError::validate(format!(
                "a subquery that stands for a value must have one column, not {}",
                plan.schema().len()
            )));
        };
        let data_type = field.data_type.clone().with_nullable(true);
        Ok(Expr {
            kind: ExprKind::ScalarSubquery(Box::new(plan)),
            data_type,
        })
    }

    fn in_subquery(&self, left: &ast::Expr, query: &ast::Query) -> Result<Expr, SqlError> {
        let exprs = match left {
            ast::Expr::Tuple(items) => self.bind_all(items)?,
            other => vec![self.bind(other)?],
        };
        let plan = self.subquery(query)?;
        if plan.schema().len() != exprs.len() {
            return Err(SqlError::validate(format!(
                "IN compares {} values with {} columns",
                exprs.len(),
                plan.schema().len()
            )));
        }
        let mut lefts = Vec::with_capacity(exprs.len());
        let mut targets = Vec::with_capacity(exprs.len());
        let mut nullable = false;
        for (expr, field) in exprs.into_iter().zip(plan.schema().iter()) {
            nullable |= expr.data_type.nullable || field.data_type.nullable;
            let (own, other) = (&expr.data_type.logical, &field.data_type.logical);
            let common = super::types::comparison_type(own, other).ok_or_else(|| {
                SqlError::validate(format!("cannot compare {own} with {other} in IN"))
            })?;
            targets.push(DataType {
                logical: common.clone(),
                nullable: field.data_type.nullable,
            });
            lefts.push(super::coerce::coerce_operand(expr, &common));
        }
        let plan = super::set_operation::cast_columns(plan, &targets);
        Ok(Expr {
            kind: ExprKind::InSubquery {
                exprs: lefts,
                plan: Box::new(plan),
            },
            data_type: DataType {
                logical: LogicalType::Boolean,
                nullable,
            },
        })
    }

    /// A function of the table.
    pub(crate) fn call(&self, name: &str, args: Vec<Expr>) -> Result<Expr, SqlError> {
        function::call(name, args)
    }
}

/// A searched CASE of bound parts.
pub(crate) fn case_of(branches: Vec<(Expr, Expr)>, otherwise: Expr) -> Result<Expr, SqlError> {
    let types: Vec<DataType> = branches
        .iter()
        .map(|(_, result)| result.data_type.clone())
        .chain([otherwise.data_type.clone()])
        .collect();
    let data_type =
        least_restrictive(&types).ok_or_else(|| no_common(&types, "results of CASE"))?;
    let branches = branches
        .into_iter()
        .map(|(condition, result)| (condition, coerce(result, &data_type.logical)))
        .collect();
    let otherwise = Box::new(coerce(otherwise, &data_type.logical));
    Ok(Expr {
        kind: ExprKind::Case {
            branches,
            otherwise,
        },
        data_type,
    })
}

/// All in their common type, and that type.
pub(crate) fn common(args: Vec<Expr>, what: &str) -> Result<(Vec<Expr>, DataType), SqlError> {
    let types: Vec<DataType> = args.iter().map(|arg| arg.data_type.clone()).collect();
    let data_type = least_restrictive(&types).ok_or_else(|| no_common(&types, what))?;
    Ok((
        args.into_iter()
            .map(|arg| coerce(arg, &data_type.logical))
            .collect(),
        data_type,
    ))
}

/// NOT around a condition.
pub(crate) fn negate_if(negated: bool, expr: Expr) -> Expr {
    if !negated {
        return expr;
    }
    let data_type = expr.data_type.clone();
    Expr::call(F::Not, vec![expr], data_type)
}

fn no_common(types: &[DataType], what: &str) -> SqlError {
    let mut names: Vec<String> = types.iter().map(function::shown_type).collect();
    names.dedup();
    SqlError::validate(format!(
        "the {what} have no common type: {}",
        names.join(", ")
    ))
    .hint("cast them to one type")
}
