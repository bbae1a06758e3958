//! Nodes and expressions as one line for people.

use proto::plan::{self as wire, ScalarFunction};
use proto::types::{Field, LogicalType};

use crate::logical::{Expr, ExprKind, Literal};

use super::describe_join::{join, lookup_join, multi_join};
use super::node::{Graph, NodeId, Op, SourceOp};

/// The expression in SQL's words; columns by the given names.
pub(crate) fn expression(expr: &Expr, names: &[String]) -> String {
    let list = |exprs: &[Expr]| {
        let texts: Vec<String> = exprs.iter().map(|e| expression(e, names)).collect();
        texts.join(", ")
    };
    match &expr.kind {
        ExprKind::Column(index) => names
            .get(*index)
            .map_or_else(|| format!("${index}"), Clone::clone),
        ExprKind::OuterColumn { depth, index } => format!("outer({depth}, {index})"),
        ExprKind::Literal(literal) => literal_text(literal, &expr.data_type.logical),
        ExprKind::Call { function, args } => call(*function, args, names),
        ExprKind::Cast { input, r#try } => {
            let word = if *r#try { "TRY_CAST" } else { "CAST" };
            let input = expression(input, names);
            format!("{word}({input} AS {})", expr.data_type.logical)
        }
        ExprKind::Case {
            branches,
            otherwise,
        } => {
            let mut text = String::from("CASE");
            for (condition, result) in branches {
                let (condition, result) = (expression(condition, names), expression(result, names));
                text.push_str(&format!(" WHEN {condition} THEN {result}"));
            }
            text.push_str(&format!(" ELSE {} END", expression(otherwise, names)));
            text
        }
        ExprKind::Field { input, index } => {
            let field = match &input.data_type.logical {
                LogicalType::Row(fields) => fields.get(*index).map(|f| f.name.clone()),
                _ => None,
            };
            let field = field.unwrap_or_else(|| index.to_string());
            format!("{}.{field}", expression(input, names))
        }
        ExprKind::ScalarSubquery(_) => "(subquery)".to_owned(),
        ExprKind::InSubquery { exprs, .. } => format!("({}) IN (subquery)", list(exprs)),
        ExprKind::Exists(_) => "EXISTS (subquery)".to_owned(),
    }
}

fn call(function: ScalarFunction, args: &[Expr], names: &[String]) -> String {
    use ScalarFunction as F;
    let texts: Vec<String> = args
        .iter()
        .map(|arg| {
            let text = expression(arg, names);
            match &arg.kind {
                ExprKind::Call { function, .. } if is_infix(*function) => format!("({text})"),
                _ => text,
            }
        })
        .collect();
    let infix = match function {
        F::Equal => " = ",
        F::NotEqual => " <> ",
        F::Less => " < ",
        F::LessOrEqual => " <= ",
        F::Greater => " > ",
        F::GreaterOrEqual => " >= ",
        F::IsDistinctFrom => " IS DISTINCT FROM ",
        F::IsNotDistinctFrom => " IS NOT DISTINCT FROM ",
        F::And => " AND ",
        F::Or => " OR ",
        F::Add | F::AddInterval => " + ",
        F::Subtract | F::SubtractTimestamps => " - ",
        F::Multiply | F::MultiplyInterval => " * ",
        F::Divide => " / ",
        F::Modulo => " % ",
        F::Like => " LIKE ",
        _ => "",
    };
    let postfix = match function {
        F::IsNull => " IS NULL",
        F::IsNotNull => " IS NOT NULL",
        F::IsTrue => " IS TRUE",
        F::IsNotTrue => " IS NOT TRUE",
        F::IsFalse => " IS FALSE",
        F::IsNotFalse => " IS NOT FALSE",
        _ => "",
    };
    match texts.as_slice() {
        [arg] if !postfix.is_empty() => format!("{arg}{postfix}"),
        [value, list @ ..] if function == F::In => format!("{value} IN ({})", list.join(", ")),
        [_, _, ..] if !infix.is_empty() => texts.join(infix),
        _ => format!("{function}({})", texts.join(", ")),
    }
}

fn is_infix(function: ScalarFunction) -> bool {
    use ScalarFunction as F;
    matches!(
        function,
        F::And
            | F::Or
            | F::Add
            | F::Subtract
            | F::Multiply
            | F::Divide
            | F::Modulo
            | F::AddInterval
            | F::SubtractTimestamps
            | F::Equal
            | F::NotEqual
            | F::Less
            | F::LessOrEqual
            | F::Greater
            | F::GreaterOrEqual
    )
}

