//! Window table functions: checks, their wire form, and the plain WindowAssign.

use proto::plan::{self as wire, WindowKind};

use crate::error::SqlError;
use crate::logical::{LogicalPlan, Schema, TimeAttribute, WindowFunction};

use super::node::{Node, NodeId, Op, Windowed};
use super::translate::{Translator, fields};

impl Translator<'_> {
    /// A window function whose rows flow on with their window columns.
    pub(crate) fn window_assign(
        &mut self,
        input: &LogicalPlan,
        function: &WindowFunction,
        schema: &Schema,
    ) -> Result<NodeId, SqlError> {
        let logical = input;
        let input = self.relation(input)?;
        self.check_window(logical, input, function)?;
        if function.kind == WindowKind::Session {
            return Err(SqlError::plan(
                "a SESSION window function is supported only directly below GROUP BY window_start, window_end",
            ));
        }
        let below = self.graph.node(input);
        let width = below.fields.len();
        let mut rowtime = below.rowtime.clone();
        rowtime.push(width + 2);
        let spec = spec(function, function.time_column, &function.partition_by);
        let node = Node {
            changes: below.changes,
            distribution: below.distribution.clone(),
            keys: below
                .keys
                .iter()
                .map(|key| key.iter().copied().chain([width, width + 1]).collect())
                .collect(),
            rowtime,
            windowed: Some(windowed(function, width, width + 1, Some(width + 2))),
            ..Node::new(Op::WindowAssign(spec), vec![input], fields(schema))
        };
        Ok(self.graph.add(node))
    }

    /// Refuses windows over a column that does not carry the stream's time.
    pub(crate) fn check_window(
        &self,
        logical: &LogicalPlan,
        input: NodeId,
        function: &WindowFunction,
    ) -> Result<(), SqlError> {
        let field = &logical.schema()[function.time_column];
        if field.time == Some(TimeAttribute::Proctime) {
            return Err(SqlError::plan(format!(
                "windows over processing time (column `{}`) are not supported yet",
                field.name
            ))
            .hint("declare a WATERMARK and use event time"));
        }
        if !SUPPORTED.contains(&function.kind) {
            return Err(SqlError::plan(format!(
                "{} windows are not supported yet",
                function.kind.as_str_name()
            )));
        }
        let node = self.graph.node(input);
        if node.rowtime.contains(&function.time_column) {
            return Ok(());
        }
        Err(SqlError::plan(format!(
            "column `{}` no longer carries event time here, so it has no windows",
            field.name
        ))
        .hint("a join without windows and most aggregates lose the time attribute; assign windows before them"))
    }
}

/// The kinds of windows that operators exist for.
const SUPPORTED: &[WindowKind] = &[WindowKind::Tumble, WindowKind::Hop, WindowKind::Cumulate];

/// The wire form, its columns given by the caller.
pub(crate) fn spec(
    function: &WindowFunction,
    time_column: usize,
    partition_by: &[usize],
) -> wire::WindowSpec {
    let session = function.kind == WindowKind::Session;
    wire::WindowSpec {
        kind: function.kind as i32,
        time_column: time_column as u32,
        size_ms: if session { 0 } else { function.size_ms },
        step_ms: function.step_ms,
        offset_ms: function.offset_ms,
        gap_ms: if session { function.size_ms } else { 0 },
        partition_by: partition_by.iter().map(|c| *c as u32).collect(),
    }
}

/// The property of having these windows in these columns.
pub(crate) fn windowed(
    function: &WindowFunction,
    start: usize,
    end: usize,
    time: Option<usize>,
) -> Windowed {
    Windowed {
        start,
        end,
        time,
        kind: function.kind,
        size_ms: function.size_ms,
        step_ms: function.step_ms,
        offset_ms: function.offset_ms,
    }
}
