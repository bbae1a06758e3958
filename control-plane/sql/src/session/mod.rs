//! A user's session: what was created and set, and the statements that do so. Jobs are planned
//! here and run by whoever asked.

mod definitions;
mod insert;
mod journal;
mod show;
mod sinks;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use proto::plan::connector_spec::Connector;
use proto::plan::{Plan, Sink, node::Operator};
use proto::types::Field;
use sqlparser::ast::{self, Ident, Spanned};

use crate::bind::{self, BindContext};
use crate::catalog::{Catalog, DEFAULT_CATALOG, DEFAULT_DATABASE, Relation, View, simple_name};
use crate::ddl;
use crate::error::{Span, SqlError};
use crate::explain::explain;
use crate::logical::LogicalPlan;
use crate::parse::{
    CreateTable, CreateView, ExplainFormat, ObjectKind, ParsedStatement, Statement, TableHints,
    UseTarget, parse_script,
};
use crate::settings::Settings;
use crate::stream::{PlanOptions, SinkQuery, SinkTarget, plan_job};
use definitions::Definitions;
use journal::{Deed, Journal};

/// Tables, views and options of one user. Knows no files, clocks or jobs: every statement either
/// changes the session or gives a plan to run.
#[derive(Clone, Debug)]
pub struct Session {
    catalog: Catalog,
    definitions: Definitions,
    journal: Journal,
    settings: Settings,
    options: PlanOptions,
}

/// What a statement gave.
#[derive(Clone, PartialEq, Debug)]
pub enum Outcome {
    /// Something was done, or explained; the text says what.
    Ok(String),
    /// An answer from the session itself: SHOW, DESCRIBE, SET.
    Rows {
        /// Names of the columns.
        columns: Vec<String>,
        /// Row by row; `None` is NULL.
        rows: Vec<Vec<Option<String>>>,
    },
    /// A job to run.
    Job {
        /// Its plan.
        plan: Box<Plan>,
        /// What comes of it.
        kind: JobKind,
    },
}

/// What comes of a job.
#[derive(Clone, PartialEq, Debug)]
pub enum JobKind {
    /// Rows for the client, through the plan's `collect` sink.
    Select {
        /// Their columns.
        columns: Vec<Field>,
        /// Columns that identify a row where updates come without old rows; `None` where the
        /// changelog folds as a multiset.
        upsert_key: Option<Vec<usize>>,
    },
    /// Rows go to tables.
    Insert,
}

impl Session {
    /// A session without tables. `options` hold until SET says otherwise.
    #[must_use]
    pub fn new(options: PlanOptions) -> Session {
        Session {
            catalog: Catalog::default(),
            definitions: Definitions::default(),
            journal: Journal::default(),
            settings: Settings::default(),
            options,
        }
    }

    /// What was SET.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Tables and views.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// A session in which these statements were executed: those of [`Session::statements`].
    ///
    /// # Errors
    /// When a statement is not one of this build's.
    pub fn replay(options: PlanOptions, statements: &[String]) -> Result<Session, SqlError> {
        let mut session = Session::new(options);
        for text in statements {
            for statement in parse_script(text)? {
                session.execute(&statement)?;
            }
        }
        Ok(session)
    }

    /// Statements that make this session's tables, views and options from nothing, in order.
    #[must_use]
    pub fn statements(&self) -> Vec<String> {
        self.journal.statements().map(str::to_owned).collect()
    }

    /// Executes one statement of a script.
    ///
    /// # Errors
    /// When the statement cannot be; the session is as it was then. The error has a position in
    /// the statement's script.
    pub fn execute(&mut self, parsed: &ParsedStatement) -> Result<Outcome, SqlError> {
        let before = (self.catalog.len(), self.settings.clone());
        let outcome = self
            .statement(&parsed.statement, &parsed.hints, &parsed.text)
            .map_err(|error| error.at(parsed.span))?;
        if before != (self.catalog.len(), self.settings.clone())
            && let Some(deed) = deed(&parsed.statement)
        {
            self.journal.push(&parsed.text, deed);
        }
        Ok(outcome)
    }

