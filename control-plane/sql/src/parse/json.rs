//! SQL/JSON functions, whose arguments have clauses: they become named arguments of a plain call.

use sqlparser::ast::{CastKind, Spanned};
use sqlparser::ast::{
    DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgOperator,
    FunctionArgumentList, FunctionArguments, Ident, ObjectName, Value,
};
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Span, Token};

use super::types;
use super::words::{eat, expect, word_at};

/// Functions that this file parses.
const FUNCTIONS: &[&str] = &[
    "JSON_ARRAY",
    "JSON_ARRAYAGG",
    "JSON_EXISTS",
    "JSON_OBJECT",
    "JSON_OBJECTAGG",
    "JSON_QUERY",
    "JSON_VALUE",
];

/// Whether a call of such a function comes next.
pub(super) fn is_next(parser: &Parser) -> bool {
    parser.peek_nth_token_ref(1).token == Token::LParen
        && FUNCTIONS.iter().any(|name| word_at(parser, 0, name))
}

/// The call that comes next.
pub(super) fn function(parser: &mut Parser) -> Result<Expr, ParserError> {
    let name = parser.parse_identifier()?;
    parser.expect_token(&Token::LParen)?;
    let mut args = Vec::new();
    let upper = name.value.to_ascii_uppercase();
    match upper.as_str() {
        "JSON_OBJECT" | "JSON_OBJECTAGG" => pairs(parser, &mut args)?,
        "JSON_ARRAY" | "JSON_ARRAYAGG" => elements(parser, &mut args)?,
        _ => path(parser, &upper, &mut args)?,
    }
    parser.expect_token(&Token::RParen)?;
    let filter = if upper.ends_with("AGG") && eat(parser, &["FILTER"]) {
        parser.expect_token(&Token::LParen)?;
        expect(parser, &["WHERE"])?;
        let condition = parser.parse_expr()?;
        parser.expect_token(&Token::RParen)?;
        Some(Box::new(condition))
    } else {
        None
    };
    Ok(call(name, args, filter))
}

/// A call with these arguments.
pub(super) fn call(name: Ident, args: Vec<FunctionArg>, filter: Option<Box<Expr>>) -> Expr {
    Expr::Function(Function {
        name: ObjectName::from(vec![name]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None::<DuplicateTreatment>,
            args,
            clauses: Vec::new(),
        }),
        filter,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

/// A positional argument.
pub(super) fn positional(expr: Expr) -> FunctionArg {
    FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))
}

fn named(name: &str, expr: Expr) -> FunctionArg {
    FunctionArg::Named {
        name: Ident::with_span(expr.span(), name),
        arg: FunctionArgExpr::Expr(expr),
        operator: FunctionArgOperator::RightArrow,
    }
}

fn text(value: &str, span: Span) -> Expr {
    Expr::Value(Value::SingleQuotedString(value.to_owned()).with_span(span))
}

/// `[KEY] k VALUE v, … [{NULL | ABSENT} ON NULL]`
fn pairs(parser: &mut Parser, args: &mut Vec<FunctionArg>) -> Result<(), ParserError> {
    if parser.peek_token_ref().token == Token::RParen {
        return Ok(());
    }
    while !on_null(parser, args) {
        if word_at(parser, 0, "KEY") && !word_at(parser, 1, "VALUE") {
            parser.advance_token();
        }
        args.push(positional(parser.parse_expr()?));
        expect(parser, &["VALUE"])?;
        args.push(positional(parser.parse_expr()?));
        if !parser.consume_token(&Token::Comma) {
            on_null(parser, args);
            break;
        }
    }
    Ok(())
}

/// `v, … [{NULL | ABSENT} ON NULL]`
fn elements(parser: &mut Parser, args: &mut Vec<FunctionArg>) -> Result<(), ParserError> {
    if parser.peek_token_ref().token == Token::RParen {
        return Ok(());
    }
    while !on_null(parser, args) {
        args.push(positional(parser.parse_expr()?));
        if !parser.consume_token(&Token::Comma) {
            on_null(parser, args);
            break;
        }
    }
    Ok(())
}

