//! CREATE TABLE, VIEW and FUNCTION.

use sqlparser::ast::Ident;
use sqlparser::tokenizer::Token;

use super::script::Script;
use super::words::{eat, expect, here, ident_list, peek_upper, string, syntax, word_at};
use super::{
    ColumnDef, ColumnDefKind, CreateTable, CreateView, Statement, WatermarkDef, names, types,
};
use crate::error::{Span, SqlError};

pub(super) fn create(script: &mut Script) -> Result<Statement, SqlError> {
    expect(&mut script.parser, &["CREATE"]).map_err(syntax)?;
    for prefix in ["OR REPLACE", "OR ALTER"] {
        let words: Vec<&str> = prefix.split(' ').collect();
        if word_at(&script.parser, 0, words[0]) && word_at(&script.parser, 1, words[1]) {
            return Err(script
                .unsupported(&format!("CREATE {prefix}"))
                .hint("DROP it first, or use IF NOT EXISTS"));
        }
    }
    let temporary = eat(&mut script.parser, &["TEMPORARY"]);
    if eat(&mut script.parser, &["TABLE"]) {
        return Ok(Statement::CreateTable(table(script, temporary)?));
    }
    if eat(&mut script.parser, &["VIEW"]) {
        return Ok(Statement::CreateView(view(script, temporary)?));
    }
    let system = temporary && eat(&mut script.parser, &["SYSTEM"]);
    if eat(&mut script.parser, &["FUNCTION"]) || system {
        return function(script);
    }
    let word = peek_upper(&script.parser).unwrap_or_default();
    Err(script
        .unsupported(format!("CREATE {word}").trim())
        .hint("tables and views can be created"))
}

fn table(script: &mut Script, temporary: bool) -> Result<CreateTable, SqlError> {
    let if_not_exists = eat(&mut script.parser, &["IF", "NOT", "EXISTS"]);
    let mut table = CreateTable {
        name: script.name()?,
        temporary,
        if_not_exists,
        columns: Vec::new(),
        watermark: None,
        primary_key: None,
        partitioned_by: Vec::new(),
        comment: None,
        options: Vec::new(),
    };
    if script.parser.consume_token(&Token::LParen) {
        if script.parser.peek_token_ref().token == Token::RParen {
            return Err(SqlError::parse("the table has no columns").at(here(&script.parser)));
        }
        loop {
            element(script, &mut table)?;
            if !script.parser.consume_token(&Token::Comma) {
                break;
            }
        }
        let closing = script.parser.expect_token(&Token::RParen);
        closing.map_err(syntax)?;
    }
    loop {
        if eat(&mut script.parser, &["COMMENT"]) {
            table.comment = Some(comment(script)?);
        } else if eat(&mut script.parser, &["PARTITIONED", "BY"]) {
            table.partitioned_by = ident_list(&mut script.parser).map_err(syntax)?;
        } else if eat(&mut script.parser, &["WITH"]) {
            table.options = options(script)?;
        } else {
            break;
        }
    }
    table_clauses_without_support(script)?;
    Ok(table)
}

fn table_clauses_without_support(script: &Script) -> Result<(), SqlError> {
    let clauses = [
        ("LIKE", "repeat the columns"),
        ("AS", "write CREATE TABLE with columns, then INSERT INTO it"),
        ("DISTRIBUTED", "leave it out"),
    ];
    for (word, hint) in clauses {
        if word_at(&script.parser, 0, word) {
            return Err(script
                .unsupported(&format!("{word} of CREATE TABLE"))
                .hint(hint));
        }
    }
    Ok(())
}

/// A column, key or watermark.
fn element(script: &mut Script, table: &mut CreateTable) -> Result<(), SqlError> {
    let start = here(&script.parser);
    if eat(&mut script.parser, &["WATERMARK", "FOR"]) {
        let column = script.ident()?;
        if script.parser.peek_token_ref().token == Token::Period {
            return Err(script
                .unsupported("a watermark for a field of a row")
                .hint("declare a computed column for the field and a watermark for that"));
        }
        expect(&mut script.parser, &["AS"]).map_err(syntax)?;
        let expr = expression(script)?;
        if table.watermark.is_some() {
            return Err(SqlError::validate("the table has two watermarks").at(script.since(start)));
        }
        table.watermark = Some(WatermarkDef { column, expr });
        return Ok(());
    }
    if eat(&mut script.parser, &["CONSTRAINT"]) {
        script.ident()?;
    }
    if eat(&mut script.parser, &["PRIMARY", "KEY"]) {
        let columns = ident_list(&mut script.parser).map_err(syntax)?;
        return primary_key(script, table, columns, start);
    }
    for word in ["UNIQUE", "CHECK", "FOREIGN", "PERIOD"] {
        let column = matches!(script.parser.peek_nth_token_ref(1).token, Token::Word(_))
            && !word_at(&script.parser, 1, "KEY")
            && !word_at(&script.parser, 1, "FOR");
        if word_at(&script.parser, 0, word) && !column {
            return Err(script.unsupported(&format!("{word} of CREATE TABLE")));
        }
    }
    column(script, table)
}

