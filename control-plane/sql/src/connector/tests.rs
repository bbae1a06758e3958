//! WITH options of every connector, good and bad.

use proto::types::DataType;

use super::*;

fn columns(text: &str) -> Vec<Field> {
    let field = |text: &str| {
        let (name, data_type) = text.trim().split_once(' ').expect("name and type");
        Field::new(name, data_type.parse::<DataType>().expect("a type"))
    };
    text.split(';').map(field).collect()
}

fn shown(fields: &str, partition: &str, options: &str) -> String {
    let given: Vec<Given> = options
        .split_terminator(" & ")
        .map(|option| {
            let (key, value) = option.split_once('=').expect("key=value");
            Given {
                key: key.to_owned(),
                value: value.to_owned(),
                span: None,
            }
        })
        .collect();
    let fields = columns(fields);
    let partition_by: Vec<String> = partition.split_whitespace().map(str::to_owned).collect();
    match resolve(
        &given,
        &Shape {
            fields: &fields,
            partition_by: &partition_by,
        },
    ) {
        Ok(spec) => format!("{:?}", spec.connector.expect("always set")),
        Err(error) => error.to_string(),
    }
}

fn check(fields: &str, options: &str, expected: &str) {
    let shown = shown(fields, "", options);
    assert!(
        shown.contains(expected),
        "{options}\nexpected {expected}\n     got {shown}"
    );
}

#[test]
fn connector_itself() {
    check(
        "a INT",
        "",
        "the table has no option 'connector' (add WITH ('connector' = '…'): blackhole,",
    );
    check(
        "a INT",
        "conector=filesystem",
        "the table has no option 'connector' (did you mean it by 'conector'?)",
    );
    check(
        "a INT",
        "connector=filesytem",
        "unknown connector 'filesytem' (did you mean 'filesystem'?)",
    );
    check(
        "a INT",
        "connector=kafka",
        "unknown connector 'kafka' (connectors are blackhole, datagen",
    );
    check("a INT", "connector=blackhole", "Blackhole(BlackholeSpec)");
    check(
        "a INT",
        "connector=blackhole & x=y",
        "connector 'blackhole' has no option 'x' (it has no options)",
    );
    check(
        "a INT",
        "connector=print & print-identifier=p & standard-error=TRUE",
        "Print(PrintSpec { identifier: \"p\", standard_error: true })",
    );
    check(
        "a INT",
        "connector=print & standard-error=1",
        "option 'standard-error' has the bad value '1' (expected true or false)",
    );
    let error = shown("a INT", "a", "connector=print");
    assert!(
        error.starts_with("connector 'print' cannot be partitioned"),
        "{error}"
    );
}

#[test]
fn filesystem() {
    let json = "connector=filesystem & path=/x & format=json";
    check(
        "a INT",
        json,
        "path: \"/x\", format: Some(FormatSpec { format: Some(Json(JsonFormat { fail_on_missing_field: false",
    );
    check("a INT", json, "rolling_bytes: 134217728, partition_by: []");
    check(
        "a INT",
        &format!("{json} & json.timestamp-format.standard=iso-8601"),
        "timestamp_format: Iso8601",
    );
    check(
        "a INT",
        &format!("{json} & source.monitor-interval=5 s"),
        "option 'source.monitor-interval' is not supported",
    );
    check(
        "a INT",
        &format!("{json} & json.ignore-parse-error=true"),
        "connector 'filesystem' has no option 'json.ignore-parse-error' (did you mean 'json.ignore-parse-errors'?)",
    );
    check(
        "a INT",
        &format!("{json} & csv.field-delimiter=;"),
        "has no option 'csv.field-delimiter'",
    );
    check(
        "a INT",
        &format!("{json} & json.map-null-key.mode=SKIP"),
        "expected one of FAIL, DROP, LITERAL",
    );
    check(
        "a INT",
        &format!("{json} & json.fail-on-missing-field=true & json.ignore-parse-errors=true"),
        "exclude each other",
    );
    check(
        "a INT",
        &format!("{json} & auto-compaction=true"),
        "option 'auto-compaction' is not supported",
    );
    check(
        "a INT",
        &format!("{json} & sink.rolling-policy.file-size=big"),
        "expected a size such as '128 mb'",
    );
    check(
        "a INT",
        "connector=filesystem & pth=/x & format=json",
        "has no option 'pth' (did you mean 'path'?)",
    );
    check(
        "a INT",
        "connector=filesystem & format=json",
        "connector 'filesystem' needs the option 'path'",
    );
    check(
        "a INT",
        "connector=filesystem & path=/x & format=jsn",
        "unknown format 'jsn' (did you mean 'json'?)",
    );
}

