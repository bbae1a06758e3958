//! Joins: kinds, ON, USING, NATURAL.

use proto::plan::ScalarFunction as F;
use sqlparser::ast::{self, JoinConstraint, JoinOperator, Spanned as _, TableFactor};
use sqlparser::tokenizer::Span;

use super::Binder;
use super::expr::ExprBinder;
use super::from::Source;
use super::operator::boolean_of;
use super::refuse::{refuse_all, unsupported};
use super::scope::{Env, Merged, Scope, column};
use super::types::least_restrictive;
use crate::error::SqlError;
use crate::logical::{Expr, JoinKind, LogicalField, LogicalPlan, Schema};

impl Binder<'_> {
    /// `left JOIN …`.
    pub(crate) fn join(
        &self,
        left: Source,
        join: &ast::Join,
        outer: Option<&Env<'_>>,
    ) -> Result<Source, SqlError> {
        let ast::Join {
            relation,
            global,
            join_operator,
        } = join;
        let span = relation.span();
        refuse_all(&[(*global, "GLOBAL JOIN")], span)?;
        let (kind, constraint) = kind_of(join_operator, span)?;
        if let TableFactor::UNNEST { .. } = relation {
            return self.join_unnest(left, relation, kind, constraint, outer);
        }
        if let TableFactor::Table {
            version: Some(version),
            ..
        } = relation
        {
            return self.temporal_join(left, relation, version, kind, constraint, outer);
        }
        let right = self.factor(relation, Some(&left), outer)?;
        match constraint {
            None => self.cross(left, right),
            Some(JoinConstraint::On(condition)) => {
                let scope = combined(&left.scope, &right.scope, kind);
                let env = Env {
                    scope: &scope,
                    outer,
                };
                let condition = ExprBinder::new(self, &env, "ON").bind_condition(condition)?;
                Ok(self.joined(left, right, kind, Some(condition), scope))
            }
            Some(JoinConstraint::Using(names)) => {
                let names = names.iter().map(simple).collect::<Result<Vec<_>, _>>()?;
                self.join_using(left, right, kind, &names)
            }
            Some(JoinConstraint::Natural) => {
                let names: Vec<ast::Ident> = left
                    .scope
                    .star()
                    .into_iter()
                    .filter(|(name, _)| right.scope.fields.iter().any(|f| f.name == *name))
                    .map(|(name, _)| ast::Ident::with_span(span, name))
                    .collect();
                if names.is_empty() {
                    return self.cross(left, right);
                }
                self.join_using(left, right, kind, &names)
            }
            Some(JoinConstraint::None) => Err(SqlError::validate("a join needs a condition")
                .at_parser(span)
                .hint("write ON, USING, or CROSS JOIN")),
        }
    }

    /// Every row with every row.
    pub(crate) fn cross(&self, left: Source, right: Source) -> Result<Source, SqlError> {
        let scope = combined(&left.scope, &right.scope, JoinKind::Inner);
        Ok(self.joined(left, right, JoinKind::Inner, None, scope))
    }

    fn join_using(
        &self,
        left: Source,
        right: Source,
        kind: JoinKind,
        names: &[ast::Ident],
    ) -> Result<Source, SqlError> {
        let mut scope = combined(&left.scope, &right.scope, kind);
        let width = left.scope.fields.len();
        let (mut conditions, mut merged) = (Vec::new(), Vec::new());
        for name in names {
            let env = Env {
                scope: &left.scope,
                outer: None,
            };
            let own = env.resolve(std::slice::from_ref(name))?.expr;
            let env = Env {
                scope: &right.scope,
                outer: None,
            };
            let other = shifted(env.resolve(std::slice::from_ref(name))?.expr, width);
            let env = Env {
                scope: &scope,
                outer: None,
            };
            let binder = ExprBinder::new(self, &env, "USING");
            let equal = binder
                .compare(F::Equal, own.clone(), other.clone())
                .map_err(|error| error.at_parser(name.span))?;
            conditions.push(equal);
            let hides = hidden(&scope, &left.scope, width, &name.value);
            merged.push(Merged {
                name: name.value.clone(),
                expr: both(kind, own, other)?,
                hides,
            });
        }
        scope
            .merged
            .retain(|known| !names.iter().any(|name| name.value == known.name));
        merged.append(&mut scope.merged);
        scope.merged = merged;
        let condition = match conditions.len() {
            1 => conditions.remove(0),
            _ => {
                let data_type = boolean_of(&conditions);
                Expr::call(F::And, conditions, data_type)
            }
        };
        Ok(self.joined(left, right, kind, Some(condition), scope))
    }

    fn joined(
        &self,
        left: Source,
        right: Source,
        kind: JoinKind,
        condition: Option<Expr>,
        scope: Scope,
    ) -> Source {
        let ttl_ms = [&left, &right].map(|side| self.state_ttl.of(&side.scope.fields));
        Source {
            plan: LogicalPlan::Join {
                left: Box::new(left.plan),
                right: Box::new(right.plan),
                kind,
                condition,
                schema: scope.fields.clone(),
                ttl_ms,
            },
            scope,
        }
    }
}

