//! What a function takes and returns: the vocabulary of the function tables.

use std::fmt;

use proto::plan::ScalarFunction;
use proto::types::{DataType, LogicalType};

use super::any_nullable;
use crate::error::SqlError;
use crate::logical::Expr;

/// One form of a function.
pub(super) struct Signature {
    pub(super) name: &'static str,
    pub(super) function: ScalarFunction,
    args: &'static [Arg],
    /// How many of `args` at least.
    required: usize,
    /// The last argument may repeat.
    variadic: bool,
    returns: Returns,
}

/// What an argument must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Arg {
    Boolean,
    /// CHAR or VARCHAR.
    Text,
    /// BINARY or VARBINARY.
    Bytes,
    TextOrBytes,
    /// TINYINT to INT, as INT.
    Int,
    /// Any integer, as BIGINT.
    BigInt,
    /// Any integer, as it is.
    Integer,
    /// Any number, as DOUBLE.
    Double,
    /// Any number, as it is.
    Number,
    /// Number or interval.
    NumberOrInterval,
    /// TIMESTAMP or TIMESTAMP_LTZ.
    AnyTimestamp,
    Array,
    Map,
    /// ARRAY, MAP or MULTISET.
    Collection,
    ArrayOfText,
    Any,
}

/// What a function returns.
pub(super) enum Returns {
    /// NULL where an argument is.
    Type(LogicalType),
    /// NULL for reasons of its own.
    Nullable(LogicalType),
    NotNull(LogicalType),
    /// Type of an argument; NULL where any argument is.
    SameAs(usize),
    /// As VARCHAR, if the argument is CHAR.
    Varying(usize),
    /// Type of an argument, nullable.
    NullableAs(usize),
    With(fn(&[Expr]) -> Result<DataType, SqlError>),
}

/// A form with all of `args`.
pub(super) const fn sig(
    name: &'static str,
    function: ScalarFunction,
    args: &'static [Arg],
    returns: Returns,
) -> Signature {
    Signature {
        name,
        function,
        args,
        required: args.len(),
        variadic: false,
        returns,
    }
}

impl Signature {
    /// The last `count` arguments may be left out.
    pub(super) const fn optional(mut self, count: usize) -> Signature {
        self.required -= count;
        self
    }

    /// The last argument may stand any number of times.
    pub(super) const fn variadic(mut self) -> Signature {
        self.variadic = true;
        self
    }

    /// The types to cast the arguments to (`None`: leave it), if the form takes them.
    pub(super) fn matches(&self, args: &[Expr]) -> Option<Vec<Option<LogicalType>>> {
        let fits = args.len() >= self.required
            && (args.len() <= self.args.len() || (self.variadic && !self.args.is_empty()));
        if !fits {
            return None;
        }
        args.iter()
            .enumerate()
            .map(|(i, arg)| self.args[i.min(self.args.len() - 1)].accepts(arg))
            .collect()
    }

    /// Type of the result for arguments that match.
    pub(super) fn result(&self, args: &[Expr]) -> Result<DataType, SqlError> {
        let nullable = any_nullable(args);
        let of = |index: usize| args[index].data_type.logical.clone();
        Ok(match &self.returns {
            Returns::Type(logical) => DataType {
                logical: logical.clone(),
                nullable,
            },
            Returns::Nullable(logical) => logical.clone().nullable(),
            Returns::NotNull(logical) => logical.clone().not_null(),
            Returns::SameAs(index) => DataType {
                logical: of(*index),
                nullable,
            },
            Returns::NullableAs(index) => of(*index).nullable(),
            Returns::Varying(index) => {
                let logical = match of(*index) {
                    LogicalType::Char(n) => LogicalType::Varchar(n),
                    LogicalType::Null => LogicalType::STRING,
                    other => other,
                };
                DataType { logical, nullable }
            }
            Returns::With(derive) => derive(args)?,
        })
    }
}

impl Arg {
    /// Whether the argument is one of these, and what to cast it to.
    fn accepts(self, arg: &Expr) -> Option<Option<LogicalType>> {
        use LogicalType as T;
        let from = &arg.data_type.logical;
        if *from == T::Null {
            return self.of_null();
        }
        let keep = |holds: bool| holds.then_some(None);
        let cast = |holds: bool, to: T| holds.then_some(Some(to));
        match self {
            Arg::Boolean => keep(*from == T::Boolean),
            Arg::Text => keep(from.is_character()),
            Arg::Bytes => keep(from.is_binary()),
            Arg::TextOrBytes => keep(from.is_character() || from.is_binary()),
            Arg::Int => cast(matches!(from, T::TinyInt | T::SmallInt | T::Int), T::Int),
            Arg::BigInt => cast(from.is_integer(), T::BigInt),
            Arg::Integer => keep(from.is_integer()),
            Arg::Double => cast(from.is_numeric(), T::Double),
            Arg::Number => keep(from.is_numeric()),
            Arg::NumberOrInterval => keep(from.is_numeric() || from.is_interval()),
            Arg::AnyTimestamp => keep(from.is_timestamp()),
            Arg::Array => keep(matches!(from, T::Array(_))),
            Arg::Map => keep(matches!(from, T::Map(..))),
            Arg::Collection => keep(matches!(from, T::Array(_) | T::Map(..) | T::Multiset(_))),
            Arg::ArrayOfText => match from {
                T::Array(element) if element.logical.is_character() => Some(None),
                _ => None,
            },
            Arg::Any => Some(None),
        }
    }

    /// The type that a bare NULL takes.
    fn of_null(self) -> Option<Option<LogicalType>> {
        use LogicalType as T;
        Some(Some(match self {
            Arg::Boolean => T::Boolean,
            Arg::Text | Arg::TextOrBytes => T::STRING,
            Arg::Bytes => T::BYTES,
            Arg::Int | Arg::Integer | Arg::Number | Arg::NumberOrInterval => T::Int,
            Arg::BigInt => T::BigInt,
            Arg::Double => T::Double,
            Arg::AnyTimestamp => T::Timestamp(3),
            Arg::Any => return Some(None),
            Arg::Array | Arg::Map | Arg::Collection | Arg::ArrayOfText => return None,
        }))
    }

    fn name(self) -> &'static str {
        match self {
            Arg::Boolean => "BOOLEAN",
            Arg::Text => "STRING",
            Arg::Bytes => "BYTES",
            Arg::TextOrBytes => "STRING or BYTES",
            Arg::Int => "INT",
            Arg::BigInt => "BIGINT",
            Arg::Integer => "integer",
            Arg::Double | Arg::Number => "number",
            Arg::NumberOrInterval => "number or interval",
            Arg::AnyTimestamp => "TIMESTAMP or TIMESTAMP_LTZ",
            Arg::Array => "ARRAY",
            Arg::Map => "MAP",
            Arg::Collection => "ARRAY, MAP or MULTISET",
            Arg::ArrayOfText => "ARRAY<STRING>",
            Arg::Any => "any",
        }
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.name)?;
        for (i, arg) in self.args.iter().enumerate() {
            if i == self.required {
                f.write_str("[")?;
            }
            if i > 0 {
                f.write_str(", ")?;
            }
            f.write_str(arg.name())?;
        }
        if self.required < self.args.len() {
            f.write_str("]")?;
        }
        f.write_str(if self.variadic { ", …)" } else { ")" })
    }
}
