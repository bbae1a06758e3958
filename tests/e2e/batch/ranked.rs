//! Top-N in random queries: some rows of each partition, first or last of all columns.

use proptest::prelude::*;

use super::relation::{Choice, Dialect, Relation, Type, any_column, nested};

#[derive(Clone, Debug)]
pub(super) struct Ranked {
    input: Box<Relation>,
    partition: Option<Choice>,
    descending: bool,
    /// The first rank and how many.
    ranks: (u8, u8),
    /// The rank is a column.
    shown: bool,
}

pub(super) fn ranked(input: BoxedStrategy<Box<Relation>>) -> impl Strategy<Value = Ranked> {
    let ranks = (prop_oneof![3 => Just(1), 1 => 2..4_u8], 0..4_u8);
    let partition = proptest::option::weighted(0.8, any::<u8>());
    (input, partition, any::<bool>(), ranks, any::<bool>()).prop_map(
        |(input, partition, descending, ranks, shown)| Ranked {
            input,
            partition,
            descending,
            ranks,
            shown,
        },
    )
}

impl Ranked {
    pub(super) fn columns(&self) -> Vec<Type> {
        let mut columns = self.input.columns();
        columns.extend(self.shown.then_some(Type::Int));
        columns
    }

    pub(super) fn sql(&self, dialect: Dialect) -> String {
        let columns = self.input.columns();
        let partition = self.partition.map_or_else(String::new, |choice| {
            format!("PARTITION BY {} ", any_column(&columns, choice).1)
        });
        // Rows that are equal in all columns are the same to whoever looks.
        let direction = if self.descending { " DESC" } else { "" };
        let order = (0..columns.len()).map(|index| format!("c{index}{direction}"));
        let order = order.collect::<Vec<_>>().join(", ");
        let mut list: Vec<String> = (0..columns.len())
            .map(|index| format!("c{index}"))
            .collect();
        if self.shown {
            list.push(format!("rn AS c{}", columns.len()));
        }
        let (first, more) = self.ranks;
        format!(
            "SELECT {} FROM (SELECT *, ROW_NUMBER() OVER ({partition}ORDER BY {order}) AS rn FROM {} AS r) AS q \
             WHERE rn >= {first} AND rn <= {}",
            list.join(", "),
            nested(&self.input, dialect),
            first + more
        )
    }
}
