//! Rows as lines.

use std::{io, sync::Mutex};

use proto::plan::{FormatSpec, JsonFormat, format_spec::Format};

use super::*;
use crate::{column::Rows, format::open_decoder};

#[derive(Default)]
struct Captured(Mutex<Vec<u8>>);

impl LineWriter for Captured {
    fn write_lines(&self, lines: &[u8], _standard_error: bool) -> io::Result<()> {
        self.0.lock().unwrap().extend_from_slice(lines);
        Ok(())
    }
}

fn check(types: &str, json: &str, expected: &str) {
    let row: proto::types::DataType = types.parse().unwrap();
    let proto::types::LogicalType::Row(fields) = row.logical else {
        panic!("a row type");
    };
    let format = FormatSpec {
        format: Some(Format::Json(JsonFormat::default())),
    };
    let mut rows = Rows::new(&fields);
    let mut decoder = open_decoder(Some(&format), &fields).unwrap();
    decoder.decode(json.as_bytes(), &mut rows).unwrap();
    let captured = Arc::new(Captured::default());
    let sink = PrintSink {
        spec: PrintSpec {
            identifier: "out".to_owned(),
            standard_error: false,
        },
        fields,
        parallelism: 2,
        lines: captured.clone(),
    };
    let mut writer = sink.writer(1).unwrap();
    writer.write(&rows.finish().unwrap()).unwrap();
    let printed = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
    assert_eq!(printed, format!("out:2> {expected}\n"));
}

#[test]
fn rows_as_flink_prints_them() {
    check(
        "ROW<a INT, b STRING, c DOUBLE, d DECIMAL(6, 2), e BOOLEAN, f BYTES>",
        r#"{"a":1,"b":"x, y","c":1e10,"d":1.5,"e":true,"f":"AP8="}"#,
        "+I[1, x, y, 1.0E10, 1.50, true, [0, -1]]",
    );
    check(
        "ROW<a TIMESTAMP(3), b TIMESTAMP(6), c TIMESTAMP_LTZ(3), d DATE, e TIME(0), f TIMESTAMP(3)>",
        r#"{"a":"2024-03-01 00:00:00","b":"2024-03-01 01:02:03.5","c":"2024-03-01 00:00:00Z",
            "d":"2024-03-01","e":"07:30:00","f":null}"#,
        "+I[2024-03-01T00:00, 2024-03-01T01:02:03.500, 2024-03-01T00:00:00Z, 2024-03-01, 07:30, null]",
    );
    check(
        "ROW<a ARRAY<INT>, b MAP<STRING, INT>, c ROW<x INT, y STRING>>",
        r#"{"a":[1,null],"b":{"k":1,"l":null},"c":{"x":1,"y":"z"}}"#,
        "+I[[1, null], {k=1, l=null}, +I[1, z]]",
    );
}

#[test]
fn durations() {
    for (millis, expected) in [
        (0, "PT0S"),
        (93_784_500, "PT26H3M4.5S"),
        (3_600_000, "PT1H"),
        (-500, "PT-0.5S"),
    ] {
        let mut out = Vec::new();
        row::write_duration(&mut out, millis);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
