//! TUMBLE, HOP, CUMULATE and SESSION as table functions.

use proto::plan::WindowKind;
use proto::types::LogicalType;
use sqlparser::ast::{self, Spanned as _};
use sqlparser::tokenizer::Span;

use super::Binder;
use super::expr::ExprBinder;
use super::from::Source;
use super::refuse::unsupported;
use super::scope::{Env, Scope};
use super::special::function_name;
use crate::error::SqlError;
use crate::logical::{
    ExprKind, Literal, LogicalField, LogicalPlan, Schema, TimeAttribute, WindowFunction,
};
use crate::parse::named_by_argument;

/// The window function of this name (upper case).
pub(crate) fn window_kind(name: &str) -> Option<WindowKind> {
    Some(match name {
        "TUMBLE" => WindowKind::Tumble,
        "HOP" => WindowKind::Hop,
        "CUMULATE" => WindowKind::Cumulate,
        "SESSION" => WindowKind::Session,
        _ => return None,
    })
}

/// Names of the parameters, in order; the last is the offset where there is one.
fn parameters(kind: WindowKind) -> &'static [&'static str] {
    match kind {
        WindowKind::Hop => &["DATA", "TIMECOL", "SLIDE", "SIZE", "OFFSET"],
        WindowKind::Cumulate => &["DATA", "TIMECOL", "STEP", "SIZE", "OFFSET"],
        WindowKind::Session => &["DATA", "TIMECOL", "GAP"],
        _ => &["DATA", "TIMECOL", "SIZE", "OFFSET"],
    }
}

impl Binder<'_> {
    /// Binds a window function in FROM.
    pub(crate) fn window_function(
        &self,
        name: &str,
        args: &[ast::FunctionArg],
        span: Span,
        outer: Option<&Env<'_>>,
    ) -> Result<Source, SqlError> {
        let kind = window_kind(name)
            .ok_or_else(|| unsupported(&format!("the table function `{name}`"), span))?;
        let bound = self.bind_window(name, kind, args, outer);
        bound.map_err(|error| error.at_parser(span))
    }

    fn bind_window(
        &self,
        name: &str,
        kind: WindowKind,
        args: &[ast::FunctionArg],
        outer: Option<&Env<'_>>,
    ) -> Result<Source, SqlError> {
        let names = parameters(kind);
        let slots = by_parameter(name, names, args)?;
        let required = names
            .iter()
            .filter(|parameter| **parameter != "OFFSET")
            .count();
        for (parameter, slot) in names.iter().zip(&slots).take(required) {
            if slot.is_none() {
                return Err(SqlError::validate(format!("`{name}` needs {parameter}"))
                    .hint(format!("its parameters are {}", names.join(", "))));
            }
        }
        let (Some(data), Some(time)) = (slots[0], slots[1]) else {
            return Err(SqlError::validate(format!(
                "`{name}` needs a table and a time column"
            )));
        };
        let (source, partition) = self.window_input(data, outer)?;
        let env = Env {
            scope: &source.scope,
            outer,
        };
        let binder = ExprBinder::new(self, &env, "a window function");
        let time_column = time_column(&binder, name, time)?;
        let partition_by = partition_by(&binder, kind, &partition)?;
        let mut amounts = Vec::new();
        for slot in slots.iter().skip(2) {
            amounts.push(slot.map(|slot| interval_ms(&binder, slot)).transpose()?);
        }
        let amount = |index: usize| amounts.get(index).copied().flatten();
        let (step, size, offset) = match kind {
            WindowKind::Hop | WindowKind::Cumulate => (
                amount(0).unwrap_or(0),
                amount(1).unwrap_or(0),
                amount(2).unwrap_or(0),
            ),
            _ => (0, amount(0).unwrap_or(0), amount(1).unwrap_or(0)),
        };
        let (size_ms, step_ms) = checked_sizes(name, kind, size, step)?;
        let function = WindowFunction {
            kind,
            time_column,
            size_ms,
            step_ms,
            offset_ms: offset,
            partition_by,
            processing_time: source.scope.fields[time_column].time == Some(TimeAttribute::Proctime),
        };
        let schema = window_schema(&source.scope.fields, time_column)?;
        let plan = LogicalPlan::Window {
            input: Box::new(source.plan),
            function,
            schema: schema.clone(),
        };
        Ok(Source {
            plan,
            scope: Scope::new(schema),
        })
    }

    /// `TABLE t`, `TABLE t PARTITION BY …` or a query in parentheses.
    fn window_input<'q>(
        &self,
        data: &'q ast::Expr,
        outer: Option<&Env<'_>>,
    ) -> Result<(Source, Vec<&'q ast::Expr>), SqlError> {
        let (table, partition) = match data {
            ast::Expr::Tuple(items) => match items.split_first() {
                Some((table, partition)) => (table, partition),
                None => return Err(SqlError::validate("expected `TABLE name`")),
            },
            ast::Expr::Nested(inner) => return self.window_input(inner, outer),
            other => (other, &[][..]),
        };
        let source = if let Some(name) = named_by_argument(table) {
            self.named_table(&name)?
        } else if let ast::Expr::Subquery(query) = table {
            let plan = self.query(query, outer)?;
            let scope = Scope::new(plan.schema().clone());
            Source { plan, scope }
        } else {
            return Err(
                SqlError::validate("the first argument of a window function is a table")
                    .at_parser(table.span())
                    .hint("write TABLE name"),
            );
        };
        let mut columns = Vec::new();
        for item in partition {
            match item {
                ast::Expr::Tuple(items) => columns.extend(items),
                ast::Expr::Nested(inner) => columns.push(inner.as_ref()),
                other => columns.push(other),
            }
        }
        Ok((source, columns))
    }
}

