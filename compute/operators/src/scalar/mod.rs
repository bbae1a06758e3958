//! What each scalar function computes: one file per family, each turning a call's signature into
//! a kernel over whole columns.
//!
//! A kernel gets the types its signature named and fills exactly `Args::rows` rows.

mod arithmetic;
mod array;
mod array_set;
mod comparison;
mod decimal;
mod family;
#[cfg(test)]
mod function_test;
mod gather;
mod json;
mod json_build;
mod json_path;
mod json_text;
mod kernel;
mod logic;
mod map;
mod math;
mod moment;
mod now;
mod operands;
mod pattern;
mod random;
mod rules;
mod string_basic;
mod string_codec;
mod string_list;
mod string_pattern;
mod string_search;
mod time_arith;
mod time_format;
mod time_parts;
mod time_pattern;
mod url;

use arrow::array::ArrayRef;
use proto::{plan::ScalarFunction, types::DataType};

use crate::expr::{EvalError, ExprError, Purity, value::Args};

pub(crate) use decimal::{POWERS_OF_TEN, fits, rescale};
pub(crate) use logic::field_access;
pub(crate) use operands::wanted_types;
pub(crate) use rules::is_strict;

/// A function over columns.
pub(crate) type Kernel = Box<dyn Fn(&Args<'_>) -> Result<ArrayRef, EvalError> + Send + Sync>;

/// A call as its kernel's maker sees it.
pub(crate) struct Signature<'a> {
    pub(crate) function: ScalarFunction,
    pub(crate) name: &'static str,
    pub(crate) args: &'a [DataType],
    /// Arguments that are constants.
    pub(crate) constants: &'a [Option<ArrayRef>],
    /// The functions whose results arguments are.
    pub(crate) made_by: &'a [Option<ScalarFunction>],
    pub(crate) result: &'a DataType,
}

impl Signature<'_> {
    /// The error for argument types that the function does not have.
    pub(crate) fn unsupported(&self) -> ExprError {
        let arguments: Vec<String> = self
            .args
            .iter()
            .map(|arg| arg.logical.to_string())
            .collect();
        ExprError::Unsupported {
            function: self.name.to_owned(),
            arguments: arguments.join(", "),
        }
    }

    /// The error for a literal argument that means nothing.
    pub(crate) fn invalid(&self, message: impl Into<String>) -> ExprError {
        ExprError::InvalidArgument {
            function: self.name.to_owned(),
            message: message.into(),
        }
    }

    /// The text of a constant STRING argument that is not NULL.
    pub(crate) fn constant_text(&self, index: usize) -> Option<&str> {
        use arrow::array::{Array as _, AsArray as _};
        let array = self.constants.get(index)?.as_ref()?;
        let array = array.as_string_opt::<i32>()?;
        array.is_valid(0).then(|| array.value(0))
    }
}

/// A kernel and what the evaluator must know of it.
pub(crate) struct Built {
    pub(crate) kernel: Kernel,
    pub(crate) purity: Purity,
    pub(crate) can_fail: bool,
    pub(crate) cost: u32,
}

/// Makes the kernel of a call.
pub(crate) fn build(signature: &Signature<'_>) -> Result<Built, ExprError> {
    Ok(Built {
        kernel: kernel_of(signature)?,
        purity: rules::purity(signature),
        can_fail: rules::can_fail(signature),
        cost: rules::cost(signature.function),
    })
}

fn kernel_of(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    use family::Family;
    let family = family::family(signature.function).ok_or_else(|| signature.unsupported())?;
    match family {
        Family::Comparison => comparison::build(signature),
        Family::Logic => logic::build(signature),
        Family::Arithmetic => arithmetic::build(signature),
        Family::StringBasic => string_basic::build(signature),
        Family::Math => math::build(signature),
        Family::StringSearch => string_search::build(signature),
        Family::StringPattern => string_pattern::build(signature),
        Family::StringCodec => string_codec::build(signature),
        Family::Url => url::build(signature),
        Family::TimeParts => time_parts::build(signature),
        Family::TimeArith => time_arith::build(signature),
        Family::TimeFormat => time_format::build(signature),
        Family::Now => now::build(signature),
        Family::Array => array::build(signature),
        Family::ArraySet => array_set::build(signature),
        Family::Map => map::build(signature),
        Family::Json => json::build(signature),
        Family::JsonBuild => json_build::build(signature),
    }
}
