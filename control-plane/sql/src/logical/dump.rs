//! The text form of bound queries: EXPLAIN and tests show it. One node per line, inputs indented
//! below it; `$3` is the input's fourth column, `$outer1.3` that of the enclosing query.

use std::fmt::{self, Write as _};

use super::{
    AggregateCall, Expr, ExprKind, FrameBound, FrameUnits, Literal, LogicalPlan, OverCall,
    OverFunction, Schema, SortKey, TimeAttribute, WindowFunction,
};

/// Shows a plan with the types of its columns.
#[must_use]
pub fn dump(plan: &LogicalPlan) -> String {
    let mut text = String::new();
    write_plan(plan, 0, &mut text);
    text
}

fn write_plan(plan: &LogicalPlan, indent: usize, text: &mut String) {
    let (line, inputs) = describe(plan);
    let _ = writeln!(text, "{:1$}{line}", "", indent * 2);
    for input in inputs {
        write_plan(input, indent + 1, text);
    }
}

fn describe(plan: &LogicalPlan) -> (String, Vec<&LogicalPlan>) {
    match plan {
        LogicalPlan::Scan { table, schema } => {
            (format!("Scan {} [{}]", table.name, columns(schema)), vec![])
        }
        LogicalPlan::Values { rows, schema } => {
            let rows = joined(rows.iter().map(|row| format!("({})", list(row))));
            (format!("Values {rows} [{}]", columns(schema)), vec![])
        }
        LogicalPlan::Project {
            input,
            exprs,
            schema,
        } => (
            format!("Project [{}]", projection(exprs, schema)),
            vec![input],
        ),
        LogicalPlan::Filter { input, predicate } => (format!("Filter {predicate}"), vec![input]),
        LogicalPlan::Join {
            left,
            right,
            kind,
            condition,
            ..
        } => {
            let on = condition
                .as_ref()
                .map_or_else(String::new, |on| format!(" on {on}"));
            (format!("{kind:?}Join{on}"), vec![left, right])
        }
        LogicalPlan::TemporalJoin {
            left,
            right,
            kind,
            time_column,
            condition,
            ..
        } => {
            let line = format!("{kind:?}TemporalJoin as of ${time_column} on {condition}");
            (line, vec![left, right])
        }
        LogicalPlan::Aggregate {
            input,
            keys,
            grouping_sets,
            calls,
            schema,
        } => {
            let sets = grouping_sets.as_ref();
            let sets = sets.map_or_else(String::new, |sets| format!(" sets {sets:?}"));
            let (keys, calls) = (list(keys), joined(calls));
            let columns = columns(schema);
            (
                format!("Aggregate keys ({keys}){sets} calls ({calls}) [{columns}]"),
                vec![input],
            )
        }
        LogicalPlan::Window {
            input, function, ..
        } => (window(function), vec![input]),
        LogicalPlan::Over { input, calls, .. } => (format!("Over {}", joined(calls)), vec![input]),
        LogicalPlan::Distinct { input } => ("Distinct".to_owned(), vec![input]),
        LogicalPlan::SetOperation {
            op,
            all,
            left,
            right,
            schema,
        } => {
            let all = if *all { " all" } else { "" };
            (
                format!("{op:?}{all} [{}]", columns(schema)),
                vec![left, right],
            )
        }
        LogicalPlan::Unnest {
            input,
            collection,
            left,
            with_ordinality,
            schema,
        } => {
            let left = if *left { " left" } else { "" };
            let ordinality = if *with_ordinality {
                " with ordinality"
            } else {
                ""
            };
            let added: Schema = schema.iter().skip(input.schema().len()).cloned().collect();
            let added = columns(&added);
            (
                format!("Unnest{left} {collection}{ordinality} [{added}]"),
                vec![input],
            )
        }
        LogicalPlan::Sort {
            input,
            keys,
            offset,
            limit,
        } => {
            let offset = (*offset > 0)
                .then(|| format!(" offset {offset}"))
                .unwrap_or_default();
            let limit = limit
                .map(|limit| format!(" limit {limit}"))
                .unwrap_or_default();
            (
                format!("Sort by ({}){offset}{limit}", joined(keys)),
                vec![input],
            )
        }
    }
}

fn projection(exprs: &[Expr], schema: &Schema) -> String {
    joined(exprs.iter().zip(schema.iter()).map(|(expr, field)| {
        format!(
            "{} := {expr} {}{}",
            field.name,
            field.data_type,
            time_mark(field.time)
        )
    }))
}

fn window(function: &WindowFunction) -> String {
    format!(
        "Window {:?} time ${} size {} step {} offset {} partition {:?}",
        function.kind,
        function.time_column,
        function.size_ms,
        function.step_ms,
        function.offset_ms,
        function.partition_by
    )
}

