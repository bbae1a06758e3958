//! Types inside SQL. sqlparser knows neither ROW<…> nor nested NOT NULL nor TIMESTAMP_LTZ's long
//! form, so the tokens of a type are handed to the parser of Flink's notation.

use proto::types::DataType;
use sqlparser::ast::{self, CastKind, Expr, Ident, ObjectName};
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::words::{self, is_word, place};
use crate::error::Span;

/// Words that end a column's type.
const AFTER_TYPE: &[&str] = &[
    "AS",
    "CHECK",
    "COMMENT",
    "CONSTRAINT",
    "DEFAULT",
    "GENERATED",
    "METADATA",
    "PRIMARY",
    "REFERENCES",
    "UNIQUE",
    "VIRTUAL",
    "ON",
    "ERROR",
    "EMPTY",
    "WRAPPER",
    "WITHOUT",
    "WITH",
];

/// How deep types may nest.
const NESTING: i32 = 50;

/// Reads a type up to a comma, a closing parenthesis or a word that cannot belong to it.
pub(super) fn data_type(parser: &mut Parser) -> Result<(DataType, Span), ParserError> {
    let mut text = String::new();
    // Byte offset in `text` of every token, to find the one that an error is about.
    let mut tokens: Vec<(usize, TokenWithSpan)> = Vec::new();
    let mut depth = 0i32;
    loop {
        let token = parser.peek_token_ref();
        match &token.token {
            Token::LParen | Token::Lt => depth += 1,
            Token::Gt => depth -= 1,
            Token::ShiftRight => depth -= 2,
            Token::RParen if depth > 0 => depth -= 1,
            Token::Comma if depth > 0 => {}
            Token::Word(_) if depth > 0 || !ends_type(parser, &tokens) => {}
            Token::Number(..) | Token::Neq if !tokens.is_empty() => {}
            // The comment of a field of a ROW says nothing about the type.
            Token::SingleQuotedString(_) if depth > 0 && tokens.len() > 2 => {
                parser.advance_token();
                continue;
            }
            _ => break,
        }
        if depth < 0 {
            break;
        }
        if depth > NESTING {
            let at = parser.peek_token_ref().span.start;
            return Err(ParserError::ParserError(format!(
                "the type is nested too deeply{at}"
            )));
        }
        let token = parser.next_token();
        tokens.push((text.len(), token.clone()));
        text.push_str(&token.token.to_string());
        // Without a length these are unbounded in SQL, unlike in the notation of types.
        let varying = ["VARCHAR", "VARBINARY", "VARYING"]
            .iter()
            .any(|word| is_word(&token.token, word));
        if varying && parser.peek_token_ref().token != Token::LParen {
            text.push_str("(2147483647)");
        }
        text.push(' ');
    }
    let Some((_, first)) = tokens.first() else {
        return parser.expected_ref("a type", parser.peek_token_ref());
    };
    let mut span = place(first.span);
    if let Some((_, last)) = tokens.last() {
        (span.end_line, span.end_column) = (last.span.end.line, last.span.end.column);
    }
    match text.parse::<DataType>() {
        Ok(data_type) => Ok((data_type, span)),
        Err(error) => {
            let behind = parser.peek_token();
            let at = tokens.iter().rfind(|(offset, _)| *offset <= error.offset);
            let at = match at {
                Some((_, token)) if error.offset < text.trim_end().len() => token,
                _ => &behind,
            };
            Err(ParserError::ParserError(format!(
                "{}{}",
                error.message, at.span.start
            )))
        }
    }
}

/// Whether the next word, outside all brackets, cannot continue the type read so far.
fn ends_type(parser: &Parser, read: &[(usize, TokenWithSpan)]) -> bool {
    let next = &parser.peek_token_ref().token;
    // `TIMESTAMP WITH LOCAL TIME ZONE` and its like.
    if is_word(next, "WITH") || is_word(next, "WITHOUT") {
        let zone = ["LOCAL", "TIME"]
            .iter()
            .any(|word| words::word_at(parser, 1, word));
        return !zone || read.is_empty();
    }
    // `RETURNING INT NULL ON EMPTY`
    if is_word(next, "NULL") && words::word_at(parser, 1, "ON") {
        return true;
    }
    AFTER_TYPE.iter().any(|word| is_word(next, word))
}

/// A type where the AST wants one.
pub(super) fn ast_type(data_type: &DataType, span: sqlparser::tokenizer::Span) -> ast::DataType {
    let ident = Ident::with_span(span, data_type.to_string());
    ast::DataType::Custom(ObjectName::from(vec![ident]), Vec::new())
}

/// `CAST(expr AS type)`, `TRY_CAST(expr AS type)`; the next word says which.
pub(super) fn cast(parser: &mut Parser) -> Result<Expr, ParserError> {
    let kind = if words::eat(parser, &["TRY_CAST"]) {
        CastKind::TryCast
    } else {
        words::expect(parser, &["CAST"])?;
        CastKind::Cast
    };
    parser.expect_token(&Token::LParen)?;
    let expr = parser.parse_expr()?;
    words::expect(parser, &["AS"])?;
    let start = parser.peek_token_ref().span;
    let (data_type, _) = data_type(parser)?;
    parser.expect_token(&Token::RParen)?;
    Ok(Expr::Cast {
        kind,
        expr: Box::new(expr),
        data_type: ast_type(&data_type, start),
        array: false,
        format: None,
    })
}
