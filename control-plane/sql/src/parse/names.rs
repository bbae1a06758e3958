//! Names in a query: reserved words need backticks, and a string is no name.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, Query,
    Select, SelectItem, Spanned, TableAlias, TableFactor, Visit, Visitor,
};
use sqlparser::tokenizer::Span;

use super::dialect::named_by_argument;
use super::reserved::is_reserved;
use super::words::place;
use crate::error::SqlError;

/// Functions whose first argument is a unit of time, not a column.
const UNIT_FIRST: &[&str] = &["TIMESTAMPADD", "TIMESTAMPDIFF"];

/// Refuses a name that is a reserved word without backticks, or a string.
pub(super) fn check(name: &Ident) -> Result<(), SqlError> {
    let at = (name.span.start.line > 0).then(|| place(name.span));
    match name.quote_style {
        None => {
            if !is_reserved(&name.value) {
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
