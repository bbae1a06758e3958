//! One JSON value into one column; one JSON object into a row's columns.

use proto::{
    plan::{JsonFormat, TimestampFormat},
    types::{Field, LogicalType},
};

use super::{Cursor, SyntaxError};
use crate::{
    column::{Column, Data, Rows},
    text::{TimestampStyle, not_a, push_text},
};

/// Why a value was not taken.
#[derive(Debug)]
pub(crate) enum Fail {
    /// The text is not JSON: nothing after it can be trusted.
    Syntax(SyntaxError),
    /// JSON, but not of the column's type. The text names the column.
    Value(String),
}

impl From<SyntaxError> for Fail {
    fn from(error: SyntaxError) -> Fail {
        Fail::Syntax(error)
    }
}

impl std::fmt::Display for Fail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fail::Syntax(error) => write!(f, "not valid JSON: {error}"),
            Fail::Value(cause) => f.write_str(cause),
        }
    }
}

/// Reads objects into columns, with the options of Flink's `json` format.
#[derive(Debug)]
pub(crate) struct ObjectReader {
    fail_on_missing: bool,
    /// A value of the wrong type becomes NULL.
    lenient: bool,
    style: TimestampStyle,
    scratch: Vec<u8>,
}

impl ObjectReader {
    pub(crate) fn new(format: &JsonFormat) -> ObjectReader {
        let style = match format.timestamp_format() {
            TimestampFormat::Iso8601 => TimestampStyle::Iso8601,
            TimestampFormat::Sql | TimestampFormat::Unspecified => TimestampStyle::Sql,
        };
        ObjectReader {
            fail_on_missing: format.fail_on_missing_field,
            lenient: format.ignore_parse_errors,
            style,
            scratch: Vec::new(),
        }
    }

    /// Whether values of the wrong type become NULL and bad records are skipped.
    pub(crate) fn lenient(&self) -> bool {
        self.lenient
    }

    /// Reads an object into the next row, which the caller completes.
    pub(crate) fn next_row(
        &mut self,
        cursor: &mut Cursor<'_>,
        rows: &mut Rows,
    ) -> Result<(), Fail> {
        let length = rows.len();
        let (names, columns) = rows.parts();
        self.object(cursor, columns, |index| &names[index], length)
    }

    /// Reads an object: appends exactly one value to each of `columns`, which are called `name(i)`
    /// and all have `length` values.
    fn object<'n>(
        &mut self,
        cursor: &mut Cursor<'_>,
        columns: &mut [Column],
        name: impl Fn(usize) -> &'n str,
        length: usize,
    ) -> Result<(), Fail> {
        cursor.open(b'{', "an object")?;
        // Members mostly come in the order of the columns.
        let mut next = 0;
        let mut more = cursor.not_empty(b'}');
        while more {
            let key = cursor.string(&mut self.scratch)?;
            let found = find(key, columns.len(), next, &name);
            cursor.expect(b':', "`:`")?;
            match found {
                Some(index) => {
                    let column = &mut columns[index];
                    if column.len() > length {
                        column.truncate(length);
                    }
                    self.value(cursor, column)
                        .map_err(|fail| within(fail, name(index)))?;
                    next = index + 1;
                }
                None => cursor.skip()?,
            }
            more = cursor.more(b'}')?;
        }
        for (index, column) in columns.iter_mut().enumerate() {
            if column.len() == length {
                if self.fail_on_missing && !self.lenient {
                    return Err(Fail::Value(format!("field `{}` is missing", name(index))));
                }
                column.push_null();
            }
        }
        Ok(())
    }

    /// Reads a value into `column`: exactly one is appended unless it fails.
    pub(crate) fn value(
        &mut self,
        cursor: &mut Cursor<'_>,
        column: &mut Column,
    ) -> Result<(), Fail> {
        if !self.lenient {
            return self.strict_value(cursor, column);
        }
        let (start, length) = (cursor.clone(), column.len());
        match self.strict_value(cursor, column) {
            Err(Fail::Value(_)) => {
                cursor.rewind(&start);
                cursor.skip()?;
                column.truncate(length);
                column.push_null();
                Ok(())
            }
            result => result,
        }
    }

    fn strict_value(&mut self, cursor: &mut Cursor<'_>, column: &mut Column) -> Result<(), Fail> {
        if cursor.eat_null()? {
            column.push_null();
            return Ok(());
        }
        let next = cursor.peek();
        match &column.logical {
            LogicalType::Char(_) | LogicalType::Varchar(_) => return string(cursor, column, next),
            LogicalType::Row(_) => return self.row(cursor, column, next),
            LogicalType::Array(_) => return self.array(cursor, column, next),
            LogicalType::Map(_, _) | LogicalType::Multiset(_) => {
                return self.map(cursor, column, next);
            }
            _ => {}
        }
        match next {
            Some(b'"') => {
                let text = cursor.string(&mut self.scratch)?;
                push_text(column, text, self.style).map_err(Fail::Value)
            }
            Some(b'{' | b'[') => Err(wrong_kind(cursor, column)?),
            _ => self.bare(cursor, column),
        }
    }

    /// A number or boolean for a column of a plain type.
    fn bare(&mut self, cursor: &mut Cursor<'_>, column: &mut Column) -> Result<(), Fail> {
        let text = cursor.bare()?;
        match (&column.logical, &mut column.data) {
            (LogicalType::BigInt, Data::I64(values)) => match small_integer(text) {
                Some(value) => values.push(value),
                None => values.push(integer(text, &column.logical)?),
            },
            (LogicalType::Int, Data::I32(values)) => match small_integer(text) {
                Some(value) if i32::try_from(value).is_ok() => values.push(value as i32),
                _ => values.push(integer(text, &column.logical)?),
            },
            _ => return push_text(column, text, self.style).map_err(Fail::Value),
        }
        column.mark_valid();
        Ok(())
    }

    fn row(
        &mut self,
        cursor: &mut Cursor<'_>,
        column: &mut Column,
        next: Option<u8>,
    ) -> Result<(), Fail> {
        if next != Some(b'{') {
            return Err(wrong_kind(cursor, column)?);
        }
        let length = column.len();
        if let (LogicalType::Row(fields), Data::Struct(columns)) =
            (&column.logical, &mut column.data)
        {
            let name = |index: usize| fields.get(index).map_or("", |field: &Field| &*field.name);
            self.object(cursor, columns, name, length)?;
        }
        column.mark_valid();
        Ok(())
    }

    fn array(
        &mut self,
        cursor: &mut Cursor<'_>,
        column: &mut Column,
        next: Option<u8>,
    ) -> Result<(), Fail> {
        if next != Some(b'[') {
            return Err(wrong_kind(cursor, column)?);
        }
        if let Data::List { items, .. } = &mut column.data {
            cursor.open(b'[', "an array")?;
            let mut more = cursor.not_empty(b']');
            while more {
                self.value(cursor, items)?;
                more = cursor.more(b']')?;
            }
        }
        column.close();
        Ok(())
    }

    /// An object as a MAP (or MULTISET, with counts). A key that comes twice counts once, with
    /// its last value.
    fn map(
        &mut self,
        cursor: &mut Cursor<'_>,
        column: &mut Column,
        next: Option<u8>,
    ) -> Result<(), Fail> {
        if next != Some(b'{') {
            return Err(wrong_kind(cursor, column)?);
        }
        let start = cursor.clone();
        if let Data::Map { keys, values, .. } = &mut column.data {
            let first = keys.len();
            self.entries(cursor, keys, values, &[])?;
            let repeated = keys.repeated_strings(first);
            if !repeated.is_empty() {
                cursor.rewind(&start);
                keys.truncate(first);
                values.truncate(first);
                self.entries(cursor, keys, values, &repeated)?;
            }
        }
        column.close();
        Ok(())
    }

    fn entries(
        &mut self,
        cursor: &mut Cursor<'_>,
        keys: &mut Column,
        values: &mut Column,
        skipped: &[usize],
    ) -> Result<(), Fail> {
        cursor.open(b'{', "an object")?;
        let mut more = cursor.not_empty(b'}');
        let mut entry = 0;
        while more {
            let key = cursor.string(&mut self.scratch)?;
            let skip = skipped.contains(&entry);
            if !skip {
                push_text(keys, key, self.style).map_err(Fail::Value)?;
            }
            cursor.expect(b':', "`:`")?;
            if skip {
                cursor.skip()?;
            } else {
                self.value(cursor, values)?;
            }
            entry += 1;
            more = cursor.more(b'}')?;
        }
        Ok(())
    }
}

