//! SQL/JSON functions and their clauses. The statement layer hands clauses over as named
//! arguments: RETURNING, ON_EMPTY, ON_ERROR, WRAPPER, ON_NULL, DEFAULT_ON_EMPTY, DEFAULT_ON_ERROR.

use proto::plan::ScalarFunction as F;
use proto::types::{DataType, LogicalType};
use sqlparser::ast;
use sqlparser::tokenizer::Span;

use super::coerce::coerce;
use super::expr::ExprBinder;
use super::function::shown_type;
use super::literal::string;
use super::refuse::{refuse_all, unsupported};
use super::special::unnamed;
use crate::error::SqlError;
use crate::logical::{Expr, ExprKind, Literal};

/// Arguments of a JSON function: by position, and clauses by name.
struct JsonArgs {
    positional: Vec<Expr>,
    clauses: Vec<(String, Expr, Span)>,
}

impl ExprBinder<'_> {
    /// JSON functions with clauses; `None` for other names.
    pub(crate) fn json_function(
        &self,
        name: &str,
        args: &ast::FunctionArguments,
        span: Span,
    ) -> Result<Option<Expr>, SqlError> {
        let known: &[&str] = match name {
            "IS_JSON" => &[],
            "JSON_EXISTS" => &["ON_ERROR"],
            "JSON_VALUE" => &[
                "RETURNING",
                "ON_EMPTY",
                "ON_ERROR",
                "DEFAULT_ON_EMPTY",
                "DEFAULT_ON_ERROR",
            ],
            "JSON_QUERY" => &["RETURNING", "WRAPPER", "ON_EMPTY", "ON_ERROR"],
            "JSON_OBJECT" | "JSON_ARRAY" => &["ON_NULL"],
            _ => return Ok(None),
        };
        let args = self.json_args(args, known, span)?;
        match name {
            "IS_JSON" => is_json(args),
            "JSON_EXISTS" => json_exists(args),
            "JSON_VALUE" => json_value(args),
            "JSON_QUERY" => json_query(args),
            "JSON_OBJECT" => json_object(args),
            _ => json_array(args),
        }
        .map(Some)
    }

    fn json_args(
        &self,
        args: &ast::FunctionArguments,
        known: &[&str],
        span: Span,
    ) -> Result<JsonArgs, SqlError> {
        let list = match args {
            ast::FunctionArguments::List(list) => list,
            ast::FunctionArguments::None => {
                return Ok(JsonArgs {
                    positional: Vec::new(),
                    clauses: Vec::new(),
                });
            }
            ast::FunctionArguments::Subquery(_) => {
                return Err(unsupported("a subquery as the only argument", span));
            }
        };
        refuse_all(
            &[
                (
                    list.duplicate_treatment.is_some(),
                    "DISTINCT in a JSON function",
                ),
                (!list.clauses.is_empty(), "this clause of a JSON function"),
            ],
            span,
        )?;
        let mut result = JsonArgs {
            positional: Vec::new(),
            clauses: Vec::new(),
        };
        for arg in &list.args {
            match arg {
                ast::FunctionArg::Named {
                    name,
                    arg: ast::FunctionArgExpr::Expr(expr),
                    ..
                } => {
                    if !known.contains(&name.value.as_str()) {
                        let clause = name.value.replace('_', " ");
                        return Err(unsupported(&format!("{clause} here"), name.span));
                    }
                    result
                        .clauses
                        .push((name.value.clone(), self.bind(expr)?, name.span));
                }
                other => result.positional.push(self.bind(unnamed(other)?)?),
            }
        }
        Ok(result)
    }
}

impl JsonArgs {
    fn clause(&self, name: &str) -> Option<&Expr> {
        self.clauses
            .iter()
            .find(|(known, ..)| known == name)
            .map(|(_, expr, _)| expr)
    }

    /// The words of a clause; `default` where it is not written.
    fn words(&self, name: &str, default: &str) -> String {
        match self.clause(name).map(|expr| &expr.kind) {
            Some(ExprKind::Literal(Literal::String(words))) => words.clone(),
            _ => default.to_owned(),
        }
    }

    /// The document and the constant path.
    fn document_and_path(&self, function: &str) -> Result<(Expr, Expr), SqlError> {
        let [document, path] = self.positional.as_slice() else {
            return Err(SqlError::validate(format!(
                "`{function}` takes a document and a path"
            )));
        };
        for arg in [document, path] {
            let logical = &arg.data_type.logical;
            if !logical.is_character() && *logical != LogicalType::Null {
                return Err(SqlError::validate(format!(
                    "cannot apply `{function}` to {}",
                    shown_type(&arg.data_type)
                ))
                .hint("it takes text"));
            }
        }
        let text = |e: &Expr| {
            if e.data_type.logical == LogicalType::Null {
                coerce(e.clone(), &LogicalType::STRING)
            } else {
                e.clone()
            }
        };
        Ok((text(document), text(path)))
    }
}

