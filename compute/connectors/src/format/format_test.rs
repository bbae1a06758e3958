//! Records to rows and rows to records, as tables.

use proto::plan::{
    CsvFormat, DebeziumJsonFormat, FormatSpec, JsonFormat, RawFormat, TimestampFormat,
    format_spec::Format,
};

use super::*;
use crate::{
    column::Rows,
    testing::{fields, lines},
};

fn check(format: Format, columns: &str, record: &str, expected: &str) {
    let fields = fields(columns);
    let format = FormatSpec {
        format: Some(format),
    };
    let shown = match open_decoder(Some(&format), &fields) {
        Err(error) => error.to_string(),
        Ok(mut decoder) => {
            let mut rows = Rows::new(&fields);
            // What a bad record leaves must not be seen by the next.
            let result = decoder.decode(record.as_bytes(), &mut rows);
            decoder.decode(b"", &mut rows).unwrap();
            let batch = rows.finish().unwrap();
            let mut shown = lines(&fields, &[batch]).join("\n");
            if let Err(BadRecord(cause)) = result {
                assert_eq!(shown, "");
                shown = cause;
            }
            shown
        }
    };
    assert_eq!(shown, expected, "{record}");
}

fn json(columns: &str, record: &str, expected: &str) {
    check(
        Format::Json(JsonFormat::default()),
        columns,
        record,
        expected,
    );
}

fn lenient(columns: &str, record: &str, expected: &str) {
    let format = JsonFormat {
        ignore_parse_errors: true,
        ..Default::default()
    };
    check(Format::Json(format), columns, record, expected);
}

#[test]
fn json_of_every_type() {
    json(
        "b BOOLEAN, i8 TINYINT, i16 SMALLINT, i32 INT, i64 BIGINT, f32 FLOAT, f64 DOUBLE",
        r#"{"b":true,"i8":-21,"i16":15397,"i32":-2147483648,"i64":-964198547098499896,"f32":-34.75,"f64":1e300}"#,
        r#"+I {"b":true,"i8":-21,"i16":15397,"i32":-2147483648,"i64":-964198547098499896,"f32":-34.75,"f64":1.0E300}"#,
    );
    json(
        "d DECIMAL(38, 2), s STRING, dt DATE, tm TIME(0), ts TIMESTAMP(3), tz TIMESTAMP_LTZ(3), y BYTES",
        r#"{ "d" : 0.1 , "s":"é\n\"\u0041\ud83d\ude00", "dt":"2038-10-02","tm":"01:57:38","ts":"2038-10-02 11:06:30.634","tz":"2038-10-02 11:06:30Z","y":"AAE="}"#,
        r#"+I {"d":0.10,"s":"é\n\"A😀","dt":"2038-10-02","tm":"01:57:38","ts":"2038-10-02 11:06:30.634","tz":"2038-10-02 11:06:30Z","y":"AAE="}"#,
    );
    json(
        "a ARRAY<INT>, m MAP<STRING, INT>, r ROW<x INT, y ROW<z STRING>>, ar ARRAY<ROW<n INT>>",
        r#"{"a":[1,null,3],"m":{"ü":3,"b":null},"r":{"y":{"z":"q"},"x":1},"ar":[{"n":6},{}]}"#,
        r#"+I {"a":[1,null,3],"m":{"ü":3,"b":null},"r":{"x":1,"y":{"z":"q"}},"ar":[{"n":6},{"n":null}]}"#,
    );
    json(
        "a ARRAY<INT>, m MAP<STRING, INT>, r ROW<x INT>",
        r#"{"a":null,"m":{},"r":null}"#,
        r#"+I {"a":null,"m":{},"r":null}"#,
    );
}