/// Arguments in the order of the parameters.
fn by_parameter<'q>(
    name: &str,
    names: &[&str],
    args: &'q [ast::FunctionArg],
) -> Result<Vec<Option<&'q ast::Expr>>, SqlError> {
    let mut slots: Vec<Option<&ast::Expr>> = vec![None; names.len()];
    let mut named = false;
    for (position, arg) in args.iter().enumerate() {
        let (index, expr) = match arg {
            ast::FunctionArg::Named {
                name: parameter,
                arg: ast::FunctionArgExpr::Expr(expr),
                operator: ast::FunctionArgOperator::RightArrow,
            } => {
                named = true;
                let upper = parameter.value.to_uppercase();
                let index = names
                    .iter()
                    .position(|known| *known == upper)
                    .ok_or_else(|| {
                        SqlError::validate(format!(
                            "`{name}` has no parameter `{}`",
                            parameter.value
                        ))
                        .at_parser(parameter.span)
                        .hint(format!("its parameters are {}", names.join(", ")))
                    })?;
                (index, expr)
            }
            ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expr)) if !named => {
                (position, expr)
            }
            other => {
                return Err(unsupported(
                    &format!("the argument `{other}`"),
                    other.span(),
                ));
            }
        };
        match slots.get_mut(index) {
            Some(slot @ None) => *slot = Some(expr),
            Some(Some(_)) => {
                return Err(
                    SqlError::validate(format!("{} is given twice", names[index]))
                        .at_parser(expr.span()),
                );
            }
            None => {
                return Err(
                    SqlError::validate(format!("`{name}` takes fewer arguments"))
                        .at_parser(expr.span())
                        .hint(format!("its parameters are {}", names.join(", "))),
                );
            }
        }
    }
    Ok(slots)
}

