//! `'format' = '…'` and the options under the format's own name.

use proto::plan::format_spec::Format;
use proto::plan::{
    CsvFormat, DebeziumJsonFormat, FormatSpec, JsonFormat, MapNullKey, RawFormat, TimestampFormat,
    row_type,
};
use proto::types::Field;

use super::Shape;
use super::options::Options;
use crate::suggest::nearest;

const FORMATS: &[&str] = &["csv", "debezium-json", "json", "raw"];

/// Reads `format` and its options; errors are left in `options`.
pub(super) fn read(options: &mut Options, shape: &Shape) -> Option<FormatSpec> {
    let name = options.required("format", &FORMATS.join(", "));
    let in_record: Vec<Field> = shape
        .fields
        .iter()
        .filter(|field| !shape.partition_by.contains(&field.name))
        .cloned()
        .collect();
    let format = match name.as_str() {
        "json" => Format::Json(options.with_prefix("json", |options| json(options, false))),
        "csv" => Format::Csv(options.with_prefix("csv", |options| csv(options, &in_record))),
        "debezium-json" => Format::DebeziumJson(options.with_prefix("debezium-json", |options| {
            DebeziumJsonFormat {
                schema_include: options.boolean("schema-include", false),
                json: Some(json(options, true)),
            }
        })),
        "raw" => Format::Raw(raw(options, &in_record)),
        // Reported as missing or empty already.
        "" => return None,
        other => {
            let hint = match nearest(other, FORMATS.iter().copied()) {
                Some(near) => format!("did you mean '{near}'?"),
                None => format!("formats are {}", FORMATS.join(", ")),
            };
            options.fail("format", format!("unknown format '{other}'"), &hint);
            return None;
        }
    };
    Some(FormatSpec {
        format: Some(format),
    })
}

/// The options of `json`; `debezium-json` has all of them but one.
fn json(options: &mut Options, debezium: bool) -> JsonFormat {
    options.unsupported(&["decode.json-parser.enabled"]);
    let fail_on_missing_field = !debezium && options.boolean("fail-on-missing-field", false);
    let ignore_parse_errors = options.boolean("ignore-parse-errors", false);
    if fail_on_missing_field && ignore_parse_errors {
        options.fail(
            "fail-on-missing-field",
            "'json.fail-on-missing-field' and 'json.ignore-parse-errors' exclude each other",
            "leave one of them out",
        );
    }
    let timestamps = [
        ("SQL", TimestampFormat::Sql),
        ("ISO-8601", TimestampFormat::Iso8601),
    ];
    let null_keys = [
        ("FAIL", MapNullKey::Fail),
        ("DROP", MapNullKey::Drop),
        ("LITERAL", MapNullKey::Literal),
    ];
    let timestamp = options.choice(
        "timestamp-format.standard",
        &timestamps,
        TimestampFormat::Sql,
    );
    let map_null_key = options.choice("map-null-key.mode", &null_keys, MapNullKey::Fail);
    let literal = options.text("map-null-key.literal");
    JsonFormat {
        fail_on_missing_field,
        ignore_parse_errors,
        timestamp_format: timestamp.into(),
        map_null_key: map_null_key.into(),
        map_null_key_literal: literal.unwrap_or_else(|| "null".to_owned()),
        encode_decimal_as_plain_number: options.boolean("encode.decimal-as-plain-number", false),
        encode_ignore_null_fields: options.boolean("encode.ignore-null-fields", false),
    }
}

fn csv(options: &mut Options, columns: &[Field]) -> CsvFormat {
    let disable_quote_character = options.boolean("disable-quote-character", false);
    if disable_quote_character && options.has("quote-character") {
        options.fail(
            "quote-character",
            "'csv.quote-character' is given, but 'csv.disable-quote-character' is true",
            "leave one of them out",
        );
    }
    CsvFormat {
        field_delimiter: options.character("field-delimiter", ","),
        disable_quote_character,
        quote_character: options.character("quote-character", "\""),
        allow_comments: options.boolean("allow-comments", false),
        ignore_parse_errors: options.boolean("ignore-parse-errors", false),
        array_element_delimiter: options
            .text("array-element-delimiter")
            .unwrap_or_else(|| ";".to_owned()),
        escape_character: options.character("escape-character", ""),
        null_literal: options.text("null-literal"),
        write_bigdecimal_in_scientific_notation: options
            .boolean("write-bigdecimal-in-scientific-notation", true),
        columns: Some(row_type(columns)),
    }
}

fn raw(options: &mut Options, columns: &[Field]) -> RawFormat {
    options.with_prefix("raw", |options| {
        options.parsed(
            "charset",
            "UTF-8, the only one that is supported",
            (),
            |text| text.eq_ignore_ascii_case("UTF-8").then_some(()),
        );
        options.parsed(
            "endianness",
            "big-endian, the only one that is supported",
            (),
            |text| text.eq_ignore_ascii_case("big-endian").then_some(()),
        );
    });
    let fits = match columns {
        [only] => {
            let logical = &only.data_type.logical;
            logical.is_character() || logical.is_binary()
        }
        _ => false,
    };
    if !fits {
        options.fail(
            "format",
            "format 'raw' needs exactly one column, of characters or bytes",
            "declare one column of type STRING or BYTES",
        );
    }
    RawFormat {}
}
