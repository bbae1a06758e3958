//! Window table functions: checks, their wire form, and the plain WindowAssign.

use proto::plan::{self as wire, WindowKind};

use crate::error::SqlError;
use crate::logical::{LogicalPlan, Schema, WindowFunction};

use super::node::{Bound, Node, NodeId, Op, Windowed};
use super::rank::distribution;
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
        if function.processing_time {
            return Err(SqlError::plan(
                "a window over processing time is supported only directly below GROUP BY window_start, window_end",
            )
            .hint("group by the window, or use event time"));
        }
        if function.kind == WindowKind::Session {
            return self.session_assign(input, function, schema);
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
            windowed: Some(Windowed {
                by: Some(function.time_column),
                ..windowed(function, width, width + 1, Some(width + 2))
            }),
            ..Node::new(Op::WindowAssign(spec), vec![input], fields(schema))
        };
        Ok(self.graph.add(node))
    }

    /// Sessions are known when they are over: rows are held until then, by those who share them.
    fn session_assign(
        &mut self,
        input: NodeId,
        function: &WindowFunction,
        schema: &Schema,
    ) -> Result<NodeId, SqlError> {
        self.require_append(input, "a SESSION window function")?;
        let below = self.graph.node(input);
        let width = below.fields.len();
        let spread = distribution(&function.partition_by);
        let node = Node {
            required: vec![spread.clone()],
            distribution: spread,
            keys: below.keys.clone(),
            // Rows are behind the watermark when they leave: only the session's own time is not.
            rowtime: vec![width + 2],
            windowed: Some(windowed(function, width, width + 1, Some(width + 2))),
            bound: Bound::Window,
            tables: &["rows"],
            ..Node::new(
                Op::WindowAssign(spec(function, function.time_column, &function.partition_by)),
                vec![input],
                fields(schema),
            )
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
        if function.processing_time {
            return self.require_append(input, "a window over processing time");
        }
        let node = self.graph.node(input);
        if node.rowtime.contains(&function.time_column) {
            return Ok(());
        }
        Err(SqlError::plan(format!(
            "column `{}` no longer carries event time here, so it has no windows",
            field.name
        ))
        .hint(
            "a join without windows and most aggregates lose the time attribute, and of rows that come when \
             their window is over (Top-N, a window join) only window_time carries it; assign windows before \
             them, or by window_time",
        ))
    }
}

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
        processing_time: function.processing_time,
    }
}

/// The output's windows, whose columns begin at `width`, and how the operator gets them.
pub(crate) fn of_aggregate(
    function: Option<&WindowFunction>,
    attached: Option<Windowed>,
    time: usize,
    keys: &[usize],
    width: usize,
) -> Option<(Windowed, wire::window_aggregate::Windowing)> {
    use wire::window_aggregate::Windowing as Wire;
    if let Some(function) = function {
        // Sessions are kept apart by the keys of the aggregate.
        let session = function.kind == wire::WindowKind::Session;
        let partition: &[usize] = if session { keys } else { &[] };
        let spec = spec(function, time, partition);
        let windowed = windowed(function, width, width + 1, Some(width + 2));
        return Some((windowed, Wire::Window(spec)));
    }
    let attached = attached?;
    let windowed = Windowed {
        start: width,
        end: width + 1,
        time: Some(width + 2),
        by: None,
        ..attached
    };
    Some((windowed, Wire::Attached(attached.attached())))
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
        by: None,
        kind: function.kind,
        size_ms: function.size_ms,
        step_ms: function.step_ms,
        offset_ms: function.offset_ms,
    }
}
