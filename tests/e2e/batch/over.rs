//! OVER in random queries: over a table, in the order of its event time or of anything else.

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::relation::{
    Aggregate, Choice, Dialect, Function, Predicate, Type, any_column, column, named, table_columns,
};

/// A table with calls appended.
#[derive(Clone, Debug)]
pub(super) struct Over {
    table: char,
    filter: Option<Predicate>,
    partition: Vec<Choice>,
    order: Choice,
    descending: bool,
    frame: Frame,
    calls: Vec<Call>,
}

/// What aggregates are of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Frame {
    /// All rows before, counted.
    Rows,
    /// All rows before, and those of equal order.
    Range,
    /// So many rows before.
    LastRows(u8),
    /// Rows of the last seconds; of a table that has no time, so many rows.
    LastSeconds(u8),
}

#[derive(Clone, Copy, Debug)]
enum Call {
    Aggregate(Aggregate),
    RowNumber,
    Rank,
    DenseRank,
    Lag(Choice, u8),
}

pub(super) fn over(
    aggregate: impl Strategy<Value = Aggregate>,
    predicate: impl Strategy<Value = Predicate>,
) -> impl Strategy<Value = Over> {
    let frame = prop_oneof![
        Just(Frame::Rows),
        Just(Frame::Range),
        (0..5_u8).prop_map(Frame::LastRows),
        (0..9_u8).prop_map(Frame::LastSeconds),
    ];
    let call = prop_oneof![
        5 => aggregate.prop_map(Call::Aggregate),
        1 => Just(Call::RowNumber),
        1 => Just(Call::Rank),
        1 => Just(Call::DenseRank),
        1 => (any::<u8>(), 0..4_u8).prop_map(|(column, offset)| Call::Lag(column, offset)),
    ];
    (
        select(&['a', 'b', 'u'][..]),
        option::weighted(0.3, predicate),
        vec(any::<u8>(), 0..2),
        // The time of tables that have one is what mostly orders them.
        prop_oneof![Just(3_u8), any::<u8>()],
        any::<bool>(),
        frame,
        vec(call, 1..4),
    )
        .prop_map(
            |(table, filter, partition, order, descending, frame, calls)| Over {
                table,
                filter,
                partition,
                order,
                descending,
                frame,
                calls,
            },
        )
}

impl Over {
    pub(super) fn columns(&self) -> Vec<Type> {
        let input = table_columns(self.table);
        let calls = self
            .calls
            .iter()
            .map(|call| self.call(*call, Dialect::Flink).0);
        input.iter().copied().chain(calls).collect()
    }

    pub(super) fn sql(&self, dialect: Dialect) -> String {
        let input = table_columns(self.table);
        let columns = (0..input.len()).map(|at| format!("c{at}"));
        let calls = self.calls.iter().map(|call| self.call(*call, dialect).1);
        let filter = self.filter.map_or_else(String::new, |filter| {
            format!(" WHERE {}", filter.sql(&input, ""))
        });
        let list = named(columns.chain(calls));
        format!("SELECT {list} FROM {}{filter}", self.table)
    }

    fn call(&self, call: Call, dialect: Dialect) -> (Type, String) {
        let input = table_columns(self.table);
        match call {
            Call::Aggregate(aggregate) => {
                // Neither engine has both, of those that count values once.
                let function = match aggregate.function {
                    Function::CountDistinct => Function::Count,
                    Function::SumDistinct => Function::Sum,
                    other => other,
                };
                let aggregate = Aggregate {
                    function,
                    ..aggregate
                };
                aggregate.over(&input, dialect, &self.window(self.frame, dialect))
            }
            Call::RowNumber => (Type::Int, format!("ROW_NUMBER(){}", self.all_told_apart())),
            Call::Rank => (Type::Int, format!("RANK(){}", self.numbered())),
            Call::DenseRank => (Type::Int, format!("DENSE_RANK(){}", self.numbered())),
            Call::Lag(choice, offset) => {
                let (data_type, column) = any_column(&input, choice);
                let window = self.all_told_apart();
                (data_type, format!("LAG({column}, {offset}){window}"))
            }
        }
    }

    fn window(&self, frame: Frame, dialect: Dialect) -> String {
        let input = table_columns(self.table);
        let rows = |rows: u8| {
            let order = self.total_order();
            self.over(
                &order,
                &format!(" ROWS BETWEEN {rows} PRECEDING AND CURRENT ROW"),
            )
        };
        match frame {
            Frame::Rows => {
                let all = " ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW";
                self.over(&self.total_order(), all)
            }
            Frame::Range => self.over(&self.first_key(), ""),
            Frame::LastRows(count) => rows(count),
            Frame::LastSeconds(count) if !input.contains(&Type::Time) => rows(count),
            Frame::LastSeconds(seconds) => {
                let start = match (seconds, dialect) {
                    (0, _) => "CURRENT ROW".to_owned(),
                    (_, Dialect::Flink) => format!("INTERVAL '{seconds}' SECOND PRECEDING"),
                    (_, Dialect::Sqlite) => format!("{} PRECEDING", i64::from(seconds) * 1000),
                };
                let order = column(&input, Type::Time, 0, "");
                self.over(&order, &format!(" RANGE BETWEEN {start} AND CURRENT ROW"))
            }
        }
    }

    /// Rows that are equal here are equal in all.
    fn all_told_apart(&self) -> String {
        self.over(&self.total_order(), "")
    }

    fn numbered(&self) -> String {
        self.over(&self.first_key(), "")
    }

    fn over(&self, order: &str, frame: &str) -> String {
        let input = table_columns(self.table);
        let keys = self
            .partition
            .iter()
            .map(|choice| any_column(&input, *choice).1);
        let keys: Vec<String> = keys.collect();
        let partition = match keys.is_empty() {
            true => String::new(),
            false => format!("PARTITION BY {} ", keys.join(", ")),
        };
        format!(" OVER ({partition}ORDER BY {order}{frame})")
    }

    fn first_key(&self) -> String {
        let (data_type, column) = any_column(&table_columns(self.table), self.order);
        // Time goes one way.
        match self.descending && data_type != Type::Time {
            true => format!("{column} DESC"),
            false => column,
        }
    }

    fn total_order(&self) -> String {
        let first = any_column(&table_columns(self.table), self.order).1;
        let columns = (0..table_columns(self.table).len()).map(|at| format!("c{at}"));
        let others = columns.filter(|column| *column != first);
        let keys: Vec<String> = [self.first_key()].into_iter().chain(others).collect();
        keys.join(", ")
    }
}
