//! `/*+ OPTIONS('k' = 'v', …) */` after table names. sqlparser has no place for them in its AST,
//! so they are kept beside it, found again by position.

use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer, Whitespace};

use super::dialect::FlinkDialect;
use super::words::{self, is_word, place, syntax};
use crate::connector::duration_ms;
use crate::error::{Span, SqlError};

/// The table hints of a statement.
#[derive(Clone, Default, PartialEq, Debug)]
pub(crate) struct TableHints {
    pub(crate) hints: Vec<TableHint>,
    /// Lifetimes of state that SELECTs ask for.
    pub(crate) state_ttl: Vec<StateTtlHint>,
}

/// `STATE_TTL('alias' = '1 d', …)` after a SELECT.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct StateTtlHint {
    /// Where the SELECT before the hint begins: line, column.
    pub(crate) after: (u64, u64),
    /// What it says of each relation.
    pub(crate) entries: Vec<StateTtlEntry>,
}

/// How long the state of one relation of a SELECT is kept.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct StateTtlEntry {
    /// The relation's name or alias.
    pub(crate) relation: String,
    /// Where it is named.
    pub(crate) span: Span,
    /// Milliseconds; 0: for ever.
    pub(crate) ms: u64,
}

/// One table hint.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct TableHint {
    /// Where the table name before the hint ends: line, column.
    pub(crate) after: (u64, u64),
    /// The hint itself.
    pub(crate) span: Span,
    /// Options that override those of the table's WITH.
    pub(crate) options: Vec<(String, String)>,
}

impl TableHints {
    /// The hint that stands after the table name at `name` (the span of its `ObjectName`).
    pub(crate) fn for_table(&self, name: sqlparser::tokenizer::Span) -> Option<&TableHint> {
        let end = (name.end.line, name.end.column);
        self.hints.iter().find(|hint| hint.after == end)
    }

    /// What hints of the SELECT whose keyword is at `select` say of its relations.
    pub(crate) fn state_ttl(&self, select: sqlparser::tokenizer::Span) -> Vec<StateTtlEntry> {
        let start = (select.start.line, select.start.column);
        let hints = self.state_ttl.iter().filter(|hint| hint.after == start);
        hints.flat_map(|hint| hint.entries.clone()).collect()
    }

    /// The hints of the part of a script that `inside` tells.
    pub(super) fn within(&self, inside: impl Fn((u64, u64)) -> bool) -> TableHints {
        let hints = self.hints.iter().filter(|hint| inside(hint.after));
        let state_ttl = self.state_ttl.iter().filter(|hint| inside(hint.after));
        TableHints {
            hints: hints.cloned().collect(),
            state_ttl: state_ttl.cloned().collect(),
        }
    }
}

/// Hints after SELECT that only advise how a join runs: a stream has one way, so they change nothing.
const ADVICE: &[&str] = &[
    "BROADCAST",
    "MULTI_JOIN",
    "NEST_LOOP",
    "SHUFFLE_HASH",
    "SHUFFLE_MERGE",
];

/// Every hint of a script on which a result depends.
pub(super) fn collect(tokens: &[TokenWithSpan]) -> Result<TableHints, SqlError> {
    let mut hints = Vec::new();
    let mut state_ttl = Vec::new();
    let mut before: Option<&TokenWithSpan> = None;
    for token in tokens {
        let Token::Whitespace(space) = &token.token else {
            before = Some(token);
            continue;
        };
        let Whitespace::MultiLineComment(text) = space else {
            continue;
        };
        let Some(text) = text.strip_prefix('+') else {
            continue;
        };
        match before {
            Some(before) if is_word(&before.token, "SELECT") => {
                let entries =
                    select_hint(text, token.span).map_err(|error| error.at(place(token.span)))?;
                let start = before.span.start;
                state_ttl.push(StateTtlHint {
                    after: (start.line, start.column),
                    entries,
                });
            }
            Some(TokenWithSpan {
                token: Token::Word(_),
                span,
            }) => hints.push(TableHint {
                after: (span.end.line, span.end.column),
                span: place(token.span),
                options: options(text).map_err(|error| SqlError {
                    span: Some(place(token.span)),
                    ..error
                })?,
            }),
            _ => {
                return Err(SqlError::parse(
                    "a hint must stand after a table name or after SELECT",
                )
                .at(place(token.span)));
            }
        }
    }
    state_ttl.retain(|hint: &StateTtlHint| !hint.entries.is_empty());
    Ok(TableHints { hints, state_ttl })
}