fn joined(items: impl IntoIterator<Item = impl fmt::Display>) -> String {
    let mut text = String::new();
    for (index, item) in items.into_iter().enumerate() {
        let comma = if index > 0 { ", " } else { "" };
        let _ = write!(text, "{comma}{item}");
    }
    text
}

fn columns(schema: &Schema) -> String {
    joined(schema.iter().map(|field| {
        format!(
            "{} {}{}",
            field.name,
            field.data_type,
            time_mark(field.time)
        )
    }))
}

fn time_mark(time: Option<TimeAttribute>) -> &'static str {
    match time {
        None => "",
        Some(TimeAttribute::Rowtime) => " *rowtime*",
        Some(TimeAttribute::Proctime) => " *proctime*",
    }
}

fn list(exprs: &[Expr]) -> String {
    joined(exprs)
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ExprKind::Column(index) => write!(f, "${index}"),
            ExprKind::OuterColumn { depth, index } => write!(f, "$outer{depth}.{index}"),
            ExprKind::Literal(literal) => match literal {
                Literal::Null => write!(f, "NULL::{}", self.data_type.logical),
                Literal::Integer(value) if !self.data_type.logical.is_integer() => {
                    write!(f, "{value}::{}", self.data_type.logical)
                }
                other => write!(f, "{other}"),
            },
            ExprKind::Call { function, args } => write!(f, "{function}({})", list(args)),
            ExprKind::Cast { input, r#try } => {
                let name = if *r#try { "TRY_CAST" } else { "CAST" };
                write!(f, "{name}({input} AS {})", self.data_type.logical)
            }
            ExprKind::Case {
                branches,
                otherwise,
            } => {
                f.write_str("CASE")?;
                for (condition, result) in branches {
                    write!(f, " WHEN {condition} THEN {result}")?;
                }
                write!(f, " ELSE {otherwise} END")
            }
            ExprKind::Field { input, index } => write!(f, "{input}.{index}"),
            ExprKind::ScalarSubquery(plan) => write!(f, "SCALAR({})", inline(plan)),
            ExprKind::InSubquery { exprs, plan } => {
                write!(f, "({}) IN ({})", list(exprs), inline(plan))
            }
            ExprKind::Exists(plan) => write!(f, "EXISTS({})", inline(plan)),
        }
    }
}

/// A plan on one line.
fn inline(plan: &LogicalPlan) -> String {
    let (line, inputs) = describe(plan);
    let inputs: Vec<String> = inputs.into_iter().map(inline).collect();
    match inputs.len() {
        0 => line,
        _ => format!("{line} <- {}", inputs.join(" ; ")),
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Literal::Null => f.write_str("NULL"),
            Literal::Boolean(value) => write!(f, "{value}"),
            Literal::Integer(value) => write!(f, "{value}"),
            Literal::Double(value) => write!(f, "{value:e}"),
            Literal::Decimal(text) => f.write_str(text),
            Literal::String(text) => write!(f, "'{}'", text.replace('\'', "''")),
            Literal::Binary(bytes) => {
                f.write_str("x'")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
                f.write_str("'")
            }
        }
    }
}

impl fmt::Display for AggregateCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let distinct = if self.distinct { "DISTINCT " } else { "" };
        write!(f, "{}({distinct}{})", self.function, list(&self.args))?;
        match &self.filter {
            Some(filter) => write!(f, " FILTER {filter}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for SortKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = if self.descending { " DESC" } else { "" };
        let nulls = match (self.descending, self.nulls_last) {
            (false, true) => " NULLS LAST",
            (true, false) => " NULLS FIRST",
            _ => "",
        };
        write!(f, "{}{direction}{nulls}", self.expr)
    }
}

impl fmt::Display for OverCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.function {
            OverFunction::RowNumber => f.write_str("ROW_NUMBER()")?,
            OverFunction::Rank => f.write_str("RANK()")?,
            OverFunction::DenseRank => f.write_str("DENSE_RANK()")?,
            OverFunction::Lag { args } => write!(f, "LAG({})", list(args))?,
            OverFunction::Aggregate(call) => write!(f, "{call}")?,
        }
        let keys: Vec<String> = self.order_by.iter().map(ToString::to_string).collect();
        let units = match self.units {
            FrameUnits::Rows => "rows",
            FrameUnits::Range => "range",
        };
        let partition = list(&self.partition_by);
        write!(
            f,
            " over (partition by {partition} order by {} {units} from ",
            keys.join(", ")
        )?;
        match self.start {
            FrameBound::UnboundedPreceding => f.write_str("unbounded)"),
            FrameBound::Preceding(amount) => write!(f, "{amount})"),
            FrameBound::CurrentRow => f.write_str("current row)"),
        }
    }
}