fn time_column(
    binder: &ExprBinder<'_>,
    name: &str,
    descriptor: &ast::Expr,
) -> Result<usize, SqlError> {
    let column = match descriptor {
        ast::Expr::Function(call)
            if function_name(&call.name).is_ok_and(|name| name == "DESCRIPTOR") =>
        {
            let args = super::special::positional(&call.args, call.span())?;
            match args.as_slice() {
                [column @ ast::Expr::Identifier(_)] => *column,
                _ => {
                    return Err(SqlError::validate("DESCRIPTOR takes one column")
                        .at_parser(descriptor.span()));
                }
            }
        }
        other => {
            return Err(SqlError::validate(format!(
                "the second argument of `{name}` is its time column"
            ))
            .at_parser(other.span())
            .hint("write DESCRIPTOR(column)"));
        }
    };
    let bound = binder.bind(column)?;
    match binder.time_attribute(&bound) {
        Some((index, _)) => Ok(index),
        None => Err(SqlError::validate(format!(
            "the time column of `{name}` must be a time attribute, not a plain {}",
            bound.data_type.logical
        ))
        .at_parser(column.span())
        .hint("declare it with WATERMARK FOR column AS …")),
    }
}

fn partition_by(
    binder: &ExprBinder<'_>,
    kind: WindowKind,
    columns: &[&ast::Expr],
) -> Result<Vec<usize>, SqlError> {
    if kind != WindowKind::Session
        && let Some(first) = columns.first()
    {
        return Err(SqlError::validate("PARTITION BY is for SESSION only").at_parser(first.span()));
    }
    columns
        .iter()
        .map(|column| match binder.bind(column)?.kind {
            ExprKind::Column(index) => Ok(index),
            _ => Err(SqlError::validate("PARTITION BY takes columns").at_parser(column.span())),
        })
        .collect()
}

/// A constant interval of days to seconds, in milliseconds.
pub(crate) fn interval_ms(binder: &ExprBinder<'_>, expr: &ast::Expr) -> Result<i64, SqlError> {
    let bound = binder.bind(expr)?;
    match (&bound.data_type.logical, &bound.kind) {
        (LogicalType::IntervalDayTime, ExprKind::Literal(Literal::Integer(ms))) => Ok(*ms),
        _ => Err(SqlError::validate(
            "a window's size must be a constant interval of days to seconds",
        )
        .at_parser(expr.span())
        .hint("write INTERVAL '10' MINUTE, for example")),
    }
}

fn checked_sizes(
    name: &str,
    kind: WindowKind,
    size: i64,
    step: i64,
) -> Result<(u64, u64), SqlError> {
    let positive = |what: &str, ms: i64| {
        u64::try_from(ms).ok().filter(|ms| *ms > 0).ok_or_else(|| {
            SqlError::validate(format!(
                "the {what} of `{name}` must be positive, not {ms} ms"
            ))
        })
    };
    let size = positive(
        if kind == WindowKind::Session {
            "gap"
        } else {
            "size"
        },
        size,
    )?;
    let step = match kind {
        WindowKind::Hop => positive("slide", step)?,
        WindowKind::Cumulate => positive("step", step)?,
        _ => return Ok((size, 0)),
    };
    if size % step != 0 {
        let what = if kind == WindowKind::Hop {
            "slide"
        } else {
            "step"
        };
        return Err(SqlError::validate(format!(
            "the size of `{name}` must be a multiple of its {what}: {size} ms, {step} ms"
        )));
    }
    Ok((size, step))
}

/// The input's columns, then window_start, window_end and window_time.
pub(crate) fn window_schema(input: &Schema, time_column: usize) -> Result<Schema, SqlError> {
    let time = &input[time_column];
    let attribute = time.time.unwrap_or(TimeAttribute::Rowtime);
    let field = |name: &str, logical: LogicalType, time: Option<TimeAttribute>| LogicalField {
        qualifier: None,
        name: name.to_owned(),
        data_type: logical.not_null(),
        time,
    };
    let bounds = ["window_start", "window_end"];
    let added = bounds
        .map(|name| field(name, LogicalType::Timestamp(3), None))
        .into_iter()
        .chain([field(
            "window_time",
            time.data_type.logical.clone(),
            Some(attribute),
        )]);
    Ok(input.iter().cloned().chain(added).collect())
}
