//! `/*+ OPTIONS('k' = 'v', …) */` after table names. sqlparser has no place for them in its AST,
//! so they are kept beside it, found again by position.

use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer, Whitespace};

use super::dialect::FlinkDialect;
use super::words::{self, is_word, place, syntax};
use crate::error::{Span, SqlError};

/// The table hints of a statement.
#[derive(Clone, Default, PartialEq, Debug)]
pub(crate) struct TableHints {
    pub(crate) hints: Vec<TableHint>,
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
}

/// Hints after SELECT that only advise how a join runs: a stream has one way, so they change nothing.
const ADVICE: &[&str] = &[
    "BROADCAST",
    "MULTI_JOIN",
    "NEST_LOOP",
    "SHUFFLE_HASH",
    "SHUFFLE_MERGE",
];

/// Every table hint of a script. Hints after SELECT are not among them: no result depends on those
/// that are accepted.
pub(super) fn collect(tokens: &[TokenWithSpan]) -> Result<TableHints, SqlError> {
    let mut hints = Vec::new();
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
                advice(text).map_err(|error| error.at(place(token.span)))?;
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
    Ok(TableHints { hints })
}

/// Refuses hints after SELECT that would have to change something.
fn advice(text: &str) -> Result<(), SqlError> {
    let tokens = Tokenizer::new(&FlinkDialect, text)
        .tokenize()
        .map_err(|error| SqlError::parse(format!("bad hint: {}", error.message)))?;
    let mut depth = 0usize;
    for token in &tokens {
        match token {
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            Token::Word(_) if depth == 0 && !ADVICE.iter().any(|name| is_word(token, name)) => {
                let error = SqlError::parse(format!("the hint {token} is not supported"));
                return Err(if is_word(token, "STATE_TTL") {
                    error.hint("state does not expire by age yet")
                } else {
                    error.hint(format!("hints after SELECT are {}", ADVICE.join(", ")))
                });
            }
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
