//! Operators: arithmetic, comparison, logic, and the predicates with words.

use proto::plan::ScalarFunction as F;
use proto::types::{DataType, LogicalType};
use sqlparser::ast::{self, BinaryOperator as Op, Spanned as _, UnaryOperator};

use super::coerce::{coerce, coerce_comparison, coerce_number, coerce_operand};
use super::expr::{ExprBinder, common, negate_if};
use super::literal::negated;
use super::refuse::unsupported;
use super::types::{Arithmetic, arithmetic_type, comparison_type};
use crate::error::SqlError;
use crate::logical::Expr;

impl ExprBinder<'_> {
    /// `left op right`; a chain of one operator is bound without recursion.
    pub(crate) fn binary(
        &self,
        whole: &ast::Expr,
        left: &ast::Expr,
        op: &Op,
        right: &ast::Expr,
    ) -> Result<Expr, SqlError> {
        if matches!(op, Op::And | Op::Or) {
            return self.logic(whole, op);
        }
        let mut pending = vec![(op, right, whole)];
        let mut first = left;
        while let ast::Expr::BinaryOp { left, op, right } = first {
            if matches!(op, Op::And | Op::Or) {
                break;
            }
            pending.push((op, right, first));
            first = left;
        }
        let mut bound = self.bind(first)?;
        while let Some((op, right, node)) = pending.pop() {
            let operand = self.bind(right)?;
            bound = self
                .operator(op, bound, operand, right)
                .map_err(|error| error.at_parser(node.span()))?;
        }
        Ok(bound)
    }

    fn logic(&self, whole: &ast::Expr, op: &Op) -> Result<Expr, SqlError> {
        let mut operands = Vec::new();
        let mut stack = vec![whole];
        while let Some(expr) = stack.pop() {
            match expr {
                ast::Expr::BinaryOp {
                    left,
                    op: own,
                    right,
                } if own == op => {
                    stack.push(right);
                    stack.push(left);
                }
                other => operands.push(other),
            }
        }
        let args = operands
            .into_iter()
            .map(|operand| {
                let bound = self.bind(operand)?;
                boolean(bound, &op.to_string()).map_err(|e| e.at_parser(operand.span()))
            })
            .collect::<Result<Vec<Expr>, SqlError>>()?;
        let function = if *op == Op::And { F::And } else { F::Or };
        let data_type = boolean_of(&args);
        Ok(Expr::call(function, args, data_type))
    }

    fn operator(
        &self,
        op: &Op,
        left: Expr,
        right: Expr,
        right_ast: &ast::Expr,
    ) -> Result<Expr, SqlError> {
        match op {
            Op::Eq => self.compare(F::Equal, left, right),
            Op::NotEq => self.compare(F::NotEqual, left, right),
            Op::Lt => self.compare(F::Less, left, right),
            Op::LtEq => self.compare(F::LessOrEqual, left, right),
            Op::Gt => self.compare(F::Greater, left, right),
            Op::GtEq => self.compare(F::GreaterOrEqual, left, right),
            Op::Plus => plus(left, right, right_ast),
            Op::Minus => minus(left, right, right_ast),
            Op::Multiply => times(left, right),
            Op::Divide => arithmetic(Arithmetic::Quotient, F::Divide, "/", left, right),
            Op::Modulo => arithmetic(Arithmetic::Remainder, F::Modulo, "%", left, right),
            Op::StringConcat => self.call("||", vec![left, right]),
            other => Err(SqlError::validate(format!(
                "operator `{other}` is not supported"
            ))),
        }
    }

    /// A comparison.
    pub(crate) fn compare(&self, function: F, left: Expr, right: Expr) -> Result<Expr, SqlError> {
        let nullable = left.data_type.nullable || right.data_type.nullable;
        let never_null = matches!(function, F::IsDistinctFrom | F::IsNotDistinctFrom);
        let ordered = matches!(
            function,
            F::Less | F::LessOrEqual | F::Greater | F::GreaterOrEqual
        );
        let unordered = |e: &Expr| {
            use LogicalType::{Array, Map, Multiset, Row};
            matches!(
                e.data_type.logical,
                Array(_) | Map(..) | Multiset(_) | Row(_)
            )
        };
        if ordered && (unordered(&left) || unordered(&right)) {
            return Err(incomparable(function, &left, &right));
        }
        // With nanoseconds a timestamp reaches less far: both are compared as they are.
        let reach = |e: &Expr| {
            use LogicalType::{Timestamp, TimestampLtz};
            matches!(e.data_type.logical, Timestamp(7..) | TimestampLtz(7..))
        };
        let timestamps =
            left.data_type.logical.is_timestamp() && right.data_type.logical.is_timestamp();
        let as_they_are = ordered && timestamps && reach(&left) != reach(&right);
        let (left, right) = match as_they_are {
            true => (left, right),
            false => coerce_comparison(left, right)
                .map_err(|sides| incomparable(function, &sides.0, &sides.1))?,
        };
        let data_type = DataType {
            logical: LogicalType::Boolean,
            nullable: nullable && !never_null,
        };
        Ok(Expr::call(function, vec![left, right], data_type))
    }

    /// `-x`, `+x`, `NOT x`.
    pub(crate) fn unary(&self, op: &UnaryOperator, inner: &ast::Expr) -> Result<Expr, SqlError> {
        let bound = self.bind(inner)?;
        let number = bound.data_type.logical.is_numeric() || bound.data_type.logical.is_interval();
        match op {
            UnaryOperator::Not => {
                let operand = boolean(bound, "NOT")?;
                Ok(negate_if(true, operand))
            }
            UnaryOperator::Plus if number => Ok(bound),
            UnaryOperator::Minus if number => Ok(negated(&bound).unwrap_or_else(|| {
                let data_type = bound.data_type.clone();
                Expr::call(F::Negate, vec![bound], data_type)
            })),
            UnaryOperator::Minus | UnaryOperator::Plus => Err(SqlError::validate(format!(
                "cannot apply `{op}` to {}",
                bound.data_type.logical
            ))),
            other => Err(SqlError::validate(format!(
                "operator `{other}` is not supported"
            ))),
        }
    }

    /// IS …, IN (…), BETWEEN.
    pub(crate) fn predicate(&self, expr: &ast::Expr) -> Result<Expr, SqlError> {
        use ast::Expr as E;
        match expr {
            E::IsTrue(inner) => self.truth(F::IsTrue, inner),
            E::IsNotTrue(inner) => self.truth(F::IsNotTrue, inner),
            E::IsFalse(inner) => self.truth(F::IsFalse, inner),
            E::IsNotFalse(inner) => self.truth(F::IsNotFalse, inner),
            E::IsUnknown(inner) => self.truth(F::IsNull, inner),
            E::IsNotUnknown(inner) => self.truth(F::IsNotNull, inner),
            E::IsNull(inner) => self.is_null(F::IsNull, inner),
            E::IsNotNull(inner) => self.is_null(F::IsNotNull, inner),
            E::IsDistinctFrom(left, right) => {
                self.compare(F::IsDistinctFrom, self.bind(left)?, self.bind(right)?)
            }
            E::IsNotDistinctFrom(left, right) => {
                self.compare(F::IsNotDistinctFrom, self.bind(left)?, self.bind(right)?)
            }
            E::InList {
                expr,
                list,
                negated,
            } => self
                .in_list(expr, list)
                .map(|bound| negate_if(*negated, bound)),
            E::Between {
                expr,
                negated,
                low,
                high,
            } => {
                let between = self.between(expr, low, high)?;
                Ok(negate_if(*negated, between))
            }
            other => Err(unsupported(&format!("`{other}`"), other.span())),
        }
    }

    fn truth(&self, function: F, inner: &ast::Expr) -> Result<Expr, SqlError> {
        let operand = boolean(self.bind(inner)?, "IS TRUE, FALSE or UNKNOWN")?;
        Ok(Expr::call(
            function,
            vec![operand],
            LogicalType::Boolean.not_null(),
        ))
    }

    fn is_null(&self, function: F, inner: &ast::Expr) -> Result<Expr, SqlError> {
        let operand = self.bind(inner)?;
        Ok(Expr::call(
            function,
            vec![operand],
            LogicalType::Boolean.not_null(),
        ))
    }

    fn in_list(&self, left: &ast::Expr, list: &[ast::Expr]) -> Result<Expr, SqlError> {
        let left = self.bind(left)?;
        let (items, item) = common(self.bind_all(list)?, "values of IN")?;
        let (own, other) = (&left.data_type.logical, &item.logical);
        let target = comparison_type(own, other).ok_or_else(|| {
            SqlError::validate(format!("cannot compare {own} with {other} in IN"))
        })?;
        let nullable = left.data_type.nullable || item.nullable;
        let args = std::iter::once(left)
            .chain(items)
            .map(|arg| coerce_operand(arg, &target))
            .collect();
        Ok(Expr::call(
            F::In,
            args,
            DataType {
                logical: LogicalType::Boolean,
                nullable,
            },
        ))
    }

    fn between(
        &self,
        value: &ast::Expr,
        low: &ast::Expr,
        high: &ast::Expr,
    ) -> Result<Expr, SqlError> {
        let (value, low, high) = (self.bind(value)?, self.bind(low)?, self.bind(high)?);
        self.between_of(value, low, high)
    }

    /// `low <= value AND value <= high`.
    pub(crate) fn between_of(&self, value: Expr, low: Expr, high: Expr) -> Result<Expr, SqlError> {
        let args = vec![
            self.compare(F::GreaterOrEqual, value.clone(), low)?,
            self.compare(F::LessOrEqual, value, high)?,
        ];
        let data_type = boolean_of(&args);
        Ok(Expr::call(F::And, args, data_type))
    }
}