fn on_null(parser: &mut Parser, args: &mut Vec<FunctionArg>) -> bool {
    let span = parser.peek_token_ref().span;
    let found = ["NULL", "ABSENT"]
        .into_iter()
        .find(|word| eat(parser, &[word, "ON", "NULL"]));
    if let Some(word) = found {
        args.push(named("ON_NULL", text(word, span)));
    }
    found.is_some()
}

/// `input, path [RETURNING type] [wrapper] [… ON EMPTY] [… ON ERROR]`
fn path(
    parser: &mut Parser,
    function: &str,
    args: &mut Vec<FunctionArg>,
) -> Result<(), ParserError> {
    args.push(positional(parser.parse_expr()?));
    parser.expect_token(&Token::Comma)?;
    args.push(positional(parser.parse_expr()?));
    if function != "JSON_EXISTS" && eat(parser, &["RETURNING"]) {
        let span = parser.peek_token_ref().span;
        let (data_type, _) = types::data_type(parser)?;
        let cast = Expr::Cast {
            kind: CastKind::Cast,
            expr: Box::new(Expr::Value(Value::Null.with_span(span))),
            data_type: types::ast_type(&data_type, span),
            array: false,
            format: None,
        };
        args.push(named("RETURNING", cast));
    }
    if function == "JSON_QUERY" {
        wrapper(parser, args);
    }
    for _ in 0..2 {
        behaviour(parser, function, args)?;
    }
    Ok(())
}

fn wrapper(parser: &mut Parser, args: &mut Vec<FunctionArg>) {
    const FORMS: &[(&[&str], &str)] = &[
        (&["WITHOUT", "ARRAY", "WRAPPER"], "WITHOUT"),
        (&["WITHOUT", "WRAPPER"], "WITHOUT"),
        (
            &["WITH", "CONDITIONAL", "ARRAY", "WRAPPER"],
            "WITH CONDITIONAL",
        ),
        (&["WITH", "CONDITIONAL", "WRAPPER"], "WITH CONDITIONAL"),
        (
            &["WITH", "UNCONDITIONAL", "ARRAY", "WRAPPER"],
            "WITH UNCONDITIONAL",
        ),
        (&["WITH", "UNCONDITIONAL", "WRAPPER"], "WITH UNCONDITIONAL"),
        (&["WITH", "ARRAY", "WRAPPER"], "WITH UNCONDITIONAL"),
        (&["WITH", "WRAPPER"], "WITH UNCONDITIONAL"),
    ];
    let span = parser.peek_token_ref().span;
    if let Some((_, form)) = FORMS.iter().find(|(words, _)| eat(parser, words)) {
        args.push(named("WRAPPER", text(form, span)));
    }
}

/// One `… ON EMPTY` or `… ON ERROR`.
fn behaviour(
    parser: &mut Parser,
    function: &str,
    args: &mut Vec<FunctionArg>,
) -> Result<(), ParserError> {
    let forms: &[&[&str]] = match function {
        "JSON_EXISTS" => &[&["TRUE"], &["FALSE"], &["UNKNOWN"], &["ERROR"]],
        "JSON_QUERY" => &[
            &["NULL"],
            &["ERROR"],
            &["EMPTY", "ARRAY"],
            &["EMPTY", "OBJECT"],
        ],
        _ => &[&["NULL"], &["ERROR"]],
    };
    let span = parser.peek_token_ref().span;
    let (name, value) = if function == "JSON_VALUE" && eat(parser, &["DEFAULT"]) {
        ("DEFAULT_ON", parser.parse_expr()?)
    } else if let Some(form) = forms.iter().find(|form| eat(parser, form)) {
        ("ON", text(&form.join(" "), span))
    } else {
        return Ok(());
    };
    expect(parser, &["ON"])?;
    let event = if function != "JSON_EXISTS" && eat(parser, &["EMPTY"]) {
        "EMPTY"
    } else {
        expect(parser, &["ERROR"])?;
        "ERROR"
    };
    args.push(named(&format!("{name}_{event}"), value));
    Ok(())
}
