//! Accumulators as what they amount to: key columns, then the calls' results.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Int64Array},
    compute::{cast, concat},
};
use engine::{
    operator::{OperatorError, TaskScope},
    schema::arrow_type,
    state::Ttl,
};
use proto::{
    plan::{self, Changelog, WindowKind, window_aggregate::Windowing},
    types::{Field, TableId},
};
use state_client::LoadedRow;

use super::{InspectedNode, InspectedTable, Layout, Stamp, time};
use crate::{
    aggregate::{AggregatePlan, AggregateStore, Rowset, StateTables},
    over::running_calls,
    window::StateKeys,
};

/// How groups lie in their tables.
pub(super) struct Groups {
    keys: StateKeys,
    plan: Arc<AggregatePlan>,
    tables: StateTables,
    ttl: Option<Ttl>,
    /// What is kept of a group beside accumulators: the first and last time of a session's rows.
    is_session: bool,
}

/// The table of a GROUP BY.
pub(super) fn of_groups(
    node: &InspectedNode<'_>,
    spec: &plan::GroupAggregate,
) -> Result<Vec<InspectedTable>, OperatorError> {
    let keys = positions(&spec.keys);
    let input = input(node)?;
    let groups = Groups {
        keys: StateKeys::new(&keys, None, input)?,
        ttl: node.ttl.of_input(0),
        is_session: false,
        ..Groups::of(node, &spec.calls, &keys, spec.from_partial)?
    };
    let tables = groups.table(node, &keys, false)?.into_iter();
    let ttl = node.ttl.of_input(0);
    Ok(tables.map(|table| table.aged(ttl, Stamp::Last)).collect())
}

/// The table of OVER calls that run on from the first row of a partition.
pub(super) fn of_over(
    node: &InspectedNode<'_>,
    spec: &plan::OverAggregate,
) -> Result<Vec<InspectedTable>, OperatorError> {
    let keys = positions(&spec.partition_by);
    let input = input(node)?;
    let groups = Groups {
        keys: StateKeys::new(&keys, None, input)?,
        ttl: node.ttl.of_input(0),
        ..Groups::of(node, &running_calls(spec, input)?, &keys, false)?
    };
    let tables = groups.table(node, &keys, false)?.into_iter();
    let ttl = node.ttl.of_input(0);
    Ok(tables.map(|table| table.aged(ttl, Stamp::Last)).collect())
}

/// The table of a GROUP BY in windows.
pub(super) fn of_windows(
    node: &InspectedNode<'_>,
    spec: &plan::WindowAggregate,
) -> Result<Vec<InspectedTable>, OperatorError> {
    let keys = positions(&spec.keys);
    let input = input(node)?;
    let (start, is_session) = match &spec.windowing {
        Some(Windowing::Window(window)) => (None, window.kind() == WindowKind::Session),
        Some(Windowing::Attached(window)) => (Some(window.window_start as usize), false),
        None => {
            return Err(OperatorError::Plan(
                "an aggregate has no windows".to_owned(),
            ));
        }
    };
    let state_keys = match is_session {
        true => StateKeys::with_number(&keys, input)?,
        false => StateKeys::new(&keys, start, input)?,
    };
    let groups = Groups {
        keys: state_keys,
        is_session,
        ..Groups::of(node, &spec.calls, &keys, spec.from_partial)?
    };
    groups.table(node, &keys, !is_session)
}

impl Groups {
    fn of(
        node: &InspectedNode<'_>,
        calls: &[plan::AggregateCall],
        keys: &[usize],
        from_partial: bool,
    ) -> Result<Groups, OperatorError> {
        let input = input(node)?;
        let append = node.changelogs.first().is_none_or(Changelog::is_append);
        let rowset = match (from_partial, append) {
            (true, _) => Rowset::Partial { keys: keys.len() },
            (false, true) => Rowset::Appended,
            (false, false) => Rowset::Changed,
        };
        let plan = Arc::new(AggregatePlan::new(calls, input, rowset)?);
        let ids: Vec<TableId> = node.tables.iter().map(|table| TableId(table.id)).collect();
        Ok(Groups {
            keys: StateKeys::new(keys, None, input)?,
            tables: StateTables::new(&ids, &plan)?,
            plan,
            ttl: None,
            is_session: false,
        })
    }

