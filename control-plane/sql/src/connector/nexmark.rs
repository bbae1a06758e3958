//! `nexmark`: the generator of the Nexmark benchmark. Option names and defaults are those of its
//! public Flink connector; `seed` and `out-of-orderness` are ours.

use proto::plan::{NexmarkSpec, RateShape};
use proto::types::{DataType, Field};

use super::Shape;
use super::options::Options;
use super::units;
use crate::error::SqlError;

/// 2015-07-15 00:00:00 UTC: a fixed time, so that every run makes the same events.
const BASE_TIME_MS: u64 = 1_436_918_400_000;

/// Thousands of events are in memory at a time.
const AVERAGE_BYTES_MAX: u32 = 64 << 10;

/// The columns that the table must have.
const COLUMNS: &[(&str, &str)] = &[
    ("event_type", "INT"),
    (
        "person",
        "ROW<id BIGINT, name STRING, emailAddress STRING, creditCard STRING, city STRING, \
         state STRING, dateTime TIMESTAMP(3), extra STRING>",
    ),
    (
        "auction",
        "ROW<id BIGINT, itemName STRING, description STRING, initialBid BIGINT, reserve BIGINT, \
         dateTime TIMESTAMP(3), expires TIMESTAMP(3), seller BIGINT, category BIGINT, \
         extra STRING>",
    ),
    (
        "bid",
        "ROW<auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, \
         dateTime TIMESTAMP(3), extra STRING>",
    ),
];

pub(super) fn read(options: &mut Options, shape: &Shape) -> Result<NexmarkSpec, SqlError> {
    check_columns(shape.fields)?;
    let rate = "a number of events per second above 0";
    let per_second = |text: &str| {
        text.parse()
            .ok()
            .filter(|rate: &f64| rate.is_finite() && *rate > 0.0)
    };
    ends(options);
    let shapes = [("SQUARE", RateShape::Square), ("SINE", RateShape::Sine)];
    let spec = NexmarkSpec {
        events: options.integer("events.num", 0, 0),
        first_event_rate: options.parsed("first-event.rate", rate, 10_000.0, per_second),
        next_event_rate: options.parsed("next-event.rate", rate, 10_000.0, per_second),
        base_time_ms: options.integer("base-time", BASE_TIME_MS, 0),
        person_proportion: options.small("person.proportion", 1, 0),
        auction_proportion: options.small("auction.proportion", 3, 0),
        bid_proportion: options.small("bid.proportion", 46, 0),
        seed: options.integer("seed", 0, 0),
        out_of_order_ms: options.duration_ms("out-of-orderness", 0),
        // The planner narrows this to what the query reads.
        event_types: Vec::new(),
        keep_rate: keep_rate(options),
        avg_person_bytes: size(options, "person.avg-size", 200),
        avg_auction_bytes: size(options, "auction.avg-size", 500),
        avg_bid_bytes: size(options, "bid.avg-size", 100),
        hot_seller_ratio: options.small("auction.hot-ratio.sellers", 4, 1),
        hot_auction_ratio: options.small("bid.hot-ratio.auctions", 2, 1),
        hot_bidder_ratio: options.small("bid.hot-ratio.bidders", 4, 1),
        active_people: options.small("active-people", 1_000, 1),
        in_flight_auctions: options.small("in-flight-auctions", 100, 1),
        rate_period_s: (options.duration_ms("rate.period", 600_000) / 1_000) as u32,
        rate_shape: options
            .choice("rate.shape", &shapes, RateShape::Square)
            .into(),
    };
    let proportions = [
        spec.person_proportion,
        spec.auction_proportion,
        spec.bid_proportion,
    ];
    if proportions == [0; 3] {
        options.fail(
            "bid.proportion",
            "all three proportions are 0",
            "let one be at least 1",
        );
    }
    Ok(spec)
}

/// Whether events come at their rate. `max-emit-speed` is another name for the opposite.
fn keep_rate(options: &mut Options) -> bool {
    let both = options.has("rate.limited") && options.has("max-emit-speed");
    let limited = options.boolean("rate.limited", false);
    let unlimited = options.boolean("max-emit-speed", !limited);
    if both && limited == unlimited {
        options.fail(
            "max-emit-speed",
            "'max-emit-speed' and 'rate.limited' contradict each other",
            "leave one of them out",
        );
    }
    !unlimited
}

/// Options about what comes after the last event: nothing, here.
fn ends(options: &mut Options) {
    if options.boolean("keep-alive", false) {
        options.fail(
            "keep-alive",
            "a nexmark table cannot go on without events",
            "leave out 'events.num': then it has no end",
        );
    }
    let stop_at: i64 = options.parsed("stop-at", "-1, which is no event", -1, |text| {
        text.parse().ok()
    });
    if stop_at != -1 {
        options.fail(
            "stop-at",
            "option 'stop-at' is not supported",
            "say how many events there are with 'events.num'",
        );
    }
}

fn size(options: &mut Options, key: &str, default: u32) -> u32 {
    let expected = format!("a size up to {AVERAGE_BYTES_MAX} bytes");
    options.parsed(key, &expected, default, |text| {
        let bytes = u32::try_from(units::memory_bytes(text)?).ok()?;
        (bytes <= AVERAGE_BYTES_MAX).then_some(bytes)
    })
}

fn check_columns(fields: &[Field]) -> Result<(), SqlError> {
    let expected = COLUMNS.iter().map(|(name, data_type)| {
        let data_type: DataType = data_type.parse().expect("the texts above are types");
        Field::new(*name, data_type)
    });
    let expected: Vec<Field> = expected.collect();
    if fields == expected {
        return Ok(());
    }
    let wrong = expected
        .iter()
        .enumerate()
        .find(|(i, field)| fields.get(*i) != Some(field));
    let message = match wrong {
        Some((i, field)) => match fields.get(i) {
            Some(found) => format!(
                "column {} of a nexmark table must be `{}` {}, not `{}` {}",
                i + 1,
                field.name,
                field.data_type,
                found.name,
                found.data_type
            ),
            None => format!(
                "a nexmark table needs the column `{}` {}",
                field.name, field.data_type
            ),
        },
        None => format!(
            "a nexmark table has {} physical columns, not {}",
            expected.len(),
            fields.len()
        ),
    };
    Err(SqlError::validate(message).hint(
        "its physical columns are event_type, person, auction and bid, as in Nexmark's public DDL",
    ))
}
