//! The Flink dialect as sqlparser's hooks. Where a construct has no place in sqlparser's AST it
//! becomes a plain function call; the binder knows these calls.

use std::any::TypeId;

use sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName,
    TrimWhereField, UnaryOperator, Value,
};
use sqlparser::dialect::{Dialect, GenericDialect, Precedence};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;

use super::words::{eat, expect, word_at};
use super::{json, types};

/// Name of the call that stands for `TABLE t`; no function has it, for it is a reserved word.
const TABLE_ARGUMENT: &str = "TABLE";

/// Words that never begin an expression; sqlparser would take some for a column.
const NEVER_FIRST: &[&str] = &[
    "AND",
    "AS",
    "BETWEEN",
    "BY",
    "CROSS",
    "ELSE",
    "END",
    "EXCEPT",
    "FROM",
    "GROUP",
    "HAVING",
    "IN",
    "INNER",
    "INTERSECT",
    "JOIN",
    "LIKE",
    "LIMIT",
    "ON",
    "OR",
    "ORDER",
    "THEN",
    "UNION",
    "WHEN",
    "WHERE",
];

/// Comparisons are looser than LIKE, BETWEEN and IN, so that `a LIKE b = TRUE` asks about the LIKE.
const COMPARISON_PRECEDENCE: u8 = 18;
const RANGE_PRECEDENCE: u8 = 19;

/// Of IS [NOT] DISTINCT FROM, a binary operator; the other IS are looser than comparisons.
const DISTINCT_PRECEDENCE: u8 = 20;

/// sqlparser's dialect for Flink SQL.
#[derive(Debug)]
pub(super) struct FlinkDialect;

impl Dialect for FlinkDialect {
    /// Some of sqlparser's grammar asks for a dialect by type rather than by hook.
    fn dialect(&self) -> TypeId {
        TypeId::of::<GenericDialect>()
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '`'
    }

    fn identifier_quote_style(&self, _identifier: &str) -> Option<char> {
        Some('`')
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        ch.is_alphabetic() || ch == '_'
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        ch.is_alphanumeric() || ch == '_' || ch == '$'
    }

    fn supports_unicode_string_literal(&self) -> bool {
        true
    }

    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }

    fn supports_window_function_null_treatment_arg(&self) -> bool {
        true
    }

    fn supports_group_by_expr(&self) -> bool {
        true
    }

    fn supports_match_recognize(&self) -> bool {
        true
    }

    fn supports_table_versioning(&self) -> bool {
        true
    }

    fn supports_comment_optimizer_hint(&self) -> bool {
        true
    }

    fn supports_parens_around_table_factor(&self) -> bool {
        true
    }

    fn allow_extract_custom(&self) -> bool {
        true
    }

    fn prec_value(&self, precedence: Precedence) -> u8 {
        match precedence {
            Precedence::Eq => COMPARISON_PRECEDENCE,
            Precedence::Like | Precedence::Between => RANGE_PRECEDENCE,
            other => GenericDialect {}.prec_value(other),
        }
    }

    fn get_next_precedence(&self, parser: &Parser) -> Option<Result<u8, ParserError>> {
        is_distinct(parser)
            .is_some()
            .then_some(Ok(DISTINCT_PRECEDENCE))
    }

    /// After a failure inside of one of these, sqlparser would otherwise take the word for a column
    /// and report something else.
    fn is_reserved_for_identifier(&self, keyword: Keyword) -> bool {
        use Keyword::{CASE, CAST, EXISTS, EXTRACT, INTERVAL, NOT, OVERLAY, POSITION, TRIM};
        [
            CASE, CAST, EXISTS, EXTRACT, INTERVAL, NOT, OVERLAY, POSITION, TRIM,
        ]
        .contains(&keyword)
    }

    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        if NEVER_FIRST.iter().any(|word| word_at(parser, 0, word)) {
            return Some(parser.expected_ref("an expression", parser.peek_token_ref()));
        }
        let next = &parser.peek_nth_token_ref(1).token;
        if *next == Token::LParen {
            if word_at(parser, 0, "CAST") || word_at(parser, 0, "TRY_CAST") {
                return Some(types::cast(parser));
            }
            if word_at(parser, 0, "TRIM") && word_at(parser, 3, "FROM") {
                return trim_blanks(parser);
            }
            return json::is_next(parser).then(|| json::function(parser));
        }
        if matches!(next, Token::Word(_)) && word_at(parser, 0, "TABLE") {
            return Some(table_argument(parser));
        }
        (*next == Token::LBracket && word_at(parser, 0, "MAP")).then(|| map(parser))
    }

    fn parse_infix(
        &self,
        parser: &mut Parser,
        expr: &Expr,
        _precedence: u8,
    ) -> Option<Result<Expr, ParserError>> {
        let negated = usize::from(word_at(parser, 1, "NOT"));
        if word_at(parser, 0, "IS") && word_at(parser, 1 + negated, "JSON") {
            return Some(Ok(is_json(parser, expr.clone(), negated == 1)));
        }
        if let Some(negated) = is_distinct(parser) {
            return Some(distinct(parser, expr.clone(), negated));
        }
        let negated = usize::from(word_at(parser, 0, "NOT"));
        let symmetric = word_at(parser, negated, "BETWEEN")
            && ["SYMMETRIC", "ASYMMETRIC"]
                .iter()
                .any(|word| word_at(parser, negated + 1, word));
        symmetric.then(|| between(self, parser, expr.clone(), negated == 1))
    }
}

