//! Files read and written through the engine's traits.

use std::{fs, path::Path};

use engine::{
    ChangeBatch,
    sink::{EpochOutput, Sink as _, SinkError},
    source::{Source as _, SourceError},
};
use futures::executor::block_on;
use proto::{
    plan::{CsvFormat, FilesystemSpec, FormatSpec, JsonFormat, format_spec::Format},
    types::{Epoch, Field, Generation},
};

use super::*;
use crate::testing::{fields, lines, read, sink_context};

fn spec(path: &Path, format: Format) -> FilesystemSpec {
    FilesystemSpec {
        path: path.to_str().unwrap().to_owned(),
        format: Some(FormatSpec {
            format: Some(format),
        }),
        ..Default::default()
    }
}

fn json(ignore_parse_errors: bool) -> Format {
    Format::Json(JsonFormat {
        ignore_parse_errors,
        ..Default::default()
    })
}

#[test]
fn reading_in_pieces_equals_reading_at_once() {
    let root = tempfile::tempdir().unwrap();
    let text: String = (0..500)
        .map(|n| format!("{{\"a\":{n},\"b\":\"{}\"}}\n", n * n))
        .collect();
    fs::write(root.path().join("one.json"), &text).unwrap();
    fs::write(root.path().join("two.json"), "{\"a\":1000}").unwrap();
    let fields = fields("a BIGINT, b STRING");
    let spec = spec(root.path(), json(false));
    let whole = FileSource::new(&spec, &fields).unwrap();
    let expected = lines(&fields, &read(&whole, 10_000, false).unwrap().batches);
    assert_eq!(expected.len(), 501);
    assert_eq!(expected[500], r#"+I {"a":1000,"b":null}"#);
    for range_bytes in [u64::MAX, 1000, 97] {
        let source = FileSource::new(&spec, &fields)
            .unwrap()
            .with_range_bytes(range_bytes);
        for max_rows in [1, 7, 64] {
            let found = read(&source, max_rows, true).unwrap();
            assert!(
                found
                    .batches
                    .iter()
                    .all(|batch| batch.num_rows() <= max_rows)
            );
            assert_eq!(lines(&fields, &found.batches), expected);
        }
    }
}

#[test]
fn bad_records_fail_or_become_dead_letters() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("file");
    fs::write(&path, "{\"a\":1}\n{\"a\":\n\n{\"a\":3}\n\u{fffd}\n").unwrap();
    let fields = fields("a INT");
    let strict = FileSource::new(&spec(&path, json(false)), &fields).unwrap();
    let error = read(&strict, 10, false).unwrap_err().to_string();
    let shown = path.display();
    assert_eq!(
        error,
        format!("failed to read `{shown}` at record 2: not valid JSON: expected a value at byte 5")
    );
    let lenient = FileSource::new(&spec(&path, json(true)), &fields).unwrap();
    let found = read(&lenient, 10, false).unwrap();
    assert_eq!(
        lines(&fields, &found.batches),
        [r#"+I {"a":1}"#, r#"+I {"a":3}"#]
    );
    let positions: Vec<_> = found
        .dead_letters
        .iter()
        .map(|letter| &*letter.position)
        .collect();
    assert_eq!(positions, ["record 2", "record 5"]);
    assert_eq!(found.dead_letters[0].bytes, b"{\"a\":");
}

#[test]
fn what_cannot_be_opened_says_why() {
    let check = |path: &str, expected: &str| {
        let error = FileSource::new(&spec(Path::new(path), json(false)), &fields("a INT"))
            .and_then(|source| block_on(source.splits(1)))
            .unwrap_err();
        assert_eq!(error.to_string(), expected);
    };
    check(
        "/nowhere/at/all",
        "failed to read `/nowhere/at/all`: No such file or directory (os error 2)",
    );
    check(
        "s3://bucket/x",
        "cannot open path `s3://bucket/x`: scheme `s3` is not supported, only local files are",
    );
}

#[test]
fn paths_are_local_also_as_uris() {
    let check = |path: &str, expected: &str| {
        let local = local_path(path);
        let shown = local.map_or_else(|error| error, |path| path.display().to_string());
        assert!(shown.contains(expected), "{path}: {shown}");
    };
    check("/tmp/x", "/tmp/x");
    check("x/a:b", "x/a:b");
    check("file:/tmp/x", "/tmp/x");
    check("file:///tmp/x", "/tmp/x");
    check("file://localhost/tmp/x", "/tmp/x");
    check("file://tmp/x", "`tmp` would be the name of another machine");
    check("file:x", "a URI has an absolute path");
    check("file://localhost", "a URI has an absolute path");
    check("hdfs:/x", "scheme `hdfs` is not supported");
    check(" ", "is empty");
}

#[test]
fn a_sink_fails_at_its_start_where_it_cannot_write() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    fs::write(&file, "").unwrap();
    let check = |path: &Path, expected: &str| {
        let sink = FileSink::new(
            &spec(path, json(false)),
            &fields("a INT"),
            &sink_context(1, 0),
        );
        let error = match sink.unwrap().publisher() {
            Ok(_) => panic!("{}", path.display()),
            Err(error) => error,
        };
        assert!(matches!(error, SinkError::Refused { .. }), "{error:?}");
        assert!(error.to_string().ends_with(expected), "{error}");
    };
    check(
        &file,
        "it is a file, and a table is written into a directory",
    );
    check(&file.join("x/y"), "file` is not a directory");
}