#[test]
fn files_that_are_looked_up() {
    let csv = "connector=filesystem & path=/x & format=csv";
    let check = |options: &str, expected: &str| {
        check("a INT", &format!("{csv} & {options}"), expected);
    };
    let interval = "lookup.full-cache.periodic-reload.interval";
    check("lookup.cache=full", "lookup_reload_ms: 0");
    check(
        &format!("lookup.full-cache.reload-strategy=PERIODIC & {interval}=10 min"),
        "lookup_reload_ms: 600000",
    );
    check(&format!("{interval}=0 s"), "above 0");
    check(
        "lookup.full-cache.reload-strategy=PERIODIC",
        "nothing says how often to reload (add 'lookup.full-cache.periodic-reload.interval'",
    );
    check(
        "lookup.full-cache.reload-strategy=TIMED",
        "reloading at a time of day is not supported",
    );
    for cache in ["NONE", "PARTIAL"] {
        check(
            &format!("lookup.cache={cache}"),
            "files cannot be looked up row by row (leave it out, or write 'FULL'",
        );
    }
    check("lookup.cache=ALL", "expected one of NONE, PARTIAL, FULL");
    check(
        "lookup.partial-cache.max-rows=10",
        "option 'lookup.partial-cache.max-rows' is not supported (it would have no effect: leave it out)",
    );
    check(
        "lookup.max-retries=3",
        "'lookup.max-retries' is not supported",
    );
    check("lookup.cach=FULL", "did you mean 'lookup.cache'?");
}

#[test]
fn other_formats() {
    check(
        "a INT; b STRING",
        "connector=filesystem & path=/x & format=csv & csv.field-delimiter=\\t",
        "field_delimiter: \"\\t\"",
    );
    check(
        "a INT; b STRING",
        "connector=filesystem & path=/x & format=csv & csv.field-delimiter=ab",
        "expected one character",
    );
    check(
        "a INT; b STRING",
        "connector=filesystem & path=/x & format=debezium-json & debezium-json.schema-include=true",
        "schema_include: true",
    );
    check(
        "a INT; b STRING",
        "connector=filesystem & path=/x & format=raw",
        "format 'raw' needs exactly one column, of characters or bytes (declare one column of \
         type STRING or BYTES)",
    );
    let spec = shown(
        "a INT; day STRING",
        "day",
        "connector=filesystem & path=/x & format=csv",
    );
    assert!(
        spec.contains(
            "columns: Some(RowType { fields: [Field { name: \"a\", r#type: \"INT\" }] })"
        ),
        "{spec}"
    );
    assert!(spec.contains("partition_by: [\"day\"]"), "{spec}");
}

#[test]
fn datagen() {
    check(
        "a INT; s STRING",
        "connector=datagen",
        "rows_per_second: 10000, number_of_rows: 0",
    );
    check(
        "a INT; s STRING",
        "connector=datagen",
        "name: \"s\", kind: Random, start: None, end: None, length: 100",
    );
    check(
        "a INT",
        "connector=datagen & fields.a.kind=sequence & fields.a.start=1 & fields.a.end=9",
        "kind: Sequence, start: Some(\"1\"), end: Some(\"9\")",
    );
    check(
        "a INT",
        "connector=datagen & fields.a.kind=sequence",
        "a sequence needs 'fields.a.start'",
    );
    check(
        "a INT",
        "connector=datagen & fields.a.min=9 & fields.a.max=1",
        "the wrong way round",
    );
    check(
        "a TINYINT",
        "connector=datagen & fields.a.max=300",
        "expected a whole number, -128 to 127",
    );
    check(
        "a FLOAT",
        "connector=datagen & fields.a.max=1e39",
        "expected a number, -3.4028235e38 to 3.4028235e38",
    );
    check(
        "a DECIMAL(4, 2)",
        "connector=datagen & fields.a.kind=sequence & fields.a.start=1 & fields.a.end=100",
        "expected a number of at most 2 digits before the point",
    );
    check(
        "a INT",
        "connector=datagen & fields.b.min=1",
        "has no option 'fields.b.min' (did you mean 'fields.a.min'?)",
    );
    check(
        "t TIMESTAMP(3)",
        "connector=datagen & fields.t.max-past=1 h & fields.t.null-rate=0.5",
        "null_rate: 0.5, max_past_ms: 3600000",
    );
    check(
        "b BOOLEAN",
        "connector=datagen & fields.b.kind=sequence",
        "cannot be a sequence",
    );
    check(
        "b BOOLEAN",
        "connector=datagen & fields.b.null-rate=2",
        "expected a number from 0 to 1",
    );
}

