//! Calls: arguments out of the AST, and the functions whose arguments or types follow rules of
//! their own.

use proto::plan::ScalarFunction as F;
use proto::types::LogicalType;
use sqlparser::ast::{self, Spanned as _};

use super::coerce::coerce;
use super::expr::{ExprBinder, case_of, common};
use super::function::{is_aggregate, like_pattern};
use super::literal::string;
use super::operator::{arithmetic, boolean};
use super::refuse::{refuse_all, unsupported};
use super::types::Arithmetic;
use crate::error::SqlError;
use crate::logical::{Expr, Literal};

impl ExprBinder<'_> {
    /// A call of any function.
    pub(crate) fn function(&self, call: &ast::Function) -> Result<Expr, SqlError> {
        let name = function_name(&call.name)?;
        if call.over.is_some() {
            return self.over_call(&name, call);
        }
        if is_aggregate(&name) {
            return self.aggregate_call(&name, call);
        }
        let ast::Function {
            name: _,
            uses_odbc_syntax,
            parameters,
            args,
            filter,
            null_treatment,
            over: _,
            within_group,
        } = call;
        let span = call.span();
        refuse_all(
            &[
                (*uses_odbc_syntax, "the `{fn …}` notation"),
                (
                    *parameters != ast::FunctionArguments::None,
                    "a second list of arguments",
                ),
                (
                    filter.is_some(),
                    "FILTER on a function that is no aggregate",
                ),
                (null_treatment.is_some(), "IGNORE NULLS or RESPECT NULLS"),
                (!within_group.is_empty(), "WITHIN GROUP"),
            ],
            span,
        )?;
        if let Some(bound) = self.group_window_function(&name, call)? {
            return Ok(bound);
        }
        if let Some(bound) = self.json_function(&name, args, span)? {
            return Ok(bound);
        }
        let positional = positional(args, span)?;
        if let Some(bound) = self.time_function(&name, &positional)? {
            return Ok(bound);
        }
        let bound = positional
            .iter()
            .map(|arg| self.bind(arg))
            .collect::<Result<Vec<_>, _>>()?;
        let bound = match self.special_function(&name, bound)? {
            Ok(special) => return Ok(special),
            Err(args) => args,
        };
        self.call(&name, bound)
    }

    /// Functions of their own rules; gives the arguments back if `name` is none.
    fn special_function(
        &self,
        name: &str,
        args: Vec<Expr>,
    ) -> Result<Result<Expr, Vec<Expr>>, SqlError> {
        let count = args.len();
        Ok(Ok(match (name, count) {
            ("COALESCE", 1..) | ("IFNULL", 2) => coalesce(args)?,
            ("NULLIF", 2) => self.null_if(args)?,
            ("IF", 3) => if_function(args)?,
            ("GREATEST", 1..) => extreme(F::Greatest, args)?,
            ("LEAST", 1..) => extreme(F::Least, args)?,
            ("MOD", 2) => {
                let (left, right) = pair(args);
                arithmetic(Arithmetic::Remainder, F::Modulo, "MOD", left, right)?
            }
            ("ROW", 1..) => self.row_of(args)?,
            ("MAP", _) => self.map_of(args)?,
            ("BETWEEN_SYMMETRIC", 3) => self.between_symmetric(args)?,
            ("SUBSTR", _) => self.call("SUBSTRING", args)?,
            ("TYPEOF", 1) => string(&args[0].data_type.to_string()),
            ("GROUPING" | "GROUPING_ID", 1..) => self.grouping(name, args)?,
            ("COALESCE" | "IFNULL" | "NULLIF" | "IF" | "GREATEST" | "LEAST" | "MOD", _) => {
                return Err(SqlError::validate(format!(
                    "`{name}` does not take {count} arguments"
                )));
            }
            _ => return Ok(Err(args)),
        }))
    }

    /// NULL where both are equal, else the first.
    fn null_if(&self, args: Vec<Expr>) -> Result<Expr, SqlError> {
        let (left, right) = pair(args);
        let data_type = left.data_type.clone().with_nullable(true);
        let equal = self.compare(F::Equal, left.clone(), right.clone())?;
        if let crate::logical::ExprKind::Call { args, .. } = &equal.kind
            && args[0].data_type.logical == left.data_type.logical
        {
            return Ok(Expr::call(F::NullIf, args.clone(), data_type));
        }
        let null = Expr::literal(Literal::Null, data_type);
        case_of(vec![(equal, null)], left)
    }

    fn between_symmetric(&self, args: Vec<Expr>) -> Result<Expr, SqlError> {
        let mut args = args.into_iter();
        let (Some(value), Some(low), Some(high)) = (args.next(), args.next(), args.next()) else {
            return Err(SqlError::validate("BETWEEN SYMMETRIC takes two bounds"));
        };
        let one = self.between_of(value.clone(), low.clone(), high.clone())?;
        let other = self.between_of(value, high, low)?;
        let either = vec![one, other];
        let data_type = super::operator::boolean_of(&either);
        Ok(Expr::call(F::Or, either, data_type))
    }

    /// Nodes that sqlparser has for a function's own syntax.
    pub(crate) fn special_syntax(&self, expr: &ast::Expr) -> Result<Expr, SqlError> {
        use ast::Expr as E;
        match expr {
            E::Position { .. }
            | E::Substring { .. }
            | E::Overlay { .. }
            | E::Trim { .. }
            | E::Like { .. }
            | E::SimilarTo { .. } => self.text_syntax(expr),
            E::Extract { field, expr, .. } => self.extract(field, expr),
            E::Floor { expr, field } => self.floor_or_ceil("FLOOR", F::FloorTime, expr, field),
            E::Ceil { expr, field } => self.floor_or_ceil("CEIL", F::CeilTime, expr, field),
            E::ILike { .. } => Err(SqlError::validate("ILIKE is not supported")
                .hint("write UPPER(x) LIKE UPPER(pattern)")),
            E::AtTimeZone { .. } => Err(SqlError::validate("AT TIME ZONE is not supported")
                .hint("use CONVERT_TZ, or CAST between TIMESTAMP and TIMESTAMP_LTZ")),
            E::AnyOp { .. } | E::AllOp { .. } => Err(SqlError::validate(
                "a comparison with ANY, SOME or ALL is not supported",
            )
            .hint("use IN or EXISTS")),
            E::Wildcard(_) | E::QualifiedWildcard(..) => {
                Err(SqlError::validate("`*` cannot stand here"))
            }
            E::GroupingSets(_) | E::Cube(_) | E::Rollup(_) => Err(SqlError::validate(
                "GROUPING SETS, CUBE and ROLLUP stand in GROUP BY only",
            )),
            other => Err(unsupported(&format!("`{other}`"), other.span())),
        }
    }

    /// Those on text.
    fn text_syntax(&self, expr: &ast::Expr) -> Result<Expr, SqlError> {
        use ast::Expr as E;
        match expr {
            E::Position { expr, r#in } => {
                self.call("POSITION", vec![self.bind(expr)?, self.bind(r#in)?])
            }
            E::Substring {
                expr,
                substring_from: Some(from),
                substring_for: length,
                ..
            } => {
                let args = [Some(expr.as_ref()), Some(from), length.as_deref()];
                self.call("SUBSTRING", self.bind_given(args)?)
            }
            E::Substring {
                expr,
                substring_from: None,
                substring_for: length,
                ..
            } => {
                let mut args = self.bind_given([Some(expr.as_ref()), length.as_deref()])?;
                args.insert(1, super::literal::int(1));
                self.call("SUBSTRING", args)
            }
            E::Overlay {
                expr,
                overlay_what: what,
                overlay_from: from,
                overlay_for: length,
            } => {
                let args = [
                    Some(expr.as_ref()),
                    Some(what),
                    Some(from),
                    length.as_deref(),
                ];
                self.call("OVERLAY", self.bind_given(args)?)
            }
            E::Trim {
                trim_where,
                trim_what,
                expr,
                trim_characters,
            } => self.trim(
                *trim_where,
                trim_what.as_deref(),
                expr,
                trim_characters.as_deref(),
            ),
            E::Like { .. } | E::SimilarTo { .. } => self.pattern_syntax(expr),
            other => Err(unsupported(&format!("`{other}`"), other.span())),
        }
    }

    /// Matches with a pattern.
    fn pattern_syntax(&self, expr: &ast::Expr) -> Result<Expr, SqlError> {
        use ast::Expr as E;
        match expr {
            E::Like {
                negated,
                any,
                expr,
                pattern,
                escape_char,
            } => {
                if *any {
                    return Err(SqlError::validate("LIKE ANY is not supported"));
                }
                let like = self.like("LIKE", expr, pattern, escape_char.as_ref())?;
                Ok(super::expr::negate_if(*negated, like))
            }
            E::SimilarTo {
                negated,
                expr,
                pattern,
                escape_char,
            } => {
                let similar = self.like("SIMILAR TO", expr, pattern, escape_char.as_ref())?;
                Ok(super::expr::negate_if(*negated, similar))
            }
            other => Err(unsupported(&format!("`{other}`"), other.span())),
        }
    }

    /// Those of the arguments that are written.
    fn bind_given<const N: usize>(
        &self,
        args: [Option<&ast::Expr>; N],
    ) -> Result<Vec<Expr>, SqlError> {
        args.into_iter()
            .flatten()
            .map(|arg| self.bind(arg))
            .collect()
    }

    fn trim(
        &self,
        place: Option<ast::TrimWhereField>,
        what: Option<&ast::Expr>,
        expr: &ast::Expr,
        characters: Option<&[ast::Expr]>,
    ) -> Result<Expr, SqlError> {
        let name = match place {
            None | Some(ast::TrimWhereField::Both) => "TRIM",
            Some(ast::TrimWhereField::Leading) => "LTRIM",
            Some(ast::TrimWhereField::Trailing) => "RTRIM",
        };
        let mut args = vec![self.bind(expr)?];
        args.extend(what.map(|what| self.bind(what)).transpose()?);
        if let Some(characters) = characters {
            return Err(SqlError::validate("TRIM(x, characters) is not supported")
                .at_parser(characters.first().map_or(expr.span(), |c| c.span()))
                .hint("write TRIM(BOTH characters FROM x)"));
        }
        self.call(name, args)
    }

    fn like(
        &self,
        name: &str,
        expr: &ast::Expr,
        pattern: &ast::Expr,
        escape: Option<&ast::ValueWithSpan>,
    ) -> Result<Expr, SqlError> {
        let mut args = vec![self.bind(expr)?, self.bind(pattern)?];
        if let Some(escape) = escape {
            let bound = super::literal::bind_value(&escape.value)?;
            match &bound.kind {
                crate::logical::ExprKind::Literal(Literal::String(text))
                    if text.chars().count() == 1 =>
                {
                    let escape = text.chars().next().filter(|_| name == "LIKE");
                    if let Some(escape) = escape {
                        like_pattern(&args[1], escape)
                            .map_err(|error| error.at_parser(pattern.span()))?;
                    }
                }
                _ => {
                    return Err(
                        SqlError::validate("ESCAPE takes one character").at_parser(escape.span)
                    );
                }
            }
            args.push(bound);
        }
        self.call(name, args)
    }
}

/// The upper-case name of a function.
pub(crate) fn function_name(name: &ast::ObjectName) -> Result<String, SqlError> {
    match name.0.as_slice() {
        [ast::ObjectNamePart::Identifier(ident)] => Ok(ident.value.to_uppercase()),
        _ => Err(
            SqlError::validate(format!("function `{name}` does not exist"))
                .at_parser(name.span())
                .hint("built-in functions have no qualifier"),
        ),
    }
}

/// Arguments by position; anything else is refused.
pub(crate) fn positional(
    args: &ast::FunctionArguments,
    span: sqlparser::tokenizer::Span,
) -> Result<Vec<&ast::Expr>, SqlError> {
    let list = match args {
        ast::FunctionArguments::None => return Ok(Vec::new()),
        ast::FunctionArguments::Subquery(query) => {
            return Err(unsupported("a subquery as the only argument", query.span()));
        }
        ast::FunctionArguments::List(list) => list,
    };
    let ast::FunctionArgumentList {
        duplicate_treatment,
        args,
        clauses,
    } = list;
    refuse_all(
        &[
            (
                duplicate_treatment.is_some(),
                "DISTINCT in a function that is no aggregate",
            ),
            (!clauses.is_empty(), "this clause of a function's arguments"),
        ],
        span,
    )?;
    args.iter().map(unnamed).collect()
}

/// An argument by position.
pub(crate) fn unnamed(arg: &ast::FunctionArg) -> Result<&ast::Expr, SqlError> {
    match arg {
        ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expr)) => Ok(expr),
        ast::FunctionArg::Unnamed(_) => Err(SqlError::validate("`*` is an argument of COUNT only")),
        ast::FunctionArg::Named { name, .. } => Err(unsupported(
            &format!("the named argument `{}`", name.value),
            name.span,
        )),
        ast::FunctionArg::ExprNamed { name, .. } => {
            Err(unsupported("a named argument", name.span()))
        }
    }
}