    fn statement(
        &mut self,
        statement: &Statement,
        hints: &Arc<TableHints>,
        text: &str,
    ) -> Result<Outcome, SqlError> {
        match statement {
            Statement::Query(_) | Statement::Insert(_) | Statement::Inserts(_) => {
                self.job(statement, hints)
            }
            Statement::Explain { format, statement } => {
                let queries = self.queries(statement, hints)?;
                let options = self.plan_options()?;
                Ok(Outcome::Ok(match format {
                    ExplainFormat::Text => explain(&queries, &options)?,
                    ExplainFormat::Json => plan_job(queries, &options)?.to_json(),
                }))
            }
            Statement::CreateTable(create) => self.create_table(create, hints, text),
            Statement::CreateView(create) => self.create_view(create, hints),
            Statement::CreateFunction { name, .. } => create_function(name),
            Statement::Drop {
                kind,
                temporary,
                name,
                if_exists,
            } => self.drop(*kind, *temporary, name, *if_exists),
            Statement::Show(target) => self.show(target),
            Statement::Describe(name) => self.describe(name),
            Statement::Set(None) => Ok(self.show_settings()),
            Statement::Set(Some((key, value, span))) => {
                let parallelism_max = self.options.key_groups;
                let set = self.settings.set((key, value), *span, parallelism_max);
                set.map(Outcome::Ok)
            }
            Statement::Reset(key) => {
                let key = key.as_ref().map(|(key, span)| (key.as_str(), *span));
                self.settings.reset(key).map(Outcome::Ok)
            }
            Statement::Use(target) => use_target(target),
        }
    }

    fn job(&self, statement: &Statement, hints: &TableHints) -> Result<Outcome, SqlError> {
        let queries = self.queries(statement, hints)?;
        let columns: Option<Vec<Field>> = match queries.as_slice() {
            [
                SinkQuery {
                    plan,
                    sink: SinkTarget::Collect,
                },
            ] => Some(fields(plan)),
            _ => None,
        };
        let plan = plan_job(queries, &self.plan_options()?)?;
        let kind = match columns {
            Some(columns) => JobKind::Select {
                columns,
                upsert_key: upsert_key(&plan),
            },
            None => JobKind::Insert,
        };
        Ok(Outcome::Job {
            plan: Box::new(plan),
            kind,
        })
    }

    /// The bound queries of a job.
    fn queries(
        &self,
        statement: &Statement,
        hints: &TableHints,
    ) -> Result<Vec<SinkQuery>, SqlError> {
        match statement {
            Statement::Query(query) => Ok(vec![SinkQuery {
                plan: self.bind(query, hints)?,
                sink: SinkTarget::Collect,
            }]),
            Statement::Insert(insert) => Ok(vec![self.insert(insert, hints)?]),
            Statement::Inserts(inserts) => inserts
                .iter()
                .map(|insert| self.insert(insert, hints))
                .collect(),
            _ => Err(SqlError::validate(
                "only queries and INSERT statements make a job",
            )),
        }
    }

    fn bind(&self, query: &ast::Query, hints: &TableHints) -> Result<LogicalPlan, SqlError> {
        bind::bind_query(query, &self.catalog, &BindContext { hints })
    }

    fn plan_options(&self) -> Result<PlanOptions, SqlError> {
        let mut options = self.options.clone();
        if let Some(parallelism) = self.settings.parallelism() {
            options.parallelism_hint = Some(parallelism);
        }
        if let Some(ttl) = self.settings.state_ttl_ms() {
            options.state_ttl_ms = ttl;
        }
        if let Some(event_time) = self.settings.state_ttl_in_event_time() {
            options.state_ttl_in_event_time = event_time;
        }
        if let Some(timeout) = self.settings.idle_timeout_ms() {
            options.idle_timeout_ms = timeout;
        }
        if let Some(drop) = self.settings.drop_sink_nulls() {
            options.drop_sink_nulls = drop;
        }
        if let Some(enabled) = self.settings.multi_joins() {
            options.multi_joins = enabled;
        }
        options.distinct_buckets = self.settings.distinct_buckets();
        if let Some(name) = self.settings.late_rows_table() {
            options.late_rows = Some(self.late_rows_table(name)?);
        }
        Ok(options)
    }