#[test]
fn what_is_wrong_with_a_partition_is_not_tried_again() {
    let root = tempfile::tempdir().unwrap();
    let fields = fields("p INT, a INT");
    for (name, expected) in [
        ("p=x", "partition column `p`: expected INT, found \"x\""),
        (
            "q=1",
            "there is no directory `p=…` for the partition column",
        ),
    ] {
        let directory = root.path().join(name);
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("file"), "{\"a\":1}\n").unwrap();
        let spec = FilesystemSpec {
            partition_by: vec!["p".to_owned()],
            ..spec(&directory, json(false))
        };
        let spec = FilesystemSpec {
            path: root.path().to_str().unwrap().to_owned(),
            ..spec
        };
        let source = FileSource::new(&spec, &fields).unwrap();
        let error = read(&source, 10, false).unwrap_err();
        assert!(matches!(error, SourceError::Refused { .. }), "{error:?}");
        let file = directory.join("file");
        assert_eq!(
            error.to_string(),
            format!("failed to read `{}`: {expected}", file.display())
        );
        fs::remove_dir_all(directory).unwrap();
    }
}

fn batch_of(fields: &[Field], records: &str) -> ChangeBatch {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("rows");
    fs::write(&path, records).unwrap();
    let source = FileSource::new(&spec(&path, json(false)), fields).unwrap();
    read(&source, 100, false).unwrap().batches.remove(0)
}

fn name(epoch: u64, nth: usize, extension: &str) -> String {
    let writer = "part-1700000000000-0000000000000001";
    format!("{writer}-{epoch:010}-0003-000-001-{nth:04}.{extension}")
}

fn publish(sink: &FileSink, batch: &ChangeBatch, epoch: u64) {
    let mut writer = sink.writer(0).unwrap();
    writer.write(batch).unwrap();
    assert!(writer.buffered_bytes() > 0);
    let output = EpochOutput {
        generation: Generation(3),
        epoch: Epoch(epoch),
        slot: 1,
        pieces: vec![writer.freeze().into(), Vec::new().into()],
    };
    assert_eq!(writer.buffered_bytes(), 0);
    assert!(writer.freeze().is_empty());
    let mut publisher = sink.publisher().unwrap().unwrap();
    block_on(publisher.publish(output.clone())).unwrap();
    // After a crash an epoch is published again.
    block_on(publisher.publish(output)).unwrap();
}

#[test]
fn published_files_are_read_back() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("brand/new/out");
    let fields = fields("a INT, b STRING");
    let sink = FileSink::new(&spec(&out, json(false)), &fields, &sink_context(1, 0)).unwrap();
    let batch = batch_of(&fields, "{\"a\":1,\"b\":\"x\"}\n{\"a\":2}\n");
    publish(&sink, &batch, 16);
    publish(&sink, &batch, 17);
    let mut names: Vec<_> = fs::read_dir(&out)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, [name(16, 0, "json"), name(17, 0, "json")]);
    assert_eq!(
        fs::read_to_string(out.join(&names[0])).unwrap(),
        "{\"a\":1,\"b\":\"x\"}\n{\"a\":2,\"b\":null}\n"
    );
    let source = FileSource::new(&spec(&out, json(false)), &fields).unwrap();
    assert_eq!(read(&source, 100, false).unwrap().batches.len(), 2);
}

