//! Small readers over sqlparser's token stream, by word rather than by its keyword list: half of
//! the words of this dialect are no keywords there.

use sqlparser::ast::Ident;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::error::{Span, SqlError};

/// Whether the `n`-th next token is this word, unquoted.
pub(super) fn word_at(parser: &Parser, n: usize, word: &str) -> bool {
    is_word(&parser.peek_nth_token_ref(n).token, word)
}

/// Whether the token is this word, unquoted.
pub(super) fn is_word(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word))
}

/// Consumes these words if they come next.
pub(super) fn eat(parser: &mut Parser, words: &[&str]) -> bool {
    let all = words
        .iter()
        .enumerate()
        .all(|(n, word)| word_at(parser, n, word));
    if all {
        words.iter().for_each(|_| parser.advance_token());
    }
    all
}

/// Consumes these words.
pub(super) fn expect(parser: &mut Parser, words: &[&str]) -> Result<(), ParserError> {
    for word in words {
        if !eat(parser, &[word]) {
            return parser.expected_ref(word, parser.peek_token_ref());
        }
    }
    Ok(())
}

/// The next token as a word in upper case, if it is an unquoted one.
pub(super) fn peek_upper(parser: &Parser) -> Option<String> {
    upper(&parser.peek_token_ref().token)
}

/// The token as a word in upper case, if it is an unquoted one.
pub(super) fn upper(token: &Token) -> Option<String> {
    match token {
        Token::Word(word) if word.quote_style.is_none() => Some(word.value.to_ascii_uppercase()),
        _ => None,
    }
}

/// A string literal and its place.
pub(super) fn string(parser: &mut Parser, what: &str) -> Result<(String, Span), ParserError> {
    let TokenWithSpan { token, span } = parser.peek_token();
    match token {
        Token::SingleQuotedString(text) | Token::UnicodeStringLiteral(text) => {
            parser.advance_token();
            Ok((text, place(span)))
        }
        _ => parser.expected_ref(what, parser.peek_token_ref()),
    }
}

/// `( ident, … )`
pub(super) fn ident_list(parser: &mut Parser) -> Result<Vec<Ident>, ParserError> {
    parser.expect_token(&Token::LParen)?;
    let idents = parser.parse_comma_separated(Parser::parse_identifier)?;
    parser.expect_token(&Token::RParen)?;
    Ok(idents)
}

/// The place of the next token.
pub(super) fn here(parser: &Parser) -> Span {
    place(parser.peek_token_ref().span)
}

/// A token's place; a token always has one, but for the end of the script, which gets line 0.
pub(super) fn place(span: sqlparser::tokenizer::Span) -> Span {
    Span {
        line: span.start.line,
        column: span.start.column,
        end_line: span.end.line,
        end_column: span.end.column,
    }
}

/// sqlparser's error as ours: it writes the position at the end of its message.
pub(super) fn syntax(error: ParserError) -> SqlError {
    match error {
        ParserError::ParserError(text) | ParserError::TokenizerError(text) => {
            let (message, position) = split_position(&text);
            let error = SqlError::parse(lower_first(
                &message
                    .replace("Expected: ", "expected ")
                    .replace(", found: ", ", found "),
            ));
            match position {
                Some((line, column)) => error.at(Span {
                    line,
                    column,
                    end_line: line,
                    end_column: column + 1,
                }),
                None => error,
            }
        }
        ParserError::RecursionLimitExceeded => {
            SqlError::parse("the statement is nested too deeply")
                .hint("split it into views, or flatten long chains of nested expressions")
        }
    }
}

fn split_position(text: &str) -> (&str, Option<(u64, u64)>) {
    let parse = |tail: &str| {
        let (line, column) = tail.split_once(", Column: ")?;
        Some((line.parse().ok()?, column.trim().parse().ok()?))
    };
    match text.rsplit_once(" at Line: ") {
        Some((message, tail)) => match parse(tail) {
            Some(position) => (message, Some(position)),
            None => (text, None),
        },
        None => (text, None),
    }
}

/// The text with its first letter small, unless it begins with a word in capitals.
pub(super) fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), chars.clone().next()) {
        (Some(first), Some(second)) if second.is_lowercase() => {
            first.to_lowercase().chain(chars).collect()
        }
        _ => text.to_owned(),
    }
}