    fn create_table(
        &mut self,
        create: &CreateTable,
        hints: &TableHints,
        text: &str,
    ) -> Result<Outcome, SqlError> {
        let (name, temporary) = (&create.name, create.temporary);
        if let Some(outcome) = self.already_there(name, temporary, create.if_not_exists)? {
            return Ok(outcome);
        }
        let table = ddl::table(create, &self.catalog, &BindContext { hints })?;
        let message = format!("table `{}` created", table.name);
        self.definitions.insert(&table.name, create, text);
        let table = Relation::Table(Arc::new(table));
        self.catalog.insert_among(table, temporary);
        Ok(Outcome::Ok(message))
    }

    /// A view is bound once when it is made, so that its errors show where it is written.
    fn create_view(
        &mut self,
        create: &CreateView,
        hints: &Arc<TableHints>,
    ) -> Result<Outcome, SqlError> {
        let temporary = create.temporary;
        if let Some(outcome) = self.already_there(&create.name, temporary, create.if_not_exists)? {
            return Ok(outcome);
        }
        let plan = self.bind(&create.query, hints)?;
        let columns = create.columns.as_ref();
        if let Some(columns) = columns
            && columns.len() != plan.schema().len()
        {
            return Err(SqlError::validate(format!(
                "the view names {} columns, but its query has {}",
                columns.len(),
                plan.schema().len()
            ))
            .at_parser(create.name.span()));
        }
        let name = simple_name(&create.name)?;
        let names = |columns: &Vec<Ident>| columns.iter().map(|name| name.value.clone()).collect();
        let view = View {
            name: name.clone(),
            columns: columns.map(names),
            fields: names_of(&plan),
            comment: create.comment.clone(),
            text: create.text.clone(),
            query: create.query.clone(),
            hints: hints.clone(),
        };
        let view = Relation::View(Arc::new(view));
        self.catalog.insert_among(view, temporary);
        Ok(Outcome::Ok(format!("view `{name}` created")))
    }

    /// The answer to IF NOT EXISTS where the name is taken.
    fn already_there(
        &self,
        name: &ast::ObjectName,
        temporary: bool,
        if_not_exists: bool,
    ) -> Result<Option<Outcome>, SqlError> {
        let simple = simple_name(name)?;
        if self.catalog.get_among(&simple, temporary).is_none() {
            return Ok(None);
        }
        if if_not_exists {
            return Ok(Some(Outcome::Ok(format!("`{simple}` exists already"))));
        }
        Err(SqlError::validate(format!("`{simple}` exists already"))
            .at_parser(name.span())
            .hint("DROP it first, or use IF NOT EXISTS"))
    }

    fn drop(
        &mut self,
        kind: ObjectKind,
        temporary: bool,
        name: &ast::ObjectName,
        if_exists: bool,
    ) -> Result<Outcome, SqlError> {
        let simple = simple_name(name)?;
        let (word, other) = match kind {
            ObjectKind::Table => ("table", "VIEW"),
            ObjectKind::View => ("view", "TABLE"),
        };
        let hidden = self.catalog.get_among(&simple, true).is_some();
        if hidden && !temporary {
            return Err(SqlError::validate(format!(
                "`{simple}` is temporary, and may hide another"
            ))
            .at_parser(name.span())
            .hint(format!("use DROP TEMPORARY {}", word.to_uppercase())));
        }
        let right_kind = match self.catalog.get_among(&simple, temporary) {
            None if if_exists => {
                return Ok(Outcome::Ok(format!("{word} `{simple}` does not exist")));
            }
            None if temporary => {
                return Err(SqlError::validate(format!(
                    "temporary {word} `{simple}` does not exist"
                ))
                .at_parser(name.span()));
            }
            None => {
                let error = self.catalog.resolve(name).err();
                return Err(error.unwrap_or_else(|| SqlError::validate("no such relation")));
            }
            Some(Relation::Table(_)) => kind == ObjectKind::Table,
            Some(Relation::View(_)) => kind == ObjectKind::View,
        };
        if !right_kind {
            return Err(SqlError::validate(format!("`{simple}` is not a {word}"))
                .at_parser(name.span())
                .hint(format!("use DROP {other}")));
        }
        self.catalog.remove(&simple, temporary);
        self.definitions.remove(&simple, temporary);
        Ok(Outcome::Ok(format!("{word} `{simple}` dropped")))
    }
}

