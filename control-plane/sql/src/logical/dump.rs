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
    let inputs: Vec<&LogicalPlan> = match plan {
        LogicalPlan::Scan { .. } | LogicalPlan::Values { .. } => vec![],
        LogicalPlan::Project { input, .. }
        | LogicalPlan::Filter { input, .. }
        | LogicalPlan::Aggregate { input, .. }
        | LogicalPlan::Window { input, .. }
        | LogicalPlan::Over { input, .. }
        | LogicalPlan::Distinct { input }
        | LogicalPlan::Unnest { input, .. }
        | LogicalPlan::Sort { input, .. } => vec![input],
        LogicalPlan::Join { left, right, .. }
        | LogicalPlan::TemporalJoin { left, right, .. }
        | LogicalPlan::SetOperation { left, right, .. } => vec![left, right],
    };
    (line(plan), inputs)
}

fn line(plan: &LogicalPlan) -> String {
    match plan {
        LogicalPlan::Scan { table, schema } => format!("Scan {} [{}]", table.name, columns(schema)),
        LogicalPlan::Values { rows, schema } => {
            let rows = joined(rows.iter().map(|row| format!("({})", list(row))));
            format!("Values {rows} [{}]", columns(schema))
        }
        LogicalPlan::Project { exprs, schema, .. } => {
            format!("Project [{}]", projection(exprs, schema))
        }
        LogicalPlan::Filter { predicate, .. } => format!("Filter {predicate}"),
        LogicalPlan::Join {
            kind, condition, ..
        } => match condition {
            Some(on) => format!("{kind:?}Join on {on}"),
            None => format!("{kind:?}Join"),
        },
        LogicalPlan::TemporalJoin {
            kind,
            time_column: time,
            condition: on,
            ..
        } => {
            let time = time.map_or_else(|| "now".to_owned(), |time| format!("${time}"));
            format!("{kind:?}TemporalJoin as of {time} on {on}")
        }
        LogicalPlan::Aggregate {
            keys,
            grouping_sets: sets,
            calls,
            schema,
            ..
        } => {
            let sets = sets
                .as_ref()
                .map_or_else(String::new, |sets| format!(" sets {sets:?}"));
            let (keys, calls, columns) = (list(keys), joined(calls), columns(schema));
            format!("Aggregate keys ({keys}){sets} calls ({calls}) [{columns}]")
        }
        LogicalPlan::Window { function, .. } => window(function),
        LogicalPlan::Over { calls, .. } => format!("Over {}", joined(calls)),
        LogicalPlan::Distinct { .. } => "Distinct".to_owned(),
        LogicalPlan::SetOperation {
            op,
            all: true,
            schema,
            ..
        } => {
            format!("{op:?} all [{}]", columns(schema))
        }
        LogicalPlan::SetOperation { op, schema, .. } => format!("{op:?} [{}]", columns(schema)),
        LogicalPlan::Unnest { .. } => unnest(plan),
        LogicalPlan::Sort {
            keys,
            offset,
            limit,
            ..
        } => sort(keys, *offset, *limit),
    }
}

fn unnest(plan: &LogicalPlan) -> String {
    let LogicalPlan::Unnest {
        input,
        collection,
        left,
        with_ordinality,
        schema,
    } = plan
    else {
        return String::new();
    };
    let left = if *left { " left" } else { "" };
    let ordinality = if *with_ordinality {
        " with ordinality"
    } else {
        ""
    };
    let added: Schema = schema.iter().skip(input.schema().len()).cloned().collect();
    format!(
        "Unnest{left} {collection}{ordinality} [{}]",
        columns(&added)
    )
}

fn sort(keys: &[SortKey], offset: u64, limit: Option<u64>) -> String {
    let mut line = format!("Sort by ({})", joined(keys));
    if offset > 0 {
        let _ = write!(line, " offset {offset}");
    }
    if let Some(limit) = limit {
        let _ = write!(line, " limit {limit}");
    }
    line
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
