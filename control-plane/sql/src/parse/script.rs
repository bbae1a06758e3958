//! A script to its statements: where each begins and ends, which kind it is, and the small ones
//! among them. `create` has CREATE.

use std::sync::Arc;

use sqlparser::ast::{Ident, ObjectName, Query, Spanned};
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::dialect::FlinkDialect;
use super::source::Source;
use super::words::{eat, expect, here, ident_list, peek_upper, string, syntax, word_at};
use super::{
    ExplainFormat, Insert, ObjectKind, ParsedStatement, ShowTarget, Statement, TableHints,
    UseTarget, create, hints, names, tokens,
};
use crate::error::{Span, SqlError};
use crate::suggest::nearest;

/// What a statement may begin with.
const FIRST_WORDS: &[&str] = &[
    "BEGIN",
    "CREATE",
    "DESC",
    "DESCRIBE",
    "DROP",
    "EXECUTE",
    "EXPLAIN",
    "INSERT",
    "RESET",
    "SELECT",
    "SET",
    "SHOW",
    "STATEMENT",
    "TABLE",
    "USE",
    "VALUES",
    "WITH",
];

/// Statements of Flink that are not supported.
const UNSUPPORTED: &[&str] = &[
    "ADD", "ALTER", "ANALYZE", "CALL", "CLEAR", "COMPILE", "DELETE", "EXIT", "HELP", "LOAD",
    "MERGE", "QUIT", "REMOVE", "REPLACE", "STOP", "TRUNCATE", "UNLOAD", "UPDATE",
];

/// How deep expressions and queries may nest.
const NESTING: usize = 100;

/// Reads a script: statements with `;` between them. Positions are those of the whole script.
///
/// # Errors
/// At the first statement that is not one of the language. Nothing is returned then.
pub fn parse_script(sql: &str) -> Result<Vec<ParsedStatement>, SqlError> {
    // Some editors put a byte order mark before the text.
    let sql = sql.strip_prefix('\u{feff}').unwrap_or(sql);
    let source = Source::new(sql);
    let tokens = tokens::tokenize(sql)?;
    let hints = hints::collect(&tokens)?;
    let parser = Parser::new(&FlinkDialect)
        .with_recursion_limit(NESTING)
        .with_tokens_with_locations(tokens);
    let mut script = Script { parser, source };
    let mut statements = Vec::new();
    loop {
        while script.parser.consume_token(&Token::SemiColon) {}
        if script.parser.peek_token_ref().token == Token::EOF {
            return Ok(statements);
        }
        let parsed = script
            .parsed_statement(&hints)
            .map_err(|error| error.at(script.source.end()))?;
        statements.push(parsed);
    }
}

/// A script being read.
pub(super) struct Script<'a> {
    pub(super) parser: Parser<'a>,
    pub(super) source: Source<'a>,
}

