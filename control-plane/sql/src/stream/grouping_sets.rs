//! Grouping sets: every row once per set, with a number that tells the sets apart. Knows nothing of how
//! the copies are aggregated.

use std::collections::BTreeMap;

use proto::plan::{self as wire, ScalarFunction};
use proto::types::Field;

use crate::logical::{Expr, GroupingSet};
use crate::optimize::expr::bigint as number_of;

use super::node::{Distribution, Node, NodeId, Op};
use super::rank::wire_columns;
use super::translate::{Translator, bigint};

impl Translator<'_> {
    /// Every row once per grouping set; gives the column of the set's number. `keys` are positions among
    /// the keys and their columns, which are NULL where a set lacks the key.
    pub(crate) fn expand(
        &mut self,
        input: NodeId,
        sets: &[GroupingSet],
        key_count: usize,
        keys: &[(usize, usize)],
    ) -> (NodeId, usize) {
        let wire_set = |set: &GroupingSet| wire::ColumnSet {
            columns: keys
                .iter()
                .filter(|(position, _)| set.contains(position))
                .map(|(_, column)| *column as u32)
                .collect(),
        };
        let columns: Vec<usize> = keys.iter().map(|(_, column)| *column).collect();
        let below = self.graph.node(input);
        let mut fields = below.fields.clone();
        for column in &columns {
            fields[*column].data_type.nullable = true;
        }
        let column = fields.len();
        fields.push(Field::new("$grouping_id", bigint()));
        let node = Node {
            changes: below.changes,
            distribution: match below.distribution {
                Distribution::Single => Distribution::Single,
                _ => Distribution::Any,
            },
            rowtime: below.rowtime.clone(),
            windowed: below.windowed,
            ..Node::new(
                Op::Expand(wire::Expand {
                    columns: wire_columns(&columns),
                    sets: sets.iter().map(wire_set).collect(),
                    grouping_ids: numbers(sets, key_count),
                }),
                vec![input],
                fields,
            )
        };
        (self.graph.add(node), column)
    }
}

/// What tells the sets apart: their grouping ids, and above these bits which copy of the same set it is.
/// Copies are groups of their own.
fn numbers(sets: &[GroupingSet], key_count: usize) -> Vec<u64> {
    let mut copies: BTreeMap<u64, u64> = BTreeMap::new();
    let number = |set: &GroupingSet| {
        // One bit per key, the first key's highest; set where the set lacks the key.
        let id = (0..key_count).fold(0, |id, i| id << 1 | u64::from(!set.contains(&i)));
        let copy = copies.entry(id).or_default();
        *copy += 1;
        (*copy - 1) << key_count | id
    };
    sets.iter().map(number).collect()
}

/// The grouping id of a set, of its number.
pub(super) fn id_of(number: Expr, sets: &[GroupingSet], key_count: usize) -> Expr {
    if numbers(sets, key_count).iter().all(|n| n >> key_count == 0) {
        return number;
    }
    let data_type = number.data_type.clone();
    let args = vec![number, number_of(1 << key_count)];
    Expr::call(ScalarFunction::Modulo, args, data_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_of_a_set_have_numbers_of_their_own() {
        let sets = [vec![0, 1], vec![0], vec![0], vec![], vec![1, 0]];
        assert_eq!(numbers(&sets, 2), [0b000, 0b001, 0b101, 0b011, 0b100]);
        assert_eq!(numbers(&[vec![], vec![]], 0), [0, 1]);
    }
}
