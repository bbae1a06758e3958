//! How long a chain of operators may be. `a + b + c …` nests as deep as it is long in the AST, and
//! whoever walks that does so by recursion: the limit is what keeps the stack.

use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::words::{place, upper};
use crate::error::SqlError;

/// Operators in one expression, outside of its parentheses.
const OPERATORS: usize = 500;
/// Joins and set operations in one query.
const RELATIONS: usize = 200;

/// Counts of one level of parentheses.
#[derive(Clone, Copy, Default)]
struct Level {
    operators: usize,
    relations: usize,
}

/// Refuses chains that are too long.
pub(super) fn check(tokens: &[TokenWithSpan]) -> Result<(), SqlError> {
    let mut outer: Vec<Level> = Vec::new();
    let mut level = Level::default();
    for token in tokens {
        match &token.token {
            Token::LParen | Token::LBracket => outer.push(std::mem::take(&mut level)),
            Token::RParen | Token::RBracket => {
                let inner = level;
                level = outer.pop().unwrap_or_default();
                // What follows nests around the deeper of both.
                level.operators = level.operators.max(inner.operators);
            }
            Token::SemiColon => {
                outer.clear();
                level = Level::default();
            }
            Token::Comma => level.operators = 0,
            Token::Plus
            | Token::Minus
            | Token::Mul
            | Token::Div
            | Token::Mod
            | Token::StringConcat
            | Token::Eq
            | Token::Period => level.operators += 1,
            Token::Word(_) => word(&token.token, &mut level),
            _ => {}
        }
        if level.operators > OPERATORS || level.relations > RELATIONS {
            return Err(SqlError::parse("the statement is nested too deeply")
                .at(place(token.span))
                .hint("split long chains with parentheses, IN lists or views"));
        }
    }
    Ok(())
}

fn word(token: &Token, level: &mut Level) {
    match upper(token).as_deref() {
        Some("AND" | "OR" | "NOT" | "IS" | "BETWEEN" | "LIKE") => level.operators += 1,
        Some("SELECT" | "FROM" | "WHERE" | "ON" | "HAVING" | "WHEN" | "THEN" | "ELSE") => {
            level.operators = 0;
        }
        Some("JOIN" | "UNION" | "INTERSECT" | "EXCEPT" | "MINUS") => level.relations += 1,
        _ => {}
    }
}