#[test]
fn another_job_or_sink_adds_files_and_none_is_overwritten() {
    let root = tempfile::tempdir().unwrap();
    let fields = fields("a INT");
    let batch = batch_of(&fields, "{\"a\":1}\n");
    let spec = spec(root.path(), json(false));
    for (run, sink) in [(1, 0), (2, 0), (2, 1)] {
        let sink = FileSink::new(&spec, &fields, &sink_context(run, sink)).unwrap();
        publish(&sink, &batch, 16);
    }
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 3);
    let taken = root.path().join(name(16, 0, "json"));
    fs::write(&taken, "{\"a\":2}\n").unwrap();
    let sink = FileSink::new(&spec, &fields, &sink_context(1, 0)).unwrap();
    let mut writer = sink.writer(0).unwrap();
    writer.write(&batch).unwrap();
    let output = EpochOutput {
        generation: Generation(3),
        epoch: Epoch(16),
        slot: 1,
        pieces: vec![writer.freeze().into()],
    };
    let mut publisher = sink.publisher().unwrap().unwrap();
    let error = block_on(publisher.publish(output)).unwrap_err().to_string();
    assert!(
        error.ends_with("the file is there with other content: move it away"),
        "{error}"
    );
    assert_eq!(fs::read_to_string(taken).unwrap(), "{\"a\":2}\n");
}

#[test]
fn partitions_are_directories() {
    let root = tempfile::tempdir().unwrap();
    let fields = fields("day DATE, a INT, k STRING");
    let csv = Format::Csv(CsvFormat {
        columns: Some(proto::plan::row_type(&fields[1..2])),
        ..Default::default()
    });
    let spec = FilesystemSpec {
        partition_by: vec!["k".to_owned(), "day".to_owned()],
        ..spec(root.path(), csv)
    };
    let sink = FileSink::new(&spec, &fields, &sink_context(1, 0)).unwrap();
    let records = "{\"day\":\"2024-03-01\",\"a\":1,\"k\":\"x/y\"}\n\
                   {\"day\":null,\"a\":2,\"k\":\"z\"}\n\
                   {\"day\":\"2024-03-01\",\"a\":3,\"k\":\"x/y\"}\n";
    publish(&sink, &batch_of(&fields, records), 16);
    let directory = root.path().join("k=x%2Fy/day=2024-03-01");
    let path = directory.join(name(16, 0, "csv"));
    assert_eq!(fs::read_to_string(path).unwrap(), "1\n3\n");
    let source = FileSource::new(&spec, &fields).unwrap();
    assert_eq!(
        lines(&fields, &read(&source, 100, true).unwrap().batches),
        [
            r#"+I {"day":"2024-03-01","a":1,"k":"x/y"}"#,
            r#"+I {"day":"2024-03-01","a":3,"k":"x/y"}"#,
            r#"+I {"day":null,"a":2,"k":"z"}"#,
        ]
    );
}

#[test]
fn files_are_rolled_between_frames() {
    let root = tempfile::tempdir().unwrap();
    let fields = fields("a STRING");
    let spec = FilesystemSpec {
        rolling_bytes: 1 << 20,
        ..spec(root.path(), json(false))
    };
    let sink = FileSink::new(&spec, &fields, &sink_context(1, 0)).unwrap();
    let record = format!("{{\"a\":\"{}\"}}\n", "x".repeat(100_000));
    publish(&sink, &batch_of(&fields, &record.repeat(25)), 16);
    let rows: Vec<_> = (0..3)
        .map(|nth| {
            let file = root.path().join(name(16, nth, "json"));
            fs::read_to_string(file).unwrap().lines().count()
        })
        .collect();
    assert_eq!(rows, [11, 11, 3]);
}

#[test]
fn updates_need_a_format_that_has_them() {
    let fields = fields("a INT");
    let sink = FileSink::new(
        &spec(Path::new("/unused"), json(false)),
        &fields,
        &sink_context(1, 0),
    )
    .unwrap();
    let mut batch = batch_of(&fields, "{\"a\":1}\n");
    batch.kinds = Some(engine::Kinds::from_bytes(vec![3]));
    let error = sink.writer(0).unwrap().write(&batch).unwrap_err();
    assert!(error.to_string().contains("takes inserts only"), "{error}");
}

#[test]
fn what_was_there_at_the_start_is_what_is_read() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("file");
    let fields = fields("a INT");
    let three = "{\"a\":1}\n{\"a\":2}\n{\"a\":3}\n";
    fs::write(&path, three).unwrap();
    let source = FileSource::new(&spec(&path, json(false)), &fields).unwrap();
    let split = block_on(source.splits(1)).unwrap().remove(0);
    let open = |offset: Option<&[u8]>| -> Result<(usize, Vec<u8>), String> {
        let mut reader = source
            .open(&split, offset)
            .map_err(|error| error.to_string())?;
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let mut rows = 0;
        let most = if offset.is_none() { 1 } else { 10 };
        loop {
            match reader.poll_next(&mut cx, most) {
                std::task::Poll::Ready(Ok(engine::source::SplitEvent::Batch(batch))) => {
                    rows += batch.num_rows();
                }
                std::task::Poll::Ready(Err(error)) => return Err(error.to_string()),
                _ => return Ok((rows, reader.offset())),
            }
            if offset.is_none() {
                return Ok((rows, reader.offset()));
            }
        }
    };
    let (_, offset) = open(None).unwrap();
    fs::write(&path, format!("{three}{{\"a\":4}}\n")).unwrap();
    assert_eq!(open(Some(&offset)).unwrap().0, 2, "the file has grown");
    fs::write(&path, "{\"a\":1}\n{\"a\":2}\n").unwrap();
    let error = open(Some(&offset)).unwrap_err();
    assert!(
        error.contains("had 24 bytes when the job started"),
        "{error}"
    );
    fs::remove_file(&path).unwrap();
    let error = open(Some(&offset)).unwrap_err();
    assert!(
        error.contains("it was there when the job started"),
        "{error}"
    );
}

