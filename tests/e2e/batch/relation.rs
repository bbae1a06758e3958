//! Queries as trees that render to two dialects: Flink's for Millstream, SQLite's for the batch
//! engine. Columns are always named c0, c1, …; a choice of a column is a number that is taken
//! modulo the number of columns of the wanted type, so that every tree is a valid query.

use std::fmt::Write as _;

use super::{grouping::Grouping, over::Over, ranked::Ranked, subquery::Subquery};

/// For whom a query is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Dialect {
    Flink,
    Sqlite,
}

/// Types of columns. SQLite has times as ms since 1970.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Type {
    Int,
    Text,
    Time,
}

impl Type {
    /// Its name in Flink's dialect.
    pub(super) fn name(self) -> &'static str {
        match self {
            Type::Int => "BIGINT",
            Type::Text => "STRING",
            Type::Time => "TIMESTAMP(3)",
        }
    }
}

/// A choice of a column.
pub(super) type Choice = u8;

#[derive(Clone, Copy, Debug)]
pub(super) enum Scalar {
    Column(Choice),
    Int(Choice),
    Sum(Choice, Choice),
    Scaled(Choice, i8),
    Modulo(Choice, u8),
    Quotient(Choice, u8),
    Case(Predicate, Choice, i8),
    Coalesce(Choice, i8),
    Length(Choice),
    Joined(Choice),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Predicate {
    Less(Choice, i8),
    Equal(Choice, Choice),
    IsNull(Choice),
    Like(Choice),
    /// A column between two numbers, or another one NULL.
    Between(Choice, i8, Choice),
    Not(Choice, i8, Choice),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Function {
    Count,
    CountDistinct,
    Sum,
    SumDistinct,
    Average,
    Min,
    Max,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Aggregate {
    pub(super) function: Function,
    pub(super) argument: Choice,
    pub(super) filter: Option<Predicate>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum JoinKind {
    Inner,
    Left,
    Right,
    Full,
}

/// Of two columns of each side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SetOperation {
    UnionAll,
    Union,
    Intersect,
    Except,
}

#[derive(Clone, Debug)]
pub(super) enum Relation {
    /// `a` or `b`: key, value, text, time; or `u`: id, key, value.
    Table(char),
    Filter(Box<Relation>, Predicate),
    Project(Box<Relation>, Vec<Scalar>),
    Group {
        input: Box<Relation>,
        keys: Vec<Choice>,
        aggregates: Vec<Aggregate>,
        having: Option<u8>,
    },
    Join {
        kind: JoinKind,
        sides: [Box<Relation>; 2],
        keys: [Choice; 2],
        residual: Option<[Choice; 2]>,
    },
    Distinct(Box<Relation>),
    Set(SetOperation, [Box<Relation>; 2]),
    /// Rows of the first with (or without) a row of the second of equal key.
    Exists {
        sides: [Box<Relation>; 2],
        keys: [Choice; 2],
        negated: bool,
    },
    Window {
        table: char,
        filter: Option<Predicate>,
        slide_s: i64,
        /// Slides per window; 1: tumbling.
        slides: i64,
        keys: Vec<Choice>,
        aggregates: Vec<Aggregate>,
    },
    WindowJoin {
        kind: JoinKind,
        size_s: i64,
        keys: [Choice; 2],
    },
    Over(Over),
    Subquery(Subquery),
    Grouping(Grouping),
    Ranked(Ranked),
}

pub(super) const EVENT: [Type; 4] = [Type::Int, Type::Int, Type::Text, Type::Time];

impl Relation {
    pub(super) fn columns(&self) -> Vec<Type> {
        match self {
            Relation::Table(name) => table_columns(*name),
            Relation::Over(over) => over.columns(),
            Relation::Subquery(subquery) => subquery.columns(),
            Relation::Grouping(grouping) => grouping.columns(),
            Relation::Ranked(ranked) => ranked.columns(),
            Relation::Filter(input, _) | Relation::Distinct(input) => input.columns(),
            Relation::Exists { sides, .. } => sides[0].columns(),
            Relation::Project(input, scalars) => {
                let input = input.columns();
                scalars.iter().map(|scalar| scalar.of(&input).0).collect()
            }
            Relation::Group {
                input,
                keys,
                aggregates,
                ..
            } => grouped(&input.columns(), keys, aggregates),
            Relation::Join { sides, .. } => [sides[0].columns(), sides[1].columns()].concat(),
            Relation::Set(..) => vec![Type::Int; 2],
            Relation::Window {
                keys, aggregates, ..
            } => {
                let mut columns = vec![Type::Time; 2];
                columns.extend(grouped(&EVENT, keys, aggregates));
                columns
            }
            Relation::WindowJoin { .. } => {
                let mut columns = vec![Type::Time];
                columns.extend([Type::Int; 4]);
                columns
            }
        }
    }

    /// A SELECT without ORDER BY.
    pub(super) fn sql(&self, dialect: Dialect) -> String {
        match self {
            Relation::Table(name) => format!("SELECT * FROM {name}"),
            Relation::Filter(input, predicate) => format!(
                "SELECT * FROM {} AS r WHERE {}",
                nested(input, dialect),
                predicate.sql(&input.columns(), "")
            ),
            Relation::Project(input, scalars) => {
                let columns = input.columns();
                let list = scalars.iter().map(|scalar| scalar.of(&columns).1);
                format!(
                    "SELECT {} FROM {} AS r",
                    named(list),
                    nested(input, dialect)
                )
            }
            Relation::Group {
                input,
                keys,
                aggregates,
                having,
            } => group(input, keys, aggregates, *having, dialect),
            Relation::Join {
                kind,
                sides,
                keys,
                residual,
            } => join(*kind, sides, *keys, *residual, dialect),
            Relation::Distinct(input) => {
                format!("SELECT DISTINCT * FROM {} AS r", nested(input, dialect))
            }
            Relation::Set(operation, sides) => set_operation(*operation, sides, dialect),
            Relation::Exists {
                sides,
                keys,
                negated,
            } => format!(
                "SELECT * FROM {} AS l WHERE {}EXISTS (SELECT 1 FROM {} AS r WHERE {} = {})",
                nested(&sides[0], dialect),
                if *negated { "NOT " } else { "" },
                nested(&sides[1], dialect),
                column(&sides[0].columns(), Type::Int, keys[0], "l."),
                column(&sides[1].columns(), Type::Int, keys[1], "r."),
            ),
            Relation::Window { .. } => self.window(dialect),
            Relation::Over(over) => over.sql(dialect),
            Relation::Subquery(subquery) => subquery.sql(dialect),
            Relation::Grouping(grouping) => grouping.sql(dialect),
            Relation::Ranked(ranked) => ranked.sql(dialect),
            Relation::WindowJoin { kind, size_s, keys } => {
                window_join(*kind, *size_s, *keys, dialect)
            }
        }
    }

    fn window(&self, dialect: Dialect) -> String {
        let Relation::Window {
            table,
            filter,
            slide_s,
            slides,
            keys,
            aggregates,
        } = self
        else {
            unreachable!("called for windows");
        };
        let [start, end] = ["window_start", "window_end"].map(str::to_owned);
        let keys = keys.iter().map(|choice| any_column(&EVENT, *choice).1);
        let mut list: Vec<String> = [start, end].into_iter().chain(keys).collect();
        let by = list.join(", ");
        list.extend(aggregates.iter().map(|a| a.of(&EVENT, dialect).1));
        let filter = filter.map_or_else(String::new, |filter| {
            format!(" WHERE {}", filter.sql(&EVENT, ""))
        });
        format!(
            "SELECT {} FROM {} AS r{filter} GROUP BY {by}",
            named(list.into_iter()),
            windowed(*table, *slide_s, *slides, dialect)
        )
    }
}

/// Columns of a table.
pub(super) fn table_columns(name: char) -> Vec<Type> {
    match name {
        'u' => vec![Type::Int; 3],
        _ => EVENT.to_vec(),
    }
}

/// The table with the columns window_start and window_end: a row per window of each row.
pub(super) fn windowed(table: char, slide_s: i64, slides: i64, dialect: Dialect) -> String {
    let slide_ms = slide_s * 1000;
    match (dialect, slides) {
        (Dialect::Flink, 1) => {
            format!("TABLE(TUMBLE(TABLE {table}, DESCRIPTOR(c3), INTERVAL '{slide_s}' SECOND))")
        }
        (Dialect::Flink, _) => format!(
            "TABLE(HOP(TABLE {table}, DESCRIPTOR(c3), INTERVAL '{slide_s}' SECOND, INTERVAL '{}' \
             SECOND))",
            slide_s * slides
        ),
        (Dialect::Sqlite, _) => format!(
            "(SELECT *, window_start + {} AS window_end FROM (SELECT {table}.*, c3 - ((c3 % \
             {slide_ms}) + {slide_ms}) % {slide_ms} - step * {slide_ms} AS window_start FROM \
             {table}, steps WHERE step < {slides}))",
            slide_ms * slides
        ),
    }
}

fn set_operation(operation: SetOperation, sides: &[Box<Relation>; 2], dialect: Dialect) -> String {
    let side = |side: &Relation| {
        let columns = side.columns();
        let list = [0, 1].map(|choice| column(&columns, Type::Int, choice, ""));
        format!(
            "SELECT {} FROM {} AS r",
            named(list.into_iter()),
            nested(side, dialect)
        )
    };
    let operation = match operation {
        SetOperation::UnionAll => "UNION ALL",
        SetOperation::Union => "UNION",
        SetOperation::Intersect => "INTERSECT",
        SetOperation::Except => "EXCEPT",
    };
    format!("{} {operation} {}", side(&sides[0]), side(&sides[1]))
}

fn window_join(kind: JoinKind, size_s: i64, keys: [Choice; 2], dialect: Dialect) -> String {
    let side = |table| {
        format!(
            "(SELECT * FROM {} AS w)",
            windowed(table, size_s, 1, dialect)
        )
    };
    let list = ["l.window_start", "l.c0", "l.c1", "r.c0", "r.c1"].map(str::to_owned);
    format!(
        "SELECT {} FROM {} AS l {} JOIN {} AS r ON l.window_start = r.window_start AND \
         l.window_end = r.window_end AND {} = {}",
        named(list.into_iter()),
        side('a'),
        kind.sql(),
        side('b'),
        column(&EVENT, Type::Int, keys[0], "l."),
        column(&EVENT, Type::Int, keys[1], "r."),
    )
}

fn group(
    input: &Relation,
    keys: &[Choice],
    aggregates: &[Aggregate],
    having: Option<u8>,
    dialect: Dialect,
) -> String {
    let columns = input.columns();
    let keys = keys.iter().map(|choice| any_column(&columns, *choice).1);
    let mut list: Vec<String> = keys.collect();
    let by = list.join(", ");
    list.extend(aggregates.iter().map(|a| a.of(&columns, dialect).1));
    let mut sql = format!(
        "SELECT {} FROM {} AS r",
        named(list.into_iter()),
        nested(input, dialect)
    );
    if !by.is_empty() {
        let _ = write!(sql, " GROUP BY {by}");
    }
    match having {
        Some(least) => {
            let _ = write!(sql, " HAVING COUNT(*) > {least}");
        }
        // No row of no rows, in streams.
        None if by.is_empty() && dialect == Dialect::Sqlite => sql.push_str(" HAVING COUNT(*) > 0"),
        None => {}
    }
    sql
}

fn join(
    kind: JoinKind,
    sides: &[Box<Relation>; 2],
    keys: [Choice; 2],
    residual: Option<[Choice; 2]>,
    dialect: Dialect,
) -> String {
    let [left, right] = [sides[0].columns(), sides[1].columns()];
    let qualified = |columns: &[Type], side: &str| -> Vec<String> {
        (0..columns.len()).map(|i| format!("{side}c{i}")).collect()
    };
    let list = [qualified(&left, "l."), qualified(&right, "r.")].concat();
    let pair = |[l, r]: [Choice; 2]| {
        [
            column(&left, Type::Int, l, "l."),
            column(&right, Type::Int, r, "r."),
        ]
    };
    let mut on = pair(keys).join(" = ");
    if let Some(residual) = residual {
        let _ = write!(on, " AND {}", pair(residual).join(" < "));
    }
    format!(
        "SELECT {} FROM {} AS l {} JOIN {} AS r ON {on}",
        named(list.into_iter()),
        nested(&sides[0], dialect),
        kind.sql(),
        nested(&sides[1], dialect),
    )
}

fn grouped(input: &[Type], keys: &[Choice], aggregates: &[Aggregate]) -> Vec<Type> {
    let keys = keys.iter().map(|choice| any_column(input, *choice).0);
    let results = aggregates.iter().map(|a| a.of(input, Dialect::Flink).0);
    keys.chain(results).collect()
}

pub(super) fn nested(relation: &Relation, dialect: Dialect) -> String {
    match relation {
        Relation::Table(name) => name.to_string(),
        other => format!("({})", other.sql(dialect)),
    }
}

pub(super) fn named(list: impl Iterator<Item = String>) -> String {
    let named = list.enumerate().map(|(i, sql)| format!("{sql} AS c{i}"));
    named.collect::<Vec<_>>().join(", ")
}

/// A column of the type, or a constant where there is none.
pub(super) fn column(columns: &[Type], wanted: Type, choice: Choice, qualifier: &str) -> String {
    let fit: Vec<usize> = (0..columns.len())
        .filter(|i| columns[*i] == wanted)
        .collect();
    match (fit.is_empty(), wanted) {
        (false, _) => format!("{qualifier}c{}", fit[usize::from(choice) % fit.len()]),
        (true, Type::Text) => "'none'".to_owned(),
        (true, _) => "CAST(7 AS BIGINT)".to_owned(),
    }
}

pub(super) fn any_column(columns: &[Type], choice: Choice) -> (Type, String) {
    let index = usize::from(choice) % columns.len();
    (columns[index], format!("c{index}"))
}

impl JoinKind {
    fn sql(self) -> &'static str {
        match self {
            JoinKind::Inner => "INNER",
            JoinKind::Left => "LEFT",
            JoinKind::Right => "RIGHT",
            JoinKind::Full => "FULL",
        }
    }
}

impl Scalar {
    fn of(self, columns: &[Type]) -> (Type, String) {
        let int = |choice| column(columns, Type::Int, choice, "");
        let text = |choice| column(columns, Type::Text, choice, "");
        let sql = match self {
            Scalar::Column(choice) => return any_column(columns, choice),
            Scalar::Joined(choice) => {
                return (Type::Text, format!("{} || 'x'", text(choice)));
            }
            Scalar::Int(choice) => int(choice),
            Scalar::Sum(a, b) => format!("{} - {}", int(a), int(b)),
            Scalar::Scaled(a, by) => format!("{} * ({by})", int(a)),
            Scalar::Modulo(a, by) => format!("CAST({} % {by} AS BIGINT)", int(a)),
            Scalar::Quotient(a, by) => format!("{} / {by}", int(a)),
            Scalar::Case(predicate, a, other) => format!(
                "CASE WHEN {} THEN {} ELSE {other} END",
                predicate.sql(columns, ""),
                int(a)
            ),
            Scalar::Coalesce(a, other) => format!("COALESCE({}, {other})", int(a)),
            Scalar::Length(choice) => {
                // CHAR_LENGTH in SQLite is LENGTH; both know this one.
                format!("CAST(CHAR_LENGTH({}) AS BIGINT)", text(choice))
            }
        };
        (Type::Int, sql)
    }
}

impl Predicate {
    pub(super) fn sql(self, columns: &[Type], qualifier: &str) -> String {
        let int = |choice| column(columns, Type::Int, choice, qualifier);
        let text = |choice| column(columns, Type::Text, choice, qualifier);
        match self {
            Predicate::Less(a, than) => format!("{} < {than}", int(a)),
            Predicate::Equal(a, b) => format!("{} = {}", int(a), int(b)),
            Predicate::IsNull(a) => format!("{} IS NULL", int(a)),
            Predicate::Like(a) => format!("{} LIKE '%b%'", text(a)),
            Predicate::Between(a, low, b) => format!(
                "({} BETWEEN {low} AND {} OR {} IS NULL)",
                int(a),
                i16::from(low) + 20,
                int(b)
            ),
            Predicate::Not(a, than, b) => format!("NOT ({} >= {than} AND {} > 3)", int(a), int(b)),
        }
    }
}

impl Aggregate {
    pub(super) fn of(self, columns: &[Type], dialect: Dialect) -> (Type, String) {
        self.over(columns, dialect, "")
    }

    /// With what stands behind each call.
    pub(super) fn over(self, columns: &[Type], dialect: Dialect, window: &str) -> (Type, String) {
        let any = any_column(columns, self.argument);
        let int = column(columns, Type::Int, self.argument, "");
        let filter = self.filter.map_or_else(String::new, |filter| {
            format!(" FILTER (WHERE {})", filter.sql(columns, ""))
        });
        let call = |call: String| format!("{call}{filter}{window}");
        let sql = match self.function {
            Function::Count if self.argument.is_multiple_of(2) => call("COUNT(*)".to_owned()),
            Function::Count => call(format!("COUNT({})", any.1)),
            Function::CountDistinct => call(format!("COUNT(DISTINCT {})", any.1)),
            Function::Sum => call(format!("SUM({int})")),
            Function::SumDistinct => call(format!("SUM(DISTINCT {int})")),
            Function::Average if dialect == Dialect::Flink => call(format!("AVG({int})")),
            Function::Average => format!(
                "{} / {}",
                call(format!("SUM({int})")),
                call(format!("COUNT({int})"))
            ),
            Function::Min => return (any.0, call(format!("MIN({})", any.1))),
            Function::Max => return (any.0, call(format!("MAX({})", any.1))),
        };
        (Type::Int, sql)
    }
}