/// What a hint after SELECT says of state. Refuses hints that would have to change something else.
fn select_hint(
    text: &str,
    comment: sqlparser::tokenizer::Span,
) -> Result<Vec<StateTtlEntry>, SqlError> {
    let tokens = Tokenizer::new(&FlinkDialect, text)
        .tokenize_with_location()
        .map_err(|error| SqlError::parse(format!("bad hint: {}", error.message)))?;
    // Positions are those of the script: the text stands behind `/*+`.
    let moved = tokens.into_iter().map(|token| TokenWithSpan {
        span: sqlparser::tokenizer::Span {
            start: in_script(token.span.start, comment.start),
            end: in_script(token.span.end, comment.start),
        },
        ..token
    });
    let mut parser = Parser::new(&FlinkDialect).with_tokens_with_locations(moved.collect());
    let mut entries = Vec::new();
    loop {
        let token = parser.next_token();
        match &token.token {
            Token::EOF => return Ok(entries),
            Token::Comma => {}
            Token::Word(_) if is_word(&token.token, "STATE_TTL") => {
                state_ttl_entries(&mut parser, &mut entries)?;
            }
            name @ Token::Word(_) if ADVICE.iter().any(|known| is_word(name, known)) => {
                skip_arguments(&mut parser)?;
            }
            name @ Token::Word(_) if is_word(name, "LOOKUP") => {
                return Err(SqlError::parse("the hint LOOKUP is not supported").hint(
                    "options of the table say how it is looked up, also after its name: \
                     /*+ OPTIONS('lookup.…' = '…') */",
                ));
            }
            other => {
                let known = ADVICE.join(", ");
                return Err(
                    SqlError::parse(format!("the hint {other} is not supported"))
                        .hint(format!("hints after SELECT are STATE_TTL, {known}")),
                );
            }
        }
    }
}

fn in_script(
    at: sqlparser::tokenizer::Location,
    comment: sqlparser::tokenizer::Location,
) -> sqlparser::tokenizer::Location {
    let column = match at.line {
        1 => comment.column + "/*+".len() as u64 + at.column - 1,
        _ => at.column,
    };
    sqlparser::tokenizer::Location {
        line: comment.line + at.line - 1,
        column,
    }
}

/// `('alias' = '1 d', …)`
fn state_ttl_entries(
    parser: &mut Parser,
    entries: &mut Vec<StateTtlEntry>,
) -> Result<(), SqlError> {
    parser.expect_token(&Token::LParen).map_err(syntax)?;
    loop {
        let named = words::string(parser, "the name of a table in single quotes");
        let (relation, span) = named.map_err(syntax)?;
        parser.expect_token(&Token::Eq).map_err(syntax)?;
        let given = words::string(parser, "a duration in single quotes");
        let (duration, at) = given.map_err(syntax)?;
        let Some(ms) = duration_ms(&duration) else {
            let message = format!("'{duration}' is no duration");
            return Err(SqlError::parse(message)
                .at(at)
                .hint("write such as '1 d', '12 h' or '30 min'; '0' is for ever"));
        };
        if entries.iter().any(|known| known.relation == relation) {
            let message = format!("STATE_TTL names '{relation}' twice");
            return Err(SqlError::parse(message).at(span));
        }
        entries.push(StateTtlEntry { relation, span, ms });
        if !parser.consume_token(&Token::Comma) {
            parser.expect_token(&Token::RParen).map_err(syntax)?;
            return Ok(());
        }
    }
}

fn skip_arguments(parser: &mut Parser) -> Result<(), SqlError> {
    if !parser.consume_token(&Token::LParen) {
        return Ok(());
    }
    let mut depth = 1;
    while depth > 0 {
        match parser.next_token().token {
            Token::LParen => depth += 1,
            Token::RParen => depth -= 1,
            Token::EOF => return Err(SqlError::parse("the hint has no closing parenthesis")),
            _ => {}
        }
    }
    Ok(())
}

/// `OPTIONS('k' = 'v', …)`, several of them with commas between.
fn options(text: &str) -> Result<Vec<(String, String)>, SqlError> {
    let tokens = Tokenizer::new(&FlinkDialect, text)
        .tokenize()
        .map_err(|error| SqlError::parse(format!("bad table hint: {}", error.message)))?;
    let mut parser = Parser::new(&FlinkDialect).with_tokens(tokens);
    let mut options = Vec::new();
    loop {
        if !words::eat(&mut parser, &["OPTIONS"]) {
            let name = parser.peek_token_ref().token.to_string();
            return Err(SqlError::parse(format!("unknown table hint {name}"))
                .hint("the one table hint is /*+ OPTIONS('key' = 'value') */"));
        }
        option_list(&mut parser, &mut options).map_err(syntax)?;
        if parser.peek_token_ref().token == Token::EOF {
            return Ok(options);
        }
        let _ = parser.consume_token(&Token::Comma);
    }
}

fn option_list(
    parser: &mut Parser,
    options: &mut Vec<(String, String)>,
) -> Result<(), sqlparser::parser::ParserError> {
    parser.expect_token(&Token::LParen)?;
    loop {
        let (key, _) = words::string(parser, "an option name in single quotes")?;
        parser.expect_token(&Token::Eq)?;
        let (value, _) = words::string(parser, "an option value in single quotes")?;
        options.push((key, value));
        if !parser.consume_token(&Token::Comma) {
            parser.expect_token(&Token::RParen)?;
            return Ok(());
        }
    }
}
