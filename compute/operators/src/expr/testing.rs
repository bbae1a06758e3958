//! A notation for expressions in tests: `ADD(qty, 1)::INT`, `CAST('x')::CHAR(3)`,
//! `CASE(c, a, b)::INT`, `FIELD0(addr)::STRING`; names are columns, `::` gives the type.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use engine::schema::arrow_schema;
use proto::{
    plan::{Expr, literal::Value},
    types::{DataType, Field, LogicalType},
};

use super::{CompiledExpr, EvalContext, format::write_tsv_value};

/// A batch and the SQL types of its columns.
pub(crate) struct Table {
    pub(crate) fields: Vec<Field>,
    pub(crate) batch: RecordBatch,
}

impl Table {
    /// Columns as (name, SQL type, values).
    pub(crate) fn new(columns: Vec<(&str, &str, ArrayRef)>) -> Table {
        let rows = columns.first().map_or(1, |column| column.2.len());
        let field = |(name, sql, _): &(&str, &str, ArrayRef)| {
            Field::new(*name, sql.parse::<DataType>().unwrap())
        };
        let fields: Vec<Field> = columns.iter().map(field).collect();
        let arrays = columns.into_iter().map(|column| column.2).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch =
            RecordBatch::try_new_with_options(arrow_schema(&fields), arrays, &options).unwrap();
        Table { fields, batch }
    }

    /// One row without columns.
    pub(crate) fn one_row() -> Table {
        Table::new(Vec::new())
    }

    /// Texts of a column `s`.
    pub(crate) fn texts(values: &[Option<&str>]) -> Table {
        let array = arrow::array::StringArray::from(values.to_vec());
        Table::new(vec![("s", "STRING", Arc::new(array))])
    }

    pub(crate) fn expr(&self, text: &str) -> Expr {
        let mut parser = Parser {
            text,
            at: 0,
            fields: &self.fields,
        };
        let expr = parser.expr();
        assert_eq!(
            parser.at,
            text.len(),
            "{text}: rest is {}",
            &text[parser.at..]
        );
        expr
    }

    /// The values of an expression as results show them, or the error.
    pub(crate) fn evaluate(&self, text: &str) -> Result<Vec<String>, String> {
        let expr = self.expr(text);
        let compiled =
            CompiledExpr::compile(&expr, &self.fields).map_err(|error| error.to_string())?;
        let context = EvalContext {
            now_ms: 1_709_251_200_123,
            watermark: Some(1_709_251_190_000),
        };
        let array = compiled
            .evaluate(&self.batch, &context)
            .map_err(|error| error.to_string())?;
        assert_eq!(array.len(), self.batch.num_rows(), "{text}");
        assert_eq!(
            array.data_type(),
            &engine::schema::arrow_type(&compiled.data_type().logical),
            "{text}"
        );
        let logical = &compiled.data_type().logical;
        let show = |row| {
            let mut out = String::new();
            write_tsv_value(&array, row, logical, &mut out);
            out
        };
        Ok((0..array.len()).map(show).collect())
    }

    /// Expects these values, separated by `|`, or this error.
    pub(crate) fn check(&self, text: &str, expected: &str) {
        let shown = match self.evaluate(text) {
            Ok(values) => values.join("|"),
            Err(error) => error,
        };
        assert_eq!(shown, expected, "{text}");
    }
}

