//! Flink's type rules: what a mix of types becomes, which types compare, which casts there are.
//! Knows types only; nothing of names, queries or functions.

mod cast;
mod decimal;
mod supertype;

pub(crate) use cast::{explicit_cast_allowed, implicit_cast_allowed};
pub(crate) use decimal::{Arithmetic, arithmetic_type, decimal_of, rounded_decimal};
pub(crate) use supertype::{comparison_type, equal_but_nullability, least_restrictive};
