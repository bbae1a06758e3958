//! The SELECT list: columns, their names, `*`; and the keys of ORDER BY, which may name them.

use sqlparser::ast::{self, SelectItem, Spanned as _};
use sqlparser::tokenizer::Span;

use super::expr::ExprBinder;
use super::refuse::{refuse_all, unsupported};
use crate::error::SqlError;
use crate::logical::{Expr, ExprKind, Literal};

/// One column of the SELECT list.
pub(crate) struct Item {
    pub(crate) name: String,
    pub(crate) expr: Expr,
    pub(crate) span: Span,
}

/// A key of ORDER BY: an output column, or an expression that is none.
pub(crate) enum OrderTarget {
    Output(usize),
    Hidden(Expr),
}

/// Binds an item; `*` gives several columns.
pub(crate) fn select_item(
    binder: &ExprBinder<'_>,
    item: &SelectItem,
    items: &mut Vec<Item>,
) -> Result<(), SqlError> {
    let span = item.span();
    match item {
        SelectItem::UnnamedExpr(expr) => {
            let bound = binder.bind(expr)?;
            let name = name_of(expr).unwrap_or_else(|| format!("EXPR${}", items.len()));
            items.push(Item {
                name,
                expr: bound,
                span,
            });
        }
        SelectItem::ExprWithAlias { expr, alias } => {
            items.push(Item {
                name: alias.value.clone(),
                expr: binder.bind(expr)?,
                span,
            });
        }
        SelectItem::Wildcard(options) => {
            refuse_wildcard_options(options, span)?;
            let columns = binder.env.scope.star();
            if columns.is_empty() {
                return Err(SqlError::validate("`*` needs FROM").at_parser(span));
            }
            items.extend(
                columns
                    .into_iter()
                    .map(|(name, expr)| Item { name, expr, span }),
            );
        }
        SelectItem::QualifiedWildcard(kind, options) => {
            refuse_wildcard_options(options, span)?;
            let columns = qualified_wildcard(binder, kind)?;
            items.extend(
                columns
                    .into_iter()
                    .map(|(name, expr)| Item { name, expr, span }),
            );
        }
        SelectItem::ExprWithAliases { .. } => {
            return Err(unsupported("an alias of several columns", span));
        }
    }
    Ok(())
}

fn qualified_wildcard(
    binder: &ExprBinder<'_>,
    kind: &ast::SelectItemQualifiedWildcardKind,
) -> Result<Vec<(String, Expr)>, SqlError> {
    let row = match kind {
        ast::SelectItemQualifiedWildcardKind::ObjectName(name) => {
            let parts: Vec<ast::Ident> = name
                .0
                .iter()
                .filter_map(|part| part.as_ident().cloned())
                .collect();
            if let [table] = parts.as_slice()
                && let Some(columns) = binder.env.scope.qualified_star(&table.value)
            {
                return Ok(columns);
            }
            binder
                .name(&parts)
                .map_err(|error| error.at_parser(name.span()))?
        }
        ast::SelectItemQualifiedWildcardKind::Expr(expr) => binder.bind(expr)?,
    };
    let proto::types::LogicalType::Row(fields) = &row.data_type.logical else {
        return Err(SqlError::validate(format!(
            "`.*` needs a table or a ROW, not {}",
            row.data_type.logical
        ))
        .at_parser(kind.span()));
    };
    let names: Vec<String> = fields.iter().map(|field| field.name.clone()).collect();
    let columns = names
        .into_iter()
        .enumerate()
        .map(|(index, name)| (name, super::access::field_at(row.clone(), index)));
    Ok(columns.collect())
}

fn refuse_wildcard_options(
    options: &ast::WildcardAdditionalOptions,
    span: Span,
) -> Result<(), SqlError> {
    let ast::WildcardAdditionalOptions {
        wildcard_token: _,
        opt_ilike,
        opt_exclude,
        opt_except,
        opt_replace,
        opt_rename,
        opt_alias,
    } = options;
    refuse_all(
        &[
            (opt_ilike.is_some(), "`* ILIKE`"),
            (opt_exclude.is_some(), "`* EXCLUDE`"),
            (opt_except.is_some(), "`* EXCEPT`"),
            (opt_replace.is_some(), "`* REPLACE`"),
            (opt_rename.is_some(), "`* RENAME`"),
            (opt_alias.is_some(), "an alias of `*`"),
        ],
        span,
    )
}

/// The name that a column takes from its expression.
fn name_of(expr: &ast::Expr) -> Option<String> {
    match expr {
        ast::Expr::Identifier(ident) => Some(ident.value.clone()),
        ast::Expr::CompoundIdentifier(idents) => idents.last().map(|ident| ident.value.clone()),
        ast::Expr::CompoundFieldAccess { access_chain, .. } => match access_chain.last()? {
            ast::AccessExpr::Dot(ast::Expr::Identifier(ident)) => Some(ident.value.clone()),
            _ => None,
        },
        ast::Expr::Nested(inner) => name_of(inner),
        _ => None,
    }
}

/// Binds a key of ORDER BY: a column's name, its number, or an expression.
pub(crate) fn order_target(
    binder: &ExprBinder<'_>,
    key: &ast::OrderByExpr,
    items: &[Item],
) -> Result<OrderTarget, SqlError> {
    if let ast::Expr::Identifier(name) = &key.expr {
        let mut named = items
            .iter()
            .enumerate()
            .filter(|(_, item)| item.name == name.value);
        if let (Some((index, _)), None) = (named.next(), named.next()) {
            return Ok(OrderTarget::Output(index));
        }
    }
    let bound = binder.bind(&key.expr)?;
    if let ExprKind::Literal(Literal::Integer(ordinal)) = bound.kind {
        let index = usize::try_from(ordinal)
            .ok()
            .and_then(|ordinal| ordinal.checked_sub(1));
        return match index.filter(|index| *index < items.len()) {
            Some(index) => Ok(OrderTarget::Output(index)),
            None => Err(SqlError::validate(format!(
                "ORDER BY {ordinal}: there are {} columns",
                items.len()
            ))
            .at_parser(key.expr.span())),
        };
    }
    Ok(match items.iter().position(|item| item.expr == bound) {
        Some(index) => OrderTarget::Output(index),
        None => OrderTarget::Hidden(bound),
    })
}
