//! The generated data: the same however it is read, and distributed as the definition says.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{Array, AsArray, RecordBatch},
    compute::concat_batches,
    datatypes::{Int64Type, TimestampMillisecondType},
};
use engine::{clock::ManualClock, source::Source as _};
use proto::{plan::NexmarkSpec, types::Field};

use super::*;
use crate::{
    SourceContext, Timer,
    testing::{fields, lines, read},
};

const PERSON: &str = "person ROW<id BIGINT, name STRING, emailAddress STRING, creditCard STRING, \
     city STRING, state STRING, dateTime TIMESTAMP(3), extra STRING>";
const AUCTION: &str = "auction ROW<id BIGINT, itemName STRING, description STRING, \
     initialBid BIGINT, reserve BIGINT, dateTime TIMESTAMP(3), expires TIMESTAMP(3), \
     seller BIGINT, category BIGINT, extra STRING>";
const BID: &str = "bid ROW<auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, \
     url STRING, dateTime TIMESTAMP(3), extra STRING>";

struct NoTimer;

impl Timer for NoTimer {
    fn sleep(&self, _ms: u64) -> futures::future::BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

fn context() -> SourceContext {
    SourceContext {
        base_time_ms: 0,
        clock: Arc::new(ManualClock::default()),
        timer: Arc::new(NoTimer),
    }
}

fn spec(events: u64) -> NexmarkSpec {
    NexmarkSpec {
        events,
        first_event_rate: 10_000.0,
        next_event_rate: 10_000.0,
        base_time_ms: 1_436_918_400_000,
        person_proportion: 1,
        auction_proportion: 3,
        bid_proportion: 46,
        avg_person_bytes: 200,
        avg_auction_bytes: 500,
        avg_bid_bytes: 100,
        hot_seller_ratio: 4,
        hot_auction_ratio: 2,
        hot_bidder_ratio: 4,
        active_people: 1000,
        in_flight_auctions: 100,
        ..Default::default()
    }
}

fn all_fields() -> Vec<Field> {
    fields(&format!("event_type INT, {PERSON}, {AUCTION}, {BID}"))
}

fn sorted_lines(
    spec: &NexmarkSpec,
    fields: &[Field],
    max_rows: usize,
    reopen: bool,
) -> Vec<String> {
    let source = NexmarkSource::new(spec, fields, &context()).unwrap();
    let found = read(&source, max_rows, reopen).unwrap();
    assert!(
        found
            .batches
            .iter()
            .all(|batch| batch.num_rows() <= max_rows)
    );
    let mut lines = lines(fields, &found.batches);
    lines.sort();
    lines
}

/// All rows of one kind, as the columns of its fields.
fn rows_of(kind: u32, columns: &str, events: u64) -> RecordBatch {
    let fields = fields(columns);
    let spec = NexmarkSpec {
        event_types: vec![kind],
        ..spec(events)
    };
    let source = NexmarkSource::new(&spec, &fields, &context()).unwrap();
    let batches: Vec<_> = read(&source, 5000, false)
        .unwrap()
        .batches
        .iter()
        .map(|batch| RecordBatch::from(batch.rows.column(0).as_struct().clone()))
        .collect();
    concat_batches(&batches[0].schema(), &batches).unwrap()
}

#[test]
fn data_does_not_depend_on_how_it_is_read() {
    let fields = all_fields();
    // Enough for several splits; not a whole number of epochs.
    let spec = spec(20_020);
    let expected = sorted_lines(&spec, &fields, 100_000, false);
    assert_eq!(expected.len(), 20_020);
    for max_rows in [1000, 7] {
        assert_eq!(sorted_lines(&spec, &fields, max_rows, true), expected);
    }
}

#[test]
fn wanted_events_are_the_same_alone() {
    let fields = all_fields();
    let all = sorted_lines(&spec(20_000), &fields, 1000, false);
    for kind in 0..3 {
        let prefix = format!("+I {{\"event_type\":{kind}");
        let expected: Vec<_> = all
            .iter()
            .filter(|line| line.starts_with(&prefix))
            .collect();
        let only = NexmarkSpec {
            event_types: vec![kind],
            ..spec(20_000)
        };
        let found = sorted_lines(&only, &fields, 997, true);
        assert_eq!(found.iter().collect::<Vec<_>>(), expected);
    }
}

#[test]
fn pruned_columns_are_the_same() {
    let narrow = fields("bid ROW<extra STRING, price BIGINT>, person ROW<state STRING>");
    let source = NexmarkSource::new(&spec(1000), &narrow, &context()).unwrap();
    let narrow_rows = read(&source, 300, false).unwrap().batches;
    let source = NexmarkSource::new(&spec(1000), &all_fields(), &context()).unwrap();
    let all_rows = read(&source, 300, false).unwrap().batches;
    for (narrow, all) in narrow_rows.iter().zip(&all_rows) {
        for (column, field, from) in [(0, "extra", 3), (0, "price", 3), (1, "state", 1)] {
            let narrow = narrow.rows.column(column).as_struct();
            let all = all.rows.column(from).as_struct();
            assert_eq!(narrow.column_by_name(field), all.column_by_name(field));
        }
    }
    let none = NexmarkSource::new(&spec(1000), &[], &context()).unwrap();
    let rows: usize = read(&none, 300, false)
        .unwrap()
        .batches
        .iter()
        .map(|batch| batch.num_rows())
        .sum();
    assert_eq!(rows, 1000);
}

#[test]
fn batches_are_full() {
    let bids = NexmarkSpec {
        event_types: vec![2],
        ..spec(1_000_000)
    };
    let fields = fields("bid ROW<price BIGINT>");
    let source = NexmarkSource::new(&bids, &fields, &context()).unwrap();
    let sizes: Vec<usize> = read(&source, 4096, false)
        .unwrap()
        .batches
        .iter()
        .map(engine::ChangeBatch::num_rows)
        .collect();
    assert_eq!(sizes.iter().sum::<usize>(), 920_000);
    assert_eq!(sizes.iter().filter(|size| **size != 4096).count(), 8);
}

#[test]
fn bids_are_distributed_as_defined() {
    let bids = rows_of(2, BID, 500_000);
    let (auctions, bidders, prices) = (integers(&bids, 0), integers(&bids, 1), integers(&bids, 2));
    let rows = bids.num_rows() as f64;
    let share = |count: usize| count as f64 / rows;
    let near = |found: f64, expected: f64| {
        assert!((found - expected).abs() < 0.01, "{found} is not {expected}");
    };
    // Every 100th auction is hot; the cold ones are 111 newest.
    near(
        share(auctions.iter().filter(|id| *id % 100 == 0).count()),
        0.505,
    );
    near(
        share(bidders.iter().filter(|id| *id % 100 == 1).count()),
        0.7525,
    );
    // As in the public generator's events.
    assert_eq!(bidders.iter().min(), Some(&2000));
    for exponent in 2..8 {
        let bound = 10_i64.pow(exponent);
        near(
            share(prices.iter().filter(|price| **price < bound).count()),
            (f64::from(exponent) - 2.0) / 6.0,
        );
    }
    let mut channels: HashMap<&str, usize> = HashMap::new();
    for channel in bids.column(3).as_string::<i32>().iter().flatten() {
        *channels.entry(channel).or_default() += 1;
    }
    for hot in words::HOT_CHANNELS {
        near(share(channels[hot]), 0.125);
    }
    assert_eq!(channels.len(), 10_004);
    let urls = bids.column(4).as_string::<i32>();
    assert!(urls.iter().flatten().all(|url| {
        url.starts_with("https://www.nexmark.com/") && url.contains("/item.htm?query=1")
    }));
    near(
        share(
            urls.iter()
                .flatten()
                .filter(|url| url.contains("&channel_id="))
                .count(),
        ),
        0.45,
    );
    let lengths = bids
        .column(6)
        .as_string::<i32>()
        .iter()
        .flatten()
        .map(str::len);
    assert_eq!(lengths.clone().min(), Some(54));
    assert_eq!(lengths.clone().max(), Some(81));
    near(lengths.sum::<usize>() as f64 / rows / 100.0, 0.675);
    let c = bids.column(6).as_string::<i32>().iter().flatten();
    let c = c.map(|text| text.matches('c').count()).sum::<usize>() as f64 / rows;
    // Half of the padding is letters, and one in 26 of those a `c`: 1.3, not quite evenly.
    assert!((1.25..1.35).contains(&c), "{c}");
}

#[test]
fn auctions_and_persons_refer_to_each_other() {
    let auctions = rows_of(1, AUCTION, 200_000);
    let ids = integers(&auctions, 0);
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (1000..13_000).collect::<Vec<i64>>());
    assert!(
        integers(&auctions, 8)
            .iter()
            .all(|category| (10..15).contains(category))
    );
    for (initial, reserve) in integers(&auctions, 3).iter().zip(integers(&auctions, 4)) {
        assert!(reserve >= initial + 100);
    }
    let (times, ends) = (millis(&auctions, 5), millis(&auctions, 6));
    // 100 auctions begin in 100 * 50 / 3 events of 0.1 ms.
    let total: i64 = times.iter().zip(&ends).map(|(time, end)| end - time).sum();
    let average = total as f64 / ids.len() as f64;
    assert!((average - 167.0).abs() < 5.0, "{average}");
    for (row, seller) in integers(&auctions, 7).iter().enumerate() {
        let people = (ids[row] - 1000) / 3 + 1;
        assert!((1000..1000 + people + 10).contains(seller));
    }
    let persons = rows_of(0, PERSON, 200_000);
    assert_eq!(persons.num_rows(), 4000);
    let cards = persons.column(3).as_string::<i32>();
    assert!(cards.iter().flatten().all(|card| card.len() == 19));
    let mails = persons.column(2).as_string::<i32>();
    assert!(
        mails
            .iter()
            .flatten()
            .all(|mail| mail.contains('@') && mail.ends_with(".com"))
    );
    let sizes = persons
        .column(7)
        .as_string::<i32>()
        .iter()
        .flatten()
        .map(str::len);
    assert!((90..150).contains(&(sizes.sum::<usize>() / 4000)));
}

