//! Names that an expression may use: the columns of its query's FROM, then those of the queries
//! around it. Knows columns and qualifiers, not expressions' syntax.

use sqlparser::ast;

use crate::error::SqlError;
use crate::logical::{Expr, ExprKind, LogicalField, Schema};
use crate::suggest::nearest;

/// Columns of one FROM clause.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    /// The plan's columns.
    pub(crate) fields: Schema,
    /// Columns that USING or NATURAL made one of two.
    pub(crate) merged: Vec<Merged>,
}

/// A column of USING.
#[derive(Clone, Debug)]
pub(crate) struct Merged {
    /// Name without qualifier.
    pub(crate) name: String,
    /// Its value.
    pub(crate) expr: Expr,
    /// Positions that the unqualified name and `*` no longer mean.
    pub(crate) hides: Vec<usize>,
}

/// A scope inside those of the enclosing queries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Env<'a> {
    pub(crate) scope: &'a Scope,
    pub(crate) outer: Option<&'a Env<'a>>,
}

/// A name found, and how many of its parts named the column.
pub(crate) struct Resolved {
    pub(crate) expr: Expr,
    pub(crate) used: usize,
}

impl Scope {
    /// Columns without USING.
    pub(crate) fn new(fields: Schema) -> Scope {
        Scope {
            fields,
            merged: Vec::new(),
        }
    }

    /// The columns of `*`, with their names.
    pub(crate) fn star(&self) -> Vec<(String, Expr)> {
        let hidden = |i: usize| self.merged.iter().any(|m| m.hides.contains(&i));
        let merged = self.merged.iter().map(|m| (m.name.clone(), m.expr.clone()));
        let plain = self.fields.iter().enumerate().filter(|(i, _)| !hidden(*i));
        merged
            .chain(plain.map(|(i, field)| (field.name.clone(), column(i, field))))
            .collect()
    }

    /// The columns of `qualifier.*`; `None` if there is no such qualifier.
    pub(crate) fn qualified_star(&self, qualifier: &str) -> Option<Vec<(String, Expr)>> {
        let found: Vec<(String, Expr)> = self
            .fields
            .iter()
            .enumerate()
            .filter(|(_, field)| field.qualifier.as_deref() == Some(qualifier))
            .map(|(i, field)| (field.name.clone(), column(i, field)))
            .collect();
        (!found.is_empty()).then_some(found)
    }

    fn unqualified(&self, name: &ast::Ident) -> Result<Option<Expr>, SqlError> {
        if let Some(merged) = self.merged.iter().find(|m| m.name == name.value) {
            return Ok(Some(merged.expr.clone()));
        }
        self.only(name, |field| field.name == name.value)
    }

    fn qualified(&self, qualifier: &str, name: &ast::Ident) -> Result<Option<Expr>, SqlError> {
        self.only(name, |field| {
            field.name == name.value && field.qualifier.as_deref() == Some(qualifier)
        })
    }

    fn has_qualifier(&self, qualifier: &str) -> bool {
        self.fields
            .iter()
            .any(|field| field.qualifier.as_deref() == Some(qualifier))
    }

    fn only(
        &self,
        name: &ast::Ident,
        is: impl Fn(&LogicalField) -> bool,
    ) -> Result<Option<Expr>, SqlError> {
        let mut found = self
            .fields
            .iter()
            .enumerate()
            .filter(|(_, field)| is(field));
        match (found.next(), found.next()) {
            (None, _) => Ok(None),
            (Some((i, field)), None) => Ok(Some(column(i, field))),
            (Some((_, first)), Some((_, second))) => {
                let qualifiers: Vec<String> = [first, second]
                    .iter()
                    .filter_map(|field| field.qualifier.clone())
                    .map(|qualifier| format!("`{qualifier}.{}`", name.value))
                    .collect();
                let error = SqlError::validate(format!("column `{}` is ambiguous", name.value))
                    .at_parser(name.span);
                Err(if qualifiers.len() == 2 && qualifiers[0] != qualifiers[1] {
                    error.hint(format!("write {}", qualifiers.join(" or ")))
                } else {
                    error.hint("give the columns different names")
                })
            }
        }
    }
}

impl Env<'_> {
    /// Finds the column that a name starts with: `column`, `qualifier.column`, then fields.
    pub(crate) fn resolve(&self, parts: &[ast::Ident]) -> Result<Resolved, SqlError> {
        let (Some(first), second) = (parts.first(), parts.get(1)) else {
            return Err(SqlError::validate("empty name"));
        };
        let mut level = Some(self);
        let mut depth = 0;
        while let Some(env) = level {
            if let Some(name) = second
                && let Some(expr) = env.scope.qualified(&first.value, name)?
            {
                return Ok(Resolved {
                    expr: at_depth(expr, depth),
                    used: 2,
                });
            }
            if let Some(expr) = env.scope.unqualified(first)? {
                return Ok(Resolved {
                    expr: at_depth(expr, depth),
                    used: 1,
                });
            }
            level = env.outer;
            depth += 1;
        }
        Err(self.unknown(parts))
    }

    fn unknown(&self, parts: &[ast::Ident]) -> SqlError {
        let mut levels = Vec::new();
        let mut level = Some(self);
        while let Some(env) = level {
            levels.push(env.scope);
            level = env.outer;
        }
        let fields = || levels.iter().flat_map(|scope| scope.fields.iter());
        let (first, second) = (&parts[0], parts.get(1));
        let (name, candidates): (&ast::Ident, Vec<&str>) = match second {
            Some(second) if levels.iter().any(|scope| scope.has_qualifier(&first.value)) => {
                let of_table = |f: &&LogicalField| f.qualifier.as_ref() == Some(&first.value);
                (
                    second,
                    fields().filter(of_table).map(|f| f.name.as_str()).collect(),
                )
            }
            Some(_) => {
                let near = fields().filter_map(|f| f.qualifier.as_deref());
                let error = SqlError::validate(format!(
                    "`{}` is neither a table of this query nor a column",
                    first.value
                ))
                .at_parser(first.span);
                return match nearest(&first.value, near) {
                    Some(near) => error.hint(format!("did you mean `{near}`?")),
                    None => error,
                };
            }
            None => (first, fields().map(|f| f.name.as_str()).collect()),
        };
        let error = SqlError::validate(format!("column `{}` does not exist", name.value))
            .at_parser(name.span);
        match nearest(&name.value, candidates.iter().copied()) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None if candidates.is_empty() => error.hint("no columns can be used here"),
            None => error.hint(format!("there are {}", list(&candidates))),
        }
    }
}

/// A reference to a field of a schema.
pub(crate) fn column(index: usize, field: &LogicalField) -> Expr {
    Expr::column(index, field.data_type.clone())
}

fn list(names: &[&str]) -> String {
    const SHOWN: usize = 12;
    let mut text = names
        .iter()
        .take(SHOWN)
        .map(|n| format!("`{n}`"))
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > SHOWN {
        text.push_str(", …");
    }
    text
}

fn at_depth(expr: Expr, depth: usize) -> Expr {
    if depth == 0 {
        return expr;
    }
    let kind = match expr.kind {
        ExprKind::Column(index) => ExprKind::OuterColumn { depth, index },
        ExprKind::Call { function, args } => ExprKind::Call {
            function,
            args: args.into_iter().map(|arg| at_depth(arg, depth)).collect(),
        },
        ExprKind::Cast { input, r#try } => ExprKind::Cast {
            input: Box::new(at_depth(*input, depth)),
            r#try,
        },
        other => other,
    };
    Expr {
        kind,
        data_type: expr.data_type,
    }
}