/// What a statement has done to the session, if it has changed it.
fn deed(statement: &Statement) -> Option<Deed> {
    match statement {
        Statement::CreateTable(create) => Some(Deed::Create {
            name: simple_name(&create.name).ok()?,
            temporary: create.temporary,
            is_view: false,
        }),
        Statement::CreateView(create) => Some(Deed::Create {
            name: simple_name(&create.name).ok()?,
            temporary: create.temporary,
            is_view: true,
        }),
        Statement::Drop {
            temporary, name, ..
        } => Some(Deed::Drop {
            name: simple_name(name).ok()?,
            temporary: *temporary,
        }),
        Statement::Set(Some((key, _, _))) => Some(Deed::Set(key.clone())),
        Statement::Reset(key) => Some(Deed::Reset(key.as_ref().map(|(key, _)| key.clone()))),
        _ => None,
    }
}

/// Names of a query's columns.
fn names_of(plan: &LogicalPlan) -> Vec<String> {
    plan.schema()
        .iter()
        .map(|field| field.name.clone())
        .collect()
}

/// The columns of a query's result.
fn fields(plan: &LogicalPlan) -> Vec<Field> {
    let field =
        |field: &crate::logical::LogicalField| Field::new(&field.name, field.data_type.clone());
    plan.schema().iter().map(field).collect()
}

/// The key by which the collected changelog folds, where it has no old rows of updates.
fn upsert_key(plan: &Plan) -> Option<Vec<usize>> {
    let mut nodes = plan.fragments.iter().flat_map(|fragment| &fragment.nodes);
    let (node, sink) = nodes.find_map(|node| match &node.operator {
        Some(Operator::Sink(sink)) if is_collect(sink) => Some((node, sink)),
        _ => None,
    })?;
    let changelog = node.changelog?;
    let upserts = changelog.update_after && !changelog.update_before;
    let key = sink.key.as_ref().filter(|_| upserts)?;
    Some(key.columns.iter().map(|column| *column as usize).collect())
}

fn is_collect(sink: &Sink) -> bool {
    let spec = sink
        .connector
        .as_ref()
        .and_then(|spec| spec.connector.as_ref());
    matches!(spec, Some(Connector::Collect(_)))
}

/// Flink scripts declare functions written in Java; those that are built in need no declaration.
fn create_function(name: &Ident) -> Result<Outcome, SqlError> {
    let built_in = bind::function_names();
    if built_in
        .iter()
        .any(|known| known.eq_ignore_ascii_case(&name.value))
    {
        let message = format!(
            "function `{}` is built in: the built-in one is used",
            name.value
        );
        return Ok(Outcome::Ok(message));
    }
    Err(
        SqlError::validate(format!("function `{}` cannot be created", name.value))
            .at_parser(name.span)
            .hint(
                "functions of the user are not supported; SHOW FUNCTIONS lists the built-in ones",
            ),
    )
}

fn use_target(target: &UseTarget) -> Result<Outcome, SqlError> {
    let refuse = |what: &str, name: String, span: Option<Span>, only: &str| {
        Err(
            SqlError::validate(format!("{what} `{name}` does not exist"))
                .at(span)
                .hint(format!("the only {what} is `{only}`")),
        )
    };
    match target {
        UseTarget::Catalog(name) if name.value == DEFAULT_CATALOG => {
            Ok(Outcome::Ok(format!("using catalog `{DEFAULT_CATALOG}`")))
        }
        UseTarget::Catalog(name) => {
            let span = Span::from_parser(name.span);
            refuse("catalog", name.value.clone(), span, DEFAULT_CATALOG)
        }
        UseTarget::Database(name) => {
            let parts = name.0.iter().filter_map(|part| part.as_ident());
            let parts: Vec<&str> = parts.map(|ident| ident.value.as_str()).collect();
            match parts.as_slice() {
                [DEFAULT_DATABASE] | [DEFAULT_CATALOG, DEFAULT_DATABASE] => {
                    Ok(Outcome::Ok(format!("using database `{DEFAULT_DATABASE}`")))
                }
                parts => {
                    let span = Span::from_parser(name.span());
                    refuse("database", parts.join("."), span, DEFAULT_DATABASE)
                }
            }
        }
    }
}
