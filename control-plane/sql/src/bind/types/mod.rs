//! Flink's type rules: what a mix of types becomes, which types compare, which casts there are.
//! Knows types only; nothing of names, queries or functions.

mod cast;
mod common;
mod decimal;

pub(crate) use cast::{explicit_cast_allowed, implicit_cast_allowed};
pub(crate) use common::{comparison_type, equal_but_nullability, least_restrictive};
pub(crate) use decimal::{Arithmetic, arithmetic_type, decimal_of, rounded_decimal};