fn is_json(args: JsonArgs) -> Result<Expr, SqlError> {
    let mut args = args.positional.into_iter();
    let (Some(document), Some(kind), None) = (args.next(), args.next(), args.next()) else {
        return Err(SqlError::validate("IS JSON takes one value"));
    };
    if !document.data_type.logical.is_character() {
        return Err(SqlError::validate(format!(
            "cannot apply IS JSON to {}",
            document.data_type.logical
        )));
    }
    Ok(Expr::call(
        F::IsJson,
        vec![document, kind],
        LogicalType::Boolean.not_null(),
    ))
}

fn json_exists(args: JsonArgs) -> Result<Expr, SqlError> {
    let (document, path) = args.document_and_path("JSON_EXISTS")?;
    let on_error = args.words("ON_ERROR", "FALSE");
    let nullable = document.data_type.nullable || on_error == "UNKNOWN";
    let data_type = DataType {
        logical: LogicalType::Boolean,
        nullable,
    };
    Ok(Expr::call(
        F::JsonExists,
        vec![document, path, string(&on_error)],
        data_type,
    ))
}

fn json_value(args: JsonArgs) -> Result<Expr, SqlError> {
    let (document, path) = args.document_and_path("JSON_VALUE")?;
    let returning = match args.clause("RETURNING") {
        Some(expr) => expr.data_type.logical.clone(),
        None => LogicalType::STRING,
    };
    let allowed =
        returning.is_character() || returning.is_numeric() || returning == LogicalType::Boolean;
    if !allowed {
        return Err(
            SqlError::validate(format!("JSON_VALUE cannot return {returning}"))
                .hint("it returns text, numbers and BOOLEAN"),
        );
    }
    let null = || Expr::literal(Literal::Null, LogicalType::STRING.nullable());
    let behaviour = |on: &str, default: &str| -> (Expr, Expr) {
        match args.clause(default) {
            Some(value) => {
                let text = match &value.kind {
                    ExprKind::Literal(Literal::String(_)) => value.clone(),
                    _ => coerce(value.clone(), &LogicalType::STRING),
                };
                (string("DEFAULT"), text)
            }
            None => (string(&args.words(on, "NULL")), null()),
        }
    };
    let (empty, empty_value) = behaviour("ON_EMPTY", "DEFAULT_ON_EMPTY");
    let (error, error_value) = behaviour("ON_ERROR", "DEFAULT_ON_ERROR");
    let list = vec![document, path, empty, empty_value, error, error_value];
    Ok(Expr::call(F::JsonValue, list, returning.nullable()))
}

fn json_query(args: JsonArgs) -> Result<Expr, SqlError> {
    let (document, path) = args.document_and_path("JSON_QUERY")?;
    if let Some(returning) = args.clause("RETURNING")
        && !returning.data_type.logical.is_character()
    {
        return Err(SqlError::validate(format!(
            "JSON_QUERY RETURNING {} is not supported",
            returning.data_type.logical
        ))
        .hint("it returns STRING"));
    }
    let list = vec![
        document,
        path,
        string(&args.words("WRAPPER", "WITHOUT")),
        string(&args.words("ON_EMPTY", "NULL")),
        string(&args.words("ON_ERROR", "NULL")),
    ];
    Ok(Expr::call(
        F::JsonQuery,
        list,
        LogicalType::STRING.nullable(),
    ))
}

fn json_object(args: JsonArgs) -> Result<Expr, SqlError> {
    let on_null = string(&args.words("ON_NULL", "NULL"));
    if !args.positional.len().is_multiple_of(2) {
        return Err(SqlError::validate(
            "JSON_OBJECT takes pairs of key and value",
        ));
    }
    for key in args.positional.iter().step_by(2) {
        if !key.data_type.logical.is_character() {
            return Err(SqlError::validate(format!(
                "a key of JSON_OBJECT must be text, not {}",
                key.data_type.logical
            )));
        }
    }
    let list = std::iter::once(on_null).chain(args.positional).collect();
    Ok(Expr::call(
        F::JsonObject,
        list,
        LogicalType::STRING.not_null(),
    ))
}

fn json_array(args: JsonArgs) -> Result<Expr, SqlError> {
    let on_null = string(&args.words("ON_NULL", "ABSENT"));
    let list = std::iter::once(on_null).chain(args.positional).collect();
    Ok(Expr::call(
        F::JsonArray,
        list,
        LogicalType::STRING.not_null(),
    ))
}
