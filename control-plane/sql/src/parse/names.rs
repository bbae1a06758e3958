//! Names in a query: reserved words need backticks, and a string is no name.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, Query,
    Select, SelectItem, Spanned, TableAlias, TableFactor, Visit, Visitor,
};
use sqlparser::tokenizer::Span;

use super::dialect::named_by_argument;
use super::words::place;
use crate::error::SqlError;

/// Words that name something only in backticks. Sorted.
const RESERVED: &[&str] = &[
    "ABS",
    "ALL",
    "ALLOCATE",
    "ALTER",
    "AND",
    "ANY",
    "ARE",
    "ARRAY",
    "AS",
    "ASENSITIVE",
    "ASYMMETRIC",
    "AT",
    "ATOMIC",
    "AUTHORIZATION",
    "AVG",
    "BEGIN",
    "BETWEEN",
    "BIGINT",
    "BINARY",
    "BIT",
    "BLOB",
    "BOOLEAN",
    "BOTH",
    "BY",
    "BYTES",
    "CALL",
    "CALLED",
    "CARDINALITY",
    "CASCADED",
    "CASE",
    "CAST",
    "CEIL",
    "CEILING",
    "CHAR",
    "CHARACTER",
    "CHARACTER_LENGTH",
    "CHAR_LENGTH",
    "CHECK",
    "CLASSIFIER",
    "CLOB",
    "CLOSE",
    "COALESCE",
    "COLLATE",
    "COLLECT",
    "COLUMN",
    "COMMIT",
    "CONDITION",
    "CONNECT",
    "CONSTRAINT",
    "CONTAINS",
    "CONVERT",
    "CORR",
    "CORRESPONDING",
    "COUNT",
    "COVAR_POP",
    "COVAR_SAMP",
    "CREATE",
    "CROSS",
    "CUBE",
    "CUME_DIST",
    "CURRENT",
    "CURRENT_CATALOG",
    "CURRENT_DATE",
    "CURRENT_PATH",
    "CURRENT_ROLE",
    "CURRENT_ROW",
    "CURRENT_SCHEMA",
    "CURRENT_TIME",
    "CURRENT_TIMESTAMP",
    "CURRENT_USER",
    "CURSOR",
    "CYCLE",
    "DATE",
    "DAY",
    "DEALLOCATE",
    "DEC",
    "DECIMAL",
    "DECLARE",
    "DEFAULT",
    "DEFINE",
    "DELETE",
    "DENSE_RANK",
    "DEREF",
    "DESCRIBE",
    "DETERMINISTIC",
    "DISCONNECT",
    "DISTINCT",
    "DOUBLE",
    "DROP",
    "DYNAMIC",
    "EACH",
    "ELEMENT",
    "ELSE",
    "EMPTY",
    "END",
    "EQUALS",
    "ESCAPE",
    "EVERY",
    "EXCEPT",
    "EXEC",
    "EXECUTE",
    "EXISTS",
    "EXP",
    "EXPLAIN",
    "EXTEND",
    "EXTERNAL",
    "EXTRACT",
    "FALSE",
    "FETCH",
    "FILTER",
    "FIRST_VALUE",
    "FLOAT",
    "FLOOR",
    "FOR",
    "FOREIGN",
    "FREE",
    "FROM",
    "FULL",
    "FUNCTION",
    "FUSION",
    "GET",
    "GLOBAL",
    "GRANT",
    "GROUP",
    "GROUPING",
    "GROUPS",
    "HAVING",
    "HOLD",
    "HOUR",
    "IDENTITY",
    "IMPORT",
    "IN",
    "INDICATOR",
    "INITIAL",
    "INNER",
    "INOUT",
    "INSENSITIVE",
    "INSERT",
    "INT",
    "INTEGER",
    "INTERSECT",
    "INTERSECTION",
    "INTERVAL",
    "INTO",
    "IS",
    "JOIN",
    "JSON_ARRAY",
    "JSON_ARRAYAGG",
    "JSON_EXISTS",
    "JSON_OBJECT",
    "JSON_OBJECTAGG",
    "JSON_QUERY",
    "JSON_VALUE",
    "LAG",
    "LANGUAGE",
    "LARGE",
    "LAST_VALUE",
    "LATERAL",
    "LEAD",
    "LEADING",
    "LEFT",
    "LIKE",
    "LIMIT",
    "LN",
    "LOCAL",
    "LOCALTIME",
    "LOCALTIMESTAMP",
    "LOWER",
    "MATCH",
    "MATCHES",
    "MATCH_NUMBER",
    "MATCH_RECOGNIZE",
    "MAX",
    "MEASURES",
    "MEMBER",
    "MERGE",
    "METHOD",
    "MIN",
    "MINUS",
    "MINUTE",
    "MOD",
    "MODIFIES",
    "MONTH",
    "MULTISET",
    "NATIONAL",
    "NATURAL",
    "NCHAR",
    "NCLOB",
    "NEW",
    "NEXT",
    "NO",
    "NONE",
    "NORMALIZE",
    "NOT",
    "NTH_VALUE",
    "NTILE",
    "NULL",
    "NULLIF",
    "NUMERIC",
    "OCTET_LENGTH",
    "OF",
    "OFFSET",
    "OLD",
    "OMIT",
    "ON",
    "ONE",
    "ONLY",
    "OPEN",
    "OR",
    "ORDER",
    "OUT",
    "OUTER",
    "OVER",
    "OVERLAPS",
    "OVERLAY",
    "PARAMETER",
    "PARTITION",
    "PATTERN",
    "PER",
    "PERCENT",
    "PERCENTILE_CONT",
    "PERCENTILE_DISC",
    "PERCENT_RANK",
    "PERIOD",
    "PERMUTE",
    "PORTION",
    "POSITION",
    "POWER",
    "PRECEDES",
    "PRECISION",
    "PREPARE",
    "PREV",
    "PRIMARY",
    "PROCEDURE",
    "QUALIFY",
    "RANGE",
    "RANK",
    "READS",
    "REAL",
    "RECURSIVE",
    "REF",
    "REFERENCES",
    "REFERENCING",
    "REGR_COUNT",
    "RELEASE",
    "RESET",
    "RESULT",
    "RETURN",
    "RETURNS",
    "REVOKE",
    "RIGHT",
    "ROLLBACK",
    "ROLLUP",
    "ROW",
    "ROWS",
    "ROW_NUMBER",
    "RUNNING",
    "SAVEPOINT",
    "SCOPE",
    "SCROLL",
    "SEARCH",
    "SECOND",
    "SEEK",
    "SELECT",
    "SENSITIVE",
    "SESSION_USER",
    "SET",
    "SHOW",
    "SIMILAR",
    "SKIP",
    "SMALLINT",
    "SOME",
    "SPECIFIC",
    "SQL",
    "SQLEXCEPTION",
    "SQLSTATE",
    "SQLWARNING",
    "SQRT",
    "START",
    "STATIC",
    "STDDEV_POP",
    "STDDEV_SAMP",
    "STREAM",
    "STRING",
    "SUBMULTISET",
    "SUBSET",
    "SUBSTRING",
    "SUCCEEDS",
    "SUM",
    "SYMMETRIC",
    "SYSTEM",
    "SYSTEM_TIME",
    "SYSTEM_USER",
    "TABLE",
    "TABLESAMPLE",
    "THEN",
    "TIME",
    "TIMESTAMP",
    "TIMEZONE_HOUR",
    "TIMEZONE_MINUTE",
    "TINYINT",
    "TO",
    "TRAILING",
    "TRANSLATE",
    "TRANSLATION",
    "TREAT",
    "TRIGGER",
    "TRIM",
    "TRUE",
    "TRUNCATE",
    "TRY_CAST",
    "UESCAPE",
    "UNION",
    "UNIQUE",
    "UNKNOWN",
    "UNNEST",
    "UPDATE",
    "UPPER",
    "UPSERT",
    "USER",
    "USING",
    "VALUE",
    "VALUES",
    "VALUE_OF",
    "VARBINARY",
    "VARCHAR",
    "VARYING",
    "VAR_POP",
    "VAR_SAMP",
    "VERSIONING",
    "WHEN",
    "WHENEVER",
    "WHERE",
    "WIDTH_BUCKET",
    "WINDOW",
    "WITH",
    "WITHIN",
    "WITHOUT",
    "YEAR",
];

