//! Columns of persons.

use arrow::{array::ArrayRef, error::ArrowError};

use crate::random::{Field, below};

use super::{
    bid::Padding,
    buffers::{Rows, Text},
    config::{Config, FIRST_ID},
    words::{CITIES, FIRST_NAMES, LAST_NAMES, STATES, pick, push_word, word_length},
};

/// The parts of an address are shorter than this.
const MAILBOX_MAX: u64 = 7;
const DOMAIN_MAX: u64 = 5;
/// Four groups of four digits.
const CARD_BYTES: usize = 19;
const ID_BYTES: usize = 8;

/// A column of persons.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum PersonColumn {
    Id,
    Name,
    EmailAddress,
    CreditCard,
    City,
    State,
    DateTime,
    Extra,
}

/// Makes columns of persons.
#[derive(Debug)]
pub(super) struct Persons {
    name: Field,
    email: Field,
    card: Field,
    city: Field,
    state: Field,
    extra: Field,
}

impl Persons {
    pub(super) fn new(config: &Config) -> Persons {
        let field = |number: u64| Field::new(config.spec.seed, 60 + number);
        Persons {
            name: field(0),
            email: field(1),
            card: field(2),
            city: field(3),
            state: field(4),
            extra: field(5),
        }
    }

    /// One column.
    pub(super) fn column(
        &self,
        config: &Config,
        column: PersonColumn,
        rows: Rows<'_>,
    ) -> Result<ArrayRef, ArrowError> {
        Ok(match column {
            PersonColumn::Id => rows.integers(|run| {
                let first = config.newest_person(run.epoch, run.offset);
                let base = (FIRST_ID + first) as i64 - run.first as i64;
                move |event| base + event as i64
            }),
            PersonColumn::Name => rows.texts(16, |event, text| {
                let (first, last) = self.name(event);
                text.push(first.as_bytes());
                text.push(b" ");
                text.push(last.as_bytes());
            })?,
            PersonColumn::EmailAddress => rows.texts(16, |event, text| self.email(event, text))?,
            PersonColumn::CreditCard => rows.texts(CARD_BYTES, |event, text| {
                let mut words = self.card.words(event);
                for group in 0..4 {
                    let number = below(words.next(), 10_000);
                    let digit = |place: u64| b'0' + (number / place % 10) as u8;
                    if group > 0 {
                        text.push(b" ");
                    }
                    text.push(&[digit(1000), digit(100), digit(10), digit(1)]);
                }
            })?,
            PersonColumn::City => {
                rows.texts(12, |event, text| text.push(self.city(event).as_bytes()))?
            }
            PersonColumn::State => rows.texts(2, |event, text| {
                text.push(pick(self.state.word(event), &STATES).as_bytes());
            })?,
            PersonColumn::DateTime => rows.timestamps(|_| |event| config.time(event)),
            PersonColumn::Extra => self.extras(config, rows)?,
        })
    }

    fn name(&self, event: u64) -> (&'static str, &'static str) {
        let mut words = self.name.words(event);
        (
            pick(words.next(), &FIRST_NAMES),
            pick(words.next(), &LAST_NAMES),
        )
    }

    fn city(&self, event: u64) -> &'static str {
        pick(self.city.word(event), &CITIES)
    }

    fn email(&self, event: u64, text: &mut Text) {
        let mut words = self.email.words(event);
        let (mailbox, domain) = email_lengths(words.next());
        push_word(text, &mut words, mailbox, b' ');
        text.push(b"@");
        push_word(text, &mut words, domain, b' ');
        text.push(b".com");
    }

    fn extras(&self, config: &Config, rows: Rows<'_>) -> Result<ArrayRef, ArrowError> {
        let average = config.spec.avg_person_bytes;
        rows.texts(average as usize, |event, text| {
            let (first, last) = self.name(event);
            let (mailbox, domain) = email_lengths(self.email.words(event).next());
            let email = mailbox + domain + "@.com".len();
            let name = first.len() + last.len() + " ".len();
            let place = self.city(event).len() + STATES[0].len();
            let used = ID_BYTES + CARD_BYTES + name + email + place;
            Padding::new(average, used as u64).push(text, self.extra.words(event));
        })
    }
}

/// Both lengths from one word.
fn email_lengths(word: u64) -> (usize, usize) {
    (
        word_length(word, MAILBOX_MAX),
        word_length(word.rotate_left(32), DOMAIN_MAX),
    )
}
