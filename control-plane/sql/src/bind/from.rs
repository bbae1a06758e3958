//! FROM: tables, subqueries, table functions, and their aliases.

use sqlparser::ast::{self, Spanned as _, TableFactor};
use sqlparser::tokenizer::Span;

use super::Binder;
use super::refuse::{refuse_all, unsupported};
use super::scope::{Env, Scope};
use super::special::function_name;
use super::table::qualified;
use crate::error::SqlError;
use crate::logical::{LogicalField, LogicalPlan, Schema};

/// A relation and the names of its columns; positions are the plan's.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) plan: LogicalPlan,
    pub(crate) scope: Scope,
}

impl Source {
    /// The columns of a plan as they are.
    pub(crate) fn new(plan: LogicalPlan) -> Source {
        let scope = Scope::new(plan.schema().clone());
        Source { plan, scope }
    }

    /// One row without columns: what a SELECT without FROM reads.
    fn one_row() -> Source {
        Source::new(LogicalPlan::Values {
            rows: vec![Vec::new()],
            schema: Schema::from([]),
        })
    }
}

impl Binder<'_> {
    /// A FROM clause.
    pub(crate) fn from(
        &self,
        tables: &[ast::TableWithJoins],
        outer: Option<&Env<'_>>,
    ) -> Result<Source, SqlError> {
        let mut result: Option<Source> = None;
        for table in tables {
            result = Some(self.with_joins(result, table, outer)?);
        }
        Ok(result.unwrap_or_else(Source::one_row))
    }

    /// `a JOIN b …`, after what stands before its comma.
    fn with_joins(
        &self,
        before: Option<Source>,
        table: &ast::TableWithJoins,
        outer: Option<&Env<'_>>,
    ) -> Result<Source, SqlError> {
        let ast::TableWithJoins { relation, joins } = table;
        let lateral = matches!(relation, TableFactor::UNNEST { .. });
        match before {
            Some(before) if !lateral && !joins.is_empty() => {
                // The comma binds looser than the joins.
                let right = self.with_joins(None, table, outer)?;
                self.cross(before, right)
            }
            before => {
                let mut source = match before {
                    Some(before) => self.comma(before, relation, outer)?,
                    None => self.factor(relation, None, outer)?,
                };
                for join in joins {
                    source = self.join(source, join, outer)?;
                }
                Ok(source)
            }
        }
    }

    fn comma(
        &self,
        before: Source,
        relation: &TableFactor,
        outer: Option<&Env<'_>>,
    ) -> Result<Source, SqlError> {
        if let TableFactor::UNNEST { .. } = relation {
            return self.unnest(before, relation, false, outer);
        }
        let right = self.factor(relation, Some(&before), outer)?;
        self.cross(before, right)
    }

    /// One relation. `left` is what stands before it, for messages about LATERAL.
    pub(crate) fn factor(
        &self,
        factor: &TableFactor,
        left: Option<&Source>,
        outer: Option<&Env<'_>>,
    ) -> Result<Source, SqlError> {
        let span = factor.span();
        match factor {
            TableFactor::Table { .. } => self.table_factor(factor, outer),
            TableFactor::Derived {
                lateral,
                subquery,
                alias,
                sample,
            } => {
                refuse_all(
                    &[
                        (*lateral, "LATERAL (query)"),
                        (sample.is_some(), "a sample"),
                    ],
                    span,
                )?;
                let plan = self.query(subquery, outer)?;
                aliased(Source::new(plan), alias.as_ref())
            }
            TableFactor::TableFunction {
                expr: ast::Expr::Function(call),
                alias,
            } => {
                let function = function_name(&call.name)?;
                let args = table_function_args(call)?;
                let source = self.window_function(&function, args, call.name.span(), outer)?;
                aliased(source, alias.as_ref())
            }
            TableFactor::Function {
                lateral,
                name,
                args,
                with_ordinality,
                alias,
            } => {
                refuse_all(
                    &[
                        (*lateral, "LATERAL TABLE(function)"),
                        (*with_ordinality, "WITH ORDINALITY here"),
                    ],
                    span,
                )?;
                let function = function_name(name)?;
                let source = self.window_function(&function, args, name.span(), outer)?;
                aliased(source, alias.as_ref())
            }
            TableFactor::UNNEST { .. } if left.is_none() => {
                let one_row = Source::one_row();
                self.unnest(one_row, factor, false, outer)
            }
            TableFactor::NestedJoin {
                table_with_joins,
                alias,
            } => {
                let source = self.with_joins(None, table_with_joins, outer)?;
                aliased(source, alias.as_ref())
            }
            TableFactor::MatchRecognize { .. } => Err(unsupported("MATCH_RECOGNIZE", span)),
            TableFactor::Pivot { .. } | TableFactor::Unpivot { .. } => {
                Err(unsupported("PIVOT and UNPIVOT", span))
            }
            other => Err(unsupported(&format!("`{other}` in FROM"), span)),
        }
    }

    /// `name` or `function(…)`.
    fn table_factor(
        &self,
        factor: &TableFactor,
        outer: Option<&Env<'_>>,
    ) -> Result<Source, SqlError> {
        let span = factor.span();
        refuse_extras(factor, span)?;
        let TableFactor::Table {
            name,
            alias,
            args,
            version,
            ..
        } = factor
        else {
            return Err(unsupported("this relation", span));
        };
        if version.is_some() {
            return Err(SqlError::validate(
                "FOR SYSTEM_TIME AS OF is for the right side of a join",
            )
            .at_parser(name.span()));
        }
        let source = match args {
            Some(args) => {
                refuse_all(&[(args.settings.is_some(), "SETTINGS")], span)?;
                let function = function_name(name)?;
                self.window_function(&function, &args.args, name.span(), outer)?
            }
            None => self.named_table(name)?,
        };
        aliased(source, alias.as_ref())
    }
}