/// Functions whose first argument is a unit of time, not a column.
const UNIT_FIRST: &[&str] = &["TIMESTAMPADD", "TIMESTAMPDIFF"];

/// Refuses a name that is a reserved word without backticks, or a string.
pub(super) fn check(name: &Ident) -> Result<(), SqlError> {
    let at = (name.span.start.line > 0).then(|| place(name.span));
    match name.quote_style {
        None => {
            let upper = name.value.to_ascii_uppercase();
            if RESERVED.binary_search(&upper.as_str()).is_err() {
                return Ok(());
            }
            Err(
                SqlError::parse(format!("`{}` is a reserved word", name.value))
                    .at(at)
                    .hint(format!("as a name it needs backticks: `{}`", name.value)),
            )
        }
        Some('`') => Ok(()),
        Some(_) => Err(
            SqlError::parse(format!("the string '{}' is not a name", name.value))
                .at(at)
                .hint(format!("write names as `{}`", name.value)),
        ),
    }
}

/// Checks every name of a table, column or alias in the node.
pub(super) fn check_all(node: &impl Visit) -> Result<(), SqlError> {
    match node.visit(&mut Names::default()) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

/// Where relations are named in the node: the ends of their names.
pub(super) fn relation_ends(node: &impl Visit) -> Vec<(u64, u64)> {
    let mut relations = Relations(Vec::new());
    let _: ControlFlow<()> = node.visit(&mut relations);
    relations.0
}

struct Relations(Vec<(u64, u64)>);

impl Visitor for Relations {
    type Break = ();

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        let end = relation.span().end;
        self.0.push((end.line, end.column));
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match named_by_argument(expr) {
            Some(table) => self.pre_visit_relation(&table),
            None => ControlFlow::Continue(()),
        }
    }
}

