//! What can go wrong with an expression: when it is compiled, and when it is evaluated.

use arrow::error::ArrowError;
use proto::plan::PlanError;

/// Why an expression of a plan cannot be compiled.
#[derive(Debug, thiserror::Error)]
pub enum ExprError {
    /// The plan itself is broken.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// No function of this name exists.
    #[error("unknown function `{0}`")]
    UnknownFunction(String),
    /// The function exists, but not for these arguments.
    #[error("{function} is not supported for ({arguments})")]
    Unsupported {
        /// Name of the function.
        function: String,
        /// Types of its arguments.
        arguments: String,
    },
    /// An argument that must be a valid literal is not.
    #[error("invalid argument of {function}: {message}")]
    InvalidArgument {
        /// Name of the function.
        function: String,
        /// What is wrong with it.
        message: String,
    },
    /// A cast that SQL does not define.
    #[error("cast from {from} to {to} is not supported")]
    UnsupportedCast {
        /// Type of the operand.
        from: String,
        /// Type asked for.
        to: String,
    },
    /// A column index beyond the input.
    #[error("expression reads column {index} of {count}")]
    NoSuchColumn {
        /// The index.
        index: usize,
        /// Columns that there are.
        count: usize,
    },
}

/// Why an expression failed for a row.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// Integer or DECIMAL division by zero.
    #[error("division by zero in {operator}")]
    DivisionByZero {
        /// `/` or `%`.
        operator: &'static str,
    },
    /// A value that CAST cannot convert.
    #[error("failed to cast `{value}` to {to}")]
    Cast {
        /// Text of the value.
        value: String,
        /// The type asked for.
        to: String,
    },
    /// A function refused its arguments.
    #[error("failed to evaluate {function}: {message}")]
    Function {
        /// Name of the function.
        function: &'static str,
        /// Why.
        message: String,
    },
    /// A batch does not have the column type that the expression was compiled for.
    #[error("input column {index} is {found}, expected {expected}")]
    Input {
        /// Index of the column.
        index: usize,
        /// Type in the batch.
        found: String,
        /// Type compiled for.
        expected: String,
    },
    /// An arrow kernel failed.
    #[error("failed to compute: {0}")]
    Arrow(#[from] ArrowError),
    /// Any of these, and where it arose.
    #[error("{error}, {place}")]
    At {
        /// What failed.
        error: Box<EvalError>,
        /// Which part of the query.
        place: String,
    },
}

impl EvalError {
    /// The error with its place.
    pub(crate) fn at(self, place: impl Into<String>) -> Self {
        EvalError::At {
            error: Box::new(self),
            place: place.into(),
        }
    }

    pub(crate) fn function(function: &'static str, message: impl Into<String>) -> Self {
        EvalError::Function {
            function,
            message: message.into(),
        }
    }
}