    fn table(
        self,
        node: &InspectedNode<'_>,
        keys: &[usize],
        is_windowed: bool,
    ) -> Result<Vec<InspectedTable>, OperatorError> {
        let input = input(node)?;
        let Some(table) = node.tables.first() else {
            return Err(OperatorError::Plan("an aggregate has no table".to_owned()));
        };
        let mut columns: Vec<Field> = keys.iter().map(|key| input[*key].clone()).collect();
        let key_columns = (0..columns.len()).collect();
        columns.extend(self.plan.fields.iter().cloned());
        if self.is_session {
            columns.push(Field::new("first_row", time()));
            columns.push(Field::new("last_row", time()));
        }
        let layout = (columns, key_columns);
        let groups = Layout::Groups(self);
        InspectedTable::new(node, table, keys, input, layout, is_windowed, groups)
            .map(|table| vec![table])
    }

    /// The table with values of groups without which their results cannot be told.
    pub(super) fn values(&self) -> Option<TableId> {
        (!self.plan.ordereds.is_empty()).then_some(self.tables.values)
    }

    /// Key columns and results of groups, in the order of their rows.
    pub(super) fn decode(
        &self,
        scope: &TaskScope,
        rows: &[LoadedRow],
        values: &[LoadedRow],
    ) -> Result<Vec<ArrayRef>, OperatorError> {
        // A key may be there in several windows: each is a store of its own.
        let windows = rows.chunk_by(|a, b| a.namespace == b.namespace);
        let mut parts: Vec<Vec<ArrayRef>> = Vec::new();
        for window in windows {
            parts.push(self.decode_window(scope, window, values)?);
        }
        if parts.is_empty() {
            parts.push(self.decode_window(scope, &[], &[])?);
        }
        let columns = parts[0].len();
        let whole = (0..columns).map(|column| {
            let arrays: Vec<&dyn arrow::array::Array> =
                parts.iter().map(|part| part[column].as_ref()).collect();
            concat(&arrays)
        });
        Ok(whole.collect::<Result<_, _>>()?)
    }

    fn decode_window(
        &self,
        scope: &TaskScope,
        rows: &[LoadedRow],
        values: &[LoadedRow],
    ) -> Result<Vec<ArrayRef>, OperatorError> {
        let namespace = rows.first().map_or(0, |row| row.namespace);
        let (plan, width) = (self.plan.clone(), self.keys.width());
        let mut store =
            AggregateStore::new(plan, self.tables, namespace, width, scope, false, self.ttl)?;
        if self.is_session {
            store.main.values.keep_extents();
        }
        for row in rows {
            store.install(self.tables.main, row)?;
        }
        for value in values.iter().filter(|value| value.namespace == namespace) {
            // What is of no group here is of one that is not asked for.
            let _ = store.install(self.tables.values, value)?;
        }
        let slots = store.live();
        if slots.len() != rows.len() {
            let message = "some groups are there twice".to_owned();
            return Err(OperatorError::Plan(message));
        }
        let (mut columns, _) = self.keys.decode(&store.main.index().keys_of(&slots))?;
        columns.extend(store.results(&slots)?);
        if self.is_session {
            let extents = slots.iter().map(|slot| store.main.values.extent(*slot));
            let (first, last): (Vec<i64>, Vec<i64>) = extents.unzip();
            for times in [first, last] {
                let times: ArrayRef = Arc::new(Int64Array::from(times));
                columns.push(cast(&times, &arrow_type(&time().logical))?);
            }
        }
        Ok(columns)
    }
}

fn positions(columns: &[u32]) -> Vec<usize> {
    columns.iter().map(|column| *column as usize).collect()
}

fn input<'a>(node: &'a InspectedNode<'_>) -> Result<&'a [Field], OperatorError> {
    let input = node.inputs.first().map(Vec::as_slice);
    input.ok_or_else(|| OperatorError::Plan("an operator has no input".to_owned()))
}