fn pair(args: Vec<Expr>) -> (Expr, Expr) {
    let mut args = args.into_iter();
    let first = args.next().expect("the caller counted two");
    (first, args.next().expect("the caller counted two"))
}

fn coalesce(args: Vec<Expr>) -> Result<Expr, SqlError> {
    let nullable = args.iter().all(|arg| arg.data_type.nullable);
    let (mut args, data_type) = common(args, "arguments of COALESCE")?;
    if args.len() == 1 {
        return Ok(args.remove(0));
    }
    Ok(Expr::call(
        F::Coalesce,
        args,
        data_type.with_nullable(nullable),
    ))
}

fn if_function(args: Vec<Expr>) -> Result<Expr, SqlError> {
    let nullable = args.iter().any(|arg| arg.data_type.nullable);
    let mut args = args.into_iter();
    let condition = boolean(args.next().expect("the caller counted three"), "IF")?;
    let result = args.next().expect("the caller counted three");
    let otherwise = args.next().expect("the caller counted three");
    let mut case = case_of(vec![(condition, result)], otherwise)?;
    case.data_type.nullable = nullable;
    Ok(case)
}

fn extreme(function: F, args: Vec<Expr>) -> Result<Expr, SqlError> {
    let (args, data_type) = common(args, "arguments")?;
    use LogicalType::{Array, Map, Multiset, Row};
    if matches!(data_type.logical, Array(_) | Map(..) | Multiset(_) | Row(_)) {
        return Err(SqlError::validate(format!(
            "{} has no order",
            data_type.logical
        )));
    }
    let args = args
        .into_iter()
        .map(|arg| coerce(arg, &data_type.logical))
        .collect();
    Ok(Expr::call(function, args, data_type))
}
