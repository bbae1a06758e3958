//! Names and what hangs on them: columns, fields of rows, elements of arrays and maps.

use proto::plan::ScalarFunction as F;
use proto::types::{DataType, LogicalType};
use sqlparser::ast::{self, AccessExpr, Spanned as _, Subscript};

use super::coerce::coerce;
use super::expr::ExprBinder;
use super::refuse::unsupported;
use super::types::implicit_cast_allowed;
use crate::error::SqlError;
use crate::logical::{Expr, ExprKind};
use crate::suggest::nearest;

impl ExprBinder<'_> {
    /// `column`, `table.column`, and fields after it.
    pub(crate) fn name(&self, parts: &[ast::Ident]) -> Result<Expr, SqlError> {
        let parts = without_catalog(parts);
        let resolved = self.env.resolve(parts)?;
        parts[resolved.used..].iter().try_fold(resolved.expr, field)
    }

    /// `root.field[subscript]…`; the root may start with a qualified name.
    pub(crate) fn access(&self, root: &ast::Expr, chain: &[AccessExpr]) -> Result<Expr, SqlError> {
        let mut rest = chain;
        let mut expr = match root {
            ast::Expr::Identifier(ident) => {
                let mut parts = vec![ident.clone()];
                while let [AccessExpr::Dot(ast::Expr::Identifier(next)), tail @ ..] = rest {
                    parts.push(next.clone());
                    rest = tail;
                }
                self.name(&parts)?
            }
            ast::Expr::CompoundIdentifier(idents) => self.name(idents)?,
            other => self.bind(other)?,
        };
        for access in rest {
            expr = match access {
                AccessExpr::Dot(ast::Expr::Identifier(name)) => field(expr, name)?,
                AccessExpr::Dot(other) => {
                    return Err(unsupported("this form of field access", other.span()));
                }
                AccessExpr::Subscript(Subscript::Index { index }) => {
                    let index_expr = self.bind(index)?;
                    element(expr, index_expr).map_err(|e| e.at_parser(index.span()))?
                }
                AccessExpr::Subscript(slice @ Subscript::Slice { .. }) => {
                    return Err(unsupported("a slice `[from:to]`", slice.span())
                        .hint("use ARRAY_SLICE(array, from, to)"));
                }
            };
        }
        Ok(expr)
    }
}

/// Field of a row by name.
pub(crate) fn field(input: Expr, name: &ast::Ident) -> Result<Expr, SqlError> {
    let LogicalType::Row(fields) = &input.data_type.logical else {
        return Err(SqlError::validate(format!(
            "`{}` is no field: {} is not a ROW",
            name.value, input.data_type.logical
        ))
        .at_parser(name.span));
    };
    let Some(index) = fields.iter().position(|field| field.name == name.value) else {
        let error = SqlError::validate(format!("the row has no field `{}`", name.value))
            .at_parser(name.span);
        return Err(
            match nearest(&name.value, fields.iter().map(|f| f.name.as_str())) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error,
            },
        );
    };
    Ok(field_at(input, index))
}

/// Field of a row by position, which exists.
pub(crate) fn field_at(input: Expr, index: usize) -> Expr {
    let data_type = match &input.data_type.logical {
        LogicalType::Row(fields) => {
            let own = &fields[index].data_type;
            own.clone()
                .with_nullable(own.nullable || input.data_type.nullable)
        }
        other => other.clone().nullable(),
    };
    Expr {
        kind: ExprKind::Field {
            input: Box::new(input),
            index,
        },
        data_type,
    }
}

fn element(input: Expr, index: Expr) -> Result<Expr, SqlError> {
    let (target, value): (LogicalType, DataType) = match &input.data_type.logical {
        LogicalType::Array(element) => (LogicalType::Int, (**element).clone()),
        LogicalType::Map(key, value) => (key.logical.clone(), (**value).clone()),
        other => {
            return Err(SqlError::validate(format!("{other} has no elements"))
                .hint("subscripts are for ARRAY and MAP"));
        }
    };
    if !implicit_cast_allowed(&index.data_type.logical, &target) {
        return Err(SqlError::validate(format!(
            "a subscript here must be {target}, not {}",
            index.data_type.logical
        )));
    }
    let index = coerce(index, &target);
    Ok(Expr::call(
        F::ElementAt,
        vec![input, index],
        value.with_nullable(true),
    ))
}

/// Drops `default_catalog.default_database.` from a column's full name.
fn without_catalog(parts: &[ast::Ident]) -> &[ast::Ident] {
    use crate::catalog::{DEFAULT_CATALOG, DEFAULT_DATABASE};
    match parts {
        [c, d, rest @ ..]
            if c.value == DEFAULT_CATALOG && d.value == DEFAULT_DATABASE && rest.len() > 1 =>
        {
            rest
        }
        [d, rest @ ..] if d.value == DEFAULT_DATABASE && rest.len() > 1 => rest,
        _ => parts,
    }
}
