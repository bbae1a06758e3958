//! OVER: functions over the rows around a row.

use proto::types::LogicalType;
use sqlparser::ast::{self, Spanned as _};

use super::aggregate::over_column;
use super::coerce::coerce;
use super::expr::ExprBinder;
use super::function::is_aggregate;
use super::literal::int;
use super::order::sort_keys;
use super::refuse::{refuse_all, unsupported};
use super::special::positional;
use super::types::implicit_cast_allowed;
use crate::error::SqlError;
use crate::logical::{
    Expr, ExprKind, FrameBound, FrameUnits, Literal, OverCall, OverFunction, SortKey, TimeAttribute,
};

/// The clause in which an OVER call's parts stand.
const IN_OVER: &str = "an OVER call";

impl ExprBinder<'_> {
    /// `f(…) OVER (…)`.
    pub(crate) fn over_call(&self, name: &str, call: &ast::Function) -> Result<Expr, SqlError> {
        let Some(calls) = self.calls.filter(|_| self.clause != IN_OVER) else {
            return Err(
                SqlError::validate(format!("OVER cannot stand in {}", self.clause))
                    .at_parser(call.span())
                    .hint("compute it in a subquery first"),
            );
        };
        let spec = self.window_spec(call)?;
        let inner = ExprBinder::new(self.binder, self.env, IN_OVER).with_calls(calls);
        let partition_by = inner.bind_all(&spec.partition_by)?;
        let order_by = sort_keys(&inner, &spec.order_by)?;
        let at_call = |error: SqlError| error.at_parser(call.span());
        let (function, data_type) = inner.over_function(name, call).map_err(at_call)?;
        let is_aggregate = matches!(function, OverFunction::Aggregate(_));
        self.check_order(name, call, &order_by, is_aggregate)?;
        let (units, start) = match &spec.window_frame {
            Some(frame) if is_aggregate => inner.frame(frame).map_err(at_call)?,
            Some(_) => {
                return Err(
                    SqlError::validate(format!("`{name}` takes no ROWS or RANGE"))
                        .at_parser(call.span()),
                );
            }
            None if is_aggregate => (FrameUnits::Range, FrameBound::UnboundedPreceding),
            None => (FrameUnits::Rows, FrameBound::UnboundedPreceding),
        };
        check_range(call, units, &start, &order_by)?;
        let bound = OverCall {
            function,
            partition_by,
            order_by,
            units,
            start,
            data_type,
            name: call.to_string(),
        };
        let mut calls = calls.borrow_mut();
        let known = calls.overs.iter().position(|other| *other == bound);
        let column = over_column(known.unwrap_or(calls.overs.len()), &bound);
        if known.is_none() {
            calls.overs.push(bound);
        }
        Ok(column)
    }

    fn check_order(
        &self,
        name: &str,
        call: &ast::Function,
        order_by: &[SortKey],
        is_aggregate: bool,
    ) -> Result<(), SqlError> {
        let Some(first) = order_by.first() else {
            return Err(SqlError::plan(format!("`{name}` OVER needs ORDER BY"))
                .at_parser(call.span())
                .hint("order by the event time"));
        };
        let by_time = match &first.expr.kind {
            ExprKind::Column(index) => self
                .env
                .scope
                .fields
                .get(*index)
                .is_some_and(|field| field.time.is_some()),
            _ => false,
        };
        if is_aggregate && by_time && first.descending {
            return Err(
                SqlError::plan("an aggregate over time runs in ascending order only")
                    .at_parser(call.span())
                    .hint("drop DESC"),
            );
        }
        Ok(())
    }

    /// The window of a call, with what it takes from a named one.
    fn window_spec(&self, call: &ast::Function) -> Result<ast::WindowSpec, SqlError> {
        let (mut spec, mut base) = match &call.over {
            Some(ast::WindowType::WindowSpec(spec)) => (spec.clone(), spec.window_name.clone()),
            Some(ast::WindowType::NamedWindow(name)) => (
                ast::WindowSpec {
                    window_name: None,
                    partition_by: Vec::new(),
                    order_by: Vec::new(),
                    window_frame: None,
                },
                Some(name.clone()),
            ),
            None => return Err(SqlError::validate("OVER needs a window")),
        };
        let mut steps = 0;
        while let Some(name) = base {
            let windows = self
                .calls
                .map(|calls| calls.borrow().windows.clone())
                .unwrap_or_default();
            let Some((_, named)) = windows.into_iter().find(|(known, _)| *known == name.value)
            else {
                return Err(
                    SqlError::validate(format!("window `{}` does not exist", name.value))
                        .at_parser(name.span)
                        .hint("define it with WINDOW name AS (…)"),
                );
            };
            let clash = (!spec.partition_by.is_empty() && !named.partition_by.is_empty())
                || (!spec.order_by.is_empty() && !named.order_by.is_empty())
                || (spec.window_frame.is_some() && named.window_frame.is_some());
            steps += 1;
            if clash || steps > 16 {
                return Err(SqlError::validate(format!(
                    "window `{}` cannot be refined like this",
                    name.value
                ))
                .at_parser(name.span));
            }
            if spec.partition_by.is_empty() {
                spec.partition_by = named.partition_by;
            }
            if spec.order_by.is_empty() {
                spec.order_by = named.order_by;
            }
            spec.window_frame = spec.window_frame.or(named.window_frame);
            base = named.window_name;
        }
        Ok(spec)
    }

    fn over_function(
        &self,
        name: &str,
        call: &ast::Function,
    ) -> Result<(OverFunction, proto::types::DataType), SqlError> {
        if is_aggregate(name) {
            let aggregate = self.aggregate(name, call, false)?;
            let data_type = aggregate.data_type.clone();
            return Ok((OverFunction::Aggregate(aggregate), data_type));
        }
        refuse_all(
            &[
                (
                    call.filter.is_some(),
                    "FILTER on a function that is no aggregate",
                ),
                (
                    call.null_treatment.is_some(),
                    "IGNORE NULLS or RESPECT NULLS",
                ),
                (!call.within_group.is_empty(), "WITHIN GROUP"),
                (call.uses_odbc_syntax, "the `{fn …}` notation"),
                (
                    call.parameters != ast::FunctionArguments::None,
                    "a second list of arguments",
                ),
            ],
            call.span(),
        )?;
        let args = positional(&call.args, call.span())?;
        let number = match name {
            "ROW_NUMBER" => OverFunction::RowNumber,
            "RANK" => OverFunction::Rank,
            "DENSE_RANK" => OverFunction::DenseRank,
            "LAG" => return self.lag(&args),
            "LEAD" | "NTILE" | "PERCENT_RANK" | "CUME_DIST" | "NTH_VALUE" => {
                return Err(
                    SqlError::plan(format!("`{name}` is not supported on a stream"))
                        .at_parser(call.span())
                        .hint("it would need rows that are yet to come"),
                );
            }
            _ => {
                return Err(
                    SqlError::validate(format!("`{name}` is no function for OVER"))
                        .at_parser(call.span()),
                );
            }
        };
        if let Some(arg) = args.first() {
            return Err(
                SqlError::validate(format!("`{name}` takes no arguments")).at_parser(arg.span())
            );
        }
        Ok((number, LogicalType::BigInt.not_null()))
    }

    fn lag(&self, args: &[&ast::Expr]) -> Result<(OverFunction, proto::types::DataType), SqlError> {
        let mut bound = args
            .iter()
            .map(|arg| self.bind(arg))
            .collect::<Result<Vec<_>, _>>()?;
        if bound.is_empty() || bound.len() > 3 {
            return Err(SqlError::validate(
                "LAG takes a value, an offset and a default",
            ));
        }
        if bound.len() == 1 {
            bound.push(int(1));
        }
        if !matches!(bound[1].kind, ExprKind::Literal(Literal::Integer(0..))) {
            return Err(
                SqlError::validate("the offset of LAG must be a constant integer")
                    .at_parser(args.get(1).map_or(args[0].span(), |arg| arg.span())),
            );
        }
        let value = bound[0].data_type.clone();
        let nullable = match bound.get(2) {
            Some(default) if implicit_cast_allowed(&default.data_type.logical, &value.logical) => {
                value.nullable || default.data_type.nullable
            }
            Some(default) => {
                return Err(SqlError::validate(format!(
                    "the default of LAG is {}, its value {}",
                    default.data_type.logical, value.logical
                )));
            }
            None => true,
        };
        let args = bound
            .into_iter()
            .enumerate()
            .map(|(i, arg)| {
                if i == 2 {
                    coerce(arg, &value.logical)
                } else {
                    arg
                }
            })
            .collect();
        Ok((OverFunction::Lag { args }, value.with_nullable(nullable)))
    }

    fn frame(&self, frame: &ast::WindowFrame) -> Result<(FrameUnits, FrameBound), SqlError> {
        let units = match frame.units {
            ast::WindowFrameUnits::Rows => FrameUnits::Rows,
            ast::WindowFrameUnits::Range => FrameUnits::Range,
            ast::WindowFrameUnits::Groups => {
                return Err(SqlError::validate("GROUPS frames are not supported"));
            }
        };
        if !matches!(
            frame.end_bound,
            None | Some(ast::WindowFrameBound::CurrentRow)
        ) {
            return Err(SqlError::plan("an OVER frame must end at CURRENT ROW")
                .hint("a stream does not know the rows that follow"));
        }
        let start = match &frame.start_bound {
            ast::WindowFrameBound::CurrentRow => FrameBound::CurrentRow,
            ast::WindowFrameBound::Preceding(None) => FrameBound::UnboundedPreceding,
            ast::WindowFrameBound::Preceding(Some(amount)) => {
                FrameBound::Preceding(self.frame_amount(units, amount)?)
            }
            ast::WindowFrameBound::Following(_) => {
                return Err(SqlError::plan(
                    "an OVER frame cannot start after the current row",
                ));
            }
        };
        Ok((units, start))
    }

    fn frame_amount(&self, units: FrameUnits, amount: &ast::Expr) -> Result<u64, SqlError> {
        let bound = self.bind(amount)?;
        let fits = match units {
            FrameUnits::Rows => bound.data_type.logical.is_integer(),
            FrameUnits::Range => bound.data_type.logical == LogicalType::IntervalDayTime,
        };
        match bound.kind {
            ExprKind::Literal(Literal::Integer(value)) if fits => u64::try_from(value)
                .map_err(|_| SqlError::validate("a frame's bound cannot be negative")),
            _ => Err(SqlError::validate(match units {
                FrameUnits::Rows => "ROWS takes a constant number of rows",
                FrameUnits::Range => "RANGE takes a constant INTERVAL of days to seconds",
            })),
        }
        .map_err(|error| error.at_parser(amount.span()))
    }

    /// Refuses what cannot be a time attribute.
    pub(crate) fn time_attribute(&self, expr: &Expr) -> Option<(usize, TimeAttribute)> {
        match expr.kind {
            ExprKind::Column(index) => self
                .env
                .scope
                .fields
                .get(index)?
                .time
                .map(|time| (index, time)),
            _ => None,
        }
    }
}

