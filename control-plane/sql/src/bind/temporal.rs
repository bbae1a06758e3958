//! FOR SYSTEM_TIME AS OF: the right side as it was at a time of the left row. By event time it is a
//! table with versions; by processing time one that is looked up where it is.

use sqlparser::ast::{self, JoinConstraint, Spanned as _, TableFactor};

use super::Binder;
use super::expr::ExprBinder;
use super::from::{Source, aliased, refuse_extras};
use super::join::combined;
use super::refuse::{refuse_all, unsupported};
use super::scope::{Env, Scope};
use crate::catalog::Table;
use crate::connector;
use crate::error::SqlError;
use crate::logical::{Expr, ExprKind, JoinKind, LogicalPlan, TimeAttribute};
use crate::optimize::expr::{columns, conjuncts};
use proto::plan::ScalarFunction;

impl Binder<'_> {
    /// `left JOIN table FOR SYSTEM_TIME AS OF left.time ON …`.
    pub(crate) fn temporal_join(
        &self,
        left: Source,
        relation: &TableFactor,
        version: &ast::TableVersion,
        kind: JoinKind,
        constraint: Option<&JoinConstraint>,
        outer: Option<&Env<'_>>,
    ) -> Result<Source, SqlError> {
        let TableFactor::Table {
            name, alias, args, ..
        } = relation
        else {
            return Err(unsupported("FOR SYSTEM_TIME AS OF here", relation.span()));
        };
        refuse_extras(relation, relation.span())?;
        refuse_all(
            &[(args.is_some(), "FOR SYSTEM_TIME AS OF on a table function")],
            name.span(),
        )?;
        if !matches!(kind, JoinKind::Inner | JoinKind::Left) {
            return Err(unsupported(
                "a temporal join other than INNER and LEFT",
                name.span(),
            ));
        }
        let (time_column, attribute) = self.as_of(version, name, &left.scope, outer)?;
        let right = self.named_table(name)?;
        let looked_up = attribute == TimeAttribute::Proctime;
        let table = match &right.plan {
            plan if looked_up => Some(lookup_table(plan, name)?.name.clone()),
            LogicalPlan::Scan { table, .. } if table.primary_key.is_none() => {
                return Err(SqlError::validate(format!(
                    "the versioned table `{}` has no primary key",
                    table.name
                ))
                .at_parser(name.span())
                .hint("declare PRIMARY KEY (…) NOT ENFORCED"));
            }
            _ => None,
        };
        let right = aliased(right, alias.as_ref())?;
        let scope = combined(&left.scope, &right.scope, kind);
        let Some(JoinConstraint::On(on)) = constraint else {
            return Err(SqlError::validate("a temporal join needs ON").at_parser(name.span()));
        };
        let env = Env {
            scope: &scope,
            outer,
        };
        let condition = ExprBinder::new(self, &env, "ON").bind_condition(on)?;
        if let Some(table) = table
            && !has_lookup_key(&condition, left.scope.fields.len())
        {
            return Err(SqlError::validate(format!(
                "a lookup join needs an equality with a column of `{table}`"
            ))
            .at_parser(on.span())
            .hint("write ON left.column = table.column; other conditions may follow with AND"));
        }
        let plan = LogicalPlan::TemporalJoin {
            left: Box::new(left.plan),
            right: Box::new(right.plan),
            kind,
            time_column: (!looked_up).then_some(time_column),
            condition,
            schema: scope.fields.clone(),
        };
        Ok(Source { plan, scope })
    }

    /// The time attribute of the left side that the right side is taken as of.
    fn as_of(
        &self,
        version: &ast::TableVersion,
        name: &ast::ObjectName,
        left: &Scope,
        outer: Option<&Env<'_>>,
    ) -> Result<(usize, TimeAttribute), SqlError> {
        let ast::TableVersion::ForSystemTimeAsOf(time) = version else {
            return Err(unsupported(&format!("`{version}`"), name.span())
                .hint("write FOR SYSTEM_TIME AS OF time"));
        };
        let env = Env { scope: left, outer };
        let binder = ExprBinder::new(self, &env, "FOR SYSTEM_TIME AS OF");
        let bound = binder.bind(time)?;
        binder.time_attribute(&bound).ok_or_else(|| {
            SqlError::validate("FOR SYSTEM_TIME AS OF needs a time attribute of the left side")
                .at_parser(time.span())
                .hint(
                    "declare it with WATERMARK FOR column AS …, or select PROCTIME() AS column there",
                )
        })
    }
}

/// The table that is looked up: itself, or what a view of it selects and filters.
fn lookup_table<'p>(plan: &'p LogicalPlan, name: &ast::ObjectName) -> Result<&'p Table, SqlError> {
    match plan {
        LogicalPlan::Scan { table, .. } => {
            connector::check_lookup(table).map_err(|error| error.at_parser(name.span()))?;
            Ok(table)
        }
        LogicalPlan::Project { input, .. } | LogicalPlan::Filter { input, .. } => {
            lookup_table(input, name)
        }
        _ => Err(SqlError::validate(format!(
            "`{name}` cannot be looked up: it is more than columns and rows of one table"
        ))
        .at_parser(name.span())
        .hint(
            "look up the table itself or a view that only selects and filters; or join as of an \
             event time, with a view that keeps the last row per key",
        )),
    }
}

/// Whether the condition fixes something of the right side by what is known of the left row.
fn has_lookup_key(condition: &Expr, left: usize) -> bool {
    conjuncts(condition.clone()).iter().any(|conjunct| {
        let ExprKind::Call { function, args } = &conjunct.kind else {
            return false;
        };
        let equates = matches!(
            function,
            ScalarFunction::Equal | ScalarFunction::IsNotDistinctFrom
        );
        let ([a, b], true) = (args.as_slice(), equates) else {
            return false;
        };
        let of_right = |e: &Expr| {
            let read = columns(e);
            !read.is_empty() && read.iter().all(|column| *column >= left)
        };
        let known = |e: &Expr| columns(e).iter().all(|column| *column < left);
        of_right(a) && known(b) || of_right(b) && known(a)
    })
}
