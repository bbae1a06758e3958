//! Records of delimited fields to inserts.

use proto::{
    plan::{self, CsvFormat},
    types::{DataType, Field, LogicalType, RowKind},
};

use super::{CsvOptions, Splitter};
use crate::{
    column::{Column, Data, Rows},
    format::Framing,
    text::{TimestampStyle, push_text},
};

/// Decodes one delimited record.
pub(crate) struct CsvDecoder {
    options: CsvOptions,
    allow_comments: bool,
    lenient: bool,
    /// Per field of a record: its type in the file, and the produced column it goes to.
    targets: Vec<(DataType, Option<usize>)>,
    splitter: Splitter,
}

impl CsvDecoder {
    pub(crate) fn new(format: &CsvFormat, produced: &[Field]) -> Result<CsvDecoder, String> {
        let options = CsvOptions::new(format)?;
        let in_file = match &format.columns {
            Some(columns) => plan::fields(columns).map_err(|error| error.to_string())?,
            None => produced.to_vec(),
        };
        if let Some(missing) = produced
            .iter()
            .find(|field| in_file.iter().all(|column| column.name != field.name))
        {
            return Err(format!("column `{}` is not in the CSV file", missing.name));
        }
        for field in produced {
            check_type(&field.name, &field.data_type.logical, 0)?;
        }
        let targets = in_file
            .into_iter()
            .map(|column| {
                let target = produced.iter().position(|field| field.name == column.name);
                (column.data_type, target)
            })
            .collect();
        Ok(CsvDecoder {
            options,
            allow_comments: format.allow_comments,
            lenient: format.ignore_parse_errors,
            targets,
            splitter: Splitter::default(),
        })
    }

    pub(crate) fn ignores_errors(&self) -> bool {
        self.lenient
    }

    pub(crate) fn framing(&self) -> Framing {
        Framing::Delimited {
            delimiter: self.options.delimiter,
            quote: self.options.quote,
            escape: self.options.escape,
            comments: self.allow_comments,
        }
    }

    pub(crate) fn decode(&mut self, record: &[u8], rows: &mut Rows) -> Result<(), String> {
        if record.is_empty() || (self.allow_comments && record.starts_with(b"#")) {
            return Ok(());
        }
        std::str::from_utf8(record).map_err(|_| "not valid UTF-8".to_owned())?;
        let found = self.splitter.split(record, &self.options)?;
        let expected = self.targets.len();
        let last = self.splitter.fields().last().unwrap_or_default();
        // A delimiter at the end of a line is no field.
        let trailing = found == expected + 1 && last.trim_ascii().is_empty();
        if found != expected && !trailing && (found > expected || !self.lenient) {
            return Err(format!("expected {expected} fields, found {found}"));
        }
        let length = rows.len();
        let (names, columns) = rows.parts();
        for ((data_type, target), text) in self.targets.iter().zip(self.splitter.fields()) {
            let Some(target) = *target else { continue };
            let column = &mut columns[target];
            let result = push_field(column, data_type, text, &self.options);
            match result {
                Ok(()) => {}
                Err(_) if self.lenient => {
                    column.truncate(length);
                    column.push_null();
                }
                Err(cause) => return Err(format!("field `{}`: {cause}", names[target])),
            }
        }
        for column in columns {
            if column.len() == length {
                column.push_null();
            }
        }
        rows.complete(RowKind::Insert);
        Ok(())
    }
}

/// Appends the value of one field (or element) of type `in_file`, of which `column` may have only
/// some of a ROW's fields.
fn push_field(
    column: &mut Column,
    in_file: &DataType,
    text: &[u8],
    options: &CsvOptions,
) -> Result<(), String> {
    if options.null_literal.as_deref() == Some(text) {
        column.push_null();
        return Ok(());
    }
    let length = column.len();
    match (&column.logical, &mut column.data, &in_file.logical) {
        (LogicalType::Array(_), Data::List { items, .. }, LogicalType::Array(element)) => {
            for part in elements(text, &options.element_delimiter) {
                push_field(items, element, part, options)?;
            }
            column.close();
        }
        (LogicalType::Row(wanted), Data::Struct(columns), LogicalType::Row(fields)) => {
            let found = elements(text, &options.element_delimiter).count();
            if found != fields.len() {
                return Err(format!("expected {} elements, found {found}", fields.len()));
            }
            for (part, field) in elements(text, &options.element_delimiter).zip(fields) {
                let target = wanted.iter().position(|wanted| wanted.name == field.name);
                if let Some(target) = target {
                    push_field(&mut columns[target], &field.data_type, part, options)?;
                }
            }
            for column in columns.iter_mut().filter(|column| column.len() == length) {
                column.push_null();
            }
            column.mark_valid();
        }
        _ => {
            push_text(column, text, TimestampStyle::Sql).map_err(|cause| match text {
                [] => format!("{cause}; set 'csv.null-literal' = '' if an empty field is NULL"),
                _ => cause,
            })?;
        }
    }
    Ok(())
}

/// Parts between delimiters; an empty text has none.
fn elements<'t>(text: &'t [u8], delimiter: &'t [u8]) -> impl Iterator<Item = &'t [u8]> {
    let mut rest = (!text.is_empty()).then_some(text);
    std::iter::from_fn(move || {
        let text = rest.take()?;
        match memchr::memmem::find(text, delimiter) {
            Some(at) => {
                rest = Some(&text[at + delimiter.len()..]);
                Some(&text[..at])
            }
            None => Some(text),
        }
    })
}

pub(super) fn check_type(column: &str, logical: &LogicalType, depth: usize) -> Result<(), String> {
    match logical {
        LogicalType::Map(_, _) | LogicalType::Multiset(_) => Err(format!(
            "format csv has no form for column `{column}` of type {logical}"
        )),
        LogicalType::Array(_) | LogicalType::Row(_) if depth > 0 => Err(format!(
            "format csv has no form for the {logical} inside column `{column}`"
        )),
        LogicalType::Array(element) => check_type(column, &element.logical, depth + 1),
        LogicalType::Row(fields) => fields
            .iter()
            .try_for_each(|field| check_type(column, &field.data_type.logical, depth + 1)),
        _ => Ok(()),
    }
}
