//! Columns of bids.

use arrow::{array::ArrayRef, error::ArrowError};

use crate::random::{Field, Words, below, one_in};

use super::{
    buffers::{Rows, Text},
    config::{Config, FIRST_ID, HOT_ID_STEP},
    random::Prices,
    words::{Dictionary, HOT_CHANNELS, push_word, word_length},
};

/// Channels beside the hot ones.
const CHANNELS: u64 = 10_000;
/// The public generator adds the first id twice: in its data, too, a bidder is a person only once
/// there are more than a thousand.
const FIRST_BIDDER_ID: u64 = 2 * FIRST_ID;
/// Bytes of a bid's numbers: what the padding need not fill.
const FIXED_BYTES: u64 = 32;

/// A column of bids.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum BidColumn {
    Auction,
    Bidder,
    Price,
    Channel,
    Url,
    DateTime,
    Extra,
}

/// Makes columns of bids.
#[derive(Debug)]
pub(super) struct Bids {
    auction: Field,
    bidder: Field,
    price: Field,
    channel: Field,
    extra: Field,
    prices: Prices,
    /// Names and urls of channels, the hot ones first; empty unless they are read.
    channels: Dictionary,
    urls: Dictionary,
}

impl Bids {
    /// Prepares what `columns` need.
    pub(super) fn new(config: &Config, columns: &[BidColumn]) -> Bids {
        let field = |number: u64| Field::new(config.spec.seed, 20 + number);
        let mut bids = Bids {
            auction: field(0),
            bidder: field(1),
            price: field(2),
            channel: field(3),
            extra: field(4),
            prices: Prices::new(),
            channels: Dictionary::default(),
            urls: Dictionary::default(),
        };
        if columns.contains(&BidColumn::Channel) {
            for name in HOT_CHANNELS {
                bids.channels.push(name.as_bytes());
            }
            for number in 0..CHANNELS {
                bids.channels.push(format!("channel-{number}").as_bytes());
            }
        }
        if columns.contains(&BidColumn::Url) {
            let seed = field(5);
            for number in 0..HOT_CHANNELS.len() as u64 + CHANNELS {
                let channel = number.checked_sub(HOT_CHANNELS.len() as u64);
                bids.urls.push(url(seed.words(number), channel).as_bytes());
            }
        }
        bids
    }

    /// One column.
    pub(super) fn column(
        &self,
        config: &Config,
        column: BidColumn,
        rows: Rows<'_>,
    ) -> Result<ArrayRef, ArrowError> {
        Ok(match column {
            BidColumn::Auction => self.auctions(config, rows),
            BidColumn::Bidder => self.bidders(config, rows),
            BidColumn::Price => {
                rows.integers(|_| |event| self.prices.price(self.price.word(event)))
            }
            BidColumn::Channel => rows.texts(12, |event, text| {
                text.push(self.channels.get(self.channel(event)))
            })?,
            BidColumn::Url => rows.texts(80, |event, text| {
                text.push(self.urls.get(self.channel(event)))
            })?,
            BidColumn::DateTime => rows.timestamps(|_| |event| config.time(event)),
            BidColumn::Extra => self.extras(config, rows)?,
        })
    }

    fn auctions(&self, config: &Config, rows: Rows<'_>) -> ArrayRef {
        let (field, ratio) = (self.auction, config.spec.hot_auction_ratio);
        rows.integers(|run| {
            let newest = config.newest_auction(run.epoch, run.offset);
            let hot = newest / HOT_ID_STEP * HOT_ID_STEP;
            let (oldest, count) = config.open_auctions(newest);
            move |event| {
                let word = field.word(event);
                let cold = oldest + below(word, count);
                let number = if one_in(word, ratio) { cold } else { hot };
                (FIRST_ID + number) as i64
            }
        })
    }

    fn bidders(&self, config: &Config, rows: Rows<'_>) -> ArrayRef {
        let (field, ratio) = (self.bidder, config.spec.hot_bidder_ratio);
        rows.integers(|run| {
            let newest = config.newest_person(run.epoch, run.offset);
            // Not the hot seller, who is a multiple of the step.
            let hot = newest / HOT_ID_STEP * HOT_ID_STEP + 1;
            let (oldest, count) = config.active_people(newest);
            move |event| {
                let word = field.word(event);
                let cold = oldest + below(word, count);
                let number = if one_in(word, ratio) { cold } else { hot };
                (FIRST_BIDDER_ID + number) as i64
            }
        })
    }

    /// Place of the bid's channel in the dictionaries: every second bid comes by a hot one.
    #[inline(always)]
    fn channel(&self, event: u64) -> usize {
        let word = self.channel.word(event);
        let hot = HOT_CHANNELS.len() as u64;
        if one_in(word, 2) {
            (hot + below(word, CHANNELS)) as usize
        } else {
            below(word, hot) as usize
        }
    }

    fn extras(&self, config: &Config, rows: Rows<'_>) -> Result<ArrayRef, ArrowError> {
        let padding = Padding::new(config.spec.avg_bid_bytes, FIXED_BYTES);
        let field = self.extra;
        rows.texts(padding.average(), |event, text| {
            padding.push(text, field.words(event))
        })
    }
}

/// `https://www.nexmark.com/abc/def_/ghi/item.htm?query=1`, mostly with the channel's id.
fn url(mut words: Words, channel: Option<u64>) -> String {
    let mut url = String::from("https://www.nexmark.com/");
    for _ in 0..3 {
        let length = word_length(words.next(), 5);
        let mut text = Text::default();
        push_word(&mut text, &mut words, length, b'_');
        url.push_str(&String::from_utf8_lossy(text.written()));
        url.push('/');
    }
    url.push_str("item.htm?query=1");
    if let Some(channel) = channel
        && !one_in(words.next(), 10)
    {
        let id = (channel as u32).reverse_bits().cast_signed().unsigned_abs();
        url.push_str(&format!("&channel_id={id}"));
    }
    url
}

/// Text that fills a row up to its average size, give or take a fifth.
#[derive(Clone, Copy, Debug)]
pub(super) struct Padding {
    least: u64,
    spread: u64,
}

impl Padding {
    pub(super) fn new(average_bytes: u32, used_bytes: u64) -> Padding {
        let wanted = u64::from(average_bytes).saturating_sub(used_bytes);
        let delta = (wanted + 2) / 5;
        Padding {
            least: wanted - delta,
            spread: 2 * delta,
        }
    }

    pub(super) fn average(self) -> usize {
        (self.least + self.spread / 2) as usize + 4
    }

    #[inline(always)]
    pub(super) fn push(self, text: &mut Text, mut words: Words) {
        let length = self.least + below(words.next(), self.spread);
        text.push_padding(words, length as usize);
    }
}