/// `TRIM(LEADING | TRAILING | BOTH FROM text)`, which sqlparser wants to name the characters.
fn trim_blanks(parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
    let places = [
        ("LEADING", TrimWhereField::Leading),
        ("TRAILING", TrimWhereField::Trailing),
        ("BOTH", TrimWhereField::Both),
    ];
    let named = places.iter().find(|(word, _)| word_at(parser, 2, word));
    let (_, place) = *named?;
    // TRIM ( LEADING FROM
    (0..4).for_each(|_| parser.advance_token());
    Some(trim_rest(parser, place))
}

fn trim_rest(parser: &mut Parser, place: TrimWhereField) -> Result<Expr, ParserError> {
    let expr = parser.parse_expr()?;
    parser.expect_token(&Token::RParen)?;
    Ok(Expr::Trim {
        expr: Box::new(expr),
        trim_where: Some(place),
        trim_what: None,
        trim_characters: None,
    })
}

/// `TABLE t [PARTITION BY k | (k, …)]`: the call `TABLE(t)`, alone or in a tuple with the keys.
fn table_argument(parser: &mut Parser) -> Result<Expr, ParserError> {
    let keyword = Ident::with_span(parser.next_token().span, TABLE_ARGUMENT);
    let name = parser.parse_object_name(false)?;
    let parts = name
        .0
        .iter()
        .filter_map(|part| part.as_ident().cloned())
        .collect();
    let name = json::positional(Expr::CompoundIdentifier(parts));
    let table = json::call(keyword, vec![name], None);
    if !eat(parser, &["PARTITION", "BY"]) {
        if word_at(parser, 0, "ORDER") {
            let at = parser.peek_token_ref().span.start;
            let message = "ORDER BY of a table argument is not supported";
            return Err(ParserError::ParserError(format!("{message}{at}")));
        }
        return Ok(table);
    }
    let mut tuple = vec![table];
    if parser.consume_token(&Token::LParen) {
        tuple.extend(parser.parse_comma_separated(Parser::parse_expr)?);
        parser.expect_token(&Token::RParen)?;
    } else {
        tuple.push(parser.parse_expr()?);
    }
    // More keys without parentheses: a name that no call and no named argument follows.
    while parser.peek_token_ref().token == Token::Comma
        && matches!(parser.peek_nth_token_ref(1).token, Token::Word(_))
        && matches!(
            parser.peek_nth_token_ref(2).token,
            Token::Comma | Token::Period
        )
    {
        parser.advance_token();
        tuple.push(parser.parse_expr()?);
    }
    Ok(Expr::Tuple(tuple))
}