fn column(script: &mut Script, table: &mut CreateTable) -> Result<(), SqlError> {
    let name = script.ident()?;
    if eat(&mut script.parser, &["AS"]) {
        let kind = ColumnDefKind::Computed(expression(script)?);
        let comment = column_comment(script)?;
        table.columns.push(ColumnDef {
            name,
            kind,
            comment,
        });
        return Ok(());
    }
    let (data_type, span) = types::data_type(&mut script.parser).map_err(syntax)?;
    if word_at(&script.parser, 0, "METADATA") {
        return Err(SqlError::validate(format!(
            "column `{}`: METADATA is not supported",
            name.value
        ))
        .at(here(&script.parser))
        .hint("none of the connectors has metadata columns"));
    }
    for word in [
        "DEFAULT",
        "GENERATED",
        "REFERENCES",
        "CHECK",
        "UNIQUE",
        "COLLATE",
    ] {
        if word_at(&script.parser, 0, word) {
            return Err(script.unsupported(&format!("{word} of a column")));
        }
    }
    let start = here(&script.parser);
    if eat(&mut script.parser, &["CONSTRAINT"]) {
        script.ident()?;
    }
    if eat(&mut script.parser, &["PRIMARY", "KEY"]) {
        primary_key(script, table, vec![name.clone()], start)?;
    }
    let comment = column_comment(script)?;
    let kind = ColumnDefKind::Physical(data_type, span);
    table.columns.push(ColumnDef {
        name,
        kind,
        comment,
    });
    Ok(())
}

fn primary_key(
    script: &mut Script,
    table: &mut CreateTable,
    columns: Vec<Ident>,
    start: Span,
) -> Result<(), SqlError> {
    let enforced = !eat(&mut script.parser, &["NOT", "ENFORCED"]);
    let span = script.since(start);
    if enforced {
        return Err(SqlError::validate("a primary key cannot be enforced")
            .at(span)
            .hint("write PRIMARY KEY (…) NOT ENFORCED: the table's data is trusted to be unique"));
    }
    if table.primary_key.is_some() {
        return Err(SqlError::validate("the table has two primary keys").at(span));
    }
    table.primary_key = Some((columns, span));
    Ok(())
}

fn expression(script: &mut Script) -> Result<Box<sqlparser::ast::Expr>, SqlError> {
    let expr = script.parser.parse_expr().map_err(syntax)?;
    names::check_all(&expr)?;
    Ok(Box::new(expr))
}

fn column_comment(script: &mut Script) -> Result<Option<String>, SqlError> {
    if eat(&mut script.parser, &["COMMENT"]) {
        comment(script).map(Some)
    } else {
        Ok(None)
    }
}

fn comment(script: &mut Script) -> Result<String, SqlError> {
    let (text, _) = string(&mut script.parser, "a comment in single quotes").map_err(syntax)?;
    Ok(text)
}

/// `('k' = 'v', …)`
fn options(script: &mut Script) -> Result<Vec<(String, String, Span)>, SqlError> {
    let parser = &mut script.parser;
    parser.expect_token(&Token::LParen).map_err(syntax)?;
    let mut options: Vec<(String, String, Span)> = Vec::new();
    if parser.consume_token(&Token::RParen) {
        return Ok(options);
    }
    loop {
        let (key, start) = string(parser, "an option name in single quotes").map_err(syntax)?;
        parser.expect_token(&Token::Eq).map_err(syntax)?;
        let (value, end) = string(parser, "an option value in single quotes").map_err(syntax)?;
        let span = Span {
            end_line: end.end_line,
            end_column: end.end_column,
            ..start
        };
        if options.iter().any(|(known, ..)| *known == key) {
            return Err(SqlError::validate(format!("option '{key}' is given twice")).at(span));
        }
        options.push((key, value, span));
        if !parser.consume_token(&Token::Comma) {
            parser.expect_token(&Token::RParen).map_err(syntax)?;
            return Ok(options);
        }
    }
}

fn view(script: &mut Script, temporary: bool) -> Result<CreateView, SqlError> {
    let if_not_exists = eat(&mut script.parser, &["IF", "NOT", "EXISTS"]);
    let name = script.name()?;
    let columns = if script.parser.peek_token_ref().token == Token::LParen {
        let columns = ident_list(&mut script.parser).map_err(syntax)?;
        columns.iter().try_for_each(names::check)?;
        Some(columns)
    } else {
        None
    };
    let comment = column_comment(script)?;
    expect(&mut script.parser, &["AS"]).map_err(syntax)?;
    let start = here(&script.parser);
    let query = script.query()?;
    Ok(CreateView {
        temporary,
        name,
        if_not_exists,
        columns,
        comment,
        query,
        text: script.source.slice(script.since(start)).to_owned(),
    })
}

/// `[IF NOT EXISTS] name AS 'class' [LANGUAGE …] [USING JAR …]`
fn function(script: &mut Script) -> Result<Statement, SqlError> {
    let if_not_exists = eat(&mut script.parser, &["IF", "NOT", "EXISTS"]);
    let name = script.parser.parse_identifier().map_err(syntax)?;
    expect(&mut script.parser, &["AS"]).map_err(syntax)?;
    string(&mut script.parser, "a class name in single quotes").map_err(syntax)?;
    if eat(&mut script.parser, &["LANGUAGE"]) {
        script.parser.advance_token();
    }
    if eat(&mut script.parser, &["USING", "JAR"]) {
        string(&mut script.parser, "a path in single quotes").map_err(syntax)?;
    }
    Ok(Statement::CreateFunction {
        name,
        if_not_exists,
    })
}