#[test]
fn event_time_advances_with_the_rate() {
    let check = |change: fn(&mut NexmarkSpec), expected: [i64; 4]| {
        let mut spec = NexmarkSpec {
            first_event_rate: 1000.0,
            next_event_rate: 1000.0,
            rate_period_s: 2,
            ..spec(0)
        };
        change(&mut spec);
        let config = config::Config::new(&spec, 0).unwrap();
        let times =
            [0, 1, 1500, 5000].map(|event| config.time_in_order(event) - config.base_time_ms);
        assert_eq!(times, expected);
    };
    check(|_| {}, [0, 1, 1500, 5000]);
    // A second at 1000/s, a second at 2000/s.
    check(|spec| spec.next_event_rate = 2000.0, [0, 1, 1250, 3500]);
    check(|spec| spec.first_event_rate = 2000.0, [0, 0, 750, 3000]);
}

#[test]
fn disorder_is_bounded() {
    let jittered = NexmarkSpec {
        out_of_order_ms: 50,
        event_types: vec![2],
        ..spec(4_000)
    };
    let fields = fields("bid ROW<dateTime TIMESTAMP(3)>");
    let source = NexmarkSource::new(&jittered, &fields, &context()).unwrap();
    let batches = read(&source, 10_000, false).unwrap().batches;
    let rows = RecordBatch::from(batches[0].rows.column(0).as_struct().clone());
    let mut newest = i64::MIN;
    let mut most = 0;
    for time in millis(&rows, 0) {
        newest = newest.max(time);
        most = most.max(newest - time);
    }
    assert!((40..=50).contains(&most), "{most}");
}