#[derive(Default)]
struct Names {
    /// Units of time that look like columns.
    units: Vec<Span>,
}

type Flow = ControlFlow<SqlError>;

fn flow(result: Result<(), SqlError>) -> Flow {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(error),
    }
}

fn alias(alias: Option<&TableAlias>) -> Flow {
    let Some(alias) = alias else {
        return ControlFlow::Continue(());
    };
    let columns = alias.columns.iter().map(|column| &column.name);
    flow(
        std::iter::once(&alias.name)
            .chain(columns)
            .try_for_each(check),
    )
}

impl Visitor for Names {
    type Break = SqlError;

    fn pre_visit_query(&mut self, query: &Query) -> Flow {
        let ctes = query.with.iter().flat_map(|with| &with.cte_tables);
        ctes.map(|cte| alias(Some(&cte.alias)))
            .find(ControlFlow::is_break)
            .unwrap_or(ControlFlow::Continue(()))
    }

    fn pre_visit_select(&mut self, select: &Select) -> Flow {
        flow(select.projection.iter().try_for_each(|item| match item {
            SelectItem::ExprWithAlias { expr, alias } => {
                check(alias).map_err(|error| error.at_parser(expr.span()))
            }
            _ => Ok(()),
        }))
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> Flow {
        flow(
            relation
                .0
                .iter()
                .filter_map(|part| part.as_ident())
                .try_for_each(check),
        )
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> Flow {
        match factor {
            TableFactor::Table { alias: name, .. }
            | TableFactor::Derived { alias: name, .. }
            | TableFactor::TableFunction { alias: name, .. }
            | TableFactor::Function { alias: name, .. }
            | TableFactor::UNNEST { alias: name, .. }
            | TableFactor::NestedJoin { alias: name, .. }
            | TableFactor::MatchRecognize { alias: name, .. } => alias(name.as_ref()),
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> Flow {
        match expr {
            Expr::Function(function) => {
                self.units.extend(unit_argument(function));
                ControlFlow::Continue(())
            }
            Expr::Identifier(name) if self.units.contains(&name.span) => ControlFlow::Continue(()),
            Expr::Identifier(name) => flow(check(name)),
            Expr::CompoundIdentifier(parts) => flow(parts.iter().try_for_each(check)),
            _ => ControlFlow::Continue(()),
        }
    }
}

fn unit_argument(function: &Function) -> Option<Span> {
    let name = function.name.to_string().to_ascii_uppercase();
    let FunctionArguments::List(list) = &function.args else {
        return None;
    };
    match list.args.first() {
        Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Identifier(unit))))
            if UNIT_FIRST.contains(&name.as_str()) =>
        {
            Some(unit.span)
        }
        _ => None,
    }
}
