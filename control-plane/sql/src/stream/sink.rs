//! Sinks: what changes they take, and the node that ends a query.

use proto::plan::{self as wire, connector_spec::Connector, format_spec::Format};
use proto::types::Field;

use crate::catalog::ColumnKind;
use crate::error::SqlError;

use super::node::{Node, NodeId, Op};
use super::translate::Translator;
use super::{SinkQuery, SinkTarget};

/// What a sink does with changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Accepts {
    /// Inserts.
    Append,
    /// All changes, and it wants to see old rows.
    Retract,
    /// All changes; old rows of updates are of no use.
    Upsert,
}

/// What the sink of this connector takes.
pub(crate) fn accepts(spec: &wire::ConnectorSpec) -> Accepts {
    match &spec.connector {
        Some(Connector::Blackhole(_)) => Accepts::Upsert,
        Some(Connector::Filesystem(spec)) => {
            let format = spec.format.as_ref().and_then(|f| f.format.as_ref());
            match format {
                Some(Format::DebeziumJson(_)) => Accepts::Retract,
                _ => Accepts::Append,
            }
        }
        _ => Accepts::Retract,
    }
}

impl Translator<'_> {
    /// Plans a query down to its sink.
    pub(crate) fn sink(&mut self, query: &SinkQuery) -> Result<(), SqlError> {
        let input = self.relation(&query.plan)?;
        let (table, spec, primary_key) = match &query.sink {
            SinkTarget::Collect => (
                "collect".to_owned(),
                wire::ConnectorSpec {
                    connector: Some(Connector::Collect(wire::CollectSpec {})),
                },
                None,
            ),
            SinkTarget::Table(table) => (
                table.name.clone(),
                table.connector.clone(),
                table.primary_key.clone(),
            ),
        };
        if let Some(Connector::Nexmark(_) | Connector::Datagen(_)) = &spec.connector {
            return Err(SqlError::plan(format!(
                "table `{table}` is a generator and cannot be written to"
            )));
        }
        let accepts = accepts(&spec);
        if accepts == Accepts::Append && !self.graph.node(input).changes.is_append() {
            let culprit = super::describe::updating_operator(&self.graph, input);
            return Err(SqlError::plan(format!(
                "table sink `{table}` takes inserts only, but {culprit} produces updates"
            ))
            .hint("write to a sink that takes changes, such as one of format 'debezium-json'"));
        }
        let not_null = unproven_not_null(query);
        let fields = sink_fields(query);
        let input = match accepts {
            Accepts::Upsert => self.without_old_rows(input),
            Accepts::Append | Accepts::Retract => input,
        };
        let below = self.graph.node(input);
        let key = primary_key
            .or_else(|| below.keys.first().cloned())
            .map(|columns| wire::ColumnSet {
                columns: super::rank::wire_columns(&columns),
            });
        let node = Node {
            changes: below.changes,
            distribution: below.distribution.clone(),
            keys: below.keys.clone(),
            rowtime: below.rowtime.clone(),
            ..Node::new(
                Op::Sink(wire::Sink {
                    table,
                    connector: Some(spec),
                    key,
                    slots: self.options.sink_slots,
                    drop_nulls: self.options.drop_sink_nulls && !not_null.is_empty(),
                    not_null,
                }),
                vec![input],
                fields,
            )
        };
        self.graph.add(node);
        Ok(())
    }

    /// The input for who has no use for old rows of updates.
    pub(super) fn without_old_rows(&mut self, input: NodeId) -> NodeId {
        let below = self.graph.node(input);
        if !below.changes.update {
            return input;
        }
        let node = Node {
            op: Op::DropUpdateBefore,
            inputs: vec![input],
            required: vec![super::node::Distribution::Any],
            bound: super::node::Bound::Stateless,
            tables: &[],
            known_as: None,
            ..below.clone()
        };
        self.graph.add(node)
    }
}

/// NOT NULL columns of the table whose values may be NULL by their type. What cannot be NULL needs
/// no look at the rows.
fn unproven_not_null(query: &SinkQuery) -> Vec<u32> {
    let SinkTarget::Table(table) = &query.sink else {
        return Vec::new();
    };
    let physical = table
        .columns
        .iter()
        .filter(|column| column.kind == ColumnKind::Physical);
    physical
        .zip(query.plan.schema().iter())
        .enumerate()
        .filter(|(_, (column, value))| !column.data_type.nullable && value.data_type.nullable)
        .map(|(index, _)| index as u32)
        .collect()
}

/// The sink's columns: the table's names, also inside ROWs, where it has as many. The query was
/// cast to the table's types, so those differ in names and nullability only.
fn sink_fields(query: &SinkQuery) -> Vec<Field> {
    let schema = query.plan.schema();
    let names = super::translate::names(schema);
    let mut fields: Vec<Field> = schema
        .iter()
        .zip(names)
        .map(|(field, name)| Field::new(name, field.data_type.clone()))
        .collect();
    if let SinkTarget::Table(table) = &query.sink {
        let physical = table
            .columns
            .iter()
            .filter(|column| column.kind == ColumnKind::Physical);
        if physical.clone().count() == fields.len() {
            for (field, column) in fields.iter_mut().zip(physical) {
                field.name.clone_from(&column.name);
                field.data_type.logical = column.data_type.logical.clone();
            }
        }
    }
    fields
}