/// Refuses the parts of a named table that the language does not have.
pub(crate) fn refuse_extras(factor: &TableFactor, span: Span) -> Result<(), SqlError> {
    let TableFactor::Table {
        name: _,
        alias: _,
        args: _,
        version: _,
        with_hints,
        with_ordinality,
        partitions,
        json_path,
        sample,
        index_hints,
    } = factor
    else {
        return Ok(());
    };
    refuse_all(
        &[
            (!with_hints.is_empty(), "WITH (hints)"),
            (*with_ordinality, "WITH ORDINALITY here"),
            (!partitions.is_empty(), "PARTITION (…)"),
            (json_path.is_some(), "a JSON path in FROM"),
            (sample.is_some(), "TABLESAMPLE"),
            (!index_hints.is_empty(), "an index hint"),
        ],
        span,
    )
}

fn table_function_args(call: &ast::Function) -> Result<&[ast::FunctionArg], SqlError> {
    let ast::Function {
        name: _,
        uses_odbc_syntax,
        parameters,
        args,
        filter,
        null_treatment,
        over,
        within_group,
    } = call;
    refuse_all(
        &[
            (*uses_odbc_syntax, "the `{fn …}` notation"),
            (
                *parameters != ast::FunctionArguments::None,
                "a second list of arguments",
            ),
            (filter.is_some(), "FILTER on a table function"),
            (null_treatment.is_some(), "IGNORE NULLS or RESPECT NULLS"),
            (over.is_some(), "OVER on a table function"),
            (!within_group.is_empty(), "WITHIN GROUP"),
        ],
        call.span(),
    )?;
    match args {
        ast::FunctionArguments::List(list)
            if list.duplicate_treatment.is_none() && list.clauses.is_empty() =>
        {
            Ok(&list.args)
        }
        _ => Err(unsupported("this form of arguments", call.span())),
    }
}

/// Gives a relation its alias and the names of its columns.
pub(crate) fn aliased(source: Source, alias: Option<&ast::TableAlias>) -> Result<Source, SqlError> {
    let Some(alias) = alias else {
        return Ok(source);
    };
    let ast::TableAlias {
        explicit: _,
        name,
        columns,
        at,
    } = alias;
    if at.is_some() {
        return Err(unsupported("AT in an alias", name.span));
    }
    let merged = source.scope.merged.clone();
    let mut renamed = if merged.is_empty() {
        let fields: Schema = source
            .scope
            .fields
            .iter()
            .map(|field| LogicalField {
                qualifier: Some(name.value.clone()),
                ..field.clone()
            })
            .collect();
        Source {
            plan: source.plan,
            scope: Scope::new(fields),
        }
    } else {
        // What USING made one column becomes one column for real.
        qualified(super::query::star_of(source), &name.value)
    };
    if columns.is_empty() {
        return Ok(renamed);
    }
    if columns.len() != renamed.scope.fields.len() {
        return Err(SqlError::validate(format!(
            "`{}` names {} columns, the relation has {}",
            name.value,
            columns.len(),
            renamed.scope.fields.len()
        ))
        .at_parser(name.span));
    }
    let mut fields = Vec::with_capacity(columns.len());
    for (field, column) in renamed.scope.fields.iter().zip(columns) {
        if column.data_type.is_some() {
            return Err(unsupported("a type in an alias", column.name.span));
        }
        fields.push(LogicalField {
            name: column.name.value.clone(),
            ..field.clone()
        });
    }
    renamed.scope.fields = fields.into();
    Ok(renamed)
}