fn find<'n>(
    key: &[u8],
    columns: usize,
    next: usize,
    name: &impl Fn(usize) -> &'n str,
) -> Option<usize> {
    if next < columns && name(next).as_bytes() == key {
        return Some(next);
    }
    (0..columns).find(|index| name(*index).as_bytes() == key)
}

fn string(cursor: &mut Cursor<'_>, column: &mut Column, next: Option<u8>) -> Result<(), Fail> {
    if let Data::Bytes { values, .. } = &mut column.data {
        if next == Some(b'"') {
            cursor.string_into(values)?;
        } else {
            cursor.compact_into(values)?;
        }
    }
    column.close();
    Ok(())
}

/// Consumes a value that does not fit the column, so that a syntax error in it comes first.
fn wrong_kind(cursor: &mut Cursor<'_>, column: &Column) -> Result<Fail, SyntaxError> {
    let start = cursor.position();
    cursor.skip()?;
    Ok(Fail::Value(not_a(&column.logical, cursor.since(start))))
}

/// Up to 18 digits: what fits an i64 whatever they are.
#[inline]
fn small_integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text.split_first() {
        Some((b'-', digits)) => (true, digits),
        _ => (false, text),
    };
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    let mut value = 0_i64;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + i64::from(digit);
    }
    Some(if negative { -value } else { value })
}

/// Other numbers for INT and BIGINT: a fraction is cut off, as Jackson does, if what remains is
/// in range.
fn integer<T: TryFrom<i128>>(text: &[u8], logical: &LogicalType) -> Result<T, Fail> {
    let wrong = || Fail::Value(not_a(logical, text));
    let shown = std::str::from_utf8(text).map_err(|_| wrong())?;
    let value = match shown.parse::<i128>() {
        Ok(value) => value,
        Err(_) => {
            let float: f64 = shown.parse().map_err(|_| wrong())?;
            float as i128
        }
    };
    T::try_from(value).map_err(|_| wrong())
}

fn within(fail: Fail, name: &str) -> Fail {
    match fail {
        Fail::Value(cause) => Fail::Value(match cause.strip_prefix("field `") {
            Some(rest) => format!("field `{name}.{rest}"),
            None => format!("field `{name}`: {cause}"),
        }),
        syntax @ Fail::Syntax(_) => syntax,
    }
}