/// Operand of a logical operator.
pub(crate) fn boolean(expr: Expr, operator: &str) -> Result<Expr, SqlError> {
    match expr.data_type.logical {
        LogicalType::Boolean => Ok(expr),
        LogicalType::Null => Ok(coerce(expr, &LogicalType::Boolean)),
        other => Err(SqlError::validate(format!(
            "{operator} needs a condition, not {other}"
        ))),
    }
}

/// BOOLEAN, nullable if an argument is.
pub(crate) fn boolean_of(args: &[Expr]) -> DataType {
    let nullable = args.iter().any(|arg| arg.data_type.nullable);
    DataType {
        logical: LogicalType::Boolean,
        nullable,
    }
}

/// Arithmetic on numbers.
pub(crate) fn arithmetic(
    kind: Arithmetic,
    function: F,
    symbol: &str,
    left: Expr,
    right: Expr,
) -> Result<Expr, SqlError> {
    let nullable = left.data_type.nullable || right.data_type.nullable;
    let (left, right) = (number_for(left, &right), right);
    let right = number_for(right, &left);
    let Some(result) = arithmetic_type(kind, &left.data_type.logical, &right.data_type.logical)
    else {
        return Err(inapplicable(symbol, &left, &right));
    };
    // The remainder has the divisor's type, but is computed in the wider one.
    let computed = if kind == Arithmetic::Remainder && result.is_integer() {
        comparison_type(&left.data_type.logical, &right.data_type.logical).unwrap_or(result.clone())
    } else {
        result.clone()
    };
    let args = vec![
        coerce_number(left, &computed),
        coerce_number(right, &computed),
    ];
    let call = Expr::call(
        function,
        args,
        DataType {
            logical: computed,
            nullable,
        },
    );
    Ok(coerce(call, &result))
}

