//! Reads types in Flink's notation, as plans and the DDL write them.

use std::{iter::Peekable, str::CharIndices, str::FromStr};

use super::data_type::{DataType, Field, LogicalType};

/// Why a text is not a type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} at byte {offset} of type `{text}`")]
pub struct TypeParseError {
    /// What is wrong.
    pub message: String,
    /// Where, in bytes from the start of the text.
    pub offset: usize,
    /// The whole text.
    pub text: String,
}

impl FromStr for DataType {
    type Err = TypeParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parser = TypeParser {
            text,
            tokens: tokenize(text)?.into_iter().peekable(),
        };
        let data_type = parser.data_type()?;
        match parser.tokens.next() {
            None => Ok(data_type),
            Some((offset, token)) => Err(parser.error(offset, format!("unexpected {token:?}"))),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// A word, upper-cased copy beside the text as written.
    Word(String),
    Quoted(String),
    Number(u32),
    Symbol(char),
}

fn tokenize(text: &str) -> Result<Vec<(usize, Token)>, TypeParseError> {
    let fail = |offset: usize, message: &str| TypeParseError {
        message: message.to_owned(),
        offset,
        text: text.to_owned(),
    };
    let mut tokens = Vec::new();
    let mut chars = text.char_indices().peekable();
    while let Some((offset, c)) = chars.next() {
        let token = match c {
            c if c.is_whitespace() => continue,
            '`' => Token::Quoted(quoted(&mut chars).ok_or_else(|| fail(offset, "open quote"))?),
            c if c.is_ascii_digit() => {
                let digits = run(c, &mut chars, |c| c.is_ascii_digit());
                Token::Number(
                    digits
                        .parse()
                        .map_err(|_| fail(offset, "number too large"))?,
                )
            }
            c if c.is_alphabetic() || c == '_' => Token::Word(run(c, &mut chars, |c| {
                c.is_alphanumeric() || c == '_' || c == '$'
            })),
            '<' | '>' | '(' | ')' | ',' => Token::Symbol(c),
            _ => return Err(fail(offset, "unexpected character")),
        };
        tokens.push((offset, token));
    }
    Ok(tokens)
}

fn run(first: char, chars: &mut Peekable<CharIndices<'_>>, more: impl Fn(char) -> bool) -> String {
    let mut text = String::from(first);
    while let Some((_, c)) = chars.next_if(|(_, c)| more(*c)) {
        text.push(c);
    }
    text
}

fn quoted(chars: &mut Peekable<CharIndices<'_>>) -> Option<String> {
    let mut text = String::new();
    loop {
        match chars.next()?.1 {
            '`' if chars.next_if(|(_, c)| *c == '`').is_some() => text.push('`'),
            '`' => return Some(text),
            c => text.push(c),
        }
    }
}

struct TypeParser<'a> {
    text: &'a str,
    tokens: Peekable<std::vec::IntoIter<(usize, Token)>>,
}

