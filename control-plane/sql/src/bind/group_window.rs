//! Group windows: TUMBLE, HOP and SESSION in GROUP BY, and TUMBLE_START and its like in SELECT.
//! They become a Window node below the Aggregate, whose columns are further keys.

use proto::plan::WindowKind;
use proto::types::DataType;
use sqlparser::ast::{self, Spanned as _};

use super::expr::ExprBinder;
use super::special::{function_name, positional};
use super::window_function::{interval_ms, window_schema};
use crate::error::SqlError;
use crate::logical::{
    Expr, ExprKind, LogicalField, LogicalPlan, Schema, TimeAttribute, WindowFunction,
};

/// A group window of the query at hand.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct GroupWindow {
    /// What it is; `partition_by` still empty.
    pub(crate) function: WindowFunction,
    /// Position of window_start in the Window node's output.
    pub(crate) first_column: usize,
    /// Type of the time column, for TUMBLE_ROWTIME.
    time_type: DataType,
    time: TimeAttribute,
}

/// Whether an item of GROUP BY is a group window.
pub(crate) fn is_group_window(item: &ast::Expr) -> bool {
    match item {
        ast::Expr::Function(call) => {
            function_name(&call.name).is_ok_and(|name| kind(&name).is_some())
        }
        _ => false,
    }
}

fn kind(name: &str) -> Option<WindowKind> {
    Some(match name {
        "TUMBLE" => WindowKind::Tumble,
        "HOP" => WindowKind::Hop,
        "SESSION" => WindowKind::Session,
        _ => return None,
    })
}

impl ExprBinder<'_> {
    /// Binds a group window over the scope's columns.
    pub(crate) fn group_window(&self, item: &ast::Expr) -> Result<GroupWindow, SqlError> {
        let ast::Expr::Function(call) = item else {
            return Err(
                SqlError::validate("expected TUMBLE, HOP or SESSION").at_parser(item.span())
            );
        };
        let name = function_name(&call.name)?;
        let window = self
            .window_of(&name, call)
            .map_err(|error| error.at_parser(item.span()))?;
        window.ok_or_else(|| SqlError::validate("expected TUMBLE, HOP or SESSION"))
    }

    fn window_of(&self, name: &str, call: &ast::Function) -> Result<Option<GroupWindow>, SqlError> {
        let Some(kind) = kind(name) else {
            return Ok(None);
        };
        let args = positional(&call.args, call.span())?;
        let Some((time, sizes)) = args.split_first() else {
            return Err(SqlError::validate(format!(
                "`{name}` needs a time attribute and a size"
            )));
        };
        let time_expr = self.bind(time)?;
        let Some((time_column, attribute)) = self.time_attribute(&time_expr) else {
            return Err(SqlError::validate(format!(
                "`{name}` needs a time attribute, not a plain {}",
                time_expr.data_type.logical
            ))
            .at_parser(time.span())
            .hint("declare it with WATERMARK FOR column AS …"));
        };
        let sizes = sizes
            .iter()
            .map(|size| interval_ms(self, size))
            .collect::<Result<Vec<_>, _>>()?;
        let (step_ms, size_ms, offset_ms) = match (kind, sizes.as_slice()) {
            (WindowKind::Hop, [slide, size]) => (*slide, *size, 0),
            (WindowKind::Hop, [slide, size, offset]) => (*slide, *size, *offset),
            (WindowKind::Tumble, [size, offset]) => (*size, *size, *offset),
            (WindowKind::Tumble, [size]) => (*size, *size, 0),
            (WindowKind::Session, [gap]) => (0, *gap, 0),
            (WindowKind::Hop, _) => {
                return Err(SqlError::validate(
                    "`HOP` takes a time attribute, a slide and a size",
                ));
            }
            _ => {
                return Err(SqlError::validate(format!(
                    "`{name}` takes a time attribute and a size"
                )));
            }
        };
        let positive = |ms: i64| {
            u64::try_from(ms).ok().filter(|ms| *ms > 0).ok_or_else(|| {
                SqlError::validate(format!(
                    "the size of `{name}` must be positive, not {ms} ms"
                ))
            })
        };
        let function = WindowFunction {
            kind,
            time_column,
            size_ms: positive(size_ms)?,
            step_ms: if kind == WindowKind::Hop {
                positive(step_ms)?
            } else {
                0
            },
            offset_ms,
            partition_by: Vec::new(),
            processing_time: attribute == TimeAttribute::Proctime,
        };
        Ok(Some(GroupWindow {
            function,
            first_column: 0,
            time_type: time_expr.data_type,
            time: attribute,
        }))
    }

    /// TUMBLE_START and its like; `None` for other names.
    pub(crate) fn group_window_function(
        &self,
        name: &str,
        call: &ast::Function,
    ) -> Result<Option<Expr>, SqlError> {
        let Some((of, property)) = name.split_once('_') else {
            if kind(name).is_some() {
                return Err(
                    SqlError::validate(format!("`{name}` can stand in GROUP BY only")).hint(
                        format!("{name}_START and {name}_END give the window's bounds"),
                    ),
                );
            }
            return Ok(None);
        };
        if kind(of).is_none() || !matches!(property, "START" | "END" | "ROWTIME" | "PROCTIME") {
            return Ok(None);
        }
        let Some(window) = self.window_of(of, call)? else {
            return Ok(None);
        };
        let found = self
            .calls
            .and_then(|calls| calls.borrow().group_window.clone());
        let Some(found) = found.filter(|found| found.function == window.function) else {
            return Err(
                SqlError::validate(format!("`{name}` needs the same `{of}` in GROUP BY"))
                    .hint("its arguments must be equal to those in GROUP BY"),
            );
        };
        let wrong_time = match property {
            "ROWTIME" => found.time != TimeAttribute::Rowtime,
            "PROCTIME" => found.time != TimeAttribute::Proctime,
            _ => false,
        };
        if wrong_time {
            return Err(SqlError::validate(format!(
                "`{name}` is for windows of the other kind of time"
            )));
        }
        let first = found.first_column;
        let bound = |index: usize| {
            let logical = proto::types::LogicalType::Timestamp(3);
            Expr::column(first + index, logical.not_null())
        };
        Ok(Some(match property {
            "START" => bound(0),
            "END" => bound(1),
            _ => Expr::column(first + 2, found.time_type),
        }))
    }
}