/// A bare NULL takes the other side's type.
fn number_for(expr: Expr, other: &Expr) -> Expr {
    match (&expr.data_type.logical, &other.data_type.logical) {
        (LogicalType::Null, LogicalType::Null) => coerce(expr, &LogicalType::Int),
        (LogicalType::Null, other) if other.is_numeric() => coerce(expr, other),
        _ => expr,
    }
}

fn plus(left: Expr, right: Expr, right_ast: &ast::Expr) -> Result<Expr, SqlError> {
    let (l, r) = (&left.data_type.logical, &right.data_type.logical);
    if l.is_interval() && l == r {
        return same_type(F::Add, left, right);
    }
    if is_temporal(l) && r.is_interval() {
        return add_interval(left, right, right_ast);
    }
    if l.is_interval() && is_temporal(r) {
        return add_interval(right, left, right_ast);
    }
    arithmetic(Arithmetic::Sum, F::Add, "+", left, right)
}

fn minus(left: Expr, right: Expr, right_ast: &ast::Expr) -> Result<Expr, SqlError> {
    let (l, r) = (&left.data_type.logical, &right.data_type.logical);
    if l.is_interval() && l == r {
        return same_type(F::Subtract, left, right);
    }
    if is_temporal(l) && r.is_interval() {
        let interval = negated(&right).unwrap_or_else(|| {
            let data_type = right.data_type.clone();
            Expr::call(F::Negate, vec![right], data_type)
        });
        return add_interval(left, interval, right_ast);
    }
    if l.is_timestamp() && r.is_timestamp() {
        let nullable = left.data_type.nullable || right.data_type.nullable;
        let data_type = DataType {
            logical: LogicalType::IntervalDayTime,
            nullable,
        };
        return Ok(Expr::call(
            F::SubtractTimestamps,
            vec![left, right],
            data_type,
        ));
    }
    arithmetic(Arithmetic::Sum, F::Subtract, "-", left, right)
}