impl TypeParser<'_> {
    fn data_type(&mut self) -> Result<DataType, TypeParseError> {
        let mut data_type = self.logical_type()?.nullable();
        loop {
            if self.word("NOT") {
                self.expect_word("NULL")?;
                data_type.nullable = false;
            } else if self.word("NULL") {
                data_type.nullable = true;
            } else if self.word("ARRAY") {
                data_type = LogicalType::Array(Box::new(data_type)).nullable();
            } else if self.word("MULTISET") {
                data_type = LogicalType::Multiset(Box::new(data_type)).nullable();
            } else {
                return Ok(data_type);
            }
        }
    }

    fn logical_type(&mut self) -> Result<LogicalType, TypeParseError> {
        let (offset, name) = match self.tokens.next() {
            Some((offset, Token::Word(word))) => (offset, word.to_ascii_uppercase()),
            Some((offset, token)) => {
                return Err(self.error(offset, format!("expected a type, found {token:?}")));
            }
            None => return Err(self.error(self.text.len(), "expected a type".to_owned())),
        };
        Ok(match name.as_str() {
            "NULL" => LogicalType::Null,
            "BOOLEAN" => LogicalType::Boolean,
            "TINYINT" => LogicalType::TinyInt,
            "SMALLINT" => LogicalType::SmallInt,
            "INT" | "INTEGER" => LogicalType::Int,
            "BIGINT" => LogicalType::BigInt,
            "FLOAT" => LogicalType::Float,
            "DOUBLE" => {
                self.word("PRECISION");
                LogicalType::Double
            }
            "DECIMAL" | "DEC" | "NUMERIC" => self.decimal(offset)?,
            "CHAR" | "CHARACTER" if self.word("VARYING") => {
                LogicalType::Varchar(self.length(offset, 1)?)
            }
            "CHAR" | "CHARACTER" => LogicalType::Char(self.length(offset, 1)?),
            "VARCHAR" => LogicalType::Varchar(self.length(offset, 1)?),
            "STRING" => LogicalType::STRING,
            "BINARY" if self.word("VARYING") => LogicalType::Varbinary(self.length(offset, 1)?),
            "BINARY" => LogicalType::Binary(self.length(offset, 1)?),
            "VARBINARY" => LogicalType::Varbinary(self.length(offset, 1)?),
            "BYTES" => LogicalType::BYTES,
            "DATE" => LogicalType::Date,
            "TIME" => {
                let precision = self.precision(offset, 0, 9)?;
                self.without_time_zone()?;
                LogicalType::Time(precision)
            }
            "TIMESTAMP" => self.timestamp(offset)?,
            "TIMESTAMP_LTZ" => LogicalType::TimestampLtz(self.precision(offset, 6, 9)?),
            "INTERVAL" => self.interval()?,
            "ARRAY" => LogicalType::Array(Box::new(self.one_argument()?)),
            "MULTISET" => LogicalType::Multiset(Box::new(self.one_argument()?)),
            "MAP" => {
                self.expect_symbol('<')?;
                let key = self.data_type()?;
                self.expect_symbol(',')?;
                let value = self.data_type()?;
                self.expect_symbol('>')?;
                LogicalType::Map(Box::new(key), Box::new(value))
            }
            "ROW" => LogicalType::Row(self.row_fields()?),
            _ => return Err(self.error(offset, format!("unknown type {name}"))),
        })
    }

    fn decimal(&mut self, offset: usize) -> Result<LogicalType, TypeParseError> {
        let (mut precision, mut scale) = (10, 0);
        if self.symbol('(') {
            precision = self.number()?;
            if self.symbol(',') {
                scale = self.number()?;
            }
            self.expect_symbol(')')?;
        }
        if !(1..=38).contains(&precision) || scale > precision {
            let message = "DECIMAL needs 1 <= precision <= 38 and 0 <= scale <= precision";
            return Err(self.error(offset, message.to_owned()));
        }
        Ok(LogicalType::Decimal {
            precision: precision as u8,
            scale: scale as u8,
        })
    }

    fn timestamp(&mut self, offset: usize) -> Result<LogicalType, TypeParseError> {
        let precision = self.precision(offset, 6, 9)?;
        if !self.word("WITH") {
            self.without_time_zone()?;
            return Ok(LogicalType::Timestamp(precision));
        }
        if !self.word("LOCAL") {
            let message = "TIMESTAMP WITH TIME ZONE is not supported; \
                           use TIMESTAMP WITH LOCAL TIME ZONE (TIMESTAMP_LTZ)";
            return Err(self.error(offset, message.to_owned()));
        }
        self.expect_word("TIME")?;
        self.expect_word("ZONE")?;
        Ok(LogicalType::TimestampLtz(precision))
    }

    fn without_time_zone(&mut self) -> Result<(), TypeParseError> {
        if self.word("WITHOUT") {
            self.expect_word("TIME")?;
            self.expect_word("ZONE")?;
        }
        Ok(())
    }

    fn interval(&mut self) -> Result<LogicalType, TypeParseError> {
        let mut last = String::new();
        while let Some((_, Token::Word(_))) = self.tokens.peek() {
            let unit = ["YEAR", "MONTH", "DAY", "HOUR", "MINUTE", "SECOND", "TO"];
            let Some(found) = unit.iter().find(|unit| self.word(unit)) else {
                break;
            };
            last = (*found).to_owned();
            if self.symbol('(') {
                self.number()?;
                self.expect_symbol(')')?;
            }
        }
        match last.as_str() {
            "YEAR" | "MONTH" => Ok(LogicalType::IntervalYearMonth),
            "DAY" | "HOUR" | "MINUTE" | "SECOND" => Ok(LogicalType::IntervalDayTime),
            _ => Err(self.error(0, "INTERVAL needs a unit".to_owned())),
        }
    }

    fn row_fields(&mut self) -> Result<Vec<Field>, TypeParseError> {
        let close = if self.symbol('(') {
            ')'
        } else {
            self.expect_symbol('<')?;
            '>'
        };
        let mut fields = Vec::new();
        if self.symbol(close) {
            return Ok(fields);
        }
        loop {
            let name = match self.tokens.next() {
                Some((_, Token::Word(name) | Token::Quoted(name))) => name,
                Some((offset, _)) => {
                    return Err(self.error(offset, "expected a field name".to_owned()));
                }
                None => {
                    return Err(self.error(self.text.len(), "expected a field name".to_owned()));
                }
            };
            fields.push(Field::new(name, self.data_type()?));
            if !self.symbol(',') {
                self.expect_symbol(close)?;
                return Ok(fields);
            }
        }
    }

    fn one_argument(&mut self) -> Result<DataType, TypeParseError> {
        self.expect_symbol('<')?;
        let argument = self.data_type()?;
        self.expect_symbol('>')?;
        Ok(argument)
    }

    fn length(&mut self, offset: usize, default: u32) -> Result<u32, TypeParseError> {
        if !self.symbol('(') {
            return Ok(default);
        }
        let length = self.number()?;
        self.expect_symbol(')')?;
        if length == 0 || length > i32::MAX as u32 {
            return Err(self.error(offset, "length must be 1 to 2147483647".to_owned()));
        }
        Ok(length)
    }

    fn precision(&mut self, offset: usize, default: u8, max: u32) -> Result<u8, TypeParseError> {
        if !self.symbol('(') {
            return Ok(default);
        }
        let precision = self.number()?;
        self.expect_symbol(')')?;
        if precision > max {
            return Err(self.error(offset, format!("precision must be 0 to {max}")));
        }
        Ok(precision as u8)
    }

    fn number(&mut self) -> Result<u32, TypeParseError> {
        match self.tokens.next() {
            Some((_, Token::Number(number))) => Ok(number),
            Some((offset, _)) => Err(self.error(offset, "expected a number".to_owned())),
            None => Err(self.error(self.text.len(), "expected a number".to_owned())),
        }
    }

    fn word(&mut self, expected: &str) -> bool {
        let is = |token: &(usize, Token)| matches!(&token.1, Token::Word(word) if word.eq_ignore_ascii_case(expected));
        self.tokens.next_if(is).is_some()
    }

    fn symbol(&mut self, expected: char) -> bool {
        self.tokens
            .next_if(|token| token.1 == Token::Symbol(expected))
            .is_some()
    }

    fn expect_word(&mut self, expected: &str) -> Result<(), TypeParseError> {
        if self.word(expected) {
            Ok(())
        } else {
            Err(self.expected(expected))
        }
    }

    fn expect_symbol(&mut self, expected: char) -> Result<(), TypeParseError> {
        if self.symbol(expected) {
            Ok(())
        } else {
            Err(self.expected(&expected.to_string()))
        }
    }

    fn expected(&mut self, what: &str) -> TypeParseError {
        let offset = self.tokens.peek().map_or(self.text.len(), |token| token.0);
        self.error(offset, format!("expected `{what}`"))
    }

    fn error(&self, offset: usize, message: String) -> TypeParseError {
        TypeParseError {
            message,
            offset,
            text: self.text.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let shown = match text.parse::<DataType>() {
            Ok(data_type) => {
                let shown = data_type.to_string();
                assert_eq!(shown.parse::<DataType>().as_ref(), Ok(&data_type), "{text}");
                shown
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(shown, expected, "{text}");
    }

    #[test]
    fn types_in_flink_notation() {
        check("int", "INT");
        check("VARCHAR(2147483647)", "STRING");
        check("decimal", "DECIMAL(10, 0)");
        check("DECIMAL(38,2) NOT NULL", "DECIMAL(38, 2) NOT NULL");
        check("TIMESTAMP", "TIMESTAMP(6)");
        check(
            "TIMESTAMP(3) WITH LOCAL TIME ZONE NOT NULL",
            "TIMESTAMP_LTZ(3) NOT NULL",
        );
        check("INT ARRAY", "ARRAY<INT>");
        check(
            "MAP<STRING NOT NULL,ROW<a INT, `b c` ARRAY<DOUBLE>>>",
            "MAP<STRING NOT NULL, ROW<`a` INT, `b c` ARRAY<DOUBLE>>>",
        );
        check("INTERVAL DAY(3) TO SECOND(3)", "INTERVAL DAY TO SECOND");
        check("INTERVAL MONTH", "INTERVAL YEAR TO MONTH");
        check("ROW<>", "ROW<>");
        check("TIME", "TIME(0)");
    }

    #[test]
    fn what_is_wrong_with_a_type() {
        check("", "expected a type at byte 0 of type ``");
        check("WORD", "unknown type WORD at byte 0 of type `WORD`");
        check(
            "DECIMAL(39, 0)",
            "DECIMAL needs 1 <= precision <= 38 and 0 <= scale <= precision at byte 0 of type `DECIMAL(39, 0)`",
        );
        check("ARRAY<INT", "expected `>` at byte 9 of type `ARRAY<INT`");
        check(
            "CHAR(0)",
            "length must be 1 to 2147483647 at byte 0 of type `CHAR(0)`",
        );
        check(
            "INT INT",
            "unexpected Word(\"INT\") at byte 4 of type `INT INT`",
        );
    }
}
