//! UNNEST: rows out of an ARRAY, MAP or MULTISET of the row before it.

use proto::types::{DataType, LogicalType};
use sqlparser::ast::{self, JoinConstraint, Spanned as _, TableFactor};

use super::Binder;
use super::expr::ExprBinder;
use super::from::Source;
use super::refuse::{refuse_all, unsupported};
use super::scope::{Env, Scope};
use crate::error::SqlError;
use crate::logical::{ExprKind, JoinKind, Literal, LogicalField, LogicalPlan, Schema};

impl Binder<'_> {
    /// `left JOIN UNNEST(…)`.
    pub(crate) fn join_unnest(
        &self,
        left: Source,
        relation: &TableFactor,
        kind: JoinKind,
        constraint: Option<&JoinConstraint>,
        outer: Option<&Env<'_>>,
    ) -> Result<Source, SqlError> {
        let is_left = match kind {
            JoinKind::Inner => false,
            JoinKind::Left => true,
            _ => return Err(unsupported("RIGHT or FULL JOIN UNNEST", relation.span())),
        };
        let source = self.unnest(left, relation, is_left, outer)?;
        let condition = match constraint {
            None => return Ok(source),
            Some(JoinConstraint::On(condition)) => condition,
            Some(_) => {
                return Err(SqlError::validate("JOIN UNNEST takes ON").at_parser(relation.span()));
            }
        };
        let env = Env {
            scope: &source.scope,
            outer,
        };
        let predicate = ExprBinder::new(self, &env, "ON").bind_condition(condition)?;
        if matches!(predicate.kind, ExprKind::Literal(Literal::Boolean(true))) {
            return Ok(source);
        }
        if is_left {
            return Err(SqlError::validate("LEFT JOIN UNNEST takes ON TRUE only")
                .at_parser(condition.span()));
        }
        let plan = LogicalPlan::Filter {
            input: Box::new(source.plan),
            predicate,
        };
        Ok(Source {
            plan,
            scope: source.scope,
        })
    }

    /// The rows of `left`, each with the elements of a collection.
    pub(crate) fn unnest(
        &self,
        left: Source,
        relation: &TableFactor,
        is_left: bool,
        outer: Option<&Env<'_>>,
    ) -> Result<Source, SqlError> {
        let TableFactor::UNNEST {
            alias,
            array_exprs,
            with_offset,
            with_offset_alias,
            with_ordinality,
        } = relation
        else {
            return Err(unsupported("this relation", relation.span()));
        };
        refuse_all(
            &[(*with_offset || with_offset_alias.is_some(), "WITH OFFSET")],
            relation.span(),
        )?;
        let [collection] = array_exprs.as_slice() else {
            return Err(unsupported(
                "UNNEST of several collections",
                relation.span(),
            ));
        };
        let env = Env {
            scope: &left.scope,
            outer,
        };
        let bound = ExprBinder::new(self, &env, "UNNEST").bind(collection)?;
        let mut columns = elements(&bound.data_type.logical).ok_or_else(|| {
            SqlError::validate(format!("cannot unnest {}", bound.data_type.logical))
                .at_parser(collection.span())
                .hint("UNNEST takes an ARRAY, a MAP or a MULTISET")
        })?;
        if *with_ordinality {
            columns.push(("ORDINALITY".to_owned(), LogicalType::Int.not_null()));
        }
        let names = alias_names(alias.as_ref(), &mut columns)?;
        let fields: Schema = left
            .scope
            .fields
            .iter()
            .cloned()
            .chain(columns.into_iter().map(|(name, data_type)| {
                let nullable = data_type.nullable || is_left;
                LogicalField {
                    qualifier: names.clone(),
                    name,
                    data_type: data_type.with_nullable(nullable),
                    time: None,
                }
            }))
            .collect();
        let plan = LogicalPlan::Unnest {
            input: Box::new(left.plan),
            collection: bound,
            left: is_left,
            with_ordinality: *with_ordinality,
            schema: fields.clone(),
        };
        Ok(Source {
            plan,
            scope: Scope {
                fields,
                merged: left.scope.merged,
            },
        })
    }
}

/// The columns that a collection gives: fields of rows, key and value of a map, or the element.
fn elements(collection: &LogicalType) -> Option<Vec<(String, DataType)>> {
    Some(match collection {
        LogicalType::Array(element) | LogicalType::Multiset(element) => match &element.logical {
            LogicalType::Row(fields) => fields
                .iter()
                .map(|field| {
                    let nullable = field.data_type.nullable || element.nullable;
                    (
                        field.name.clone(),
                        field.data_type.clone().with_nullable(nullable),
                    )
                })
                .collect(),
            _ => vec![("EXPR$0".to_owned(), (**element).clone())],
        },
        LogicalType::Map(key, value) => {
            vec![
                ("KEY".to_owned(), (**key).clone()),
                ("VALUE".to_owned(), (**value).clone()),
            ]
        }
        _ => return None,
    })
}

fn alias_names(
    alias: Option<&ast::TableAlias>,
    columns: &mut [(String, DataType)],
) -> Result<Option<String>, SqlError> {
    let Some(ast::TableAlias {
        explicit: _,
        name,
        columns: names,
        at,
    }) = alias
    else {
        return Ok(None);
    };
    refuse_all(&[(at.is_some(), "AT in an alias")], name.span)?;
    if names.is_empty() {
        // One column without a name of its own takes the alias.
        if let [(column, _)] = columns {
            column.clone_from(&name.value);
        }
        return Ok(Some(name.value.clone()));
    }
    if names.len() != columns.len() {
        return Err(SqlError::validate(format!(
            "`{}` names {} columns, UNNEST gives {}",
            name.value,
            names.len(),
            columns.len()
        ))
        .at_parser(name.span));
    }
    for ((column, _), name) in columns.iter_mut().zip(names) {
        refuse_all(
            &[(name.data_type.is_some(), "a type in an alias")],
            name.name.span,
        )?;
        column.clone_from(&name.name.value);
    }
    Ok(Some(name.value.clone()))
}