fn times(left: Expr, right: Expr) -> Result<Expr, SqlError> {
    let (l, r) = (&left.data_type.logical, &right.data_type.logical);
    let (interval, number) = match (l.is_interval(), r.is_interval()) {
        (true, false) if r.is_numeric() => (left, right),
        (false, true) if l.is_numeric() => (right, left),
        _ => return arithmetic(Arithmetic::Product, F::Multiply, "*", left, right),
    };
    let nullable = interval.data_type.nullable || number.data_type.nullable;
    let data_type = interval.data_type.clone().with_nullable(nullable);
    let number = match number.data_type.logical {
        LogicalType::TinyInt | LogicalType::SmallInt => coerce(number, &LogicalType::Int),
        LogicalType::Float => coerce(number, &LogicalType::Double),
        _ => number,
    };
    Ok(Expr::call(
        F::MultiplyInterval,
        vec![interval, number],
        data_type,
    ))
}

fn same_type(function: F, left: Expr, right: Expr) -> Result<Expr, SqlError> {
    let nullable = left.data_type.nullable || right.data_type.nullable;
    let data_type = left.data_type.clone().with_nullable(nullable);
    Ok(Expr::call(function, vec![left, right], data_type))
}

fn add_interval(time: Expr, interval: Expr, interval_ast: &ast::Expr) -> Result<Expr, SqlError> {
    let (of_time, of_interval) = (&time.data_type.logical, &interval.data_type.logical);
    if matches!(of_time, LogicalType::Time(_)) && *of_interval == LogicalType::IntervalYearMonth {
        return Err(inapplicable("+", &time, &interval));
    }
    let nullable = time.data_type.nullable || interval.data_type.nullable;
    // A date plus hours is a point in time.
    let time = if *of_time == LogicalType::Date && is_below_day(interval_ast) {
        coerce(time, &LogicalType::Timestamp(6))
    } else {
        time
    };
    let data_type = time.data_type.clone().with_nullable(nullable);
    Ok(Expr::call(F::AddInterval, vec![time, interval], data_type))
}

fn is_below_day(interval: &ast::Expr) -> bool {
    use ast::DateTimeField as D;
    match interval {
        ast::Expr::Nested(inner) => is_below_day(inner),
        ast::Expr::Interval(interval) => matches!(
            interval.leading_field,
            Some(D::Hour | D::Hours | D::Minute | D::Minutes | D::Second | D::Seconds)
        ),
        _ => false,
    }
}

fn is_temporal(logical: &LogicalType) -> bool {
    logical.is_timestamp() || matches!(logical, LogicalType::Date | LogicalType::Time(_))
}

fn inapplicable(symbol: &str, left: &Expr, right: &Expr) -> SqlError {
    let (l, r) = (&left.data_type.logical, &right.data_type.logical);
    SqlError::validate(format!("cannot apply `{symbol}` to {l} and {r}"))
        .hint("cast one side to the other's type")
}

fn incomparable(function: F, left: &Expr, right: &Expr) -> SqlError {
    let symbol = match function {
        F::Equal => "=",
        F::NotEqual => "<>",
        F::Less => "<",
        F::LessOrEqual => "<=",
        F::Greater => ">",
        F::GreaterOrEqual => ">=",
        _ => "IS DISTINCT FROM",
    };
    inapplicable(symbol, left, right)
}
