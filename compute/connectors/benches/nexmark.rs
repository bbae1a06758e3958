//! What it costs to generate events: per row, by the columns that are read.

use std::{
    sync::Arc,
    task::{Context, Waker},
};

use connectors::{SourceContext, Timer, open_source};
use divan::{Bencher, counter::ItemsCount};
use engine::{clock::ManualClock, source::SplitReader};
use futures::{executor::block_on, future::BoxFuture};
use proto::{
    plan::{ConnectorSpec, NexmarkSpec, connector_spec::Connector},
    types::{DataType, Field, LogicalType},
};

const BATCH_ROWS: usize = 8192;

struct NoTimer;

impl Timer for NoTimer {
    fn sleep(&self, _ms: u64) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

fn reader(event_types: &[u32], columns: &str) -> Box<dyn SplitReader> {
    let spec = NexmarkSpec {
        first_event_rate: 1e7,
        next_event_rate: 1e7,
        base_time_ms: 1_436_918_400_000,
        person_proportion: 1,
        auction_proportion: 3,
        bid_proportion: 46,
        event_types: event_types.to_vec(),
        avg_person_bytes: 200,
        avg_auction_bytes: 500,
        avg_bid_bytes: 100,
        hot_seller_ratio: 4,
        hot_auction_ratio: 2,
        hot_bidder_ratio: 4,
        active_people: 1000,
        in_flight_auctions: 100,
        ..Default::default()
    };
    let spec = ConnectorSpec {
        connector: Some(Connector::Nexmark(spec)),
    };
    let row: DataType = format!("ROW<{columns}>").parse().expect("a row type");
    let fields: Vec<Field> = match row.logical {
        LogicalType::Row(fields) => fields,
        _ => Vec::new(),
    };
    let context = SourceContext {
        base_time_ms: 0,
        clock: Arc::new(ManualClock::default()),
        timer: Arc::new(NoTimer),
    };
    let source = open_source(&spec, &fields, &context).expect("a valid spec");
    let splits = block_on(source.splits(1)).expect("splits");
    source.open(&splits[0], None).expect("a split")
}

fn run(bencher: Bencher<'_, '_>, event_types: &[u32], columns: &str) {
    let mut reader = reader(event_types, columns);
    let mut cx = Context::from_waker(Waker::noop());
    bencher
        .counter(ItemsCount::new(BATCH_ROWS))
        .bench_local(|| reader.poll_next(&mut cx, BATCH_ROWS));
}

#[divan::bench]
fn bids_of_q0(bencher: Bencher<'_, '_>) {
    run(
        bencher,
        &[2],
        "bid ROW<auction BIGINT, bidder BIGINT, price BIGINT, dateTime TIMESTAMP(3), extra STRING>",
    );
}

#[divan::bench]
fn bids_of_q4(bencher: Bencher<'_, '_>) {
    run(
        bencher,
        &[2],
        "bid ROW<auction BIGINT, price BIGINT, dateTime TIMESTAMP(3)>",
    );
}

#[divan::bench]
fn bid_extra(bencher: Bencher<'_, '_>) {
    run(bencher, &[2], "bid ROW<extra STRING>");
}

#[divan::bench]
fn bid_price(bencher: Bencher<'_, '_>) {
    run(bencher, &[2], "bid ROW<price BIGINT>");
}

#[divan::bench]
fn bid_auction(bencher: Bencher<'_, '_>) {
    run(bencher, &[2], "bid ROW<auction BIGINT>");
}

#[divan::bench]
fn bid_time(bencher: Bencher<'_, '_>) {
    run(bencher, &[2], "bid ROW<dateTime TIMESTAMP(3)>");
}

#[divan::bench]
fn bid_channel_and_url(bencher: Bencher<'_, '_>) {
    run(bencher, &[2], "bid ROW<channel STRING, url STRING>");
}

#[divan::bench]
fn auctions(bencher: Bencher<'_, '_>) {
    run(
        bencher,
        &[1],
        "auction ROW<id BIGINT, itemName STRING, description STRING, initialBid BIGINT, \
         reserve BIGINT, dateTime TIMESTAMP(3), expires TIMESTAMP(3), seller BIGINT, \
         category BIGINT, extra STRING>",
    );
}

#[divan::bench]
fn all_types_mixed(bencher: Bencher<'_, '_>) {
    run(
        bencher,
        &[],
        "event_type INT, person ROW<id BIGINT>, auction ROW<id BIGINT, seller BIGINT>, \
         bid ROW<auction BIGINT, price BIGINT, dateTime TIMESTAMP(3)>",
    );
}

fn main() {
    divan::main();
}
