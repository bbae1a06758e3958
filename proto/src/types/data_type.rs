//! SQL types, as Flink defines them. `Display` writes Flink's notation and `FromStr` reads it:
//! that notation is how types stand in plans.

use std::fmt;

/// A SQL type and whether it admits NULL.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct DataType {
    /// The type without nullability.
    pub logical: LogicalType,
    /// Whether NULL is a value of the type.
    pub nullable: bool,
}

/// A SQL type without its nullability.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum LogicalType {
    /// The type of a bare `NULL`.
    Null,
    /// `BOOLEAN`
    Boolean,
    /// 8 bits
    TinyInt,
    /// 16 bits
    SmallInt,
    /// 32 bits
    Int,
    /// 64 bits
    BigInt,
    /// IEEE single
    Float,
    /// IEEE double
    Double,
    /// `DECIMAL(precision, scale)`, precision 1 to 38.
    Decimal {
        /// Digits in all.
        precision: u8,
        /// Digits after the point.
        scale: u8,
    },
    /// `CHAR(n)`: n code points, padded with spaces by CAST.
    Char(u32),
    /// `VARCHAR(n)`: at most n code points. `STRING` is `VARCHAR(2147483647)`.
    Varchar(u32),
    /// `BINARY(n)`
    Binary(u32),
    /// `VARBINARY(n)`. `BYTES` is `VARBINARY(2147483647)`.
    Varbinary(u32),
    /// Days since 1970-01-01.
    Date,
    /// Time of day; kept to the millisecond, whatever the precision says.
    Time(u8),
    /// Wall-clock time without zone, precision 0 to 9.
    Timestamp(u8),
    /// An instant, shown in the session's zone.
    TimestampLtz(u8),
    /// `INTERVAL YEAR TO MONTH`, in months.
    IntervalYearMonth,
    /// `INTERVAL DAY TO SECOND`, in milliseconds.
    IntervalDayTime,
    /// `ARRAY<t>`
    Array(Box<DataType>),
    /// `MAP<k, v>`
    Map(Box<DataType>, Box<DataType>),
    /// `MULTISET<t>`: elements with counts.
    Multiset(Box<DataType>),
    /// `ROW<name type, …>`
    Row(Vec<Field>),
}

/// A named, typed column or ROW field.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Field {
    /// Name as written, case kept.
    pub name: String,
    /// Its type.
    pub data_type: DataType,
}

impl Field {
    /// A field of this name and type.
    pub fn new(name: impl Into<String>, data_type: DataType) -> Self {
        Field {
            name: name.into(),
            data_type,
        }
    }
}

/// Length of `STRING` and `BYTES`.
const UNBOUNDED_LENGTH: u32 = i32::MAX as u32;

impl LogicalType {
    /// `STRING`.
    pub const STRING: LogicalType = LogicalType::Varchar(UNBOUNDED_LENGTH);
    /// `BYTES`.
    pub const BYTES: LogicalType = LogicalType::Varbinary(UNBOUNDED_LENGTH);

    /// The type with NULL.
    #[must_use]
    pub fn nullable(self) -> DataType {
        DataType {
            logical: self,
            nullable: true,
        }
    }

    /// The type without NULL.
    #[must_use]
    pub fn not_null(self) -> DataType {
        DataType {
            logical: self,
            nullable: false,
        }
    }

    /// `CHAR` or `VARCHAR`.
    #[must_use]
    pub fn is_character(&self) -> bool {
        matches!(self, LogicalType::Char(_) | LogicalType::Varchar(_))
    }

    /// `BINARY` or `VARBINARY`.
    #[must_use]
    pub fn is_binary(&self) -> bool {
        matches!(self, LogicalType::Binary(_) | LogicalType::Varbinary(_))
    }

