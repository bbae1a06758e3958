//! Columns of auctions.

use arrow::{array::ArrayRef, error::ArrowError};

use crate::random::{Field, below, one_in};

use super::{
    bid::Padding,
    buffers::Rows,
    config::{Config, FIRST_ID, HOT_ID_STEP},
    random::Prices,
    words::{push_word, word_length},
};

/// Category ids begin here.
const FIRST_CATEGORY: u64 = 10;
const CATEGORIES: u64 = 5;
/// Names and descriptions are shorter than this.
const NAME_MAX: u64 = 20;
const DESCRIPTION_MAX: u64 = 100;
/// Bytes of an auction's numbers: what the padding need not fill.
const FIXED_BYTES: u64 = 48;

/// A column of auctions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum AuctionColumn {
    Id,
    ItemName,
    Description,
    InitialBid,
    Reserve,
    DateTime,
    Expires,
    Seller,
    Category,
    Extra,
}

/// Makes columns of auctions.
#[derive(Debug)]
pub(super) struct Auctions {
    item_name: Field,
    description: Field,
    initial_bid: Field,
    reserve: Field,
    length: Field,
    seller: Field,
    category: Field,
    extra: Field,
    prices: Prices,
}

impl Auctions {
    pub(super) fn new(config: &Config) -> Auctions {
        let field = |number: u64| Field::new(config.spec.seed, 40 + number);
        Auctions {
            item_name: field(0),
            description: field(1),
            initial_bid: field(2),
            reserve: field(3),
            length: field(4),
            seller: field(5),
            category: field(6),
            extra: field(7),
            prices: Prices::new(),
        }
    }

    /// One column.
    pub(super) fn column(
        &self,
        config: &Config,
        column: AuctionColumn,
        rows: Rows<'_>,
    ) -> Result<ArrayRef, ArrowError> {
        let initial_bid = |event| self.prices.price(self.initial_bid.word(event));
        Ok(match column {
            AuctionColumn::Id => rows.integers(|run| {
                let first = config.newest_auction(run.epoch, run.offset);
                let base = (FIRST_ID + first) as i64 - run.first as i64;
                move |event| base + event as i64
            }),
            AuctionColumn::ItemName => self.words(self.item_name, NAME_MAX, rows)?,
            AuctionColumn::Description => self.words(self.description, DESCRIPTION_MAX, rows)?,
            AuctionColumn::InitialBid => rows.integers(|_| initial_bid),
            AuctionColumn::Reserve => rows.integers(|_| {
                |event| initial_bid(event) + self.prices.price(self.reserve.word(event))
            }),
            AuctionColumn::DateTime => rows.timestamps(|_| |event| config.time(event)),
            AuctionColumn::Expires => {
                rows.timestamps(|_| |event| config.time(event) + self.length_ms(config, event))
            }
            AuctionColumn::Seller => self.sellers(config, rows),
            AuctionColumn::Category => rows.integers(|_| {
                |event| (FIRST_CATEGORY + below(self.category.word(event), CATEGORIES)) as i64
            }),
            AuctionColumn::Extra => self.extras(config, rows)?,
        })
    }

    /// On average, as long as it takes for the auctions in flight to be succeeded by others.
    fn length_ms(&self, config: &Config, event: u64) -> i64 {
        let in_flight = u64::from(config.spec.in_flight_auctions);
        let events = in_flight * config.epoch_events() / config.auction.max(1);
        let horizon = config.time_in_order(event + events) - config.time_in_order(event);
        1 + below(self.length.word(event), (2 * horizon).max(1) as u64) as i64
    }

    fn sellers(&self, config: &Config, rows: Rows<'_>) -> ArrayRef {
        let (field, ratio) = (self.seller, config.spec.hot_seller_ratio);
        rows.integers(|run| {
            let newest = config.newest_person(run.epoch, run.offset);
            let hot = newest / HOT_ID_STEP * HOT_ID_STEP;
            let (oldest, count) = config.active_people(newest);
            move |event| {
                let word = field.word(event);
                let cold = oldest + below(word, count);
                let number = if one_in(word, ratio) { cold } else { hot };
                (FIRST_ID + number) as i64
            }
        })
    }

    fn words(&self, field: Field, max: u64, rows: Rows<'_>) -> Result<ArrayRef, ArrowError> {
        rows.texts(max as usize, |event, text| {
            let mut words = field.words(event);
            let length = word_length(words.next(), max);
            push_word(text, &mut words, length, b' ');
        })
    }

    fn extras(&self, config: &Config, rows: Rows<'_>) -> Result<ArrayRef, ArrowError> {
        let average = config.spec.avg_auction_bytes;
        rows.texts(average as usize, |event, text| {
            let name = word_length(self.item_name.words(event).next(), NAME_MAX);
            let description = word_length(self.description.words(event).next(), DESCRIPTION_MAX);
            let used = FIXED_BYTES + (name + description) as u64;
            Padding::new(average, used).push(text, self.extra.words(event));
        })
    }
}
