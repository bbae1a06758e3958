//! Records of delimited fields to inserts.

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};
use proto::{
    plan::{self, CsvFormat},
    types::{DataType, Field, LogicalType, RowKind},
};

use super::CsvOptions;
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
    reader: Reader,
    fields: Vec<u8>,
    ends: Vec<usize>,
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
        let mut builder = ReaderBuilder::new();
        builder.delimiter(options.delimiter);
        match options.quote {
            Some(quote) => builder.quote(quote),
            None => builder.quoting(false),
        };
        builder.escape(options.escape);
        Ok(CsvDecoder {
            options,
            allow_comments: format.allow_comments,
            lenient: format.ignore_parse_errors,
            targets,
            reader: builder.build(),
            fields: vec![0; 1024],
            ends: vec![0; 64],
        })
    }

    pub(crate) fn ignores_errors(&self) -> bool {
        self.lenient
    }

    pub(crate) fn framing(&self) -> Framing {
        match self.options.quote {
            Some(quote) => Framing::QuotedLines {
                delimiter: self.options.delimiter,
                quote,
                escape: self.options.escape,
            },
            None => Framing::Lines,
        }
    }

    pub(crate) fn decode(&mut self, record: &[u8], rows: &mut Rows) -> Result<(), String> {
        if record.is_empty() || (self.allow_comments && record.starts_with(b"#")) {
            return Ok(());
        }
        std::str::from_utf8(record).map_err(|_| "not valid UTF-8".to_owned())?;
        let found = self.split(record);
        let expected = self.targets.len();
        if found != expected && (found > expected || !self.lenient) {
            return Err(format!("expected {expected} fields, found {found}"));
        }
        let length = rows.len();
        let (names, columns) = rows.parts();
        let mut start = 0;
        for ((data_type, target), end) in self.targets.iter().zip(&self.ends[..found]) {
            let text = &self.fields[start..*end];
            start = *end;
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

    /// Unquotes the record's fields into `fields`, cut by `ends`; their number.
    fn split(&mut self, record: &[u8]) -> usize {
        self.reader.reset();
        // Unquoting never makes a record longer.
        if self.fields.len() < record.len() {
            self.fields.resize(record.len(), 0);
        }
        let (mut input, mut written, mut ended) = (record, 0, 0);
        loop {
            let (result, read, wrote, ends) = self.reader.read_record(
                input,
                &mut self.fields[written..],
                &mut self.ends[ended..],
            );
            input = &input[read..];
            written += wrote;
            ended += ends;
            match result {
                // The input that follows is empty, which ends the record.
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => self.fields.resize(self.fields.len() * 2, 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::Record | ReadRecordResult::End => return ended,
            }
        }
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
