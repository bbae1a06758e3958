//! Late rows as output (`millstream.late-rows.table`): what operators of a job drop because it comes too
//! late is written to a table, by a sink per operator and input that stands beside the operator. The rest
//! of the plan is as it is without: ids and state too.

use std::sync::Arc;

use proto::plan::{self as wire, JoinType, ScalarFunction, window_aggregate::Windowing};
use proto::types::{DataType, Field, LogicalType};

use crate::catalog::{ColumnKind, Table};
use crate::connector::physical_fields;
use crate::error::SqlError;
use crate::logical::{Expr, ExprKind, Literal};

use super::calc;
use super::describe;
use super::node::{Graph, Node, NodeId, Op};
use super::stable_id::stable_ids;
use super::translate::Translator;

/// Columns that a table of late rows may have.
const OPERATOR: &str = "operator";
const EVENT_TIME: &str = "event_time";
const WATERMARK: &str = "watermark";
const ROW_KIND: &str = "row_kind";
const LATE_ROW: &str = "late_row";

static COLUMNS: [(&str, LogicalType); 5] = [
    (OPERATOR, LogicalType::STRING),
    (EVENT_TIME, LogicalType::Timestamp(3)),
    (WATERMARK, LogicalType::Timestamp(3)),
    (ROW_KIND, LogicalType::STRING),
    (LATE_ROW, LogicalType::STRING),
];

/// Says what a table of late rows is.
fn hint() -> String {
    let others = COLUMNS.iter().filter(|(name, _)| *name != LATE_ROW);
    let others: Vec<String> = others
        .map(|(name, logical)| format!("{name} {logical}"))
        .collect();
    format!(
        "a table of late rows has the column {LATE_ROW} STRING, and any of {}; RESET \
         'millstream.late-rows.table' to have late rows counted only",
        others.join(", ")
    )
}

/// Checks that late rows can be written to a table.
///
/// # Errors
/// When it has other columns, or none for the row itself.
pub(crate) fn check_table(table: &Table) -> Result<(), SqlError> {
    let refuse = |what: String| {
        let message = format!(
            "late rows cannot be written to table `{}`: {what}",
            table.name
        );
        Err(SqlError::validate(message).hint(hint()))
    };
    let columns = table.columns.iter();
    let mut columns = columns.filter(|column| column.kind == ColumnKind::Physical);
    for column in columns.clone() {
        let name = &column.name;
        let Some((_, logical)) = COLUMNS.iter().find(|(known, _)| known == name) else {
            return refuse(format!("they have no column `{name}`"));
        };
        if column.data_type.logical != *logical {
            return refuse(format!("its column `{name}` is {}", column.data_type));
        }
    }
    match columns.any(|column| column.name == LATE_ROW) {
        true => Ok(()),
        false => refuse(format!("it has no column `{LATE_ROW}`")),
    }
}

/// An input of an operator of which it may drop rows.
struct Droppable {
    input: usize,
    /// The event time of a row, over the input's columns.
    time: Option<Expr>,
}

impl Translator<'_> {
    /// Has late rows of all operators written to the table. Those of an operator that joins them with what
    /// is left are said to be missing.
    pub(crate) fn write_late_rows(&mut self, table: &Arc<Table>) {
        let ids = stable_ids(&self.graph);
        let live = self.graph.live();
        for id in (0..ids.len()).filter(|id| live[*id]) {
            if let Op::Join { until, .. } = &self.graph.node(id).op
                && until.iter().any(|times| !times.is_empty())
            {
                let operator = describe::node(&self.graph, id);
                self.warnings.push(format!(
                    "table `{}` gets no late rows of {operator}: it joins them with what is still there, \
                     and does not tell those that meet nothing",
                    table.name
                ));
            }
            for droppable in droppable(&self.graph, id) {
                self.late_sink(table, (id, &ids[id]), &droppable);
            }
        }
    }

    fn late_sink(&mut self, table: &Table, (id, name): (NodeId, &str), droppable: &Droppable) {
        let node = self.graph.node(id);
        let input = self.graph.node(node.inputs[droppable.input]);
        let width = input.fields.len();
        let mut fields = input.fields.clone();
        let time = LogicalType::Timestamp(3);
        fields.push(Field::new("$watermark", time.clone().nullable()));
        fields.push(Field::new("$row_kind", LogicalType::STRING.not_null()));
        let of = wire::LateRows {
            of: droppable.input as u32,
        };
        let row = row_as_json(&fields[..width]);
        let beside = Node {
            distribution: node.distribution.clone(),
            ..Node::new(Op::LateRows(of), vec![id], fields)
        };
        let beside = self.graph.add(beside);
        let written = physical_fields(&table.columns);
        let value = |field: &Field| match field.name.as_str() {
            OPERATOR => text(name),
            EVENT_TIME => event_time(droppable.time.as_ref()),
            WATERMARK => Expr::column(width, time.clone().nullable()),
            ROW_KIND => Expr::column(width + 1, LogicalType::STRING.not_null()),
            _ => row.clone(),
        };
        let values: Vec<Expr> = written.iter().map(value).collect();
        let names = written.iter().map(|field| field.name.clone()).collect();
        let unproven =
            |(field, value): (&Field, &Expr)| !field.data_type.nullable && value.data_type.nullable;
        let not_null = (0..).zip(written.iter().zip(&values));
        let not_null: Vec<u32> = not_null
            .filter(|(_, pair)| unproven(*pair))
            .map(|(column, _)| column)
            .collect();
        let values = calc::calc(&mut self.graph, beside, None, values, names);
        let key = table.primary_key.as_ref();
        let sink = wire::Sink {
            table: table.name.clone(),
            connector: Some(table.connector.clone()),
            key: key.map(|columns| wire::ColumnSet {
                columns: super::rank::wire_columns(columns),
            }),
            slots: self.options.sink_slots,
            drop_nulls: self.options.drop_sink_nulls && !not_null.is_empty(),
            not_null,
        };
        let distribution = self.graph.node(values).distribution.clone();
        self.graph.add(Node {
            distribution,
            ..Node::new(Op::Sink(sink), vec![values], written)
        });
    }
}