/// The table that an argument names, if it is `TABLE t`.
pub(crate) fn named_by_argument(expr: &Expr) -> Option<ObjectName> {
    let Expr::Function(Function {
        name,
        args: FunctionArguments::List(list),
        ..
    }) = expr
    else {
        return None;
    };
    let [keyword] = name.0.as_slice() else {
        return None;
    };
    match list.args.as_slice() {
        [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::CompoundIdentifier(parts)))]
            if keyword
                .as_ident()
                .is_some_and(|ident| ident.value == TABLE_ARGUMENT) =>
        {
            Some(ObjectName::from(parts.clone()))
        }
        _ => None,
    }
}

/// `MAP[k, v, …]`
fn map(parser: &mut Parser) -> Result<Expr, ParserError> {
    let name = parser.parse_identifier()?;
    parser.expect_token(&Token::LBracket)?;
    let mut args = Vec::new();
    if parser.peek_token_ref().token != Token::RBracket {
        let exprs = parser.parse_comma_separated(Parser::parse_expr)?;
        args.extend(exprs.into_iter().map(json::positional));
    }
    parser.expect_token(&Token::RBracket)?;
    Ok(json::call(name, args, None))
}

/// Whether IS [NOT] DISTINCT FROM comes next, and if so, with NOT.
fn is_distinct(parser: &Parser) -> Option<bool> {
    let negated = word_at(parser, 1, "NOT");
    let at = 1 + usize::from(negated);
    let found = word_at(parser, 0, "IS")
        && word_at(parser, at, "DISTINCT")
        && word_at(parser, at + 1, "FROM");
    found.then_some(negated)
}

/// `x IS [NOT] DISTINCT FROM y`. sqlparser would read all that follows as `y`, AND and OR too.
fn distinct(parser: &mut Parser, left: Expr, negated: bool) -> Result<Expr, ParserError> {
    expect(parser, &["IS"])?;
    eat(parser, &["NOT"]);
    expect(parser, &["DISTINCT", "FROM"])?;
    let right = Box::new(parser.parse_subexpr(DISTINCT_PRECEDENCE)?);
    let left = Box::new(left);
    Ok(match negated {
        true => Expr::IsNotDistinctFrom(left, right),
        false => Expr::IsDistinctFrom(left, right),
    })
}

/// `x IS [NOT] JSON [VALUE | SCALAR | ARRAY | OBJECT]`
fn is_json(parser: &mut Parser, expr: Expr, negated: bool) -> Expr {
    let span = parser.next_token().span;
    if negated {
        parser.advance_token();
    }
    parser.advance_token();
    let kinds = ["VALUE", "SCALAR", "ARRAY", "OBJECT"];
    let kind = kinds
        .into_iter()
        .find(|word| eat(parser, &[word]))
        .unwrap_or("VALUE");
    let kind = Expr::Value(Value::SingleQuotedString(kind.to_owned()).with_span(span));
    let args = vec![json::positional(expr), json::positional(kind)];
    not_if(
        negated,
        json::call(Ident::with_span(span, "IS_JSON"), args, None),
    )
}

/// `x [NOT] BETWEEN [A]SYMMETRIC a AND b`
fn between(
    dialect: &FlinkDialect,
    parser: &mut Parser,
    expr: Expr,
    negated: bool,
) -> Result<Expr, ParserError> {
    let span = parser.peek_token_ref().span;
    if negated {
        parser.advance_token();
    }
    expect(parser, &["BETWEEN"])?;
    let symmetric = eat(parser, &["SYMMETRIC"]);
    if !symmetric {
        expect(parser, &["ASYMMETRIC"])?;
    }
    let precedence = dialect.prec_value(Precedence::Between);
    let low = parser.parse_subexpr(precedence)?;
    expect(parser, &["AND"])?;
    let high = parser.parse_subexpr(precedence)?;
    if !symmetric {
        return Ok(Expr::Between {
            expr: Box::new(expr),
            negated,
            low: Box::new(low),
            high: Box::new(high),
        });
    }
    let args = [expr, low, high].map(json::positional).to_vec();
    let name = Ident::with_span(span, "BETWEEN_SYMMETRIC");
    Ok(not_if(negated, json::call(name, args, None)))
}

fn not_if(negated: bool, expr: Expr) -> Expr {
    if !negated {
        return expr;
    }
    Expr::UnaryOp {
        op: UnaryOperator::Not,
        expr: Box::new(expr),
    }
}