    /// `TINYINT` to `BIGINT`.
    #[must_use]
    pub fn is_integer(&self) -> bool {
        use LogicalType::{BigInt, Int, SmallInt, TinyInt};
        matches!(self, TinyInt | SmallInt | Int | BigInt)
    }

    /// Integers and `DECIMAL`.
    #[must_use]
    pub fn is_exact_numeric(&self) -> bool {
        self.is_integer() || matches!(self, LogicalType::Decimal { .. })
    }

    /// `FLOAT` or `DOUBLE`.
    #[must_use]
    pub fn is_approximate_numeric(&self) -> bool {
        matches!(self, LogicalType::Float | LogicalType::Double)
    }

    /// Any number.
    #[must_use]
    pub fn is_numeric(&self) -> bool {
        self.is_exact_numeric() || self.is_approximate_numeric()
    }

    /// `TIMESTAMP` or `TIMESTAMP_LTZ`.
    #[must_use]
    pub fn is_timestamp(&self) -> bool {
        matches!(
            self,
            LogicalType::Timestamp(_) | LogicalType::TimestampLtz(_)
        )
    }

    /// Either interval type.
    #[must_use]
    pub fn is_interval(&self) -> bool {
        matches!(
            self,
            LogicalType::IntervalYearMonth | LogicalType::IntervalDayTime
        )
    }
}

impl DataType {
    /// The same type with the given nullability.
    #[must_use]
    pub fn with_nullable(mut self, nullable: bool) -> DataType {
        self.nullable = nullable;
        self
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.logical)?;
        if self.nullable {
            Ok(())
        } else {
            f.write_str(" NOT NULL")
        }
    }
}

impl fmt::Display for LogicalType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogicalType::Null => f.write_str("NULL"),
            LogicalType::Boolean => f.write_str("BOOLEAN"),
            LogicalType::TinyInt => f.write_str("TINYINT"),
            LogicalType::SmallInt => f.write_str("SMALLINT"),
            LogicalType::Int => f.write_str("INT"),
            LogicalType::BigInt => f.write_str("BIGINT"),
            LogicalType::Float => f.write_str("FLOAT"),
            LogicalType::Double => f.write_str("DOUBLE"),
            LogicalType::Decimal { precision, scale } => write!(f, "DECIMAL({precision}, {scale})"),
            LogicalType::Char(length) => write!(f, "CHAR({length})"),
            LogicalType::Varchar(UNBOUNDED_LENGTH) => f.write_str("STRING"),
            LogicalType::Varchar(length) => write!(f, "VARCHAR({length})"),
            LogicalType::Binary(length) => write!(f, "BINARY({length})"),
            LogicalType::Varbinary(UNBOUNDED_LENGTH) => f.write_str("BYTES"),
            LogicalType::Varbinary(length) => write!(f, "VARBINARY({length})"),
            LogicalType::Date => f.write_str("DATE"),
            LogicalType::Time(precision) => write!(f, "TIME({precision})"),
            LogicalType::Timestamp(precision) => write!(f, "TIMESTAMP({precision})"),
            LogicalType::TimestampLtz(precision) => write!(f, "TIMESTAMP_LTZ({precision})"),
            LogicalType::IntervalYearMonth => f.write_str("INTERVAL YEAR TO MONTH"),
            LogicalType::IntervalDayTime => f.write_str("INTERVAL DAY TO SECOND"),
            LogicalType::Array(element) => write!(f, "ARRAY<{element}>"),
            LogicalType::Map(key, value) => write!(f, "MAP<{key}, {value}>"),
            LogicalType::Multiset(element) => write!(f, "MULTISET<{element}>"),
            LogicalType::Row(fields) => {
                f.write_str("ROW<")?;
                for (i, field) in fields.iter().enumerate() {
                    let comma = if i > 0 { ", " } else { "" };
                    let name = field.name.replace('`', "``");
                    write!(f, "{comma}`{name}` {}", field.data_type)?;
                }
                f.write_str(">")
            }
        }
    }
}
