//! ORDER BY, LIMIT, OFFSET, FETCH.

use sqlparser::ast::{self, Spanned as _, Value};

use super::expr::ExprBinder;
use super::refuse::{refuse_all, unsupported};
use crate::error::SqlError;
use crate::logical::{Expr, SortKey};

/// What stands after the body of a query.
pub(crate) struct Tail<'a> {
    pub(crate) order_by: &'a [ast::OrderByExpr],
    pub(crate) offset: u64,
    pub(crate) limit: Option<u64>,
}

impl Tail<'_> {
    /// No ORDER BY, no LIMIT.
    pub(crate) fn is_empty(&self) -> bool {
        self.order_by.is_empty() && self.offset == 0 && self.limit.is_none()
    }
}

/// Reads the tail of a query.
pub(crate) fn tail(query: &ast::Query) -> Result<Tail<'_>, SqlError> {
    let order_by: &[ast::OrderByExpr] = match &query.order_by {
        None => &[],
        Some(order_by) => {
            if order_by.interpolate.is_some() {
                return Err(unsupported("INTERPOLATE", order_by.span()));
            }
            match &order_by.kind {
                ast::OrderByKind::Expressions(exprs) => exprs,
                ast::OrderByKind::All(_) => {
                    return Err(unsupported("ORDER BY ALL", order_by.span()));
                }
            }
        }
    };
    let (mut limit, mut offset) = (None, 0);
    match &query.limit_clause {
        None => {}
        Some(ast::LimitClause::LimitOffset {
            limit: amount,
            offset: skip,
            limit_by,
        }) => {
            if let Some(by) = limit_by.first() {
                return Err(unsupported("LIMIT … BY", by.span()));
            }
            limit = amount.as_ref().map(row_count).transpose()?;
            offset = skip.as_ref().map_or(Ok(0), |skip| row_count(&skip.value))?;
        }
        Some(ast::LimitClause::OffsetCommaLimit {
            offset: skip,
            limit: amount,
        }) => {
            limit = Some(row_count(amount)?);
            offset = row_count(skip)?;
        }
    }
    if let Some(fetch) = &query.fetch {
        let ast::Fetch {
            with_ties,
            percent,
            quantity,
        } = fetch;
        refuse_all(
            &[
                (*with_ties, "FETCH … WITH TIES"),
                (*percent, "FETCH … PERCENT"),
            ],
            fetch.span(),
        )?;
        if limit.is_some() {
            return Err(
                SqlError::validate("LIMIT and FETCH cannot stand together").at_parser(fetch.span())
            );
        }
        limit = Some(quantity.as_ref().map_or(Ok(1), row_count)?);
    }
    Ok(Tail {
        order_by,
        offset,
        limit,
    })
}

fn row_count(expr: &ast::Expr) -> Result<u64, SqlError> {
    let number = match expr {
        ast::Expr::Value(value) => match &value.value {
            Value::Number(text, false) => text.parse().ok(),
            _ => None,
        },
        _ => None,
    };
    number.ok_or_else(|| {
        SqlError::validate("LIMIT and OFFSET take a constant number of rows").at_parser(expr.span())
    })
}

/// Binds the keys of ORDER BY.
pub(crate) fn sort_keys(
    binder: &ExprBinder<'_>,
    exprs: &[ast::OrderByExpr],
) -> Result<Vec<SortKey>, SqlError> {
    exprs
        .iter()
        .map(|key| {
            let bound = binder.bind(&key.expr)?;
            sort_key(key, bound)
        })
        .collect()
}

/// A key whose expression is bound. NULL sorts lowest unless the query says otherwise.
pub(crate) fn sort_key(key: &ast::OrderByExpr, expr: Expr) -> Result<SortKey, SqlError> {
    use proto::types::LogicalType::{Array, Map, Multiset, Row};
    if key.with_fill.is_some() {
        return Err(unsupported("WITH FILL", key.expr.span()));
    }
    if matches!(
        expr.data_type.logical,
        Array(_) | Map(..) | Multiset(_) | Row(_)
    ) {
        return Err(
            SqlError::validate(format!("{} has no order", expr.data_type.logical))
                .at_parser(key.expr.span()),
        );
    }
    let descending = key.options.asc == Some(false);
    let nulls_last = key.options.nulls_first.map_or(descending, |first| !first);
    Ok(SortKey {
        expr,
        descending,
        nulls_last,
    })
}