#[test]
fn changes_are_read_file_by_file() {
    let root = tempfile::tempdir().unwrap();
    for name in ["part-10", "part-9"] {
        fs::write(root.path().join(name), "x\n").unwrap();
    }
    let fields = fields("a INT");
    let debezium = Format::DebeziumJson(proto::plan::DebeziumJsonFormat::default());
    let source = FileSource::new(&spec(root.path(), debezium), &fields).unwrap();
    assert_eq!(source.read_order(), engine::source::ReadOrder::OneByOne);
    let splits = block_on(source.splits(2)).unwrap();
    assert!(splits[0].id.ends_with("part-9"));
    let source = FileSource::new(&spec(root.path(), json(false)), &fields).unwrap();
    assert_eq!(source.read_order(), engine::source::ReadOrder::InTurns(4));
}

#[test]
fn a_byte_order_mark_is_no_text() {
    let check = |text: &str, format: Format, expected: &[&str]| {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        fs::write(&path, text).unwrap();
        let fields = fields("a STRING");
        let source = FileSource::new(&spec(&path, format), &fields).unwrap();
        assert_eq!(
            lines(&fields, &read(&source, 1, true).unwrap().batches),
            expected
        );
    };
    let csv = || Format::Csv(CsvFormat::default());
    check(
        "\u{feff}\"x\ny\"\nz\n",
        csv(),
        &["+I {\"a\":\"x\\ny\"}", "+I {\"a\":\"z\"}"],
    );
    check("\u{feff}{\"a\":\"x\"}", json(false), &["+I {\"a\":\"x\"}"]);
    check("\u{feff}", json(false), &[]);
    let raw = Format::Raw(proto::plan::RawFormat {});
    check("\u{feff}x", raw, &["+I {\"a\":\"\u{feff}x\"}"]);
}

#[test]
fn what_waits_is_told_by_the_bytes_that_are_left() {
    let root = tempfile::tempdir().unwrap();
    // Rows of 10 bytes; one of ten is left out.
    let text: String = (0..1000)
        .map(|n| match n % 10 {
            0 => "not a row\n".to_owned(),
            _ => format!("{{\"a\":{n:3}}}\n"),
        })
        .collect();
    assert_eq!(text.len(), 10_000);
    fs::write(root.path().join("rows"), &text).unwrap();
    let fields = fields("a INT");
    let source = FileSource::new(&spec(root.path(), json(true)), &fields)
        .unwrap()
        .with_range_bytes(4_000);
    let splits = block_on(source.splits(1)).unwrap();
    let unread = || -> Vec<Option<u64>> {
        let lag = |split| source.lag_rows(split, None);
        splits.iter().map(lag).collect()
    };
    assert_eq!(unread(), [None; 3], "nothing says how large rows are");
    let mut reader = source.open(&splits[0], None).unwrap();
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let mut poll = |reader: &mut Box<dyn engine::source::SplitReader>| {
        let polled = reader.poll_next(&mut cx, 90);
        assert!(polled.is_ready());
    };
    poll(&mut reader);
    // 90 rows of 1000 bytes: 3000 of this split are left.
    assert_eq!(reader.lag_rows(), Some(270));
    assert_eq!(unread(), [360, 360, 180].map(Some));
    // One that goes on knows where it was, before it reads and after.
    let offset = reader.offset();
    assert_eq!(source.lag_rows(&splits[0], Some(&offset)), Some(270));
    assert_eq!(
        source.open(&splits[0], Some(&offset)).unwrap().lag_rows(),
        Some(270)
    );
    (0..3).for_each(|_| poll(&mut reader));
    assert_eq!(reader.lag_rows(), Some(0));
    // Nobody knows how long a pipe is.
    let pipe = split::FileSplit {
        end: u64::MAX,
        ..split::FileSplit::from_split(&splits[0]).unwrap()
    };
    assert_eq!(source.lag_rows(&pipe.to_split(), None), None);
}