#[test]
fn a_kept_rate_that_changes_needs_no_end() {
    use engine::source::SplitEvent;
    use std::task::{Context, Poll};

    let clock = Arc::new(ManualClock::default());
    let context = SourceContext {
        clock: clock.clone(),
        ..context()
    };
    let unbounded = NexmarkSpec {
        events: 0,
        keep_rate: true,
        first_event_rate: 10.0,
        next_event_rate: 20.0,
        rate_period_s: 600,
        ..spec(0)
    };
    let fields = fields("event_type INT");
    let source = NexmarkSource::new(&unbounded, &fields, &context).unwrap();
    let splits = futures::executor::block_on(source.splits(1)).unwrap();
    let mut reader = source.open(&splits[0], None).unwrap();
    clock.advance_ms(1000);
    let mut cx = Context::from_waker(std::task::Waker::noop());
    match reader.poll_next(&mut cx, 1000) {
        Poll::Ready(Ok(SplitEvent::Batch(batch))) => assert_eq!(batch.num_rows(), 11),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_kept_rate_hands_out_what_is_due() {
    use engine::source::SplitEvent;
    use std::task::{Context, Poll};

    let clock = Arc::new(ManualClock::default());
    let context = SourceContext {
        clock: clock.clone(),
        ..context()
    };
    let paced = NexmarkSpec {
        keep_rate: true,
        first_event_rate: 100.0,
        next_event_rate: 100.0,
        ..spec(1000)
    };
    struct Never;
    impl Timer for Never {
        fn sleep(&self, _ms: u64) -> futures::future::BoxFuture<'static, ()> {
            Box::pin(std::future::pending())
        }
    }
    let context = SourceContext {
        timer: Arc::new(Never),
        ..context
    };
    let fields = fields("event_type INT");
    let source = NexmarkSource::new(&paced, &fields, &context).unwrap();
    let splits = futures::executor::block_on(source.splits(4)).unwrap();
    assert_eq!(splits.len(), 1);
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let mut offset = None;
    let mut sizes = Vec::new();
    for _ in 0..3 {
        // Opened again, it goes on from where it was.
        let mut reader = source.open(&splits[0], offset.as_deref()).unwrap();
        clock.advance_ms(100);
        assert_eq!(reader.lag_rows(), Some(11));
        match reader.poll_next(&mut cx, 1000) {
            Poll::Ready(Ok(SplitEvent::Batch(batch))) => sizes.push(batch.num_rows()),
            other => panic!("{other:?}"),
        }
        assert_eq!(reader.lag_rows(), Some(0));
        assert!(reader.poll_next(&mut cx, 1000).is_pending());
        offset = Some(reader.offset());
    }
    assert_eq!(sizes, [11, 11, 11]);
}

#[test]
fn foreign_columns_are_refused() {
    let check = |columns: &str, expected: &str| {
        let error = NexmarkSource::new(&spec(1), &fields(columns), &context()).unwrap_err();
        assert_eq!(error.to_string(), expected);
    };
    check("x INT", "nexmark has no column `x` of type INT");
    check(
        "bid ROW<foo INT>",
        "nexmark's `bid` has no field `foo` of type INT",
    );
    check(
        "bid ROW<price INT>",
        "nexmark's `bid` has no field `price` of type INT",
    );
}

fn integers(rows: &RecordBatch, column: usize) -> Vec<i64> {
    rows.column(column)
        .as_primitive::<Int64Type>()
        .values()
        .to_vec()
}

fn millis(rows: &RecordBatch, column: usize) -> Vec<i64> {
    let column = rows
        .column(column)
        .as_primitive::<TimestampMillisecondType>();
    assert_eq!(column.null_count(), 0);
    column.values().to_vec()
}