/// Puts the Window node of a group window over `input`. `keys` are the other keys: sessions are
/// theirs; keys that are not columns become columns first. Returns the plan, the window with its
/// columns' places, and all keys over the new plan.
pub(crate) fn apply(
    input: LogicalPlan,
    mut window: GroupWindow,
    keys: Vec<Expr>,
) -> Result<(LogicalPlan, GroupWindow, Vec<Expr>), SqlError> {
    let mut input = input;
    let mut keys = keys;
    if window.function.kind == WindowKind::Session {
        if keys
            .iter()
            .any(|key| !matches!(key.kind, ExprKind::Column(_)))
        {
            (input, keys) = keys_as_columns(input, keys);
        }
        window.function.partition_by = keys
            .iter()
            .filter_map(|key| match key.kind {
                ExprKind::Column(index) => Some(index),
                _ => None,
            })
            .collect();
    }
    window.first_column = input.schema().len();
    let schema = window_schema(input.schema(), window.function.time_column)?;
    for (index, field) in schema.iter().enumerate().skip(window.first_column) {
        keys.push(Expr::column(index, field.data_type.clone()));
    }
    let function = window.function.clone();
    let plan = LogicalPlan::Window {
        input: Box::new(input),
        function,
        schema,
    };
    window.function.partition_by = Vec::new();
    Ok((plan, window, keys))
}

fn keys_as_columns(input: LogicalPlan, keys: Vec<Expr>) -> (LogicalPlan, Vec<Expr>) {
    let own = input.schema().clone();
    let mut fields: Vec<LogicalField> = own.to_vec();
    let mut exprs: Vec<Expr> = own
        .iter()
        .enumerate()
        .map(|(i, f)| Expr::column(i, f.data_type.clone()))
        .collect();
    let keys = keys
        .into_iter()
        .enumerate()
        .map(|(i, key)| {
            if matches!(key.kind, ExprKind::Column(_)) {
                return key;
            }
            let column = Expr::column(exprs.len(), key.data_type.clone());
            fields.push(LogicalField {
                qualifier: None,
                name: format!("$key{i}"),
                data_type: key.data_type.clone(),
                time: None,
            });
            exprs.push(key);
            column
        })
        .collect();
    let schema: Schema = fields.into();
    (
        LogicalPlan::Project {
            input: Box::new(input),
            exprs,
            schema,
        },
        keys,
    )
}