fn literal_text(literal: &Literal, logical: &LogicalType) -> String {
    match literal {
        Literal::Null => "NULL".to_owned(),
        Literal::Boolean(value) => value.to_string().to_uppercase(),
        Literal::Integer(value) if logical.is_integer() => value.to_string(),
        Literal::Integer(value) => format!("{value}:{logical}"),
        Literal::Double(value) => format!("{value:?}"),
        Literal::Decimal(text) => text.clone(),
        Literal::String(text) => format!("'{}'", text.replace('\'', "''")),
        Literal::Binary(bytes) => {
            let digits: Vec<String> = bytes.iter().map(|b| format!("{b:02x}")).collect();
            format!("x'{}'", digits.concat())
        }
    }
}

pub(super) fn field_names(fields: &[Field]) -> Vec<String> {
    fields.iter().map(|field| field.name.clone()).collect()
}

fn at(names: &[String], columns: &[u32]) -> String {
    let texts: Vec<String> = columns.iter().map(|c| name_of(names, *c)).collect();
    texts.join(", ")
}

fn name_of(names: &[String], column: u32) -> String {
    names
        .get(column as usize)
        .map_or_else(|| format!("${column}"), Clone::clone)
}

/// The node in one line.
pub(crate) fn node(graph: &Graph, id: NodeId) -> String {
    let node = graph.node(id);
    let own = field_names(&node.fields);
    let inputs: Vec<Vec<String>> = node
        .inputs
        .iter()
        .map(|input| field_names(&graph.node(*input).fields))
        .collect();
    let input: &[String] = inputs.first().map_or(&[], |names| names);
    match &node.op {
        Op::Source(source) => source_text(source, &own),
        Op::Values(rows) => format!("Values(rows=[{}], fields=[{}])", rows.len(), own.join(", ")),
        Op::Calc {
            condition,
            projections,
        } => calc(condition.as_ref(), projections, input, &own),
        Op::GroupAggregate(op) => {
            let calls = call_texts(&op.calls, op.from_partial, input);
            aggregate("GroupAggregate", &op.keys, &calls, input, None)
        }
        Op::LocalAggregate(op) => {
            let window = op.window.as_ref().map(|w| window_text(w, input));
            let calls = call_texts(&op.calls, false, input);
            aggregate("LocalAggregate", &op.keys, &calls, input, window)
        }
        Op::WindowAssign(spec) => format!("WindowAssign(window=[{}])", window_text(spec, input)),
        Op::WindowAggregate(op) => {
            let window = match &op.windowing {
                Some(wire::window_aggregate::Windowing::Window(w)) => window_text(w, input),
                Some(wire::window_aggregate::Windowing::Attached(w)) => attached(w, input),
                None => String::new(),
            };
            let calls = call_texts(&op.calls, op.from_partial, input);
            aggregate("WindowAggregate", &op.keys, &calls, input, Some(window))
        }
        Op::Join { .. }
        | Op::WindowJoin { .. }
        | Op::IntervalJoin { .. }
        | Op::TemporalJoin { .. } => join(&node.op, &inputs),
        Op::MultiJoin {
            keys, null_safe, ..
        } => multi_join(keys, null_safe, &inputs),
        Op::LookupJoin { on, table } => lookup_join(on, table, input),
        Op::Union => format!("Union(fields=[{}])", own.join(", ")),
        Op::Unnest(op) => {
            let kind = if op.left { "LEFT" } else { "INNER" };
            let of = name_of(input, op.column);
            let ordinality = if op.with_ordinality {
                ", ordinality=[true]"
            } else {
                ""
            };
            format!("Unnest(type=[{kind}], of=[{of}]{ordinality})")
        }
        Op::Expand(op) => {
            let set = |set: &wire::ColumnSet| format!("({})", at(input, &set.columns));
            let sets: Vec<String> = op.sets.iter().map(set).collect();
            format!("Expand(sets=[{}])", sets.join(", "))
        }
        Op::Rank(op) => rank(op, input),
        Op::Deduplicate(op) => deduplicate(op, input),
        Op::OverAggregate(op) => over(op, input),
        Op::Sort(op) => sort(op, input),
        Op::DropUpdateBefore => "DropUpdateBefore".to_owned(),
        Op::TieFilter(op) => ties(op, input),
        Op::LateRows(op) => late_rows(*op, graph.node(node.inputs[0]).inputs.len(), &own),
        Op::Sink(op) => sink_text(op, &own),
    }
}

fn ties(op: &wire::TieFilter, input: &[String]) -> String {
    let best = if op.least { "MIN" } else { "MAX" };
    let value = name_of(input, op.value);
    let window = op.window.as_ref().map(|window| window_text(window, input));
    let (from, to) = (op.end_from_ms, op.end_to_ms);
    format!(
        "TieFilter(value=[{best}({value})], window=[{}], ends=[{from} ms to {to} ms later])",
        window.unwrap_or_default()
    )
}

