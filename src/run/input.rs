//! Whether a job's input ends.

use proto::plan::{DatagenKind, Plan, connector_spec::Connector, node::Operator};

/// A table that the plan reads and that has no end.
pub(super) fn unbounded_table(plan: &Plan) -> Option<&str> {
    let mut nodes = plan.fragments.iter().flat_map(|fragment| &fragment.nodes);
    nodes.find_map(|node| {
        let Some(Operator::Source(source)) = &node.operator else {
            return None;
        };
        let spec = source.connector.as_ref()?.connector.as_ref()?;
        let unbounded = match spec {
            Connector::Nexmark(nexmark) => nexmark.events == 0,
            // A sequence ends, and its table with it.
            Connector::Datagen(datagen) => {
                let mut fields = datagen.fields.iter();
                datagen.number_of_rows == 0
                    && !fields.any(|field| field.kind() == DatagenKind::Sequence)
            }
            _ => false,
        };
        unbounded.then_some(source.table.as_str())
    })
}
