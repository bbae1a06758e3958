//! Subqueries in random queries, that refer to the enclosing query or not: IN and NOT IN, and aggregates
//! without GROUP BY, which have a row for no rows.

use proptest::{option, prelude::*, sample::select};

use super::relation::{
    Aggregate, Choice, Dialect, Predicate, Relation, Type, column, named, nested,
};

/// A relation with what a subquery over another one says of its rows.
#[derive(Clone, Debug)]
pub(super) struct Subquery {
    sides: [Box<Relation>; 2],
    /// Columns that a row and the rows of its subquery have in common.
    correlated: Option<[Choice; 2]>,
    asks: Asks,
    negated: bool,
    /// What else keeps a row; then the subquery stands beneath OR.
    or: Option<Predicate>,
}

#[derive(Clone, Debug)]
enum Asks {
    /// Whether a column is among those of the subquery.
    In([Choice; 2]),
    /// Whether there is a group of so many rows at most.
    Exists(u8),
    /// Whether a column is the aggregate.
    InAggregate(Choice, Aggregate),
    /// For the aggregate, as one more column; a default is given for NULL.
    Value(Aggregate, Option<i8>),
    /// As one more column, whether a column is among those of the subquery: 1, 0 or -1 for NULL.
    InValue([Choice; 2]),
}

pub(super) fn subquery(
    sides: [BoxedStrategy<Box<Relation>>; 2],
    aggregate: impl Strategy<Value = Aggregate> + Clone + 'static,
    predicate: impl Strategy<Value = Predicate>,
) -> impl Strategy<Value = Subquery> {
    let asks = prop_oneof![
        2 => any::<[u8; 2]>().prop_map(Asks::In),
        1 => (0..3_u8).prop_map(Asks::Exists),
        1 => (any::<u8>(), aggregate.clone()).prop_map(|(key, of)| Asks::InAggregate(key, of)),
        2 => (aggregate, option::of(-9..9_i8)).prop_map(|(of, default)| Asks::Value(of, default)),
        1 => any::<[u8; 2]>().prop_map(Asks::InValue),
    ];
    let correlated = option::weighted(0.7, any::<[u8; 2]>());
    let negated = select(&[false, true][..]);
    let or = option::weighted(0.3, predicate);
    (sides, correlated, asks, negated, or).prop_map(|(mut sides, correlated, asks, negated, or)| {
        // Without numbers, constants would be compared, which refers to nothing.
        for side in &mut sides {
            if !side.columns().contains(&Type::Int) {
                **side = Relation::Table('u');
            }
        }
        // What does not refer to the enclosing query has no row for no rows, in streams.
        let correlated = match asks {
            Asks::In(_) | Asks::InValue(_) => correlated,
            _ => Some(correlated.unwrap_or_default()),
        };
        Subquery {
            sides,
            correlated,
            asks,
            negated,
            or,
        }
    })
}

impl Subquery {
    pub(super) fn columns(&self) -> Vec<Type> {
        let mut columns = self.sides[0].columns();
        match &self.asks {
            Asks::Value(of, _) => columns.push(self.value(*of, Dialect::Flink).0),
            Asks::InValue(_) => columns.push(Type::Int),
            _ => {}
        }
        columns
    }

    /// The aggregate over the subquery's rows; numbers only where there is a default.
    fn value(&self, of: Aggregate, dialect: Dialect) -> (Type, String) {
        of.of(&self.sides[1].columns(), dialect)
    }

    pub(super) fn sql(&self, dialect: Dialect) -> String {
        let [left, right] = [0, 1].map(|side: usize| self.sides[side].columns());
        let on_left = |choice| column(&left, Type::Int, choice, "l.");
        let on_right = |choice| column(&right, Type::Int, choice, "r.");
        let subquery = |list: &str, more: &str| {
            let condition = self.correlated.map_or_else(String::new, |[l, r]| {
                format!(" WHERE {} = {}", on_right(r), on_left(l))
            });
            let from = nested(&self.sides[1], dialect);
            format!("(SELECT {list} FROM {from} AS r{condition}{more})")
        };
        let not = if self.negated { "NOT " } else { "" };
        let test = match &self.asks {
            Asks::In([l, r]) => {
                format!("{} {not}IN {}", on_left(*l), subquery(&on_right(*r), ""))
            }
            Asks::Exists(most) => {
                let having = format!(" HAVING COUNT(*) <= {most}");
                format!("{not}EXISTS {}", subquery("COUNT(*)", &having))
            }
            Asks::InAggregate(l, of) => match self.value(*of, dialect) {
                (Type::Int, of) => format!("{} {not}IN {}", on_left(*l), subquery(&of, "")),
                _ => format!("{not}EXISTS {}", subquery("COUNT(*)", "")),
            },
            Asks::Value(of, default) => {
                let value = match (self.value(*of, dialect), default) {
                    ((Type::Int, of), Some(default)) => format!("COALESCE({of}, {default})"),
                    ((_, of), _) => of,
                };
                return self.with(&subquery(&value, ""), left.len(), dialect);
            }
            Asks::InValue([l, r]) => {
                let test = format!("{} {not}IN {}", on_left(*l), subquery(&on_right(*r), ""));
                let value = format!(
                    "CASE WHEN {test} THEN CAST(1 AS BIGINT) WHEN NOT ({test}) THEN CAST(0 AS BIGINT) ELSE \
                     CAST(-1 AS BIGINT) END"
                );
                return self.with(&value, left.len(), dialect);
            }
        };
        let or = self
            .or
            .map_or_else(String::new, |or| format!(" OR {}", or.sql(&left, "l.")));
        let from = nested(&self.sides[0], dialect);
        format!("SELECT * FROM {from} AS l WHERE {test}{or}")
    }

    /// All rows, with one more column.
    fn with(&self, value: &str, width: usize, dialect: Dialect) -> String {
        let columns = (0..width).map(|index| format!("l.c{index}"));
        let list = named(columns.chain([value.to_owned()]));
        format!(
            "SELECT {list} FROM {} AS l",
            nested(&self.sides[0], dialect)
        )
    }
}