fn late_rows(op: wire::LateRows, inputs: usize, own: &[String]) -> String {
    let of = match (inputs, op.of) {
        (2, 0) => "of=[left], ",
        (2, _) => "of=[right], ",
        _ => "",
    };
    format!("LateRows({of}fields=[{}])", own.join(", "))
}

fn sink_text(sink: &wire::Sink, own: &[String]) -> String {
    let checked = sink.not_null.iter().map(|column| *column as usize);
    let checked: Vec<&str> = checked
        .filter_map(|column| own.get(column))
        .map(String::as_str)
        .collect();
    let not_null = match checked.is_empty() {
        true => String::new(),
        false => format!(", notNull=[{}]", checked.join(", ")),
    };
    let fields = own.join(", ");
    format!("Sink(table=[{}], fields=[{fields}]{not_null})", sink.table)
}

fn source_text(source: &SourceOp, own: &[String]) -> String {
    let mut text = format!(
        "Source(table=[{}], fields=[{}]",
        source.table.name,
        own.join(", ")
    );
    if let Some(wire::connector_spec::Connector::Nexmark(spec)) = &source.connector.connector
        && !spec.event_types.is_empty()
    {
        let types: Vec<String> = spec.event_types.iter().map(ToString::to_string).collect();
        text.push_str(&format!(", event_types=[{}]", types.join(", ")));
    }
    if let Some((column, expr)) = source.pruned.as_ref().and_then(|p| p.watermark.as_ref()) {
        let expr = expression(expr, own);
        text.push_str(&format!(", watermark=[{} AS {expr}]", own[*column]));
    }
    text + ")"
}

fn calc(
    condition: Option<&Expr>,
    projections: &[Expr],
    input: &[String],
    own: &[String],
) -> String {
    let select: Vec<String> = projections
        .iter()
        .zip(own)
        .map(|(e, name)| renamed(expression(e, input), name))
        .collect();
    let filter = condition
        .map(|c| format!(", where=[{}]", expression(c, input)))
        .unwrap_or_default();
    format!("Calc(select=[{}]{filter})", select.join(", "))
}

fn rank(op: &wire::Rank, input: &[String]) -> String {
    let window = op
        .window
        .as_ref()
        .map(|w| format!(", window=[{}]", attached(w, input)))
        .unwrap_or_default();
    format!(
        "Rank(partitionBy=[{}], orderBy=[{}], range=[{}..{}]{window})",
        at(input, &op.partition_by),
        sort_text(&op.order_by, input),
        op.offset + 1,
        op.offset + op.limit
    )
}

fn sort(op: &wire::Sort, input: &[String]) -> String {
    let mut order = format!("{} ASC", name_of(input, op.time_column));
    if !op.then_by.is_empty() {
        order.push_str(&format!(", {}", sort_text(&op.then_by, input)));
    }
    match op.partition_by.as_slice() {
        [] => format!("Sort(orderBy=[{order}])"),
        by => format!("Sort(partitionBy=[{}], orderBy=[{order}])", at(input, by)),
    }
}

fn over(op: &wire::OverAggregate, input: &[String]) -> String {
    use wire::over_call::Function;
    let call = |call: &wire::OverCall| {
        let text = match &call.function {
            Some(Function::Aggregate(aggregate)) => call_text(aggregate, input),
            Some(Function::Number(number)) => {
                let number = wire::OverNumber::try_from(*number).unwrap_or_default();
                format!("{}()", number.as_str_name())
            }
            Some(Function::Lag(lag)) => {
                let default = lag.default.map(|c| format!(", {}", name_of(input, c)));
                format!(
                    "LAG({}, {}{})",
                    name_of(input, lag.column),
                    lag.offset,
                    default.unwrap_or_default()
                )
            }
            None => String::new(),
        };
        renamed(text, &call.name)
    };
    let mut parts = Vec::new();
    if !op.partition_by.is_empty() {
        parts.push(format!("partitionBy=[{}]", at(input, &op.partition_by)));
    }
    let order = match op.order() {
        wire::OverOrder::ByArrival => "arrival".to_owned(),
        _ => sort_text(&op.order_by, input),
    };
    parts.push(format!("orderBy=[{order}]"));
    let is_lag = |call: &wire::OverCall| matches!(call.function, Some(Function::Lag(_)));
    if !op.calls.iter().all(is_lag) {
        parts.push(format!("window=[{}]", frame(op.frame.unwrap_or_default())));
    }
    let calls: Vec<String> = op.calls.iter().map(call).collect();
    parts.push(format!("select=[{}]", calls.join(", ")));
    format!("OverAggregate({})", parts.join(", "))
}

