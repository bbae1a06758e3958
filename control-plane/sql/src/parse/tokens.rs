//! The characters of a script as tokens; what sqlparser would take and Flink does not is refused
//! here.

use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer, Word};

use super::chains;
use super::dialect::FlinkDialect;
use super::words::{is_word, lower_first, place};
use crate::error::{Span, SqlError};

/// Symbol whose definition is MATCH_RECOGNIZE's WITHIN interval.
const WITHIN_SYMBOL: &str = "$WITHIN";

/// Tokens of a script, white space and comments included.
pub(super) fn tokenize(sql: &str) -> Result<Vec<TokenWithSpan>, SqlError> {
    let tokens = Tokenizer::new(&FlinkDialect, sql)
        .tokenize_with_location()
        .map_err(|error| {
            let (line, column) = (error.location.line, error.location.column);
            SqlError::parse(lower_first(&error.message)).at(Span {
                line,
                column,
                end_line: line,
                end_column: column + 1,
            })
        })?;
    tokens.iter().try_for_each(check)?;
    chains::check(&tokens)?;
    Ok(move_within(tokens))
}

fn check(token: &TokenWithSpan) -> Result<(), SqlError> {
    let refuse = |message: &str, hint: &str| {
        Err(SqlError::parse(message.to_owned())
            .at(place(token.span))
            .hint(hint))
    };
    match &token.token {
        Token::Word(Word { quote_style: None | Some('`'), .. })
        | Token::EOF
        | Token::Number(_, false)
        | Token::SingleQuotedString(_)
        | Token::UnicodeStringLiteral(_)
        | Token::HexStringLiteral(_)
        | Token::Comma
        | Token::Whitespace(_)
        | Token::Eq
        | Token::Neq
        | Token::Lt
        | Token::Gt
        | Token::LtEq
        | Token::GtEq
        | Token::Plus
        | Token::Minus
        | Token::Mul
        | Token::Div
        | Token::Mod
        | Token::StringConcat
        | Token::LParen
        | Token::RParen
        | Token::Period
        | Token::SemiColon
        | Token::LBracket
        | Token::RBracket
        | Token::LBrace
        | Token::RBrace
        | Token::RArrow
        // Inside types `ROW<a ARRAY<INT>>`; no operator of the language.
        | Token::ShiftRight
        // Inside patterns of MATCH_RECOGNIZE.
        | Token::Pipe
        | Token::Caret
        | Token::Placeholder(_) => Ok(()),
        Token::DoubleQuotedString(_) => refuse(
            "double quotes are not part of the language",
            "write strings as 'text' and names as `name`",
        ),
        Token::DoubleColon => refuse("`::` is not part of the language", "write CAST(x AS type)"),
        Token::DoubleEq => refuse("`==` is not part of the language", "write `=`"),
        Token::EscapedStringLiteral(_) => refuse(
            "strings with E'…' are not part of the language",
            "write U&'\\000a' for special characters",
        ),
        other => refuse(&format!("unexpected `{other}`"), "it is not part of Flink SQL"),
    }
}

/// Moves `PATTERN (…) WITHIN interval DEFINE …` to where sqlparser can read it: a definition of
/// the symbol [`WITHIN_SYMBOL`], the first one.
fn move_within(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut moved = Vec::with_capacity(tokens.len() + 4);
    let mut rest = tokens.as_slice();
    while let Some((token, behind)) = rest.split_first() {
        let Some(define) = define_after_within(token, behind) else {
            moved.push(token.clone());
            rest = behind;
            continue;
        };
        let (interval, tail) = behind.split_at(define);
        let at = |new: Token| TokenWithSpan::new(new, token.span);
        moved.push(at(Token::make_keyword("DEFINE")));
        moved.push(at(Token::make_word(WITHIN_SYMBOL, Some('`'))));
        moved.push(at(Token::make_keyword("AS")));
        moved.extend_from_slice(interval);
        moved.push(at(Token::Comma));
        rest = tail.get(1..).unwrap_or_default();
    }
    moved
}

/// Where DEFINE stands behind `WITHIN INTERVAL`, if that is what begins here.
fn define_after_within(token: &TokenWithSpan, behind: &[TokenWithSpan]) -> Option<usize> {
    if !is_word(&token.token, "WITHIN") {
        return None;
    }
    let next = behind
        .iter()
        .find(|token| !matches!(token.token, Token::Whitespace(_)))?;
    if !is_word(&next.token, "INTERVAL") {
        return None;
    }
    behind
        .iter()
        .position(|token| is_word(&token.token, "DEFINE"))
}