#[test]
fn json_values_are_coerced_as_jackson_does() {
    json("a INT", r#"{"a":" 12 "}"#, r#"+I {"a":12}"#);
    json("a INT", r#"{"a":1.9}"#, r#"+I {"a":1}"#);
    json("a INT", "null", "");
    json("a INT", r#"[null,{"a":1}]"#, r#"+I {"a":1}"#);
    json(
        "a BIGINT",
        r#"{"a":9223372036854775807}"#,
        r#"+I {"a":9223372036854775807}"#,
    );
    json(
        "a BIGINT",
        r#"{"a":9223372036854775808}"#,
        "field `a`: expected BIGINT, found \"9223372036854775808\"",
    );
    json(
        "a INT",
        r#"{"a":2147483648}"#,
        "field `a`: expected INT, found \"2147483648\"",
    );
    json("a STRING", r#"{"a":1.50}"#, r#"+I {"a":"1.50"}"#);
    json("a STRING", r#"{"a":true}"#, r#"+I {"a":"true"}"#);
    json(
        "a STRING",
        r#"{"a":{"b": [1, "x \" y"]}}"#,
        r#"+I {"a":"{\"b\":[1,\"x \\\" y\"]}"}"#,
    );
    json("a BOOLEAN", r#"{"a":"TRUE"}"#, r#"+I {"a":true}"#);
    json("a BOOLEAN", r#"{"a":"yes"}"#, r#"+I {"a":false}"#);
    json("a DOUBLE", r#"{"a":"-1.5"}"#, r#"+I {"a":-1.5}"#);
    json("a DOUBLE", r#"{"a":"NaN"}"#, r#"+I {"a":"NaN"}"#);
    json("a DECIMAL(4, 2)", r#"{"a":"12.345"}"#, r#"+I {"a":12.35}"#);
    json("a DECIMAL(4, 2)", r#"{"a":123}"#, r#"+I {"a":null}"#);
    json(
        "a TIME(0)",
        r#"{"a":"01:02:03.999"}"#,
        r#"+I {"a":"01:02:03"}"#,
    );
}

#[test]
fn json_members() {
    json(
        "a INT, b INT",
        r#"{"b":2,"z":{"a":[{}]},"a":1}"#,
        r#"+I {"a":1,"b":2}"#,
    );
    json(
        "a INT, b STRING",
        r#"{"a":1,"b":"x","a":2,"b":"yy"}"#,
        r#"+I {"a":2,"b":"yy"}"#,
    );
    json("a INT, b INT", r#"{"b":2}"#, r#"+I {"a":null,"b":2}"#);
    json(
        "m MAP<STRING, INT>",
        r#"{"m":{"a":1,"b":2,"a":3}}"#,
        r#"+I {"m":{"b":2,"a":3}}"#,
    );
    json(
        "a INT",
        r#"[{"a":1},{"a":2}]"#,
        "+I {\"a\":1}\n+I {\"a\":2}",
    );
    json("a INT", "  ", "");
    json("a INT", "{}", r#"+I {"a":null}"#);
    let strict = JsonFormat {
        fail_on_missing_field: true,
        ..Default::default()
    };
    check(
        Format::Json(strict),
        "a INT, r ROW<x INT>",
        r#"{"a":1,"r":{}}"#,
        "field `r.x` is missing",
    );
    json(
        "m MAP<INT, INT>",
        "{}",
        "JSON has no MAP with keys of type INT (column `m`); use STRING keys",
    );
}

#[test]
fn json_that_is_bad() {
    json(
        "a INT",
        r#"{"a":1"#,
        "not valid JSON: expected `,` or the end of the object or array at byte 6",
    );
    json(
        "a INT",
        r#"{"a":1} x"#,
        "not valid JSON: expected the end at byte 8",
    );
    json(
        "a INT",
        r#"{"a":}"#,
        "not valid JSON: expected a value at byte 5",
    );
    json(
        "a STRING",
        r#"{"a":"x"#,
        "not valid JSON: expected the end of the string at byte 7",
    );
    json(
        "a STRING",
        r#"{"a":"\x"}"#,
        "not valid JSON: expected an escape at byte 7",
    );
    json(
        "a INT",
        "17",
        "not valid JSON: expected an object at byte 0",
    );
    json(
        "a INT",
        "[{\"a\":1},{\"a\":x}]",
        "not valid JSON: expected a value at byte 14",
    );
    json(
        "a INT",
        r#"{"a":"x"}"#,
        "field `a`: expected INT, found \"x\"",
    );
    json(
        "r ROW<x ARRAY<INT>>",
        r#"{"r":{"x":[1,{"y":2}]}}"#,
        "field `r.x`: expected INT, found \"{\"y\":2}\"",
    );
    json(
        "a ARRAY<INT>",
        r#"{"a":5}"#,
        "field `a`: expected ARRAY<INT>, found \"5\"",
    );
    let deep = format!("{{\"z\":{}1{}}}", "[".repeat(300), "]".repeat(300));
    json(
        "a INT",
        &deep,
        "not valid JSON: expected less nesting at byte 205",
    );
}

#[test]
fn json_errors_ignored() {
    lenient(
        "a INT, b INT",
        r#"{"a":"x","b":2}"#,
        r#"+I {"a":null,"b":2}"#,
    );
    lenient(
        "a ARRAY<INT>, b INT",
        r#"{"a":[1,"x",3],"b":2}"#,
        r#"+I {"a":[1,null,3],"b":2}"#,
    );
    lenient(
        "r ROW<x INT, y INT>",
        r#"{"r":{"x":1,"y":[]}}"#,
        r#"+I {"r":{"x":1,"y":null}}"#,
    );
    lenient(
        "r ROW<x INT>, b INT",
        r#"{"r":7,"b":1}"#,
        r#"+I {"r":null,"b":1}"#,
    );
    lenient(
        "m MAP<STRING, INT>",
        r#"{"m":{"a":"q","b":1}}"#,
        r#"+I {"m":{"a":null,"b":1}}"#,
    );
    lenient(
        "a INT",
        r#"{"a":1"#,
        "not valid JSON: expected `,` or the end of the object or array at byte 6",
    );
}

#[test]
fn json_times_in_iso_8601() {
    let iso = JsonFormat {
        timestamp_format: TimestampFormat::Iso8601 as i32,
        ..Default::default()
    };
    check(
        Format::Json(iso.clone()),
        "a TIMESTAMP(3), b TIMESTAMP_LTZ(6)",
        r#"{"a":"2024-03-01T01:02","b":"2024-03-01T01:02:03.123456Z"}"#,
        r#"+I {"a":"2024-03-01 01:02:00","b":"2024-03-01 01:02:03.123456Z"}"#,
    );
    check(
        Format::Json(iso),
        "a TIMESTAMP(3)",
        r#"{"a":"2024-03-01 01:02:03"}"#,
        "field `a`: expected TIMESTAMP(3), found \"2024-03-01 01:02:03\"",
    );
}

fn debezium(record: &str, expected: &str) {
    let format = Format::DebeziumJson(DebeziumJsonFormat::default());
    check(format, "a INT, b STRING", record, expected);
}

#[test]
fn change_events() {
    debezium(
        r#"{"before":null,"after":{"a":1,"b":"x"},"op":"c"}"#,
        r#"+I {"a":1,"b":"x"}"#,
    );
    debezium(
        r#"{"op":"u","source":{"op":"d"},"after":{"a":1,"b":"y"},"before":{"a":1,"b":"x"}}"#,
        "-U {\"a\":1,\"b\":\"x\"}\n+U {\"a\":1,\"b\":\"y\"}",
    );
    debezium(
        r#"{"before":{"a":1,"b":"y"},"after":null,"op":"d"}"#,
        r#"-D {"a":1,"b":"y"}"#,
    );
    debezium("", "");
    debezium(
        r#"{"before":null,"after":{"a":1},"op":"u"}"#,
        "the event's `before` is null; a PostgreSQL table needs REPLICA IDENTITY FULL to have it",
    );
    debezium(
        r#"{"before":{"a":1},"after":{"a":"x"},"op":"u"}"#,
        "`after`: field `a`: expected INT, found \"x\"",
    );
    debezium(
        r#"{"after":{"a":1},"op":"t"}"#,
        "unknown `op` \"t\": expected c, r, u or d",
    );
    debezium(r#"{"after":{"a":1}}"#, "the event has no `op`");
    let with_schema = DebeziumJsonFormat {
        schema_include: true,
        ..Default::default()
    };
    check(
        Format::DebeziumJson(with_schema),
        "a INT",
        r#"{"schema":{"a":1},"payload":{"before":null,"after":{"a":1},"op":"r"}}"#,
        r#"+I {"a":1}"#,
    );
}

#[test]
fn delimited_records() {
    let csv = |columns: &str, record: &str, expected: &str| {
        check(Format::Csv(CsvFormat::default()), columns, record, expected);
    };
    csv(
        "a INT, b STRING, c TIMESTAMP(3), d DECIMAL(5, 2)",
        r#" 1,"x,""y""",2024-03-01 00:00:00.5,1.5"#,
        r#"+I {"a":1,"b":"x,\"y\"","c":"2024-03-01 00:00:00.5","d":1.50}"#,
    );
    csv("a STRING, b STRING", ",", r#"+I {"a":"","b":""}"#);
    csv(
        "a ARRAY<INT>, r ROW<x INT, y STRING>",
        "1;2,7;z",
        r#"+I {"a":[1,2],"r":{"x":7,"y":"z"}}"#,
    );
    csv("a INT, b INT", "1", "expected 2 fields, found 1");
    csv("a INT", "1,2", "expected 1 fields, found 2");
    csv("a INT, b INT", "1,2,", r#"+I {"a":1,"b":2}"#);
    csv("a INT, b INT", "1,2,,", "expected 2 fields, found 4");
    csv(
        "a INT, b STRING",
        "1,\"2\n3",
        "a quoted field is not closed",
    );
    csv(
        "a INT, b INT",
        "1,",
        "field `b`: expected INT, found \"\"; set 'csv.null-literal' = '' if an empty field is NULL",
    );
    csv(
        "m MAP<STRING, INT>",
        "",
        "format csv has no form for column `m` of type MAP<STRING, INT>",
    );

    let pruned = CsvFormat {
        columns: Some(proto::plan::row_type(&fields(
            "a INT, b ROW<x INT, y INT>, c INT",
        ))),
        null_literal: Some("n/a".to_owned()),
        ignore_parse_errors: true,
        allow_comments: true,
        field_delimiter: "|".to_owned(),
        ..Default::default()
    };
    let csv = |columns: &str, record: &str, expected: &str| {
        check(Format::Csv(pruned.clone()), columns, record, expected);
    };
    csv(
        "c INT, b ROW<y INT>",
        "1|2;3|4",
        r#"+I {"c":4,"b":{"y":3}}"#,
    );
    csv("c INT", "1|2;3|n/a", r#"+I {"c":null}"#);
    csv("c INT", "1|2;3|x", r#"+I {"c":null}"#);
    csv("c INT", "1", r#"+I {"c":null}"#);
    csv("c INT", "# 1|2", "");
    csv("z INT", "", "column `z` is not in the CSV file");
}

#[test]
fn raw_lines() {
    let raw = |columns: &str, record: &str, expected: &str| {
        check(Format::Raw(RawFormat {}), columns, record, expected);
    };
    raw(
        "a INT",
        "x",
        "format raw reads and writes STRING and BYTES only, column `a` is INT",
    );
    raw(
        "a STRING, b STRING",
        "x",
        "format raw needs a table of one column, this one has 2",
    );
}
