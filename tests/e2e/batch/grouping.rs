//! Grouping sets in random queries: any sets of some keys, a set more than once too, and of a window's
//! columns. SQLite has none: for it, each set is a GROUP BY of its own.

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::relation::{
    Aggregate, Choice, Dialect, EVENT, Relation, Type, any_column, named, nested, windowed,
};

#[derive(Clone, Debug)]
pub(super) struct Grouping {
    from: From,
    keys: Vec<Choice>,
    /// A bit per key, those of a window first.
    sets: Vec<u8>,
    aggregates: Vec<Aggregate>,
}

#[derive(Clone, Debug)]
enum From {
    Relation(Box<Relation>),
    /// A table in windows of so many seconds, whose start and end are keys.
    Windows(char, i64),
}

/// The start and the end of a window.
const WINDOW: [&str; 2] = ["window_start", "window_end"];

pub(super) fn grouping(
    input: BoxedStrategy<Box<Relation>>,
    aggregates: impl Strategy<Value = Vec<Aggregate>>,
) -> impl Strategy<Value = Grouping> {
    let windows = (select(&['a', 'b'][..]), 1..60_i64);
    (
        (input, option::weighted(0.4, windows)),
        vec(any::<u8>(), 1..3),
        vec(any::<u8>(), 1..5),
        aggregates,
    )
        .prop_map(|((input, windows), keys, sets, aggregates)| Grouping {
            from: match windows {
                Some((table, size_s)) => From::Windows(table, size_s),
                None => From::Relation(input),
            },
            keys,
            sets,
            aggregates,
        })
}

impl Grouping {
    fn input(&self) -> Vec<Type> {
        match &self.from {
            From::Relation(input) => input.columns(),
            From::Windows(..) => EVENT.to_vec(),
        }
    }

    /// Bits, types and names of the keys of any set, each once.
    fn keys(&self) -> Vec<(usize, Type, String)> {
        let input = self.input();
        let mut keys = match self.from {
            From::Windows(..) => WINDOW.map(|name| (Type::Time, name.to_owned())).to_vec(),
            From::Relation(_) => Vec::new(),
        };
        for key in self.keys.iter().map(|choice| any_column(&input, *choice)) {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        let of_any = |at: usize| self.sets.iter().any(|set| set >> at & 1 == 1);
        let keys = keys.into_iter().enumerate().filter(|(at, _)| of_any(*at));
        keys.map(|(at, (of, name))| (at, of, name)).collect()
    }

    pub(super) fn columns(&self) -> Vec<Type> {
        let input = self.input();
        let results = self
            .aggregates
            .iter()
            .map(|a| a.of(&input, Dialect::Flink).0);
        let keys = self.keys().into_iter().map(|(_, of, _)| of);
        keys.chain(results).chain([Type::Int]).collect()
    }

    pub(super) fn sql(&self, dialect: Dialect) -> String {
        let input = self.input();
        let keys = self.keys();
        let from = match &self.from {
            From::Relation(input) => nested(input, dialect),
            From::Windows(table, size_s) => windowed(*table, *size_s, 1, dialect),
        };
        let results = self.aggregates.iter().map(|a| a.of(&input, dialect).1);
        let results: Vec<String> = results.collect();
        let names = |of: u8| {
            let keys = keys.iter().filter(|(at, ..)| of >> at & 1 == 1);
            keys.map(|(.., name)| name.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        };
        if dialect == Dialect::Flink {
            let sets = self.sets.iter().map(|set| format!("({})", names(*set)));
            let sets = sets.collect::<Vec<_>>().join(", ");
            let id = match names(u8::MAX) {
                none if none.is_empty() => "CAST(0 AS BIGINT)".to_owned(),
                names => format!("GROUPING_ID({names})"),
            };
            let keys = keys.iter().map(|(.., name)| name.clone());
            let list = named(keys.chain(results).chain([id]));
            return format!("SELECT {list} FROM {from} AS r GROUP BY GROUPING SETS ({sets})");
        }
        let one = |set: &u8| {
            let is_in = |at: usize| set >> at & 1 == 1;
            let shown = keys.iter().map(|(at, _, name)| match is_in(*at) {
                true => name.clone(),
                false => "NULL".to_owned(),
            });
            let id = |id: u8, at: usize| id << 1 | u8::from(!is_in(at));
            let id = keys.iter().map(|(at, ..)| *at).fold(0, id);
            let list = named(shown.chain(results.iter().cloned()).chain([id.to_string()]));
            let by = match names(*set) {
                // No row of no rows, in streams.
                none if none.is_empty() => "HAVING COUNT(*) > 0".to_owned(),
                names => format!("GROUP BY {names}"),
            };
            format!("SELECT {list} FROM {from} AS r {by}")
        };
        let all: Vec<String> = self.sets.iter().map(one).collect();
        all.join(" UNION ALL ")
    }
}