fn frame(frame: wire::OverFrame) -> String {
    let start = match (frame.preceding, frame.range) {
        (None, _) => "UNBOUNDED PRECEDING".to_owned(),
        (Some(0), _) => "CURRENT ROW".to_owned(),
        (Some(rows), false) => format!("{rows} PRECEDING"),
        (Some(ms), true) => format!("{ms} ms PRECEDING"),
    };
    let units = if frame.range { "RANGE" } else { "ROWS" };
    format!("{units} BETWEEN {start} AND CURRENT ROW")
}

fn deduplicate(op: &wire::Deduplicate, input: &[String]) -> String {
    let keep = if op.keep_last { "last" } else { "first" };
    let time = op
        .time_column
        .map_or_else(|| "arrival".to_owned(), |c| name_of(input, c));
    let window = op
        .window
        .as_ref()
        .map(|w| format!(", window=[{}]", attached(w, input)))
        .unwrap_or_default();
    format!(
        "Deduplicate(keep=[{keep}], key=[{}], order=[{time}]{window})",
        at(input, &op.keys)
    )
}

fn renamed(text: String, name: &str) -> String {
    if text == name {
        text
    } else {
        format!("{text} AS {name}")
    }
}

fn aggregate(
    name: &str,
    keys: &[u32],
    calls: &[String],
    input: &[String],
    window: Option<String>,
) -> String {
    let mut parts = Vec::new();
    if !keys.is_empty() {
        parts.push(format!("groupBy=[{}]", at(input, keys)));
    }
    if let Some(window) = window {
        parts.push(format!("window=[{window}]"));
    }
    parts.push(format!("select=[{}]", calls.join(", ")));
    format!("{name}({})", parts.join(", "))
}

/// Calls over values, or the names of those whose partial results are merged.
fn call_texts(calls: &[wire::AggregateCall], from_partial: bool, input: &[String]) -> Vec<String> {
    let text = |call: &wire::AggregateCall| {
        if from_partial {
            return call.name.clone();
        }
        renamed(call_text(call, input), &call.name)
    };
    calls.iter().map(text).collect()
}

fn call_text(call: &wire::AggregateCall, input: &[String]) -> String {
    let distinct = if call.distinct { "DISTINCT " } else { "" };
    let args = if call.args.is_empty() {
        "*".to_owned()
    } else {
        at(input, &call.args)
    };
    let filter = call
        .filter
        .map(|f| format!(" FILTER {}", name_of(input, f)))
        .unwrap_or_default();
    format!("{}({distinct}{args}){filter}", call.function)
}

fn window_text(spec: &wire::WindowSpec, input: &[String]) -> String {
    let time = match spec.processing_time {
        true => "PROCTIME()".to_owned(),
        false => name_of(input, spec.time_column),
    };
    let kind = spec.kind().as_str_name();
    let mut parts = vec![time];
    match spec.kind() {
        wire::WindowKind::Session => parts.push(format!("gap {} ms", spec.gap_ms)),
        wire::WindowKind::Tumble => parts.push(format!("size {} ms", spec.size_ms)),
        _ => {
            parts.push(format!("size {} ms", spec.size_ms));
            parts.push(format!("step {} ms", spec.step_ms));
        }
    }
    if spec.offset_ms != 0 {
        parts.push(format!("offset {} ms", spec.offset_ms));
    }
    format!("{kind}({})", parts.join(", "))
}

fn attached(w: &wire::AttachedWindow, input: &[String]) -> String {
    format!(
        "[{}, {})",
        name_of(input, w.window_start),
        name_of(input, w.window_end)
    )
}

pub(super) fn sort_text(keys: &[wire::SortKey], input: &[String]) -> String {
    let texts: Vec<String> = keys
        .iter()
        .map(|key| {
            let direction = if key.descending { "DESC" } else { "ASC" };
            // NULL is the lowest value: last where the order descends.
            let nulls = match (key.nulls_last, key.descending) {
                (true, false) => " NULLS LAST",
                (false, true) => " NULLS FIRST",
                _ => "",
            };
            format!("{} {direction}{nulls}", name_of(input, key.column))
        })
        .collect();
    texts.join(", ")
}

/// The first operator below that turns inserts into updates, for error messages.
pub(crate) fn updating_operator(graph: &Graph, id: NodeId) -> String {
    let node_ref = graph.node(id);
    let from = node_ref
        .inputs
        .iter()
        .find(|input| !graph.node(**input).changes.is_append());
    match from {
        Some(input) => updating_operator(graph, *input),
        None => node(graph, id),
    }
}