/// Of which inputs an operator drops rows that come too late.
fn droppable(graph: &Graph, id: NodeId) -> Vec<Droppable> {
    let node = graph.node(id);
    let at = |input: usize, column: usize| Droppable {
        input,
        time: Some(column_of(graph, node.inputs[input], column)),
    };
    let in_window = |input: usize, window: Option<&wire::AttachedWindow>| Droppable {
        input,
        time: window.map(|window| time_in_window(graph, node.inputs[input], window)),
    };
    match &node.op {
        Op::WindowAggregate(op) => match &op.windowing {
            Some(Windowing::Window(window)) if window.processing_time => Vec::new(),
            Some(Windowing::Window(window)) => vec![at(0, window.time_column as usize)],
            Some(Windowing::Attached(window)) => vec![in_window(0, Some(window))],
            None => Vec::new(),
        },
        Op::WindowAssign(window) if window.kind() == wire::WindowKind::Session => {
            vec![at(0, window.time_column as usize)]
        }
        Op::Sort(op) => vec![at(0, op.time_column as usize)],
        Op::Rank(wire::Rank { window, .. }) | Op::Deduplicate(wire::Deduplicate { window, .. })
            if window.is_some() =>
        {
            vec![in_window(0, window.as_ref())]
        }
        Op::WindowJoin {
            left_window,
            right_window,
            ..
        } => vec![
            in_window(0, Some(left_window)),
            in_window(1, Some(right_window)),
        ],
        // A row of an outer side comes out, alone if need be.
        Op::IntervalJoin {
            on,
            left_time,
            right_time,
            ..
        } => {
            let left = matches!(on.kind, JoinType::Inner | JoinType::Right | JoinType::Semi);
            let right = !matches!(on.kind, JoinType::Right | JoinType::Full);
            let left = left.then(|| at(0, *left_time));
            left.into_iter()
                .chain(right.then(|| at(1, *right_time)))
                .collect()
        }
        Op::TemporalJoin {
            on,
            left_time,
            right_time,
        } => {
            let left = (on.kind == JoinType::Inner).then(|| at(0, *left_time));
            left.into_iter().chain([at(1, *right_time)]).collect()
        }
        _ => Vec::new(),
    }
}

fn column_of(graph: &Graph, node: NodeId, column: usize) -> Expr {
    let data_type = graph.node(node).fields[column].data_type.clone();
    Expr::column(column, data_type)
}

/// The event time of a row that carries its window, or else the last moment of that.
fn time_in_window(graph: &Graph, node: NodeId, window: &wire::AttachedWindow) -> Expr {
    if let Some(column) = graph.node(node).rowtime.first() {
        return column_of(graph, node, *column);
    }
    let end = column_of(graph, node, window.window_end as usize);
    let moment = Expr::literal(
        Literal::Integer(-1),
        LogicalType::IntervalDayTime.not_null(),
    );
    let data_type = end.data_type.clone();
    Expr::call(ScalarFunction::AddInterval, vec![end, moment], data_type)
}

/// As TIMESTAMP(3); NULL where it is not known.
fn event_time(time: Option<&Expr>) -> Expr {
    let logical = LogicalType::Timestamp(3);
    let Some(time) = time else {
        return Expr::literal(Literal::Null, logical.nullable());
    };
    if time.data_type.logical == logical {
        return time.clone();
    }
    let data_type = DataType {
        logical,
        nullable: time.data_type.nullable,
    };
    let input = Box::new(time.clone());
    Expr {
        kind: ExprKind::Cast {
            input,
            r#try: false,
        },
        data_type,
    }
}

/// `{"id":7,"name":"ann"}`, as JSON_OBJECT writes it. Columns of one name are told apart by a number.
fn row_as_json(fields: &[Field]) -> Expr {
    let mut args = vec![text("NULL")];
    let mut names: Vec<String> = Vec::new();
    for (column, field) in fields.iter().enumerate() {
        let numbered = (0..).map(|number| format!("{}{number}", field.name));
        let mut candidates = std::iter::once(field.name.clone()).chain(numbered);
        let is_others = |name: &String| fields.iter().any(|other| other.name == *name);
        let is_free =
            |name: &String| !names.contains(name) && (*name == field.name || !is_others(name));
        let name = candidates.find(is_free).unwrap_or_default();
        args.push(text(&name));
        args.push(Expr::column(column, field.data_type.clone()));
        names.push(name);
    }
    Expr::call(
        ScalarFunction::JsonObject,
        args,
        LogicalType::STRING.not_null(),
    )
}

fn text(value: &str) -> Expr {
    let value = Literal::String(value.to_owned());
    Expr::literal(value, LogicalType::STRING.not_null())
}