/// Refuses a range of time over an order that is not one of time.
fn check_range(
    call: &ast::Function,
    units: FrameUnits,
    start: &FrameBound,
    order_by: &[SortKey],
) -> Result<(), SqlError> {
    if units == FrameUnits::Rows || !matches!(start, FrameBound::Preceding(_)) {
        return Ok(());
    }
    let is_time = |key: &SortKey| {
        matches!(
            key.expr.data_type.logical,
            LogicalType::Timestamp(_) | LogicalType::TimestampLtz(_)
        )
    };
    match order_by {
        [key] if is_time(key) => Ok(()),
        _ => Err(
            SqlError::validate("RANGE with an INTERVAL needs ORDER BY one TIMESTAMP")
                .at_parser(call.span())
                .hint("RANGE UNBOUNDED PRECEDING takes any order, as ROWS does"),
        ),
    }
}

/// Refuses a WINDOW clause whose names clash.
pub(crate) fn named_windows(
    definitions: &[ast::NamedWindowDefinition],
) -> Result<Vec<(String, ast::WindowSpec)>, SqlError> {
    let mut windows: Vec<(String, ast::WindowSpec)> = Vec::new();
    for ast::NamedWindowDefinition(name, definition) in definitions {
        if windows.iter().any(|(known, _)| *known == name.value) {
            return Err(
                SqlError::validate(format!("window `{}` is defined twice", name.value))
                    .at_parser(name.span),
            );
        }
        let spec = match definition {
            ast::NamedWindowExpr::WindowSpec(spec) => spec.clone(),
            ast::NamedWindowExpr::NamedWindow(_) => {
                return Err(unsupported("WINDOW name AS other_name", name.span));
            }
        };
        windows.push((name.value.clone(), spec));
    }
    Ok(windows)
}

/// An OVER call whose expressions are rewritten.
pub(crate) fn map_over(
    call: OverCall,
    map: &dyn Fn(Expr) -> Result<Expr, SqlError>,
) -> Result<OverCall, SqlError> {
    let map_all = |exprs: Vec<Expr>| exprs.into_iter().map(map).collect::<Result<Vec<_>, _>>();
    let function = match call.function {
        OverFunction::Lag { args } => OverFunction::Lag {
            args: map_all(args)?,
        },
        OverFunction::Aggregate(aggregate) => {
            OverFunction::Aggregate(crate::logical::AggregateCall {
                args: map_all(aggregate.args)?,
                filter: aggregate.filter.map(map).transpose()?,
                ..aggregate
            })
        }
        other => other,
    };
    let partition_by = map_all(call.partition_by)?;
    let order_by = call
        .order_by
        .into_iter()
        .map(|key| {
            Ok(SortKey {
                expr: map(key.expr)?,
                ..key
            })
        })
        .collect::<Result<Vec<_>, SqlError>>()?;
    Ok(OverCall {
        function,
        partition_by,
        order_by,
        ..call
    })
}
