//! Small constructors and readers over the generated types, so that callers need not spell out
//! protobuf's options.

use super::{
    Call, Case, Cast, Changelog, Expr, Field, FieldAccess, Literal, NullValue, RowType,
    ScalarFunction, When, expr::Kind, literal::Value,
};
use crate::types;

/// Why a plan cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Not the JSON form of a plan.
    #[error("failed to read plan: {0}")]
    Json(String),
    /// Written by a newer build.
    #[error("failed to read plan: its version {found} is newer than {known}")]
    Version {
        /// Version in the plan.
        found: u32,
        /// Newest version this build reads.
        known: u32,
    },
    /// A field that must be set is not.
    #[error("plan lacks `{0}`")]
    Missing(&'static str),
    /// A value that this build does not know.
    #[error("plan has an invalid {what}: {value}")]
    Invalid {
        /// What kind of value.
        what: &'static str,
        /// The value.
        value: String,
    },
}

/// Reads a type written in Flink's notation.
///
/// # Errors
/// When the text is not a type.
pub fn data_type(text: &str) -> Result<types::DataType, PlanError> {
    text.parse()
        .map_err(|error: types::TypeParseError| PlanError::Invalid {
            what: "type",
            value: error.to_string(),
        })
}

/// The columns of a row type.
///
/// # Errors
/// When a type cannot be read.
pub fn fields(row: &RowType) -> Result<Vec<types::Field>, PlanError> {
    let field = |field: &Field| Ok(types::Field::new(&field.name, data_type(&field.r#type)?));
    row.fields.iter().map(field).collect()
}

/// The wire form of columns.
#[must_use]
pub fn row_type(fields: &[types::Field]) -> RowType {
    let field = |field: &types::Field| Field {
        name: field.name.clone(),
        r#type: field.data_type.to_string(),
    };
    RowType {
        fields: fields.iter().map(field).collect(),
    }
}

impl Expr {
    fn new(kind: Kind, data_type: &types::DataType) -> Expr {
        Expr {
            kind: Some(kind),
            r#type: data_type.to_string(),
        }
    }

    /// An input column.
    #[must_use]
    pub fn column(index: usize, data_type: &types::DataType) -> Expr {
        Expr::new(Kind::Column(index as u32), data_type)
    }

    /// A constant.
    #[must_use]
    pub fn literal(value: Value, data_type: &types::DataType) -> Expr {
        Expr::new(Kind::Literal(Literal { value: Some(value) }), data_type)
    }

    /// A typed NULL.
    #[must_use]
    pub fn null(data_type: &types::DataType) -> Expr {
        Expr::literal(Value::Null(NullValue::Null as i32), data_type)
    }

    /// A function call.
    #[must_use]
    pub fn call(function: ScalarFunction, args: Vec<Expr>, data_type: &types::DataType) -> Expr {
        let call = Call {
            function: function.to_string(),
            args,
        };
        Expr::new(Kind::Call(call), data_type)
    }

    /// `CAST(input AS data_type)`, or `TRY_CAST`.
    #[must_use]
    pub fn cast(input: Expr, data_type: &types::DataType, r#try: bool) -> Expr {
        let cast = Cast {
            input: Some(Box::new(input)),
            r#try,
        };
        Expr::new(Kind::Cast(Box::new(cast)), data_type)
    }

    /// Searched CASE.
    #[must_use]
    pub fn case(branches: Vec<(Expr, Expr)>, otherwise: Expr, data_type: &types::DataType) -> Expr {
        let when = |(condition, result)| When {
            condition: Some(condition),
            result: Some(result),
        };
        let case = Case {
            branches: branches.into_iter().map(when).collect(),
            otherwise: Some(Box::new(otherwise)),
        };
        Expr::new(Kind::Case(Box::new(case)), data_type)
    }

    /// Field `index` of a ROW.
    #[must_use]
    pub fn field(input: Expr, index: usize, data_type: &types::DataType) -> Expr {
        let access = FieldAccess {
            input: Some(Box::new(input)),
            index: index as u32,
        };
        Expr::new(Kind::Field(Box::new(access)), data_type)
    }

    /// The type of the result.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn data_type(&self) -> Result<types::DataType, PlanError> {
        data_type(&self.r#type)
    }
}

impl Changelog {
    /// `+I` only.
    pub const APPEND: Changelog = Changelog {
        insert: true,
        update_before: false,
        update_after: false,
        delete: false,
    };
    /// `+I -U +U -D`.
    pub const RETRACT: Changelog = Changelog {
        insert: true,
        update_before: true,
        update_after: true,
        delete: true,
    };
    /// `+I +U -D`: deletes carry at least the key.
    pub const UPSERT: Changelog = Changelog {
        insert: true,
        update_before: false,
        update_after: true,
        delete: true,
    };

    /// Whether only inserts flow.
    #[must_use]
    pub fn is_append(&self) -> bool {
        self.insert && !self.update_before && !self.update_after && !self.delete
    }
}