/// Expects this value of a constant expression, or this error.
pub(crate) fn check(text: &str, expected: &str) {
    Table::one_row().check(text, expected);
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    fields: &'a [Field],
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn skip_blanks(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn take(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn word(&mut self) -> String {
        let rest = self.rest();
        let end = rest
            .find(|c: char| !c.is_alphanumeric() && !"_.-".contains(c))
            .unwrap_or(rest.len());
        let word = rest[..end].to_owned();
        self.at += end;
        word
    }

    fn expr(&mut self) -> Expr {
        self.skip_blanks();
        if self.rest().starts_with('\'') {
            return self.text_literal();
        }
        let word = self.word();
        if self.take("(") {
            let mut args = Vec::new();
            self.skip_blanks();
            while !self.take(")") {
                args.push(self.expr());
                self.skip_blanks();
                self.take(",");
                self.skip_blanks();
            }
            let data_type = self
                .data_type()
                .unwrap_or_else(|| panic!("{word} lacks a type"));
            return function(&word, args, &data_type);
        }
        if let Some(index) = self.fields.iter().position(|field| field.name == word) {
            return Expr::column(index, &self.fields[index].data_type);
        }
        self.literal(&word)
    }

    fn text_literal(&mut self) -> Expr {
        self.at += 1;
        let rest = self.rest();
        let mut text = String::new();
        let mut chars = rest.char_indices().peekable();
        while let Some((offset, c)) = chars.next() {
            match (c, chars.peek()) {
                ('\'', Some((_, '\''))) => {
                    text.push('\'');
                    chars.next();
                }
                ('\'', _) => {
                    self.at += offset + 1;
                    break;
                }
                _ => text.push(c),
            }
        }
        let data_type = self.data_type().unwrap_or(LogicalType::STRING.not_null());
        Expr::literal(Value::String(text), &data_type)
    }

    fn literal(&mut self, word: &str) -> Expr {
        let given = self.data_type();
        match word {
            "NULL" => return Expr::null(&given.expect("NULL needs a type")),
            "TRUE" | "FALSE" => {
                let value = Value::Boolean(word == "TRUE");
                return Expr::literal(value, &LogicalType::Boolean.not_null());
            }
            _ => {}
        }
        if let Ok(value) = word.parse::<i64>()
            && !matches!(
                given,
                Some(DataType {
                    logical: LogicalType::Decimal { .. },
                    ..
                })
            )
        {
            let data_type = given.unwrap_or(LogicalType::Int.not_null());
            return Expr::literal(Value::Integer(value), &data_type);
        }
        let data_type = given.unwrap_or(LogicalType::Double.not_null());
        match data_type.logical {
            LogicalType::Decimal { .. } => {
                Expr::literal(Value::Decimal(word.to_owned()), &data_type)
            }
            _ => {
                let value = word.parse().unwrap_or_else(|_| panic!("no column {word}"));
                Expr::literal(Value::Double(value), &data_type)
            }
        }
    }

    /// `::type` up to the next `,` or `)` outside parentheses and angle brackets.
    fn data_type(&mut self) -> Option<DataType> {
        if !self.take("::") {
            return None;
        }
        let mut depth = 0;
        let mut end = self.rest().len();
        for (offset, c) in self.rest().char_indices() {
            match c {
                '(' | '<' => depth += 1,
                ',' | ')' | '>' if depth == 0 => {
                    end = offset;
                    break;
                }
                ')' | '>' => depth -= 1,
                _ => {}
            }
        }
        let text = self.rest()[..end].to_owned();
        self.at += end;
        Some(text.parse().unwrap())
    }
}

fn function(word: &str, mut args: Vec<Expr>, data_type: &DataType) -> Expr {
    match word {
        "CAST" | "TRY_CAST" => Expr::cast(args.remove(0), data_type, word == "TRY_CAST"),
        "CASE" => {
            let otherwise = if args.len() % 2 == 1 {
                args.pop().unwrap()
            } else {
                Expr::null(data_type)
            };
            let branches = args
                .chunks(2)
                .map(|pair| (pair[0].clone(), pair[1].clone()))
                .collect();
            Expr::case(branches, otherwise, data_type)
        }
        _ => match word.strip_prefix("FIELD") {
            Some(index) => Expr::field(args.remove(0), index.parse().unwrap(), data_type),
            None => {
                let function = word
                    .parse()
                    .unwrap_or_else(|_| panic!("no function {word}"));
                Expr::call(function, args, data_type)
            }
        },
    }
}