impl Script<'_> {
    fn parsed_statement(&mut self, hints: &TableHints) -> Result<ParsedStatement, SqlError> {
        let start = here(&self.parser);
        let statement = self.statement()?;
        self.end_of_statement()?;
        let span = self.since(start);
        let inside = |at: (u64, u64)| {
            at >= (span.line, span.column) && at < (span.end_line, span.end_column + 1)
        };
        let hints = hints.within(inside);
        let relations = relation_ends(&statement);
        if let Some(stray) = hints
            .hints
            .iter()
            .find(|hint| !relations.contains(&hint.after))
        {
            return Err(
                SqlError::parse("this hint does not stand after a table name")
                    .at(stray.span)
                    .hint("OPTIONS hints follow a table in FROM, JOIN or INSERT INTO"),
            );
        }
        Ok(ParsedStatement {
            span,
            text: self.source.slice(span).to_owned(),
            statement,
            hints: Arc::new(hints),
        })
    }

    fn end_of_statement(&self) -> Result<(), SqlError> {
        match self.parser.peek_token_ref().token {
            Token::EOF | Token::SemiColon => Ok(()),
            _ => self
                .parser
                .expected_ref("`;` or the end of the script", self.parser.peek_token_ref())
                .map_err(syntax),
        }
    }

    /// From `start` to the last token read.
    pub(super) fn since(&self, start: Span) -> Span {
        let mut index = self.parser.get_current_index();
        while index > 0
            && matches!(
                self.parser.token_at(index).token,
                Token::Whitespace(_) | Token::EOF
            )
        {
            index -= 1;
        }
        let end = self.parser.token_at(index).span.end;
        Span {
            end_line: end.line,
            end_column: end.column,
            ..start
        }
    }

    /// A clear refusal of what comes next.
    pub(super) fn unsupported(&self, what: &str) -> SqlError {
        SqlError::parse(format!("{what} is not supported")).at(here(&self.parser))
    }

    pub(super) fn statement(&mut self) -> Result<Statement, SqlError> {
        let first = peek_upper(&self.parser).unwrap_or_default();
        match first.as_str() {
            "SELECT" | "WITH" | "VALUES" | "TABLE" => Ok(Statement::Query(self.query()?)),
            "" if self.parser.peek_token_ref().token == Token::LParen => {
                Ok(Statement::Query(self.query()?))
            }
            "INSERT" => Ok(Statement::Insert(self.insert()?)),
            "BEGIN" | "STATEMENT" => self.statement_set(),
            "EXECUTE" => self.execute(),
            "CREATE" => self.create(),
            "DROP" => self.drop(),
            "SHOW" => self.show(),
            "DESCRIBE" | "DESC" => self.describe(),
            "SET" => self.set(),
            "RESET" => self.reset(),
            "USE" => self.use_target(),
            "EXPLAIN" => self.explain(),
            word if UNSUPPORTED.contains(&word) => Err(self.unsupported(word)),
            word => {
                let next = self.parser.peek_token_ref();
                let error =
                    SqlError::parse(format!("expected a statement, found `{}`", next.token))
                        .at(here(&self.parser));
                Err(match nearest(word, FIRST_WORDS.iter().copied()) {
                    Some(near) => error.hint(format!("did you mean {near}?")),
                    None => error.hint("statements begin with SELECT, INSERT INTO, CREATE, …"),
                })
            }
        }
    }

    pub(super) fn query(&mut self) -> Result<Box<Query>, SqlError> {
        let query = self.parser.parse_query().map_err(syntax)?;
        names::check_all(&query)?;
        Ok(query)
    }

    /// A table or view name, reserved words refused.
    pub(super) fn name(&mut self) -> Result<ObjectName, SqlError> {
        let name = self.parser.parse_object_name(false).map_err(syntax)?;
        name.0
            .iter()
            .filter_map(|part| part.as_ident())
            .try_for_each(names::check)?;
        Ok(name)
    }

    /// A column name, reserved words refused.
    pub(super) fn ident(&mut self) -> Result<Ident, SqlError> {
        let name = self.parser.parse_identifier().map_err(syntax)?;
        names::check(&name)?;
        Ok(name)
    }

    fn insert(&mut self) -> Result<Insert, SqlError> {
        let start = here(&self.parser);
        expect(&mut self.parser, &["INSERT"]).map_err(syntax)?;
        if word_at(&self.parser, 0, "OVERWRITE") {
            return Err(self.unsupported("INSERT OVERWRITE").hint("use INSERT INTO"));
        }
        expect(&mut self.parser, &["INTO"]).map_err(syntax)?;
        eat(&mut self.parser, &["TABLE"]);
        let table = self.name()?;
        if word_at(&self.parser, 0, "PARTITION") {
            return Err(self
                .unsupported("PARTITION of INSERT INTO")
                .hint("select the partition columns as the last columns of the query"));
        }
        let query_follows = ["SELECT", "WITH", "VALUES", "TABLE"]
            .iter()
            .any(|word| word_at(&self.parser, 1, word))
            || self.parser.peek_nth_token_ref(1).token == Token::LParen;
        let columns = if self.parser.peek_token_ref().token == Token::LParen && !query_follows {
            let columns = ident_list(&mut self.parser).map_err(syntax)?;
            columns.iter().try_for_each(names::check)?;
            Some(columns)
        } else {
            None
        };
        let query = self.query()?;
        Ok(Insert {
            table,
            columns,
            query,
            span: self.since(start),
        })
    }

    /// `[BEGIN] STATEMENT SET [BEGIN] [;] INSERT …; … END`
    fn statement_set(&mut self) -> Result<Statement, SqlError> {
        let start = here(&self.parser);
        eat(&mut self.parser, &["BEGIN"]);
        expect(&mut self.parser, &["STATEMENT", "SET"]).map_err(syntax)?;
        eat(&mut self.parser, &["BEGIN"]);
        let mut inserts = Vec::new();
        loop {
            while self.parser.consume_token(&Token::SemiColon) {}
            if eat(&mut self.parser, &["END"]) {
                break;
            }
            if !word_at(&self.parser, 0, "INSERT") {
                return Err(self
                    .parser
                    .expected_ref::<()>("INSERT INTO or END", self.parser.peek_token_ref())
                    .map_err(syntax)
                    .err()
                    .unwrap_or_else(|| self.unsupported("this statement"))
                    .hint("a statement set holds INSERT statements only, and ends with END"));
            }
            inserts.push(self.insert()?);
            self.end_of_statement()?;
        }
        if inserts.is_empty() {
            return Err(SqlError::parse("the statement set is empty")
                .at(self.since(start))
                .hint("put at least one INSERT INTO between BEGIN and END"));
        }
        Ok(Statement::Inserts(inserts))
    }

    /// `EXECUTE STATEMENT SET …`, `EXECUTE INSERT …`, `EXECUTE SELECT …`
    fn execute(&mut self) -> Result<Statement, SqlError> {
        expect(&mut self.parser, &["EXECUTE"]).map_err(syntax)?;
        match peek_upper(&self.parser).as_deref() {
            Some("STATEMENT") => self.statement_set(),
            Some("INSERT" | "SELECT" | "WITH" | "VALUES") => self.statement(),
            Some(word @ ("PLAN" | "IMMEDIATE")) => {
                Err(self.unsupported(&format!("EXECUTE {word}")))
            }
            _ => self
                .parser
                .expected_ref(
                    "STATEMENT SET, INSERT or a query",
                    self.parser.peek_token_ref(),
                )
                .map_err(syntax),
        }
    }

    fn drop(&mut self) -> Result<Statement, SqlError> {
        expect(&mut self.parser, &["DROP"]).map_err(syntax)?;
        let temporary = eat(&mut self.parser, &["TEMPORARY"]);
        let kind = if eat(&mut self.parser, &["TABLE"]) {
            ObjectKind::Table
        } else if eat(&mut self.parser, &["VIEW"]) {
            ObjectKind::View
        } else {
            let word = peek_upper(&self.parser).unwrap_or_default();
            return Err(self
                .unsupported(format!("DROP {word}").trim())
                .hint("tables and views can be dropped"));
        };
        let if_exists = eat(&mut self.parser, &["IF", "EXISTS"]);
        let name = self.name()?;
        Ok(Statement::Drop {
            kind,
            temporary,
            name,
            if_exists,
        })
    }

    fn show(&mut self) -> Result<Statement, SqlError> {
        expect(&mut self.parser, &["SHOW"]).map_err(syntax)?;
        let target = self.show_target()?;
        let negated = eat(&mut self.parser, &["NOT", "LIKE"]);
        if !negated && !eat(&mut self.parser, &["LIKE"]) {
            return Ok(Statement::Show(target));
        }
        let (pattern, _) =
            string(&mut self.parser, "a pattern in single quotes").map_err(syntax)?;
        Ok(Statement::Show(ShowTarget::Like {
            target: Box::new(target),
            negated,
            pattern,
        }))
    }

    fn show_target(&mut self) -> Result<ShowTarget, SqlError> {
        let forms: [(&[&str], ShowTarget); 8] = [
            (&["TABLES"], ShowTarget::Tables),
            (&["VIEWS"], ShowTarget::Views),
            (&["FUNCTIONS"], ShowTarget::Functions),
            (&["CATALOGS"], ShowTarget::Catalogs),
            (&["DATABASES"], ShowTarget::Databases),
            (&["CURRENT", "CATALOG"], ShowTarget::CurrentCatalog),
            (&["CURRENT", "DATABASE"], ShowTarget::CurrentDatabase),
            (&["USER", "FUNCTIONS"], ShowTarget::UserFunctions),
        ];
        for (words, target) in forms {
            if eat(&mut self.parser, words) {
                return Ok(target);
            }
        }
        if eat(&mut self.parser, &["CREATE", "TABLE"]) {
            return Ok(ShowTarget::CreateTable(self.name()?));
        }
        if eat(&mut self.parser, &["CREATE", "VIEW"]) {
            return Ok(ShowTarget::CreateView(self.name()?));
        }
        if eat(&mut self.parser, &["COLUMNS", "FROM"]) || eat(&mut self.parser, &["COLUMNS", "IN"])
        {
            return Ok(ShowTarget::Columns(self.name()?));
        }
        let word = peek_upper(&self.parser).unwrap_or_default();
        Err(self.unsupported(format!("SHOW {word}").trim()).hint(
            "SHOW knows TABLES, VIEWS, COLUMNS FROM, FUNCTIONS, CATALOGS, DATABASES, CREATE TABLE and CREATE VIEW",
        ))
    }

    fn describe(&mut self) -> Result<Statement, SqlError> {
        self.parser.advance_token();
        // A table has no more to tell than DESCRIBE tells anyway.
        if matches!(self.parser.peek_nth_token_ref(1).token, Token::Word(_)) {
            eat(&mut self.parser, &["EXTENDED"]);
        }
        for word in ["CATALOG", "DATABASE", "FUNCTION", "JOB", "MODEL"] {
            let names_something = matches!(self.parser.peek_nth_token_ref(1).token, Token::Word(_));
            if word_at(&self.parser, 0, word) && names_something {
                return Err(self.unsupported(&format!("DESCRIBE {word}")));
            }
        }
        Ok(Statement::Describe(self.name()?))
    }

    fn set(&mut self) -> Result<Statement, SqlError> {
        self.parser.advance_token();
        if matches!(
            self.parser.peek_token_ref().token,
            Token::EOF | Token::SemiColon
        ) {
            return Ok(Statement::Set(None));
        }
        let quoted = |error: SqlError| error.hint("write SET 'key' = 'value'");
        let key = string(&mut self.parser, "an option name in single quotes");
        let (key, place) = key.map_err(|error| quoted(syntax(error)))?;
        let equals = self.parser.expect_token(&Token::Eq);
        equals.map_err(|error| quoted(syntax(error)))?;
        let value = string(&mut self.parser, "a value in single quotes");
        let (value, _) = value.map_err(|error| quoted(syntax(error)))?;
        Ok(Statement::Set(Some((key, value, place))))
    }

    fn reset(&mut self) -> Result<Statement, SqlError> {
        self.parser.advance_token();
        if matches!(
            self.parser.peek_token_ref().token,
            Token::EOF | Token::SemiColon
        ) {
            return Ok(Statement::Reset(None));
        }
        let key = string(&mut self.parser, "an option name in single quotes").map_err(syntax)?;
        Ok(Statement::Reset(Some(key)))
    }

    fn use_target(&mut self) -> Result<Statement, SqlError> {
        expect(&mut self.parser, &["USE"]).map_err(syntax)?;
        if eat(&mut self.parser, &["CATALOG"]) {
            return Ok(Statement::Use(UseTarget::Catalog(self.ident()?)));
        }
        if word_at(&self.parser, 0, "MODULES") {
            return Err(self.unsupported("USE MODULES"));
        }
        Ok(Statement::Use(UseTarget::Database(self.name()?)))
    }

    fn explain(&mut self) -> Result<Statement, SqlError> {
        expect(&mut self.parser, &["EXPLAIN"]).map_err(syntax)?;
        let mut format = ExplainFormat::Text;
        if !eat(&mut self.parser, &["PLAN", "FOR"]) {
            loop {
                if eat(&mut self.parser, &["JSON_EXECUTION_PLAN"]) {
                    format = ExplainFormat::Json;
                } else if word_at(&self.parser, 0, "ESTIMATED_COST") {
                    let error = self.unsupported("EXPLAIN ESTIMATED_COST");
                    return Err(error.hint("plans are made by rules; no cost is estimated"));
                } else if !eat(&mut self.parser, &["CHANGELOG_MODE"])
                    && !eat(&mut self.parser, &["PLAN_ADVICE"])
                {
                    // Both are always part of the answer.
                    break;
                }
                let _ = self.parser.consume_token(&Token::Comma);
            }
        }
        let at = here(&self.parser);
        let statement = self.statement()?;
        match statement {
            Statement::Query(_) | Statement::Insert(_) | Statement::Inserts(_) => {
                Ok(Statement::Explain {
                    format,
                    statement: Box::new(statement),
                })
            }
            _ => Err(SqlError::parse("only queries and INSERT statements can be explained").at(at)),
        }
    }

    fn create(&mut self) -> Result<Statement, SqlError> {
        create::create(self)
    }
}

/// Ends of the table names of a statement, where hints may stand.
fn relation_ends(statement: &Statement) -> Vec<(u64, u64)> {
    let insert = |insert: &Insert| {
        let end = insert.table.span().end;
        let mut ends = names::relation_ends(&insert.query);
        ends.push((end.line, end.column));
        ends
    };
    match statement {
        Statement::Query(query) => names::relation_ends(query),
        Statement::Insert(one) => insert(one),
        Statement::Inserts(inserts) => inserts.iter().flat_map(insert).collect(),
        Statement::CreateView(view) => names::relation_ends(&view.query),
        Statement::Explain { statement, .. } => relation_ends(statement),
        _ => Vec::new(),
    }
}