#[test]
fn rates_of_datagen() {
    let with = |options: &str, expected: &str| {
        check("a INT", &format!("connector=datagen & {options}"), expected);
    };
    with(
        "rate.schedule=1000 for 30 s, 0 for 1 min & rate.catch-up=true",
        "rates: [DatagenRate { rows_per_second: 1000, duration_ms: 30000 }, DatagenRate { rows_per_second: 0, duration_ms: 60000 }], catch_up: true",
    );
    with("rows-per-second=5 & rate.catch-up=true", "catch_up: true");
    for wrong in [
        "1000",
        "0 for 1 s",
        "1000 for 0 s",
        "x for 1 s",
        "",
        "5 for 1 s,",
    ] {
        let options = format!("rate.schedule={wrong}");
        with(&options, "expected up to 100 rates with their durations");
    }
    with(
        "rate.schedule=1 for 1 s & rows-per-second=3",
        "contradict each other",
    );
    with(
        "rows-per-second=0 & rate.catch-up=true",
        "have nothing to catch up with",
    );
}

#[test]
fn zipf_columns_of_datagen() {
    let with = |columns: &str, options: &str, expected: &str| {
        let options = format!("connector=datagen & fields.a.kind=zipf & {options}");
        check(columns, &options, expected);
    };
    let bounds = "fields.a.min=0 & fields.a.max=99";
    with(
        "a INT",
        bounds,
        "kind: Zipf, start: Some(\"0\"), end: Some(\"99\"), length: 0, null_rate: 0.0, max_past_ms: 0, var_len: false, exponent: 1.0",
    );
    with(
        "a BIGINT",
        &format!("{bounds} & fields.a.exponent=0.99"),
        "exponent: 0.99",
    );
    with(
        "a INT",
        "fields.a.min=0",
        "a zipf column needs 'fields.a.max'",
    );
    with(
        "a INT",
        &format!("{bounds} & fields.a.exponent=0"),
        "expected a number above 0",
    );
    with(
        "a INT",
        "fields.a.min=9 & fields.a.max=1",
        "the wrong way round",
    );
    with("a STRING", bounds, "of type STRING cannot be zipf");
}

const NEXMARK: &str = "event_type INT; \
    person ROW<id BIGINT, name STRING, emailAddress STRING, creditCard STRING, city STRING, state STRING, dateTime TIMESTAMP(3), extra STRING>; \
    auction ROW<id BIGINT, itemName STRING, description STRING, initialBid BIGINT, reserve BIGINT, dateTime TIMESTAMP(3), expires TIMESTAMP(3), seller BIGINT, category BIGINT, extra STRING>; \
    bid ROW<auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, dateTime TIMESTAMP(3), extra STRING>";

#[test]
fn nexmark() {
    check(
        NEXMARK,
        "connector=nexmark",
        "first_event_rate: 10000.0, next_event_rate: 10000.0, base_time_ms: 1436918400000, person_proportion: 1, auction_proportion: 3, bid_proportion: 46",
    );
    check(
        NEXMARK,
        "connector=nexmark",
        "hot_seller_ratio: 4, hot_auction_ratio: 2, hot_bidder_ratio: 4, active_people: 1000, in_flight_auctions: 100, rate_period_s: 600, rate_shape: Square",
    );
    check(
        NEXMARK,
        "connector=nexmark & events.num=7 & out-of-orderness=2 s & rate.limited=true & bid.avg-size=1 kb",
        "events: 7",
    );
    for (options, expected) in [
        ("bid.avg-size=1 gb", "expected a size up to 65536 bytes"),
        ("max-emit-speed=true", "keep_rate: false"),
        ("max-emit-speed=false", "keep_rate: true"),
        ("rate.limited=true", "keep_rate: true"),
        (
            "max-emit-speed=true & rate.limited=true",
            "contradict each other (leave one of them out)",
        ),
        ("keep-alive=false & stop-at=-1", "events: 0"),
        (
            "keep-alive=true",
            "(leave out 'events.num': then it has no end)",
        ),
        (
            "stop-at=9",
            "option 'stop-at' is not supported (say how many events there are with 'events.num')",
        ),
    ] {
        check(NEXMARK, &format!("connector=nexmark & {options}"), expected);
    }
    check(
        NEXMARK,
        "connector=nexmark & event.num=7",
        "has no option 'event.num' (did you mean 'events.num'?)",
    );
    check(
        NEXMARK,
        "connector=nexmark & first-event.rate=0",
        "expected a number of events per second above 0",
    );
    check(
        "event_type INT",
        "connector=nexmark",
        "a nexmark table needs the column `person` ROW<",
    );
    check(
        "event_type BIGINT",
        "connector=nexmark",
        "column 1 of a nexmark table must be `event_type` INT, not `event_type` BIGINT",
    );
    check(
        &format!("{NEXMARK}; x INT"),
        "connector=nexmark",
        "has 4 physical columns, not 5",
    );
}