fn kind_of(
    operator: &JoinOperator,
    span: Span,
) -> Result<(JoinKind, Option<&JoinConstraint>), SqlError> {
    Ok(match operator {
        JoinOperator::Join(constraint) | JoinOperator::Inner(constraint) => {
            (JoinKind::Inner, Some(constraint))
        }
        JoinOperator::Left(constraint) | JoinOperator::LeftOuter(constraint) => {
            (JoinKind::Left, Some(constraint))
        }
        JoinOperator::Right(constraint) | JoinOperator::RightOuter(constraint) => {
            (JoinKind::Right, Some(constraint))
        }
        JoinOperator::FullOuter(constraint) => (JoinKind::Full, Some(constraint)),
        JoinOperator::CrossJoin(JoinConstraint::None) => (JoinKind::Inner, None),
        JoinOperator::CrossJoin(_) => return Err(unsupported("CROSS JOIN with a condition", span)),
        JoinOperator::Semi(_)
        | JoinOperator::LeftSemi(_)
        | JoinOperator::RightSemi(_)
        | JoinOperator::Anti(_)
        | JoinOperator::LeftAnti(_)
        | JoinOperator::RightAnti(_) => {
            return Err(unsupported("SEMI JOIN and ANTI JOIN", span)
                .hint("write WHERE EXISTS (…) or NOT EXISTS (…)"));
        }
        _ => return Err(unsupported("this kind of join", span)),
    })
}

fn simple(name: &ast::ObjectName) -> Result<ast::Ident, SqlError> {
    match name.0.as_slice() {
        [ast::ObjectNamePart::Identifier(ident)] => Ok(ident.clone()),
        _ => Err(SqlError::validate("USING takes plain column names").at_parser(name.span())),
    }
}

/// Columns of both sides; NULL where a side can be missing.
pub(crate) fn combined(left: &Scope, right: &Scope, kind: JoinKind) -> Scope {
    let (left_may_miss, right_may_miss) = match kind {
        JoinKind::Left => (false, true),
        JoinKind::Right => (true, false),
        JoinKind::Full => (true, true),
        JoinKind::Inner | JoinKind::Semi | JoinKind::Anti => (false, false),
    };
    let side = |scope: &Scope, may_miss: bool| {
        scope
            .fields
            .iter()
            .map(|field| {
                let nullable = field.data_type.nullable || may_miss;
                let data_type = field.data_type.clone().with_nullable(nullable);
                LogicalField {
                    data_type,
                    ..field.clone()
                }
            })
            .collect::<Vec<_>>()
    };
    let mut fields = side(left, left_may_miss);
    let width = fields.len();
    fields.extend(side(right, right_may_miss));
    let mut merged = left.merged.clone();
    merged.extend(right.merged.iter().map(|known| Merged {
        name: known.name.clone(),
        expr: shifted(known.expr.clone(), width),
        hides: known.hides.iter().map(|index| index + width).collect(),
    }));
    Scope {
        fields: fields.into(),
        merged,
    }
}

/// Columns that an unqualified name no longer means after USING.
fn hidden(scope: &Scope, left: &Scope, width: usize, name: &str) -> Vec<usize> {
    let before = left.merged.iter().filter(|known| known.name == name);
    let mut hides: Vec<usize> = before.flat_map(|known| known.hides.clone()).collect();
    let same_name = scope
        .fields
        .iter()
        .enumerate()
        .filter(|(_, field)| field.name == name);
    let more: Vec<usize> = same_name
        .map(|(index, _)| index)
        .filter(|index| !hides.contains(index) && (*index >= width || hides.is_empty()))
        .collect();
    hides.extend(more);
    hides
}

/// The one column of USING.
fn both(kind: JoinKind, left: Expr, right: Expr) -> Result<Expr, SqlError> {
    match kind {
        JoinKind::Right => Ok(right),
        JoinKind::Full => {
            let types = [left.data_type.clone(), right.data_type.clone()];
            let data_type = least_restrictive(&types)
                .ok_or_else(|| SqlError::validate("the columns of USING have no common type"))?;
            let args = vec![
                super::coerce::coerce(left, &data_type.logical),
                super::coerce::coerce(right, &data_type.logical),
            ];
            Ok(Expr::call(F::Coalesce, args, data_type.with_nullable(true)))
        }
        _ => Ok(left),
    }
}

/// An expression over the right side's columns, over both sides'.
fn shifted(expr: Expr, by: usize) -> Expr {
    use crate::logical::ExprKind;
    let kind = match expr.kind {
        ExprKind::Column(index) => ExprKind::Column(index + by),
        ExprKind::Call { function, args } => ExprKind::Call {
            function,
            args: args.into_iter().map(|arg| shifted(arg, by)).collect(),
        },
        ExprKind::Cast { input, r#try } => ExprKind::Cast {
            input: Box::new(shifted(*input, by)),
            r#try,
        },
        other => other,
    };
    Expr {
        kind,
        data_type: expr.data_type,
    }
}

/// A reference to each column.
pub(crate) fn all_columns(fields: &Schema) -> Vec<Expr> {
    fields
        .iter()
        .enumerate()
        .map(|(index, field)| column(index, field))
        .collect()
}
