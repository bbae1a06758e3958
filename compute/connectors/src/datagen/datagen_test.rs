//! Generated rows: the same however they are read, and at their rate.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};

use arrow::array::AsArray as _;
use engine::{
    clock::ManualClock,
    source::{Source as _, SplitEvent},
};
use futures::{executor::block_on, future::BoxFuture};
use proto::plan::{DatagenField, DatagenKind, DatagenRate, DatagenSpec};

use super::*;
use crate::{
    SourceContext, Timer,
    testing::{fields, lines, read},
};

struct Never;

impl Timer for Never {
    fn sleep(&self, _ms: u64) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

fn context(clock: &Arc<ManualClock>) -> SourceContext {
    SourceContext {
        base_time_ms: 1_700_000_000_000,
        clock: clock.clone(),
        timer: Arc::new(Never),
    }
}

fn sequence(name: &str, start: &str, end: &str) -> DatagenField {
    DatagenField {
        name: name.to_owned(),
        kind: DatagenKind::Sequence as i32,
        start: Some(start.to_owned()),
        end: Some(end.to_owned()),
        ..Default::default()
    }
}

#[test]
fn sequences_bound_the_table() {
    let spec = DatagenSpec {
        fields: vec![sequence("a", "3", "1000000"), sequence("s", "-1", "2")],
        ..Default::default()
    };
    let fields = fields("a INT, s STRING, d DOUBLE");
    let source = DatagenSource::new(&spec, &fields[..2], &context(&Arc::default())).unwrap();
    let found = read(&source, 3, true).unwrap();
    assert_eq!(
        lines(&fields[..2], &found.batches),
        [
            r#"+I {"a":3,"s":"-1"}"#,
            r#"+I {"a":4,"s":"0"}"#,
            r#"+I {"a":5,"s":"1"}"#,
            r#"+I {"a":6,"s":"2"}"#,
        ]
    );
    // Also where the query does not read them.
    for produced in [&fields[1..2], &fields[2..], &[]] {
        let source = DatagenSource::new(&spec, produced, &context(&Arc::default())).unwrap();
        assert_eq!(read(&source, 100, true).unwrap().batches[0].num_rows(), 4);
    }
}

#[test]
fn values_are_values_of_their_column() {
    let spec = DatagenSpec {
        number_of_rows: 1000,
        fields: vec![
            sequence("f", "0.5", "2.6"),
            sequence("x", "9.97", "99.97"),
            DatagenField {
                name: "d".to_owned(),
                start: Some(f64::MIN.to_string()),
                end: Some(f64::MAX.to_string()),
                ..Default::default()
            },
        ],
        ..Default::default()
    };
    let fields = fields("f FLOAT, x DECIMAL(4, 2), d DOUBLE, m MAP<BOOLEAN, INT>");
    let source = DatagenSource::new(&spec, &fields, &context(&Arc::default())).unwrap();
    let batches = read(&source, 100, false).unwrap().batches;
    for batch in &batches {
        let maps = batch.rows.column(3).as_map();
        for map in maps.iter().flatten() {
            let keys: Vec<_> = map.column(0).as_boolean().iter().collect();
            assert!(
                keys.len() == 1 || keys.len() == 2 && keys[0] != keys[1],
                "{keys:?}"
            );
        }
    }
    let values: Vec<_> = batches
        .into_iter()
        .map(|batch| {
            let rows = batch.rows.project(&[0, 1, 2]).unwrap();
            engine::ChangeBatch::inserts(rows)
        })
        .collect();
    let found = lines(&fields[..3], &values);
    assert_eq!(found.len(), 3);
    assert!(
        found[0].starts_with(r#"+I {"f":0.5,"x":9.97,"#),
        "{}",
        found[0]
    );
    assert!(
        found[2].starts_with(r#"+I {"f":2.5,"x":11.97,"#),
        "{}",
        found[2]
    );
    for line in &found {
        assert!(
            !line.contains("Infinity") && !line.contains("NaN"),
            "{line}"
        );
    }
    let mut far = spec.clone();
    far.fields[0] = DatagenField {
        name: "f".to_owned(),
        end: Some("1e39".to_owned()),
        ..Default::default()
    };
    let error = DatagenSource::new(&far, &fields, &context(&Arc::default())).unwrap_err();
    assert!(
        error.to_string().contains("not a value of the column"),
        "{error}"
    );
}

#[test]
fn rows_do_not_depend_on_how_they_are_read() {
    let columns = "b BOOLEAN, t TINYINT, i INT, l BIGINT, f FLOAT, d DOUBLE, x DECIMAL(30, 4), \
                   s STRING, c CHAR(5), y BYTES, dt DATE, tm TIME(3), ts TIMESTAMP(6), \
                   a ARRAY<INT>, m MAP<STRING, INT>, r ROW<p INT, q STRING>";
    let fields = fields(columns);
    let spec = DatagenSpec {
        number_of_rows: 20_000,
        fields: vec![
            DatagenField {
                name: "i".to_owned(),
                start: Some("5".to_owned()),
                end: Some("7".to_owned()),
                null_rate: 0.25,
                ..Default::default()
            },
            DatagenField {
                name: "s".to_owned(),
                length: 3,
                var_len: true,
                ..Default::default()
            },
        ],
        ..Default::default()
    };
    let source = DatagenSource::new(&spec, &fields, &context(&Arc::default())).unwrap();
    let all = read(&source, 100_000, false).unwrap();
    let expected = lines(&fields, &all.batches);
    assert_eq!(expected.len(), 20_000);
    assert_eq!(
        lines(&fields, &read(&source, 777, true).unwrap().batches),
        expected
    );
    let count = |text: &str| expected.iter().filter(|line| line.contains(text)).count();
    let nulls = count("\"i\":null");
    assert!((4_700..5_300).contains(&nulls), "{nulls}");
    for value in 5..=7 {
        let values = count(&format!("\"i\":{value},"));
        assert!((4_700..5_300).contains(&values), "{values}");
    }
    assert!(
        expected
            .iter()
            .all(|line| line.contains("\"dt\":\"2023-11-14\""))
    );
}

#[test]
fn rows_come_at_their_rate() {
    let clock = Arc::new(ManualClock::default());
    let spec = DatagenSpec {
        rows_per_second: 100,
        number_of_rows: 25,
        ..Default::default()
    };
    let fields = fields("a INT");
    let source = DatagenSource::new(&spec, &fields, &context(&clock)).unwrap();
    let splits = block_on(source.splits(4)).unwrap();
    assert_eq!(splits.len(), 1);
    let mut cx = Context::from_waker(Waker::noop());
    let mut reader = source.open(&splits[0], None).unwrap();
    let mut sizes = Vec::new();
    for _ in 0..3 {
        match reader.poll_next(&mut cx, 1000) {
            Poll::Ready(Ok(SplitEvent::Batch(batch))) => sizes.push(batch.num_rows()),
            other => panic!("{other:?}"),
        }
        if sizes.iter().sum::<usize>() < 25 {
            assert!(reader.poll_next(&mut cx, 1000).is_pending());
        }
        clock.advance_ms(120);
        reader = source.open(&splits[0], Some(&reader.offset())).unwrap();
        clock.advance_ms(120);
        let waiting = [13, 11, 0].get(sizes.len() - 1).copied();
        assert_eq!(reader.lag_rows(), waiting);
    }
    assert_eq!(sizes, [1, 13, 11]);
}

#[test]
fn zipf_columns_have_few_values_often() {
    let spec = DatagenSpec {
        number_of_rows: 10_000,
        fields: vec![DatagenField {
            name: "k".to_owned(),
            kind: DatagenKind::Zipf as i32,
            start: Some("-5".to_owned()),
            end: Some("994".to_owned()),
            exponent: 1.0,
            ..Default::default()
        }],
        ..Default::default()
    };
    let fields = fields("k INT");
    let source = DatagenSource::new(&spec, &fields, &context(&Arc::default())).unwrap();
    let found = lines(&fields, &read(&source, 1000, true).unwrap().batches);
    let count = |k: i32| {
        let line = format!(r#"+I {{"k":{k}}}"#);
        found.iter().filter(|found| **found == line).count()
    };
    // The sum of 1 / n up to 1000 is 7.49: a 7.49th are the first, half as many the second.
    assert!((1_200..1_470).contains(&count(-5)), "{}", count(-5));
    assert!((570..770).contains(&count(-4)), "{}", count(-4));
    assert_eq!((-5..=994).map(count).sum::<usize>(), 10_000);
    let mut wrong = spec.clone();
    wrong.fields[0].exponent = 0.0;
    let error = DatagenSource::new(&wrong, &fields, &context(&Arc::default())).unwrap_err();
    assert!(error.to_string().contains("exponent"), "{error}");
}

/// Rows that came at each look, where the reader is opened anew with its offset in between.
fn looks(spec: &DatagenSpec, clock: &Arc<ManualClock>, times_ms: &[u64]) -> Vec<usize> {
    let fields = fields("t TIMESTAMP(3)");
    let mut cx = Context::from_waker(Waker::noop());
    let mut offset = None;
    let look = |ms: &u64| {
        clock.advance_ms(*ms);
        let source = DatagenSource::new(spec, &fields, &context(clock)).unwrap();
        let split = block_on(source.splits(1)).unwrap().remove(0);
        let mut reader = source.open(&split, offset.as_deref()).unwrap();
        let mut rows = 0;
        while let Poll::Ready(Ok(SplitEvent::Batch(batch))) = reader.poll_next(&mut cx, 1000) {
            rows += batch.num_rows();
        }
        offset = Some(reader.offset());
        rows
    };
    times_ms.iter().map(look).collect()
}

#[test]
fn rows_that_were_held_up_come_at_once_where_they_catch_up() {
    let spec = DatagenSpec {
        rows_per_second: 100,
        number_of_rows: 1_000,
        ..Default::default()
    };
    let created = || {
        let clock = ManualClock::default();
        clock.advance_ms(1_700_000_000_000);
        Arc::new(clock)
    };
    assert_eq!(looks(&spec, &created(), &[0, 500, 2_000]), [1, 1, 1]);
    let catches_up = DatagenSpec {
        catch_up: true,
        ..spec.clone()
    };
    assert_eq!(
        looks(&catches_up, &created(), &[0, 500, 2_000]),
        [1, 50, 200]
    );
    let schedule = DatagenSpec {
        rates: vec![rate(100, 1_000), rate(200, 1_000)],
        ..catches_up
    };
    let expected = [101, 200, 150];
    assert_eq!(
        looks(&schedule, &created(), &[1_000, 1_000, 1_250]),
        expected
    );
}

fn rate(rows_per_second: u64, duration_ms: u64) -> DatagenRate {
    DatagenRate {
        rows_per_second,
        duration_ms,
    }
}

#[test]
fn what_catches_up_keeps_its_times_in_another_job() {
    let spec = DatagenSpec {
        rows_per_second: 100,
        catch_up: true,
        ..Default::default()
    };
    let fields = fields("t TIMESTAMP(3)");
    let at = |created_ms: u64, offset: Option<&[u8]>| {
        let clock = ManualClock::default();
        clock.advance_ms(1_700_000_060_000);
        let context = SourceContext {
            base_time_ms: created_ms,
            ..context(&Arc::new(clock))
        };
        let source = DatagenSource::new(&spec, &fields, &context).unwrap();
        let split = block_on(source.splits(1)).unwrap().remove(0);
        let mut reader = source.open(&split, offset).unwrap();
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(Ok(SplitEvent::Batch(batch))) = reader.poll_next(&mut cx, 10) else {
            panic!("rows are due");
        };
        (lines(&fields, &[batch]).remove(0), reader.offset())
    };
    let (first, offset) = at(1_700_000_000_000, None);
    assert!(first.contains("22:13:20"), "{first}");
    // A copy that is made a minute later goes on where the other one is.
    let (eleventh, _) = at(1_700_000_060_000, Some(&offset));
    assert!(eleventh.contains("22:13:20.1"), "{eleventh}");
    // A job whose rows did not catch up has no times in its offsets: they go on from its creation.
    let (from_old, _) = at(1_700_000_060_000, Some(&10_u64.to_le_bytes()));
    assert!(from_old.contains("22:14:20"), "{from_old}");
}
